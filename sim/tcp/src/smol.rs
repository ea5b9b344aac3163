//! A host with smoltcp's TCP, an independent implementation.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr};

use crate::application::Application;
use crate::network::Packet;

use crate::plan::{Plan, Smol};
use crate::user::{number, port};

/// IP packets that have arrived, and packets to be sent.
struct Wire {
    input: VecDeque<Vec<u8>>,
    output: Vec<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push(bytes);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        let bytes = self.input.pop_front()?;
        Some((Received(bytes), Sent(&mut self.output)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Open {
    handle: SocketHandle,
    number: usize,
    application: Application,
    ended: bool,
    is_known: bool,
    is_served: bool,
}

/// A host with smoltcp's TCP.
pub struct SmolHost {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    open: Vec<Open>,
    address: SocketAddr,
    /// The first violation.
    pub violation: Option<String>,
}

fn v4(address: SocketAddr) -> Ipv4Address {
    match address.ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}

fn instant(now: u64) -> Instant {
    Instant::from_micros(now as i64)
}

impl SmolHost {
    /// Returns a host that listens or connects to `remote`.
    pub fn new(address: SocketAddr, remote: SocketAddr, plan: &Plan, smol: Smol, now: u64) -> SmolHost {
        let mtu = usize::from(plan.configs[1].mss) + 40;
        let mut wire = Wire { input: VecDeque::new(), output: Vec::new(), mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = plan.seed;
        let mut interface = Interface::new(config, &mut wire, instant(now));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(v4(address).into(), 24)).expect("there is room for one");
        });
        let mut sockets = SocketSet::new(Vec::new());
        let mut open = Vec::new();
        for (number, sides) in plan.connections.iter().enumerate() {
            let buffer = || SocketBuffer::new(vec![0; smol.buffer]);
            let mut socket = Socket::new(buffer(), buffer());
            socket.set_congestion_control(CongestionControl::Reno);
            socket.set_nagle_enabled(false);
            if smol.connects {
                socket
                    .connect(interface.context(), (v4(remote), remote.port()), port(number))
                    .expect("the port is free");
            } else {
                socket.listen(address.port()).expect("the port is not 0");
            }
            let application = Application::new(number, 1, sides);
            let is_known = smol.connects;
            open.push(Open {
                handle: sockets.add(socket),
                number,
                application,
                ended: false,
                is_known,
                is_served: false,
            });
        }
        SmolHost { interface, sockets, wire, open, address, violation: None }
    }

    /// Passes a packet to the host.
    pub fn receive(&mut self, packet: Packet) {
        let repr = Ipv4Repr {
            src_addr: v4(packet.source),
            dst_addr: v4(packet.destination),
            next_header: IpProtocol::Tcp,
            payload_len: packet.bytes.len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; repr.buffer_len() + packet.bytes.len()];
        let mut ip = Ipv4Packet::new_unchecked(&mut bytes);
        repr.emit(&mut ip, &ChecksumCapabilities::default());
        ip.payload_mut().copy_from_slice(&packet.bytes);
        self.wire.input.push_back(bytes);
    }

    /// Does what is due now.
    pub fn poll(&mut self, now: u64, out: &mut Vec<Packet>) {
        self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
        self.identify();
        for index in 0..self.open.len() {
            self.serve(index, now);
        }
        self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
        for bytes in self.wire.output.drain(..) {
            let ip = Ipv4Packet::new_checked(&bytes[..]).expect("smoltcp wrote it");
            let tcp = ip.payload().to_vec();
            let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
            let source = SocketAddr::new(ip.src_addr().into(), port(0));
            let destination = SocketAddr::new(ip.dst_addr().into(), port(2));
            out.push(Packet { source, destination, bytes: tcp });
        }
    }

    /// Listening sockets are interchangeable, so this finds out which connection each has accepted.
    fn identify(&mut self) {
        for index in 0..self.open.len() {
            let socket = self.sockets.get::<Socket<'_>>(self.open[index].handle);
            if let (false, Some(remote)) = (self.open[index].is_known, socket.remote_endpoint()) {
                let other = self.open.iter().position(|open| open.number == number(remote.port));
                let other = other.expect("each connection has a number");
                let handle = self.open[other].handle;
                self.open[other].handle = self.open[index].handle;
                self.open[index].handle = handle;
                self.open[other].is_known = true;
            }
        }
    }

    fn serve(&mut self, index: usize, now: u64) {
        let open = &mut self.open[index];
        let socket = self.sockets.get_mut::<Socket<'_>>(open.handle);
        if !open.is_known || matches!(socket.state(), State::Listen | State::SynReceived) {
            return;
        }
        open.is_served = true;
        while socket.can_send()
            && let Some(bytes) = open.application.piece(65_536)
        {
            let taken = socket.send_slice(&bytes).expect("it can send");
            open.application.took(taken as u64);
            if taken < bytes.len() {
                break;
            }
        }
        for _ in 0..open.application.looks(now) {
            if !socket.can_recv() {
                break;
            }
            socket
                .recv(|bytes| {
                    open.application.receive(bytes);
                    (bytes.len(), ())
                })
                .expect("it can receive");
        }
        let may_end = socket.may_send() || open.application.is_done();
        if !socket.may_recv() && socket.state() != State::SynSent && !open.ended && !socket.can_recv() {
            open.ended = true;
            open.application.end();
        }
        if may_end && open.application.closes() {
            socket.close();
        }
        self.violation = self.violation.take().or(open.application.violation.clone());
    }

    /// Returns when the host must be polled again.
    pub fn deadline(&mut self, now: u64) -> Option<u64> {
        let looks =
            self.open.iter().filter(|open| open.is_served).filter_map(|open| open.application.next()).min();
        let polls = self.interface.poll_at(instant(now), &self.sockets).map(|at| at.total_micros() as u64);
        [looks, polls.map(|at| at.max(now + 1))].into_iter().flatten().min()
    }

    /// Returns whether all connections have sent and received everything.
    pub fn is_done(&self) -> bool {
        self.open.iter().all(|open| open.application.is_done())
    }

    /// Returns the host's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
