//! Listeners: what operators configure.

use std::rc::Rc;

use crate::control::Target;
use crate::error::Error;
use crate::listener::{ListenAddress, Listener};

impl Target {
    /// Listens. Calls `done` when connections are accepted, or with the reason why they are not.
    pub fn create_listener(
        self: &Rc<Self>,
        address: ListenAddress,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) {
        // The groups second: an address that can't be listened on leaves nothing behind.
        let listener = match self.listen(address) {
            Ok(listener) => listener,
            Err(error) => return done(Err(error)),
        };
        let target = Rc::clone(self);
        self.start_groups(move |started| {
            if started.is_ok() {
                spdk::notice!("DST target listens on {}", listener.address);
                target.listeners.borrow_mut().push(listener);
            }
            done(started);
        });
    }

    fn listen(self: &Rc<Self>, address: ListenAddress) -> Result<Listener, Error> {
        if self.listeners.borrow().iter().any(|other| other.address.is_same_place(&address)) {
            return Err(Error::ListenerExists(address.to_string()));
        }
        let (one, other) = (Rc::downgrade(self), Rc::downgrade(self));
        let may_accept = move || one.upgrade().is_some_and(|target| target.broker.borrow().may_accept());
        let accept = move |sock, peer| {
            if let Some(target) = other.upgrade() {
                target.accepted(sock, peer);
            }
        };
        Listener::start(address, may_accept, accept)
    }

    /// Stops listening. Connections stay.
    ///
    /// # Errors
    /// There is no such listener.
    pub fn delete_listener(&self, address: &ListenAddress) -> Result<(), Error> {
        let mut listeners = self.listeners.borrow_mut();
        let found = listeners.iter().position(|listener| listener.address.is_same_place(address));
        let index = found.ok_or_else(|| Error::NoListener(address.to_string()))?;
        listeners.remove(index);
        Ok(())
    }

    /// Returns where the target listens.
    pub fn listeners(&self) -> Vec<ListenAddress> {
        self.listeners.borrow().iter().map(|listener| listener.address.clone()).collect()
    }
}
