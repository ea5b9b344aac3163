//! A host with the stack under test.

use std::net::SocketAddr;

use dst_tcp::{Datagram, Outgoing, Secret, Stack};

use crate::network::Packet;
use crate::plan::Plan;
use crate::user::{Tcp, User};

/// A host with the stack under test.
pub struct Ours {
    address: SocketAddr,
    /// The stack.
    pub stack: Tcp,
    /// The stack's user.
    pub user: User,
    /// Whether the port cuts long segments.
    cuts: bool,
}

impl Ours {
    /// Returns a host that listens or connects.
    pub fn new(host: usize, address: SocketAddr, plan: &Plan, connects: bool) -> Ours {
        let mut stack = Stack::new(plan.configs[host].clone(), Secret([host as u8 + 1; 16]));
        if !connects {
            stack.listen(address, 64).expect("nothing listens yet");
        }
        Ours { address, stack, user: User::new(host, plan), cuts: plan.cuts }
    }

    /// Connects to the peer, once for each connection of the plan.
    pub fn connect(&mut self, remote: SocketAddr, now: u64) {
        self.user.connect(&mut self.stack, self.address.ip(), remote, now);
    }

    /// Passes a packet to the stack.
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

    /// Does what is due now.
    pub fn poll(&mut self, now: u64, out: &mut Vec<Packet>) {
        self.stack.on_time(now);
        self.user.poll(&mut self.stack, now);
        let mut send = |segment: &Outgoing<'_, _>| {
            let mut bytes = vec![0; segment.header_len() + segment.payload_len];
            segment.write(&mut bytes);
            out.push(Packet { source: segment.local, destination: segment.remote, bytes });
        };
        let cuts = self.cuts;
        self.stack.transmit(now, usize::MAX, |segment| {
            if cuts { segment.cut(|part, _| send(part)) } else { send(segment) }
        });
        self.user.take_events(&mut self.stack, now);
    }

    /// Returns when the host must be polled again.
    pub fn deadline(&self) -> Option<u64> {
        [self.user.deadline(), self.stack.deadline()].into_iter().flatten().min()
    }
}
