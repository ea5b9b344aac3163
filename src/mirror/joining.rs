//! Devices that come: members that missed something, the last one in sync, the witness.

pub(crate) use crate::configuration::ASSEMBLY_SHIFT;
use crate::configuration::{Configuration, MemberState, Standing, WitnessState};
use crate::extents::Extent;
use crate::generation::{Generation, Relation};
use crate::handles::Device;
use crate::metadata::Loaded;
use crate::mutation::{Mutation, is_on};
use crate::quorum::knows;
use crate::running::{Beginning, Port, Running, Up, WITNESS};
use crate::shared::{Link, Shared};

/// Returns the number of the assembly by whose owner a record was written.
pub(crate) fn epoch(config: &Configuration) -> u64 {
    config.number >> ASSEMBLY_SHIFT
}

impl Running {
    /// Takes the devices whose metadata were read.
    pub(crate) fn join_all(&mut self, s: &mut Shared) {
        self.examine(s);
        for device in Device::all() {
            if !matches!(s.slot(device).link, Link::Known(_)) || self.is_candidate(device) {
                continue;
            }
            match std::mem::replace(&mut s.slot(device).link, Link::InUse) {
                Link::Known(Ok(loaded)) => {
                    let who = self.place(loaded.own).filter(|&who| self.up(who).is_none());
                    if let Err(why) = self.join(s, device, *loaded) {
                        s.refuse(device, why);
                        // The device is shown with the member that it claims to be.
                        s.slot(device).who = who;
                    }
                }
                Link::Known(Err(error)) => s.refuse(device, error.to_string()),
                _ => {}
            }
        }
    }

    /// Returns whether a device has come whose record outranks what the mirror was assembled from,
    /// before a majority knew of this owner. It may be that this record counts.
    pub(crate) fn is_outranked(&self, s: &Shared) -> bool {
        let outranks = |device: Device| match &s.slots[device.index()].link {
            Link::Known(Ok(loaded)) => {
                let is_one = loaded.record.mirror == self.mirror && self.place(loaded.own).is_some();
                is_one && loaded.record.configuration.accepted > self.recorded.accepted
            }
            _ => false,
        };
        self.beginning == Beginning::Announcing && Device::all().any(outranks)
    }

    /// Takes a device whose metadata were read.
    ///
    /// # Errors
    /// Returns why the device is not used.
    fn join(&mut self, s: &mut Shared, device: Device, loaded: Loaded) -> Result<(), String> {
        let own = &loaded.record.configuration;
        if loaded.record.mirror != self.mirror {
            return Err(format!("it belongs to the mirror {}", loaded.record.mirror));
        }
        let (size, region_size) = (self.blocks, self.regions.size());
        let record = &loaded.record;
        if (record.blocks, record.block_size, record.region_size) != (size, self.block_size, region_size) {
            return Err("its metadata tell of a mirror of another size".to_owned());
        }
        let who = self.place(loaded.own).ok_or("it was removed from this mirror")?;
        if (who == WITNESS) != (device == Device::WITNESS) {
            return Err("a member was named as the witness, or the witness as a member".to_owned());
        }
        let is_leaving = self.is_witness_leaving();
        // The record that takes the vote of a witness may need this vote to count.
        if who == WITNESS && is_leaving && !self.witness_votes() {
            return Err("it is being removed from this mirror".to_owned());
        }
        if self.up(who).is_some() {
            return Err(format!("it is a copy of {}, which is there", self.name(who)));
        }
        if self.beginning == Beginning::Announcing {
            // Another host may have announced itself in the epoch of this one, or in a later one.
            if epoch(own) >= epoch(&self.config) {
                self.config.number = (epoch(own) + 1) << ASSEMBLY_SHIFT;
            }
        } else if epoch(own) > epoch(&self.config) {
            return Err("another host has assembled the mirror with it since; stop the mirror here, and \
                        assemble it again"
                .to_owned());
        }
        // The next record is newer than what the device has, which no majority has.
        self.config.number = self.config.number.max(own.number);
        let mut is_active = false;
        if who == WITNESS {
            let relation = own.generations.relation(&self.config.generations);
            let is_old = relation == Relation::Diverged && knows(&self.config, own);
            if matches!(relation, Relation::Ahead | Relation::Diverged) && !is_old {
                return Err(
                    "it knows other data of the mirror; assemble the mirror again, with force if need be"
                        .to_owned(),
                );
            }
            if let Some(witness) = self.config.witness.as_mut().filter(|_| !is_leaving) {
                witness.state = WitnessState::Current;
            }
        } else {
            is_active = self.join_member(s, who, &loaded)?;
        }
        s.take(device, who);
        s.requests.notice(format!("{} is back", self.name(who)));
        self.ports[who] = Port::Up(Box::new(Up { device, area: loaded.area, is_stale: true, is_active }));
        if is_active {
            // The last member in sync is back, perhaps without what it had not flushed.
            self.wants_record = true;
            self.miss_hot_elsewhere();
        }
        self.is_stirred = true;
        Ok(())
    }

    /// Decides what a member that is back lacks. Returns whether it lacks nothing.
    fn join_member(&mut self, s: &mut Shared, who: usize, loaded: &Loaded) -> Result<bool, String> {
        let own = &loaded.record.configuration;
        let is_overwritten = self.overwritten & 1 << who != 0 || is_on(Mutation::OverwriteDiverged);
        let standing = self.config.standing(loaded.own, own);
        let since = match (standing, self.config.members[who].state) {
            (_, MemberState::Detached) => return Err("it was removed from this mirror".to_owned()),
            (Standing::Current, MemberState::InSync) => return Ok(true),
            (Standing::Current | Standing::Missed, state) => {
                let size = loaded.record.region_size;
                for &region in &loaded.record.hot {
                    self.missed[who].insert(size.extent(region, self.blocks));
                }
                state.since()
            }
            (Standing::Unknown, MemberState::InSync) => {
                return Err(
                    "its metadata are older than the mirror's, which calls it in sync: it was written \
                            outside of the mirror; delete the mirror, and create it again with `force` and a good member first"
                        .to_owned(),
                );
            }
            (Standing::Ahead | Standing::Diverged, _) if !is_overwritten => {
                return Err(
                    "it has diverged: it was written without this mirror. Decide whose data count, and \
                            assemble the mirror with force from that member"
                        .to_owned(),
                );
            }
            (Standing::Unknown | Standing::Ahead | Standing::Diverged, _) => None,
        };
        let since = since.unwrap_or_else(|| {
            // Nobody knows what the member lacks. It has this generation from its first record on,
            // so that the copy continues where it was if the member goes and comes back again.
            self.missed[who].insert(Extent::new(0, self.blocks));
            Generation(s.identifier())
        });
        self.overwritten &= !(1 << who);
        self.config.members[who].state = MemberState::Resyncing { since };
        Ok(false)
    }
}
