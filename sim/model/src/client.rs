//! A client: the rules of `src/session`, in the order in which `src/client` applies them, without
//! threads and timers. Anything may happen at any time: an attempt to connect, a loss, a deadline.

use std::hash::{Hash, Hasher};

use dst_session::deadline::Availability;
use dst_session::fence::{Departure, Fence, Sent, Verdict};
use dst_session::lease::Held;
use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::check_welcome;
use dst_session::tenure::Tenure;
use dst_wire::{Header, Hello, InNewSession, Previous, RefusalReason, SessionRef, Status, VERSION, Welcome};

use crate::channel::{Link, ModelChannel, SessionId};
use crate::ledger::{Io, Ledger};
use crate::wire::{Down, Key, Wire};
use crate::world::World;

/// A client's process.
#[derive(Debug, Clone)]
pub struct Client {
    /// The connection of queue 0.
    pub control: Link,
    /// The channels. The first one is queue 1.
    pub channels: Vec<ModelChannel>,
    /// The session that channels join; `None` while there is none.
    pub session: Option<SessionId>,
    /// Counts the changes of `session`.
    pub session_changes: u64,
    /// The session and the target's instance in the last Welcome of the control connection.
    welcomed: Option<Previous>,
    /// The session whose place a new session takes.
    pub previous: Option<Previous>,
    /// A session that channels may not join yet.
    pub held_back: Option<SessionId>,
    next_epoch: u32,
    /// When the last lease of the channels' lost connections ends.
    leases_over_us: u64,
    /// Whether a channel was told that the target does not know the session.
    pub is_doubted: bool,
    /// Whether the session has to be given up, because a channel's I/O must fail although the
    /// backend may have it.
    pub is_given_up: bool,
    /// Whether the bdev is being deleted.
    pub is_closing: bool,
    /// The target process to which the client connects.
    pub address: u8,
    /// The client's claim to the ownership of the export.
    pub tenure: Tenure,
}

impl Client {
    /// Returns a client that has just started.
    pub fn new(world: &World, tenure: Tenure) -> Client {
        Client {
            control: Link::Down,
            channels: (0..world.queues).map(|_| ModelChannel::new(world.slab)).collect(),
            session: None,
            session_changes: 0,
            welcomed: None,
            previous: None,
            held_back: None,
            next_epoch: 1,
            leases_over_us: 0,
            is_doubted: false,
            is_given_up: false,
            is_closing: false,
            address: 0,
            tenure,
        }
    }

    /// Adds to the hash whatever determines the behaviour from `now_us` on.
    pub fn canonical(&self, now_us: u64, hasher: &mut impl Hasher) {
        let Client {
            control,
            channels,
            session,
            session_changes,
            welcomed,
            previous,
            held_back,
            next_epoch,
            leases_over_us,
            is_doubted,
            is_given_up,
            is_closing,
            address,
            tenure,
        } = self;
        control.canonical(now_us, hasher);
        channels.iter().for_each(|channel| channel.canonical(now_us, hasher));
        (session, session_changes, welcomed, previous, held_back, next_epoch).hash(hasher);
        (leases_over_us.saturating_sub(now_us), is_doubted, is_given_up, is_closing, address, tenure)
            .hash(hasher);
    }

    /// Returns a queue's link.
    pub fn link(&self, queue: u16) -> &Link {
        match queue {
            0 => &self.control,
            queue => &self.channels[usize::from(queue) - 1].link,
        }
    }

    /// Returns a queue's link, for changing it.
    pub fn link_mut(&mut self, queue: u16) -> &mut Link {
        match queue {
            0 => &mut self.control,
            queue => &mut self.channels[usize::from(queue) - 1].link,
        }
    }

    /// Returns a queue's channel.
    pub fn channel(&mut self, queue: u16) -> &mut ModelChannel {
        &mut self.channels[usize::from(queue) - 1]
    }

