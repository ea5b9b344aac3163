//! A mirror on the control thread: drives the rules, and carries out what they decide.
//!
//! What happens is told to the rules with [`Mirror::tell`], which then carries out the outputs, in
//! their order. No state is borrowed while an output is carried out, as that may lead to the next
//! input.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dst_mirror::takeover::Takeover;
use dst_mirror::{Device, Extent, Input, IoId, Level, Op, Outcome, Output, Rare, RequestId};
use spdk::bdev::BackendIo;
use spdk::clock::now_us;

use crate::buffers::Buffers;
use crate::changing::Changing;
use crate::device::{Backing, Place, Places, Promised, Standing};
use crate::disk::Destroy;
use crate::error::Error;
use crate::life::{Answer, Done, Life};
use crate::options::{Options, Plan, Start, Waits};
use crate::request::{Metadata, Pending};
use crate::sharing;
use crate::users::Users;

spdk::thread_local! {
    /// The number of mirrors that were made.
    static SERIALS: Cell<u64> = const { Cell::new(0) };
}

/// Removes a mirror from the list of all mirrors.
pub type Forget = fn(&Rc<Mirror>);

/// One mirror.
pub struct Mirror {
    plan: Plan,
    /// A number that no other mirror of the process has or had.
    pub(crate) serial: u64,
    options: Cell<Options>,
    /// The time at which the mirror was made, in µs.
    pub(crate) began_us: u64,
    pub(crate) forget: Forget,
    pub(crate) destroy: Destroy,
    /// Whether the configuration that is being saved has a call that waits for the mirror, in the
    /// place of the mirror's bdev.
    pub(crate) is_awaited: Arc<AtomicBool>,
    pub(crate) rules: RefCell<dst_mirror::Mirror>,
    /// Whether outputs are being carried out.
    is_carrying: Cell<bool>,
    /// The ends of requests that SPDK was not asked for, to be told when all outputs are carried
    /// out.
    pub(crate) at_once: RefCell<VecDeque<(RequestId, Device, Outcome)>>,
    pub(crate) places: RefCell<Places>,
    /// The takeover of the devices, if the call that made the mirror asked for one.
    pub(crate) takeover: RefCell<Option<Takeover>>,
    /// The change of the members or the witness that is going on.
    pub(crate) changing: RefCell<Option<Changing>>,
    /// The number of members, for every thread.
    pub(crate) members: Arc<AtomicUsize>,
    pub(crate) users: RefCell<Users>,
    pub(crate) buffers: RefCell<Buffers>,
    /// Requests that are not in use. There are as many requests as were ever under way at once.
    #[expect(clippy::vec_box, reason = "SPDK gets a request by its address")]
    pub(crate) idle: RefCell<Vec<Box<BackendIo<Pending>>>>,
    /// Requests for metadata that wait for memory.
    pub(crate) wanting_memory: RefCell<VecDeque<Metadata>>,
    pub(crate) life: RefCell<Life>,
    /// The callers that wait for the end of the start, and until when, in µs. Their number needs no
    /// limit, since SPDK limits the RPCs of a connection.
    waiting: RefCell<Vec<(u64, Done)>>,
    /// The number by which users' I/O arrives, once there is a bdev.
    pub(crate) number: Cell<Option<usize>>,
    /// The maximum number of blocks that are zeroed at once: see `submission.rs`.
    pub(crate) zeroes_max: Cell<u64>,
    /// What users were told of the members, once there is a bdev.
    pub(crate) promised: Cell<Option<Promised>>,
    /// Whether the metadata are to be overwritten at the end.
    pub(crate) is_to_be_wiped: Cell<bool>,
    /// The devices that still have their metadata at the end, although these were to be
    /// overwritten.
    pub(crate) not_wiped: RefCell<Vec<String>>,
    /// Whether the rules have stopped, so that nothing is told to them any more.
    pub(crate) is_stopped: Cell<bool>,
}

