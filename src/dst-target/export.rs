//! What is exported: bdevs, as clients see them.

use dst_broker::{OwnershipState, Rules};
use dst_session::access::Host;
use dst_wire::{Device, Op, OpSet};
use spdk::bdev::{BdevInfo, Desc};
use spdk::poller::Poller;

use crate::error::Error;

/// The bdev of an export. The broker has the rest: who may attach, and what goes for all.
pub struct Export {
    /// The name of the bdev, as the operator gave it.
    pub bdev_name: String,
    /// Whether the bdev is only read.
    pub read_only: bool,
    /// The identity of the export.
    pub identity: Identity,
    /// What the operator should know of the UUID of the bdev that was there last.
    pub uuid_warning: Option<&'static str>,
    /// The bdev.
    pub backing: Backing,
    /// Tells the broker each time that the drain time-out has passed, while that is wanted.
    pub drain_timer: Option<Poller>,
    /// The deletion of the export, if that is under way.
    pub deletion: Option<Deletion>,
    /// Where the export keeps who owns it; `None`: nobody can.
    pub state_file: Option<StateFile>,
}

/// What the UUID of an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The operator gave it: the bdev may have another one after each start.
    Given([u8; 16]),
    /// It is the bdev's, and known once that was there.
    OfBdev(Option<[u8; 16]>),
}

impl Identity {
    /// Returns the UUID, as far as it is known.
    pub fn uuid(self) -> Option<[u8; 16]> {
        match self {
            Identity::Given(uuid) => Some(uuid),
            Identity::OfBdev(uuid) => uuid,
        }
    }
}

/// The bdev of an export.
pub enum Backing {
    /// The bdev can't be used (yet, or any more).
    Offline {
        /// Why, for the operator.
        why: String,
        /// What the bdev was like when it was there: one that comes back must not be less.
        before: Option<BdevInfo>,
    },
    /// The open bdev.
    Online(Desc),
    /// The bdev was removed, and SPDK waits until it is closed here: when the backend has finished.
    Leaving {
        /// The open bdev.
        desc: Desc,
        /// Why the export is offline, for the operator.
        why: String,
    },
}

impl Export {
    /// Returns the open bdev, if the export is online.
    pub fn desc(&self) -> Option<&Desc> {
        match &self.backing {
            Backing::Online(desc) => Some(desc),
            Backing::Offline { .. } | Backing::Leaving { .. } => None,
        }
    }

    /// Returns the open bdev, also one that was removed and is not closed yet.
    pub fn open_desc(&self) -> Option<&Desc> {
        match &self.backing {
            Backing::Online(desc) | Backing::Leaving { desc, .. } => Some(desc),
            Backing::Offline { .. } => None,
        }
    }

    /// Returns the names of the bdev that the export waits for. One that was there before may have lost
    /// the alias that the operator named, as a renamed lvol has; its own name it keeps.
    pub fn wanted_bdevs(&self) -> Vec<String> {
        let own = match &self.backing {
            Backing::Offline { before: Some(before), .. } => Some(&before.name),
            _ => None,
        };
        let own = own.filter(|own| **own != self.bdev_name);
        own.into_iter().chain([&self.bdev_name]).cloned().collect()
    }

    /// Returns the bdev's own name, or else the one that the operator gave.
    pub fn own_bdev_name(&self) -> String {
        match &self.backing {
            Backing::Online(desc) | Backing::Leaving { desc, .. } => desc.info().name,
            Backing::Offline { before: Some(before), .. } => before.name.clone(),
            Backing::Offline { before: None, .. } => {
                self.found().map_or_else(|| self.bdev_name.clone(), |info| info.name)
            }
        }
    }

    /// Returns the bdev that the export waits for, if that is there.
    pub fn found(&self) -> Option<BdevInfo> {
        self.wanted_bdevs().iter().find_map(|name| spdk::bdev::info(name))
    }

    /// Returns true if the export needs a bdev.
    pub fn is_waiting(&self) -> bool {
        matches!(self.backing, Backing::Offline { .. }) && self.deletion.is_none()
    }
}

/// Takes the end of a release.
pub type Released = Box<dyn FnOnce(Result<(), Error>)>;

/// The file in which an export keeps who owns it.
pub struct StateFile {
    /// Its absolute path.
    pub path: String,
    /// Whoever waits for the release of the export to be durable.
    pub releasing: Option<Released>,
}

/// Takes the end of a deletion.
pub type Done = Box<dyn FnOnce(Result<(), Error>)>;

/// A deletion that is under way.
pub enum Deletion {
    /// Whoever asked waits for its end.
    Awaited(Done),
    /// Whoever asked was told that the backend hangs.
    Late,
}

