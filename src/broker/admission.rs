//! Admission: which hellos are answered with a Welcome, and what must have ended before that.

use dst_session::access::{Access, entry};
use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::{Agreed, Terms, agree, refuse};
use dst_session::slots::Slots;
use dst_wire::{Cipher, Device, Digest, Hello, Refusal, RefusalReason, SessionRef, Welcome};

use crate::broker::Broker;
use crate::connection::{Opening, PendingHello, PreviousProcess, Proof, QueueRef, Stage};
use crate::ids::{ClientId, ConnectionId, short};
use crate::output::{Joining, Order, Output, Topic};
use crate::ownership::{Applicant, OwnershipChange, Permit};
use crate::sessions::{Joined, QueueGrant, Session};

/// The decision about a hello.
enum Decision {
    /// The connection is admitted.
    Welcome(QueueRef, Box<Welcome>, Option<Box<Joining>>),
    /// The connection waits until the backend holds nothing of closed connections: those of its
    /// host at the export or, if the session will own the export, those of all hosts at the export.
    WaitToOpen,
    /// The connection waits until the ownership of its host is durable.
    WaitToOwn,
    /// The connection waits until these connections are gone, which are to be closed now.
    WaitForQueue(QueueRef, Vec<ConnectionId>),
}

/// What a hello's host may have of the export that the hello names.
struct Admitted {
    agreed: Agreed,
    access: Access,
    device: Device,
    /// The size that the client is told, in blocks.
    told_blocks: u64,
    /// The instance that the client is told. A client that sees another instance than before takes
    /// it for a restarted target.
    instance: [u8; 16],
    /// Whether nothing of the client's previous session is executed any more and everything completed
    /// in it is durable, as the note of an orderly stop says.
    is_noted: bool,
    cache_outlives_target: bool,
}

/// The parts of a Welcome that depend on how the connection was admitted.
struct Entrance {
    previous_ended: bool,
    cache_kept: bool,
    /// The number of the session's ownership, if the session has one.
    ownership: Option<u64>,
    /// The record of the queue, if the connection carries requests.
    slots: Option<Slots>,
}

