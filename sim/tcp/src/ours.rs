//! A host with the stack under test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use dst_tcp::{ConnectionId, Datagram, Event, Payload, Reason, Secret, SendCounters, Stack};

use crate::application::Application;
use crate::network::Packet;
use crate::plan::{Plan, Side};

/// Data to be sent.
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
    application: Application,
    ended: bool,
    closed: bool,
}

/// A host with the stack under test.
pub struct Ours {
    host: usize,
    address: SocketAddr,
    /// The stack.
    pub stack: Stack<Vec<u8>, Buffer>,
    sides: Vec<[Side; 2]>,
    open: BTreeMap<ConnectionId, Open>,
    /// Connections that are still to be made, or accepted.
    left: VecDeque<usize>,
    buffers: BTreeSet<u64>,
    next_buffer: u64,
    /// What was counted about connections that have ended.
    pub counted: SendCounters,
    /// How connections have ended.
    pub ends: Vec<Reason>,
    /// What was found wrong.
    pub violation: Option<String>,
    /// Bytes received.
    pub received: u64,
    most_queued: u64,
}

impl Ours {
    /// Returns a host that listens or connects.
    pub fn new(host: usize, address: SocketAddr, plan: &Plan, connects: bool) -> Ours {
        let config = plan.configs[host].clone();
        let most_queued = config.max_send_bytes;
        let mut stack = Stack::new(config, Secret([host as u8 + 1; 16]));
        if !connects {
            stack.listen(address, 64).expect("nothing listens yet");
        }
        Ours {
            host,
            address,
            stack,
            sides: plan.connections.clone(),
            open: BTreeMap::new(),
            left: (0..plan.connections.len()).collect(),
            buffers: BTreeSet::new(),
            next_buffer: 0,
            counted: SendCounters::default(),
            ends: Vec::new(),
            violation: None,
            received: 0,
            most_queued,
        }
    }

    /// Connects to the peer, once for each connection of the plan. The port says which one it is.
    pub fn connect(&mut self, remote: SocketAddr, now: u64) {
        while let Some(number) = self.left.pop_front() {
            let local = SocketAddr::new(self.address.ip(), port(number));
            let id = self.stack.connect(local, remote, now).expect("the ports are free");
            self.add(id, number);
        }
    }

    fn add(&mut self, id: ConnectionId, number: usize) {
        let application = Application::new(number, self.host, &self.sides[number]);
        self.open.insert(id, Open { application, ended: false, closed: false });
    }

    /// Takes a packet.
    pub fn receive(&mut self, packet: Packet, now: u64) {
        self.stack.receive(
            Datagram {
                source: packet.source.ip(),
                destination: packet.destination.ip(),
                range: 0..packet.bytes.len(),
                frame: packet.bytes,
                is_verified: false,
            },
            now,
        );
    }

    /// Does what is to be done now.
    pub fn poll(&mut self, now: u64, out: &mut Vec<Packet>) {
        self.stack.on_time(now);
        self.take_events(now);
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            self.serve(id, now);
        }
        self.stack.transmit(now, usize::MAX, |segment| {
            let mut bytes = vec![0; segment.header_len() + segment.payload_len];
            segment.write(&mut bytes);
            out.push(Packet { source: segment.local, destination: segment.remote, bytes });
        });
        self.take_events(now);
    }

    fn take_events(&mut self, now: u64) {
        while let Some(event) = self.stack.event() {
            match event {
                Event::Incoming(listener) => {
                    while let Some(id) = self.stack.accept(listener, now) {
                        let remote = self.stack.information(id).expect("it was accepted").remote;
                        self.add(id, number(remote.port()));
                    }
                }
                Event::Released(_, buffer) => {
                    if !self.buffers.remove(&buffer.number) {
                        self.violation = Some(format!("buffer {} was released twice", buffer.number));
                    }
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

    fn serve(&mut self, id: ConnectionId, now: u64) {
        if let Some(information) = self.stack.information(id) {
            self.note_queued(information.queued);
        }
        let Some(open) = self.open.get_mut(&id).filter(|open| !open.closed) else { return };
        while self.stack.may_send(id)
            && let Some(bytes) = open.application.piece(u64::MAX)
        {
            let (length, number) = (bytes.len() as u64, self.next_buffer);
            if self.stack.send(id, Buffer { number, bytes }).is_err() {
                break;
            }
            self.buffers.insert(number);
            self.next_buffer += 1;
            open.application.took(length);
        }
        let connected =
            self.stack.information(id).is_some_and(|information| information.state.is_synchronized());
        if connected && open.application.closes() {
            self.stack.shutdown(id, now);
        }
        for _ in 0..open.application.looks(now) {
            let Some(chunk) = self.stack.read(id, now) else { break };
            self.received += chunk.range.len() as u64;
            open.application.receive(&chunk.frame[chunk.range]);
        }
        if !open.ended && self.stack.is_at_end(id) {
            open.application.end();
            open.ended = true;
        }
        if open.application.is_done() {
            // It is told of as closed; it may be counted only now.
            if let Some(information) = self.stack.information(id)
                && self.buffers.is_empty()
            {
                self.counted.add(&information.sending);
                self.stack.close(id, now);
            }
        }
        self.violation = self.violation.take().or(open.application.violation.clone());
    }

    fn note_queued(&mut self, queued: u64) {
        // One buffer may be larger than the limit.
        if queued > self.most_queued.max(200_000) + 200_000 {
            self.violation = Some(format!("{queued} bytes are queued"));
        }
    }

    /// Returns when it has to be polled again.
    pub fn deadline(&self) -> Option<u64> {
        let looks = self.open.values().filter(|open| !open.closed).filter_map(|open| open.application.next());
        looks.chain(self.stack.deadline()).min()
    }

    /// Returns whether all connections have ended.
    pub fn is_done(&self) -> bool {
        self.ends.len() == self.sides.len()
    }

    /// Returns whether any buffer was not given back.
    pub fn has_buffers(&self) -> bool {
        !self.buffers.is_empty()
    }
}

/// Returns the client's port for a connection.
pub fn port(number: usize) -> u16 {
    1000 + number as u16
}

/// Returns the connection for the client's port.
pub fn number(port: u16) -> usize {
    usize::from(port - 1000)
}
