//! Who gets in, and what has to be over before.

use dst_session::access::{Access, entry};
use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::{Agreed, Terms, agree, refuse};
use dst_session::slots::Slots;
use dst_wire::{Cipher, Device, Digest, Hello, Refusal, RefusalReason, SessionRef, Welcome};

use crate::broker::Broker;
use crate::connection::{Application, Opening, Proof, QueueRef, Stage};
use crate::ids::{ConnectionId, Owner, short};
use crate::output::{Joining, Order, Output, Topic};
use crate::ownership::{Applicant, Change, Permit};
use crate::sessions::{Joined, Session, Standing};

/// What a hello is answered with.
enum Answer {
    /// The connection is let in.
    Welcome(QueueRef, Box<Welcome>, Option<Box<Joining>>),
    /// The connection waits until nothing is left of its host's closed connections.
    WaitToOpen,
    /// The connection waits until it is durable that its host owns the export.
    WaitToOwn,
    /// The connection waits until these are gone, which are closed now.
    WaitForQueue(QueueRef, Vec<ConnectionId>),
}

/// What a hello may have: the export, as far as its host may use it.
struct Admitted {
    agreed: Agreed,
    access: Access,
    device: Device,
    /// The size that the client is told of, in blocks.
    told_blocks: u64,
    /// What the client takes for a start of the target.
    instance: [u8; 16],
    /// What is known of the start that the client's session before was with.
    previous: Before,
    cache_outlives_target: bool,
}

/// What is known of the target's start that a client's session before was with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// There was none, or nothing is known of it.
    Unknown,
    /// It is this one.
    Same,
    /// It was one of this process: the bdev of the export was gone since.
    Former,
}

/// The welcome's parts that depend on how the connection got in.
struct Entrance {
    previous_ended: bool,
    /// The number of the session's ownership.
    ownership: Option<u64>,
    /// The record of the queue, for a connection that carries requests.
    slots: Option<Slots>,
}

