//! The state that the control thread and a bdev's channels on all threads share.
//!
//! Most fields are constant. For each of the others, a comment says which thread writes it, which
//! threads read it, and why its ordering is enough. The locks are for the control path only.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};

use dst_session::deadline::Availability;
use dst_session::durability::Durability;
use dst_session::stop::Stop;
use dst_session::succession::Session;
use dst_wire::secure::Offer;
use dst_wire::{Device, Hello, OpSet, Previous, SessionRef, VERSION};

use crate::channels::{Channels, Standing, lock};
use crate::options::{Options, TargetParams};
use crate::places::Places;

/// The period in which repeatedly failing attempts are logged, µs: often enough to be found in a
/// log, and not so often that a target that is down for a day fills it.
const LOG_PERIOD_US: u64 = 10_000_000;

/// The shared state of a bdev.
#[derive(Debug)]
pub struct Shared {
    name: String,
    target: TargetParams,
    options: Options,
    /// The stop of the process, which is one for all bdevs.
    stop: Arc<Stop>,
    /// Whether the bdev is going away. Set once, by the control thread or the thread that destructs
    /// the bdev; read by all threads. `Relaxed`: no other data goes with the flag, and readers
    /// check it again within milliseconds.
    closing: AtomicBool,
    /// Whether the bdev's device is gone for good, so that its I/O fails. Set once, by any thread;
    /// read by all threads. `Relaxed`, as above.
    failed: AtomicBool,
    /// Whether the control connection is up. Written by the control thread in its turns, read by
    /// channels. `Relaxed`: a channel that reads an older value decides as if it had looked
    /// earlier.
    control_up: AtomicBool,
    /// Whether I/O fails at once because there has been no connection for too long. Written by the
    /// control thread, read by all threads. `Relaxed`, as above.
    unreachable: AtomicBool,
    /// Whether a channel was told that the session does not exist. Set by channels, cleared by the
    /// control thread, which then asks the target: `Relaxed`, as the flag is a hint.
    doubted: AtomicBool,
    /// Whether a channel may ask for the session's end; [`Standing::asks_to_give_up`] decides. Set
    /// by channels, cleared by the control thread: `Relaxed`, as the flag is a hint, and the channel
    /// sets it again until the session has changed.
    given_up: AtomicBool,
    /// The number of the bdev's resets. Raised by the channel that is given a reset, read by all
    /// channels in each check. `AcqRel` and `Acquire`: a channel that reads a reset's number runs
    /// after everything that the user did before the reset. That the other channels have ended
    /// their I/O is ordered by [`crate::channels::Standing::joined_reset`].
    resets: AtomicU64,
    /// The writes that a restart of the target may have lost. The type documents its ordering.
    durability: Durability,
    /// The maximum length in bytes of a request, to which SPDK splits I/O. Set on the control
    /// thread before the bdev is registered, and so before any channel exists; read by all:
    /// `Relaxed`.
    max_request_len: AtomicU32,
    /// The device as the target last described it. Written and read on the control thread.
    device: Mutex<Option<Device>>,
    /// The operations of `device`, which change with the host's rights. Written by the control
    /// thread, read by all: `Relaxed`, as each channel obeys its own Welcome, and the target
    /// decides.
    ops: AtomicU32,
    /// The session that channels join. Written by the control thread, read by channels without a
    /// connection.
    session: Mutex<Option<Session>>,
    /// The number of changes of `session`. Raised by the control thread under the lock of
    /// `session`; read by channels, mostly without the lock. `Release` and `Acquire`: a channel
    /// that sees a change and then takes the lock sees that session or a newer one.
    session_changes: AtomicU64,
    /// The places where the target is looked for. The type documents its ordering.
    places: Places,
    /// The epoch of the next Hello that joins a session. Raised by each thread that sends one.
    /// `Relaxed`: no two Hellos get the same epoch, and the Hellos of one queue are sent by one
    /// thread, which sees its own epochs in order.
    next_epoch: AtomicU32,
    channels: Channels,
    /// The reason for which the last attempt to connect failed or the bdev's I/O fails, or `None`
    /// once all connections are up.
    last_error: Mutex<Option<String>>,
    /// The time at which a failed attempt is logged again, µs. Written by the thread that logs one:
    /// the exchange lets one thread do so, and nothing else depends on the value: `Relaxed`.
    next_log_us: AtomicU64,
}

