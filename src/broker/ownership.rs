//! The ownership of an export, and which sessions it permits.

use dst_session::access::Access;
use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::refuse;
use dst_wire::{Claim, Ownership, Refusal, RefusalReason};

use crate::ids::ConnectionId;
use crate::utc::utc;

/// The ownership that was read from an export's state file, or the reason why it is not known.
pub type ReadOwnership = Result<Ownership, String>;

/// What is known of an export's ownership.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KnownOwnership {
    /// The ownership is durable.
    Durable(Ownership),
    /// A change of this ownership has failed, but may have reached the state file. Existing
    /// sessions go on; no session is opened before the file was written again, because a target
    /// that starts anew may find either ownership.
    Doubtful(Ownership),
    /// The ownership is not known, for this reason.
    Unknown(String),
}

impl KnownOwnership {
    /// Returns the ownership that counts as long as this target runs.
    pub fn ownership(&self) -> Option<&Ownership> {
        match self {
            KnownOwnership::Durable(ownership) | KnownOwnership::Doubtful(ownership) => Some(ownership),
            KnownOwnership::Unknown(_) => None,
        }
    }
}

impl From<ReadOwnership> for KnownOwnership {
    fn from(read: ReadOwnership) -> KnownOwnership {
        read.map_or_else(KnownOwnership::Unknown, KnownOwnership::Durable)
    }
}

/// How the attempt to make a change durable has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The change is durable since this time, in seconds since 1970.
    Durably { since_s: u64 },
    /// The change has failed; the state file is as it was.
    No,
    /// The change has failed, but the state file may hold it.
    InDoubt,
}

/// The state of an export's ownership.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OwnershipState {
    /// Ownership is not kept: hosts share the export, and nobody can own it.
    NotKept,
    /// No change is under way.
    Settled(KnownOwnership),
    /// A change is being made durable. Until it is, nothing changes for existing sessions, and no
    /// session is opened.
    Changing {
        /// The ownership that stays if the change fails.
        before: KnownOwnership,
        /// The change.
        change: OwnershipChange,
    },
}

/// A change of an export's ownership.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OwnershipChange {
    /// A client becomes the owner.
    Claim {
        /// The number of its ownership.
        number: u64,
        /// The name of the client's host.
        host: String,
        /// The connection that claims the ownership and waits for it.
        claimant: ConnectionId,
    },
    /// An operator ends the ownership.
    Release {
        /// The number of the newest ownership, which ends.
        last: u64,
    },
    /// The target writes the ownership again that a failed change leaves in doubt.
    Restore,
}

/// A hello that asks to open a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applicant<'a> {
    /// The name of the host that sends the hello.
    pub host: &'a str,
    /// What the host may do at the export.
    pub access: Access,
    /// The ownership that the hello claims, if any.
    pub claim: Option<Claim>,
    /// The number of sessions that share the export.
    pub shared_sessions: usize,
}

/// The way in which a session may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// The session shares the export with others.
    Shared,
    /// The session is the only one, of the owner with this number.
    Owner(u64),
    /// The session will be the only one, once the ownership with this number is durable.
    AfterChange(u64),
    /// The session may be opened once the ownership is no longer in doubt.
    AfterRestore,
}

impl OwnershipState {
    /// Decides whether a session may be opened.
    ///
    /// # Errors
    /// Returns the refusal to send.
    pub(crate) fn permit(&self, applicant: &Applicant<'_>) -> Result<Permit, Refusal> {
        let known = match self {
            OwnershipState::Settled(KnownOwnership::Durable(known) | KnownOwnership::Doubtful(known)) => {
                known
            }
            OwnershipState::NotKept if applicant.claim.is_none() => return Ok(Permit::Shared),
            OwnershipState::NotKept => {
                return Err(owned("the export has no state file, so nobody can own it", None));
            }
            OwnershipState::Settled(KnownOwnership::Unknown(_)) => {
                let text = "who owns the export is not known; nobody is let in until an operator of the target \
                            releases it (dst_export_release)";
                return Err(owned(text, None));
            }
            OwnershipState::Changing { .. } => {
                let text = "a change of the export's ownership is not durable yet; try again later";
                return Err(refuse(RefusalReason::Busy, text));
            }
        };
        match permit_of(known, applicant)? {
            // A granted claim writes the file anyway.
            Permit::Shared | Permit::Owner(_) if self.is_doubtful() && !is_on(Mutation::OwnerInDoubt) => {
                Ok(Permit::AfterRestore)
            }
            permit => Ok(permit),
        }
    }

