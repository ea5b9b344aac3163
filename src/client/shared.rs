//! What the control thread and a bdev's channels, on whatever threads, have in common.
//!
//! Most of it are constant facts. Each of the few that change says who writes it, who reads it, and
//! why its ordering is enough. The locks are for the control path only.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};

use dst_session::deadline::Availability;
use dst_session::durability::Durability;
use dst_session::stop::Stop;
use dst_session::succession::Session;
use dst_wire::secure::Offer;
use dst_wire::{Device, Hello, OpSet, Previous, SessionRef, VERSION};

use crate::channels::{Channels, lock};
use crate::options::{Options, Peer};
use crate::places::Places;

/// How often attempts that go on failing are logged again, µs: often enough to be found in a log,
/// not so often that a target that is away for a day fills it.
const LOG_PERIOD_US: u64 = 10_000_000;

/// A bdev's constant facts, and the few that change.
#[derive(Debug)]
pub struct Shared {
    name: String,
    peer: Peer,
    options: Options,
    /// The stop of the process, which is one for all bdevs.
    stop: Arc<Stop>,
    /// Whether the bdev is going away. Set once, on the control thread or on the one that destructs
    /// the bdev; read by all. `Relaxed`: no other data goes with it, and readers look again within
    /// milliseconds.
    closing: AtomicBool,
    /// Whether the device can't be had any more. Set once, on any thread, read by all. `Relaxed`,
    /// as above.
    failed: AtomicBool,
    /// The control connection is up. Written by the control thread in its turns. `Relaxed`: a
    /// channel that reads an older value decides as if it had looked earlier.
    control_up: AtomicBool,
    /// Whether I/O fails at once, as there has been no connection for too long. Written by control,
    /// read by all. `Relaxed`, as above.
    unreachable: AtomicBool,
    /// Whether a channel was told that there is no such session. Set by channels, taken by control,
    /// which asks the target itself: `Relaxed`, as it is a hint.
    doubted: AtomicBool,
    /// Whether a channel has I/O that has to fail although the backend may have it. Set by
    /// channels, taken by control, which changes the session under its lock: `Relaxed`, as it is a
    /// hint. The channel asks again until the session has changed.
    given_up: AtomicBool,
    /// Counts the bdev's resets. Raised by the channel that has a reset, read by all channels in
    /// each check. `AcqRel` and `Acquire`: a channel that sees a reset's number comes after what
    /// its user did before the reset; what the reset waits for goes by
    /// [`crate::channels::Standing::joined_reset`].
    resets: AtomicU64,
    /// What a restart of the target may have lost. It says itself how it is ordered.
    durability: Durability,
    /// Most bytes of one request that SPDK will give us. Set on the control thread before the bdev
    /// is registered, which comes before all channels; read by all: `Relaxed`.
    longest: AtomicU32,
    /// What the target last said of the device. Written by control; read by control and by RPCs.
    device: Mutex<Option<Device>>,
    /// The operations of `device`, which change with the host's rights. Written by control, read by
    /// all: `Relaxed`, as each channel goes by what its own welcome said, and the target decides.
    ops: AtomicU32,
    /// Written by control, read by channels without a connection.
    session: Mutex<Option<Session>>,
    /// Counts the changes of `session`. Raised by control, under the lock of `session`; read by
    /// channels, most of them without the lock. `Release` and `Acquire`: a channel that sees a
    /// change and then takes the lock sees that session or a newer one.
    session_changes: AtomicU64,
    /// Where the target is looked for. It says itself how it is ordered.
    places: Places,
    /// The epoch of the next hello that joins a session. Raised by whoever sends one. `Relaxed`:
    /// each gets another one, and a queue's hellos are sent by one thread, which sees its own in
    /// order.
    next_epoch: AtomicU32,
    channels: Channels,
    /// Why the last attempt to connect failed, or the device can't be had any more; none when all
    /// connections are there.
    last_error: Mutex<Option<String>>,
    /// When a failed attempt is logged again, µs. Written by whoever logs one: the exchange lets
    /// one thread do so, and nothing else depends on it: `Relaxed`.
    next_log_us: AtomicU64,
}

