//! What is recorded about who belongs to a mirror.

use crate::generation::{Generation, Generations, Relation};
use crate::ids::MemberId;

/// The maximum number of members, which does not include the witness.
pub const MEMBERS_MAX: usize = 8;

/// The maximum length in bytes of the name that is recorded of a member.
pub const MEMBER_NAME_MAX: usize = 64;

/// The number of records that one assembly may write before the next one counts from there: the low
/// bits of a record's number. The high ones count assemblies, so that what a minority counted on
/// alone is older than what a majority assembled later, however much it counted.
pub(crate) const ASSEMBLY_SHIFT: u32 = 40;

/// Returns as much of a bdev's name as is recorded: up to [`MEMBER_NAME_MAX`] bytes, without control
/// characters.
pub fn shown_name(name: &str) -> String {
    let mut shown = String::new();
    for char in name.chars().filter(|char| !char.is_control()) {
        if shown.len() + char.len_utf8() > MEMBER_NAME_MAX {
            break;
        }
        shown.push(char);
    }
    shown
}

/// What a member's data are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// The member has all completed writes.
    InSync,
    /// The member lacks writes. Its data are those of an earlier time.
    OutOfDate {
        /// The generation of the member's data. A member that comes back with it lacks what its
        /// tree says, and what its own intent log says.
        since: Generation,
    },
    /// The member is brought up to date. Its data are a mixture of old and new, from which no
    /// mirror may be assembled.
    Resyncing {
        /// As for [`MemberState::OutOfDate`].
        since: Generation,
    },
    /// The operator removed the member. What it misses is not kept, and it has no vote.
    Detached,
}

impl MemberState {
    /// Returns the generation of the member's data if it has missed writes.
    pub fn since(&self) -> Option<Generation> {
        match *self {
            MemberState::OutOfDate { since } | MemberState::Resyncing { since } => Some(since),
            MemberState::InSync | MemberState::Detached => None,
        }
    }
}

/// What is recorded of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// The member.
    pub id: MemberId,
    /// The name of the bdev when it joined, which is only shown: at most [`MEMBER_NAME_MAX`]
    /// bytes.
    pub name: String,
    /// The size of the bdev when its metadata were written, in blocks of the mirror. A bdev that
    /// grew has its metadata there.
    pub device_blocks: u64,
    /// What its data are worth.
    pub state: MemberState,
}

/// Whether a witness counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WitnessState {
    /// The witness has a vote.
    Current,
    /// The configuration changed while the witness was away. It has no vote until it has been
    /// written up to date.
    Away {
        /// The generation that was current when the witness was lost.
        since: Generation,
    },
}

impl WitnessState {
    /// Returns the state of a witness that is lost in the generation `current`, or still away.
    pub fn lost(self, current: Generation) -> WitnessState {
        match self {
            WitnessState::Current => WitnessState::Away { since: current },
            WitnessState::Away { since } => WitnessState::Away { since },
        }
    }
}

/// What is recorded of the witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessRecord {
    /// The witness.
    pub id: MemberId,
    /// As for [`MemberRecord::name`].
    pub name: String,
    /// As for [`MemberRecord::device_blocks`], but in the witness's own blocks.
    pub device_blocks: u64,
    /// Whether it counts.
    pub state: WitnessState,
}

/// Who belongs to a mirror, and which data count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The number of the configuration. Each one that is recorded has a higher number, and each owner
    /// begins with an epoch of its own: see [`crate::quorum`].
    pub number: u64,
    /// The number of the record that was the first to say this: lower than `number` in an owner's
    /// announcement, which repeats what was found, and the same in all other records.
    pub accepted: u64,
    /// The generations of the data of the members in sync.
    pub generations: Generations,
    /// One to [`MEMBERS_MAX`] members with different ids. A member's tree on disk goes by its index.
    pub members: Vec<MemberRecord>,
    /// The witness, whose id is none of the members'.
    pub witness: Option<WitnessRecord>,
}

/// How the data of a device relate to those of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The device was in sync, and the mirror's data have not changed without it.
    Current,
    /// The device lacks what its tree says, and what its own intent log says: writes in flight may
    /// have reached this device alone.
    Missed,
    /// The device has earlier data of the mirror, and nobody knows what it lacks: all of it is
    /// copied.
    Unknown,
    /// The device has later data than this configuration knows.
    Ahead,
    /// The device went on alone. Nothing of it is overwritten until the operator says so.
    Diverged,
}

impl Configuration {
    /// Returns what is recorded of a member.
    pub fn member(&self, id: MemberId) -> Option<&MemberRecord> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Returns whether a device belongs to the mirror: as the witness, or as a member that was not removed.
    pub fn has_device(&self, id: MemberId) -> bool {
        self.member(id).is_some_and(|member| member.state != MemberState::Detached)
            || self.witness.as_ref().is_some_and(|witness| witness.id == id)
    }

    /// Returns the generation of a device's data, by the configuration that was found on it. The
    /// metadata of a device that misses writes are kept up to date, and its data are not.
    pub fn data_generation(&self, id: MemberId) -> Generation {
        let since = self.member(id).and_then(|member| member.state.since());
        since.unwrap_or(self.generations.current())
    }