    /// Begins a change. The ownership must be kept, and no other change may be under way.
    pub(crate) fn begin(&mut self, change: OwnershipChange) {
        let OwnershipState::Settled(before) = std::mem::replace(self, OwnershipState::NotKept) else {
            unreachable!("the ownership is not kept, or is being changed already")
        };
        *self = OwnershipState::Changing { before, change };
    }

    /// Ends a change. Returns the change, or `None` if none was under way.
    pub(crate) fn end(&mut self, stored: Stored) -> Option<OwnershipChange> {
        let (before, change) = match std::mem::replace(self, OwnershipState::NotKept) {
            OwnershipState::Changing { before, change } => (before, change),
            other => {
                *self = other;
                return None;
            }
        };
        *self = OwnershipState::Settled(match (stored, &change, before) {
            (Stored::No, _, before) => before,
            (Stored::InDoubt, _, KnownOwnership::Durable(known)) => KnownOwnership::Doubtful(known),
            (Stored::InDoubt, _, before) => before,
            (Stored::Durably { .. }, OwnershipChange::Release { last }, _) => {
                KnownOwnership::Durable(Ownership::Free { last: *last })
            }
            (Stored::Durably { since_s }, OwnershipChange::Claim { number, host, .. }, _) => {
                KnownOwnership::Durable(Ownership::Exclusive { number: *number, host: host.clone(), since_s })
            }
            (Stored::Durably { .. }, OwnershipChange::Restore, KnownOwnership::Doubtful(known)) => {
                KnownOwnership::Durable(known)
            }
            (Stored::Durably { .. }, OwnershipChange::Restore, before) => before,
        });
        Some(change)
    }

    /// Returns the host that certainly owns the export, if one does.
    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            OwnershipState::Settled(KnownOwnership::Durable(Ownership::Exclusive { host, .. })) => Some(host),
            _ => None,
        }
    }

    fn is_doubtful(&self) -> bool {
        matches!(self, OwnershipState::Settled(KnownOwnership::Doubtful(_)))
    }

    /// Returns true while a change is being made durable.
    pub(crate) fn is_changing(&self) -> bool {
        matches!(self, OwnershipState::Changing { .. })
    }
}

/// Decides how a session may be opened, given the ownership of the export.
fn permit_of(known: &Ownership, applicant: &Applicant<'_>) -> Result<Permit, Refusal> {
    let refused = |text: String| Err(owned(text, Some(known.clone())));
    if applicant.claim.is_some() && applicant.access < Access::ReadWrite {
        return refused("the host may only read the export, and so can't own it".to_owned());
    }
    let is_newest = |after| after == known.number() || is_on(Mutation::StaleClaim);
    let may_take = |takeover| takeover && applicant.access >= Access::TakeOver;
    let forbidden = |takeover| {
        if takeover { "; the host's entry does not allow it to take over" } else { "" }
    };
    match (known, applicant.claim) {
        (Ownership::Free { .. }, None) => Ok(Permit::Shared),
        (Ownership::Free { last }, Some(Claim::Next { after, takeover })) if is_newest(after) => {
            match applicant.shared_sessions {
                0 => Ok(Permit::AfterChange(last + 1)),
                _ if may_take(takeover) => Ok(Permit::AfterChange(last + 1)),
                sessions => {
                    refused(format!("the export is shared, by {sessions} sessions{}", forbidden(takeover)))
                }
            }
        }
        (Ownership::Free { last }, Some(Claim::Held(number) | Claim::Next { after: number, .. })) => {
            refused(format!("ownership {number} of the export has ended; the last known here is {last}"))
        }
        (Ownership::Free { .. }, Some(Claim::Inquiry)) => refused("nobody owns the export".to_owned()),
        (Ownership::Exclusive { number, host, .. }, Some(Claim::Held(held)))
            if host == applicant.host && (held == *number || is_on(Mutation::OldOwner)) =>
        {
            Ok(Permit::Owner(held))
        }
        (Ownership::Exclusive { number, host, .. }, Some(Claim::Next { after, takeover }))
            if is_newest(after) && (host == applicant.host || may_take(takeover)) =>
        {
            Ok(Permit::AfterChange(number + 1))
        }
        (Ownership::Exclusive { number, host, since_s }, claim) => {
            let (takes, whose) = match claim {
                None | Some(Claim::Inquiry) => (false, String::new()),
                Some(Claim::Next { after, takeover }) if after == *number => (takeover, String::new()),
                Some(Claim::Next { after, .. }) => (false, format!(", after ownership {after}")),
                Some(Claim::Held(held)) => (false, format!(", and ownership {held} has ended")),
            };
            refused(format!(
                "host {host:?} owns the export since {} (ownership {number}){whose}{}",
                utc(*since_s),
                forbidden(takes)
            ))
        }
    }
}