impl Broker {
    /// A connection says hello. One that was evicted meanwhile gets no answer.
    pub(crate) fn hello(&mut self, id: ConnectionId, hello: Box<Hello>, opening: Opening) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let Stage::Handshaking { proof } = &mut entry.stage else { return };
        let application = Application { hello, proof: proof.take() };
        self.apply(id, application, false, Some(opening));
    }

    /// A hello that waited to open a session is decided on again.
    pub(crate) fn asked_again(&mut self, id: ConnectionId, opening: Opening) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if matches!(entry.stage, Stage::WaitingToOpen(_))
            && let Stage::WaitingToOpen(application) = std::mem::replace(&mut entry.stage, Stage::Refused)
        {
            self.apply(id, application, true, Some(opening));
        }
    }

    /// The queue is free that a connection has waited for.
    pub(crate) fn queue_is_free(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if matches!(entry.stage, Stage::WaitingForQueue(..))
            && let Stage::WaitingForQueue(application, _) =
                std::mem::replace(&mut entry.stage, Stage::Refused)
        {
            self.apply(id, application, false, None);
        }
    }

    /// Decides about a hello. `waited`: it had to wait to open a session. `opening` is for one that
    /// opens a session.
    fn apply(&mut self, id: ConnectionId, application: Application, waited: bool, opening: Option<Opening>) {
        let answer = self.answer(id, &application, waited, opening);
        let Some(entry) = self.connections.get_mut(&id) else { return };
        match answer {
            Ok(answer) => {
                self.room.settle(id);
                match answer {
                    Answer::Welcome(queue, welcome, joining) => {
                        entry.stage = Stage::Ready(queue);
                        self.order(id, Order::Welcome(welcome, joining));
                    }
                    Answer::WaitToOwn => entry.stage = Stage::WaitingToOwn(application),
                    Answer::WaitToOpen => entry.stage = Stage::WaitingToOpen(application),
                    Answer::WaitForQueue(queue, others) => {
                        entry.stage = Stage::WaitingForQueue(application, queue);
                        others.into_iter().for_each(|other| self.close(other));
                    }
                }
            }
            Err(refusal) => {
                self.past.fences += u64::from(waited);
                let why = refusal.text.clone();
                self.refuse(id, &Owner::of(&application.hello), &why, refusal);
            }
        }
    }

    fn answer(
        &mut self,
        id: ConnectionId,
        application: &Application,
        waited: bool,
        opening: Option<Opening>,
    ) -> Result<Answer, Refusal> {
        let Application { hello, proof } = application;
        let admitted = self.admit(id, hello, proof.as_ref())?;
        self.count_in(id, hello)?;
        match (hello.session, opening) {
            (Some(reference), _) => self.join(id, hello, reference, admitted),
            (None, Some(opening)) => self.open(id, hello, waited, opening, admitted),
            (None, None) => unreachable!("only a hello that joins has waited for a queue"),
        }
    }

    /// Counts a connection among its host's, unless these are too many.
    fn count_in(&mut self, id: ConnectionId, hello: &Hello) -> Result<(), Refusal> {
        let owner = Owner::of(hello);
        // A connection that takes another's place adds none. The other is closed for it, and so is a
        // third one that waits.
        let replaces = hello.session.is_some_and(|place| {
            let session = self.sessions.get(&place.id).filter(|session| session.owner == owner);
            let queue = session.and_then(|session| session.queue(place.queue));
            queue.is_some_and(|queue| queue.connection().is_some())
        });
        let max = self.limits.max_connections_per_host as usize;
        if self.room.count_in(id, &owner, if replaces { usize::MAX } else { max }) {
            return Ok(());
        }
        Err(refuse(RefusalReason::Busy, format!("the host has {max} connections, more are not allowed")))
    }

    /// Returns what the hello's host may have of the export that it asks for.
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
        // Both at once: no hello in clear where there is a key, and no key but that of this entry.
        let shown = proof.filter(|proof| proof.owner == Owner::of(hello)).map(|proof| &proof.keys);
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
        let previous = match &hello.previous {
            Some(previous) if previous.instance == online.instance => Before::Same,
            Some(previous) if export.was(&previous.instance) => Before::Former,
            _ => Before::Unknown,
        };
        Ok(Admitted {
            agreed,
            access,
            device: export.device_for(online.device, access),
            told_blocks: online.told_blocks,
            instance: online.instance,
            previous,
            cache_outlives_target: export.rules.cache_outlives_target,
        })
    }

    /// A hello that opens a session. It waits until nothing is left in the backend of what its host had
    /// at this export before.
    fn open(
        &mut self,
        id: ConnectionId,
        hello: &Hello,
        waited: bool,
        opening: Opening,
        admitted: Admitted,
    ) -> Result<Answer, Refusal> {
        let owner = Owner::of(hello);
        let ownership = match self.permit(hello, admitted.access)? {
            Permit::Shared => None,
            Permit::Owner(number) => Some(number),
            Permit::AfterChange(number) => {
                let change = Change::Claim { number, host: owner.host, claimant: id };
                self.change_ownership(&owner.export, change);
                return Ok(Answer::WaitToOwn);
            }
        };
        let peer = self.connections[&id].peer;
        let previous = hello.previous.as_ref();
        let found = previous
            .and_then(|previous| self.sessions.get(&previous.session))
            .map(|session| session.owner == owner);
        if let (Some(previous), Some(true)) = (previous, found) {
            self.close_session(&previous.session, "its client opens another one");
        }
        if ownership.is_some() && !is_on(Mutation::NoTakeoverEnd) {
            // Even with the same number: a copy of the owner's machine has it, too.
            self.close_sessions(&owner.export, "the owner of its export opens another one");
        }
        let must_wait = match ownership {
            None => self.is_draining(&owner) && !is_on(Mutation::NoSessionFence),
            Some(_) => self.is_draining_all(&owner.export) && !is_on(Mutation::NoTakeoverFence),
        };
        if must_wait {
            if !waited {
                self.notice(Topic::Sessions, || {
                    format!(
                        "DST host {:?} from {peer}: its new session at export {:?} waits until the backend has \
                         finished what is left of others",
                        hello.host, hello.export
                    )
                });
            }
            return Ok(Answer::WaitToOpen);
        }
        if self.sessions.len() >= self.limits.max_sessions as usize {
            let too_many =
                || refuse(RefusalReason::Busy, "the target has too many sessions, all of them in use");
            let other = self.sessions.least_needed(&owner).ok_or_else(too_many)?;
            self.close_session(&other, "it has no connection, and another one needs its place");
        }
        // What is said of another's session would be said to whoever has no right to know.
        let previous_ended = previous.is_some()
            && found != Some(false)
            && (admitted.previous != Before::Unknown || opening.previous_has_ended);
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
                    Some(_) => ", whether the one before has ended is not known here",
                }
            )
        });
        self.sessions.open(session, id, owner.clone(), peer, self.now_us, waited);
        let queue = QueueRef { owner, session: SessionRef { id: session, queue: 0, epoch: 0 } };
        Ok(self.welcome(queue, Entrance { previous_ended, ownership, slots: None }, admitted))
    }

    /// Returns how the hello may open a session, as far as that depends on who owns the export.
    fn permit(&self, hello: &Hello, access: Access) -> Result<Permit, Refusal> {
        let shares = |session: &Session| session.owner.export == hello.export && session.ownership.is_none();
        let applicant = Applicant {
            host: &hello.host,
            access,
            claim: hello.claim,
            shared_sessions: self.sessions.iter().filter(|(_, session)| shares(session)).count(),
        };
        let export = self.exports.get(&hello.export);
        export.map_or(Ok(Permit::Shared), |export| export.ownership.permit(&applicant))
    }

    /// Returns true if the backend may have something left of a closed connection of the export.
    fn is_draining_all(&self, export: &str) -> bool {
        let is_its = |stage: &Stage| match stage {
            Stage::Closing { queue: Some(queue), .. } => queue.owner.export == export,
            _ => false,
        };
        self.connections.values().any(|entry| is_its(&entry.stage))
    }

    /// Returns true if the backend may have something left of a closed connection of this owner.
    fn is_draining(&self, owner: &Owner) -> bool {
        let is_its = |stage: &Stage| match stage {
            Stage::Closing { queue: Some(queue), .. } => queue.owner == *owner,
            _ => false,
        };
        self.connections.values().any(|entry| is_its(&entry.stage))
    }

    /// A hello that joins a session. It waits until the connection that its queue had before is gone.
    fn join(
        &mut self,
        id: ConnectionId,
        hello: &Hello,
        reference: SessionRef,
        admitted: Admitted,
    ) -> Result<Answer, Refusal> {
        let owner = Owner::of(hello);
        let session = self.sessions.get(&reference.id).filter(|session| session.owner == owner);
        if session.is_some_and(|session| session.has_given_up(reference.queue)) {
            // What of its last transactions was executed is not known any more. Its client has to begin
            // anew, with all queues: another connection of this session would tell it that all is well.
            self.close_session(&reference.id, "a queue came back after its record was given up");
        }
        let queues_max = self.limits.max_queues as usize;
        // Records that nobody comes back for must not keep all others out. The client of the session that
        // ends begins anew, like one whose record was given up.
        if self.sessions.lacks_room(&owner, &reference, queues_max)
            && let Some(other) = self.sessions.least_used()
        {
            self.close_session(&other, "most of its queues have no connection, and others need their place");
        }
        let Joined { is_again, standing } = self.sessions.join(id, &owner, &reference, queues_max)?;
        if is_again {
            let peer = self.connections[&id].peer;
            let waits = matches!(standing, Standing::After { .. });
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
        let queue = QueueRef { owner, session: reference };
        let slots = match standing {
            Standing::After { predecessor, superseded } => {
                let others = superseded.into_iter().chain([predecessor]).collect();
                return Ok(Answer::WaitForQueue(queue, others));
            }
            Standing::Now(_) if reference.queue == 0 => None,
            Standing::Now(slots) => Some(slots.unwrap_or_else(|| Slots::new(admitted.agreed.credits))),
        };
        let ownership = self.sessions.get(&reference.id).and_then(|session| session.ownership);
        Ok(self.welcome(queue, Entrance { previous_ended: false, ownership, slots }, admitted))
    }

    /// Returns the welcome of a connection that has its queue.
    fn welcome(&mut self, queue: QueueRef, entrance: Entrance, admitted: Admitted) -> Answer {
        let Admitted { agreed, access: _, device, told_blocks, instance, previous, cache_outlives_target } =
            admitted;
        let Entrance { previous_ended, ownership, slots } = entrance;
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
            // That the one before has ended is only known of one on this machine, since it was started.
            // A bdev that was gone may have lost what it cached, whoever outlived it.
            cache_kept: previous_ended && cache_outlives_target && previous != Before::Former,
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
            Box::new(Joining { device, max_transfer, has_digests, slots, owner: queue.owner.clone() })
        });
        Answer::Welcome(queue, Box::new(welcome), joining)
    }

    /// A connection's client has shown the key of its entry.
    pub(crate) fn key_shown(&mut self, id: ConnectionId, shown: Proof) {
        if let Some(entry) = self.connections.get_mut(&id)
            && let Stage::Handshaking { proof } = &mut entry.stage
        {
            *proof = Some(shown);
            self.room.prove(id);
        }
    }

    /// A connection's client has not shown the key of its entry.
    pub(crate) fn key_refused(&mut self, id: ConnectionId, owner: &Owner, why: &str, refusal: Refusal) {
        self.refuse(id, owner, why, refusal);
    }

    /// Something of this owner is gone: those of its hellos that waited for it may go on, and those of the
    /// owner of the export.
    pub(crate) fn ask_openers(&mut self, owner: &Owner) {
        let mut waiting = Vec::new();
        for (&connection, entry) in &self.connections {
            if let Stage::WaitingToOpen(Application { hello, .. }) = &entry.stage
                && hello.export == owner.export
                && (hello.host == owner.host || hello.claim.is_some())
            {
                waiting.push((connection, hello.previous.map(|previous| previous.instance)));
            }
        }
        for (connection, instance) in waiting {
            self.output(Output::AskAgain { connection, instance });
        }
    }
}