    /// Returns how the data of the member `id` relate to the mirror's. `own` is the configuration
    /// that was found on the member.
    pub fn standing(&self, id: MemberId, own: &Configuration) -> Standing {
        let recorded = self.member(id).map(|member| member.state);
        let relation = own.generations.relation(&self.generations);
        // The history may be too short for a member that was away. Metadata that were kept up to
        // date by others need it, since those may have gone on alone and written to this member.
        let is_known = relation != Relation::Diverged || own.data_generation(id) == own.generations.current();
        let since = recorded.and_then(|state| state.since());
        if is_known && relation != Relation::Ahead && since == Some(own.data_generation(id)) {
            return Standing::Missed;
        }
        let was_in_sync = own.member(id).is_some_and(|member| member.state == MemberState::InSync);
        let is_in_sync = was_in_sync && recorded == Some(MemberState::InSync);
        // The owner began a generation, in as many records as it took: it waits with writes until all
        // members in sync have one of them. Those that it told of the generation before they were in sync
        // know it.
        let is_next = own.accepted < self.accepted
            && own.accepted >> ASSEMBLY_SHIFT == self.accepted >> ASSEMBLY_SHIFT
            && self.generations.history().first() == Some(&own.generations.current());
        match relation {
            Relation::Diverged => Standing::Diverged,
            Relation::Ahead => Standing::Ahead,
            Relation::Same if is_in_sync => Standing::Current,
            Relation::Behind if is_in_sync && is_next => Standing::Current,
            Relation::Same | Relation::Behind => Standing::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MemberId = MemberId(2);

    /// A configuration of the generation `current`, after those of `history`, with a member in this state.
    fn with(current: u128, history: &[u128], state: MemberState) -> Configuration {
        let member = |id, state| MemberRecord { id, name: String::new(), device_blocks: 1, state };
        let history = history.iter().copied().map(Generation).collect();
        Configuration {
            number: 1,
            accepted: 1,
            generations: Generations::from_kept(Generation(current), history),
            members: vec![member(MemberId(1), MemberState::InSync), member(ID, state)],
            witness: None,
        }
    }

    fn out(since: u128) -> MemberState {
        MemberState::OutOfDate { since: Generation(since) }
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(shown_name("lvs0/\n\u{e9}"), "lvs0/\u{e9}");
        let long = "\u{e9}".repeat(40);
        assert_eq!(shown_name(&long), "\u{e9}".repeat(32));
        assert_eq!(shown_name(&format!("x{long}")).len(), 63);
    }

    #[test]
    fn a_member_in_sync_is_current_until_others_go_on() {
        let mirror = with(5, &[4], MemberState::InSync);
        assert_eq!(mirror.standing(ID, &mirror), Standing::Current);
        assert_eq!(mirror.standing(ID, &with(4, &[], MemberState::InSync)), Standing::Unknown);
        let next = Configuration { number: 9, accepted: 2, ..mirror.clone() };
        assert_eq!(next.standing(ID, &with(4, &[], MemberState::InSync)), Standing::Current);
        let later = Configuration { number: 99, accepted: 99, ..mirror.clone() };
        assert_eq!(later.standing(ID, &with(4, &[], MemberState::InSync)), Standing::Current);
        let accepted = 1 << ASSEMBLY_SHIFT;
        let another = Configuration { number: accepted, accepted, ..mirror.clone() };
        assert_eq!(another.standing(ID, &with(4, &[], MemberState::InSync)), Standing::Unknown);
        assert_eq!(next.standing(ID, &with(3, &[], MemberState::InSync)), Standing::Diverged);
        assert_eq!(mirror.standing(ID, &with(6, &[5], MemberState::InSync)), Standing::Ahead);
        assert_eq!(mirror.standing(ID, &with(6, &[4], MemberState::InSync)), Standing::Diverged);
        assert_eq!(mirror.standing(MemberId(3), &mirror), Standing::Unknown, "no member");
    }

    #[test]
    fn a_tree_counts_for_the_generation_that_it_was_begun_at() {
        let mirror = with(9, &[], out(7));
        assert_eq!(mirror.standing(ID, &with(7, &[], MemberState::InSync)), Standing::Missed);
        assert_eq!(mirror.standing(ID, &with(8, &[7], MemberState::InSync)), Standing::Diverged);
        let mirror = with(9, &[8, 7, 6], out(7));
        assert_eq!(mirror.standing(ID, &with(6, &[], MemberState::InSync)), Standing::Unknown);
    }

    #[test]
    fn metadata_are_newer_than_the_data_of_a_member_that_is_resynced() {
        let state = MemberState::Resyncing { since: Generation(7) };
        let (mirror, found) = (with(9, &[8, 7], state), with(8, &[7], state));
        assert_eq!(found.data_generation(ID), Generation(7));
        assert_eq!(mirror.standing(ID, &found), Standing::Missed);
        let forced = with(66, &[8, 7], state);
        assert_eq!(mirror.standing(ID, &forced), Standing::Diverged, "resynced from data that went on alone");
        assert_eq!(with(9, &[8, 7], out(8)).standing(ID, &found), Standing::Unknown);
        assert_eq!(with(9, &[8, 7], MemberState::InSync).standing(ID, &found), Standing::Unknown);
        assert_eq!(with(9, &[8, 7], MemberState::Detached).standing(ID, &found), Standing::Unknown);
    }
}
