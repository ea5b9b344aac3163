//! Who gets in.

use std::net::SocketAddr;
use std::rc::Rc;

use dst_session::access::{Access, entry};
use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::{Agreed, Terms, agree, refuse};
use dst_session::slots::Slots;
use dst_wire::{Cipher, Device, Digest, Hello, Previous, Refusal, RefusalReason, SessionRef, Welcome};
use spdk::bdev::DescRef;
use spdk::clock::now_us;
use spdk::sock::Sock;

use crate::control::{ConnectionEntry, State, Target};
use crate::group::Join;
use crate::room::Place;
use crate::secure::Proof;
use crate::sessions::{Joined, Owner, Standing, random_id, short};

/// What is answered to a hello.
enum Answer {
    Welcome(Box<Welcome>, Option<Join>),
    /// Later, when these are gone, which are closed now if they are not yet.
    Later(Vec<u64>),
}

/// What a hello may have: the export, as far as its host may use it.
struct Admitted {
    agreed: Agreed,
    device: Device,
    /// The size that its client is told of, in blocks.
    told_blocks: u64,
    bdev: DescRef,
    cache_outlives_target: bool,
}

impl Target {
    /// A listener has a new connection: a group gets it, if there is room.
    pub(crate) fn accepted(self: &Rc<Self>, sock: Sock, peer: SocketAddr) {
        let mut state = self.state.borrow_mut();
        if state.stopping.is_some() {
            return;
        }
        let max = self.max_connections() as usize;
        let place = state.room.look(peer.ip(), state.connections.len(), max, &self.options.get());
        match place {
            Place::Free => {}
            Place::InsteadOf(oldest) => {
                state.room.evict(oldest);
                drop(state);
                self.evict(oldest);
                state = self.state.borrow_mut();
            }
            Place::None => {
                state.room.refused += 1;
                let connections = state.connections.len();
                self.flood_log.warn(format_args!(
                    "DST connection from {peer} closed: there are {connections}, none of which can go for it"
                ));
                return;
            }
        }
        let group = state.next_group % state.groups.len();
        state.next_group = group + 1;
        state.next_id += 1;
        let id = state.next_id;
        let entry = ConnectionEntry::new(group, peer, now_us());
        state.connections.insert(id, entry);
        state.room.enter(id, peer.ip());
        let (thread, control) = (state.groups[group].thread, self.thread);
        drop(state);
        let give = move || {
            let mut sock = Some(sock);
            crate::group::with(|group| {
                if let Some(sock) = sock.take() {
                    group.add(id, sock, peer);
                }
            });
            if sock.is_some() {
                crate::group::absent(control, id);
            }
        };
        if let Err(errno) = thread.send(give) {
            self.log.warn(format_args!("DST connection from {peer} closed: {errno}"));
            let mut state = self.state.borrow_mut();
            state.connections.remove(&id);
            state.room.leave(id);
        }
    }

    /// Whether listeners should wait for connections to be closed that were evicted.
    pub(crate) fn is_clearing(&self) -> bool {
        self.state.borrow().room.is_clearing()
    }

    /// Closes a connection that was not let in yet, for a newer one.
    fn evict(&self, id: u64) {
        let state = self.state.borrow();
        let handshakes = state.room.handshakes();
        let Some(peer) = state.connections.get(&id).map(|entry| entry.peer) else { return };
        drop(state);
        self.flood_log.warn(format_args!(
            "DST connection from {peer} closed for a newer one before it was let in: {handshakes} others are not either"
        ));
        self.close(id);
    }

    /// The group of a connection that has something to say. One that was evicted meanwhile gets no answer.
    pub(crate) fn group_of_open(&self, id: u64) -> Option<usize> {
        let of_open = |entry: &ConnectionEntry| (!entry.closed).then_some(entry.group);
        self.state.borrow().connections.get(&id).and_then(of_open)
    }

    /// A connection says hello.
    pub(crate) fn hello(self: &Rc<Self>, id: u64, hello: Hello, peer: SocketAddr) {
        let Some(group) = self.group_of_open(id) else { return };
        match self.answer(id, &hello, peer) {
            Ok(Answer::Welcome(welcome, join)) => {
                self.on_group(group, move |group| group.welcome(id, &welcome, join));
            }
            Ok(Answer::Later(others)) => others.into_iter().for_each(|other| self.close(other)),
            Err(refusal) => {
                let mut state = self.state.borrow_mut();
                state.refused_hellos += 1;
                state.refused_busy += u64::from(refusal.reason == RefusalReason::Busy);
                drop(state);
                self.refusal_log.warn(format_args!(
                    "DST host {:?} from {peer} refused at export {:?}: {}",
                    hello.host, hello.export, refusal.text
                ));
                let told = match refusal.reason {
                    // Nothing about what exists, whatever the log says.
                    RefusalReason::NotAllowed => refuse(refusal.reason, "not allowed"),
                    _ => refusal,
                };
                self.on_group(group, move |group| group.refuse(id, &told));
            }
        }
    }

