//! Listeners: what operators configure.

use std::rc::Rc;

use crate::control::Target;
use crate::error::Error;
use crate::listener::{ListenAddress, Listener};

impl Target {
    /// Listens.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn create_listener(self: &Rc<Self>, address: ListenAddress) -> Result<(), Error> {
        if self.listeners.borrow().iter().any(|other| other.address.is_same_place(&address)) {
            return Err(Error::ListenerExists(address.to_string()));
        }
        let (one, other) = (Rc::downgrade(self), Rc::downgrade(self));
        let may_accept = move || one.upgrade().is_some_and(|target| !target.broker.borrow().is_clearing());
        let accept = move |sock, peer| {
            if let Some(target) = other.upgrade() {
                target.accepted(sock, peer);
            }
        };
        // The groups second: an address that can't be listened on leaves nothing behind.
        let listener = Listener::start(address, may_accept, accept)?;
        self.start_groups()?;
        spdk::notice!("DST target listens on {}", listener.address);
        self.listeners.borrow_mut().push(listener);
        Ok(())
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
