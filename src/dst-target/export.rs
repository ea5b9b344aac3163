//! Exports and their bdevs.

use dst_broker::{OwnershipState, Rules};
use dst_session::access::Host;
use dst_wire::{Device, Op, OpSet};
use spdk::bdev::{BdevInfo, Desc};
use spdk::poller::Poller;

use crate::error::Error;

/// An export's bdev, deletion and state file. The broker has the rest of an export: its access
/// list, rules and ownership.
pub struct Export {
    /// The name of the bdev, as the operator gave it.
    pub bdev_name: String,
    /// Whether the bdev is opened for reading only.
    pub read_only: bool,
    /// The identity of the export.
    pub identity: Identity,
    /// A warning for the operator about the UUID of the last bdev.
    pub uuid_warning: Option<&'static str>,
    /// The bdev.
    pub backing: Backing,
    /// The instance under which the export has, or had last, a bdev, followed by those whose completed
    /// requests that bdev has, as the note of an orderly stop says. Empty if it had no bdev.
    pub instances: Vec<[u8; 16]>,
    /// The timer of the drain time-out, while a drain is under way.
    pub drain_timer: Option<Poller>,
    /// The export's deletion, if it is under way.
    pub deletion: Option<Deletion>,
    /// The file with the export's ownership, or `None` if no host can own the export.
    pub state_file: Option<StateFile>,
}

/// The UUID of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The operator gave the UUID. The bdev may have another one after each start.
    Given([u8; 16]),
    /// The UUID is the bdev's, known once the export has had a bdev.
    OfBdev(Option<[u8; 16]>),
}

impl Identity {
    /// Returns the UUID, or `None` if it is not known yet.
    pub fn uuid(self) -> Option<[u8; 16]> {
        match self {
            Identity::Given(uuid) => Some(uuid),
            Identity::OfBdev(uuid) => uuid,
        }
    }
}

/// The bdev of an export.
pub enum Backing {
    /// The export has no bdev.
    Offline {
        /// The reason, for the operator.
        why: String,
        /// The description of the last bdev. The next one must match it.
        before: Option<BdevInfo>,
    },
    /// The export has this open bdev.
    Online(Desc),
    /// The bdev was removed. SPDK waits until it is closed, which happens when the backend has
    /// finished.
    Leaving {
        /// The open bdev.
        desc: Desc,
        /// The reason for which the export is offline, for the operator.
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

    /// Returns the open bdev, including one that was removed and is not closed yet.
    pub fn open_desc(&self) -> Option<&Desc> {
        match &self.backing {
            Backing::Online(desc) | Backing::Leaving { desc, .. } => Some(desc),
            Backing::Offline { .. } => None,
        }
    }

    /// Returns the names of the bdev that the export waits for. A bdev that the export had before
    /// may have lost the alias that the operator gave (a renamed lvol does), but keeps its own
    /// name.
    pub fn wanted_bdevs(&self) -> Vec<String> {
        let own = match &self.backing {
            Backing::Offline { before: Some(before), .. } => Some(&before.name),
            _ => None,
        };
        let own = own.filter(|own| **own != self.bdev_name);
        own.into_iter().chain([&self.bdev_name]).cloned().collect()
    }

    /// Returns the bdev's own name if it is known; otherwise, the name that the operator gave.
    pub fn own_bdev_name(&self) -> String {
        match &self.backing {
            Backing::Online(desc) | Backing::Leaving { desc, .. } => desc.info().name,
            Backing::Offline { before: Some(before), .. } => before.name.clone(),
            Backing::Offline { before: None, .. } => {
                self.found().map_or_else(|| self.bdev_name.clone(), |info| info.name)
            }
        }
    }

    /// Returns the bdev that the export waits for, if it exists.
    pub fn found(&self) -> Option<BdevInfo> {
        self.wanted_bdevs().iter().find_map(|name| spdk::bdev::info(name))
    }

    /// Returns true if the export waits for a bdev.
    pub fn is_waiting(&self) -> bool {
        matches!(self.backing, Backing::Offline { .. }) && self.deletion.is_none()
    }
}

/// The callback for the outcome of a release.
pub type Released = Box<dyn FnOnce(Result<(), Error>)>;

/// The file in which a target keeps the ownership of an export.
pub struct StateFile {
    /// The file's absolute path.
    pub path: String,
    /// The callback of the caller that waits for a release to be durable, if there is one.
    pub releasing: Option<Released>,
}

/// The callback for the outcome of a deletion.
pub type Deleted = Box<dyn FnOnce(Result<(), Error>)>;

/// A deletion that is under way.
pub enum Deletion {
    /// The caller waits for the end of the deletion.
    Awaited(Deleted),
    /// The caller was told that the backend hangs.
    Late,
}

/// An export as `dst_get_exports` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// The export's name.
    pub name: String,
    /// The bdev's name, as the operator gave it.
    pub bdev_name: String,
    /// The UUID that the operator gave, otherwise that of the bdev; `None` if the export has had no
    /// bdev yet.
    pub uuid: Option<[u8; 16]>,
    /// The reason for which the export is offline, or `None` if it is online.
    pub offline: Option<String>,
    /// A warning for the operator about the UUID.
    pub uuid_warning: Option<&'static str>,
    /// The rules for all clients.
    pub rules: Rules,
    /// The block size in bytes and the number of blocks, or `None` while the export is offline.
    pub size: Option<(u32, u64)>,
    /// The entries of the access list.
    pub hosts: Vec<Host>,
    /// The number of open sessions.
    pub sessions: usize,
    /// Whether the export is being deleted and waits for its backend.
    pub deleting: bool,
    /// The path of the state file, if the export has one.
    pub state_file: Option<String>,
    /// The state of the export's ownership.
    pub ownership: OwnershipState,
    /// The hosts whose clients wait to own the export, or to be admitted as its owner, each with
    /// the time at which its connection was accepted, µs.
    pub waiting: Vec<(String, u64)>,
    /// Whether the bdev is being reset for clients, or for one that waits to own the export.
    pub is_resetting: bool,
}

/// Returns a warning about the UUID of an export that takes over that of a bdev of this kind
/// (SPDK's product name), or `None` if there is nothing to warn of. Whether the bdev was created
/// with a UUID of its own cannot be known.
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
/// Fails with [`Error::Unsuitable`].
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

/// Returns the device of a bdev with all its operations, regardless of hosts' rights.
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
        // SPDK's bdev layer carries it out under a lock on the range, with any backend.
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
