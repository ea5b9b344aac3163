//! Which start of a program this is, and whether another one has ended.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Bytes of an id that say where the process runs.
const PLACE: usize = 8;

/// This process's start. Held for as long as the process may do I/O.
///
/// The id is eight bytes of the place (the kernel's boot id and the network namespace) and eight random
/// ones. The process has the abstract Unix socket of that name, which the kernel closes with the
/// process, after its asynchronous I/O has ended (`do_exit`: the files go after the memory, with which `exit_aio`
/// waits). So whoever is in the same place can tell whether it still lives.
#[derive(Debug)]
pub struct Instance {
    id: [u8; 16],
    held: Option<UnixDatagram>,
}

impl Instance {
    /// Makes this process known. Where that is not possible nobody can tell its end, and nobody will.
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

    /// Unique to this start.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Whether the process with this id has surely ended. `false`: it lives, or is of another place.
    pub fn has_ended(&self, other: [u8; 16]) -> bool {
        if self.held.is_none() || other == self.id || other[..PLACE] != self.id[..PLACE] {
            return false;
        }
        // Datagrams, because connecting is a look at the name: nothing waits, nothing has to be accepted.
        let look = || UnixDatagram::unbound()?.connect_addr(&address(&other)?);
        matches!(look(), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
    }
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::new()
    }
}

/// Where this process runs: what has the same abstract sockets, since the machine was started.
///
/// Hashed by whatever the compiler's library has: a program built with another one is of another place.
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