fn owned(text: impl Into<String>, ownership: Option<Ownership>) -> Refusal {
    Refusal { ownership, ..refuse(RefusalReason::Owned, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Applicant<'_> =
        Applicant { host: "a", access: Access::ReadWrite, claim: None, shared_sessions: 0 };

    fn claims(claim: Claim) -> Applicant<'static> {
        Applicant { claim: Some(claim), ..A }
    }

    fn next(after: u64, takeover: bool) -> Applicant<'static> {
        claims(Claim::Next { after, takeover })
    }

    fn free(last: u64) -> OwnershipState {
        OwnershipState::Settled(KnownOwnership::Durable(Ownership::Free { last }))
    }

    fn owned_by(host: &str) -> OwnershipState {
        OwnershipState::Settled(KnownOwnership::Durable(Ownership::Exclusive {
            number: 7,
            host: host.to_owned(),
            since_s: 0,
        }))
    }

    /// Asserts that a session is refused because of the ownership, with a text that contains
    /// `word`.
    fn refused(state: &OwnershipState, applicant: Applicant<'_>, word: &str) {
        let refusal = state.permit(&applicant).expect_err("a refusal");
        assert_eq!(refusal.reason, RefusalReason::Owned);
        assert!(refusal.text.contains(word), "{:?} for {word:?}", refusal.text);
        if let OwnershipState::Settled(KnownOwnership::Durable(known)) = state {
            assert_eq!(refusal.ownership.as_ref(), Some(known));
        }
    }

    #[test]
    fn who_shares_excludes_who_owns() {
        assert_eq!(free(3).permit(&A), Ok(Permit::Shared));
        assert_eq!(free(3).permit(&next(3, false)), Ok(Permit::AfterChange(4)));
        refused(&owned_by("b"), A, "host \"b\" owns the export since 1970-01-01 00:00:00 UTC");
        refused(&owned_by("a"), A, "owns the export");
        let beside = Applicant { shared_sessions: 2, ..next(3, false) };
        refused(&free(3), beside, "shared, by 2 sessions");
        let takes = Applicant { shared_sessions: 2, access: Access::TakeOver, ..next(3, true) };
        assert_eq!(free(3).permit(&takes), Ok(Permit::AfterChange(4)));
        refused(&free(3), Applicant { access: Access::ReadWrite, ..takes }, "not allow it to take over");
    }

    #[test]
    fn the_newest_owner_alone_is_let_in() {
        assert_eq!(owned_by("a").permit(&claims(Claim::Held(7))), Ok(Permit::Owner(7)));
        for number in [6, 8] {
            refused(&owned_by("a"), claims(Claim::Held(number)), "has ended");
        }
        refused(&owned_by("b"), claims(Claim::Held(7)), "host \"b\" owns");
        refused(&free(7), claims(Claim::Held(7)), "ownership 7 of the export has ended");
    }

    #[test]
    fn a_claim_follows_the_newest_ownership() {
        refused(&free(7), claims(Claim::Inquiry), "nobody owns");
        refused(&owned_by("a"), claims(Claim::Inquiry), "owns");
        let taker = |after| Applicant { access: Access::TakeOver, ..next(after, true) };
        for after in [6, 8] {
            refused(&free(7), taker(after), "has ended");
            refused(&owned_by("b"), taker(after), "owns");
            refused(&owned_by("a"), taker(after), "owns");
        }
        assert_eq!(owned_by("b").permit(&taker(7)), Ok(Permit::AfterChange(8)));
        refused(&owned_by("b"), next(7, true), "does not allow it to take over");
        refused(&owned_by("b"), next(7, false), "owns");
        assert_eq!(owned_by("a").permit(&next(7, false)), Ok(Permit::AfterChange(8)), "its own host");
    }

    #[test]
    fn who_may_only_read_owns_nothing() {
        for claim in [Claim::Held(7), Claim::Next { after: 7, takeover: true }] {
            let reader = Applicant { access: Access::ReadOnly, ..claims(claim) };
            refused(&owned_by("a"), reader, "may only read");
        }
    }

    #[test]
    fn nobody_owns_what_is_not_kept_and_nobody_gets_in_where_that_is_not_known() {
        assert_eq!(OwnershipState::NotKept.permit(&A), Ok(Permit::Shared));
        refused(&OwnershipState::NotKept, next(0, true), "no state file");
        let unknown = OwnershipState::Settled(KnownOwnership::Unknown("the file is missing".to_owned()));
        for applicant in [A, claims(Claim::Held(7)), next(0, true)] {
            refused(&unknown, Applicant { access: Access::TakeOver, ..applicant }, "dst_export_release");
        }
    }

    #[test]
    fn a_change_counts_once_it_is_durable() {
        let mut state = owned_by("b");
        state.begin(OwnershipChange::Claim { number: 8, host: "a".to_owned(), claimant: 1 });
        for applicant in [A, claims(Claim::Held(8)), next(7, true)] {
            let refusal = state.permit(&applicant).expect_err("nothing is settled");
            assert_eq!(refusal.reason, RefusalReason::Busy);
        }
        let mut failed = state.clone();
        assert!(failed.end(Stored::No).is_some() && failed.end(Stored::No).is_none());
        assert_eq!(failed.permit(&Applicant { host: "b", ..claims(Claim::Held(7)) }), Ok(Permit::Owner(7)));
        assert!(state.end(Stored::Durably { since_s: 0 }).is_some());
        assert_eq!(state.permit(&claims(Claim::Held(8))), Ok(Permit::Owner(8)));
        state.begin(OwnershipChange::Release { last: 8 });
        assert!(state.is_changing() && state.end(Stored::Durably { since_s: 0 }).is_some());
        refused(&state, claims(Claim::Held(8)), "has ended");
        assert_eq!(state.permit(&A), Ok(Permit::Shared));
    }
    #[test]
    fn what_is_in_doubt_is_written_again_before_anybody_is_let_in() {
        let mut state = owned_by("b");
        let claim = OwnershipChange::Claim { number: 8, host: "a".to_owned(), claimant: 1 };
        state.begin(claim.clone());
        assert_eq!(state.end(Stored::InDoubt), Some(claim));
        let held = Applicant { host: "b", ..claims(Claim::Held(7)) };
        assert_eq!(state.permit(&held), Ok(Permit::AfterRestore));
        refused(&state, claims(Claim::Held(8)), "has ended");
        let taker = Applicant { access: Access::TakeOver, ..next(7, true) };
        assert_eq!(state.permit(&taker), Ok(Permit::AfterChange(8)), "this writes the file, too");
        for failed in [Stored::No, Stored::InDoubt] {
            state.begin(OwnershipChange::Restore);
            assert_eq!(state.permit(&held).expect_err("it is being written").reason, RefusalReason::Busy);
            assert!(state.end(failed).is_some());
            assert_eq!(state.permit(&held), Ok(Permit::AfterRestore));
        }
        state.begin(OwnershipChange::Restore);
        assert!(state.end(Stored::Durably { since_s: 9 }).is_some());
        assert_eq!(state, owned_by("b"), "it is owned since when it was");
        assert_eq!(state.permit(&held), Ok(Permit::Owner(7)));

        let mut shared = free(3);
        shared.begin(OwnershipChange::Release { last: 3 });
        assert!(shared.end(Stored::InDoubt).is_some());
        assert_eq!(shared.permit(&A), Ok(Permit::AfterRestore));
        let mut unknown = OwnershipState::Settled(KnownOwnership::Unknown("it is damaged".to_owned()));
        unknown.begin(OwnershipChange::Release { last: 3 });
        assert!(unknown.end(Stored::InDoubt).is_some());
        refused(&unknown, A, "dst_export_release");
    }
}
