//! The control connection: the session is opened, watched and, when it is lost, followed by another one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use dst_session::device_change::{self, DeviceChange};
use dst_session::mutation::{self, Mutation};
use dst_transport::Broken;
use dst_wire::{Device, Previous, RefusalReason, Welcome};
use spdk::bdev_module::Registered;
use spdk::poller::Poller;

use crate::client::Attached;
use crate::disk::DstDisk;
use crate::error::Error;
use crate::link::{Link, Step, Wanted};
use crate::log::Limit;
use crate::message::{Message, Messages};
use crate::shared::{Session, Shared};

/// How long an answer waits for the first attempt where nobody waits for the attach, ms. It is here within a few round
/// trips if the target is: then whatever comes next in a configuration, an export of the bdev for one, finds the bdev.
const FIRST_ATTEMPT_MS: u32 = 500;

/// Bytes of the control connection's receive buffer.
const BUFFER: usize = 8 << 10;

/// What the control thread knows of a bdev.
pub struct Control {
    shared: Arc<Shared>,
    pub link: Link,
    messages: Messages,
    pub disk: Option<Registered<DstDisk>>,
    /// What was negotiated at the last welcome.
    pub welcome: Option<Welcome>,
    /// The session that is followed by another one: the target does not know it any more.
    previous: Option<Previous>,
    /// A session that channels may not join yet, because of what they sent in the one before.
    held_back: Option<Session>,
    pub waiting: Option<Attached>,
    /// Whether who waits wants to know that it is attached, rather than that it is tried.
    wait: bool,
    attach_deadline_us: u64,
    pub log: Limit,
    /// For changes of the size, which must not hide that a connection was lost.
    pub sizes: Limit,
    /// Connections made after one was lost, and connections lost.
    pub reconnects: u64,
    pub lost: u64,
    pub state: State,
    pub state_since_us: u64,
    pub poller: Option<Poller>,
}

/// What people are told of a bdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no bdev yet.
    Attaching,
    /// All connections are there.
    Connected,
    /// At least one is not.
    Reconnecting,
    /// The device can't be had any more.
    Failed,
}

/// What to do after the link was looked at, with nothing borrowed.
pub enum After {
    Nothing,
    Attach(Box<Welcome>),
    /// Who waits may go on.
    Answer,
    GiveUp(Error),
    Change(DeviceChange),
}

impl Control {
    /// One that begins to connect.
    pub fn new(shared: &Arc<Shared>, wait: bool, now: u64) -> Control {
        let patience_ms = if wait { shared.options.attach_timeout_ms } else { FIRST_ATTEMPT_MS };
        Control {
            shared: Arc::clone(shared),
            link: Link::new(Arc::clone(shared), 0, BUFFER, now),
            messages: Messages::default(),
            disk: None,
            welcome: None,
            previous: None,
            held_back: None,
            waiting: None,
            wait,
            attach_deadline_us: now + u64::from(patience_ms) * 1000,
            log: Limit::default(),
            sizes: Limit::default(),
            reconnects: 0,
            lost: 0,
            state: State::Attaching,
            state_since_us: now,
            poller: None,
        }
    }

    /// A turn of the poller.
    pub fn turn(&mut self, now: u64, deleting: bool) -> After {
        self.note_state(now);
        if self.shared.given_up.swap(false, Relaxed) {
            self.give_up_session(now);
        }
        if self.link.is_up() {
            return match self.listen(now) {
                Ok(None) => self.watch(now),
                Ok(Some(change)) => After::Change(change),
                Err(broken) => {
                    if let Some(tail) = self.log.pass(now) {
                        let name = &self.shared.name;
                        spdk::warn!("DST bdev {name}: control connection lost: {broken}{tail}");
                    }
                    self.lost(now);
                    After::Nothing
                }
            };
        }
        if deleting || self.shared.failed.load(Relaxed) {
            return After::Nothing;
        }
        let wanted = match self.shared.session() {
            Some(session) => Wanted::Join(session.id),
            None => Wanted::Open(self.previous),
        };
        match self.link.advance(now, wanted) {
            Step::Up(welcome, messages) => {
                self.messages = messages;
                self.shared.doubted.store(false, Relaxed);
                if self.disk.is_some() {
                    self.reconnects += 1;
                }
                After::Attach(welcome)
            }
            Step::Failed { why, refused } => self.attempt_failed(now, why, refused),
            Step::Nothing if self.waiting.is_some() && now >= self.attach_deadline_us => {
                if !self.wait {
                    return After::Answer;
                }
                let last = self.shared.last_error().unwrap_or_else(|| "no answer yet".to_owned());
                After::GiveUp(Error::Timeout { ms: self.shared.options.attach_timeout_ms, last })
            }
            Step::Nothing => After::Nothing,
        }
    }

