//! A queue pair of a port of DPDK, as `dst-sockets` wants it.

use dst_net::{Headers, Verified};
use dst_sockets::Port;
use spdk::port::{HeaderLens, PortCounters, PortFrame, PortQueue};

/// A queue pair of a port.
#[derive(Debug)]
pub struct DpdkPort(pub PortQueue);

impl DpdkPort {
    /// Returns the place of the queue pair among the port's.
    pub fn index(&self) -> u16 {
        self.0.index()
    }

    pub fn counters(&self) -> PortCounters {
        self.0.counters()
    }
}

impl Port for DpdkPort {
    type Frame = PortFrame;

    fn receive(&mut self, mut take: impl FnMut(PortFrame, Verified)) -> usize {
        self.0.receive(|frame, sums| take(frame, Verified { ipv4: sums.ipv4, tcp: sums.tcp }))
    }

    fn is_low(&self) -> bool {
        self.0.is_low()
    }

    fn room(&mut self) -> usize {
        self.0.room()
    }

    fn fill(&mut self, len: usize, headers: Option<Headers>, write: impl FnOnce(&mut [u8])) {
        // Without checksums of the port, the frame is complete.
        let headers = headers.filter(|_| self.0.info().sends_checksums);
        let lens = headers.map(|headers| HeaderLens {
            link: headers.link,
            network: headers.network,
            transport: headers.transport,
            is_ipv4: headers.is_ipv4,
        });
        self.0.fill(len, lens, write);
    }

    fn flush(&mut self) {
        // What the port has not taken, it is offered again.
        let _ = self.0.flush();
    }
}
