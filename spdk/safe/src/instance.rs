//! Instances: the identity of one start of a process, and detection of the end of another.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The number of bytes of an id that identify the place where the process runs.
const PLACE: usize = 8;

/// The instance of this process. It must exist for as long as the process may do I/O.
///
/// The id consists of eight bytes for the place (the kernel's boot id and the network namespace)
/// and eight random bytes. The process holds an abstract Unix socket of that name. The kernel
/// closes the socket with the process, after its asynchronous I/O has ended (`do_exit` releases the
/// memory, where `exit_aio` waits, before the files). So a process in the same place can tell
/// whether this one still lives.
#[derive(Debug)]
pub struct Instance {
    id: [u8; 16],
    held: Option<UnixDatagram>,
}

impl Instance {
    /// Publishes this process. If that is impossible, other processes cannot detect its end and
    /// treat it as alive.
    pub fn new() -> Instance {
        let mut id = [0; 16];
        crate::random::fill(&mut id);
        let held = place().and_then(|place| {
            id[..PLACE].copy_from_slice(&place);
            UnixDatagram::bind_addr(&address(&id).ok()?).ok()
        });
        if held.is_none() {
            crate::random::fill(&mut id[..PLACE]);
        }
        Instance { id, held }
    }

    /// Returns the id, which is unique to this start.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Returns whether the process with this id has certainly ended. `false` means that it lives,
    /// or runs in another place.
    pub fn has_ended(&self, other: [u8; 16]) -> bool {
        if self.held.is_none() || other == self.id || other[..PLACE] != self.id[..PLACE] {
            return false;
        }
        // Connecting a datagram socket only looks up the name: nothing waits, and nothing has to be
        // accepted.
        let look = || UnixDatagram::unbound()?.connect_addr(&address(&other)?);
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
    (boot.trim(), network).hash(&mut hasher);
    Some(hasher.finish().to_le_bytes())
}

fn address(id: &[u8; 16]) -> io::Result<SocketAddr> {
    let name: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    SocketAddr::from_abstract_name(format!("dst-instance-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_a_life_and_from_elsewhere() {
        let me = Instance::new();
        let other = Instance::new();
        let id = other.id();
        assert!(!me.has_ended(id));
        assert!(!me.has_ended(me.id()));
        drop(other);
        assert!(me.has_ended(id));
        let mut elsewhere = id;
        elsewhere[0] ^= 1;
        assert!(!me.has_ended(elsewhere));
    }
}
