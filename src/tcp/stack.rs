//! The stack: all connections and listeners of one thread.

mod acks;
mod flood;
mod predict;
mod settle;
mod user;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use smoltcp::wire::TcpControl;

use crate::config::Config;
use crate::connection::{Answer, Connection, Context, Opening};
use crate::delayed_acks::DelayedAcks;
use crate::event::{ConnectionId, Event, ListenerId};
use crate::listener::Listener;
use crate::mutation::{Mutation, is_on};
use crate::prediction::Last;
use crate::secret::{Secret, Tuple};
use crate::segment::{Header, Malformed, Outgoing, Segment, ack_number, header};
use crate::send_queue::{Payload, SendQueue};
use crate::seq::Seq;
use crate::table::{Stage, Table};
use crate::timers::Timers;

pub use user::{ConnectError, Information};

/// Resets and cookies that wait to be sent; more are not, and the peer asks again.
const MAX_REPLIES: usize = 64;

/// Segments, as they are on the wire, that a connection may send before it is another one's turn.
const TURN: usize = 64;

/// A segment that came in an IP packet.
#[derive(Debug)]
pub struct Datagram<F> {
    /// Where it is from.
    pub source: IpAddr,
    /// Which address of this stack it is for.
    pub destination: IpAddr,
    /// The frame that it came in.
    pub frame: F,
    /// Where the segment is in the frame.
    pub range: Range<usize>,
    /// Whether the port has already found the TCP checksum to be right.
    pub is_verified: bool,
}

/// What can be counted about a stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments received.
    pub received: u64,
    /// Segments sent.
    pub sent: u64,
    /// Segments that were dropped because they contradict themselves.
    pub malformed: u64,
    /// Segments that were dropped because of their checksum.
    pub checksum_errors: u64,
    /// Resets sent for segments that belong to no connection.
    pub resets: u64,
    /// Half-open connections that were forgotten for newer ones.
    pub half_open_evicted: u64,
    /// SYNs that were answered with cookies.
    pub cookies_sent: u64,
    /// Connections that were opened by cookies.
    pub cookies_accepted: u64,
    /// Connections that were reset because too many waited to be accepted.
    pub backlog_overflows: u64,
    /// SYNs dropped because there are too many connections.
    pub table_overflows: u64,
}

/// A reset, or an answer to a SYN, that nothing is kept for.
#[derive(Debug)]
struct Reply {
    local: SocketAddr,
    remote: SocketAddr,
    header: Header,
}

