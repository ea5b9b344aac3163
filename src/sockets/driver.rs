//! The driver: moves frames between a port and the interface.

use dst_net::{Config, ConfigError, Interface};
use dst_tcp::Secret;

use crate::buffers::Buffer;
use crate::frame::Held;
use crate::port::Port;

/// The maximum number of bursts that a turn receives, so that users come to their turn.
const RECEIVED_BURSTS: usize = 4;

/// The maximum number of bursts that a turn sends.
const SENT_BURSTS: usize = 8;

/// An interface on its port.
#[derive(Debug)]
pub struct Driver<P: Port> {
    // Frames go back to the port, so the interface is dropped first.
    pub interface: Interface<Held<P::Frame>, Buffer>,
    port: P,
}

impl<P: Port> Driver<P> {
    pub fn new(port: P, config: Config, secret: Secret, now: u64) -> Result<Driver<P>, ConfigError> {
        Ok(Driver { interface: Interface::new(config, secret, now)?, port })
    }

    pub fn port(&self) -> &P {
        &self.port
    }

    /// Takes received frames in, and does what is due. Returns the number of frames.
    // A function of its own, so that a profiler shows it (bench/net_instructions.py).
    #[inline(never)]
    pub fn receive(&mut self, now: u64) -> usize {
        let Driver { interface, port } = self;
        let mut total = 0;
        for _ in 0..RECEIVED_BURSTS {
            let is_low = port.is_low();
            let count = port.receive(|frame, verified| {
                let frame = if is_low { Held::Copied(frame.as_ref().into()) } else { Held::Port(frame) };
                interface.receive(frame, verified, now);
            });
            if count == 0 {
                break;
            }
            total += count;
        }
        if interface.deadline().is_some_and(|deadline| deadline <= now) {
            interface.on_time(now);
        }
        total
    }

    /// Sends the frames that are ready, as far as the port takes them. Returns their number.
    #[inline(never)]
    pub fn send(&mut self, now: u64) -> usize {
        let Driver { interface, port } = self;
        let mut total = 0;
        // This sends what the port did not take in the last turn.
        port.flush();
        for _ in 0..SENT_BURSTS {
            if !interface.is_ready() {
                break;
            }
            let room = port.room();
            if room == 0 {
                break;
            }
            total += interface.transmit(now, room, |frame| {
                port.fill(frame.frame_len(), frame.headers(), |buffer| {
                    frame.write(buffer);
                });
            });
            port.flush();
        }
        total
    }
}