    /// Takes what came, renews the lease.
    fn listen(&mut self, now: u64) -> Result<Option<DeviceChange>, Broken> {
        let (connection, buffer) = self.link.up().expect("the caller has looked");
        let pumped = connection.receiver.pump(&mut connection.stream, buffer, &mut self.messages)?;
        if pumped.received > 0 {
            connection.silence.heard(now);
        }
        connection.keep_alive(self.messages.acknowledged.take(), now)?;
        connection.send_control()?;
        let device = self.shared.device().expect("a welcome has told what the device is");
        let events = self.messages.inbox.drain(..).filter_map(|message| match message {
            Message::Event(event) => Some(event),
            _ => None,
        });
        Ok(device_change::newest(&device, events)?)
    }

    /// What else may have happened: a channel was told that there is no such session, a session that was
    /// held back may be joined.
    fn watch(&mut self, now: u64) -> After {
        if self.shared.doubted.swap(false, Relaxed) && self.shared.session().is_some() {
            // Whoever asks for the session on this connection's place learns the truth.
            self.lost(now);
        }
        if let Some(session) = self.held_back {
            let over = self.shared.leases_over_us().is_some_and(|over_us| now >= over_us);
            if over || mutation::is_on(Mutation::NoLeaseAtFailover) {
                self.publish(session);
            }
        }
        After::Nothing
    }

    /// The session ends: another one is opened when nothing of it is left at the target.
    fn give_up_session(&mut self, now: u64) {
        let (Some(session), Some(welcome)) = (self.shared.session(), &self.welcome) else { return };
        self.previous = Some(Previous { session: session.id, instance: welcome.instance });
        self.shared.set_session(None);
        if self.link.is_up() {
            return self.lost(now);
        }
        // An attempt under way asks for the session that was just given up, and might get it.
        if !mutation::is_on(Mutation::AttemptGoesOn) {
            self.link.close();
        }
        self.link.retry.restart(now);
    }

    fn publish(&mut self, session: Session) {
        self.held_back = None;
        self.shared.set_session(Some(session));
    }

    /// The target let us in, to the device that we know.
    pub fn joined(&mut self, welcome: &Welcome) {
        let id = welcome.session.id;
        if self.shared.session().is_some_and(|session| session.id == id) {
            return;
        }
        let instance = self.welcome.as_ref().map(|before| before.instance);
        if instance.is_some_and(|before| before != welcome.instance) && !welcome.cache_kept {
            self.restarted(&welcome.device);
        }
        let session = Session { id, start: self.shared.durability.start() };
        if self.previous.is_none() || welcome.previous_ended {
            self.publish(session);
        } else {
            spdk::notice!(
                "DST bdev {}: another target, which can't tell whether the one before has ended: \
                 I/O waits until its leases are over",
                self.shared.name
            );
            self.held_back = Some(session);
        }
    }

    /// The target was started anew.
    fn restarted(&mut self, device: &Device) {
        let channels = self.shared.counters();
        let all = channels.iter().map(|counters| &counters.written).chain([&self.shared.past.written]);
        if self.shared.durability.restarted(all) {
            spdk::error!(
                "DST bdev {}: the target was started anew and its device, {} blocks with a volatile cache, may have \
                 lost completed writes that were not flushed; the next flush of every channel fails",
                self.shared.name,
                device.num_blocks
            );
        }
    }

    /// The control connection is over. The session may not be.
    pub fn lost(&mut self, now: u64) {
        self.messages = Messages::default();
        self.held_back = None;
        self.lost += 1;
        self.link.lost(now);
    }

    fn attempt_failed(&mut self, now: u64, why: String, refused: Option<RefusalReason>) -> After {
        self.shared.attempt_failed(why.clone(), now);
        let mut all_tried = false;
        if refused == Some(RefusalReason::NoSession) && self.shared.session().is_some() {
            self.give_up_session(now);
        } else {
            all_tried = self.shared.next_address();
            if !all_tried {
                self.link.retry.failed_here(now);
            }
        }
        let final_no = matches!(
            refused,
            Some(RefusalReason::NotAllowed | RefusalReason::Version | RefusalReason::Protection)
        );
        if self.waiting.is_some() && !self.wait && all_tried {
            return After::Answer;
        }
        if self.waiting.is_some() && final_no && all_tried {
            let (export, host) = (self.shared.peer.export.clone(), self.shared.peer.host.clone());
            return After::GiveUp(Error::Refused { export, host, why });
        }
        // Later on even a "not allowed" is tried again: a target that was just started may not have its
        // exports yet.
        After::Nothing
    }

    fn note_state(&mut self, now: u64) {
        let shared = &self.shared;
        let all_up = self.link.is_up() && shared.connected.load(Relaxed) >= shared.channels.load(Relaxed);
        let state = match &self.disk {
            _ if shared.failed.load(Relaxed) => State::Failed,
            None => State::Attaching,
            Some(_) if all_up => State::Connected,
            Some(_) => State::Reconnecting,
        };
        if state != self.state {
            if state == State::Connected {
                self.shared.forget_error();
            }
            self.state = state;
            self.state_since_us = now;
        }
    }
}
