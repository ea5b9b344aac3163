//! Resolving the names of hosts without blocking a reactor: on OS threads.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spdk_sys as sys;

use crate::errno::{Errno, Result};

/// The maximum number of threads that resolve at once. Each may hang for as long as the name
/// servers of the machine do.
const THREADS_MAX: usize = 16;

/// The maximum number of addresses that are taken of one name.
pub const ADDRESSES_MAX: usize = 8;

/// The number of threads that resolve now. Each raises and lowers it by one; nothing else depends
/// on it, so `Relaxed` is enough.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// What a name resolves to, or why it does not.
pub type Lookup = std::result::Result<Vec<SocketAddr>, String>;

/// Names that are being resolved. Dropping it ends the interest in them, not the thread.
pub struct Resolving(Arc<Mutex<Option<Vec<Lookup>>>>);

/// Begins to resolve names, one after the other.
///
/// `EAGAIN`: too many threads resolve already, or there can't be another one.
pub fn resolve(names: Vec<String>) -> Result<Resolving> {
    let is_free = |threads: usize| (threads < THREADS_MAX).then_some(threads + 1);
    THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_free).map_err(|_| Errno::EAGAIN)?;
    let results = Arc::new(Mutex::new(None));
    let put = Arc::clone(&results);
    let thread = std::thread::Builder::new().name("dst_resolve".to_owned()).spawn(move || {
        // A thread started on a reactor's core would take that core's time.
        // SAFETY: affects only the calling thread.
        unsafe { sys::spdk_unaffinitize_thread() };
        let lookups = names.iter().map(|name| look_up(name)).collect();
        *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(lookups);
        THREADS.fetch_sub(1, Ordering::Relaxed);
    });
    match thread {
        Ok(_) => Ok(Resolving(results)),
        Err(_) => {
            THREADS.fetch_sub(1, Ordering::Relaxed);
            Err(Errno::EAGAIN)
        }
    }
}

fn look_up(name: &str) -> Lookup {
    // The port is not looked at.
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.take(ADDRESSES_MAX).collect()),
        Err(error) => Err(error.to_string()),
    }
}

impl Resolving {
    /// Takes the results, in the order of the names, once they are there.
    pub fn take(&self) -> Option<Vec<Lookup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
