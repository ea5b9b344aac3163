//! An interface on a TAP device: the stack against a kernel's TCP. `sim/tcp/kernel.py` creates the
//! device, passes it to this program as standard input and output, and is the other side.
//!
//! `dst-tap --mac M --address A/N [--address …] [--mtu N] [--lose PER_MILLE] [--delay PER_MILLE]
//! [--seed N] [--limit SECONDS] serve` echoes what arrives at port 4460 until, after the first
//! connection, there was nothing to do for a second. `… call ADDRESS BYTES` sends bytes to port 4460
//! there and compares the echo. It fails if that takes longer than the limit, 120 s unless set.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dst_net::{Config, Counters, Interface, MacAddress, Prefix, Verified};
use dst_tcp::{ConnectionId, Event, Reason, Secret, SendCounters};
use dst_tcp_sim::application::byte;
use dst_tcp_sim::relay::Relay;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const PORT: u16 = 4460;

/// What the program does.
enum Role {
    Serve,
    Call { remote: SocketAddr, bytes: u64 },
}

/// The program's state of a connection.
#[derive(Default)]
struct Open {
    /// Data to be sent back.
    echo: VecDeque<Vec<u8>>,
    sent: u64,
    received: u64,
    is_shut: bool,
    sending: SendCounters,
}

/// The number of bytes that a connection may have queued.
const MAX_QUEUED: u64 = 1 << 20;

/// The number of bytes that the caller sends at a time.
const PIECE: u64 = 50_000;

struct Program {
    interface: Interface<Vec<u8>, Vec<u8>>,
    begin: Instant,
    role: Role,
    open: BTreeMap<ConnectionId, Open>,
    ends: Vec<Reason>,
    /// What was counted of connections that have ended.
    sending: SendCounters,
    /// What the frames pass that are received, and those that are sent.
    relays: [Relay; 2],
    /// The frames that were lost because the device's queue was full.
    dropped: u64,
    mtu: usize,
    /// How long the program may take, µs.
    limit: u64,
}

impl Program {
    fn now(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }

    /// Receives the frames that have arrived.
    fn receive(&mut self) -> Result<(), Errno> {
        let mut buffer = vec![0; self.mtu + 18];
        loop {
            let now = self.now();
            while let Some(frame) = self.relays[0].due(now) {
                self.interface.receive(frame, Verified::default(), now);
            }
            let length = match rustix::io::read(std::io::stdin(), &mut buffer) {
                Ok(length) => length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            };
            if let Some(frame) = self.relays[0].take(buffer[..length].to_vec(), now) {
                self.interface.receive(frame, Verified::default(), now);
            }
        }
    }

