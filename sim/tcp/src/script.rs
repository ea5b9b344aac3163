//! One stack, and a peer that sends whatever a test writes, in the manner of packetdrill. Sequence
//! numbers are relative to each side's initial one.

use std::net::SocketAddr;

use dst_tcp::{Config, ConnectionId, Datagram, Event, Payload, Secret, Stack};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

/// This many bytes to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Payload for Bytes {
    fn size(&self) -> usize {
        self.0.len()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The peer's initial sequence number.
const INITIAL: u32 = u32::MAX - 5000;

/// A segment that the peer sends.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// SYN, FIN, RST or none.
    pub control: TcpControl,
    /// The position of its first byte.
    pub seq: u32,
    /// The position that it acknowledges.
    pub ack: Option<u32>,
    /// Its window field, unscaled.
    pub window: u16,
    /// Its SACK blocks.
    pub sack: [Option<(u32, u32)>; 3],
    /// Its timestamp, and the timestamp that it echoes.
    pub timestamp: Option<(u32, u32)>,
    /// The number of its bytes of data.
    pub data: usize,
}

/// Returns an ACK at a position.
pub const fn ack(seq: u32, ack: u32) -> Segment {
    Segment {
        control: TcpControl::None,
        seq,
        ack: Some(ack),
        window: 0xffff,
        sack: [None; 3],
        timestamp: None,
        data: 0,
    }
}

/// One stack, with the test as its peer.
pub struct Script {
    /// The stack.
    pub stack: Stack<Vec<u8>, Bytes>,
    /// The time, in microseconds.
    pub now: u64,
    /// The connection, once it is open.
    pub id: Option<ConnectionId>,
    /// The stack's events, except those about the connection's opening.
    pub events: Vec<Event<Bytes>>,
    local: SocketAddr,
    peer: SocketAddr,
    initial: u32,
    /// The options of the peer's SYN.
    offers: Offers,
    clock: u32,
}

/// The options of the peer's SYN.
#[derive(Debug, Clone, Copy)]
pub struct Offers {
    /// The maximum segment size.
    pub mss: Option<u16>,
    /// The window scale.
    pub shift: Option<u8>,
    /// Whether SACK is permitted.
    pub sack: bool,
    /// The peer's timestamp, if it uses timestamps.
    pub timestamp: Option<u32>,
}

impl Script {
    /// Returns a listening stack.
    pub fn new(config: Config, offers: Offers) -> Script {
        let local = SocketAddr::from(([10, 0, 0, 1], 4460));
        let mut stack = Stack::new(config, Secret([3; 16]));
        stack.listen(local, 4).expect("nothing listens yet");
        let peer = SocketAddr::from(([10, 0, 0, 2], 999));
        Script {
            stack,
            now: 1_000_000,
            id: None,
            events: Vec::new(),
            local,
            peer,
            initial: 0,
            offers,
            clock: 0,
        }
    }

    /// Returns a stack with an open connection that uses SACK and no other options, an MSS of
    /// 1,000, and a round trip of 1 ms.
    pub fn open(config: Config) -> Script {
        Script::open_with(config, Offers { mss: Some(1000), shift: None, sack: true, timestamp: None })
    }

    /// Returns a stack with an open connection that uses these options.
    pub fn open_with(config: Config, offers: Offers) -> Script {
        let mut script = Script::new(config, offers);
        script.inject_syn();
        assert_eq!(script.sent(), ["S. 0:0 ack 1"]);
        script.now += 1_000;
        script.inject(Segment {
            timestamp: offers.timestamp.map(|value| (value, script.clock())),
            ..ack(1, 1)
        });
        assert!(script.id.is_some(), "it is not open");
        script
    }

    /// Returns the stack's timestamp in the last segment that had one.
    pub fn clock(&self) -> u32 {
        self.clock
    }

    /// Returns the stack's initial sequence number, from which its positions count.
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// Sets the sequence number from which the stack's positions count.
    pub fn set_initial(&mut self, initial: u32) {
        self.initial = initial;
    }

    /// Has the peer send from this port from now on.
    pub fn peer_port(&mut self, port: u16) {
        self.peer.set_port(port);
    }

    /// Sends the peer's SYN.
    pub fn inject_syn(&mut self) {
        let syn = Segment { control: TcpControl::Syn, ack: None, ..ack(0, 0) };
        self.inject(Segment { timestamp: self.offers.timestamp.map(|value| (value, 0)), ..syn });
    }

