//! Verifications: the members in sync are compared, window by window, from the first block to the last.
//!
//! A window is a range of one region, which the verification has to itself while it is compared: no
//! write is in flight there, so members in sync are equal there by rule 1. What differs was changed
//! behind the mirror's back, or is of a user who changed a buffer while it was written. Nobody can say
//! which member is right, so all are compared with the one of the lowest place that can read the
//! window, the *reference*, and are repaired from it, if the operator wants that. A repair is a write:
//! its region is in the intent log before, and leaves it after a flush; members that are not in sync
//! miss it. What was begun when a member falls out, comes back or loses its cache does not count, and
//! is begun again.
//!
//! Resync has precedence: a verification waits while members are brought up to date.

use crate::configuration::MemberState;
use crate::copying::Copy;
use crate::extents::Extent;
use crate::handles::SlotId;
use crate::input::Outcome;
use crate::locks::Holder;
use crate::mutation::{Mutation, is_on};
use crate::regions::Begin;
use crate::report::{Difference, Verification, VerificationState};
use crate::requests::Purpose;
use crate::running::{Mode, Places, Running, says_the_same};
use crate::shared::Shared;
use crate::verifying::{Stage, Step, Window};

/// What becomes of a window that ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// All its blocks were gone through.
    Done,
    /// The window is begun again, if the verification goes on.
    Again,
}