impl Mirror {
    /// Returns a mirror none of whose devices is open.
    ///
    /// # Errors
    /// Memory is short.
    pub(crate) fn new(plan: Plan, forget: Forget, destroy: Destroy) -> Result<Rc<Mirror>, Error> {
        let rules_options = plan.options.for_rules();
        let identifiers: dst_mirror::Identifiers = Box::new(random_id);
        let rules = match plan.start {
            Start::Create { force, is_equal } => {
                let (members, witness) = (plan.members.clone(), plan.witness.clone());
                let create = dst_mirror::Create { members, witness, force, is_equal };
                dst_mirror::Mirror::create(create, rules_options, identifiers)
            }
            Start::Assemble { force, .. } => {
                let (members, has_witness) = (plan.members.len(), plan.witness.is_some());
                let assemble = dst_mirror::Assemble { members, has_witness, force };
                dst_mirror::Mirror::assemble(assemble, rules_options, identifiers)
            }
        };
        let takeover = match plan.start {
            Start::Assemble { waits: Waits::UntilTakenOver, .. } => {
                let wait_us = u64::from(plan.options.degraded_wait_ms) * 1000;
                Some(Takeover::new(plan.members.len(), plan.witness.is_some(), now_us(), wait_us))
            }
            _ => None,
        };
        let mut places = Places::default();
        for (device, wanted) in plan.devices() {
            let why = Error::NoBdev(wanted.text.clone()).to_string();
            places[device.index()] =
                Some(Place { wanted, backing: Backing::Waiting { why }, standing: Standing::Named });
        }
        let requests_max = rules.requests_max() as usize;
        Ok(Rc::new(Mirror {
            serial: SERIALS.replace(SERIALS.get() + 1),
            options: Cell::new(plan.options),
            began_us: now_us(),
            forget,
            destroy,
            is_awaited: Arc::default(),
            rules: RefCell::new(rules),
            is_carrying: Cell::new(false),
            at_once: RefCell::new(VecDeque::with_capacity(requests_max)),
            places: RefCell::new(places),
            takeover: RefCell::new(takeover),
            changing: RefCell::new(None),
            members: Arc::new(AtomicUsize::new(plan.members.len())),
            users: RefCell::new(Users::new(rules_options.ios_max)),
            buffers: RefCell::new(Buffers::new(rules_options.copy_slots, rules_options.copy_bytes)?),
            idle: RefCell::new(Vec::with_capacity(requests_max)),
            wanting_memory: RefCell::default(),
            life: RefCell::new(Life::Starting { waiting: None }),
            waiting: RefCell::default(),
            number: Cell::new(None),
            zeroes_max: Cell::new(1),
            promised: Cell::new(None),
            is_to_be_wiped: Cell::new(false),
            not_wiped: RefCell::default(),
            is_stopped: Cell::new(false),
            plan,
        }))
    }

    /// Returns the mirror's name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Returns what the operator asked for, with the devices and options as they are now.
    pub fn plan(&self) -> Plan {
        let places = self.places.borrow();
        let name = |place: &Place| (place.standing == Standing::Named).then(|| place.wanted.text.clone());
        let members = places[..Device::WITNESS.index()].iter().flatten().filter_map(name).collect();
        let witness = places[Device::WITNESS.index()].as_ref().and_then(name);
        Plan { options: self.options.get(), members, witness, ..self.plan.clone() }
    }

    /// Returns the options.
    pub fn options(&self) -> Options {
        self.options.get()
    }

    /// Changes the options.
    pub fn set_options(self: &Rc<Self>, options: Options) {
        self.options.set(options);
        self.tell(Input::SetOptions(options.for_rules()));
    }

    /// Lets `answer` wait until the mirror can be used, at most for `start_timeout_ms`.
    pub(crate) fn set_waiting(&self, answer: Answer) {
        let until_us = now_us() + u64::from(self.options().start_timeout_ms) * 1000;
        *self.life.borrow_mut() = Life::Starting { waiting: Some((answer, until_us)) };
    }

    /// Calls `done` when the mirror has been assembled, or has ended, or `start_timeout_ms` has
    /// passed. In the last case the mirror goes on trying.
    pub(crate) fn wait_for_start(&self, done: Done) {
        let until_us = now_us() + u64::from(self.options().start_timeout_ms) * 1000;
        self.waiting.borrow_mut().push((until_us, done));
        self.end_waits(now_us());
    }

    /// Answers the callers that need not wait any longer for the start.
    fn end_waits(&self, now: u64) {
        let is_starting = matches!(*self.life.borrow(), Life::Starting { .. });
        let over: Vec<(u64, Done)> = self
            .waiting
            .borrow_mut()
            .extract_if(.., |(until_us, _)| !is_starting || *until_us <= now)
            .collect();
        for (_, done) in over {
            done();
        }
    }

    /// Tells the rules what happened, and carries out what they decide. HOT.
    pub(crate) fn tell(self: &Rc<Self>, input: Input) {
        if self.is_stopped.get() {
            return;
        }
        let now = now_us();
        self.rules.borrow_mut().handle(now, input);
        self.carry_out(now);
    }

    /// As [`Mirror::tell`] with [`Input::Done`]. HOT.
    pub(crate) fn tell_done(self: &Rc<Self>, request: RequestId, device: Device, outcome: Outcome) {
        if self.is_stopped.get() {
            return;
        }
        let now = now_us();
        self.rules.borrow_mut().done(now, request, device, outcome);
        self.carry_out(now);
    }

    /// As [`Mirror::tell`] with [`Input::Submit`], at a time that was just read. HOT.
    pub(crate) fn tell_submitted(self: &Rc<Self>, now: u64, io: IoId, op: Op, range: Extent) {
        if self.is_stopped.get() {
            return;
        }
        self.rules.borrow_mut().submit(now, io, op, range);
        self.carry_out(now);
    }

