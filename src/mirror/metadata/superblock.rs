//! The bytes of a superblock.

use dst_wire::{BLOCK_SIZES, Crc32c};

use super::error::MetadataError;
use super::layout::{Layout, SUPERBLOCK_BYTES, Slot};
use super::record::Record;
use super::tree::{TREE_EXTENTS_MAX, TreeRef};
use crate::configuration::{
    Configuration, MEMBER_NAME_MAX, MEMBERS_MAX, MemberRecord, MemberState, WitnessRecord, WitnessState,
};
use crate::generation::{Generation, Generations, HISTORY_MAX};
use crate::ids::{MemberId, MirrorId};
use crate::regions::{HOT_MAX, RegionSize};

const MAGIC: [u8; 8] = *b"DSTmirr\n";

const VERSION: u32 = 1;

/// The offsets of the fields. All numbers are little endian; what no field covers is zero.
mod field {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 8;
    /// Over the whole superblock, with zeroes here.
    pub const CRC: usize = 12;
    pub const MIRROR: usize = 16;
    /// The id of the member or witness on whose device the superblock is.
    pub const OWN: usize = 32;
    pub const NUMBER: usize = 48;
    pub const BLOCKS: usize = 56;
    pub const BLOCK_SIZE: usize = 64;
    pub const REGION_SHIFT: usize = 68;
    pub const MEMBERS: usize = 69;
    pub const WITNESS: usize = 70;
    pub const HISTORY: usize = 71;
    pub const HOT: usize = 72;
    pub const CURRENT_GENERATION: usize = 80;
    /// 16 generations, the newest first.
    pub const GENERATIONS: usize = 96;
    /// 8 members, and the witness.
    pub const ENTRIES: usize = 352;
    /// 1,024 regions of 2 bytes.
    pub const REGIONS: usize = 1504;
    pub const ACCEPTED: usize = 3552;
    pub const END: usize = 3560;
}

/// The offsets of the fields of a member's entry, or of the witness's.
mod entry {
    pub const ID: usize = 0;
    pub const SINCE: usize = 16;
    pub const DEVICE_BLOCKS: usize = 32;
    pub const TREE_NUMBER: usize = 40;
    pub const TREE_COUNT: usize = 48;
    pub const TREE_CRC: usize = 52;
    pub const STATE: usize = 56;
    pub const TREE_SLOT: usize = 57;
    pub const NAME_LEN: usize = 58;
    pub const NAME: usize = 64;
    pub const BYTES: usize = 128;
}

/// The values of the field `STATE`.
mod state {
    pub const IN_SYNC: u8 = 1;
    pub const OUT_OF_DATE: u8 = 2;
    pub const RESYNCING: u8 = 3;
    pub const DETACHED: u8 = 4;
    pub const WITNESS_CURRENT: u8 = 5;
    pub const WITNESS_AWAY: u8 = 6;
}

const _: () = {
    assert!(field::GENERATIONS + 16 * HISTORY_MAX == field::ENTRIES);
    assert!(field::ENTRIES + entry::BYTES * (MEMBERS_MAX + 1) == field::REGIONS);
    assert!(field::REGIONS + 2 * HOT_MAX == field::ACCEPTED && field::END <= SUPERBLOCK_BYTES);
    assert!(entry::NAME + MEMBER_NAME_MAX == entry::BYTES);
};

/// The trees of all members, by their index.
pub(super) type Trees = [TreeRef; MEMBERS_MAX];

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) own: MemberId,
    pub(super) record: Record,
    pub(super) trees: Trees,
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

fn get_u128(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(get(bytes, at))
}

/// Returns an error about the field `name` unless its value is allowed.
fn check(is_allowed: bool, name: &'static str) -> Result<(), MetadataError> {
    if is_allowed { Ok(()) } else { Err(MetadataError::Field(name)) }
}

/// Returns the CRC32C of a superblock.
fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&bytes[..field::CRC]);
    crc.update(&[0; 4]);
    crc.update(&bytes[field::CRC + 4..SUPERBLOCK_BYTES]);
    crc.finish()
}

