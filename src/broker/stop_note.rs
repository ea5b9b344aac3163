//! The note that a target leaves when it has stopped in order, for the next start: what the target
//! process completed at these exports is durable in their bdevs, and nothing of it is executed any
//! more.
//!
//! This is true from the moment at which the note is written, whatever reads it. A target believes
//! only a note from its own machine all the same, and deletes a note before it uses it: what happens
//! to the bdevs later, a note can't know.

use std::collections::BTreeMap;

use dst_wire::{Crc32c, Device, NAME_MAX, is_name};
use thiserror::Error;

/// The maximum number of exports in a note. A stop with more leaves the others out, whose clients
/// then take it for a crash.
pub const NOTED_MAX: usize = 4096;

/// The maximum number of an export's instances in a note. Clients that did not reach any of the last
/// seven take the restart for a crash.
pub const INSTANCES_MAX: usize = 8;

/// The maximum length of a line about an export: the ids of instances, of 32 digits and a comma, one
/// other id of 32 digits, two numbers of at most 20, the words and spaces, and the name.
const LINE_MAX: usize = 33 * INSTANCES_MAX + 128 + NAME_MAX;

/// The maximum length of a note in bytes.
pub const NOTE_MAX: usize = 512 + NOTED_MAX * LINE_MAX;

/// The maximum length of the ids of a machine and its boot, in bytes. They have 32 and 36.
const ID_MAX: usize = 64;

const TITLE: &str = "DST stop note, version 1";

/// The machine that a note is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The id of the machine's last boot.
    pub boot: String,
    /// The id of the machine itself, or `None` if it has none.
    pub id: Option<String>,
}

/// An export in a note: everything completed under these instances is durable in this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The instances that clients were told, 1 to [`INSTANCES_MAX`]: that of the target which leaves the
    /// note, and those of its predecessors according to the note that it has found. Their clients may
    /// not have come back since.
    pub instances: Vec<[u8; 16]>,
    /// The export's UUID.
    pub uuid: [u8; 16],
    /// The block size in bytes.
    pub block_size: u32,
    /// The number of blocks.
    pub num_blocks: u64,
    /// Whether the bdev's data also survives a restart of the machine, as data in a disk does and
    /// data in a file may not.
    pub survives_restart: bool,
}

impl Noted {
    /// Returns what a note says about an export with this device.
    /// Of the `instances`, the newest first, the oldest are left out if they are too many.
    pub fn new(mut instances: Vec<[u8; 16]>, device: &Device, survives_restart: bool) -> Noted {
        let Device { uuid, block_size, num_blocks, .. } = *device;
        instances.truncate(INSTANCES_MAX);
        Noted { instances, uuid, block_size, num_blocks, survives_restart }
    }
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopNote {
    /// The machine that the note is from.
    pub machine: Machine,
    /// The exports by their names.
    pub exports: BTreeMap<String, Noted>,
}

/// Why a text is not a note that can be used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteError {
    /// The text is not one that [`StopNote::encode`] writes, or its checksum is wrong.
    #[error("is damaged, or not a stop note of version 1")]
    Damaged,
    /// The note is from another machine, or from before a restart of this one that nothing in it
    /// survives.
    #[error("is from another machine, or from before a restart of this one")]
    Foreign,
}

impl StopNote {
    /// Returns the text form: lines of text, of which the last is a checksum over those before it.
    pub fn encode(&self) -> String {
        let Machine { boot, id } = &self.machine;
        let mut text = format!("{TITLE}\nboot {boot}\nmachine {}\n", id.as_deref().unwrap_or("-"));
        for (name, noted) in &self.exports {
            let Noted { instances, uuid, block_size, num_blocks, survives_restart } = noted;
            let id = |bytes: &[u8; 16]| format!("{:032x}", u128::from_be_bytes(*bytes));
            let instances = instances.iter().map(id).collect::<Vec<_>>().join(",");
            let kind = if *survives_restart { "disk" } else { "file" };
            text += &format!("export {instances} {} {block_size} {num_blocks} {kind} {name}\n", id(uuid));
        }
        let crc = Crc32c::of(text.as_bytes());
        text + &format!("crc32c {crc:08x}\n")
    }