impl Running {
    /// Checks whether a verification may begin.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_verify(&self) -> Result<(), &'static str> {
        let members = self.config.members.iter().filter(|m| m.state != MemberState::Detached).count();
        if self.mode != Mode::Serving || !self.is_registered {
            Err("it does not run")
        } else if !self.verifying.is_idle() {
            Err("a verification is under way: wait until it has ended, or stop it")
        } else if members < 2 {
            Err("it has one member only, and nothing to compare that with")
        } else if self.copying.slots.len() < 2 {
            Err("it has memory for one copy only, and a comparison takes two")
        } else {
            Ok(())
        }
    }

    /// Begins a verification, if it may begin.
    pub(crate) fn verify(&mut self, s: &mut Shared, repairs: bool) {
        if self.may_verify().is_err() {
            return;
        }
        s.requests.notice("the members are compared".to_owned());
        self.verifying.shown = Some(Verification {
            state: VerificationState::Running { waits_for: None },
            repairs,
            compared: 0,
            differing: 0,
            repaired: 0,
            unread: 0,
            first: Vec::new(),
        });
        self.verifying.stage = Stage::Between { position: 0 };
        self.is_stirred = true;
    }

    /// Stops the verification. A window that members are asked for ends when they have answered.
    pub(crate) fn stop_verification(&mut self, s: &mut Shared) {
        if self.verifying.goes_on() {
            s.requests.notice("the comparison of the members is stopped".to_owned());
            self.end_verification(VerificationState::Stopped { at: s.now() });
        }
    }

    fn end_verification(&mut self, state: VerificationState) {
        if let Some(shown) = &mut self.verifying.shown {
            shown.state = state;
        }
        self.is_stirred = true;
    }

    /// Returns what is shown of the verification.
    pub(crate) fn verification_report(&self) -> Option<Verification> {
        let mut shown = self.verifying.shown.clone()?;
        if let VerificationState::Running { waits_for } = &mut shown.state {
            *waits_for = match self.verifying.stage {
                Stage::Between { .. } => self.verification_waits_for(),
                Stage::Idle | Stage::Comparing(_) => None,
            };
        }
        Some(shown)
    }

    /// Returns what has to happen before the next window can begin.
    fn verification_waits_for(&self) -> Option<&'static str> {
        let is_resyncing = |who: usize| self.is_resyncing(who) && self.up(who).is_some();
        if self.copying.busy > 0 || self.copying.is_flushing || self.members().any(is_resyncing) {
            Some("a member that is brought up to date")
        } else if !self.is_settled() || !says_the_same(&self.config, &self.recorded) {
            Some("a record of the members")
        } else if self.sources().count_ones() < 2 {
            Some("a second member in sync")
        } else {
            None
        }
    }

    /// Goes on with a verification: with its window, or with the next one.
    pub(crate) fn continue_verification(&mut self, s: &mut Shared) {
        if self.verifying.is_idle() {
            return;
        }
        if self.mode != Mode::Serving {
            self.stop_verification(s);
        }
        if let Stage::Between { position } = self.verifying.stage {
            match self.verifying.goes_on() {
                true => self.begin_window(s, position),
                false => self.verifying.stage = Stage::Idle,
            }
            return;
        }
        let Some(window) = self.verifying.take_window() else { return };
        match window.step {
            Step::Locking if !self.verifying.goes_on() => self.end_window(s, window, End::Again),
            Step::Logging { .. } | Step::Recording { .. } if !self.is_sound(&window) => {
                self.end_window(s, window, End::Again);
            }
            Step::Logging { who } => self.log_window(s, window, who),
            Step::Recording { who } if self.is_settled() && self.regions.is_recorded(window.range) => {
                self.repair_next(s, window, who);
            }
            _ => self.verifying.stage = Stage::Comparing(window),
        }
    }

    /// Begins the window that starts with a block, if that can be now.
    fn begin_window(&mut self, s: &mut Shared, position: u64) {
        if position >= self.blocks {
            return self.all_compared(s);
        }
        if s.now() < self.verifying.not_before {
            return;
        }
        self.verifying.not_before = 0;
        if self.verification_waits_for().is_some() {
            return;
        }
        let mut free =
            (0..).map(SlotId).zip(&self.copying.slots).filter(|(_, slot)| matches!(slot, Copy::Free));
        let (Some((first, _)), Some((second, _))) = (free.next(), free.next()) else { return };
        let size = self.regions.size();
        let region = size.extent(size.region_of(position), self.blocks);
        let (_, most) = self.copying.window(s.now(), self.block_size);
        let end = region.end().min(position + most);
        let range = Extent::between(position, end);
        let bytes = range.count * u64::from(self.block_size);
        if let Err(not_before) = self.verifying.credit.take(s.now(), bytes, s.options.verify_rate) {
            self.verifying.not_before = not_before;
            return;
        }
        let slots = [first, second];
        for slot in slots {
            self.copying.slots[usize::from(slot.0)] = Copy::Lent;
        }
        self.verifying.stage = Stage::Comparing(Window {
            range,
            slots,
            step: Step::Locking,
            members: 0,
            lost_caches: self.lost_caches,
            reference: 0,
            left: 0,
            unread: 0,
            unreadable: 0,
            differing: Vec::new(),
            found: Vec::new(),
            is_logged: false,
        });
        if is_on(Mutation::VerifyUnlocked) || self.locks.lock(Holder::Verification, range) {
            self.window_locked(s);
        }
    }

    /// The window has its range.
    pub(crate) fn window_locked(&mut self, s: &mut Shared) {
        let Some(window) = self.verifying.take_window() else {
            unreachable!("a lock is granted to a window that is not there")
        };
        self.copying.begins(s.now());
        let members = self.sources();
        let window = Window { members, left: members, lost_caches: self.lost_caches, ..window };
        match self.verifying.goes_on() && self.mode == Mode::Serving && members.count_ones() > 1 {
            true => self.read_reference(s, window),
            false => self.end_window(s, window, End::Again),
        }
    }

    /// Returns whether what was read in a window counts: the same members are in sync as at its beginning,
    /// and none has lost its cache.
    fn is_sound(&self, window: &Window) -> bool {
        let keeps_cache = |who: usize| self.lost_caches[who] == window.lost_caches[who];
        self.verifying.goes_on()
            && self.mode == Mode::Serving
            && self.sources() == window.members
            && self.members().filter(|who| window.members & 1 << who != 0).all(keeps_cache)
    }

    /// Reads the member of the lowest place that is left.
    fn read_reference(&mut self, s: &mut Shared, mut window: Window) {
        let reference = lowest(window.left).and_then(|who| Some((who, self.active(who)?)));
        let Some((reference, device)) = reference else {
            // None can read the window.
            return self.end_window(s, window, End::Done);
        };
        window.left &= !(1 << reference);
        (window.reference, window.step) = (reference, Step::Reading);
        s.requests.copy_read(device, Purpose::Verify, window.slots[0], window.range);
        self.verifying.stage = Stage::Comparing(window);
    }

    /// Goes on with the next member of a window, or ends the window.
    fn next_of_window(&mut self, s: &mut Shared, mut window: Window) {
        let next = lowest(window.left).and_then(|who| Some((who, self.active(who)?)));
        if let Some((who, device)) = next {
            window.left &= !(1 << who);
            window.step = Step::Comparing { who };
            s.requests.compare_read(device, window.slots, window.range);
            self.verifying.stage = Stage::Comparing(window);
            return;
        }
        let repairs = self.verifying.shown.as_ref().is_some_and(|shown| shown.repairs);
        match lowest(window.unreadable).filter(|_| repairs) {
            Some(who) => {
                // Writing blocks is what makes a disk replace those that it can't read.
                window.unreadable &= !(1 << who);
                window.differing = vec![window.range];
                self.log_window(s, window, who);
            }
            None => self.end_window(s, window, End::Done),
        }
    }

    /// A step of a window has ended at a member.
    pub(crate) fn verify_done(&mut self, s: &mut Shared, outcome: Outcome, differing: Vec<Extent>) {
        let Some(mut window) = self.verifying.take_window() else {
            unreachable!("an answer to a window that is not there")
        };
        let has_succeeded = outcome == Outcome::Success;
        match window.step {
            // Whatever else has happened: the block may hold anything now.
            Step::RepairWriting { who, .. } if !has_succeeded => {
                self.fail_member(s, who, "a block that is to be as on another member could not be written");
                self.end_window(s, window, End::Again);
            }
            _ if !self.is_sound(&window) => self.end_window(s, window, End::Again),
            Step::Reading if has_succeeded => self.next_of_window(s, window),
            Step::Reading => {
                window.unread |= 1 << window.reference;
                window.unreadable |= 1 << window.reference;
                self.read_reference(s, window);
            }
            Step::Comparing { who } if has_succeeded => {
                let repairs = self.verifying.shown.as_ref().is_some_and(|shown| shown.repairs);
                if repairs && !differing.is_empty() {
                    window.differing = differing;
                    return self.log_window(s, window, who);
                }
                window.found.extend(differing.into_iter().map(|range| (who, range)));
                self.next_of_window(s, window);
            }
            Step::Comparing { who } => {
                window.unread |= 1 << who;
                window.unreadable |= 1 << who;
                self.next_of_window(s, window);
            }
            Step::RepairReading { who, run } => match self.active(who).filter(|_| has_succeeded) {
                Some(device) => {
                    self.miss_everywhere(run);
                    window.step = Step::RepairWriting { who, run };
                    s.requests.copy_write(device, Purpose::Verify, window.slots[1], run);
                    self.verifying.stage = Stage::Comparing(window);
                }
                None => {
                    // The reference could be read just before. The rest of the window stays as it is. What
                    // the member could not read counts as that already, and nobody knows if it differs.
                    if window.unread & 1 << who == 0 {
                        window.found.push((who, run));
                        window.found.extend(window.differing.drain(..).map(|range| (who, range)));
                    }
                    self.end_window(s, window, End::Done);
                }
            },
            Step::RepairWriting { who, run } => {
                let is_differing = window.unread & 1 << who == 0;
                self.count(s, who, run, true, is_differing);
                self.repair_next(s, window, who);
            }
            Step::Locking | Step::Logging { .. } | Step::Recording { .. } => {
                unreachable!("an answer to a window that no member has")
            }
        }
    }

    /// Takes a window into the intent log, and repairs a member as soon as that is recorded.
    fn log_window(&mut self, s: &mut Shared, mut window: Window, who: usize) {
        if window.is_logged || is_on(Mutation::RepairUnlogged) {
            return self.repair_next(s, window, who);
        }
        if !self.is_settled() {
            return self.end_window(s, window, End::Again);
        }
        match self.regions.begin(window.range) {
            Begin::Start => {
                window.is_logged = true;
                self.repair_next(s, window, who);
            }
            Begin::Record => {
                (window.is_logged, window.step) = (true, Step::Recording { who });
                self.verifying.stage = Stage::Comparing(window);
                self.is_stirred = true;
            }
            Begin::Full => {
                // Tried again when the flush has ended.
                window.step = Step::Logging { who };
                self.verifying.stage = Stage::Comparing(window);
                self.wants_flush = true;
                self.is_stirred |= self.flush.is_none();
            }
        }
    }

    /// Repairs the next range that a member holds otherwise.
    fn repair_next(&mut self, s: &mut Shared, mut window: Window, who: usize) {
        let next = match window.differing.is_empty() {
            true => None,
            false => Some(window.differing.remove(0)),
        };
        let Some(run) = next else { return self.next_of_window(s, window) };
        let Some(device) = self.active(window.reference) else {
            return self.end_window(s, window, End::Again);
        };
        window.step = Step::RepairReading { who, run };
        s.requests.copy_read(device, Purpose::Verify, window.slots[1], run);
        self.verifying.stage = Stage::Comparing(window);
    }

    /// Ends a window, and gives back what it has.
    fn end_window(&mut self, s: &mut Shared, window: Window, end: End) {
        let Window { range, slots, found, unread, is_logged, .. } = window;
        if is_logged {
            self.regions.end(range);
        }
        self.copying.ends(s.now());
        self.unlock(Holder::Verification);
        // It may have been granted just now.
        self.granted.retain(|holder| *holder != Holder::Verification);
        for slot in slots {
            self.copying.slots[usize::from(slot.0)] = Copy::Free;
        }
        self.is_stirred = true;
        let goes_on = self.verifying.goes_on();
        let next = match end {
            End::Done => range.end(),
            End::Again => range.start,
        };
        self.verifying.stage = if goes_on { Stage::Between { position: next } } else { Stage::Idle };
        if end == End::Done {
            for (who, range) in found {
                self.count(s, who, range, false, true);
            }
            if let Some(shown) = &mut self.verifying.shown {
                shown.unread += u64::from(unread.count_ones()) * range.count;
                shown.compared = range.end();
            }
        }
    }

    /// Counts blocks that a member held otherwise, or could not read.
    fn count(&mut self, s: &mut Shared, who: usize, range: Extent, is_repaired: bool, is_differing: bool) {
        let member = self.config.members[who].id;
        let Some(shown) = &mut self.verifying.shown else { return };
        shown.repaired += if is_repaired { range.count } else { 0 };
        if !is_differing {
            return;
        }
        let is_first = shown.differing == 0;
        shown.differing += range.count;
        // How far one comparison reaches depends on the load, and is nothing for users.
        let has_room = shown.first.len() < Verification::FIRST_MAX;
        let last = shown.first.iter_mut().rev().find(|last| last.member == member);
        match last.filter(|last| last.range.end() == range.start) {
            Some(last) => last.range.count += range.count,
            None if has_room => shown.first.push(Difference { member, range }),
            None => {}
        }
        if is_first {
            let name = self.name(who);
            let text = format!("{name} holds block {} otherwise than another member", range.start);
            s.requests.warn(text);
        }
    }

    /// All blocks were gone through.
    fn all_compared(&mut self, s: &mut Shared) {
        self.verifying.stage = Stage::Idle;
        self.end_verification(VerificationState::Done { at: s.now() });
        let Some(shown) = &self.verifying.shown else { return };
        let Verification { differing, repaired, unread, .. } = *shown;
        let text = format!(
            "the members were compared: {differing} blocks differed, {unread} were not read, {repaired} were \
             repaired"
        );
        match differing + unread {
            0 => s.requests.notice(text),
            _ => s.requests.warn(text),
        }
    }
}

/// Returns the lowest place of a set.
fn lowest(places: Places) -> Option<usize> {
    (places != 0).then(|| places.trailing_zeros() as usize)
}
