//! Instances: the identity of one start of a process, and detection of the end of another.

use std::cell::Cell;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The number of bytes of an id that identify the place where the process runs.
const PLACE: usize = 8;

/// The number of bytes of an id that all ids of a process share.
const PROCESS: usize = 13;

/// The number of ids that one process has. The ids after these identify nothing but themselves.
const IDS: u32 = 1 << (8 * (16 - PROCESS));

/// The format of the ids, which is part of the place: processes that format them otherwise take
/// this one's for those of another place.
const FORMAT: &str = "dst-instance-2";

/// The instance of this process. It must exist for as long as the process may do I/O.
///
/// An id consists of eight bytes for the place (the kernel's boot id and the network namespace),
/// five random bytes for the process, and three that count the ids that the process has handed out.
/// The process holds an abstract Unix socket that is named after the first 13 bytes. The kernel
/// closes the socket with the process, after its asynchronous I/O has ended (`do_exit` releases the
/// memory, where `exit_aio` waits, before the files). So a process in the same place can tell
/// whether this one still lives.
#[derive(Debug)]
pub struct Instance {
    process: [u8; PROCESS],
    next: Cell<u32>,
    held: Option<UnixDatagram>,
}

impl Instance {
    /// Publishes this process. If that is impossible, other processes cannot detect its end and
    /// treat it as alive.
    pub fn new() -> Instance {
        let mut process = [0; PROCESS];
        crate::random::fill(&mut process);
        let held = place().and_then(|place| {
            process[..PLACE].copy_from_slice(&place);
            UnixDatagram::bind_addr(&address(&process).ok()?).ok()
        });
        if held.is_none() {
            crate::random::fill(&mut process[..PLACE]);
        }
        Instance { process, next: Cell::new(0), held }
    }

    /// Returns an id that no process has returned before.
    pub fn next_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        let next = self.next.get();
        if next < IDS {
            self.next.set(next + 1);
            id[..PROCESS].copy_from_slice(&self.process);
            id[PROCESS..].copy_from_slice(&next.to_le_bytes()[..16 - PROCESS]);
        } else {
            crate::random::fill(&mut id);
        }
        id
    }

    /// Returns whether this process has returned the id. `false` may be wrong for ids after the
    /// first 2^24.
    pub fn has_given(&self, id: [u8; 16]) -> bool {
        id[..PROCESS] == self.process
    }

    /// Returns whether the process with this id has certainly ended. `false` means that it lives,
    /// or runs in another place.
    pub fn has_ended(&self, other: [u8; 16]) -> bool {
        if self.held.is_none() || self.has_given(other) || other[..PLACE] != self.process[..PLACE] {
            return false;
        }
        // Connecting a datagram socket only looks up the name: nothing waits, and nothing has to be
        // accepted.
        let look = || UnixDatagram::unbound()?.connect_addr(&address(&other[..PROCESS])?);
        matches!(look(), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
    }
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::new()
    }
}

/// Returns the place where this process runs: processes that share abstract sockets since the
/// machine was booted.
///
/// The hash function is the standard library's, so programs built with different versions may count
/// as different places.
fn place() -> Option<[u8; PLACE]> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let network = fs::read_link("/proc/self/ns/net").ok()?;
    let mut hasher = DefaultHasher::new();
    (FORMAT, boot.trim(), network).hash(&mut hasher);
    Some(hasher.finish().to_le_bytes())
}

fn address(process: &[u8]) -> io::Result<SocketAddr> {
    let name: String = process.iter().map(|byte| format!("{byte:02x}")).collect();
    SocketAddr::from_abstract_name(format!("dst-instance-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_a_life_and_from_elsewhere() {
        let me = Instance::new();
        let other = Instance::new();
        let (id, second) = (other.next_id(), other.next_id());
        assert_ne!(id, second);
        assert!(other.has_given(id) && other.has_given(second) && !me.has_given(id));
        assert!(!me.has_ended(id));
        assert!(!me.has_ended(me.next_id()));
        drop(other);
        assert!(me.has_ended(id) && me.has_ended(second));
        let mut elsewhere = id;
        elsewhere[0] ^= 1;
        assert!(!me.has_ended(elsewhere));
    }

    #[test]
    fn ids_do_not_repeat_once_their_count_is_used_up() {
        let me = Instance::new();
        let first = me.next_id();
        me.next.set(IDS - 1);
        let (last, later, latest) = (me.next_id(), me.next_id(), me.next_id());
        assert!(me.has_given(last) && last != first);
        assert!(!me.has_given(later) && later != latest);
        assert!(!me.has_ended(later));
    }
}
