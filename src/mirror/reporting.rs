//! What a running mirror shows of itself.

use crate::configuration::{MemberState, WitnessState};
use crate::handles::Device;
use crate::report::{Condition, MemberReport, Report, State, WitnessCondition, WitnessReport};
use crate::running::{Mode, Port, Running, WITNESS, in_sync};
use crate::shared::{Link, Shared};

impl Running {
    /// Returns what is shown of the mirror now.
    pub(crate) fn report(&self, s: &Shared) -> Report {
        let members: Vec<MemberReport> = self.members().map(|who| self.member_report(s, who)).collect();
        let is_whole =
            members.iter().all(|member| matches!(member.condition, Condition::InSync | Condition::Detached));
        let state = match self.mode {
            Mode::Ended => {
                State::Ended { why: "the mirror has been taken over, or could not begin".to_owned() }
            }
            Mode::Stopping { .. } | Mode::Wiping { .. } => State::Stopping,
            Mode::Stopped => State::Stopped,
            Mode::Serving if self.sources() == 0 => State::Failed,
            Mode::Serving if !self.is_registered => {
                let why = match self.is_stalled {
                    true => "a majority of the members and the witness",
                    false => "the first record to be written",
                };
                State::Starting { why: why.to_owned() }
            }
            Mode::Serving if !self.is_settled() && self.is_stalled => State::Stalled,
            Mode::Serving if is_whole => State::Online,
            Mode::Serving => State::Degraded,
        };
        let witness = self.config.witness.as_ref().map(|witness| WitnessReport {
            id: witness.id,
            name: witness.name.clone(),
            condition: self.witness_condition(s, witness.state),
        });
        Report {
            mirror: Some(self.mirror),
            state,
            blocks: self.blocks,
            block_size: self.block_size,
            generation: Some(self.config.generations.current()),
            number: self.recorded.number,
            members,
            witness,
            hot_regions: self.regions.len(),
            region_blocks: self.regions.size().blocks(),
            counts: self.counts,
            verification: self.verification_report(),
        }
    }

    fn witness_condition(&self, s: &Shared, state: WitnessState) -> WitnessCondition {
        let why = match (&self.ports[WITNESS], &s.slots[Device::WITNESS.index()].link) {
            (Port::Up(_), _) if self.active(WITNESS).is_some() && state == WitnessState::Current => {
                return WitnessCondition::Current;
            }
            (Port::Up(_), _) => "it is being written up to date",
            (Port::Down { .. }, Link::Unusable(why)) | (Port::Down { why, .. }, _) => why,
        };
        WitnessCondition::Away { why: why.to_owned() }
    }

    fn member_report(&self, s: &Shared, who: usize) -> MemberReport {
        let record = &self.config.members[who];
        let device = Device::all().find(|device| s.slots[device.index()].who == Some(who));
        let missed = self.missed_blocks(who);
        let condition = match (&self.ports[who], record.state) {
            (_, MemberState::Detached) => Condition::Detached,
            // Until that is recorded, the mirror can't go on with this member alone.
            (Port::Up(_), MemberState::InSync) if in_sync(&self.recorded) & 1 << who != 0 => {
                Condition::InSync
            }
            (Port::Up(_), _) => Condition::Resyncing { left: missed },
            (Port::Down { why, since }, _) => match device.map(|device| &s.slots[device.index()].link) {
                Some(Link::Unusable(why)) => Condition::Unusable { why: why.clone() },
                _ => Condition::Missing { why: why.clone(), since: *since, missed },
            },
        };
        let in_flight = device.map_or(0, |device| s.requests.in_flight(device) as usize);
        MemberReport { id: record.id, name: record.name.clone(), device, condition, in_flight }
    }
}
