//! Operators' requests about listeners.
//!
//! A listener waits for an address that the machine does not have yet, so that a start does not
//! fail because an interface comes up later. A request that cannot succeed by waiting, such as one
//! for a port that is in use, fails at once.

use std::rc::Rc;

use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::listen_retry::{ListenFailure, ListenRetry};
use crate::listener::{ConfiguredListener, ListenAddress, Listener, ListenerInfo};

/// The period of ticks of [`ListenRetry`], µs. An interface that comes up is noticed soon enough,
/// and each waiting listener costs a few system calls.
const TICK_US: u64 = 1_000_000;

impl Target {
    /// Creates a listener, which listens at once or waits for its address. Calls `done` with the
    /// outcome.
    pub fn create_listener(
        self: &Rc<Self>,
        address: ListenAddress,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) {
        // The groups are started after the listener, so that a failure to listen leaves nothing
        // behind.
        let listener = match self.listen_or_wait(address) {
            Ok(listener) => listener,
            Err(error) => return done(Err(error)),
        };
        let target = Rc::clone(self);
        self.start_groups(move |started| done(started.and_then(|()| target.add_listener(listener))));
    }

    fn listen_or_wait(self: &Rc<Self>, address: ListenAddress) -> Result<ConfiguredListener, Error> {
        self.check_is_new(&address)?;
        if spdk::sock::has_address(address.addr) {
            return self.listen(address).map(ConfiguredListener::Listening);
        }
        let failure = absent(&address);
        Ok(ConfiguredListener::Waiting(address, ListenRetry::new(failure)))
    }

    /// Adds a listener after the groups have started.
    fn add_listener(self: &Rc<Self>, listener: ConfiguredListener) -> Result<(), Error> {
        // Another listener with this address may have been added while the groups started.
        self.check_is_new(listener.address())?;
        match &listener {
            ConfiguredListener::Listening(listener) => {
                spdk::notice!("DST target listens on {}", listener.address)
            }
            ConfiguredListener::Waiting(address, retry) => {
                self.retry_listeners()?;
                spdk::warn!(
                    "DST target does not listen on {address} yet: {}. It will as soon as that changes",
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

    /// Starts the timer of waiting listeners.
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

    /// Lets waiting listeners try again. Returns true if there were any.
    fn retry_tick(self: &Rc<Self>) -> bool {
        let mut listeners = self.listeners.take();
        let mut are_waiting = false;
        for listener in &mut listeners {
            let ConfiguredListener::Waiting(address, retry) = listener else { continue };
            are_waiting = true;
            if !retry.tick() {
                continue;
            }
            let outcome = if spdk::sock::has_address(address.addr) {
                self.listen(address.clone()).map_err(|error| ListenFailure::Other(error.to_string()))
            } else {
                Err(absent(address))
            };
            match outcome {
                Ok(socket) => {
                    spdk::notice!("DST target listens on {address} now");
                    *listener = ConfiguredListener::Listening(socket);
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
            // A poller may be dropped inside its own call.
            drop(self.retrier.take());
        }
        are_waiting
    }

    /// Deletes a listener. Its connections stay.
    ///
    /// # Errors
    /// Fails if there is no such listener.
    pub fn delete_listener(&self, address: &ListenAddress) -> Result<(), Error> {
        let mut listeners = self.listeners.borrow_mut();
        let found = listeners.iter().position(|listener| listener.address().is_same_place(address));
        let index = found.ok_or_else(|| Error::NoListener(address.to_string()))?;
        listeners.remove(index);
        Ok(())
    }

    /// Returns the listeners, including those that wait.
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        let info = |listener: &ConfiguredListener| ListenerInfo {
            address: listener.address().clone(),
            waits: match listener {
                ConfiguredListener::Listening(_) => None,
                ConfiguredListener::Waiting(_, retry) => Some(retry.last_error().to_owned()),
            },
        };
        self.listeners.borrow().iter().map(info).collect()
    }
}

fn absent(address: &ListenAddress) -> ListenFailure {
    ListenFailure::Absent(format!("this machine does not have the address {}", address.addr))
}
