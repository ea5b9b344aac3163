//! Owners, one after another, that lose devices and get others between any two records, and die while
//! they write one: whoever may go on has all completed writes.

use proptest::prelude::*;

use crate::configuration::{Configuration, MemberRecord, MemberState, Standing, WitnessRecord, WitnessState};
use crate::generation::{Generation, Generations, Relation};
use crate::ids::MemberId;
use crate::joining::{ASSEMBLY_SHIFT, epoch};
use crate::quorum::{has_same_voters, is_unsettled, knows, may_assemble, may_begin, may_record, newest};
use crate::running::{Beginning, Places};

const WITNESS: MemberId = MemberId(99);

/// What happens to an owner between two records, and during the second one. Devices are bits.
#[derive(Debug, Clone)]
struct Step {
    lost: Places,
    gained: Places,
    /// The device that has the record first.
    from: usize,
    /// The number of devices that have the record when the owner dies.
    dies: Option<usize>,
}

#[derive(Debug, Clone)]
struct Life {
    /// The devices that the owner assembles the mirror from.
    reach: Places,
    /// Whether members may differ in hot regions, so that only one of them counts at first.
    is_hot: bool,
    steps: Vec<Step>,
}

fn any_life() -> impl Strategy<Value = Life> {
    let places = || prop_oneof![3 => Just(0), 2 => (0u16..4).prop_map(|at| 1 << at), 1 => 0u16..16];
    let dies = prop_oneof![7 => Just(None), 3 => (0usize..4).prop_map(Some)];
    let step = (places(), places(), 0usize..4, dies).prop_map(|(lost, gained, from, dies)| Step {
        lost,
        gained,
        from,
        dies,
    });
    (1u16..16, any::<bool>(), proptest::collection::vec(step, 1..9)).prop_map(|(reach, is_hot, steps)| Life {
        reach,
        is_hot,
        steps,
    })
}

/// Devices with what is durable on each, and the writes of which each has all up to a number.
struct World {
    members: usize,
    devices: Vec<Configuration>,
    data: Vec<u64>,
    completed: u64,
    next: u128,
}

/// A host that has assembled the mirror.
struct Owner {
    /// The devices in use.
    held: Places,
    config: Configuration,
    recorded: Configuration,
    beginning: Beginning,
    /// The members that some record may call in sync.
    claimed: Places,
    is_renewal_due: bool,
    /// Whether a record that did not count has other voters.
    has_other_voters: bool,
}

fn in_sync(config: &Configuration) -> Places {
    crate::running::in_sync(config)
}

impl World {
    fn new(members: usize, has_witness: bool) -> World {
        let member = |index| MemberRecord {
            id: MemberId(index as u128 + 1),
            name: String::new(),
            device_blocks: 1,
            state: MemberState::InSync,
        };
        let witness = WitnessRecord {
            id: WITNESS,
            name: String::new(),
            device_blocks: 1,
            state: WitnessState::Current,
        };
        let first = Configuration {
            number: 1 << ASSEMBLY_SHIFT,
            accepted: 1 << ASSEMBLY_SHIFT,
            generations: Generations::new(Generation(1)),
            members: (0..members).map(member).collect(),
            witness: has_witness.then_some(witness),
        };
        let count = members + usize::from(has_witness);
        World { members, devices: vec![first; count], data: vec![0; members], completed: 0, next: 2 }
    }

    fn generation(&mut self) -> Generation {
        self.next += 1;
        Generation(self.next)
    }

    fn device(&self, id: MemberId) -> usize {
        if id == WITNESS { self.members } else { id.0 as usize - 1 }
    }