    fn transmit(&mut self) -> Result<(), Errno> {
        let now = self.now();
        let (mut frames, mut failed) = (Vec::new(), Ok(()));
        let relay = &mut self.relays[1];
        frames.extend(std::iter::from_fn(|| relay.due(now)));
        self.interface.transmit(now, 256, |frame| {
            let mut bytes = vec![0; frame.frame_len()];
            frame.write(&mut bytes);
            frames.extend(relay.take(bytes, now));
        });
        for frame in frames {
            match rustix::io::write(std::io::stdout(), &frame) {
                Ok(_) => {}
                // The device's queue is full: the frame is lost, as on any port.
                Err(Errno::AGAIN) => self.dropped += 1,
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    fn take_events(&mut self) -> Result<(), String> {
        let now = self.now();
        while let Some(event) = self.interface.tcp().event() {
            match event {
                Event::Incoming(listener) => {
                    while let Some(id) = self.interface.tcp().accept(listener, now) {
                        self.open.insert(id, Open::default());
                    }
                }
                Event::Closed(id, reason) => {
                    if let Some(ended) = self.open.remove(&id) {
                        self.sending.add(&ended.sending);
                    }
                    self.ends.push(reason);
                }
                Event::Connected(_) | Event::Readable(_) | Event::Released(..) => {}
            }
        }
        let ids: Vec<_> = self.open.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.serve(id, now))
    }

    fn serve(&mut self, id: ConnectionId, now: u64) -> Result<(), String> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let tcp = self.interface.tcp();
        let queued = |tcp: &dst_tcp::Stack<_, _>| tcp.information(id).map_or(u64::MAX, |known| known.queued);
        while open.echo.is_empty()
            && queued(tcp) < MAX_QUEUED
            && let Some(chunk) = tcp.read(id, now)
        {
            let bytes = &chunk.frame[chunk.range];
            if let Role::Call { .. } = self.role {
                let wrong = bytes.iter().zip(open.received..).position(|(found, at)| *found != byte(1, at));
                if let Some(wrong) = wrong {
                    return Err(format!("byte {} is wrong", open.received + wrong as u64));
                }
            } else {
                open.echo.push_back(bytes.to_vec());
            }
            open.received += bytes.len() as u64;
            while let Some(bytes) = open.echo.pop_front() {
                if let Err(bytes) = tcp.send(id, bytes) {
                    open.echo.push_front(bytes);
                    break;
                }
            }
        }
        let is_done = match self.role {
            Role::Serve => tcp.is_at_end(id),
            Role::Call { bytes, .. } => {
                while open.sent < bytes && queued(tcp) < MAX_QUEUED {
                    let length = PIECE.min(bytes - open.sent);
                    let piece = (open.sent..open.sent + length).map(|at| byte(1, at)).collect();
                    if tcp.send(id, piece).is_err() {
                        break;
                    }
                    open.sent += length;
                }
                if open.sent == bytes && !open.is_shut && tcp.may_send(id) && open.received > 0 {
                    open.is_shut = true;
                    tcp.shutdown(id, now);
                }
                if tcp.is_at_end(id) && open.received != bytes {
                    return Err(format!("{} bytes came back of {bytes}", open.received));
                }
                tcp.is_at_end(id)
            }
        };
        if is_done {
            tcp.close(id, now);
        }
        if let Some(known) = tcp.information(id) {
            open.sending = known.sending;
        }
        Ok(())
    }

    /// Runs until everything is done.
    fn run(&mut self) -> Result<(), String> {
        let mut quiet_since = None;
        loop {
            let failed = |error: Errno| format!("the TAP device fails: {error}");
            self.receive().map_err(failed)?;
            let now = self.now();
            self.interface.on_time(now);
            self.take_events()?;
            self.transmit().map_err(failed)?;
            self.take_events()?;
            match self.role {
                Role::Call { remote, .. } if self.open.is_empty() && self.ends.is_empty() => {
                    // The interface's addresses may not be ready for use yet.
                    if let Ok(id) = self.interface.connect(remote, now) {
                        self.open.insert(id, Open::default());
                    }
                }
                Role::Call { .. } if self.open.is_empty() => return self.judge(),
                Role::Serve if self.open.is_empty() && !self.ends.is_empty() => {
                    if now - *quiet_since.get_or_insert(now) > 1_000_000 {
                        return self.judge();
                    }
                }
                _ => quiet_since = None,
            }
            if now > self.limit {
                return Err(format!("it takes too long: {:?}", self.interface.counters()));
            }
            let [received, sent] = self.relays.each_ref().map(Relay::deadline);
            let deadline = [self.interface.deadline(), received, sent].into_iter().flatten().min();
            let wait = match (self.interface.is_ready(), deadline) {
                (true, _) => 0,
                (false, deadline) => deadline.map_or(100_000, |at| at.saturating_sub(now)).min(100_000),
            };
            let timeout = Duration::from_micros(wait);
            let timeout = Timespec::try_from(timeout).map_err(|error| error.to_string())?;
            let stdin = std::io::stdin();
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn judge(&self) -> Result<(), String> {
        match self.ends.iter().find(|end| **end != Reason::Finished) {
            Some(end) => Err(format!("a connection has ended: {end}")),
            None => Ok(()),
        }
    }
}

/// What the arguments say.
struct Arguments {
    config: Config,
    role: Role,
    /// The frames of a thousand that get lost, and that are late.
    lose: u64,
    delay: u64,
    seed: u64,
    limit_s: u64,
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let (mut mac, mut addresses, mut mtu) = (None, Vec::new(), 1500);
    let (mut lose, mut delay, mut seed, mut limit_s) = (0, 0, 1, 120);
    let mut arguments = arguments.iter();
    let role = loop {
        let name = arguments.next()?;
        if name == "serve" {
            break Role::Serve;
        }
        let value = arguments.next()?;
        match &name[..] {
            "--mac" => {
                let bytes: Vec<u8> = value
                    .split(':')
                    .map(|byte| u8::from_str_radix(byte, 16))
                    .collect::<Result<_, _>>()
                    .ok()?;
                mac = Some(MacAddress(bytes.try_into().ok()?));
            }
            "--address" => {
                let (address, length) = value.split_once('/')?;
                addresses.push(Prefix::new(address.parse::<IpAddr>().ok()?, length.parse().ok()?));
            }
            "--mtu" => mtu = value.parse().ok()?,
            "--lose" => lose = value.parse().ok()?,
            "--delay" => delay = value.parse().ok()?,
            "--seed" => seed = value.parse().ok()?,
            "--limit" => limit_s = value.parse().ok()?,
            "call" => {
                let remote = SocketAddr::new(value.parse().ok()?, PORT);
                break Role::Call { remote, bytes: arguments.next()?.parse().ok()? };
            }
            _ => return None,
        }
    };
    let config = Config { mtu, ..Config::new(mac?, addresses) };
    Some(Arguments { config, role, lose, delay, seed, limit_s })
}

fn report(counters: Counters, program: &mut Program) {
    let tcp = program.interface.tcp().counters();
    let SendCounters { retransmitted, tail_probes, timeouts, .. } = program.sending;
    eprintln!(
        "received {}, sent {}, lost {}, asked {}, connections {}, checksum errors {}, malformed {}, \
         retransmitted {retransmitted}, tail probes {tail_probes}, timeouts {timeouts}",
        counters.received,
        counters.sent,
        program.dropped + program.relays.iter().map(Relay::lost).sum::<u64>(),
        counters.asked,
        program.ends.len(),
        tcp.checksum_errors,
        tcp.malformed,
    );
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let Some(Arguments { config, role, lose, delay, seed, limit_s }) = parse(&arguments) else {
        eprintln!("dst-tap: see the beginning of dst-tap.rs for its arguments");
        return ExitCode::FAILURE;
    };
    let (mtu, addresses) = (usize::from(config.mtu), config.addresses.clone());
    let mut secret = [seed as u8; 16];
    secret[..8].copy_from_slice(&seed.to_be_bytes());
    let mut interface = match Interface::new(config, Secret(secret), 0) {
        Ok(interface) => interface,
        Err(error) => {
            eprintln!("dst-tap: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Role::Serve = role {
        for prefix in addresses {
            interface.tcp().listen(SocketAddr::new(prefix.address, PORT), 1024);
        }
    }
    let mut program = Program {
        interface,
        begin: Instant::now(),
        role,
        open: BTreeMap::new(),
        ends: Vec::new(),
        sending: SendCounters::default(),
        relays: [seed, seed + 1].map(|seed| Relay::new(seed, lose, delay)),
        dropped: 0,
        mtu,
        limit: limit_s * 1_000_000,
    };
    let result = program.run();
    report(program.interface.counters(), &mut program);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dst-tap: {error}");
            ExitCode::FAILURE
        }
    }
}