    fn answer(&self, id: u64, hello: &Hello, peer: SocketAddr) -> Result<Answer, Refusal> {
        let proof = self.state.borrow().connections.get(&id).and_then(|entry| entry.proof.clone());
        let admitted = self.admit(hello, peer, proof.as_ref())?;
        self.count_in(id, hello)?;
        let answer = match hello.session {
            None => self.open(id, hello, peer, admitted),
            Some(reference) => self.join(id, hello, peer, reference, admitted),
        }?;
        self.state.borrow_mut().room.settle(id);
        Ok(answer)
    }

    /// Counts a connection among its host's, unless these are too many.
    fn count_in(&self, id: u64, hello: &Hello) -> Result<(), Refusal> {
        let owner = Owner::of(hello);
        let State { room, sessions, .. } = &mut *self.state.borrow_mut();
        // One that takes another's place adds none. The other is closed for it, and so is a third one that waits.
        let replaces = hello.session.is_some_and(|place| {
            let session = sessions.get(&place.id).filter(|session| session.owner == owner);
            let queue = session.and_then(|session| session.queues.get(&place.queue));
            queue.is_some_and(|queue| queue.connection.is_some())
        });
        let max = self.options.get().max_connections_per_host as usize;
        if room.count_in(id, &owner, if replaces { usize::MAX } else { max }) {
            return Ok(());
        }
        Err(refuse(RefusalReason::Busy, format!("the host has {max} connections, more are not allowed")))
    }

    /// Whether this host may use the export that it asks for, and how.
    fn admit(&self, hello: &Hello, peer: SocketAddr, proof: Option<&Proof>) -> Result<Admitted, Refusal> {
        let options = self.options.get();
        let state = self.state.borrow();
        let not_allowed = |why: &str| refuse(RefusalReason::NotAllowed, why);
        let export = state
            .exports
            .get(&hello.export)
            .filter(|export| export.deleting.is_none())
            .ok_or_else(|| not_allowed("there is no such export"))?;
        let entry = entry(&export.hosts, &hello.host, peer.ip())
            .ok_or_else(|| not_allowed("the export has no entry that lets this host in from there"))?;
        // Both at once: no hello in clear where there is a key, and no key but that of this entry.
        let shown = proof.filter(|proof| proof.owner == Owner::of(hello)).map(|proof| &proof.keys);
        if shown != entry.keys.as_ref() || proof.is_some() != entry.keys.is_some() {
            return Err(not_allowed(match (&entry.keys, proof) {
                (Some(_), None) => "its entry demands a key, it has shown none",
                _ => "it has not shown the key of this entry, but another one",
            }));
        }
        let access = entry.access;
        let access = if is_on(Mutation::NoAccess) { Access::ReadWrite } else { access };
        let terms = Terms {
            credits_max: options.queue_depth,
            keep_alive_max_ms: options.max_keep_alive_ms,
            require_digest: export.rules.require_digest,
            cipher: proof.map_or(Cipher::None, |proof| proof.cipher),
        };
        let agreed = agree(hello, &terms)?;
        Ok(Admitted {
            agreed,
            device: export.device(access),
            told_blocks: export.told_blocks,
            bdev: export.desc.handle(),
            cache_outlives_target: export.rules.cache_outlives_target,
        })
    }

    /// A hello that opens a session. It waits until nothing is left in the backend of what its host had at
    /// this export before.
    fn open(&self, id: u64, hello: &Hello, peer: SocketAddr, admitted: Admitted) -> Result<Answer, Refusal> {
        let owner = Owner::of(hello);
        let ours = |state: &State, previous: &Previous| {
            state.sessions.get(&previous.session).map(|session| session.owner == owner)
        };
        let found = hello.previous.and_then(|previous| ours(&self.state.borrow(), &previous));
        if let (Some(previous), Some(true)) = (hello.previous, found) {
            self.close_session(&previous.session, "its client opens another one");
        }
        let mut state = self.state.borrow_mut();
        let must_wait = state.is_draining(&owner) && !is_on(Mutation::NoSessionFence);
        let entry = state.connections.get_mut(&id).expect("its hello came just now");
        let waited = entry.opens.take().is_some();
        if must_wait {
            if !waited {
                self.log.notice(format_args!(
                    "DST host {:?} from {peer}: its new session at export {:?} waits until the backend has \
                     finished what is left of the ones before",
                    hello.host, hello.export
                ));
            }
            entry.opens = Some(Box::new(hello.clone()));
            return Ok(Answer::Later(Vec::new()));
        }
        if state.sessions.len() >= self.options.get().max_sessions as usize {
            let other = state.sessions.least_needed(&owner);
            let too_many =
                || refuse(RefusalReason::Busy, "the target has too many sessions, all of them in use");
            let other = other.ok_or_else(too_many)?;
            drop(state);
            self.close_session(&other, "it has no connection, and another one needs its place");
            state = self.state.borrow_mut();
        }
        // What is said of another's session would be said to whoever has no right to know.
        let previous_ended = hello.previous.is_some_and(|previous| {
            let is_ours = previous.instance == self.instance.id();
            found != Some(false) && (is_ours || self.instance.has_ended(previous.instance))
        });
        let session = random_id();
        self.log.notice(format_args!(
            "DST host {:?} from {peer} opens session {} at export {:?}{}",
            hello.host,
            short(&session),
            hello.export,
            match hello.previous {
                None => "",
                Some(_) if previous_ended => ", the one before has ended",
                Some(_) => ", whether the one before has ended is not known here",
            }
        ));
        state.sessions.open(session, id, owner, peer, now_us(), waited);
        let place = SessionRef { id: session, queue: 0, epoch: 0 };
        Ok(self.welcome(&mut state, id, place, previous_ended, None, admitted))
    }

