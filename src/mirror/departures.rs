//! Members that fail, vanish, do not answer, or lose what was in their cache; and a mirror that
//! belongs to another host.

use crate::configuration::MemberState;
use crate::handles::Device;
use crate::locks::Locks;
use crate::mutation::{Mutation, is_on};
use crate::output::{Rare, Status};
use crate::running::{IoState, Mode, Port, Running, WITNESS};
use crate::shared::{Link, Shared};

/// The time in µs between two looks at a member that is late but stays. Nothing waits for a look.
const LATE_LOOK: u64 = 100_000;

/// The time in µs that a member which is removed may take for a request, if `member_timeout_ms` is not
/// less. Nobody needs its answers any more; one that is well gets the records that say so in that time.
const LEAVING: u64 = 1_000_000;

impl Running {
    /// Returns whether a member in sync is the last one that is there.
    fn is_last(&self, who: usize) -> bool {
        who != WITNESS && self.sources() == 1 << who
    }

    /// A device has failed a request. Unless it is the last member in sync, the mirror goes on
    /// without it, and takes it back when it can be read again.
    pub(crate) fn fail_member(&mut self, s: &mut Shared, who: usize, why: &str) {
        if !self.mode.is_over() && !self.is_last(who) {
            self.give_up(s, who, why);
        }
    }

    /// Goes on without a device, and takes it back when it can be read again.
    pub(crate) fn give_up(&mut self, s: &mut Shared, who: usize, why: &str) {
        let Some(device) = self.up(who).map(|up| up.device) else { return };
        self.leave(s, who, why);
        s.close(device);
    }

    /// A device was removed.
    pub(crate) fn device_gone(&mut self, s: &mut Shared, device: Device) {
        s.gone(device);
        if self.is_candidate(device) {
            self.fail_change(s, "the bdev was removed");
        }
        if let Some(who) = self.place_of(device) {
            self.leave(s, who, "the bdev was removed");
        }
    }

    /// Returns the place of a device in use.
    pub(crate) fn place_of(&self, device: Device) -> Option<usize> {
        (0..self.ports.len()).find(|&who| self.up(who).is_some_and(|up| up.device == device))
    }

    /// Returns how long a device may take for a request, in µs. None: for ever.
    pub(crate) fn patience(&self, s: &Shared, device: Device) -> Option<u64> {
        let timeout = s.options.member_timeout_ms.saturating_mul(1000);
        let timeout = (timeout > 0).then_some(timeout);
        let is_unwanted = |who: usize| match who {
            WITNESS => self.is_witness_leaving(),
            _ => {
                self.is_leaving(who)
                    || self.config.members.get(who).is_some_and(|of| of.state == MemberState::Detached)
            }
        };
        match s.slots[device.index()].who {
            Some(who) if is_unwanted(who) => Some(timeout.unwrap_or(LEAVING).min(LEAVING)),
            _ => timeout,
        }
    }

    /// Returns whether a device has not answered a request for too long.
    fn is_late(&self, s: &Shared, device: Device) -> bool {
        let Some(patience) = self.patience(s, device) else { return false };
        s.requests.oldest(device).is_some_and(|since| s.now() - since >= patience)
    }

    /// Gives up devices that have not answered a request for too long.
    pub(crate) fn give_up_late(&mut self, s: &mut Shared) {
        if s.now() < self.next_late {
            return;
        }
        let due = |device| {
            let patience = self.patience(s, device)?;
            Some(s.requests.oldest(device).unwrap_or(s.now()).saturating_add(patience))
        };
        let Some(due) = self.watched_devices(s).filter_map(due).min() else { return };
        // The last member in sync stays, however late it is, and is looked at again later.
        let again = match s.options.member_timeout_ms {
            0 => LATE_LOOK,
            timeout => LATE_LOOK.min(timeout.saturating_mul(1000)),
        };
        self.next_late = if due > s.now() { due } else { s.now() + again };
        if due > s.now() || is_on(Mutation::NoMemberTimeout) {
            return;
        }
        for who in 0..self.ports.len() {
            let Some(device) = self.up(who).map(|up| up.device) else { continue };
            if self.is_late(s, device) && !self.is_last(who) {
                s.requests.reset(device);
                self.give_up(s, who, "a request was not answered in time");
            }
        }
        if let Some(device) = Device::all().find(|&device| self.is_candidate(device))
            && self.is_late(s, device)
        {
            s.requests.reset(device);
            self.fail_change(s, "a request to the new device was not answered in time");
        }
        // A device that was given up for another reason may have late requests, too.
        for device in Device::all() {
            if matches!(s.slot(device).link, Link::Closing) && self.is_late(s, device) {
                s.requests.reset(device);
            }
        }
    }

