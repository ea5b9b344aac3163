//! Which devices have to know before a mirror goes on without a member, and before it is assembled.
//!
//! The *voters* of a configuration are its members that are not detached (also those out of date,
//! whose metadata are current), and its witness if that is current.
//!
//! 1. An owner begins with two records that change nothing but the number, which has a higher
//!    *epoch* than any that was found. The first one, the *announcement*, ranks as the record that
//!    it repeats ([`newest`]); the second one, by its own number. Each is on a majority before the
//!    next record ([`may_begin`]).
//! 2. Each change is on a majority of the voters of the configuration before it, and on one of its
//!    members in sync, before anything that depends on it happens ([`may_record`]).
//! 3. A member that falls out is recorded as out of date first. Only then a new generation is
//!    begun, which is on all members in sync before a write completes that the other one misses
//!    ([`is_unsettled`]).
//! 4. That a member is in sync again is on all members that were in sync before it is on another
//!    device.
//!
//! This is Paxos. The epoch is a ballot, [`Configuration::number`] has the one that a device has
//! promised to heed, and [`Configuration::accepted`] the one of what it has accepted. Of an owner's
//! epoch e, this holds: a record that counted in an earlier epoch is on a majority, which has a
//! device in common with the majority that has the announcement of e. That device had the record
//! before its metadata were read for e, since its writer is refused afterwards, and none that was
//! read outranks what e goes on from, or e is given up ([`crate::joining`]). So what e goes on from
//! is that record, or a later one that was made from it. Two owners cannot have the same epoch:
//! their majorities would have a device in common, on which the later owner would have found that
//! epoch. Were an announcement to outrank what it repeats, one that never counted would outrank
//! what others have recorded since. Did the announcement count without the second record, a record
//! that is found later and has a higher rank, but never counted, would replace what the owner went
//! on from.
//!
//! So a host that sees a majority of the voters of the newest configuration that it finds sees the
//! newest there is. So does a host that sees all members in sync of a configuration in which
//! nothing is unsettled.
//!
//! Two members without a witness have no majority but both. There, a member in sync goes on alone
//! while the mirror runs; the other member does not know of that, and the mirror is not assembled
//! from it alone. The first one does not go on alone while some device may have a record by which
//! others have a vote, too ([`may_begin`]).

use thiserror::Error;

use crate::configuration::{Configuration, MemberRecord, MemberState, WitnessRecord, WitnessState};
use crate::generation::Relation;
use crate::ids::MemberId;

/// How a mirror may be assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assembly {
    /// All members in sync are there, and those of which it is not known whether they are out of
    /// date ([`is_unsettled`]).
    Whole,
    /// The mirror goes on without members in sync, after it has recorded that
    /// ([`may_record`]).
    Degraded,
}

/// Why a mirror may not be assembled, unless it is forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No member in sync is there.
    #[error("none of the members that are in sync is there")]
    NoMemberInSync,
    /// Others may have gone on without the members that are there.
    #[error("{present} of {voters} voters are there, {} are needed without all members in sync", voters / 2 + 1)]
    NoMajority {
        /// The voters that are there.
        present: usize,
        /// All voters.
        voters: usize,
    },
}

fn voters(configuration: &Configuration) -> impl Iterator<Item = MemberId> + '_ {
    let members = configuration.members.iter().filter(|member| member.state != MemberState::Detached);
    let witness = configuration.witness.iter().filter(|witness| witness.state == WitnessState::Current);
    members.map(|member| member.id).chain(witness.map(|witness| witness.id))
}

fn in_sync(configuration: &Configuration) -> impl Iterator<Item = MemberId> + '_ {
    configuration.members.iter().filter(|member| member.state == MemberState::InSync).map(|member| member.id)
}

/// Returns whether the same devices have a vote in two configurations.
pub(crate) fn has_same_voters(one: &Configuration, other: &Configuration) -> bool {
    voters(one).all(|id| voters(other).any(|of| of == id))
        && voters(other).all(|id| voters(one).any(|of| of == id))
}