    /// A hello that joins a session. It waits until the connection that its queue had before has finished.
    fn join(
        &self,
        id: u64,
        hello: &Hello,
        peer: SocketAddr,
        reference: SessionRef,
        admitted: Admitted,
    ) -> Result<Answer, Refusal> {
        let owner = Owner::of(hello);
        let is_late = self
            .state
            .borrow()
            .sessions
            .get(&reference.id)
            .is_some_and(|session| session.owner == owner && session.has_given_up(reference.queue));
        if is_late {
            // What of its last transactions was executed is not known any more. Its client has to begin
            // anew, with all queues: another connection of this session would tell it that all is well.
            self.close_session(&reference.id, "a queue came back after its record was given up");
        }
        let queues_max = self.options.get().max_connections as usize;
        self.make_room_for_queue(hello, queues_max);
        let mut state = self.state.borrow_mut();
        let Joined { is_again, standing } = state.sessions.join(id, hello, peer, queues_max)?;
        let entry = state.connections.get_mut(&id).expect("its hello came just now");
        entry.place = Some(reference);
        entry.owner = Some(owner);
        if is_again {
            let waits = matches!(standing, Standing::After { .. });
            self.log.notice(format_args!(
                "DST host {:?} from {peer} comes back as queue {} of session {}, epoch {}{}",
                hello.host,
                reference.queue,
                short(&reference.id),
                reference.epoch,
                if waits { ": it waits for the connection before it" } else { "" }
            ));
        }
        let slots = match standing {
            Standing::After { predecessor, superseded } => {
                return Ok(Answer::Later(superseded.into_iter().chain([predecessor]).collect()));
            }
            Standing::Now(_) if reference.queue == 0 => None,
            Standing::Now(slots) => Some(slots.unwrap_or_else(|| Slots::new(admitted.agreed.credits))),
        };
        Ok(self.welcome(&mut state, id, reference, false, slots, admitted))
    }

    /// Ends a session if there are too many queues for this hello's to join: else records that nobody comes back for would
    /// keep all others out. Its client begins anew, like one whose record was given up.
    fn make_room_for_queue(&self, hello: &Hello, queues_max: usize) {
        let state = self.state.borrow();
        let other = state.sessions.lacks_room(hello, queues_max).then(|| state.sessions.least_used());
        drop(state);
        if let Some(other) = other.flatten() {
            self.close_session(&other, "most of its queues have no connection, and others need their place");
        }
    }

    /// The welcome of a connection that has its place. With the record of its queue it may carry requests.
    fn welcome(
        &self,
        state: &mut State,
        id: u64,
        session: SessionRef,
        previous_ended: bool,
        slots: Option<Slots>,
        admitted: Admitted,
    ) -> Answer {
        let Admitted { agreed, device, told_blocks, bdev, cache_outlives_target } = admitted;
        let entry = state.connections.get_mut(&id).expect("its hello came just now");
        entry.place = Some(session);
        if let Some(known) = state.sessions.get_mut(&session.id) {
            known.digest = agreed.digest;
            known.cipher = agreed.cipher;
            entry.owner = Some(known.owner.clone());
        }
        entry.welcomed = true;
        let owner = entry.owner.clone();
        if slots.is_some()
            && let Some(session_entry) = state.sessions.get_mut(&session.id)
            && let Some(queue) = session_entry.queues.get_mut(&session.queue)
        {
            queue.lent = true;
        }
        let unit = device.block_size * device.write_unit_size;
        let max_transfer = self.options.get().max_transfer / unit * unit;
        let welcome = Welcome {
            version: agreed.version,
            instance: self.instance.id(),
            session,
            device: Device { num_blocks: told_blocks, ..device },
            previous_ended,
            // That the one before has ended is only known of one on this machine, since it was started.
            cache_kept: previous_ended && cache_outlives_target,
            credits: slots.as_ref().map_or(agreed.credits, Slots::credits),
            max_transfer,
            digest: agreed.digest,
            cipher: agreed.cipher,
            keep_alive_ms: agreed.keep_alive_ms,
        };
        let join = slots.zip(owner).map(|(slots, owner)| Join {
            bdev,
            device,
            max_transfer,
            has_digests: agreed.digest == Digest::Crc32c,
            slots,
            owner,
        });
        Answer::Welcome(Box::new(welcome), join)
    }
}
