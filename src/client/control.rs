//! The control connection, which opens the session, watches it, and opens the next one when the
//! session is lost.

use std::sync::Arc;

use dst_session::addresses::STAGGER_US;
use dst_session::device_change::{self, BdevSize, DeviceChange};
use dst_session::mutation::{self, Mutation};
use dst_session::outage::{Outage, OutageNews};
use dst_session::patience::Patience;
use dst_session::succession::Succession;
use dst_session::tenure::Tenure;
use dst_transport::Broken;
use dst_wire::{Device, Welcome};
use spdk::bdev_module::Registered;
use spdk::clock::now_us;
use spdk::poller::Poller;

use crate::address::Address;
use crate::attach::{Attach, AttachDue, Attached, AttemptRound, Wait};
use crate::disk::DstDisk;
use crate::error::Error;
use crate::holding::{Holding, Newest};
use crate::info::BdevState;
use crate::link::{CONTROL, Link, LinkProgress, Wanted};
use crate::log::LogLimit;
use crate::message::{Message, Messages};
use crate::news::{self, News};
use crate::probe::Probes;
use crate::shared::Shared;

mod attempts;
mod welcome;

/// How long `bdev_dst_create` with `wait` false waits for the first attempt, ms, in addition to the
/// time until the last address is tried. If the target is up, the attempt ends within a few round
/// trips, and the next call of a configuration, such as an export of the bdev, finds the bdev.
const FIRST_ATTEMPT_MS: u32 = 500;

/// The size of the control connection's receive buffer in bytes.
const BUFFER: usize = 8 << 10;

/// A bdev's control connection and session. It lives on the control thread.
pub struct ControlConnection {
    shared: Arc<Shared>,
    link: Link,
    messages: Messages,
    bdev: Option<Bdev>,
    /// The last Welcome, if there was one.
    welcome: Option<Welcome>,
    succession: Succession,
    outage: Outage,
    /// The clock of the outage.
    patience: Patience,
    attach: Attach,
    /// The refusals of the present round of attempts.
    round: AttemptRound,
    /// The ownership of the export that the client has or claims.
    tenure: Tenure,
    /// The newest ownership that a refusal has named.
    newest: Option<Newest>,
    probes: Probes,
    log: LogLimit,
    /// A limit of its own for lines about the size, which must not crowd out those about lost
    /// connections.
    sizes: LogLimit,
    /// The number of control connections that followed a lost one.
    reconnects: u64,
    /// The number of lost control connections.
    lost: u64,
    state: BdevState,
    state_since_us: u64,
    poller: Option<Poller>,
}

/// The bdev, once there is one.
struct Bdev {
    disk: Registered<DstDisk>,
    size: BdevSize,
}

/// What `bdev_dst_get_info` shows of a control connection.
pub struct ControlInfo<'a> {
    pub state: BdevState,
    pub state_age_ms: u64,
    /// The last Welcome, if there was one.
    pub welcome: Option<&'a Welcome>,
    /// The address of the connection, or `None` without a connection.
    pub at: Option<&'a Address>,
    pub lost: u64,
    pub reconnects: u64,
    /// A note if the bdev's size is not the device's.
    pub size_note: Option<String>,
}

/// The outcome of a turn: what the client has to do when the control connection is no longer
/// borrowed.
pub enum TurnOutcome {
    /// There is nothing to do, and the turn found no work.
    Nothing,
    /// There is nothing to do, but the turn did some work.
    Worked,
    /// Register the bdev: the target has admitted the client for the first time.
    Register(Box<Welcome>),
    /// Answer the attach.
    Answer,
    /// Fail the attach.
    GiveUp(Error),
    /// Delete the bdev: its export is gone for good.
    Removed,
    /// Delete the bdev: its target was out of reach for `loss_timeout_ms`.
    Lost,
}

