//! A mirror as its driver sees it.

use crate::assembly::Assembling;
use crate::call::{Assemble, Create, Identifiers};
use crate::changes::requests_max;
use crate::copying::Turn;
use crate::creation::Creating;
use crate::extents::Extent;
use crate::handles::{Device, IoId, RequestId};
use crate::input::{Input, Op, Outcome};
use crate::mutation::{Mutation, is_on};
use crate::options::Options;
use crate::output::{Output, Rare, Status};
use crate::report::{Counts, Report, State};
use crate::requests::{Answer, Purpose, Requests};
use crate::running::{Mode, Port, Running};
use crate::shared::{Link, Shared};

/// What a mirror is doing.
enum Phase {
    Creating(Creating),
    Assembling(Assembling),
    Running(Box<Running>),
    /// The mirror could not be created.
    Ended(String),
    Stopped,
}

/// A mirror: told what happens through [`Mirror::handle`], and asked what is to be done by
/// [`Mirror::poll_output`] until that returns `None`.
pub struct Mirror {
    shared: Shared,
    /// The call, if the mirror is not a new one.
    assemble: Option<Assemble>,
    phase: Phase,
}

impl Mirror {
    /// Creates a mirror. The driver opens the devices, and reports each as opened.
    pub fn create(create: Create, options: Options, identifiers: Identifiers) -> Mirror {
        let members = create.members.len();
        Mirror::new(members, None, Phase::Creating(Creating::new(create)), options, identifiers)
    }

    /// Assembles a mirror. The driver opens the devices as they appear, and reports each as opened.
    pub fn assemble(assemble: Assemble, options: Options, identifiers: Identifiers) -> Mirror {
        let members = assemble.members;
        let phase = Phase::Assembling(Assembling::new(assemble));
        Mirror::new(members, Some(assemble), phase, options, identifiers)
    }

    fn new(
        members: usize,
        assemble: Option<Assemble>,
        phase: Phase,
        options: Options,
        identifiers: Identifiers,
    ) -> Mirror {
        let requests = requests_max(options.ios_max, options.copy_slots, members);
        let shared = Shared::new(Requests::new(requests), options, identifiers);
        Mirror { shared, assemble, phase }
    }

    /// Tells the mirror what has happened at the time `now`, in µs of any clock that does not go
    /// back.
    pub fn handle(&mut self, now: u64, input: Input) {
        match input {
            Input::Submit { io, op, range } => self.submit(now, io, op, range),
            Input::Done { request, device, outcome } => self.done(now, request, device, outcome),
            other => {
                self.pass(now);
                self.happened(other);
            }
        }
    }

    #[inline]
    fn pass(&mut self, now: u64) {
        let requests = &mut self.shared.requests;
        requests.now = requests.now.max(now);
    }

    /// As [`Mirror::handle`] with [`Input::Submit`], which each I/O brings: without the way around.
    pub fn submit(&mut self, now: u64, io: IoId, op: Op, range: Extent) {
        self.pass(now);
        match &mut self.phase {
            Phase::Running(running) => {
                running.submit(&mut self.shared, io, op, range);
                running.settle(&mut self.shared);
            }
            _ => self.shared.requests.complete(io, Status::Failed),
        }
    }

    /// As [`Mirror::handle`] with [`Input::Done`], which each I/O brings: without the way around.
    #[inline]
    pub fn done(&mut self, now: u64, request: RequestId, device: Device, outcome: Outcome) {
        self.pass(now);
        let s = &mut self.shared;
        let has_succeeded = outcome == Outcome::Success;
        let succeeded = match s.slots[device.index()].who {
            Some(who) if has_succeeded => 1 << who,
            _ => 0,
        };
        let answer = s.requests.end(request, device, succeeded);
        if has_succeeded && !answer.is_last {
            // A write that other members still have: nothing waits for this one's answer.
            return;
        }
        if outcome == Outcome::Refused {
            self.refused(device);
        }
        self.tell_waiting(device, outcome, answer);
        self.settle();
    }