/// An export as `dst_get_exports` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its name.
    pub name: String,
    /// Its bdev's name, as the operator gave it.
    pub bdev_name: String,
    /// Its identity: the UUID that the operator gave it, or else the one that its bdev had; `None` if it
    /// has had none yet.
    pub uuid: Option<[u8; 16]>,
    /// Why it is offline; `None`: its bdev is there.
    pub offline: Option<String>,
    /// What the operator should know of its UUID.
    pub uuid_warning: Option<&'static str>,
    /// What goes for all who attach.
    pub rules: Rules,
    /// Bytes in a block, and blocks; `None` while it is offline.
    pub size: Option<(u32, u64)>,
    /// Who may do what.
    pub hosts: Vec<Host>,
    /// Sessions open.
    pub sessions: usize,
    /// Whether it is being deleted, and waits for its backend.
    pub deleting: bool,
    /// Where it keeps who owns it.
    pub state_file: Option<String>,
    /// Who owns it.
    pub ownership: OwnershipState,
    /// The hosts whose clients wait to own it, or to be let in as its owner, each with the time at
    /// which its connection was accepted, µs.
    pub waiting: Vec<(String, u64)>,
    /// Whether its bdev is being reset for clients, or for one that waits to own it.
    pub is_resetting: bool,
}

/// Returns what an operator should know of a bdev of this kind (SPDK's product name) whose UUID an export
/// takes over. Whether the bdev was created with a UUID of its own cannot be known.
pub fn uuid_warning(identity: Identity, product: &str) -> Option<&'static str> {
    match (identity, product) {
        (Identity::Given(_), _) => None,
        (Identity::OfBdev(_), "AIO disk") => Some(
            "an aio bdev has another UUID after each start, unless it was created with one, and clients take \
             that for another device: create the export with `uuid`, or load a saved configuration, which has it",
        ),
        (Identity::OfBdev(_), "Malloc disk") => Some(
            "a malloc bdev is empty after each start, and has another UUID then unless it was created with one: \
             its clients have to be created again",
        ),
        (Identity::OfBdev(_), _) => None,
    }
}

/// Checks that a bdev can be exported.
///
/// # Errors
/// [`Error::Unsuitable`].
pub fn check_suitable(info: &BdevInfo, max_transfer: u32) -> Result<(), Error> {
    let unsuitable = |why| Err(Error::Unsuitable { name: info.name.clone(), why });
    if info.md_size > 0 {
        return unsuitable("it has metadata in or beside its blocks");
    }
    if !info.block_size.is_power_of_two() || !(512..=65_536).contains(&info.block_size) {
        return unsuitable("its block size is not a power of two from 512 to 65536");
    }
    if u64::from(info.block_size) * u64::from(info.write_unit_size.max(1)) > max_transfer.into() {
        return unsuitable("it is written in units longer than max_transfer (dst_set_options)");
    }
    if !info.supports.contains(spdk::bdev::IoTypes::READ) {
        return unsuitable("it can't be read");
    }
    Ok(())
}

/// Returns the device that a bdev is, with all that it can do, whoever asks.
pub fn device(info: &BdevInfo, uuid: [u8; 16]) -> Device {
    let ops: OpSet = Op::ALL.into_iter().filter(|&op| supports(info, op)).collect();
    Device {
        uuid,
        num_blocks: info.num_blocks,
        block_size: info.block_size,
        write_unit_size: info.write_unit_size.max(1),
        optimal_io_boundary: info.optimal_io_boundary,
        compare_and_write_max: if ops.contains(Op::CompareAndWrite) { info.acwu.max(1) } else { 0 },
        write_cache: info.write_cache,
        read_only: false,
        ops,
    }
}

fn supports(info: &BdevInfo, op: Op) -> bool {
    use spdk::bdev::IoTypes;
    let wanted = match op {
        Op::Read => IoTypes::READ,
        Op::Write => IoTypes::WRITE,
        Op::Flush => IoTypes::FLUSH,
        Op::Unmap => IoTypes::UNMAP,
        Op::WriteZeroes => IoTypes::WRITE_ZEROES,
        // SPDK's bdev layer does it under a lock on the range, whatever the backend is.
        Op::CompareAndWrite => IoTypes::READ | IoTypes::WRITE,
        Op::Reset => IoTypes::RESET,
    };
    info.supports.contains(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_that_will_be_another_one_is_warned_of() {
        let (given, own) = (Identity::Given([1; 16]), Identity::OfBdev(Some([1; 16])));
        for product in ["AIO disk", "Malloc disk"] {
            assert!(uuid_warning(own, product).is_some_and(|text| text.contains("UUID")));
            assert_eq!(uuid_warning(given, product), None);
        }
        assert_eq!(uuid_warning(own, "NVMe disk"), None);
    }
}