impl ControlConnection {
    /// Returns a control connection that begins to connect.
    pub fn new(shared: &Arc<Shared>, tenure: Tenure, now: u64) -> ControlConnection {
        ControlConnection {
            shared: Arc::clone(shared),
            link: Link::new(Arc::clone(shared), CONTROL, BUFFER, now),
            messages: Messages::default(),
            bdev: None,
            welcome: None,
            succession: Succession::default(),
            outage: Outage::default(),
            patience: Patience::new(now),
            attach: Attach::Over,
            round: AttemptRound::default(),
            tenure,
            newest: None,
            probes: Probes::default(),
            log: LogLimit::default(),
            sizes: LogLimit::default(),
            reconnects: 0,
            lost: 0,
            state: BdevState::Attaching,
            state_since_us: now,
            poller: None,
        }
    }

    /// Sets the poller that calls [`ControlConnection::turn`].
    pub fn set_poller(&mut self, poller: Poller) {
        self.link.set_waker(poller.waker());
        self.poller = Some(poller);
    }

    /// Sets the callback for the attach. `wait` says when it is called.
    pub fn set_waiting(&mut self, waiting: Attached, wait: Wait, now: u64) {
        let until_attached = wait == Wait::UntilAttached;
        let patience_us = if until_attached {
            u64::from(self.shared.options().attach_timeout_ms) * 1000
        } else {
            let others =
                self.shared.places().with_addresses(|addresses| addresses.all().len()).saturating_sub(1);
            u64::from(FIRST_ATTEMPT_MS) * 1000 + others as u64 * STAGGER_US
        };
        self.attach = Attach::Caller { waiting, until_attached, deadline_us: now + patience_us };
    }

    /// Returns the attach.
    pub fn attach(&mut self) -> &mut Attach {
        &mut self.attach
    }

    /// Keeps the bdev that was registered with this many blocks.
    pub fn set_disk(&mut self, disk: Registered<DstDisk>, num_blocks: u64) {
        self.bdev = Some(Bdev { disk, size: BdevSize::Current(num_blocks) });
    }

    /// Takes the bdev out, to be unregistered.
    pub fn take_disk(&mut self) -> Option<Registered<DstDisk>> {
        self.bdev.take().map(|bdev| bdev.disk)
    }

    /// Returns how the client stands to the ownership of its export.
    pub fn holding(&mut self) -> Holding {
        let is_over = self.shared.has_failed();
        match (self.tenure, &self.bdev) {
            (Tenure::Shared, _) => Holding::Shared,
            _ if is_over => Holding::Over,
            (Tenure::Held(_), Some(_)) => {
                let confirmed_us = self.link.up().and_then(|(connection, _)| connection.lease.confirmed_us());
                Holding::Held { confirmed_us: confirmed_us.unwrap_or(0) }
            }
            (Tenure::Held(_), None) => Holding::Claimed,
            (tenure, _) if tenure.pursues(self.newest.is_some_and(|newest| newest.is_own)) => {
                Holding::Claimed
            }
            (Tenure::Sought { .. } | Tenure::Claimed { .. }, _) => {
                self.newest.map_or(Holding::Unknown, Holding::Refused)
            }
        }
    }

    /// Has the client take the export over, if the newest ownership is still the one with the number
    /// `after`. A client that has an ownership, or shares its export, does nothing.
    pub fn take_over(&mut self, after: u64, now: u64) {
        if self.tenure.take_over(after) {
            // An attempt that is under way may have asked for less.
            self.link.close();
            self.round = AttemptRound::default();
            self.link.retry_at_once(now);
        }
    }

    /// Closes the connection or ends the attempts to make one.
    pub fn stop(&mut self) {
        self.poller.take();
        self.probes.end();
        self.link.close_politely();
    }