/// Returns the bytes of a superblock: [`SUPERBLOCK_BYTES`].
///
/// # Panics
/// If there are more members, hot regions or bytes of a name than there is room for.
pub(super) fn encode(own: MemberId, record: &Record, trees: &Trees) -> Vec<u8> {
    let mut bytes = vec![0; SUPERBLOCK_BYTES];
    let configuration = &record.configuration;
    let (members, generations) = (&configuration.members, &configuration.generations);
    assert!(members.len() <= MEMBERS_MAX, "{} members, at most {MEMBERS_MAX}", members.len());
    assert!(record.hot.len() <= HOT_MAX, "{} hot regions, at most {HOT_MAX}", record.hot.len());
    put(&mut bytes, field::MAGIC, MAGIC);
    put(&mut bytes, field::VERSION, VERSION.to_le_bytes());
    put(&mut bytes, field::MIRROR, record.mirror.0.to_le_bytes());
    put(&mut bytes, field::OWN, own.0.to_le_bytes());
    put(&mut bytes, field::NUMBER, configuration.number.to_le_bytes());
    put(&mut bytes, field::BLOCKS, record.blocks.to_le_bytes());
    put(&mut bytes, field::BLOCK_SIZE, record.block_size.to_le_bytes());
    bytes[field::REGION_SHIFT] = record.region_size.shift() as u8;
    bytes[field::MEMBERS] = members.len() as u8;
    bytes[field::WITNESS] = configuration.witness.is_some().into();
    bytes[field::HISTORY] = generations.history().len() as u8;
    put(&mut bytes, field::HOT, (record.hot.len() as u16).to_le_bytes());
    put(&mut bytes, field::CURRENT_GENERATION, generations.current().0.to_le_bytes());
    for (index, generation) in generations.history().iter().enumerate() {
        put(&mut bytes, field::GENERATIONS + 16 * index, generation.0.to_le_bytes());
    }
    for (index, (member, tree)) in members.iter().zip(trees).enumerate() {
        let (state, since) = match member.state {
            MemberState::InSync => (state::IN_SYNC, 0),
            MemberState::OutOfDate { since } => (state::OUT_OF_DATE, since.0),
            MemberState::Resyncing { since } => (state::RESYNCING, since.0),
            MemberState::Detached => (state::DETACHED, 0),
        };
        let entry = entry_mut(&mut bytes, index);
        put_device(entry, member.id, &member.name, member.device_blocks, state);
        put(entry, entry::SINCE, since.to_le_bytes());
        put(entry, entry::TREE_NUMBER, tree.number.to_le_bytes());
        put(entry, entry::TREE_COUNT, tree.count.to_le_bytes());
        put(entry, entry::TREE_CRC, tree.crc.to_le_bytes());
        entry[entry::TREE_SLOT] = tree.slot.index() as u8;
    }
    if let Some(witness) = &configuration.witness {
        let (state, since) = match witness.state {
            WitnessState::Current => (state::WITNESS_CURRENT, 0),
            WitnessState::Away { since } => (state::WITNESS_AWAY, since.0),
        };
        let entry = entry_mut(&mut bytes, MEMBERS_MAX);
        put_device(entry, witness.id, &witness.name, witness.device_blocks, state);
        put(entry, entry::SINCE, since.to_le_bytes());
    }
    for (index, region) in record.hot.iter().enumerate() {
        put(&mut bytes, field::REGIONS + 2 * index, region.to_le_bytes());
    }
    put(&mut bytes, field::ACCEPTED, configuration.accepted.to_le_bytes());
    let crc = crc_of(&bytes);
    put(&mut bytes, field::CRC, crc.to_le_bytes());
    bytes
}

fn entry_mut(bytes: &mut [u8], index: usize) -> &mut [u8] {
    let start = field::ENTRIES + index * entry::BYTES;
    &mut bytes[start..start + entry::BYTES]
}

fn put_device(entry: &mut [u8], id: MemberId, name: &str, device_blocks: u64, state: u8) {
    assert!(name.len() <= MEMBER_NAME_MAX, "a name of {} bytes, at most {MEMBER_NAME_MAX}", name.len());
    put(entry, entry::ID, id.0.to_le_bytes());
    put(entry, entry::DEVICE_BLOCKS, device_blocks.to_le_bytes());
    entry[entry::STATE] = state;
    entry[entry::NAME_LEN] = name.len() as u8;
    entry[entry::NAME..entry::NAME + name.len()].copy_from_slice(name.as_bytes());
}