    /// Returns the queue that uses a connection.
    pub fn queue_of(&self, key: Key) -> Option<u16> {
        (0..=self.channels.len() as u16).find(|&queue| self.link(queue).key() == Some(key))
    }

    /// Returns whether the client has stopped trying to reach the target.
    pub fn is_over(&self) -> bool {
        Availability::new(self.is_closing, false).is_over()
    }

    /// Returns whether a queue has nothing left to do. Queue 0 is the last one.
    pub fn is_done(&self, queue: u16) -> bool {
        match queue {
            0 => self.channels.iter().all(|channel| !channel.link.is_up()),
            queue => {
                let channel = &self.channels[usize::from(queue) - 1];
                channel.transactions.outstanding() == 0 && channel.waiting.is_empty()
            }
        }
    }

    /// Returns the Hello for a queue's next connection, or `None` if there is no session to join
    /// yet.
    pub fn hello(&mut self, host: u8, queue: u16, world: &World) -> Option<Hello> {
        if self.is_over() {
            return None;
        }
        let (session, previous) = match (self.session, queue) {
            (None, 0) => (None, self.previous),
            (None, _) => return None,
            (Some(id), queue) => {
                let epoch = self.next_epoch;
                self.next_epoch += 1;
                (Some(SessionRef { id, queue, epoch }), None)
            }
        };
        Some(Hello {
            versions: (VERSION, VERSION),
            export: crate::target::EXPORT.to_owned(),
            host: world.host_name(host),
            session,
            previous,
            claim: self.tenure.claim().filter(|_| session.is_none()),
            credits: world.slab,
            digests: vec![0],
            ciphers: vec![0],
            keep_alive_ms: world.keep_alive_ms,
            aborts: false,
        })
    }

    /// Takes a frame that arrived on a queue's connection. Returns whether the client closes the
    /// connection.
    pub fn read(
        &mut self,
        queue: u16,
        frame: Down,
        now_us: u64,
        ledger: &mut Ledger,
        wire: &mut Wire,
        world: &World,
    ) -> bool {
        match (self.link(queue).clone(), frame) {
            (Link::Greeting { key, hello }, Down::Welcome(welcome)) => {
                if let Err(error) = check_welcome(&hello, &welcome) {
                    ledger.broken(0, format!("the client does not take the welcome: {error}"));
                    return true;
                }
                let lease = world.has_lease(queue).then(|| Held::new(welcome.keep_alive_ms, now_us));
                match queue {
                    0 => {
                        self.control = Link::Up { key, lease };
                        self.is_doubted = false;
                        self.tenure.welcomed(welcome.ownership.filter(|_| hello.session.is_none()));
                        self.joined(&welcome);
                        false
                    }
                    queue => !self.up(queue, &welcome, Link::Up { key, lease }, ledger, wire),
                }
            }
            (Link::Greeting { hello, .. }, Down::Refusal(refusal)) => {
                if let Some(newest) = &refusal.ownership {
                    self.tenure.refused(newest, &hello.host);
                }
                let no_session = refusal.reason == RefusalReason::NoSession && self.session.is_some();
                *self.link_mut(queue) = Link::Down;
                match queue {
                    0 if no_session => self.give_up_session(now_us),
                    0 => {}
                    _ => self.is_doubted |= no_session,
                }
                true
            }
            (Link::Up { .. }, Down::KeepAliveAck(id)) => {
                if let Link::Up { lease: Some(lease), .. } = self.link_mut(queue) {
                    lease.acknowledged(id, now_us);
                }
                false
            }
            (Link::Up { .. }, Down::Answer { header, found }) if queue > 0 => {
                let channel = self.channel(queue);
                let header = Header::decode(&header).expect("the target's frames are whole");
                match channel.transactions.answer(&header) {
                    Ok(answer) => {
                        let (io, _, _) = channel.transactions.finish(answer.slot);
                        ledger.complete(io, answer.status == Status::Success, found);
                        channel.begin(ledger, wire);
                        false
                    }
                    Err(violation) => {
                        ledger.broken(0, format!("the target breaks the protocol: {violation}"));
                        true
                    }
                }
            }
            (Link::Up { .. }, Down::Event(_)) => {
                self.is_closing = true;
                false
            }
            (_, frame) => {
                ledger.broken(0, format!("queue {queue} is sent {frame:?}"));
                true
            }
        }
    }

