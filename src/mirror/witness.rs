//! The witness, added and removed while the mirror runs.
//!
//! Each takes two steps, of which one changes who has a vote, and the other one who belongs to the mirror.
//! A new witness is first recorded as away, which gives it no vote. Once that counts, it comes as one that
//! was away: the record that gives it its vote is on a majority of the voters before, and on the witness
//! itself, and so on a majority of those after. A witness that is removed goes away first, as one that was
//! lost, which is recorded on a majority of the voters before, and on the witness itself if it answers. The
//! record without it needs a majority of those after. Both majorities have a voter in common, since they
//! differ by one.
//!
//! A witness that is lost while it is being removed is not used again, with one exception: as long as it has
//! its vote, it gets the record that takes that, which may need this vote to count.
//!
//! A new witness that is lost before it has its vote is removed again, before the operator is told.

use crate::change::{Candidate, Change, WitnessChange};
use crate::configuration::{Configuration, WitnessRecord, WitnessState};
use crate::handles::Device;
use crate::ids::MemberId;
use crate::metadata::{Area, Layout};
use crate::mutation::{Mutation, is_on};
use crate::output::Rare;
use crate::running::{Running, WITNESS};
use crate::shared::{Link, Shared};

impl Running {
    /// Begins to add a witness: its device is about to be opened, or is open and not used.
    /// [`Rare::Changed`] answers.
    pub(crate) fn add_witness(&mut self, s: &mut Shared, (name, force): (String, bool), is_open: bool) {
        if let Err(why) = self.may_add_witness(s, &name, is_open) {
            return s.requests.push(Rare::Changed { result: Err(why) });
        }
        self.begin_examining(
            s,
            Candidate { device: Device::WITNESS, name, force, is_probed: false },
            is_open,
        );
    }

    fn may_add_witness(&self, s: &Shared, name: &str, is_open: bool) -> Result<(), String> {
        self.may_begin_change()?;
        if self.config.witness.is_some() || self.recorded.witness.is_some() {
            return Err("the mirror has a witness: remove that first".to_owned());
        }
        self.may_examine(s, Device::WITNESS, name, is_open)?;
        let id = MemberId(0);
        let state = WitnessState::Current;
        let witness = Some(WitnessRecord { id, name: String::new(), device_blocks: 1, state });
        self.can_count(&Configuration { witness, ..self.recorded.clone() }, Some(id))
    }

    /// Has a device that was examined become the witness, if it is large enough.
    pub(crate) fn take_witness(&mut self, s: &mut Shared, name: String) {
        let (device_blocks, block_size) =
            (s.slot(Device::WITNESS).blocks, s.slot(Device::WITNESS).block_size);
        match Layout::witness(device_blocks, block_size) {
            Ok(layout) => {
                let id = MemberId(s.identifier());
                let since = self.config.generations.current();
                let state = WitnessState::Away { since };
                let record = WitnessRecord { id, name, device_blocks, state };
                s.slot(Device::WITNESS).link = Link::InUse;
                let area = Box::new(Area::fresh(layout, id));
                self.change = Change::Witness(WitnessChange::Joining { record, area });
                self.is_stirred = true;
            }
            Err(error) => self.fail_change(s, &format!("{name} can't be used: {error}")),
        }
    }

    /// Begins to remove the witness. [`Rare::Changed`] answers.
    pub(crate) fn remove_witness(&mut self, s: &mut Shared) {
        if let Err(why) = self.may_remove_witness() {
            return s.requests.push(Rare::Changed { result: Err(why) });
        }
        s.requests.notice("the witness is being removed".to_owned());
        self.begin_leaving(None);
        if let Some(up) = self.up_mut(WITNESS) {
            up.is_active = false;
        }
        // The witness has less time for its requests from now on.
        self.next_late = 0;
        self.is_stirred = true;
    }

