//! What the control thread has a connection do.

use std::rc::Rc;

use dst_broker::ResetStep;
use dst_security::Secured;
use dst_transport::Broken;
use dst_wire::{Event, Refusal, Welcome};
use spdk::clock::now_us;
use spdk::sock::Traffic;

use super::Member;
use crate::connection::Connection;
use crate::stage::Requests;

impl Member {
    /// Admits the connection. `requests` has the queue, unless this is a control connection.
    pub fn welcome(self: &Rc<Self>, welcome: &Welcome, requests: Option<Box<Requests>>) {
        self.group.now_us.set(now_us());
        // Requests will come through the socket.
        let polled = if requests.is_some() { self.poll_socket(Traffic::Data) } else { Ok(()) };
        if let Err(errno) = polled {
            self.over(&mut self.connection.borrow_mut(), &Broken::Socket(errno));
        }
        self.change(|connection| connection.welcome(welcome, requests, self.group.now_us.get()));
    }

    /// Sends the target's part of the key agreement.
    pub fn secure(self: &Rc<Self>, answer: &[u8], secured: Secured) {
        self.change(|connection| connection.secure(answer, secured));
    }

    /// Refuses the connection.
    pub fn refuse(self: &Rc<Self>, refusal: &Refusal) {
        self.change(|connection| connection.refuse(refusal));
    }

    /// Passes an event to the connection.
    pub fn event(self: &Rc<Self>, event: Event) {
        self.change(|connection| connection.event(event));
    }

    /// Tells the connection that all groups hold its request.
    pub fn held(self: &Rc<Self>, request: u64) {
        self.change(|connection| connection.held(request));
    }

    /// Takes this step of a reset that a client has asked for.
    pub fn reset_step(self: &Rc<Self>, step: ResetStep) {
        self.change(|connection| connection.reset_step(step, now_us()));
        self.attend_resets();
    }

    /// Closes the connection after sending what the socket takes at once. Must not be called inside
    /// the poll of the sockets.
    pub fn close(self: &Rc<Self>) {
        self.flush();
        self.shut();
    }

    /// Closes the connection because the target stops: its client is told what was not executed. This
    /// takes at most half the drain time-out, so that no client keeps the stop from being an orderly one.
    /// Must not be called inside the poll of the sockets.
    pub fn leave(self: &Rc<Self>) {
        let (group, now_us) = (&self.group, now_us());
        group.now_us.set(now_us);
        let until_us = now_us + u64::from(group.options.drain_timeout_ms) * 1000 / 2;
        let leaves = self.connection.borrow_mut().leave(&group.pools, until_us);
        if leaves { self.flush() } else { self.close() }
    }

    /// Changes the connection for the control thread, and marks it if it has frames to send then.
    fn change(self: &Rc<Self>, change: impl FnOnce(&mut Connection)) {
        let mut connection = self.connection.borrow_mut();
        change(&mut connection);
        self.mark_dirty(&connection);
    }
}