impl Shared {
    /// Returns the shared state of a new bdev.
    pub fn new(name: String, target: TargetParams, options: Options, stop: Arc<Stop>) -> Shared {
        let places = Places::new(target.at.clone());
        Shared {
            name,
            target,
            options,
            stop,
            closing: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            control_up: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            resets: AtomicU64::new(0),
            durability: Durability::default(),
            max_request_len: AtomicU32::new(0),
            device: Mutex::new(None),
            ops: AtomicU32::new(OpSet::NONE.bits()),
            session: Mutex::new(None),
            session_changes: AtomicU64::new(0),
            places,
            // The connection that opens a session has epoch 0.
            next_epoch: AtomicU32::new(1),
            channels: Channels::default(),
            last_error: Mutex::default(),
            next_log_us: AtomicU64::new(0),
        }
    }

    /// Returns the bdev's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the target that the user gave when creating the bdev. For its addresses and port,
    /// which may have changed since, see [`Shared::places`].
    pub fn target(&self) -> &TargetParams {
        &self.target
    }

    /// Returns the bdev's options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the stop of the process.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Returns the bdev's channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Returns the record of the writes that a restart of the target may lose.
    #[inline]
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Notes that the bdev is going away, so that I/O no longer waits for a lost target.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Returns whether I/O may wait for the device.
    pub fn availability(&self) -> Availability {
        match Availability::new(self.closing.load(Relaxed), self.has_failed()) {
            Availability::Available if self.unreachable.load(Relaxed) => Availability::Unreachable,
            availability => availability,
        }
    }