impl Broker {
    /// Handles a connection's hello. A connection that was evicted meanwhile is not answered.
    pub(crate) fn hello(&mut self, id: ConnectionId, hello: Box<Hello>, opening: Opening) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let Stage::Handshaking { proof } = &mut entry.stage else { return };
        let pending = PendingHello { hello, proof: proof.take() };
        self.decide(id, pending, false, Some(opening));
    }

    /// Decides again about a hello that waited to open a session.
    pub(crate) fn asked_again(&mut self, id: ConnectionId, opening: Opening) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if matches!(entry.stage, Stage::WaitingToOpen(_))
            && let Stage::WaitingToOpen(pending) = std::mem::replace(&mut entry.stage, Stage::Refused)
        {
            self.decide(id, pending, true, Some(opening));
        }
    }

    /// Decides again about a hello that waited for its queue, which is free now.
    pub(crate) fn queue_is_free(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if matches!(entry.stage, Stage::WaitingForQueue(..))
            && let Stage::WaitingForQueue(pending, _) = std::mem::replace(&mut entry.stage, Stage::Refused)
        {
            self.decide(id, pending, false, None);
        }
    }

    /// Decides about a hello. `waited` is true if the hello had to wait to open a session.
    /// `opening` is present if the hello opens a session.
    fn decide(&mut self, id: ConnectionId, pending: PendingHello, waited: bool, opening: Option<Opening>) {
        let answer = self.answer(id, &pending, waited, opening);
        let Some(entry) = self.connections.get_mut(&id) else { return };
        match answer {
            Ok(answer) => {
                self.room.settle(id);
                match answer {
                    Decision::Welcome(queue, welcome, joining) => {
                        entry.stage = Stage::Ready(queue);
                        self.order(id, Order::Welcome(welcome, joining));
                    }
                    Decision::WaitToOwn => entry.stage = Stage::WaitingToOwn(pending),
                    Decision::WaitToOpen => entry.stage = Stage::WaitingToOpen(pending),
                    Decision::WaitForQueue(queue, others) => {
                        entry.stage = Stage::WaitingForQueue(pending, queue);
                        others.into_iter().for_each(|other| self.close(other));
                    }
                }
            }
            Err(refusal) => {
                self.past.fences += u64::from(waited);
                let why = refusal.text.clone();
                self.refuse(id, &ClientId::of(&pending.hello), &why, refusal);
            }
        }
    }

    fn answer(
        &mut self,
        id: ConnectionId,
        pending: &PendingHello,
        waited: bool,
        opening: Option<Opening>,
    ) -> Result<Decision, Refusal> {
        let PendingHello { hello, proof } = pending;
        let admitted = self.admit(id, hello, proof.as_ref())?;
        self.count_in(id, hello)?;
        match (hello.session, opening) {
            (Some(reference), _) => self.join(id, hello, reference, admitted),
            (None, Some(opening)) => self.open(id, hello, waited, opening, admitted),
            (None, None) => unreachable!("only a hello that joins has waited for a queue"),
        }
    }

    /// Counts a connection among those of its host, or refuses it if the host has too many.
    fn count_in(&mut self, id: ConnectionId, hello: &Hello) -> Result<(), Refusal> {
        let client = ClientId::of(hello);
        // A connection that replaces another one does not add to the number: the other one is
        // closed for it, and so is a third one that waits.
        let replaces = hello.session.is_some_and(|reference| {
            let session = self.sessions.get(&reference.id).filter(|session| session.client == client);
            let queue = session.and_then(|session| session.queue(reference.queue));
            queue.is_some_and(|queue| queue.connection().is_some())
        });
        let max = self.limits.max_connections_per_host as usize;
        if self.room.count_in(id, &client, if replaces { usize::MAX } else { max }) {
            return Ok(());
        }
        let text = format!("the host already has {max} connections to this export, the most allowed");
        Err(refuse(RefusalReason::Busy, text))
    }

    /// Returns what the hello's host may have of the export that the hello names, or the refusal to
    /// send.
    fn admit(&self, id: ConnectionId, hello: &Hello, proof: Option<&Proof>) -> Result<Admitted, Refusal> {
        let not_allowed = |why: &str| refuse(RefusalReason::NotAllowed, why);
        let peer = self.connections.get(&id).map(|entry| entry.peer.ip());
        let export = self
            .exports
            .get(&hello.export)
            .filter(|export| !export.is_deleting())
            .ok_or_else(|| not_allowed("there is no such export"))?;
        let entry = peer
            .and_then(|peer| entry(&export.hosts, &hello.host, peer))
            .ok_or_else(|| not_allowed("the export has no entry that lets this host in from there"))?;
        // This checks two rules: where the entry has a key, a hello in clear is refused, and no key
        // but that of this entry is accepted.
        let shown = proof.filter(|proof| proof.client == ClientId::of(hello)).map(|proof| &proof.keys);
        if shown != entry.keys.as_ref() || proof.is_some() != entry.keys.is_some() {
            return Err(not_allowed(match (&entry.keys, proof) {
                (Some(_), None) => "its entry demands a key, it has shown none",
                _ => "it has not shown the key of this entry, but another one",
            }));
        }
        let access = if is_on(Mutation::NoAccess) { Access::ReadWrite } else { entry.access };
        let terms = Terms {
            credits_max: self.limits.queue_depth,
            keep_alive_max_ms: self.limits.max_keep_alive_ms,
            require_digest: export.rules.require_digest,
            cipher: proof.map_or(Cipher::None, |proof| proof.cipher),
        };
        let agreed = agree(hello, &terms)?;
        let offline = || refuse(RefusalReason::Busy, "the export waits for its bdev");
        let online = export.online().ok_or_else(offline)?;
        Ok(Admitted {
            agreed,
            access,
            device: export.device_for(online.device, access),
            told_blocks: online.told_blocks,
            instance: online.instance,
            is_noted: hello.previous.is_some_and(|previous| online.predecessors.contains(&previous.instance)),
            cache_outlives_target: export.rules.cache_outlives_target,
        })
    }

    /// Decides about a hello that opens a session. The hello waits until the backend has finished
    /// what is left of the host's earlier connections to the export; if the session will own the
    /// export, those of all hosts.
    fn open(
        &mut self,
        id: ConnectionId,
        hello: &Hello,
        waited: bool,
        opening: Opening,
        admitted: Admitted,
    ) -> Result<Decision, Refusal> {
        let client = ClientId::of(hello);
        let ownership = match self.permit(hello, admitted.access)? {
            Permit::Shared => None,
            Permit::Owner(number) => Some(number),
            Permit::AfterChange(number) => {
                let change = OwnershipChange::Claim { number, host: client.host, claimant: id };
                self.change_ownership(&client.export, change);
                return Ok(Decision::WaitToOwn);
            }
            Permit::AfterRestore => {
                self.change_ownership(&client.export, OwnershipChange::Restore);
                let text = "the export's state file is being written again, since the last attempt has failed; \
                            try again later";
                return Err(refuse(RefusalReason::Busy, text));
            }
        };
        let peer = self.connections[&id].peer;
        let previous = hello.previous.as_ref();
        let found = previous
            .and_then(|previous| self.sessions.get(&previous.session))
            .map(|session| session.client == client);
        if let (Some(previous), Some(true)) = (previous, found) {
            self.close_session(&previous.session, "its client opens another one");
        }
        if ownership.is_some() && !is_on(Mutation::NoTakeoverEnd) {
            // This includes a session with the same ownership number: a copy of the owner's machine
            // has that number, too.
            self.close_sessions(&client.export, "the owner of its export opens another one");
        }
        let must_wait = match ownership {
            None => self.is_draining(&client) && !is_on(Mutation::NoSessionFence),
            Some(_) => self.is_draining_all(&client.export) && !is_on(Mutation::NoTakeoverFence),
        };
        if must_wait {
            if !waited {
                self.notice(Topic::Sessions, || {
                    format!(
                        "DST host {:?} from {peer}: its new session at export {:?} waits until the backend has \
                         finished the requests of closed connections",
                        hello.host, hello.export
                    )
                });
            }
            return Ok(Decision::WaitToOpen);
        }
        if self.sessions.len() >= self.limits.max_sessions as usize {
            let too_many =
                || refuse(RefusalReason::Busy, "the target has too many sessions, all of them in use");
            let other = self.sessions.least_needed(&client).ok_or_else(too_many)?;
            self.close_session(&other, "it has no connection, and another one needs its place");
        }
        // The Welcome does not depend on a session of another client, since it would then tell the
        // client something that it has no right to know.
        let has_ended = admitted.is_noted || opening.previous != PreviousProcess::Unknown;
        let previous_ended = previous.is_some() && found != Some(false) && has_ended;
        // `cache_outlives_target` promises that the cache survives the end of a target process. It
        // says nothing of a bdev that was gone while this process had no claim to it, so another
        // instance of this process means a loss.
        let may_be_lost = opening.previous == PreviousProcess::This
            && previous.is_some_and(|previous| previous.instance != admitted.instance);
        let outlives = admitted.is_noted || admitted.cache_outlives_target && !may_be_lost;
        let cache_kept = previous_ended && outlives;
        let session = opening.session;
        self.notice(Topic::Sessions, || {
            format!(
                "DST host {:?} from {peer} opens session {} at export {:?}{}",
                hello.host,
                short(&session),
                hello.export,
                match previous {
                    None => "",
                    Some(_) if previous_ended => ", the one before has ended",
                    Some(_) => ", and it is not known here whether the one before has ended",
                }
            )
        });
        self.sessions.open(session, id, client.clone(), peer, self.now_us, waited);
        let queue = QueueRef { client, session: SessionRef { id: session, queue: 0, epoch: 0 } };
        Ok(self.welcome(queue, Entrance { previous_ended, cache_kept, ownership, slots: None }, admitted))
    }

    /// Returns how the hello may open a session as far as the ownership of the export decides it,
    /// or the refusal to send.
    fn permit(&self, hello: &Hello, access: Access) -> Result<Permit, Refusal> {
        let shares = |session: &Session| session.client.export == hello.export && session.ownership.is_none();
        let applicant = Applicant {
            host: &hello.host,
            access,
            claim: hello.claim,
            shared_sessions: self.sessions.iter().filter(|(_, session)| shares(session)).count(),
        };
        let export = self.exports.get(&hello.export);
        export.map_or(Ok(Permit::Shared), |export| export.ownership.permit(&applicant))
    }

    /// Returns true if the backend may still hold requests of a closed connection of this export,
    /// or is being reset for a client, which would end the I/O of a client that is admitted now.
    pub(crate) fn is_draining_all(&self, export: &str) -> bool {
        let is_its = |stage: &Stage| match stage {
            Stage::Closing { queue: Some(queue), .. } => queue.client.export == export,
            _ => false,
        };
        self.resets.is_resetting(export) || self.connections.values().any(|entry| is_its(&entry.stage))
    }

    /// Returns true if the backend may still hold requests of a closed connection of this client, a
    /// reset among them.
    fn is_draining(&self, client: &ClientId) -> bool {
        let is_its = |stage: &Stage| match stage {
            Stage::Closing { queue: Some(queue), .. } => queue.client == *client,
            _ => false,
        };
        self.resets.is_resetting_for(client) || self.connections.values().any(|entry| is_its(&entry.stage))
    }

    /// Decides about a hello that joins a queue of a session. The hello waits until the queue's
    /// previous connection is gone.
    fn join(
        &mut self,
        id: ConnectionId,
        hello: &Hello,
        reference: SessionRef,
        admitted: Admitted,
    ) -> Result<Decision, Refusal> {
        let client = ClientId::of(hello);
        let session = self.sessions.get(&reference.id).filter(|session| session.client == client);
        if session.is_some_and(|session| session.has_given_up(reference.queue)) {
            // It is no longer known which of the queue's last transactions were executed. The
            // client has to start over with all its queues: another connection of this session
            // would tell it that all is well.
            self.close_session(&reference.id, "a queue came back after its record was given up");
        }
        let queues_max = self.limits.max_queues as usize;
        // Records for which no client comes back must not keep other clients out. The client whose
        // session ends starts over, like a client whose record was given up.
        if self.sessions.lacks_room(&client, &reference, queues_max)
            && let Some(other) = self.sessions.least_used()
        {
            self.close_session(&other, "most of its queues have no connection, and others need their place");
        }
        let Joined { is_again, grant } = self.sessions.join(id, &client, &reference, queues_max)?;
        if is_again {
            let peer = self.connections[&id].peer;
            let waits = matches!(grant, QueueGrant::After { .. });
            self.notice(Topic::Sessions, || {
                format!(
                    "DST host {:?} from {peer} comes back as queue {} of session {}, epoch {}{}",
                    hello.host,
                    reference.queue,
                    short(&reference.id),
                    reference.epoch,
                    if waits { ": it waits for the connection before it" } else { "" }
                )
            });
        }
        let queue = QueueRef { client, session: reference };
        let slots = match grant {
            QueueGrant::After { predecessor, superseded } => {
                let others = superseded.into_iter().chain([predecessor]).collect();
                return Ok(Decision::WaitForQueue(queue, others));
            }
            QueueGrant::Now(_) if reference.queue == 0 => None,
            QueueGrant::Now(slots) => Some(slots.unwrap_or_else(|| Slots::new(admitted.agreed.credits))),
        };
        let ownership = self.sessions.get(&reference.id).and_then(|session| session.ownership);
        Ok(self.welcome(
            queue,
            Entrance { previous_ended: false, cache_kept: false, ownership, slots },
            admitted,
        ))
    }

    /// Returns the Welcome for a connection that has its queue.
    fn welcome(&mut self, queue: QueueRef, entrance: Entrance, admitted: Admitted) -> Decision {
        let Admitted {
            agreed,
            access: _,
            device,
            told_blocks,
            instance,
            is_noted: _,
            cache_outlives_target: _,
        } = admitted;
        let Entrance { previous_ended, cache_kept, ownership, slots } = entrance;
        if let Some(session) = self.sessions.get_mut(&queue.session.id) {
            session.digest = agreed.digest;
            session.cipher = agreed.cipher;
            session.ownership = ownership;
        }
        let unit = device.block_size * device.write_unit_size;
        let max_transfer = self.limits.max_transfer / unit * unit;
        let welcome = Welcome {
            version: agreed.version,
            instance,
            session: queue.session,
            device: Device { num_blocks: told_blocks, ..device },
            previous_ended,
            cache_kept,
            ownership,
            credits: slots.as_ref().map_or(agreed.credits, Slots::credits),
            max_transfer,
            digest: agreed.digest,
            cipher: agreed.cipher,
            keep_alive_ms: agreed.keep_alive_ms,
            aborts: agreed.aborts,
        };
        let joining = slots.map(|slots| {
            let has_digests = agreed.digest == Digest::Crc32c;
            Box::new(Joining { device, max_transfer, has_digests, slots, client: queue.client.clone() })
        });
        Decision::Welcome(queue, Box::new(welcome), joining)
    }

    /// Notes that a connection's client has proved the key of its entry.
    pub(crate) fn key_shown(&mut self, id: ConnectionId, shown: Proof) {
        if let Some(entry) = self.connections.get_mut(&id)
            && let Stage::Handshaking { proof } = &mut entry.stage
        {
            *proof = Some(shown);
            self.room.prove(id);
        }
    }

    /// Refuses a connection whose client has not proved the key of its entry.
    pub(crate) fn key_refused(&mut self, id: ConnectionId, client: &ClientId, why: &str, refusal: Refusal) {
        self.refuse(id, client, why, refusal);
    }

    /// Asks again about the hellos that may go on because a connection of this client is gone:
    /// those of the same client that wait to open a session, and those that wait to open one as the
    /// owner of the export.
    pub(crate) fn ask_openers(&mut self, client: &ClientId) {
        self.ask_those(|hello| {
            hello.export == client.export && (hello.host == client.host || hello.claim.is_some())
        });
    }

    /// Asks again about the hellos that wait to open a session at an export, because a reset of its
    /// backend has ended.
    pub(crate) fn ask_after_reset(&mut self, export: &str) {
        self.ask_those(|hello| hello.export == export);
    }

    /// Asks again about those hellos that wait to open a session and for which `which` returns
    /// true.
    fn ask_those(&mut self, which: impl Fn(&Hello) -> bool) {
        let mut waiting = Vec::new();
        for (&connection, entry) in &self.connections {
            if let Stage::WaitingToOpen(PendingHello { hello, .. }) = &entry.stage
                && which(hello)
            {
                waiting.push((connection, hello.previous.map(|previous| previous.instance)));
            }
        }
        for (connection, instance) in waiting {
            self.output(Output::AskAgain { connection, instance });
        }
    }
}