impl Shared {
    /// Returns what the threads of a new bdev share.
    pub fn new(name: String, peer: Peer, options: Options, stop: Arc<Stop>) -> Shared {
        let places = Places::new(peer.at.clone());
        Shared {
            name,
            peer,
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
            longest: AtomicU32::new(0),
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

    /// Returns where the bdev's blocks are. Of addresses and port see [`Shared::places`].
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns times and depths.
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

    /// Returns what a restart of the target may have lost.
    #[inline]
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// The bdev is going away: I/O of a lost target need not wait any more.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Returns whether the device can be had.
    pub fn availability(&self) -> Availability {
        match Availability::new(self.closing.load(Relaxed), self.has_failed()) {
            Availability::Available if self.unreachable.load(Relaxed) => Availability::Unreachable,
            availability => availability,
        }
    }

    /// Sets whether I/O fails at once while its channel has no connection. Control only.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Relaxed);
    }

    /// The control connection is up, or is not.
    pub fn set_control_up(&self, is_up: bool) {
        self.control_up.store(is_up, Relaxed);
    }

    /// Returns whether the control connection is up, so that the channels' connections can be
    /// expected soon.
    pub fn is_control_up(&self) -> bool {
        self.control_up.load(Relaxed)
    }

    /// Returns whether the device can't be had any more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// An attempt to connect failed, of whichever connection. One that goes on failing is logged
    /// now and then.
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

    /// The device can't be had any more, for this reason: I/O fails.
    pub fn fail(&self, why: &str) {
        if !self.failed.swap(true, Relaxed) {
            spdk::error!(
                "DST bdev {}: {why}; its I/O fails, until bdev_dst_accept_device attaches it anew or it is deleted",
                self.name
            );
        }
        *lock(&self.last_error) = Some(why.to_owned());
    }

    /// The export is gone for good, which was logged already: I/O fails.
    pub fn removed(&self) {
        self.failed.store(true, Relaxed);
    }

    /// All connections are there.
    pub fn forget_error(&self) {
        *lock(&self.last_error) = None;
    }

    /// Returns what is wrong with a path, or why the last attempt to connect failed.
    pub fn last_error(&self) -> Option<String> {
        self.places.note().or_else(|| lock(&self.last_error).clone())
    }

    /// Returns what the target last said of the device, once it did. SPDK may have refused the
    /// size.
    pub fn device(&self) -> Option<Device> {
        *lock(&self.device)
    }

    /// Returns the operations that the device last had for this host.
    pub fn ops(&self) -> OpSet {
        OpSet::from_bits(self.ops.load(Relaxed))
    }

    /// The target said this of the device. Control only.
    pub fn set_device(&self, device: Device) {
        self.ops.store(device.ops.bits(), Relaxed);
        *lock(&self.device) = Some(device);
    }

    /// Returns the most bytes of one request that SPDK will give us: no more than the target took
    /// when the bdev was made.
    pub fn longest(&self) -> u32 {
        self.longest.load(Relaxed)
    }

    /// Sets what [`Shared::longest`] returns. Control only, before the bdev is registered.
    pub fn set_longest(&self, longest: u32) {
        self.longest.store(longest, Relaxed);
    }

    /// A channel has a reset, or has to begin anew one that it had sent. Returns the reset's
    /// number.
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

    /// Changes the session that channels join. Control only.
    pub fn set_session(&self, session: Option<Session>) {
        let mut current = lock(&self.session);
        *current = session;
        self.places.set_session(session.map(|session| session.id));
        self.session_changes.fetch_add(1, Release);
    }

    /// Returns another number after each change of the session. HOT.
    #[inline]
    pub fn session_changes(&self) -> u64 {
        self.session_changes.load(Acquire)
    }

    /// Returns the change by which `session` was left behind, or a later one; `None`: it is the
    /// session still.
    pub fn left_since(&self, session: Session) -> Option<u64> {
        let current = lock(&self.session);
        (*current != Some(session)).then(|| self.session_changes())
    }

    /// A channel was told that there is no such session: control is to look into it.
    pub fn doubt_session(&self) {
        self.doubted.store(true, Relaxed);
    }

    /// Returns whether a channel doubts the session, and ends the doubt.
    pub fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Relaxed)
    }

    /// A channel has I/O that has to fail although the backend may have it: control is to give the
    /// session up.
    pub fn ask_to_give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// Returns whether the session is to be given up, and forgets that.
    pub fn take_give_up(&self) -> bool {
        self.given_up.swap(false, Relaxed)
    }

    /// Returns where the target is looked for.
    #[inline]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Returns the hello that opens a session, in place of the previous one if there was one.
    pub fn hello_open(&self, previous: Option<Previous>) -> Hello {
        self.hello(None, previous)
    }

    /// Returns the hello that joins a session. Each has a newer epoch than all before, because the
    /// target may have had one whose welcome never came.
    pub fn hello_join(&self, id: [u8; 16], queue: u16) -> Hello {
        let epoch = self.next_epoch.fetch_add(1, Relaxed);
        self.hello(Some(SessionRef { id, queue, epoch }), None)
    }

    /// Returns what a connection is to be secured with.
    pub fn offer(&self) -> Offer {
        Offer {
            versions: (VERSION, VERSION),
            export: self.peer.export.clone(),
            host: self.peer.host.clone(),
            ciphers: self.peer.ciphers.iter().map(|&cipher| cipher as u8).collect(),
        }
    }

    fn hello(&self, session: Option<SessionRef>, previous: Option<Previous>) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            export: self.peer.export.clone(),
            host: self.peer.host.clone(),
            session,
            previous,
            claim: None,
            credits: self.options.queue_depth,
            digests: self.peer.digests.iter().map(|&digest| digest as u8).collect(),
            ciphers: self.peer.ciphers.iter().map(|&cipher| cipher as u8).collect(),
            keep_alive_ms: self.options.keep_alive_timeout_ms,
            aborts: true,
        }
    }
}