/// Reads a superblock that is in the blocks that `layout` says.
///
/// # Errors
/// If the bytes are none that a mirror writes to a device of this kind and size.
pub(super) fn decode(bytes: &[u8], layout: &Layout) -> Result<Superblock, MetadataError> {
    let superblock = read_anywhere(bytes)?;
    check_place(&superblock, layout)?;
    Ok(superblock)
}

/// Reads a superblock of any device.
///
/// # Errors
/// If the bytes are none that a mirror writes.
pub(super) fn read_anywhere(bytes: &[u8]) -> Result<Superblock, MetadataError> {
    if bytes.len() < SUPERBLOCK_BYTES || bytes[..MAGIC.len()] != MAGIC {
        return Err(MetadataError::Nothing);
    }
    let bytes = &bytes[..SUPERBLOCK_BYTES];
    let version = get_u32(bytes, field::VERSION);
    if version != VERSION {
        return Err(MetadataError::Version(version));
    }
    let (found, computed) = (get_u32(bytes, field::CRC), crc_of(bytes));
    if found != computed {
        return Err(MetadataError::Crc { found, computed });
    }
    let superblock = read(bytes)?;
    // What is not read here is zero, so that a later version can use it.
    let again = encode(superblock.own, &superblock.record, &superblock.trees);
    check(again == bytes, "reserved")?;
    Ok(superblock)
}

fn read(bytes: &[u8]) -> Result<Superblock, MetadataError> {
    let (mirror, own) = (get_u128(bytes, field::MIRROR), get_u128(bytes, field::OWN));
    check(mirror != 0, "mirror")?;
    let (blocks, block_size) = (get_u64(bytes, field::BLOCKS), get_u32(bytes, field::BLOCK_SIZE));
    check(block_size.is_power_of_two() && BLOCK_SIZES.contains(&block_size), "block size")?;
    let size = u128::from(blocks) * u128::from(block_size);
    check(blocks > 0 && size <= i64::MAX as u128, "blocks")?;
    let shift = u32::from(bytes[field::REGION_SHIFT]);
    let region_size = RegionSize::from_shift(shift, blocks).ok_or(MetadataError::Field("region shift"))?;

    let count = usize::from(bytes[field::MEMBERS]);
    check((1..=MEMBERS_MAX).contains(&count), "members")?;
    let mut trees = [TreeRef::empty(Slot::First); MEMBERS_MAX];
    let mut members = Vec::with_capacity(count);
    for (index, tree) in trees.iter_mut().enumerate().take(count) {
        let entry = &bytes[field::ENTRIES + index * entry::BYTES..][..entry::BYTES];
        members.push(read_member(entry)?);
        *tree = read_tree(entry)?;
    }
    let entry = &bytes[field::ENTRIES + MEMBERS_MAX * entry::BYTES..][..entry::BYTES];
    let witness = match bytes[field::WITNESS] {
        0 => None,
        1 => Some(read_witness(entry)?),
        _ => return Err(MetadataError::Field("witness")),
    };
    let (number, accepted) = (get_u64(bytes, field::NUMBER), get_u64(bytes, field::ACCEPTED));
    check(accepted <= number, "accepted")?;
    let configuration =
        Configuration { number, accepted, generations: read_generations(bytes)?, members, witness };
    let mut ids: Vec<MemberId> = configuration.members.iter().map(|member| member.id).collect();
    ids.extend(configuration.witness.as_ref().map(|witness| witness.id));
    check(ids.contains(&MemberId(own)), "own id")?;
    ids.sort_unstable();
    check(ids[0] != MemberId(0) && ids.windows(2).all(|pair| pair[0] != pair[1]), "ids")?;

    let count = usize::from(get_u16(bytes, field::HOT));
    check(count <= HOT_MAX, "hot regions")?;
    let hot: Vec<u16> = (0..count).map(|index| get_u16(bytes, field::REGIONS + 2 * index)).collect();
    let is_ascending = hot.windows(2).all(|pair| pair[0] < pair[1]);
    let is_within = hot.last().is_none_or(|&last| u64::from(last) < region_size.count(blocks));
    check(is_ascending && is_within, "hot regions")?;
    let record = Record { mirror: MirrorId(mirror), block_size, blocks, configuration, region_size, hot };
    Ok(Superblock { own: MemberId(own), record, trees })
}