    /// Returns the note of a text, without what does not hold on the machine `here` any more.
    ///
    /// # Errors
    /// Fails as [`NoteError`] says.
    pub fn decode(text: &[u8], here: &Machine) -> Result<StopNote, NoteError> {
        let mut note = parse(text).ok_or(NoteError::Damaged)?;
        // This checks the checksum, too: `encode` writes each note in one way only.
        if note.encode().as_bytes() != text {
            return Err(NoteError::Damaged);
        }
        if note.machine.boot != here.boot {
            let is_here = note.machine.id.is_some() && note.machine.id == here.id;
            note.exports.retain(|_, noted| is_here && noted.survives_restart);
        }
        if note.exports.is_empty() { Err(NoteError::Foreign) } else { Ok(note) }
    }

    /// Takes an export out of the note, because the export has taken its bdev now. Returns the
    /// instances whose completed requests are durable in this device; none, if the note does not say
    /// that of it.
    pub fn take(&mut self, export: &str, device: &Device, survives_restart: bool) -> Vec<[u8; 16]> {
        let Some(noted) = self.exports.remove(export) else { return Vec::new() };
        let Noted { instances, uuid, block_size, num_blocks, survives_restart: survived } = noted;
        let is_same = (uuid, block_size, survived) == (device.uuid, device.block_size, survives_restart);
        // The device may have grown meanwhile.
        if is_same && device.num_blocks >= num_blocks { instances } else { Vec::new() }
    }
}