    /// The control connection was admitted to the session that its Hello named, or to the one that
    /// it opened.
    fn joined(&mut self, welcome: &Welcome) {
        let id = welcome.session.id;
        self.welcomed = Some(Previous { session: id, instance: welcome.instance });
        if self.session == Some(id) {
            return;
        }
        if self.previous.is_none() || welcome.previous_ended {
            self.publish(id);
        } else {
            self.held_back = Some(id);
        }
    }

    fn publish(&mut self, id: SessionId) {
        self.held_back = None;
        self.set_session(Some(id));
    }

    fn set_session(&mut self, session: Option<SessionId>) {
        self.session = session;
        self.session_changes += 1;
    }

    /// Returns when nothing that was sent on lost connections is executed any more, or `None` while
    /// a channel has a connection.
    fn leases_over_us(&self) -> Option<u64> {
        let is_up = self.channels.iter().any(|channel| channel.link.is_up());
        (!is_up).then_some(self.leases_over_us)
    }

    /// Gives up the session. The client opens another one, which the target admits when nothing of
    /// this one is left.
    fn give_up_session(&mut self, now_us: u64) {
        let (Some(session), Some(welcomed)) = (self.session, self.welcomed) else { return };
        self.previous = Some(Previous { session, ..welcomed });
        self.set_session(None);
        if self.control.is_up() {
            self.control_lost(now_us);
        } else if !is_on(Mutation::AttemptGoesOn) {
            self.control = Link::Down;
        }
    }

    /// The control connection has ended.
    pub fn control_lost(&mut self, _now_us: u64) {
        self.control = Link::Down;
        self.held_back = None;
    }

    /// Returns whether control has something to do that no frame tells it.
    pub fn control_wants_turn(&self, now_us: u64) -> bool {
        self.is_given_up
            || self.control.is_up()
                && (self.is_doubted && self.session.is_some()
                    || self.held_back.is_some()
                        && (self.leases_over_us().is_some_and(|over_us| now_us >= over_us)
                            || is_on(Mutation::NoLeaseAtFailover)))
    }

    /// Runs a turn of the control thread.
    pub fn control_turn(&mut self, now_us: u64) {
        if std::mem::take(&mut self.is_given_up) {
            return self.give_up_session(now_us);
        }
        if std::mem::take(&mut self.is_doubted) && self.session.is_some() {
            return self.control_lost(now_us);
        }
        if let Some(session) = self.held_back {
            self.publish(session);
        }
    }

    /// A channel's connection was admitted. Returns whether the channel uses it.
    fn up(
        &mut self,
        queue: u16,
        welcome: &Welcome,
        link: Link,
        ledger: &mut Ledger,
        wire: &mut Wire,
    ) -> bool {
        let current = self.session.filter(|&session| session == welcome.session.id);
        let is_over = self.is_over();
        let channel = self.channel(queue);
        channel.link = Link::Down;
        let old = channel.session.filter(|_| is_on(Mutation::OldWelcome));
        // Without a match, the session was given up while the channel joined it.
        let Some(session) = current.or(old) else { return false };
        channel.fence = Fence::Confirmed;
        let before = channel.session.replace(session);
        let mut failed = Vec::new();
        if before.is_some_and(|before| before != session) {
            let repeats = is_on(Mutation::RepeatUnrepeatable);
            channel.transactions.abandon(
                |request, _| match request.op.describe().in_new_session {
                    InNewSession::Fails => !repeats,
                    InNewSession::SentAgain | InNewSession::SentAgainUnlessWritesWereLost => false,
                },
                |io| failed.push(io),
            );
        }
        failed.into_iter().for_each(|io| ledger.complete(io, false, None));
        channel.expire(is_over, ledger);
        if !channel.transactions.grant(welcome.credits, None) {
            return false;
        }
        channel.link = link;
        channel.begin(ledger, wire);
        true
    }