    /// Something has happened that is not part of each I/O.
    fn happened(&mut self, input: Input) {
        let s = &mut self.shared;
        match input {
            Input::Submit { .. } | Input::Done { .. } => unreachable!("they do not come here"),
            Input::MetadataRead { request, bytes } => {
                let device = s.requests.device(request);
                s.requests.end(request, device, 0);
                if !s.supply(device, &bytes) {
                    match &mut self.phase {
                        Phase::Creating(creating) => {
                            if let Err(why) = creating.supply(device, &bytes) {
                                self.fail(why);
                            }
                        }
                        Phase::Running(running) => running.supply_probe(s, device, &bytes),
                        Phase::Assembling(_) | Phase::Ended(_) | Phase::Stopped => {}
                    }
                }
                self.take_step();
            }
            Input::Compared { request, differing } => {
                s.requests.end(request, s.requests.device(request), 0);
                if let Phase::Running(running) = &mut self.phase {
                    running.verify_done(s, Outcome::Success, differing);
                }
            }
            Input::Verify { repairs } => {
                if let Phase::Running(running) = &mut self.phase {
                    running.verify(s, repairs);
                }
            }
            Input::StopVerification => {
                if let Phase::Running(running) = &mut self.phase {
                    running.stop_verification(s);
                }
            }
            Input::Opened { device, blocks, block_size } => {
                s.opened(device, blocks, block_size);
                self.take_step();
            }
            Input::Gone { device } => {
                match &mut self.phase {
                    Phase::Running(running) => running.device_gone(s, device),
                    _ => s.gone(device),
                }
                self.take_step();
            }
            Input::Refused { device } => self.refused(device),
            Input::CacheLost { device } => {
                if let Phase::Running(running) = &mut self.phase {
                    running.cache_lost(s, device);
                }
            }
            Input::Reachable { device } => {
                s.reachable(device);
                self.take_step();
            }
            Input::Turn => {
                if let Phase::Running(running) = &mut self.phase {
                    running.take_turn(s);
                }
            }
            Input::Tick => self.tick(),
            Input::SetOptions(options) => {
                let old = &s.options;
                let (ios_max, copy_slots, copy_bytes) = (old.ios_max, old.copy_slots, old.copy_bytes);
                let (hot_max, extents_max, region_shift) = (old.hot_max, old.extents_max, old.region_shift);
                s.options = Options {
                    ios_max,
                    copy_slots,
                    copy_bytes,
                    hot_max,
                    extents_max,
                    region_shift,
                    ..options
                };
                if let Phase::Running(running) = &mut self.phase {
                    running.next_late = 0;
                    if !s.options.shares_rate {
                        running.copying.turn = Turn::None;
                    }
                }
                self.tick();
            }
            Input::AddMember { device, name, force, is_open } => match &mut self.phase {
                Phase::Running(running) => running.add_member(s, device, (name, force), is_open),
                _ => s.requests.push(Rare::Changed { result: Err("the mirror does not run".to_owned()) }),
            },
            Input::RemoveMember { id } => match &mut self.phase {
                Phase::Running(running) => running.remove_member(s, id),
                _ => s.requests.push(Rare::Changed { result: Err("the mirror does not run".to_owned()) }),
            },
            Input::AddWitness { name, force, is_open } => match &mut self.phase {
                Phase::Running(running) => running.add_witness(s, (name, force), is_open),
                _ => s.requests.push(Rare::Changed { result: Err("the mirror does not run".to_owned()) }),
            },
            Input::RemoveWitness => match &mut self.phase {
                Phase::Running(running) => running.remove_witness(s),
                _ => s.requests.push(Rare::Changed { result: Err("the mirror does not run".to_owned()) }),
            },
            Input::Stop { wipe } => match &mut self.phase {
                Phase::Running(running) => running.stop(s, wipe),
                Phase::Stopped => {}
                _ => {
                    self.phase = Phase::Stopped;
                    s.requests.push(Rare::Stopped { wiped: Vec::new() });
                }
            },
        }
        self.settle();
    }

    #[inline]
    fn settle(&mut self) {
        if let Phase::Running(running) = &mut self.phase {
            running.settle(&mut self.shared);
        }
    }