/// Returns a note, without checking the checksum.
fn parse(text: &[u8]) -> Option<StopNote> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= NOTE_MAX)?;
    let is_id = |id: &&str| {
        (1..=ID_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let mut lines = text.split('\n');
    if lines.next()? != TITLE {
        return None;
    }
    let boot = lines.next()?.strip_prefix("boot ").filter(is_id)?.to_owned();
    let id = lines.next()?.strip_prefix("machine ").filter(is_id)?;
    let id = Some(id.to_owned()).filter(|id| id != "-");
    let mut exports = BTreeMap::new();
    while let Some(line) = lines.next()?.strip_prefix("export ") {
        let (name, noted) = parse_export(line)?;
        exports.insert(name.to_owned(), noted);
    }
    (exports.len() <= NOTED_MAX).then_some(StopNote { machine: Machine { boot, id }, exports })
}

fn parse_export(line: &str) -> Option<(&str, Noted)> {
    let mut fields = line.splitn(6, ' ');
    let id = |field: &str| u128::from_str_radix(field, 16).ok().map(u128::to_be_bytes);
    let instances: Vec<_> = fields.next()?.split(',').map(id).collect::<Option<_>>()?;
    let uuid = id(fields.next()?)?;
    let block_size = fields.next()?.parse().ok()?;
    let num_blocks = fields.next()?.parse().ok()?;
    let survives_restart = fields.next()? == "disk";
    let name = fields.next().filter(|name| is_name(name))?;
    let is_short = instances.len() <= INSTANCES_MAX;
    is_short.then_some((name, Noted { instances, uuid, block_size, num_blocks, survives_restart }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_wire::OpSet;
    use proptest::prelude::*;

    fn machine(boot: &str, id: Option<&str>) -> Machine {
        Machine { boot: boot.to_owned(), id: id.map(str::to_owned) }
    }

    fn here() -> Machine {
        machine("0f-1e", Some("7c"))
    }

    fn device() -> Device {
        Device {
            uuid: [0xc0; 16],
            num_blocks: 100,
            block_size: 512,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            compare_and_write_max: 1,
            write_cache: true,
            read_only: false,
            ops: OpSet::default(),
        }
    }

    fn note() -> StopNote {
        let exports = [("a disk", true), ("a file", false)].map(|(name, survives_restart)| {
            let instances = if survives_restart { vec![[0xe1; 16]] } else { vec![[0xe1; 16], [0xe0; 16]] };
            (name.to_owned(), Noted::new(instances, &device(), survives_restart))
        });
        StopNote { machine: here(), exports: BTreeMap::from(exports) }
    }

    #[test]
    fn a_note_is_readable() {
        let text = note().encode();
        let (lines, crc) = text.rsplit_once("crc32c ").unwrap();
        let [instance, before, uuid] = ["e1", "e0", "c0"].map(|byte| byte.repeat(16));
        assert_eq!(
            lines,
            format!(
                "DST stop note, version 1\nboot 0f-1e\nmachine 7c\n\
                 export {instance} {uuid} 512 100 disk a disk\n\
                 export {instance},{before} {uuid} 512 100 file a file\n"
            )
        );
        assert_eq!(crc.len(), 9);
        assert_eq!(StopNote::decode(text.as_bytes(), &here()), Ok(note()));
    }

    #[test]
    fn every_damage_is_seen() {
        let text = note().encode().into_bytes();
        let is_damaged = |text: &[u8]| StopNote::decode(text, &here()) == Err(NoteError::Damaged);
        for end in 0..text.len() {
            assert!(is_damaged(&text[..end]), "torn after {end} bytes");
        }
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut other = text.clone();
                other[at] ^= 1 << bit;
                assert!(is_damaged(&other), "bit {bit} of byte {at}");
            }
        }
        assert!(is_damaged(&[&text[..], b"\n"].concat()));
        assert!(is_damaged(&[&text[..], &vec![b' '; NOTE_MAX]].concat()));
    }

    #[test]
    fn a_note_counts_where_it_was_left_and_that_of_a_file_until_the_next_boot() {
        let text = note().encode();
        let names = |here| {
            let note = StopNote::decode(text.as_bytes(), &here)?;
            Ok(note.exports.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(names(here()).unwrap(), ["a disk", "a file"]);
        assert_eq!(names(machine("0f-1e", None)).unwrap(), ["a disk", "a file"], "a boot has one machine");
        assert_eq!(names(machine("22", Some("7c"))).unwrap(), ["a disk"]);
        assert_eq!(names(machine("22", Some("7d"))), Err(NoteError::Foreign));
        let nameless = StopNote { machine: machine("0f-1e", None), ..note() }.encode();
        let decoded = StopNote::decode(nameless.as_bytes(), &machine("22", None));
        assert_eq!(decoded, Err(NoteError::Foreign), "two machines without an id are not the same");
    }

    #[test]
    fn an_export_is_taken_once_and_with_its_own_device_only() {
        let mut left = note();
        assert_eq!(left.take("a disk", &device(), true), [[0xe1; 16]]);
        assert!(left.take("a disk", &device(), true).is_empty(), "once");
        assert!(left.take("a disc", &device(), true).is_empty());
        assert_eq!(left.take("a file", &device(), false), [[0xe1; 16], [0xe0; 16]]);
        let differs = [
            (Device { uuid: [0xc1; 16], ..device() }, true),
            (Device { block_size: 1024, ..device() }, true),
            (Device { num_blocks: 99, ..device() }, true),
            (device(), false),
        ];
        for (other, survives_restart) in differs {
            let mut left = note();
            assert!(left.take("a disk", &other, survives_restart).is_empty(), "{other:?}");
            assert!(left.take("a disk", &device(), true).is_empty(), "what did not fit is not tried again");
        }
        let grown = Device { num_blocks: 101, ..device() };
        assert_eq!(note().take("a disk", &grown, true), [[0xe1; 16]]);
    }

    #[test]
    fn the_longest_note_can_be_read_again() {
        let longest = Noted {
            instances: vec![[0xff; 16]; INSTANCES_MAX],
            uuid: [0xff; 16],
            block_size: u32::MAX,
            num_blocks: u64::MAX,
            survives_restart: true,
        };
        let name = |number| format!("{number:0width$}", width = NAME_MAX);
        let of = |count| {
            let exports = (0..count).map(|number| (name(number), longest.clone())).collect();
            StopNote { machine: machine(&"f".repeat(ID_MAX), Some(&"f".repeat(ID_MAX))), exports }
        };
        let note = of(NOTED_MAX);
        let text = note.encode();
        assert!(text.len() <= NOTE_MAX, "{}", text.len());
        assert_eq!(StopNote::decode(text.as_bytes(), &note.machine), Ok(note.clone()));
        let mut longer = of(1);
        longer.exports.values_mut().for_each(|noted| noted.instances.push([0xff; 16]));
        let decoded = StopNote::decode(longer.encode().as_bytes(), &note.machine);
        assert_eq!(decoded, Err(NoteError::Damaged), "an export has too many instances");
        let longer = of(NOTED_MAX + 1).encode();
        assert_eq!(StopNote::decode(longer.as_bytes(), &note.machine), Err(NoteError::Damaged));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            instances in prop::collection::vec(any::<[u8; 16]>(), 1..10), uuid: [u8; 16], block_size: u32, num_blocks: u64, survives_restart: bool,
            names in prop::collection::btree_set("[^\\p{Cc}]{1,55}", 1..5),
        ) {
            let device = Device { uuid, block_size, num_blocks, ..device() };
            let noted = Noted::new(instances, &device, survives_restart);
            let exports = names.into_iter().map(|name| (name, noted.clone())).collect();
            let note = StopNote { machine: here(), exports };
            prop_assert_eq!(StopNote::decode(note.encode().as_bytes(), &here()), Ok(note));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StopNote::decode(&bytes, &here());
        }
    }
}