    /// Returns whether a channel has something to do that no frame tells it.
    pub fn channel_wants_turn(&self, queue: u16, now_us: u64) -> bool {
        let channel = &self.channels[usize::from(queue) - 1];
        if channel.link.is_up() {
            return channel.session_change != self.session_changes || channel.has_overdue();
        }
        channel.session_change != self.session_changes
            || (self.is_over() && !channel.waiting.is_empty())
            || match self.verdict(queue, now_us) {
                Some(Verdict::Fail) => true,
                Some(Verdict::GiveUpSession) => !self.is_given_up,
                Some(Verdict::Wait) | None => false,
            }
    }

    /// Returns what may be done with the requests that a channel has sent, or `None` if nothing
    /// needs to be done.
    fn verdict(&self, queue: u16, now_us: u64) -> Option<Verdict> {
        let channel = &self.channels[usize::from(queue) - 1];
        if channel.transactions.outstanding() == 0 || !(channel.has_overdue() || self.is_over()) {
            return None;
        }
        let departure = || {
            if self.session == channel.session {
                Departure::NotBegun
            } else if self.channels.iter().all(|other| other.session_change >= self.session_changes) {
                Departure::Complete
            } else {
                Departure::Begun
            }
        };
        Some(channel.fence.verdict(now_us, Sent::HasToFail, departure))
    }

    /// Runs a turn of a channel. Returns whether the channel closes its connection.
    pub fn channel_turn(&mut self, queue: u16, now_us: u64, ledger: &mut Ledger) -> bool {
        if self.channel(queue).link.is_up() {
            self.channel_lost(queue, now_us, ledger);
            return true;
        }
        let (changes, is_over) = (self.session_changes, self.is_over());
        // Done in a later turn than the one that sees the change, so that another channel's turn
        // may come between.
        let channel = self.channel(queue);
        if channel.session_change != changes {
            channel.session_change = changes;
            return false;
        }
        if is_over {
            while let Some(io) = channel.waiting.pop_front() {
                ledger.complete(io, false, None);
            }
        }
        match self.verdict(queue, now_us) {
            Some(Verdict::Fail) => self.channel(queue).expire(is_over, ledger),
            Some(Verdict::GiveUpSession) => self.is_given_up = true,
            Some(Verdict::Wait) | None => {}
        }
        false
    }

    /// A channel has lost its connection.
    pub fn channel_lost(&mut self, queue: u16, _now_us: u64, ledger: &mut Ledger) {
        let channel = self.channel(queue);
        let Link::Up { lease, .. } = std::mem::replace(&mut channel.link, Link::Down) else { return };
        let over_us = channel.fence.lost(lease.map_or(u64::MAX, |lease| lease.over_us()));
        channel.transactions.disconnected(dst_session::transactions::Unanswered::MayBeExecuted);
        if is_on(Mutation::LossAnswers) {
            channel.transactions.abandon(|_, _| true, |io| ledger.complete(io, true, None));
        }
        self.leases_over_us = self.leases_over_us.max(over_us);
    }

    /// A channel's next I/O has reached its deadline.
    pub fn overdue(&mut self, queue: u16, io: Io, ledger: &mut Ledger) {
        let channel = self.channel(queue);
        channel.overdue = io + 1;
        if let Some(position) = channel.waiting.iter().position(|&other| other == io) {
            // The I/O was never sent.
            channel.waiting.remove(position);
            ledger.complete(io, false, None);
        }
    }
}
