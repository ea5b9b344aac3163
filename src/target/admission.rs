//! Who gets in, and what becomes of those who leave.

use std::net::SocketAddr;
use std::rc::Rc;

use dst_session::access::rights;
use dst_session::negotiate::{agree, refuse};
use dst_session::slots::Slots;
use dst_wire::{Event, Hello, Refusal, RefusalReason, SessionRef, Welcome};
use spdk::sock::Sock;

use crate::connection::Remains;
use crate::control::{ConnectionEntry, Target, random_id};
use crate::group::Join;
use crate::sessions::{Joined, SessionId};

/// What is answered to a hello.
enum Answer {
    Welcome(Box<Welcome>, Option<Join>),
    /// Later, when the connection before it is gone; this one is refused, it came too late.
    Later {
        predecessor: u64,
        superseded: Option<u64>,
    },
}

impl Target {
    /// A listener has a new connection: a group gets it, if there is room.
    pub(crate) fn accepted(self: &Rc<Self>, sock: Sock, peer: SocketAddr) {
        let options = self.options.get();
        let mut state = self.state.borrow_mut();
        let handshakes = state.connections.values().filter(|entry| !entry.welcomed).count();
        if state.stopping.is_some()
            || state.connections.len() >= options.max_connections as usize
            || handshakes >= options.max_handshakes as usize
        {
            self.log.warn(format_args!(
                "DST connection from {peer} closed: {} connections, {handshakes} of them in their handshake",
                state.connections.len()
            ));
            return;
        }
        let group = state.next_group % state.groups.len();
        state.next_group = group + 1;
        state.next_id += 1;
        let id = state.next_id;
        let entry = ConnectionEntry { group, place: None, export: None, welcomed: false };
        state.connections.insert(id, entry);
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
            self.state.borrow_mut().connections.remove(&id);
        }
    }

    /// A connection says hello.
    pub(crate) fn hello(self: &Rc<Self>, id: u64, hello: Hello, peer: SocketAddr) {
        let Some(group) = self.state.borrow().connections.get(&id).map(|entry| entry.group) else { return };
        match self.answer(id, &hello, peer) {
            Ok(Answer::Welcome(welcome, join)) => {
                self.on_group(group, move |group| group.welcome(id, &welcome, join));
            }
            Ok(Answer::Later { predecessor, superseded }) => {
                if let Some(superseded) = superseded {
                    self.close(superseded);
                }
                self.close(predecessor);
            }
            Err(refusal) => {
                self.log.warn(format_args!(
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
        let options = self.options.get();
        let mut state = self.state.borrow_mut();
        let not_allowed = |why: &str| refuse(RefusalReason::NotAllowed, why);
        let export = state
            .exports
            .get(&hello.export)
            .filter(|export| export.deleting.is_none())
            .ok_or_else(|| not_allowed("there is no such export"))?;
        let access = rights(&export.hosts, &hello.host, peer.ip())
            .ok_or_else(|| not_allowed("the export has no entry that lets this host in from there"))?;
        let agreed = agree(hello, options.queue_depth)?;
        let device = export.device(access);
        let bdev = export.desc.handle();
        let mut credits = agreed.credits;
        let (session, slots) = match hello.session {
            None => {
                if state.sessions.len() >= options.max_sessions as usize {
                    return Err(refuse(RefusalReason::Busy, "the target has too many sessions"));
                }
                let session = random_id();
                state.sessions.open(session, id, hello, peer);
                (SessionRef { id: session, queue: 0, epoch: 0 }, None)
            }
            Some(reference) => {
                let joined = state.sessions.join(id, hello, peer, options.max_connections as usize)?;
                let entry = state.connections.get_mut(&id).expect("its hello came just now");
                entry.place = Some((reference.id, reference.queue));
                entry.export = Some(hello.export.clone());
                match joined {
                    Joined::After { predecessor, superseded } => {
                        return Ok(Answer::Later { predecessor, superseded });
                    }
                    Joined::Now(_) if reference.queue == 0 => (reference, None),
                    Joined::Now(slots) => {
                        let slots = slots.unwrap_or_else(|| Slots::new(credits));
                        credits = slots.credits();
                        (reference, Some(slots))
                    }
                }
            }
        };
        let entry = state.connections.get_mut(&id).expect("its hello came just now");
        entry.place = Some((session.id, session.queue));
        entry.export = Some(hello.export.clone());
        entry.welcomed = true;
        if slots.is_some()
            && let Some(session_entry) = state.sessions.get_mut(&session.id)
            && let Some(queue) = session_entry.queues.get_mut(&session.queue)
        {
            queue.lent = true;
        }
        let unit = device.block_size * device.write_unit_size;
        let max_transfer = options.max_transfer / unit * unit;
        let welcome = Welcome {
            version: agreed.version,
            instance: self.instance,
            session,
            device,
            previous_ended: false,
            credits,
            max_transfer,
            digest: agreed.digest as u8,
            cipher: agreed.cipher as u8,
            keep_alive_ms: agreed.keep_alive_ms,
        };
        let join = slots.map(|slots| Join { bdev, device, max_transfer, slots });
        Ok(Answer::Welcome(Box::new(welcome), join))
    }

    /// A connection is gone, and the backend has nothing of it any more.
    pub(crate) fn finished(self: &Rc<Self>, id: u64, remains: Remains) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.connections.remove(&id) else { return };
        let Some((session_id, queue_number)) = entry.place else {
            drop(state);
            return self.stop_if_idle();
        };
        match state.sessions.get_mut(&session_id) {
            None => state.past.add(&remains.stats),
            Some(session) => {
                session.stats.add(&remains.stats);
                if let Some(queue) = session.queues.get_mut(&queue_number)
                    && queue.connection == Some(id)
                {
                    if remains.slots.is_none() && queue.lent {
                        // The record is still on its way to a connection that was gone already: the
                        // queue is free when it has come back.
                        drop(state);
                        return self.export_gone(entry);
                    }
                    queue.slots = remains.slots;
                }
            }
        }
        drop(state);
        self.left(&session_id, queue_number, id, remains.goodbye);
        self.export_gone(entry);
    }

    /// A record comes back from a connection that was gone before it could have it.
    pub(crate) fn returned(self: &Rc<Self>, id: u64, place: (SessionId, u16), slots: Slots) {
        let (session_id, queue_number) = place;
        if let Some(session) = self.state.borrow_mut().sessions.get_mut(&session_id)
            && let Some(queue) = session.queues.get_mut(&queue_number)
            && queue.connection == Some(id)
        {
            queue.slots = Some(slots);
        }
        self.left(&session_id, queue_number, id, false);
    }

    /// A queue is free: the connection that waited for it is next.
    fn left(self: &Rc<Self>, session: &SessionId, queue: u16, id: u64, goodbye: bool) {
        let next = self.state.borrow_mut().sessions.left(session, queue, id, spdk::clock::now_us());
        match next {
            Some((id, hello, peer)) => self.hello(id, hello, peer),
            None if goodbye && queue == 0 => self.close_session(session),
            None if goodbye => self.state.borrow_mut().sessions.forget_queue(session, queue),
            None => {}
        }
    }

    fn export_gone(self: &Rc<Self>, entry: ConnectionEntry) {
        if let Some(export) = entry.export {
            self.export_idle(&export);
        }
        self.stop_if_idle();
    }

    /// Closes one connection.
    pub(crate) fn close(&self, id: u64) {
        let group = self.state.borrow().connections.get(&id).map(|entry| entry.group);
        if let Some(group) = group {
            self.on_group(group, move |group| group.close(id));
        }
    }

    /// Ends a session and closes its connections.
    pub(crate) fn close_session(&self, id: &SessionId) {
        let mut state = self.state.borrow_mut();
        if let Some(session) = state.sessions.get(id) {
            let stats = session.stats;
            state.past.add(&stats);
        }
        let connections = state.sessions.close(id);
        drop(state);
        for id in connections {
            self.close(id);
        }
    }

    /// Ends a session for good: its client is told that it need not come back.
    pub(crate) fn end_session(&self, id: &SessionId) {
        let state = self.state.borrow();
        let first = state.sessions.get(id).and_then(|session| session.queues.get(&0)?.connection);
        let group = first.and_then(|id| Some((id, state.connections.get(&id)?.group)));
        drop(state);
        if let Some((id, group)) = group {
            self.on_group(group, move |group| group.event(id, Event::Removed));
        }
        self.close_session(id);
    }
}
