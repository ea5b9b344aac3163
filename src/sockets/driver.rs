//! The driver: moves frames between a port and the interface.

use std::sync::Arc;

use dst_net::{Config, ConfigError, Interface, Shard};
use dst_tcp::Secret;

use crate::data::Data;
use crate::exchange::{Exchange, Steered};
use crate::frame::Held;
use crate::port::Port;

/// The maximum number of bursts that a turn receives, so that users come to their turn.
const RECEIVED_BURSTS: usize = 4;

/// The maximum number of frames that a turn takes from other shards: as many as such bursts have.
const PASSED: usize = RECEIVED_BURSTS * 32;

/// The maximum number of bursts that a turn sends.
const SENT_BURSTS: usize = 8;

/// An interface on its port.
#[derive(Debug)]
pub struct Driver<P: Port, L> {
    // Frames go back to the port, so the interface is dropped first.
    pub interface: Interface<Held<P::Frame>, Data<L>>,
    others: Option<Others<P::Frame>>,
    port: P,
}

/// The other shards of the interface.
#[derive(Debug)]
struct Others<F> {
    shard: Shard,
    exchange: Arc<Exchange<F>>,
    steered: Steered,
    /// The usable addresses that were last told or heard of.
    usable: u32,
}

impl<P: Port, L: AsRef<[u8]>> Driver<P, L> {
    /// Returns an interface, or a shard of one that has an `exchange` with others.
    pub fn new(
        port: P,
        config: Config,
        exchange: Option<Arc<Exchange<P::Frame>>>,
        secret: Secret,
        now: u64,
    ) -> Result<Driver<P, L>, ConfigError> {
        let shard = config.shard;
        let others =
            exchange.map(|exchange| Others { shard, exchange, steered: Steered::default(), usable: 0 });
        Ok(Driver { interface: Interface::new(config, secret, now)?, others, port })
    }

    /// Tells the other shards which addresses are usable, or hears it.
    pub fn agree(&mut self) {
        let Driver { interface, others: Some(others), .. } = self else { return };
        let usable = if others.shard.is_first() { interface.usable() } else { others.exchange.usable() };
        if usable == others.usable {
            return;
        }
        others.usable = usable;
        if others.shard.is_first() {
            others.exchange.set_usable(usable);
        } else {
            interface.follow(usable);
        }
    }

    /// Returns what became of the frames that were for other shards.
    pub fn steered(&self) -> Steered {
        self.others.as_ref().map(|others| others.steered).unwrap_or_default()
    }

    pub fn port(&self) -> &P {
        &self.port
    }

    /// Takes received frames in, and does what is due. Returns the number of frames.
    // A function of its own, so that a profiler shows it (bench/net_instructions.py).
    #[inline(never)]
    pub fn receive(&mut self, now: u64) -> usize {
        let Driver { interface, others, port } = self;
        let mut total = 0;
        for _ in 0..RECEIVED_BURSTS {
            let is_low = port.is_low();
            let hold = |frame: P::Frame| match is_low {
                true => Held::Copied(frame.as_ref().into()),
                false => Held::Port(frame),
            };
            // Most interfaces have one shard. They are not to pay for the others.
            let count = match others {
                None => port.receive(|frame, verified| interface.receive(hold(frame), verified, now)),
                Some(Others { shard, exchange, steered, .. }) => port.receive(|frame, verified| {
                    if let Some(frame) = exchange.sort(shard, hold(frame), verified, steered) {
                        interface.receive(frame, verified, now);
                    }
                }),
            };
            if count == 0 {
                break;
            }
            total += count;
        }
        if let Some(Others { shard, exchange, .. }) = others {
            for _ in 0..PASSED {
                let Some((frame, verified)) = exchange.take(shard) else { break };
                interface.receive(frame, verified, now);
                total += 1;
            }
        }
        if interface.deadline().is_some_and(|deadline| deadline <= now) {
            interface.on_time(now);
        }
        total
    }

    /// Sends the frames that are ready, as far as the port takes them. Returns their number.
    #[inline(never)]
    pub fn send(&mut self, now: u64) -> usize {
        let Driver { interface, port, .. } = self;
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