/// Returns whether a member is recorded as out of date, and it is not known whether that is on a
/// majority. Once it is, the mirror makes a new generation; before that, the mirror completes no
/// write that the member misses. A minority that recorded it may have been left behind by the
/// others.
pub fn is_unsettled(configuration: &Configuration, member: &MemberRecord) -> bool {
    member.state.since() == Some(configuration.generations.current())
}

/// Returns whether a change counts as recorded. `last` is the configuration that was recorded
/// before, and `on` tells the devices on which the new one is durable.
pub fn may_record(last: &Configuration, on: impl Fn(MemberId) -> bool) -> bool {
    let (all, reached) = (voters(last).count(), voters(last).filter(|&id| on(id)).count());
    let is_two_members = all == 2 && voters(last).all(|id| last.member(id).is_some());
    in_sync(last).any(&on) && (reached > all / 2 || is_two_members)
}

/// Returns whether one of an owner's first two records counts, or a later one while a device may
/// have a record that did not count and has other voters. `found` is the configuration that the
/// mirror was assembled from, and `on` tells the devices on which the record is durable.
///
/// What the previous owner wrote last may be on a device that was not found, and then the witness
/// may have a vote that `found` denies it. So one of two members that were in sync does not go on
/// alone until both have these records: the announcement alone is outranked by such a record. Nor
/// does it go on alone later, if the owner itself has left such a record behind.
pub fn may_begin(found: &Configuration, on: impl Fn(MemberId) -> bool) -> bool {
    may_record(found, &on) && may_assemble(found, &on).is_ok()
}

/// Returns how a mirror may be assembled. `found` is the [`newest`] configuration on the devices
/// that `present` tells.
///
/// # Errors
/// If the devices may lack completed writes.
pub fn may_assemble(found: &Configuration, present: impl Fn(MemberId) -> bool) -> Result<Assembly, Refusal> {
    if !in_sync(found).any(&present) {
        return Err(Refusal::NoMemberInSync);
    }
    let counts = |member: &&MemberRecord| member.state == MemberState::InSync || is_unsettled(found, member);
    if found.members.iter().filter(counts).all(|member| present(member.id)) {
        return Ok(Assembly::Whole);
    }
    let (voters, present) = (voters(found).count(), voters(found).filter(|&id| present(id)).count());
    if present > voters / 2 { Ok(Assembly::Degraded) } else { Err(Refusal::NoMajority { present, voters }) }
}

/// Returns what the records of a mirror are ranked by. An announcement says nothing new.
pub(crate) fn rank(configuration: &Configuration) -> (u64, u64) {
    (configuration.accepted, configuration.number)
}

/// Returns the index of the newest of the configurations that were found on a mirror's devices,
/// each with the id of its device: the one with the highest rank. A generation does not tell, since
/// it may have been begun on a minority that others then went on without.
///
/// # Errors
/// The newest and one that has a generation which the newest one does not know: its device has gone
/// on alone, or was about to. Or nothing in an empty list. What a device has that was removed, as
/// the newest says, counts as little as that of one that was never there.
pub fn newest(found: &[(MemberId, &Configuration)]) -> Result<usize, Option<(usize, usize)>> {
    let mut best = 0;
    for (index, (_, configuration)) in found.iter().enumerate().skip(1) {
        let highest = found[best].1;
        let is_ahead = || configuration.generations.relation(&highest.generations) == Relation::Ahead;
        let (own, rank_of_best) = (rank(configuration), rank(highest));
        if own > rank_of_best || (own == rank_of_best && is_ahead()) {
            best = index;
        }
    }
    let (_, newest) = *found.get(best).ok_or(None)?;
    let is_stranger =
        |(id, other): &(MemberId, &Configuration)| match other.generations.relation(&newest.generations) {
            _ if !newest.has_device(*id) => false,
            Relation::Same | Relation::Behind => false,
            Relation::Ahead => true,
            // It may only be too old for the history.
            Relation::Diverged => !knows(newest, other),
        };
    match found.iter().position(is_stranger) {
        Some(stranger) => Err(Some((best, stranger))),
        None => Ok(best),
    }
}