    fn may_remove_witness(&self) -> Result<(), String> {
        self.may_begin_change()?;
        let Some(witness) = &self.config.witness else { return Err("the mirror has no witness".to_owned()) };
        let without = Configuration { witness: None, ..self.recorded.clone() };
        self.can_count(&without, None)?;
        let voters = self.voting_members().count();
        let present = self.voting_members().filter(|&who| self.up(who).is_some()).count();
        if witness.state == WitnessState::Current && present <= voters / 2 {
            return Err(format!(
                "{present} of {voters} members are there, which is no majority without the witness: bring the \
                 others back, or remove them first"
            ));
        }
        Ok(())
    }

    /// Takes the witness's vote. It is removed once that is recorded; `why` is the answer then, if it could
    /// not be added.
    fn begin_leaving(&mut self, why: Option<String>) {
        let current = self.config.generations.current();
        if let Some(witness) = &mut self.config.witness {
            // A witness that was just added may not have the record that says so.
            let recorded = self.recorded.witness.as_ref().map_or(witness.state, |witness| witness.state);
            witness.state = recorded.lost(current);
        }
        self.change = Change::Witness(WitnessChange::Leaving { why });
        self.vote_at_once();
    }

    /// Has the configuration's voters count before a record says so, if the simulator wants that.
    fn vote_at_once(&mut self) {
        if is_on(Mutation::VoteAtOnce) {
            self.recorded.witness.clone_from(&self.config.witness);
        }
    }

    /// Returns whether the witness is being removed.
    pub(crate) fn is_witness_leaving(&self) -> bool {
        matches!(self.change, Change::Witness(WitnessChange::Leaving { .. } | WitnessChange::Removed { .. }))
    }

    /// Returns whether the witness has a vote, as far as it is known what counts.
    pub(crate) fn witness_votes(&self) -> bool {
        self.recorded.witness.as_ref().is_some_and(|witness| witness.state == WitnessState::Current)
    }

    /// Takes the next step of a change of the witness.
    pub(crate) fn continue_witness(&mut self, s: &mut Shared) {
        if !matches!(self.change, Change::Witness(_)) {
            return;
        }
        let (is_quiet, is_up) = (self.is_quiet(), self.up(WITNESS).is_some());
        let (has_vote, is_gone) = (self.active(WITNESS).is_some(), self.recorded.witness.is_none());
        let Change::Witness(change) = &mut self.change else { return };
        match change {
            WitnessChange::Joining { .. } if is_quiet => self.list_witness(s),
            WitnessChange::Listed | WitnessChange::Joined if !is_up => {
                let why = "the new witness was lost before it had a vote: add it again";
                self.begin_leaving(Some(why.to_owned()));
                self.is_stirred = true;
            }
            WitnessChange::Listed if is_quiet => {
                if let Some(witness) = &mut self.config.witness {
                    witness.state = WitnessState::Current;
                }
                self.change = Change::Witness(WitnessChange::Joined);
                self.vote_at_once();
            }
            WitnessChange::Joined if has_vote => self.change_is_recorded(s, Ok(())),
            WitnessChange::Leaving { why } if is_quiet => {
                let why = why.take();
                self.config.witness = None;
                self.change = Change::Witness(WitnessChange::Removed { why });
            }
            WitnessChange::Removed { why } if is_gone => {
                let result = why.take().map_or(Ok(()), Err);
                s.requests.notice("the witness is removed".to_owned());
                self.drop_device(s, WITNESS);
                self.change_is_recorded(s, result);
            }
            WitnessChange::Joining { .. }
            | WitnessChange::Listed
            | WitnessChange::Joined
            | WitnessChange::Leaving { .. }
            | WitnessChange::Removed { .. } => {}
        }
    }

    /// Gives a new witness its place in the configuration, without a vote.
    fn list_witness(&mut self, s: &mut Shared) {
        let listed = Change::Witness(WitnessChange::Listed);
        let Change::Witness(WitnessChange::Joining { record, area }) =
            std::mem::replace(&mut self.change, listed)
        else {
            unreachable!("the caller has just seen it")
        };
        self.config.witness = Some(record);
        self.plug(s, WITNESS, Device::WITNESS, *area, false);
    }
}