fn read_generations(bytes: &[u8]) -> Result<Generations, MetadataError> {
    let count = usize::from(bytes[field::HISTORY]);
    check(count <= HISTORY_MAX, "history")?;
    let current = get_u128(bytes, field::CURRENT_GENERATION);
    let history: Vec<u128> =
        (0..count).map(|index| get_u128(bytes, field::GENERATIONS + 16 * index)).collect();
    check(current != 0 && !history.contains(&0), "generations")?;
    Ok(Generations::from_kept(Generation(current), history.into_iter().map(Generation).collect()))
}

fn read_name(entry: &[u8]) -> Result<String, MetadataError> {
    let len = usize::from(entry[entry::NAME_LEN]);
    check(len <= MEMBER_NAME_MAX, "name")?;
    let name = std::str::from_utf8(&entry[entry::NAME..entry::NAME + len]);
    let name = name.map_err(|_| MetadataError::Field("name"))?;
    // It is shown, also by programs that trust their input.
    check(!name.contains(char::is_control), "name")?;
    Ok(name.to_owned())
}

fn read_member(entry: &[u8]) -> Result<MemberRecord, MetadataError> {
    let since = Generation(get_u128(entry, entry::SINCE));
    let state = match entry[entry::STATE] {
        state::IN_SYNC => MemberState::InSync,
        state::OUT_OF_DATE => MemberState::OutOfDate { since },
        state::RESYNCING => MemberState::Resyncing { since },
        state::DETACHED => MemberState::Detached,
        _ => return Err(MetadataError::Field("state")),
    };
    check(state.since() != Some(Generation(0)), "since")?;
    Ok(MemberRecord {
        id: MemberId(get_u128(entry, entry::ID)),
        name: read_name(entry)?,
        device_blocks: get_u64(entry, entry::DEVICE_BLOCKS),
        state,
    })
}

fn read_witness(entry: &[u8]) -> Result<WitnessRecord, MetadataError> {
    let state = match entry[entry::STATE] {
        state::WITNESS_CURRENT => WitnessState::Current,
        // 0, which no generation is: records of the time before the generation was recorded.
        state::WITNESS_AWAY => WitnessState::Away { since: Generation(get_u128(entry, entry::SINCE)) },
        _ => return Err(MetadataError::Field("state")),
    };
    Ok(WitnessRecord {
        id: MemberId(get_u128(entry, entry::ID)),
        name: read_name(entry)?,
        device_blocks: get_u64(entry, entry::DEVICE_BLOCKS),
        state,
    })
}

fn read_tree(entry: &[u8]) -> Result<TreeRef, MetadataError> {
    let slot = match entry[entry::TREE_SLOT] {
        0 => Slot::First,
        1 => Slot::Second,
        _ => return Err(MetadataError::Field("tree slot")),
    };
    let count = get_u32(entry, entry::TREE_COUNT);
    check(count as usize <= TREE_EXTENTS_MAX, "tree ranges")?;
    let tree = TreeRef {
        slot,
        number: get_u64(entry, entry::TREE_NUMBER),
        count,
        crc: get_u32(entry, entry::TREE_CRC),
    };
    check(count > 0 || tree == TreeRef::empty(slot), "tree")?;
    Ok(tree)
}