    fn among(&self, places: Places) -> impl Fn(MemberId) -> bool + '_ {
        move |id| places & 1 << self.device(id) != 0
    }

    /// Lists the devices of a set.
    fn list(&self, places: Places) -> Vec<usize> {
        (0..self.devices.len()).filter(|device| places & 1 << device != 0).collect()
    }

    /// A host assembles the mirror if it may.
    fn assemble(&mut self, life: &Life) -> Option<Owner> {
        let reach = self.list(life.reach);
        let found: Vec<&Configuration> = reach.iter().map(|&device| &self.devices[device]).collect();
        let id = |device: usize| if device == self.members { WITNESS } else { MemberId(device as u128 + 1) };
        let owned: Vec<(MemberId, &Configuration)> =
            reach.iter().map(|&device| id(device)).zip(found.iter().copied()).collect();
        let recorded = found[newest(&owned).ok()?].clone();
        may_assemble(&recorded, self.among(life.reach)).ok()?;
        let highest = found.iter().map(|found| epoch(found)).max()?;
        let mut sources: Vec<usize> = reach
            .iter()
            .copied()
            .filter(|&device| in_sync(&recorded) & 1 << device != 0)
            .filter(|&device| {
                let id = recorded.members[device].id;
                recorded.standing(id, &self.devices[device]) == Standing::Current
            })
            .collect();
        if sources.is_empty() {
            return None;
        }
        let usable = sources.iter().fold(0, |set, device| set | 1 << device);
        if life.is_hot {
            sources.sort_by_key(|&device| std::cmp::Reverse(self.devices[device].accepted));
            sources.truncate(1);
        }
        let mut owner = Owner {
            held: 0,
            config: Configuration { number: (highest + 1) << ASSEMBLY_SHIFT, ..recorded.clone() },
            beginning: Beginning::Announcing,
            claimed: in_sync(&recorded),
            is_renewal_due: false,
            has_other_voters: false,
            recorded,
        };
        let since = owner.recorded.generations.current();
        for (device, member) in owner.config.members.iter_mut().enumerate() {
            let is_source = sources.contains(&device);
            owner.claimed |= Places::from(is_unsettled(&owner.recorded, member)) << device;
            member.state = match member.state {
                MemberState::InSync if is_source => MemberState::InSync,
                MemberState::InSync if usable & 1 << device != 0 => MemberState::Resyncing { since },
                MemberState::InSync => MemberState::OutOfDate { since },
                state => state,
            };
            owner.held |= Places::from(is_source) << device;
            let is_plugged = usable & 1 << device != 0;
            owner.held |= Places::from(is_plugged) << device;
        }
        if let Some(witness) = &mut owner.config.witness {
            let is_there = reach.contains(&self.members);
            owner.held |= Places::from(is_there) << self.members;
            witness.state = if is_there { WitnessState::Current } else { witness.state.lost(since) };
        }
        for device in reach {
            self.join(&mut owner, device);
        }
        Some(owner)
    }

    /// A device comes to an owner. Returns false if the mirror has to be assembled again.
    fn join(&mut self, owner: &mut Owner, device: usize) -> bool {
        if owner.held & 1 << device != 0 || device >= self.devices.len() {
            return true;
        }
        let own = self.devices[device].clone();
        let is_announcing = owner.beginning == Beginning::Announcing;
        if is_announcing && own.accepted > owner.recorded.accepted {
            return false;
        }
        if is_announcing && epoch(&own) >= epoch(&owner.config) {
            owner.config.number = (epoch(&own) + 1) << ASSEMBLY_SHIFT;
        } else if epoch(&own) > epoch(&owner.config) {
            return true;
        }
        owner.config.number = owner.config.number.max(own.number);
        let is_used = if device == self.members {
            let relation = own.generations.relation(&owner.config.generations);
            let is_old = relation == Relation::Diverged && knows(&owner.config, &own);
            is_old || matches!(relation, Relation::Same | Relation::Behind)
        } else {
            let id = owner.config.members[device].id;
            let state = owner.config.members[device].state;
            let since = match owner.config.standing(id, &own) {
                Standing::Current | Standing::Missed => state.since(),
                Standing::Unknown if state != MemberState::InSync => Some(self.generation()),
                _ => None,
            };
            if let Some(since) = since {
                owner.config.members[device].state = MemberState::Resyncing { since };
            }
            since.is_some()
        };
        if let Some(witness) = owner.config.witness.as_mut().filter(|_| is_used && device == self.members) {
            witness.state = WitnessState::Current;
        }
        owner.held |= Places::from(is_used) << device;
        true
    }

    /// An owner loses devices.
    fn leave(&self, owner: &mut Owner, lost: Places) {
        let current = owner.config.generations.current();
        for device in self.list(owner.held & lost) {
            owner.held &= !(1 << device);
            for (who, member) in owner.config.members.iter_mut().enumerate() {
                let recorded = owner.recorded.members[who].state;
                // That the member is in sync again was to be recorded, and is not.
                if member.state == MemberState::InSync && matches!(recorded, MemberState::Resyncing { .. }) {
                    let is_claimed = owner.claimed & 1 << who != 0;
                    member.state =
                        if is_claimed { MemberState::Resyncing { since: current } } else { recorded };
                }
            }
            match owner.config.members.get_mut(device) {
                Some(member) if member.state == MemberState::InSync => {
                    member.state = MemberState::OutOfDate { since: current };
                }
                Some(_) => {}
                None => {
                    if let Some(witness) = &mut owner.config.witness {
                        witness.state = owner.recorded.witness.as_ref().map_or(witness.state, |w| w.state);
                        witness.state = witness.state.lost(current);
                    }
                }
            }
        }
    }

    /// An owner writes a record to all its devices. Returns false if it dies meanwhile.
    fn record(&mut self, owner: &mut Owner, mut new: Configuration, step: &Step) -> bool {
        owner.config.number = owner.config.number.max(owner.recorded.number) + 1;
        new.number = owner.config.number;
        owner.config.accepted = match owner.beginning {
            Beginning::Announcing => owner.recorded.accepted,
            Beginning::Adopting | Beginning::Over => new.number,
        };
        new.accepted = owner.config.accepted;
        // Those in sync before are the first to know of another one.
        let before = in_sync(&owner.recorded) & in_sync(&new);
        let promotes = in_sync(&new) & !before != 0;
        let mut order = self.list(owner.held);
        let count = order.len();
        order.rotate_left(step.from % count.max(1));
        order.sort_by_key(|device| promotes && before & 1 << device == 0);
        let reached = step.dies.unwrap_or(count).min(count);
        for &device in &order[..reached] {
            self.devices[device] = new.clone();
        }
        if reached < count || step.dies.is_some() {
            return false;
        }
        let on = self.among(owner.held);
        let counts = match owner.beginning == Beginning::Over && !owner.has_other_voters {
            true => may_record(&owner.recorded, on),
            false => may_begin(&owner.recorded, on),
        };
        if !counts {
            owner.claimed |= in_sync(&new);
            owner.has_other_voters |= !has_same_voters(&new, &owner.recorded);
            return true;
        }
        let is_new = new.generations.current() != owner.recorded.generations.current();
        owner.is_renewal_due &= !is_new;
        match owner.beginning {
            Beginning::Announcing => owner.beginning = Beginning::Adopting,
            Beginning::Adopting => owner.beginning = Beginning::Over,
            Beginning::Over => {
                owner.is_renewal_due |= owner.claimed & !in_sync(&new) != 0;
                owner.claimed = in_sync(&new);
            }
        }
        owner.recorded = new;
        owner.has_other_voters = false;
        true
    }

    /// An owner takes a step. Returns false if it goes no further.
    fn step(&mut self, owner: &mut Owner, step: &Step) -> Result<bool, TestCaseError> {
        self.leave(owner, step.lost);
        for device in self.list(step.gained & !step.lost) {
            if !self.join(owner, device) {
                return Ok(false);
            }
        }
        let sources = in_sync(&owner.config) & in_sync(&owner.recorded) & owner.held;
        if sources == 0 {
            return Ok(false);
        }
        if owner.beginning != Beginning::Over {
            let found = owner.recorded.clone();
            return Ok(self.record(owner, found, step));
        }
        let departs = owner.claimed & !in_sync(&owner.config) != 0;
        let is_settled = !departs && !owner.is_renewal_due;
        if is_settled {
            for device in self.list(sources) {
                prop_assert_eq!(self.data[device], self.completed, "member {} lacks a write", device);
            }
            self.completed += 1;
            // A member of which it is only being recorded that it is in sync gets all writes, too.
            for device in self.list(in_sync(&owner.config) & owner.held) {
                self.data[device] = self.completed;
            }
            for device in self.list(owner.held & !(1 << self.members)) {
                let recorded = owner.recorded.members[device].state;
                if matches!(recorded, MemberState::Resyncing { .. })
                    && owner.config.members[device].state == recorded
                {
                    self.data[device] = self.completed;
                    owner.config.members[device].state = MemberState::InSync;
                }
            }
        }
        let counts = if owner.has_other_voters { may_begin } else { may_record };
        let can_renew = counts(&owner.recorded, self.among(owner.held));
        let renews = owner.is_renewal_due && !departs && can_renew;
        if renews && owner.config.generations.current() == owner.recorded.generations.current() {
            owner.config.generations.advance(self.generation());
        }
        let new = owner.config.clone();
        Ok(self.record(owner, new, step))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whoever_goes_on_has_all_completed_writes(
        members in 2usize..=3, has_witness: bool, lives in proptest::collection::vec(any_life(), 1..20),
    ) {
        let mut world = World::new(members, has_witness);
        let all = (1 << world.devices.len()) - 1;
        for mut life in lives {
            life.reach &= all;
            let Some(mut owner) = (if life.reach == 0 { None } else { world.assemble(&life) }) else { continue };
            for step in &life.steps {
                if !world.step(&mut owner, step)? {
                    break;
                }
            }
        }
    }
}
