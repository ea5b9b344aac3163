//! The end of a mirror that was told to stop: everything is flushed, and the intent log emptied.

use crate::handles::Device;
use crate::input::Outcome;
use crate::output::Rare;
use crate::requests::Purpose;
use crate::running::{Mode, Places, Port, Running};
use crate::shared::Shared;

impl Running {
    /// The mirror is told to stop.
    pub(crate) fn stop(&mut self, s: &mut Shared, wipes: bool) {
        self.fail_change(s, "the mirror is being stopped");
        match self.mode {
            Mode::Serving => {
                let until = s.now().saturating_add(s.options.stop_timeout_ms.saturating_mul(1000));
                self.mode = Mode::Stopping { until, wipes, is_flushed: false };
                self.wants_flush = true;
                self.wants_cool = true;
                self.is_stirred = true;
            }
            Mode::Ended => self.stopped(s, Vec::new()),
            Mode::Stopping { .. } | Mode::Wiping { .. } | Mode::Stopped => {}
        }
    }

    /// Takes the next step of stopping.
    pub(crate) fn continue_stopping(&mut self, s: &mut Shared) {
        let (until, wipes, is_flushed) = match self.mode {
            Mode::Stopping { until, wipes, is_flushed } => (until, wipes, is_flushed),
            Mode::Wiping { until, left: 0, failed, is_flushing: false } => {
                return self.flush_wiped(s, until, failed);
            }
            Mode::Wiping { left: 0, failed, is_flushing: true, .. } => {
                let is_wiped = |who: &usize| failed & 1 << who == 0;
                let places = (0..self.ports.len()).filter(is_wiped);
                let wiped = places.filter_map(|who| self.up(who).map(|up| up.device)).collect();
                return self.stopped(s, wiped);
            }
            Mode::Wiping { until, .. } if s.now() >= until => return self.stopped(s, Vec::new()),
            _ => return,
        };
        if s.now() >= until || self.sources() == 0 {
            s.requests.warn("the mirror stops without a last record".to_owned());
            return self.stopped(s, Vec::new());
        }
        let is_copying = self.copying.busy > 0 || self.copying.is_flushing;
        if self.flush.is_some() || self.round.is_some() || is_copying || !self.verifying.is_idle() {
            return;
        }
        if is_flushed {
            // Nothing was copied since the flush began.
            for who in self.members() {
                if self.active(who).is_some() {
                    self.missed[who].forget_flushed();
                }
            }
        } else {
            self.wants_flush = true;
            self.wants_cool = true;
            return self.begin_flush(s);
        }
        // What was copied so far is recorded, and the intent log without what has cooled.
        if self.regions.evicts() || self.missed.iter().any(|missed| missed.version != missed.durable) {
            self.wants_trees = true;
            self.wants_record = true;
            self.begin_round(s);
            if self.round.is_some() {
                return;
            }
        }
        match wipes {
            true => self.wipe(s, until),
            false => self.stopped(s, Vec::new()),
        }
    }

    fn wipe(&mut self, s: &mut Shared, until: u64) {
        let mut left = 0;
        for port in self.ports.iter() {
            let Port::Up(up) = port else { continue };
            for write in up.area.wipe() {
                left += 1;
                s.requests.metadata_write(up.device, Purpose::Wipe, write.at, write.bytes);
            }
        }
        self.mode = Mode::Wiping { until, left, failed: 0, is_flushing: false };
        self.is_stirred |= left == 0;
    }

    fn flush_wiped(&mut self, s: &mut Shared, until: u64, failed: Places) {
        let mut left = 0;
        for port in self.ports.iter() {
            if let Port::Up(up) = port {
                left += 1;
                s.requests.flush(up.device, Purpose::Wipe);
            }
        }
        self.mode = Mode::Wiping { until, left, failed, is_flushing: true };
        self.is_stirred |= left == 0;
    }

    /// A request of [`Running::wipe`] has ended.
    pub(crate) fn wipe_done(&mut self, s: &mut Shared, who: Option<usize>, outcome: Outcome) {
        if outcome != Outcome::Success {
            s.requests.warn("the metadata of a device could not be overwritten".to_owned());
        }
        if let Mode::Wiping { left, failed, .. } = &mut self.mode {
            *left -= 1;
            if outcome != Outcome::Success {
                // Without a place it is not known whose: none counts as overwritten.
                *failed |= who.map_or(Places::MAX, |who| 1 << who);
            }
            self.is_stirred |= *left == 0;
        }
    }

    pub(crate) fn stopped(&mut self, s: &mut Shared, wiped: Vec<Device>) {
        self.mode = Mode::Stopped;
        s.requests.push(Rare::Stopped { wiped });
    }
}