/// All connections and listeners of one thread.
///
/// The caller passes in received segments ([`Stack::receive`]) and the time ([`Stack::on_time`], at
/// the latest at [`Stack::deadline`]), and after either of these, or after a user's call, takes out
/// segments ([`Stack::transmit`]) and events ([`Stack::event`]). All times are microseconds of one
/// clock that never goes back.
#[derive(Debug)]
pub struct Stack<F, B> {
    config: Config,
    secret: Secret,
    table: Table<F, B>,
    /// What predicts the next segment.
    last: Option<Last>,
    listeners: Vec<Option<Listener>>,
    timers: Timers,
    acks: DelayedAcks,
    /// Connections that may have something to send.
    ready: VecDeque<ConnectionId>,
    /// Connections in TIME-WAIT, the oldest first.
    remembered: VecDeque<ConnectionId>,
    replies: VecDeque<Reply>,
    events: VecDeque<Event<B>>,
    counters: Counters,
    /// Counts connection attempts.
    attempts: u16,
    /// What resets refer to for their payload.
    nothing: SendQueue<B>,
}

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Returns a stack without connections. `secret`: random bytes that nobody else knows.
    pub fn new(config: Config, secret: Secret) -> Stack<F, B> {
        Stack {
            config,
            secret,
            table: Table::new(secret),
            last: None,
            listeners: Vec::new(),
            timers: Timers::default(),
            acks: DelayedAcks::default(),
            ready: VecDeque::new(),
            remembered: VecDeque::new(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            attempts: 0,
            nothing: SendQueue::new(Seq::initial(0)),
        }
    }

    /// Takes a received segment.
    pub fn receive(&mut self, datagram: Datagram<F>, now: u64) {
        self.counters.received += 1;
        let Err(datagram) = self.receive_predicted(datagram, now) else { return };
        self.last = None;
        let Datagram { source, destination, is_verified, .. } = datagram;
        let verify = !is_verified && !is_on(Mutation::NoChecksum);
        let (segment, source_port, destination_port) = match Segment::parse(
            datagram.frame.as_ref(),
            datagram.range.clone(),
            source,
            destination,
            verify,
        ) {
            Ok(parsed) => parsed,
            Err(Malformed::Header) => {
                self.counters.malformed += 1;
                return;
            }
            Err(Malformed::Checksum) => {
                self.counters.checksum_errors += 1;
                return;
            }
        };
        let local = SocketAddr::new(destination, destination_port);
        let remote = SocketAddr::new(source, source_port);
        let tuple = Tuple::new(local, remote);
        match self.table.find(&tuple) {
            Some(id) if !self.is_replaced(id, &segment, local) => {
                let bytes = &datagram.frame.as_ref()[datagram.range.clone()];
                self.last = Last::new(id, (source, destination), bytes, &segment);
                let frame = datagram.frame;
                let answer = self.step(id, now, |connection, cx| connection.input(&segment, frame, cx));
                if answer == Some(Answer::Reset) {
                    self.reply_reset(local, remote, &segment);
                }
            }
            _ => self.receive_unknown(local, remote, tuple, &segment, datagram.frame, now),
        }
    }

    /// Forgets a connection in TIME-WAIT, if the segment is a SYN for a new one in its place.
    /// Returns whether it was.
    fn is_replaced(&mut self, id: ConnectionId, segment: &Segment, local: SocketAddr) -> bool {
        let is_syn = segment.syn && segment.ack.is_none() && self.listener_for(local).is_some();
        let replaced =
            is_syn && self.table.get(id).is_some_and(|entry| entry.connection.may_be_replaced(segment));
        if replaced {
            self.forget(id);
        }
        replaced
    }

    /// Returns the listener for a local address: one with exactly this address, or else one for
    /// all.
    fn listener_for(&self, local: SocketAddr) -> Option<ListenerId> {
        let fits =
            |(index, listener): (usize, &Option<Listener>)| Some((listener.as_ref()?.fit(local)?, index));
        let (_, index) = self.listeners.iter().enumerate().filter_map(fits).max_by_key(|(fit, _)| *fit)?;
        Some(ListenerId(index as u32))
    }

    /// Takes a segment that belongs to no connection.
    fn receive_unknown(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        tuple: Tuple,
        segment: &Segment,
        frame: F,
        now: u64,
    ) {
        let listener = self.listener_for(local).filter(|_| segment.syn && segment.ack.is_none());
        let Some(listener) = listener else {
            return match self.redeem(local, remote, tuple, segment, now) {
                Some(id) => {
                    self.step(id, now, |connection, cx| connection.input(segment, frame, cx));
                }
                None => self.reply_reset(local, remote, segment),
            };
        };
        if !self.make_room(listener) {
            return self.reply_cookie(listener, local, remote, tuple, segment, now);
        }
        if self.table.len() >= self.config.max_connections {
            self.counters.table_overflows += 1;
            return;
        }
        let (secret, config) = (&self.secret, &self.config);
        let id = self.table.insert(tuple, Stage::HalfOpen(listener), |id| {
            let opening = Opening::new(id, local, remote, &tuple, secret, now);
            Connection::passive(opening, listener, segment, config, now)
        });
        if let Some(listener) = &mut self.listeners[listener.0 as usize] {
            listener.half_open.push_back(id);
        }
        self.settle(id, now);
    }

    /// Answers a segment that belongs to nothing with a reset (RFC 9293, 3.10.7.1).
    fn reply_reset(&mut self, local: SocketAddr, remote: SocketAddr, segment: &Segment) {
        if segment.rst || self.replies.len() >= MAX_REPLIES {
            return;
        }
        let mut header = header(local, remote, segment.ack.unwrap_or(0));
        header.control = TcpControl::Rst;
        if segment.ack.is_none() {
            header.ack_number = ack_number(segment.seq.wrapping_add(segment.sequence_len() as u32));
        }
        self.counters.resets += 1;
        self.replies.push_back(Reply { local, remote, header });
    }

    /// Takes an ICMP error: the segment with sequence number `seq` from `local` to `remote` was too
    /// long for the path, on which segments may have at most `most` bytes after a TCP header
    /// without options.
    pub fn too_big(&mut self, local: SocketAddr, remote: SocketAddr, seq: u32, most: u16, now: u64) {
        if let Some(id) = self.table.find(&Tuple::new(local, remote)) {
            self.step(id, now, |connection, _| connection.on_too_big(seq, most, now));
        }
    }

    /// Takes the word that segments from `local` do not get to `remote`. Only a connection attempt
    /// ends by it (RFC 5461, 4). `seq`: the sequence number of the segment that an ICMP error
    /// quotes; `None`: the next hop does not answer, which this host knows by itself.
    pub fn unreachable(&mut self, local: SocketAddr, remote: SocketAddr, seq: Option<u32>, now: u64) {
        if let Some(id) = self.table.find(&Tuple::new(local, remote)) {
            self.step(id, now, |connection, cx| connection.on_unreachable(seq, cx));
        }
    }

    /// Takes the time: does what is due.
    pub fn on_time(&mut self, now: u64) {
        self.send_delayed_acks(now);
        while let Some(id) = self.timers.due(now) {
            self.look_at(id, now);
        }
    }

    /// Does what is due for the connection that has to be looked at first.
    #[inline(never)]
    fn look_at(&mut self, id: ConnectionId, now: u64) {
        if !self.may_owe_ack(id) {
            // Most connections have heard from their peers since the time was set.
            match self.schedule(id, now) {
                Some(at) if at > now => return self.timers.put_off(at),
                None => return self.timers.remove(id),
                Some(_) => {}
            }
        }
        self.timers.remove(id);
        self.step(id, now, |connection, cx| connection.on_time(cx));
    }

    /// Returns when [`Stack::on_time`] has to be called at the latest.
    pub fn deadline(&self) -> Option<u64> {
        [self.timers.next(), self.acks.next()].into_iter().flatten().min()
    }

    /// Returns whether [`Stack::transmit`] may have something to send.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty() || !self.replies.is_empty()
    }

    /// Hands segments to `sink`, which sends them or drops them: they may get lost like any other.
    /// Cut to their MSS ([`Outgoing::cut`]), they are up to `budget`. Returns how many.
    pub fn transmit(&mut self, now: u64, budget: usize, mut sink: impl FnMut(&Outgoing<'_, B>)) -> usize {
        let mut count = 0;
        while count < budget
            && let Some(Reply { local, remote, header }) = self.replies.pop_front()
        {
            let at = self.nothing.end();
            sink(&Outgoing {
                local,
                remote,
                header,
                payload: self.nothing.pieces(at, at),
                payload_len: 0,
                mss: 0,
            });
            count += 1;
        }
        while count < budget
            && let Some(id) = self.ready.pop_front()
        {
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.is_ready = false;
            let turn = TURN.min(budget - count);
            let cx = Context { now, config: &self.config, events: &mut self.events };
            let sent = entry.connection.transmit(turn, &cx, &mut sink);
            count += sent;
            if sent == turn {
                entry.is_ready = true;
                self.ready.push_back(id);
            }
            self.schedule(id, now);
        }
        self.counters.sent += count as u64;
        count
    }

    /// Takes out the next event.
    pub fn event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }
}