    /// Returns what is to be done next.
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.requests.poll_output()
    }

    /// Tells those who have waited for a request that it has ended.
    #[inline]
    fn tell_waiting(&mut self, device: Device, outcome: Outcome, answer: Answer) {
        let s = &mut self.shared;
        let purpose = answer.purpose;
        let Phase::Running(running) = &mut self.phase else {
            return self.done_before(device, purpose, outcome);
        };
        let who = s.slots[device.index()].who;
        match (purpose, who) {
            (Purpose::Read(io), _) => running.read_done(s, io, outcome),
            (Purpose::Write(io), Some(who)) => running.write_done(s, io, who, outcome, answer),
            (Purpose::Repair(io), _) => running.repair_done(s, io, outcome),
            (Purpose::Flush(number), Some(who)) => running.flush_done(s, number, who, outcome),
            (Purpose::Copy(slot), _) => running.copy_done(s, slot, device, outcome),
            (Purpose::CopyFlush, _) => running.copy_flush_done(s, device, outcome),
            (Purpose::Verify, _) => running.verify_done(s, outcome, Vec::new()),
            (Purpose::Record, Some(who)) => running.record_done(s, who, outcome),
            (Purpose::Wipe, who) => running.wipe_done(s, who, outcome),
            (Purpose::Load, _) => self.done_before(device, purpose, outcome),
            (Purpose::Reset, _) => {}
            (Purpose::Write(_) | Purpose::Flush(_) | Purpose::Record, None) => {
                unreachable!("a request to a device that is not in use")
            }
        }
    }

    /// A flush before metadata are read has ended, or a read of them has failed.
    fn done_before(&mut self, device: Device, purpose: Purpose, outcome: Outcome) {
        if purpose == Purpose::Load && outcome == Outcome::Success {
            self.shared.flushed(device);
            self.take_step();
        } else if purpose == Purpose::Load {
            let is_there = !matches!(self.shared.slot(device).link, Link::Absent | Link::Closing);
            if is_there {
                self.shared.requests.warn(format!("{device} can't be read"));
                self.shared.close(device);
            }
            self.take_step();
        }
    }

    /// A device belongs to another host now.
    fn refused(&mut self, device: Device) {
        let why = format!("{device} belongs to another host now: the mirror has been taken over");
        match &mut self.phase {
            Phase::Running(running) if running.is_candidate(device) => {
                running.fail_change(&mut self.shared, "the device belongs to another host now");
            }
            Phase::Running(running) if running.is_outsider(&self.shared, device) => self.shut_out(device),
            Phase::Assembling(assembling) if assembling.is_outsider(&self.shared, device) => {
                self.shut_out(device);
            }
            Phase::Running(running) if is_on(Mutation::GoOnRefused) => {
                if let Some(who) = running.place_of(device) {
                    running.fail_member(&mut self.shared, who, "it is owned by another host");
                }
            }
            Phase::Running(running) => running.end(&mut self.shared, why),
            Phase::Creating(_) | Phase::Assembling(_) => self.fail(why),
            Phase::Ended(_) | Phase::Stopped => {}
        }
    }

    /// A device belongs to another host, and the mirror does without it.
    fn shut_out(&mut self, device: Device) {
        self.shared.requests.warn(format!("{device} belongs to another host now, and is no member"));
        self.shared.close(device);
    }

    /// The mirror can't be created or assembled.
    fn fail(&mut self, why: String) {
        if matches!(self.phase, Phase::Ended(_) | Phase::Stopped) {
            return;
        }
        for device in Device::all() {
            if !matches!(self.shared.slot(device).link, Link::Absent | Link::Closing) {
                self.shared.close(device);
            }
        }
        self.shared.requests.push(Rare::Ended { why: why.clone() });
        self.phase = Phase::Ended(why);
    }

    /// Goes on after what is known of the devices has changed.
    fn take_step(&mut self) {
        let s = &mut self.shared;
        match &mut self.phase {
            Phase::Creating(creating) => match creating.try_create(s) {
                Ok(None) => {}
                Ok(Some(running)) => self.phase = Phase::Running(Box::new(running)),
                Err(why) => self.fail(why),
            },
            Phase::Assembling(assembling) => {
                if let Some(running) = assembling.try_assemble(s) {
                    self.phase = Phase::Running(Box::new(running));
                    self.take_step();
                }
            }
            Phase::Running(running) if running.mode == Mode::Serving => match self.assemble {
                Some(call) if running.is_outranked(s) => {
                    s.requests
                        .notice("a device has a newer record: the mirror is assembled again".to_owned());
                    s.close_all();
                    self.phase = Phase::Assembling(Assembling::new(call));
                }
                _ => running.join_all(s),
            },
            Phase::Running(_) | Phase::Ended(_) | Phase::Stopped => {}
        }
    }

    fn tick(&mut self) {
        let now = self.shared.now();
        for device in Device::all() {
            self.shared.read_due(device);
        }
        self.take_step();
        if let Phase::Running(running) = &mut self.phase {
            running.give_up_late(&mut self.shared);
            running.flush_in_time(now, self.shared.options.flush_interval_ms.saturating_mul(1000));
            running.is_stirred = true;
        }
    }

    /// Returns the time at which [`Input::Tick`] is wanted, in µs.
    pub fn next_deadline(&self) -> Option<u64> {
        let s = &self.shared;
        let own = match &self.phase {
            Phase::Assembling(assembling) => assembling.next_deadline(s),
            Phase::Running(running) => running.next_deadline(s),
            Phase::Creating(_) | Phase::Ended(_) | Phase::Stopped => None,
        };
        own.into_iter().chain(s.next_deadline()).min()
    }

    /// Returns the number of requests that there are at most at once.
    pub fn requests_max(&self) -> u32 {
        self.shared.requests.max()
    }

    /// Returns the maximum number of blocks of a write that starts at this block: 0 before
    /// [`Rare::Register`].
    pub fn io_blocks_max(&self, start: u64) -> u64 {
        match &self.phase {
            Phase::Running(running) => {
                let left = running.blocks.saturating_sub(start);
                if left == 0 { 0 } else { running.regions.limit(Extent::new(start, left)).count }
            }
            _ => 0,
        }
    }

    /// Returns whether a device is known to be no member's, and not the witness: it was removed, or holds
    /// nothing of the mirror. False unless the mirror runs.
    pub fn is_outsider(&self, device: Device) -> bool {
        matches!(&self.phase, Phase::Running(running) if running.is_outsider(&self.shared, device))
    }

    /// Checks whether a verification may begin.
    ///
    /// # Errors
    /// Why not.
    pub fn may_verify(&self) -> Result<(), &'static str> {
        match &self.phase {
            Phase::Running(running) => running.may_verify(),
            _ => Err("it does not run"),
        }
    }

    /// Returns whether it is not known yet whose an open device is.
    pub fn is_being_read(&self, device: Device) -> bool {
        let link = &self.shared.slots[device.index()].link;
        matches!(link, Link::Waiting(_) | Link::Loading(_) | Link::Known(_))
    }

    /// Returns what the mirror shows of itself.
    pub fn report(&self) -> Report {
        let state = match &self.phase {
            Phase::Running(running) => return running.report(&self.shared),
            Phase::Creating(creating) => State::Starting { why: creating.why.clone() },
            Phase::Assembling(assembling) => State::Starting { why: assembling.why.clone() },
            Phase::Ended(why) => State::Ended { why: why.clone() },
            Phase::Stopped => State::Stopped,
        };
        Report {
            mirror: None,
            state,
            blocks: 0,
            block_size: 0,
            generation: None,
            number: 0,
            members: Vec::new(),
            witness: None,
            hot_regions: 0,
            region_blocks: 0,
            counts: Counts::default(),
            verification: None,
        }
    }
}