    /// Sends a segment from the peer.
    pub fn inject(&mut self, segment: Segment) {
        let is_syn = segment.control == TcpControl::Syn;
        let data = vec![0x5a; segment.data];
        let own = |at: u32| at.wrapping_add(self.initial);
        let repr = TcpRepr {
            src_port: self.peer.port(),
            dst_port: self.local.port(),
            control: segment.control,
            seq_number: TcpSeqNumber(INITIAL.wrapping_add(segment.seq).cast_signed()),
            ack_number: segment.ack.map(|at| TcpSeqNumber(own(at).cast_signed())),
            window_len: segment.window,
            window_scale: self.offers.shift.filter(|_| is_syn),
            max_seg_size: self.offers.mss.filter(|_| is_syn),
            sack_permitted: self.offers.sack && is_syn,
            sack_ranges: segment.sack.map(|block| block.map(|(start, end)| (own(start), own(end)))),
            timestamp: segment.timestamp.map(|(value, echo)| TcpTimestampRepr::new(value, echo)),
            payload: &data,
        };
        let mut frame = vec![0; repr.buffer_len()];
        let (source, destination) = (self.peer.ip(), self.local.ip());
        let checksums = ChecksumCapabilities::default();
        let mut packet = TcpPacket::new_unchecked(&mut frame[..]);
        repr.emit(&mut packet, &source.into(), &destination.into(), &checksums);
        let range = 0..frame.len();
        self.stack.receive(Datagram { source, destination, frame, range, is_verified: false }, self.now);
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.stack.event() {
            match event {
                Event::Incoming(listener) => self.id = self.stack.accept(listener, self.now),
                event => self.events.push(event),
            }
        }
    }

    /// Reports from a router that the segment at `seq` was too long.
    pub fn too_big(&mut self, seq: u32, most: u16) {
        self.stack.too_big(self.local, self.peer, seq.wrapping_add(self.initial), most, self.now);
    }

    /// Has the user send this many bytes.
    pub fn send(&mut self, bytes: usize) {
        let id = self.id.expect("it is open");
        self.stack.send(id, Bytes(vec![0xa5; bytes])).expect("there is room");
    }

    /// Reads everything that has arrived. Returns the number of bytes.
    pub fn read(&mut self) -> usize {
        let id = self.id.expect("it is open");
        std::iter::from_fn(|| self.stack.read(id, self.now)).map(|chunk| chunk.range.len()).sum()
    }

    /// Returns what the stack sends now, in tcpdump's notation: `flags start:end ack n sack
    /// start:end`.
    pub fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        let (initial, clock) = (&mut self.initial, &mut self.clock);
        self.stack.transmit(self.now, usize::MAX, |segment| {
            let mut bytes = vec![0; segment.header_len() + segment.payload_len];
            segment.write(&mut bytes);
            let tcp = TcpPacket::new_checked(&bytes[..]).expect("it is well-formed");
            let seq = tcp.seq_number().0.cast_unsigned();
            if tcp.syn() {
                *initial = seq;
            }
            let flags = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.ack(), '.')];
            let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
            let start = seq.wrapping_sub(*initial);
            let mut text = format!("{flags} {start}:{}", start.wrapping_add(tcp.payload().len() as u32));
            let theirs = |at: u32| at.wrapping_sub(INITIAL);
            if tcp.ack() {
                text += &format!(" ack {}", theirs(tcp.ack_number().0.cast_unsigned()));
            }
            let options = tcp.options_summary().expect("they are well-formed");
            for (start, end) in options.sack_ranges.into_iter().flatten() {
                text += &format!(" sack {}:{}", theirs(start), theirs(end));
            }
            *clock = options.timestamp.map_or(*clock, |(value, _)| value);
            sent.push(text);
        });
        self.take_events();
        sent
    }

    /// Lets time pass. Returns what the stack sends, each with the microseconds that have passed by
    /// then.
    pub fn wait(&mut self, time: u64) -> Vec<(u64, String)> {
        let (from, mut sent) = (self.now, Vec::new());
        loop {
            sent.extend(self.sent().into_iter().map(|text| (self.now - from, text)));
            match self.stack.deadline() {
                Some(at) if at <= from + time => self.now = self.now.max(at),
                _ => break,
            }
            self.stack.on_time(self.now);
            self.take_events();
        }
        self.now = from + time;
        sent
    }
}