/// Checks that the superblock belongs to the device on which it was found.
fn check_place(superblock: &Superblock, layout: &Layout) -> Result<(), MetadataError> {
    let record = &superblock.record;
    let member = record.configuration.member(superblock.own);
    if layout.is_witness() != member.is_none() {
        return Err(MetadataError::Role(layout.is_witness()));
    }
    let witness = || record.configuration.witness.as_ref().map(|witness| witness.device_blocks);
    let recorded = member.map(|member| member.device_blocks).or_else(witness).unwrap_or(0);
    if member.is_some() && record.block_size != layout.block_size() {
        return Err(MetadataError::BlockSize { recorded: record.block_size, found: layout.block_size() });
    }
    let has_trees = superblock.trees.iter().any(|tree| tree.count > 0);
    check(member.is_some() || !has_trees, "tree")?;
    // A device that grew by less than moves the end of the metadata is the same one.
    let is_here = layout.with_size(recorded).is_ok_and(|old| old.end() == layout.end());
    if !is_here {
        return Err(MetadataError::Place { recorded, found: layout.device_blocks() });
    }
    check(member.is_none() || record.blocks <= layout.data_blocks(), "blocks")
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use proptest::prelude::*;

    /// Returns a superblock whose byte at `at` is changed, and whose CRC is right.
    fn with_byte(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        let crc = crc_of(&bytes);
        put(&mut bytes, field::CRC, crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_layout() {
        let (layout, record) = example();
        let own = record.configuration.members[1].id;
        let mut trees = [TreeRef::empty(Slot::First); MEMBERS_MAX];
        trees[1] = TreeRef { slot: Slot::Second, number: 0x0405, count: 3, crc: 0x1122_3344 };
        let bytes = encode(own, &record, &trees);
        assert_eq!(bytes[..12], *b"DSTmirr\n\x01\0\0\0");
        assert_eq!((get_u128(&bytes, 16), get_u128(&bytes, 32), get_u64(&bytes, 48)), (77, 2, 0x0109));
        assert_eq!((get_u64(&bytes, 56), get_u32(&bytes, 64)), (1 << 20, 4096));
        assert_eq!(bytes[68..80], [8, 2, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((get_u128(&bytes, 80), get_u128(&bytes, 96)), (9, 8));
        let second = &bytes[352 + 128..][..128];
        assert_eq!((get_u128(second, 0), get_u128(second, 16)), (2, 8));
        assert_eq!((get_u64(second, 40), get_u32(second, 48), get_u32(second, 52)), (0x0405, 3, 0x1122_3344));
        assert_eq!(second[56..69], *b"\x02\x01\x05\0\0\0\0\0Disk2");
        assert_eq!((get_u128(&bytes, 352 + 1024), bytes[352 + 1024 + 56]), (99, 5));
        assert_eq!((get_u16(&bytes, 1504), get_u16(&bytes, 1506)), (3, 0x0201));
        assert!(bytes[1508..3552].iter().all(|&byte| byte == 0));
        assert_eq!(get_u64(&bytes, 3552), 0x0107);
        assert!(bytes[3560..].iter().all(|&byte| byte == 0));
        assert_eq!(decode(&bytes, &layout), Ok(Superblock { own, record, trees }));
    }

    #[test]
    fn a_superblock_belongs_to_one_device() {
        let (layout, record) = example();
        let (member, witness) = (MemberId(1), MemberId(99));
        let trees = [TreeRef::empty(Slot::First); MEMBERS_MAX];
        let blocks = layout.device_blocks();
        let bytes = encode(member, &record, &trees);
        assert!(decode(&bytes, &layout).is_ok());
        let other = |blocks| Layout::member(blocks, 4096).expect("there is room");
        assert!(decode(&bytes, &other(blocks + 15)).is_ok(), "the metadata are at the same place");
        let place = |found| Err(MetadataError::Place { recorded: blocks, found });
        assert_eq!(decode(&bytes, &other(blocks + 16)), place(blocks + 16));
        assert_eq!(decode(&bytes, &other(2 * blocks)), place(2 * blocks));
        let small = Layout::member(8 * blocks, 512).expect("there is room");
        assert_eq!(decode(&bytes, &small), Err(MetadataError::BlockSize { recorded: 4096, found: 512 }));
        let as_witness = Layout::witness(blocks, 4096).expect("there is room");
        assert_eq!(decode(&bytes, &as_witness), Err(MetadataError::Role(true)));
        let bytes = encode(witness, &record, &trees);
        assert_eq!(decode(&bytes, &layout), Err(MetadataError::Role(false)));
        let witness = Layout::witness(64, 512).err();
        assert!(witness.is_some(), "too small");
        let witness = Layout::witness(2048, 512).expect("there is room");
        assert!(decode(&bytes, &witness).is_ok(), "blocks of another size");
        let mut kept = trees;
        kept[0].count = 1;
        let bytes = encode(MemberId(99), &record, &kept);
        assert_eq!(decode(&bytes, &witness), Err(MetadataError::Field("tree")), "a witness has no trees");
        assert_eq!(
            decode(&encode(MemberId(7), &record, &trees), &layout),
            Err(MetadataError::Field("own id"))
        );
    }

    #[test]
    fn fields_that_no_mirror_writes_are_refused() {
        let (layout, record) = example();
        let bytes = encode(MemberId(1), &record, &[TreeRef::empty(Slot::First); MEMBERS_MAX]);
        let first = field::ENTRIES;
        for (at, value, name) in [
            (field::BLOCK_SIZE, 1, "block size"),
            (field::BLOCKS + 7, 0xff, "blocks"),
            (field::BLOCKS + 3, 0x70, "region shift"),
            (field::REGION_SHIFT, 3, "region shift"),
            (field::REGION_SHIFT, 64, "region shift"),
            (field::MEMBERS, 0, "members"),
            (field::MEMBERS, 9, "members"),
            (field::WITNESS, 2, "witness"),
            (field::HISTORY, 17, "history"),
            (field::HISTORY, 2, "generations"),
            (field::CURRENT_GENERATION, 0, "generations"),
            (field::HOT, 3, "hot regions"),
            (field::HOT + 1, 5, "hot regions"),
            (field::REGIONS + 3, 0xf0, "hot regions"),
            (first + entry::ID, 0, "own id"),
            (first + entry::ID, 2, "own id"),
            (first + entry::BYTES + entry::ID, 0, "ids"),
            (first + entry::BYTES + entry::ID, 1, "ids"),
            (first + entry::BYTES + entry::SINCE, 0, "since"),
            (first + entry::SINCE, 1, "reserved"),
            (first + entry::STATE, 0, "state"),
            (first + entry::STATE, 5, "state"),
            (first + MEMBERS_MAX * entry::BYTES + entry::STATE, 1, "state"),
            (first + entry::TREE_SLOT, 2, "tree slot"),
            (first + entry::TREE_COUNT + 2, 1, "tree ranges"),
            (first + entry::TREE_CRC, 1, "tree"),
            (first + entry::NAME_LEN, 65, "name"),
            (first + entry::NAME, 0xff, "name"),
            (first + entry::NAME, b'\n', "name"),
            (first + entry::NAME_LEN, 3, "reserved"),
            (field::ACCEPTED + 1, 2, "accepted"),
            (field::END, 1, "reserved"),
            (74, 1, "reserved"),
        ] {
            let refused = decode(&with_byte(&bytes, at, value), &layout);
            assert_eq!(refused, Err(MetadataError::Field(name)), "{value} at {at}");
        }
        let newer = with_byte(&bytes, field::VERSION, 2);
        assert_eq!(decode(&newer, &layout), Err(MetadataError::Version(2)));
        assert_eq!(decode(&bytes[..4095], &layout), Err(MetadataError::Nothing));
        let mirror = Record { mirror: MirrorId(0), ..record };
        let bytes = encode(MemberId(1), &mirror, &[TreeRef::empty(Slot::First); MEMBERS_MAX]);
        assert_eq!(decode(&bytes, &layout), Err(MetadataError::Field("mirror")));
    }

    proptest! {
        #[test]
        fn a_superblock_is_read_as_it_was_written((layout, own, record) in any_record(), trees in any_trees()) {
            let mut trees: Trees = trees;
            trees[record.configuration.members.len()..].fill(TreeRef::empty(Slot::First));
            let bytes = encode(own, &record, &trees);
            prop_assert_eq!(decode(&bytes, &layout), Ok(Superblock { own, record, trees }));
        }

        /// A write that is cut anywhere, or one flipped bit, is noticed.
        #[test]
        fn a_torn_superblock_is_refused(
            (layout, own, record) in any_record(), cut in 1usize..8, at in 0..SUPERBLOCK_BYTES, bit in 0u8..8,
        ) {
            let trees = [TreeRef::empty(Slot::First); MEMBERS_MAX];
            let bytes = encode(own, &record, &trees);
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            prop_assert!(decode(&damaged, &layout).is_err());
            let mut before = record.clone();
            before.configuration.number ^= 1;
            before.configuration.accepted = before.configuration.accepted.min(before.configuration.number);
            let mut torn = encode(own, &before, &trees);
            torn[..512 * cut].copy_from_slice(&bytes[..512 * cut]);
            let is_one_of_both = torn == bytes;
            prop_assert_eq!(decode(&torn, &layout).is_ok(), is_one_of_both);
        }
    }
}