impl Running {
    /// Returns the devices whose requests must not take too long: those in use, and those that were given
    /// up and are being closed.
    pub(crate) fn watched_devices<'a>(&'a self, s: &'a Shared) -> impl Iterator<Item = Device> + 'a {
        let up = self.ports.iter().filter_map(|port| match port {
            Port::Up(up) => Some(up.device),
            Port::Down { .. } => None,
        });
        up.chain(Device::all().filter(|&device| {
            matches!(s.slots[device.index()].link, Link::Closing) || self.is_candidate(device)
        }))
    }

    fn next_deadline(&self, s: &Shared) -> Option<u64> {
        let until = match self.mode {
            Mode::Stopping { until, .. } | Mode::Wiping { until, .. } => Some(until),
            Mode::Serving => None,
            Mode::Ended | Mode::Stopped => return None,
        };
        let flush = (!self.regions.is_empty()).then_some(self.next_flush);
        let is_timed = |device| s.requests.in_flight(device) > 0 && self.patience(s, device).is_some();
        let is_timed = self.watched_devices(s).any(is_timed);
        let late = is_timed.then(|| self.next_late.max(s.now() + 1));
        let copying = self.copying.next_deadline().filter(|_| self.mode == Mode::Serving);
        let verifying = self.verifying.next_deadline().filter(|_| self.mode == Mode::Serving);
        [until, flush, late, copying, verifying].into_iter().flatten().min()
    }
}