/// Returns whether `newer` records a member or witness that fell out at the generation of `older`.
pub fn knows(newer: &Configuration, older: &Configuration) -> bool {
    let since = older.generations.current();
    let is_away = |witness: &WitnessRecord| witness.state == WitnessState::Away { since };
    newer.members.iter().any(|member| member.state.since() == Some(since))
        || newer.witness.as_ref().is_some_and(is_away)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{Generation, Generations, HISTORY_MAX};

    const WITNESS: MemberId = MemberId(99);
    const OUT: MemberState = MemberState::OutOfDate { since: Generation(1) };
    /// Out of date since a generation that is over.
    const SETTLED: MemberState = MemberState::OutOfDate { since: Generation(7) };

    fn configuration(states: &[MemberState], witness: Option<WitnessState>) -> Configuration {
        let member = |(index, &state)| MemberRecord {
            id: MemberId(index as u128 + 1),
            name: String::new(),
            device_blocks: 1,
            state,
        };
        let witness =
            witness.map(|state| WitnessRecord { id: WITNESS, name: String::new(), device_blocks: 1, state });
        Configuration {
            number: 1,
            accepted: 1,
            generations: Generations::new(Generation(1)),
            members: states.iter().enumerate().map(member).collect(),
            witness,
        }
    }

    fn among(ids: &'static [u128]) -> impl Fn(MemberId) -> bool {
        |id| ids.contains(&id.0)
    }

    #[test]
    fn two_members_and_a_witness() {
        let whole = configuration(&[MemberState::InSync; 2], Some(WitnessState::Current));
        for (ids, records) in
            [(&[1][..], false), (&[99], false), (&[1, 99], true), (&[2, 99], true), (&[1, 2], true)]
        {
            assert_eq!(may_record(&whole, |id| ids.contains(&id.0)), records, "{ids:?}");
        }
        assert_eq!(may_assemble(&whole, among(&[1, 2])), Ok(Assembly::Whole));
        assert_eq!(may_assemble(&whole, among(&[1, 99])), Ok(Assembly::Degraded));
        assert_eq!(may_assemble(&whole, among(&[1])), Err(Refusal::NoMajority { present: 1, voters: 3 }));
        assert_eq!(may_assemble(&whole, among(&[99])), Err(Refusal::NoMemberInSync));
        let degraded = configuration(&[MemberState::InSync, SETTLED], Some(WitnessState::Current));
        assert_eq!(
            may_assemble(&degraded, among(&[1])),
            Ok(Assembly::Whole),
            "it says that 2 is out of date"
        );
        let unsettled = configuration(&[MemberState::InSync, OUT], Some(WitnessState::Current));
        assert_eq!(may_assemble(&unsettled, among(&[1])), Err(Refusal::NoMajority { present: 1, voters: 3 }));
        assert_eq!(may_assemble(&degraded, among(&[2, 99])), Err(Refusal::NoMemberInSync));
        assert!(!may_record(&degraded, among(&[2, 99])), "none in sync");
        assert_eq!(
            Refusal::NoMajority { present: 1, voters: 3 }.to_string(),
            "1 of 3 voters are there, 2 are needed without all members in sync"
        );
    }

    #[test]
    fn two_members_without_a_witness_that_votes() {
        for witness in [None, Some(WitnessState::Away { since: Generation(1) })] {
            let whole = configuration(&[MemberState::InSync; 2], witness);
            assert!(may_record(&whole, among(&[1])) && may_record(&whole, among(&[2])));
            assert!(!may_record(&whole, among(&[99])));
            assert!(!may_begin(&whole, among(&[1])) && may_begin(&whole, among(&[1, 2])));
            assert_eq!(
                may_assemble(&whole, among(&[1, 99])),
                Err(Refusal::NoMajority { present: 1, voters: 2 })
            );
            let degraded = configuration(&[MemberState::InSync, SETTLED], witness);
            assert!(may_record(&degraded, among(&[1])) && !may_record(&degraded, among(&[2])));
            assert_eq!(may_assemble(&degraded, among(&[1])), Ok(Assembly::Whole));
            assert!(may_begin(&degraded, among(&[1])), "it says that 2 is out of date");
        }
    }

    #[test]
    fn detached_members_have_no_vote_and_one_member_is_a_majority() {
        let states = [MemberState::InSync, MemberState::InSync, MemberState::InSync, MemberState::Detached];
        let three = configuration(&states, None);
        assert!(!may_record(&three, among(&[1, 4])) && may_record(&three, among(&[1, 2])));
        let one = configuration(&[MemberState::InSync, MemberState::Detached], None);
        assert!(may_record(&one, among(&[1])) && !may_record(&one, among(&[2])));
        // One member and a witness are two voters, and not two members.
        let one = configuration(&[MemberState::InSync], Some(WitnessState::Current));
        assert!(!may_record(&one, among(&[1])) && may_record(&one, among(&[1, 99])));
    }

    /// Returns the newest of what was found on a member that is out of date.
    fn newest_of(found: &[&Configuration]) -> Result<usize, Option<(usize, usize)>> {
        let found: Vec<(MemberId, &Configuration)> = found.iter().map(|of| (MemberId(2), *of)).collect();
        newest(&found)
    }

    #[test]
    fn the_newest_has_the_highest_number_and_knows_the_others() {
        let with = |number, current, history: &[u128]| Configuration {
            number,
            accepted: number,
            generations: Generations::from_kept(
                Generation(current),
                history.iter().copied().map(Generation).collect(),
            ),
            ..configuration(&[MemberState::InSync, OUT], None)
        };
        let (old, counted_on, new) = (with(1, 1, &[]), with(8, 1, &[]), with(9, 2, &[1]));
        assert_eq!(newest_of(&[&old, &counted_on]), Ok(1));
        assert_eq!(newest_of(&[&counted_on, &new, &old]), Ok(1));
        assert_eq!(newest_of(&[&with(9, 1, &[]), &new]), Ok(1), "the same number");
        assert_eq!(newest_of(&[&with(10, 1, &[]), &new]), Err(Some((0, 1))), "a generation of a minority");
        assert_eq!(newest_of(&[&new, &with(3, 3, &[9])]), Err(Some((0, 1))));
        assert_eq!(newest_of(&[&old, &new, &with(3, 3, &[1])]), Err(Some((1, 2))));
        assert_eq!(newest_of(&[]), Err(None));
        // The member 2 fell out at the generation 1, which is too long ago for the history.
        let long: Vec<u128> = (2..=1 + HISTORY_MAX as u128).collect();
        let late = with(50, 99, &long);
        assert_eq!(newest_of(&[&old, &late]), Ok(1));
        assert_eq!(newest_of(&[&late, &old]), Ok(0));
        assert_eq!(newest_of(&[&late, &with(1, 1000, &[])]), Err(Some((0, 1))));
        // So did the witness, at the generation 1000.
        let lost = WitnessState::Current.lost(Generation(1000));
        assert_eq!(lost.lost(Generation(2000)), lost, "it is still away");
        let late = Configuration { witness: configuration(&[], Some(lost)).witness, ..late };
        assert_eq!(newest_of(&[&late, &with(1, 1000, &[])]), Ok(0));
    }

    #[test]
    fn what_a_removed_member_has_is_not_asked() {
        let states = [MemberState::InSync, MemberState::Detached];
        let newer = Configuration { number: 9, accepted: 9, ..configuration(&states, None) };
        let other = Generations::new(Generation(5));
        let older = Configuration { generations: other, ..configuration(&[MemberState::InSync; 2], None) };
        for (id, expected) in [(1, Err(Some((0, 1)))), (2, Ok(0)), (3, Ok(0))] {
            assert_eq!(newest(&[(MemberId(1), &newer), (MemberId(id), &older)]), expected, "{id}");
        }
        // It is the older one that says so.
        let newer = Configuration { number: 10, accepted: 10, ..older };
        let older = configuration(&states, None);
        assert_eq!(newest(&[(MemberId(1), &older), (MemberId(2), &newer)]), Err(Some((1, 0))));
    }
}