    /// Carries out what the rules have decided, to whom something was told at `now`. HOT.
    fn carry_out(self: &Rc<Self>, now: u64) {
        if self.is_carrying.replace(true) {
            // An outer call of this function carries out the rest.
            return;
        }
        loop {
            let output = self.rules.borrow_mut().poll_output();
            if let Some(output) = output {
                self.carry(output, now);
                continue;
            }
            let ended = self.at_once.borrow_mut().pop_front();
            let Some((request, device, outcome)) = ended else { break };
            self.rules.borrow_mut().handle(now_us(), Input::Done { request, device, outcome });
        }
        self.is_carrying.set(false);
    }

    /// Carries out one output. HOT.
    fn carry(self: &Rc<Self>, output: Output, now: u64) {
        match output {
            Output::Read { request, device, io, range } => self.read(request, device, io, range),
            Output::Write { request, devices, io, range } => self.write(request, devices, io, range),
            Output::WriteZeroes { request, devices, range } => self.write_zeroes(request, devices, range),
            Output::Flush { request, device } => self.flush(request, device),
            Output::CopyRead { request, device, slot, range } => {
                self.copy_read(request, device, slot, range);
            }
            Output::CopyWrite { request, device, slot, range } => {
                self.copy_write(request, device, slot, range);
            }
            Output::CompareRead { request, device, slot, with, range } => {
                self.compare_read(request, device, [with, slot], range);
            }
            Output::MetadataRead { request, device, range } => {
                self.metadata(Metadata { request, device, range, content: None });
            }
            Output::Reset { request, device } => self.reset(request, device),
            Output::Close { device } => self.close(device),
            Output::WantTurn { bytes } => {
                if sharing::want(self.serial, bytes) {
                    self.tell(Input::Turn);
                }
            }
            Output::Complete { io, status } => self.complete(io, status, now),
            Output::Rare(rare) => self.carry_rare(*rare),
        }
    }

    /// Carries out what is rarely wanted.
    #[cold]
    fn carry_rare(self: &Rc<Self>, rare: Rare) {
        match rare {
            Rare::MetadataWrite { request, device, range, bytes } => {
                self.metadata(Metadata { request, device, range, content: Some(bytes) });
            }
            Rare::Register { mirror, blocks, block_size } => self.register(mirror, blocks, block_size),
            Rare::Changed { result } => self.changed(result),
            Rare::Ended { why } => self.ended(why),
            Rare::Stopped { wiped } => self.stopped(&wiped),
            Rare::Log { level: Level::Warning, text } => spdk::warn!("DST mirror {}: {text}", self.name()),
            Rare::Log { level: Level::Notice, text } => spdk::notice!("DST mirror {}: {text}", self.name()),
        }
    }

    /// Returns the number by which users' I/O arrives, once there is a bdev.
    pub(crate) fn number(&self) -> Option<usize> {
        self.number.get()
    }

    /// Returns whether the mirror is being deleted.
    pub(crate) fn is_deleting(&self) -> bool {
        self.life.borrow().is_over()
    }

    /// Decides whether the configuration that is about to be saved waits for the mirror where it
    /// has the mirror's bdev. SPDK asks the bdev for that under its lock of all bdevs (seen in
    /// 26.09), with which no other bdev can be looked at; it asks the bdev module first, without
    /// the lock.
    pub fn prepare_config(&self) {
        self.is_awaited.store(self.is_settled() && self.comes_after_devices(), Ordering::Relaxed);
    }

    /// Returns whether a saved configuration has the mirror.
    pub(crate) fn is_settled(&self) -> bool {
        self.life.borrow().is_settled()
    }

    /// A millisecond has passed.
    pub(crate) fn tick(self: &Rc<Self>, now: u64) {
        let deadline = self.rules.borrow().next_deadline();
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.tell(Input::Tick);
        }
        self.send_unsent();
        self.take_devices_soon(now);
        // First, as the mirror may be forgotten then.
        self.end_waits(now);
        self.look_at_life(now);
    }

    /// Returns whether devices that are not there are waited for.
    pub(crate) fn wants_devices(&self) -> bool {
        matches!(*self.life.borrow(), Life::Starting { .. } | Life::Running(_))
    }

    /// Returns whether the mirror's start is a creation, for which all devices have to be there.
    pub(crate) fn is_created(&self) -> bool {
        matches!(self.plan.start, Start::Create { .. })
    }

    /// Returns whether the mirror is created just now.
    pub(crate) fn is_being_created(&self) -> bool {
        self.is_created() && matches!(*self.life.borrow(), Life::Starting { .. })
    }

    /// Returns the devices that the operator named.
    pub(crate) fn named_devices(&self) -> Vec<Device> {
        let places = self.places.borrow();
        let is_named = |device: &Device| {
            places[device.index()].as_ref().is_some_and(|place| place.standing == Standing::Named)
        };
        Device::all().filter(is_named).collect()
    }
}

/// Returns a random number other than 0.
fn random_id() -> u128 {
    loop {
        let mut bytes = [0; 16];
        spdk::random::fill(&mut bytes);
        let number = u128::from_be_bytes(bytes);
        if number != 0 {
            return number;
        }
    }
}