    /// Returns what `bdev_dst_get_info` shows.
    pub fn show(&self) -> ControlInfo<'_> {
        ControlInfo {
            state: self.state,
            state_age_ms: now_us().saturating_sub(self.state_since_us) / 1000,
            welcome: self.welcome.as_ref(),
            at: self.link.address().filter(|_| self.link.is_up()),
            lost: self.lost,
            reconnects: self.reconnects,
            size_note: self.bdev.as_ref().and_then(|bdev| bdev.size.note()),
        }
    }

    /// Does a turn of the poller.
    pub fn turn(&mut self, now: u64, deleting: bool) -> TurnOutcome {
        if self.look_at_outage(now, deleting) {
            return TurnOutcome::Lost;
        }
        self.note_state(now);
        if self.shared.give_up_if_asked() {
            self.session_is_given_up(now);
        }
        if self.link.is_up() {
            return match self.listen(now) {
                Ok(None) => self.watch(now),
                Ok(Some(DeviceChange::Resized(device))) => {
                    self.resized(device, now);
                    TurnOutcome::Worked
                }
                Ok(Some(DeviceChange::Removed)) => TurnOutcome::Removed,
                Err(broken) => {
                    if let Some(tail) = self.log.pass(now) {
                        let name = self.shared.name();
                        spdk::warn!("DST bdev {name}: control connection lost: {broken}{tail}");
                    }
                    if let Some((at, life)) = self.link.address().zip(self.link.life()) {
                        self.shared.places().lost(at, life, &broken, now);
                    }
                    self.lost(now);
                    TurnOutcome::Nothing
                }
            };
        }
        if deleting || self.shared.has_failed() {
            return TurnOutcome::Nothing;
        }
        match self.link.advance(now, Wanted::Session(self.succession.ask(), self.tenure.claim())) {
            LinkProgress::Up(welcome, messages) => {
                self.messages = messages;
                self.round = AttemptRound::default();
                // This comes before the bdev is registered, so that its users find the state up to
                // date.
                self.shared.set_control_up(true);
                self.tenure.welcomed(welcome.ownership);
                // The Welcome answers the doubts of all channels about the session.
                self.shared.take_doubt();
                if self.bdev.is_some() {
                    self.reconnects += 1;
                }
                match self.shared.device() {
                    None => TurnOutcome::Register(welcome),
                    Some(before) => {
                        self.rejoin(&welcome, before, now);
                        TurnOutcome::Worked
                    }
                }
            }
            LinkProgress::Failed { why, refused, at } => self.attempt_failed(now, why, refused, at.as_ref()),
            LinkProgress::Nothing => match self.attach.look(now) {
                AttachDue::Nothing => TurnOutcome::Nothing,
                AttachDue::Answer => TurnOutcome::Answer,
                AttachDue::GiveUp => {
                    let last = self.shared.last_error().unwrap_or_else(|| "no answer yet".to_owned());
                    TurnOutcome::GiveUp(Error::Timeout { ms: self.shared.options().attach_timeout_ms, last })
                }
            },
        }
    }

    /// Receives frames and renews the lease. Returns the newest change of the device, if there is
    /// one.
    fn listen(&mut self, now: u64) -> Result<Option<DeviceChange>, Broken> {
        let (connection, buffer) = self.link.up().expect("the caller has looked");
        let pumped = connection.receiver.pump(&mut connection.stream, buffer, &mut self.messages)?;
        if pumped.received > 0 {
            connection.silence.heard(now);
        }
        connection.keep_alive(self.messages.acknowledged.take(), now)?;
        connection.send_control()?;
        let device = self.shared.device().expect("a welcome has told what the device is");
        let events = self.messages.inbox.drain(..).filter_map(|message| match message {
            Message::Event(event) => Some(event),
            _ => None,
        });
        Ok(device_change::newest(&device, events)?)
    }

    /// Finds out whether a session that a channel doubts still exists, and lets the channels use a
    /// session that was held back.
    fn watch(&mut self, now: u64) -> TurnOutcome {
        if self.shared.take_doubt() && self.shared.session().is_some() {
            // The connection that replaces this one asks the target for the session.
            self.lost(now);
            return TurnOutcome::Nothing;
        }
        let channels = self.shared.channels();
        let are_over = || channels.leases_over_us().is_some_and(|over_us| now >= over_us);
        if let Some(session) = self.succession.release(are_over) {
            self.shared.set_session(Some(session));
        }
        self.probes.turn(&self.shared, self.link.waker(), now);
        TurnOutcome::Nothing
    }

    /// Has another session opened in place of the one that channels may no longer join.
    fn session_is_given_up(&mut self, now: u64) {
        let welcome = self.welcome.as_ref().expect("a Welcome has opened the session");
        let was_open = self.succession.give_up(welcome.instance);
        assert!(was_open, "channels could join the session");
        if self.link.is_up() {
            return self.lost(now);
        }
        // An attempt that is under way asks for the session that was just given up, and might get
        // it.
        if !mutation::is_on(Mutation::AttemptGoesOn) {
            self.link.close();
        }
        self.link.retry_at_once(now);
    }

    /// Closes the connection or ends the attempt to make one, because the user has repointed the
    /// bdev.
    pub fn repointed(&mut self, now: u64) {
        self.probes.end();
        self.round = AttemptRound::default();
        if self.link.is_up() {
            self.lost(now);
        } else {
            self.link.close();
        }
        self.link.retry_at_once(now);
    }

    /// Notes the size that the target says its device has, and passes it up to SPDK.
    ///
    /// SPDK refuses to shrink a bdev that is open. The bdev then keeps its size, and the target
    /// answers I/O behind the device's end with an error.
    fn resized(&mut self, device: Device, now: u64) {
        // The next Welcome is compared with this size, whether or not SPDK accepts it.
        self.shared.set_device(device);
        let num_blocks = device.num_blocks;
        let Some(bdev) = &mut self.bdev else { return };
        let is_news;
        (bdev.size, is_news) = match bdev.disk.resize(num_blocks) {
            Ok(()) => (BdevSize::Current(num_blocks), true),
            Err(_) => bdev.size.refuse(num_blocks),
        };
        if !is_news {
            return;
        }
        let Some(tail) = self.sizes.pass(now) else { return };
        let name = self.shared.name();
        match bdev.size.note() {
            None => spdk::notice!("DST bdev {name} has {num_blocks} blocks now{tail}"),
            Some(note) => spdk::error!("DST bdev {name}: {note}{tail}"),
        }
    }

    /// Closes the lost control connection. The session may survive.
    fn lost(&mut self, now: u64) {
        self.messages = Messages::default();
        self.probes.end();
        self.succession.lost();
        self.lost += 1;
        self.link.lost(now);
    }

    /// Checks for how long there has been no connection. Returns true if the bdev is to be removed.
    fn look_at_outage(&mut self, now: u64, deleting: bool) -> bool {
        self.patience.advance(now);
        let is_over = deleting || self.shared.has_failed();
        if self.bdev.is_none() || is_over {
            return false;
        }
        let has_connection = self.link.is_up() || self.shared.channels().connections() > 0;
        let (name, options) = (self.shared.name(), self.shared.options());
        let news = self.outage.turn(options.outage_limits(), has_connection, self.patience.now_us());
        match news {
            None => {}
            Some(OutageNews::FailFast) => {
                spdk::warn!(
                    "DST bdev {name}: no connection for fast_io_fail_timeout_ms ({} ms): I/O fails at once until \
                     there is one",
                    options.fast_io_fail_timeout_ms
                );
                self.shared.set_unreachable(true);
            }
            Some(OutageNews::Back) => {
                spdk::notice!("DST bdev {name}: the target is back, I/O waits for it again");
                self.shared.set_unreachable(false);
                news::tell(name, News::Reachable);
            }
            Some(OutageNews::Lost) => return true,
        }
        false
    }

    fn note_state(&mut self, now: u64) {
        let shared = &self.shared;
        shared.set_control_up(self.link.is_up());
        let all_up = self.link.is_up() && shared.channels().connections() >= shared.channels().count();
        let state = match &self.bdev {
            _ if shared.has_failed() => BdevState::Failed,
            _ if self.outage.fails_fast() => BdevState::Unreachable,
            None => BdevState::Attaching,
            Some(_) if all_up => BdevState::Connected,
            Some(_) => BdevState::Reconnecting,
        };
        if state != self.state {
            if state == BdevState::Connected {
                self.shared.forget_error();
            }
            self.state = state;
            self.state_since_us = now;
        }
    }
}
