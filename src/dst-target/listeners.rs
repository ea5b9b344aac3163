//! Listeners: what operators configure.
//!
//! A listener whose address the machine does not have yet waits for it, so that a start does not fail
//! because an interface comes up later. What cannot be right, such as a port that is in use, is refused
//! at once.

use std::rc::Rc;

use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::listener::{Configured, ListenAddress, Listener, ListenerInfo};
use crate::retry::{Failure, Retry};

/// A tick of [`Retry`], µs: soon enough for an interface that comes up, and a few system calls for each
/// listener that waits.
const TICK_US: u64 = 1_000_000;

impl Target {
    /// Listens, or waits for the address. Calls `done` when that is so, or with the reason why it can
    /// not be.
    pub fn create_listener(
        self: &Rc<Self>,
        address: ListenAddress,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) {
        // The groups second: an address that can't be listened on leaves nothing behind.
        let listener = match self.listen_or_wait(address) {
            Ok(listener) => listener,
            Err(error) => return done(Err(error)),
        };
        let target = Rc::clone(self);
        self.start_groups(move |started| done(started.and_then(|()| target.add_listener(listener))));
    }

    fn listen_or_wait(self: &Rc<Self>, address: ListenAddress) -> Result<Configured, Error> {
        self.check_is_new(&address)?;
        if spdk::sock::has_address(address.addr) {
            return self.listen(address).map(Configured::Listening);
        }
        let failure = absent(&address);
        Ok(Configured::Waiting(address, Retry::new(failure)))
    }

    /// Adds a listener when the groups are there.
    fn add_listener(self: &Rc<Self>, listener: Configured) -> Result<(), Error> {
        // Another one may have come while the groups started.
        self.check_is_new(listener.address())?;
        match &listener {
            Configured::Listening(listener) => spdk::notice!("DST target listens on {}", listener.address),
            Configured::Waiting(address, retry) => {
                self.retry_listeners()?;
                spdk::warn!(
                    "DST target does not listen on {address} yet: {}. It does as soon as that has changed",
                    retry.last_error()
                );
            }
        }
        self.listeners.borrow_mut().push(listener);
        Ok(())
    }

    fn check_is_new(&self, address: &ListenAddress) -> Result<(), Error> {
        if self.listeners.borrow().iter().any(|other| other.address().is_same_place(address)) {
            return Err(Error::ListenerExists(address.to_string()));
        }
        Ok(())
    }

    fn listen(self: &Rc<Self>, address: ListenAddress) -> Result<Listener, Error> {
        let (one, other) = (Rc::downgrade(self), Rc::downgrade(self));
        let may_accept = move || one.upgrade().is_some_and(|target| target.broker.borrow().may_accept());
        let accept = move |sock, peer| {
            if let Some(target) = other.upgrade() {
                target.accepted(sock, peer);
            }
        };
        Listener::start(address, may_accept, accept)
    }

    /// Begins to try again for listeners that wait.
    fn retry_listeners(self: &Rc<Self>) -> Result<(), Error> {
        let mut retrier = self.retrier.borrow_mut();
        if retrier.is_none() {
            let target = Rc::downgrade(self);
            let retry = move || target.upgrade().is_some_and(|target| target.retry_tick());
            let poller = Poller::register(TICK_US, retry);
            *retrier =
                Some(poller.map_err(|errno| Error::Resources { what: "a timer for a listener", errno })?);
        }
        Ok(())
    }

    /// Tries again for listeners that wait. Returns true if there was something to do.
    fn retry_tick(self: &Rc<Self>) -> bool {
        let mut listeners = self.listeners.take();
        let mut are_waiting = false;
        for listener in &mut listeners {
            let Configured::Waiting(address, retry) = listener else { continue };
            are_waiting = true;
            if !retry.tick() {
                continue;
            }
            let outcome = if spdk::sock::has_address(address.addr) {
                self.listen(address.clone()).map_err(|error| Failure::Other(error.to_string()))
            } else {
                Err(absent(address))
            };
            match outcome {
                Ok(socket) => {
                    spdk::notice!("DST target listens on {address} now");
                    *listener = Configured::Listening(socket);
                }
                Err(failure) => {
                    if retry.failed(failure) {
                        spdk::warn!("DST target still does not listen on {address}: {}", retry.last_error());
                    }
                }
            }
        }
        self.listeners.replace(listeners);
        if !are_waiting {
            // Inside its own call, which it stands.
            drop(self.retrier.take());
        }
        are_waiting
    }

    /// Stops listening. Connections stay.
    ///
    /// # Errors
    /// There is no such listener.
    pub fn delete_listener(&self, address: &ListenAddress) -> Result<(), Error> {
        let mut listeners = self.listeners.borrow_mut();
        let found = listeners.iter().position(|listener| listener.address().is_same_place(address));
        let index = found.ok_or_else(|| Error::NoListener(address.to_string()))?;
        listeners.remove(index);
        Ok(())
    }

    /// Returns where the target listens, or waits to.
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let info = |listener: &Configured| ListenerInfo {
            address: listener.address().clone(),
            waits: match listener {
                Configured::Listening(_) => None,
                Configured::Waiting(_, retry) => Some(retry.last_error().to_owned()),
            },
        };
        self.listeners.borrow().iter().map(info).collect()
    }
}

fn absent(address: &ListenAddress) -> Failure {
    Failure::Absent(format!("this machine does not have the address {}", address.addr))
}
