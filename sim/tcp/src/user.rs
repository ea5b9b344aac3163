//! The user of the stack under test, which sends, reads, closes, and checks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use dst_tcp::{ConnectionId, Event, Payload, Reason, SendCounters, Stack};

use crate::application::Application;
use crate::plan::{Plan, Side};

/// Data to be sent, as a shared buffer.
#[derive(Debug)]
pub struct Buffer {
    number: u64,
    bytes: Vec<u8>,
}

impl Payload for Buffer {
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Open {
    number: usize,
    application: Application,
    ended: bool,
    closed: bool,
}

/// The stack under test.
pub type Tcp = Stack<Vec<u8>, Buffer>;

/// The user of a host's stack.
pub struct User {
    host: usize,
    sides: Vec<[Side; 2]>,
    open: BTreeMap<ConnectionId, Open>,
    /// Connections that are still to be made or accepted.
    left: VecDeque<usize>,
    buffers: BTreeSet<u64>,
    next_buffer: u64,
    /// The counters of the connections that have ended.
    pub counted: SendCounters,
    /// Why each connection that has ended did so.
    pub ends: Vec<Reason>,
    /// The first violation.
    pub violation: Option<String>,
    /// The number of bytes received.
    pub received: u64,
    most_queued: u64,
}

impl User {
    /// Returns the user of the first (0) or second host.
    pub fn new(host: usize, plan: &Plan) -> User {
        User {
            host,
            sides: plan.connections.clone(),
            open: BTreeMap::new(),
            left: (0..plan.connections.len()).collect(),
            buffers: BTreeSet::new(),
            next_buffer: 0,
            counted: SendCounters::default(),
            ends: Vec::new(),
            violation: None,
            received: 0,
            most_queued: plan.configs[host].max_send_bytes,
        }
    }

    /// Connects to the peer once for each connection of the plan that is not made yet. The port
    /// identifies the connection.
    pub fn connect(&mut self, tcp: &mut Tcp, local: IpAddr, remote: SocketAddr, now: u64) {
        while let Some(number) = self.left.pop_front() {
            let local = SocketAddr::new(local, port(number));
            let id = tcp.connect(local, remote, now).expect("the ports are free");
            self.add(id, number);
        }
    }

    /// Returns whether a connection of the plan is still to be made.
    pub fn has_to_connect(&self) -> bool {
        !self.left.is_empty()
    }

    fn add(&mut self, id: ConnectionId, number: usize) {
        let application = Application::new(number, self.host, &self.sides[number]);
        self.open.insert(id, Open { number, application, ended: false, closed: false });
    }

    /// Sends and reads what is due now.
    pub fn poll(&mut self, tcp: &mut Tcp, now: u64) {
        self.take_events(tcp, now);
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            self.serve(tcp, id, now);
        }
    }

    /// Handles the stack's events.
    pub fn take_events(&mut self, tcp: &mut Tcp, now: u64) {
        while let Some(event) = tcp.event() {
            match event {
                Event::Incoming(listener) => {
                    while let Some(id) = tcp.accept(listener, now) {
                        let remote = tcp.information(id).expect("it was accepted").remote;
                        self.add(id, number(remote.port()));
                    }
                }
                Event::Released(_, buffer) => {
                    if !self.buffers.remove(&buffer.number) {
                        self.violation = Some(format!("buffer {} was released twice", buffer.number));
                    }
                }
                // An attempt that failed for lack of a next hop is repeated.
                Event::Closed(id, Reason::Unreachable) => {
                    self.left.extend(self.open.remove(&id).map(|open| open.number));
                }
                Event::Closed(id, reason) => {
                    self.ends.push(reason);
                    match self.open.get_mut(&id) {
                        Some(open) if !open.closed => open.closed = true,
                        _ => self.violation = Some(format!("{id:?} was closed twice")),
                    }
                }
                Event::Connected(_) | Event::Readable(_) => {}
            }
        }
    }

    fn serve(&mut self, tcp: &mut Tcp, id: ConnectionId, now: u64) {
        if let Some(information) = tcp.information(id) {
            self.note_queued(information.queued);
        }
        let Some(open) = self.open.get_mut(&id).filter(|open| !open.closed) else { return };
        while tcp.may_send(id)
            && let Some(bytes) = open.application.piece(u64::MAX)
        {
            let (length, number) = (bytes.len() as u64, self.next_buffer);
            if tcp.send(id, Buffer { number, bytes }).is_err() {
                break;
            }
            self.buffers.insert(number);
            self.next_buffer += 1;
            open.application.took(length);
        }
        let connected = tcp.information(id).is_some_and(|information| information.state.is_synchronized());
        if connected && open.application.closes() {
            tcp.shutdown(id, now);
        }
        for _ in 0..open.application.looks(now) {
            let Some(chunk) = tcp.read(id, now) else { break };
            self.received += chunk.range.len() as u64;
            open.application.receive(&chunk.frame[chunk.range]);
        }
        if !open.ended && tcp.is_at_end(id) {
            open.application.end();
            open.ended = true;
        }
        if open.application.is_done() {
            // Once the stack reports the connection as closed, its counters are gone, so they are
            // read now.
            if let Some(information) = tcp.information(id)
                && self.buffers.is_empty()
            {
                self.counted.add(&information.sending);
                tcp.close(id, now);
            }
        }
        self.violation = self.violation.take().or(open.application.violation.clone());
    }

    fn note_queued(&mut self, queued: u64) {
        // A single buffer may exceed the limit.
        if queued > self.most_queued.max(200_000) + 200_000 {
            self.violation = Some(format!("{queued} bytes are queued"));
        }
    }

    /// Returns when the user looks again at what has arrived.
    pub fn deadline(&self) -> Option<u64> {
        self.open.values().filter(|open| !open.closed).filter_map(|open| open.application.next()).min()
    }

    /// Returns whether all connections have ended.
    pub fn is_done(&self) -> bool {
        self.ends.len() == self.sides.len()
    }

    /// Returns whether the stack still holds any of the user's buffers.
    pub fn has_buffers(&self) -> bool {
        !self.buffers.is_empty()
    }
}

/// Returns the client's port for a connection of the plan.
pub fn port(number: usize) -> u16 {
    1000 + number as u16
}

/// Returns the connection of the plan for a client's port.
pub fn number(port: u16) -> usize {
    usize::from(port - 1000)
}