    /// A device is not used any more.
    fn leave(&mut self, s: &mut Shared, who: usize, why: &str) {
        s.requests.warn(format!("{} is given up: {why}", self.name(who)));
        self.call_off(who);
        let is_last = self.is_last(who);
        self.has_lost |= is_last && self.regions.unflushed().next().is_some();
        self.ports[who] = Port::Down { why: why.to_owned(), since: s.now() };
        self.is_stirred = true;
        if who == WITNESS {
            let current = self.config.generations.current();
            if let Some(witness) = &mut self.config.witness {
                // A witness that was just back may not have the record that says so.
                let recorded = self.recorded.witness.as_ref().map_or(witness.state, |w| w.state);
                witness.state = recorded.lost(current);
            }
        } else if self.is_in_sync(who) {
            match is_last {
                // It may lose its cache while it is away, and nobody would report that.
                true => self.miss_hot_elsewhere(),
                false => self.miss(who),
            }
        } else {
            self.missed[who].forget_copies();
            self.miss_hot(who);
        }
        self.leave_round(s, who);
        if who != WITNESS {
            self.leave_flush(s, who);
        }
        if self.sources() == 0 {
            s.requests.warn("no member in sync is left: I/O fails".to_owned());
        }
    }

    /// Takes back the state "in sync" of members for which it is not recorded yet: the members that
    /// have to know of it first may be gone.
    pub(crate) fn call_off(&mut self, who: usize) {
        if who == WITNESS {
            return;
        }
        for who in self.members() {
            let recorded = self.recorded.members[who].state;
            if !self.is_in_sync(who) || !matches!(recorded, MemberState::Resyncing { .. }) {
                continue;
            }
            // If a device may have a record that calls the member in sync, the member has to leave
            // as others do.
            let current = self.config.generations.current();
            let is_claimed =
                self.claimed & 1 << who != 0 || self.round.as_ref().is_some_and(|r| r.calls_in_sync(who));
            self.config.members[who].state =
                if is_claimed { MemberState::Resyncing { since: current } } else { recorded };
        }
    }

    /// A member in sync is in sync no more. What was written to it and not flushed is in hot
    /// regions.
    pub(crate) fn miss(&mut self, who: usize) {
        let since = self.config.generations.current();
        self.config.members[who].state = MemberState::OutOfDate { since };
        self.counts.departures += 1;
        self.miss_hot(who);
    }

    /// A member may have lost what was written to it since its last flush.
    pub(crate) fn cache_lost(&mut self, s: &mut Shared, device: Device) {
        if is_on(Mutation::NoCacheLost) {
            return;
        }
        // This counts for a device that was given up, too: it may still answer reads.
        if let Some(who) = s.slot(device).who.filter(|&who| who != WITNESS) {
            self.lost_caches[who] = self.lost_caches[who].wrapping_add(1);
        }
        let Some(who) = self.place_of(device) else { return };
        self.counts.lost_caches += 1;
        if self.is_being_recorded(who) {
            // A superblock may be lost although a flush seems to have made it durable, so the
            // metadata are read again.
            return self.give_up(s, who, "its cache was lost while its metadata were written");
        }
        if who == WITNESS {
            return;
        }
        self.is_stirred = true;
        self.call_off(who);
        if self.is_last(who) {
            s.requests.warn(format!("{} has lost its cache, and no other member is in sync", self.name(who)));
            self.has_lost |= self.regions.unflushed().next().is_some();
            self.miss_hot_elsewhere();
            return;
        }
        s.requests.warn(format!("{} has lost its cache", self.name(who)));
        if self.is_in_sync(who) {
            // The member leaves, and joins again at once.
            self.miss(who);
            let since = self.config.generations.current();
            self.config.members[who].state = MemberState::Resyncing { since };
        } else {
            self.missed[who].forget_copies();
            self.miss_hot(who);
        }
        if let Some(up) = self.up_mut(who) {
            up.is_active = false;
        }
        self.leave_flush(s, who);
    }

    /// The mirror can't be used any more, except to be stopped. What has no request at a device
    /// fails at once, and the rest when its requests have ended. One that is being stopped has
    /// stopped.
    pub(crate) fn end(&mut self, s: &mut Shared, why: String) {
        if self.mode.is_over() {
            return;
        }
        self.fail_change(s, "the mirror has ended");
        let before = std::mem::replace(&mut self.mode, Mode::Ended);
        self.stop_verification(s);
        s.requests.push(Rare::Ended { why });
        for device in Device::all() {
            if !matches!(s.slot(device).link, Link::Absent) {
                s.requests.reset(device);
                s.close(device);
            }
        }
        for port in self.ports.iter_mut() {
            *port = Port::Down { why: "the mirror has ended".to_owned(), since: s.now() };
        }
        (self.round, self.flush) = (None, None);
        self.held.clear();
        self.recording.clear();
        self.settling.clear();
        self.flush_waiting.clear();
        self.flushing.clear();
        for id in 0..self.ios.len() as u32 {
            let io = crate::handles::IoId(id);
            match self.io(io).state {
                IoState::Free
                | IoState::Writing
                | IoState::Reading { .. }
                | IoState::RepairReading { .. }
                | IoState::Repairing { .. } => {}
                IoState::Locking
                | IoState::Held
                | IoState::Recording
                | IoState::Settling
                | IoState::RepairLocking { .. }
                | IoState::FlushWaiting
                | IoState::Flushing => self.complete(s, io, Status::Failed),
            }
        }
        self.locks = Locks::new(self.ios.len(), self.copying.slots.len(), self.block_size);
        self.granted.clear();
        if matches!(before, Mode::Stopping { .. } | Mode::Wiping { .. }) {
            // Somebody waits for the end.
            self.stopped(s, Vec::new());
        }
    }
}
