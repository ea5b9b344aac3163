//! Connecting without blocking the reactor: by SPDK if it can, otherwise with helper threads.

#[cfg(spdk_sock_connect_async)]
mod polled;

mod done;
mod helpers;

use std::marker::PhantomData;

use self::done::Done;
use super::{Endpoint, Sock};
use crate::errno::Result;

/// An attempt under way. Dropping it cancels the attempt: `done` is not called, and a socket that
/// comes late is closed.
pub struct Connecting {
    _attempt: Attempt,
    _not_send: PhantomData<*mut ()>,
}

#[expect(dead_code, reason = "held for what its end does")]
enum Attempt {
    #[cfg(spdk_sock_connect_async)]
    Polled(polled::PolledAttempt),
    Helper(helpers::HelpedAttempt),
}

/// Starts to connect to an IP address, and calls `done` with the result on this SPDK thread later,
/// never inside this call. The attempt takes as long as the kernel takes, unless the [`Connecting`]
/// is dropped. The error is the kernel's errno if SPDK reports it, otherwise `EIO`.
///
/// `EINVAL`: `addr` is not an address.
pub fn connect(
    addr: &str,
    port: u16,
    sock_impl: Option<&str>,
    done: impl FnOnce(Result<Sock>) + 'static,
) -> Result<Connecting> {
    let to = Endpoint::new(addr, port, sock_impl)?;
    let attempt = begin(to, Box::new(done))?;
    Ok(Connecting { _attempt: attempt, _not_send: PhantomData })
}

#[cfg(spdk_sock_connect_async)]
fn begin(to: Endpoint, done: Done) -> Result<Attempt> {
    match polled::start(&to, done)? {
        Ok(attempt) => Ok(Attempt::Polled(attempt)),
        Err(done) => helpers::start(to, done).map(Attempt::Helper),
    }
}

#[cfg(not(spdk_sock_connect_async))]
fn begin(to: Endpoint, done: Done) -> Result<Attempt> {
    helpers::start(to, done).map(Attempt::Helper)
}