    /// Returns whether I/O fails at once while its channel has no connection.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Relaxed)
    }

    /// Sets whether I/O fails at once while its channel has no connection. Control thread only.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Relaxed);
    }

    /// Notes whether the control connection is up.
    pub fn set_control_up(&self, is_up: bool) {
        self.control_up.store(is_up, Relaxed);
    }

    /// Returns true if the control connection is up, so that the channels' connections can be
    /// expected soon.
    pub fn is_control_up(&self) -> bool {
        self.control_up.load(Relaxed)
    }

    /// Returns true if the bdev's device is gone for good.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Notes that an attempt to make one of the bdev's connections has failed. Logs that once in
    /// [`LOG_PERIOD_US`].
    pub fn attempt_failed(&self, why: String, now_us: u64) {
        let next_us = self.next_log_us.load(Relaxed);
        if now_us >= next_us
            && self.next_log_us.compare_exchange(next_us, now_us + LOG_PERIOD_US, Relaxed, Relaxed).is_ok()
        {
            let at = self.places.all_shown();
            spdk::warn!("DST bdev {}: target {at} not reached ({why}), trying again", self.name);
        }
        *lock(&self.last_error) = Some(why);
    }

    /// Notes that the bdev's device is gone for good, for this reason: I/O fails from now on.
    pub fn fail(&self, why: &str) {
        if !self.failed.swap(true, Relaxed) {
            spdk::error!(
                "DST bdev {}: {why}; its I/O fails, until bdev_dst_accept_device attaches it anew or it is deleted",
                self.name
            );
        }
        *lock(&self.last_error) = Some(why.to_owned());
    }

    /// Notes that the export is gone for good, which was logged already: I/O fails from now on.
    pub fn removed(&self) {
        self.failed.store(true, Relaxed);
    }

    /// Forgets the last error, because all connections are up.
    pub fn forget_error(&self) {
        *lock(&self.last_error) = None;
    }

    /// Returns what is wrong with a path; otherwise, the reason for which the last attempt to
    /// connect failed.
    pub fn last_error(&self) -> Option<String> {
        self.places.note().or_else(|| lock(&self.last_error).clone())
    }

    /// Returns the device as the target last described it, or `None` before the first Welcome. SPDK
    /// may have refused the size.
    pub fn device(&self) -> Option<Device> {
        *lock(&self.device)
    }

    /// Returns the operations that this host may use, as the target last described them.
    pub fn ops(&self) -> OpSet {
        OpSet::from_bits(self.ops.load(Relaxed))
    }

    /// Sets the device as the target describes it. Control thread only.
    pub fn set_device(&self, device: Device) {
        self.ops.store(device.ops.bits(), Relaxed);
        *lock(&self.device) = Some(device);
    }

    /// Returns the maximum length in bytes of a request, to which SPDK splits I/O. It does not
    /// exceed the maximum that the target had when the bdev was registered.
    pub fn max_request_len(&self) -> u32 {
        self.max_request_len.load(Relaxed)
    }

    /// Sets the value of [`Shared::max_request_len`]. Control thread only, before the bdev is
    /// registered.
    pub fn set_max_request_len(&self, max_request_len: u32) {
        self.max_request_len.store(max_request_len, Relaxed);
    }

    /// Returns a number for a reset that a channel was given, or for one that the channel has sent
    /// and has to begin again.
    pub fn count_reset(&self) -> u64 {
        self.resets.fetch_add(1, AcqRel) + 1
    }

    /// Returns the number of the newest reset.
    pub fn resets(&self) -> u64 {
        self.resets.load(Acquire)
    }

    /// Returns the session that channels join.
    pub fn session(&self) -> Option<Session> {
        *lock(&self.session)
    }

    /// Changes the session that channels join. Control thread only.
    pub fn set_session(&self, session: Option<Session>) {
        self.change_session(&mut lock(&self.session), session);
    }

    fn change_session(&self, current: &mut Option<Session>, session: Option<Session>) {
        *current = session;
        self.places.set_session(session.map(|session| session.id));
        self.session_changes.fetch_add(1, Release);
    }

    /// Returns a number that is higher after each change of the session. HOT.
    #[inline]
    pub fn session_changes(&self) -> u64 {
        self.session_changes.load(Acquire)
    }

    /// Returns the number of the change that replaced `session`, or of a later one; or `None` if
    /// `session` is still the present session.
    pub fn left_since(&self, session: Session) -> Option<u64> {
        let current = lock(&self.session);
        (*current != Some(session)).then(|| self.session_changes())
    }

    /// Asks the control connection to find out whether the session exists, because a channel was
    /// told that it does not.
    pub fn doubt_session(&self) {
        self.doubted.store(true, Relaxed);
    }

    /// Returns true if a channel has called [`Shared::doubt_session`] since the last call.
    pub fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Relaxed)
    }

    /// Returns the present session if it has this id. The channel joins it, so that it does not
    /// have to be given up for the channel any more: nothing that the channel sent before is
    /// executed any more.
    pub fn join_session(&self, id: &[u8; 16], channel: &Standing) -> Option<Session> {
        let current = lock(&self.session);
        let session = current.filter(|session| session.id == *id)?;
        channel.ask_to_give_up(false);
        Some(session)
    }

    /// Asks the control connection to look whether the session has to be given up for a channel.
    pub fn ask_to_give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// Gives the session up if a channel still asks for that. Returns true if so. Control thread
    /// only.
    pub fn give_up_if_asked(&self) -> bool {
        if !self.given_up.swap(false, Relaxed) {
            return false;
        }
        // With the lock, a channel that has been admitted to the session meanwhile no longer asks.
        let mut current = lock(&self.session);
        let is_asked =
            current.is_some() && self.channels.standings().iter().any(|channel| channel.asks_to_give_up());
        if is_asked {
            self.change_session(&mut current, None);
        }
        is_asked
    }

    /// Returns the places where the target is looked for.
    #[inline]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Returns a Hello that opens a session, in place of the previous one if there was one.
    pub fn hello_open(&self, previous: Option<Previous>) -> Hello {
        self.hello(None, previous)
    }

    /// Returns a Hello that joins a session. Its epoch is newer than those of all earlier Hellos,
    /// because the target may have handled a Hello whose Welcome never came.
    pub fn hello_join(&self, id: [u8; 16], queue: u16) -> Hello {
        let epoch = self.next_epoch.fetch_add(1, Relaxed);
        self.hello(Some(SessionRef { id, queue, epoch }), None)
    }

    /// Returns the offer for the key agreement.
    pub fn offer(&self) -> Offer {
        Offer {
            versions: (VERSION, VERSION),
            export: self.target.export.clone(),
            host: self.target.host.clone(),
            ciphers: self.target.ciphers.iter().map(|&cipher| cipher as u8).collect(),
        }
    }

    fn hello(&self, session: Option<SessionRef>, previous: Option<Previous>) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            export: self.target.export.clone(),
            host: self.target.host.clone(),
            session,
            previous,
            claim: None,
            credits: self.options.queue_depth,
            digests: self.target.digests.iter().map(|&digest| digest as u8).collect(),
            ciphers: self.target.ciphers.iter().map(|&cipher| cipher as u8).collect(),
            keep_alive_ms: self.options.keep_alive_timeout_ms,
            aborts: true,
        }
    }
}
