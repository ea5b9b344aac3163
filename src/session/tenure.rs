//! A client's claims to the ownership of its export.
//!
//! A claim names the newest ownership that the client knows of, which a refusal tells the client. A
//! claim that names an older one is not granted, so a repeated claim takes nothing from a host that
//! came meanwhile. Once the newest ownership is not the one that the client's claim names, a
//! takeover is spent: the claim was granted, or came too late.

use dst_wire::{Claim, Ownership};

/// A client's ownership of its export, or its claim to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tenure {
    /// The client shares the export.
    Shared,
    /// The client wants to own the export, and does not know the newest ownership yet.
    Sought {
        /// Whether the client takes the export over from others. It does so at most once.
        takeover: bool,
    },
    /// The client claims the ownership that follows the one with this number.
    Claimed {
        /// The newest ownership that the client knows of.
        after: u64,
        /// Whether the client takes the export over from others.
        takeover: bool,
    },
    /// The client has, or had, the ownership with this number.
    Held(u64),
}

impl Tenure {
    /// Returns the tenure of a newly started client. `takeover` counts only with `exclusive`.
    pub fn new(exclusive: bool, takeover: bool) -> Tenure {
        if exclusive { Tenure::Sought { takeover } } else { Tenure::Shared }
    }

    /// Returns the claim of the next hello that opens a session, if any.
    pub fn claim(&self) -> Option<Claim> {
        match *self {
            Tenure::Shared => None,
            Tenure::Sought { .. } => Some(Claim::Inquiry),
            Tenure::Claimed { after, takeover } => Some(Claim::Next { after, takeover }),
            Tenure::Held(number) => Some(Claim::Held(number)),
        }
    }

    /// Has the client take the export over with its next claim, which names the ownership with the number
    /// `after`. Returns false if the client shares the export, or has or had an ownership.
    pub fn take_over(&mut self, after: u64) -> bool {
        let may = matches!(self, Tenure::Sought { .. } | Tenure::Claimed { .. });
        if may {
            *self = Tenure::Claimed { after, takeover: true };
        }
        may
    }

    /// Returns whether the client claims the export in a way that no other host can answer for it: with
    /// a takeover, or because its own host has the newest ownership, as `is_own` says. The latter is
    /// so when a takeover was granted and the client not admitted, since the backend still executes
    /// the former owner's requests, for instance. The client claims again until it is admitted.
    pub fn pursues(&self, is_own: bool) -> bool {
        match *self {
            Tenure::Claimed { takeover, .. } => takeover || is_own,
            Tenure::Shared | Tenure::Sought { .. } | Tenure::Held(_) => false,
        }
    }

    /// Notes that the target let the client open a session, with this ownership or with none.
    pub fn welcomed(&mut self, ownership: Option<u64>) {
        if let Some(number) = ownership
            && *self != Tenure::Shared
        {
            *self = Tenure::Held(number);
        }
    }

    /// Returns true if a refusal that named the newest ownership means that the client's has ended
    /// for good. A target that names an older one than the client's knows less than the client: its
    /// state file is a copy from before, or it is another target. The client may come back once the
    /// right one is there.
    pub fn is_over(&self, newest: &Ownership) -> bool {
        matches!(*self, Tenure::Held(held) if newest.number() >= held)
    }

    /// Notes that the target refused to let the client, whose host is `host`, open a session, and
    /// named the newest ownership. Returns true if the client's claim has changed, so that the
    /// client should try again at once.
    pub fn refused(&mut self, newest: &Ownership, host: &str) -> bool {
        let number = newest.number();
        let is_open = match newest {
            Ownership::Free { .. } => true,
            Ownership::Exclusive { host: owner, .. } => owner == host,
        };
        match *self {
            Tenure::Shared | Tenure::Held(_) => false,
            // The claim names the newest ownership: it was refused for another reason.
            Tenure::Claimed { after, .. } if after == number => false,
            Tenure::Claimed { .. } if is_open => {
                *self = Tenure::Claimed { after: number, takeover: false };
                true
            }
            Tenure::Claimed { .. } => {
                *self = Tenure::Sought { takeover: false };
                false
            }
            Tenure::Sought { takeover } if is_open || takeover => {
                *self = Tenure::Claimed { after: number, takeover };
                true
            }
            Tenure::Sought { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(number: u64, host: &str) -> Ownership {
        Ownership::Exclusive { number, host: host.to_owned(), since_s: 0 }
    }

    const FREE: Ownership = Ownership::Free { last: 3 };

    #[test]
    fn who_shares_claims_nothing() {
        let mut tenure = Tenure::new(false, true);
        assert!(!tenure.refused(&FREE, "a"));
        tenure.welcomed(Some(1));
        assert_eq!(tenure.claim(), None);
    }

    #[test]
    fn what_nobody_owns_or_the_own_host_is_claimed() {
        for newest in [FREE, owned(3, "a")] {
            let mut tenure = Tenure::new(true, false);
            assert_eq!(tenure.claim(), Some(Claim::Inquiry));
            assert!(tenure.refused(&newest, "a"));
            assert_eq!(tenure.claim(), Some(Claim::Next { after: 3, takeover: false }));
            assert!(!tenure.refused(&newest, "a"), "others share it: asking at once does not help");
            assert!(tenure.refused(&owned(4, "a"), "a"), "the claim was granted, and the welcome lost");
            tenure.welcomed(Some(5));
            assert_eq!(tenure.claim(), Some(Claim::Held(5)));
            assert!(!tenure.refused(&owned(6, "a"), "a"), "whoever had it does not claim it again");
            assert_eq!(tenure.claim(), Some(Claim::Held(5)));
        }
    }

    #[test]
    fn only_a_target_that_knows_of_the_ownership_can_end_it() {
        let mut tenure = Tenure::new(true, false);
        assert!(!tenure.is_over(&owned(9, "b")), "the client never had one");
        tenure.welcomed(Some(4));
        for older in [FREE, owned(3, "a"), owned(3, "b")] {
            assert!(!tenure.is_over(&older) && !tenure.refused(&older, "a"), "{older:?}");
            assert_eq!(tenure.claim(), Some(Claim::Held(4)));
        }
        for newest in [Ownership::Free { last: 4 }, owned(4, "a"), owned(5, "a"), owned(5, "b")] {
            assert!(tenure.is_over(&newest), "{newest:?}");
        }
    }

    #[test]
    fn what_another_owns_is_waited_for() {
        let mut tenure = Tenure::new(true, false);
        assert!(!tenure.refused(&owned(3, "b"), "a"));
        assert_eq!(tenure.claim(), Some(Claim::Inquiry));
        assert!(tenure.refused(&FREE, "a"), "it was released");
        assert!(!tenure.refused(&owned(4, "b"), "a"), "another one came first");
        assert_eq!(tenure.claim(), Some(Claim::Inquiry));
    }

    #[test]
    fn a_takeover_that_was_asked_for_later_names_the_ownership_that_it_follows() {
        let mut tenure = Tenure::new(true, false);
        assert!(!tenure.refused(&owned(3, "b"), "a"));
        assert!(tenure.take_over(3));
        assert_eq!(tenure.claim(), Some(Claim::Next { after: 3, takeover: true }));
        assert!(!tenure.refused(&owned(4, "c"), "a"), "another host was faster");
        assert_eq!(tenure, Tenure::Sought { takeover: false });
        assert!(tenure.take_over(4));
        tenure.welcomed(Some(5));
        assert!(!tenure.take_over(5) && tenure == Tenure::Held(5), "there is nothing to be taken");
        assert!(!Tenure::new(false, false).take_over(1));
    }

    #[test]
    fn a_takeover_that_was_granted_goes_on_until_the_client_is_admitted() {
        let mut tenure = Tenure::new(true, false);
        assert!(!tenure.refused(&owned(3, "b"), "a") && !tenure.pursues(false), "another host's");
        assert!(tenure.take_over(3) && tenure.pursues(false));
        // It was granted, and the target was busy. Each further claim may have the same fate.
        for number in 4..6 {
            assert!(tenure.refused(&owned(number, "a"), "a") && tenure.pursues(true), "{tenure:?}");
        }
        assert!(!tenure.refused(&owned(6, "b"), "a") && !tenure.pursues(false), "another host was faster");
        assert!(tenure.refused(&FREE, "a") && !tenure.pursues(false), "an export that is shared is not had");
        tenure.welcomed(Some(7));
        assert!(!tenure.pursues(true), "it is had");
    }

    #[test]
    fn a_takeover_acts_once() {
        let mut tenure = Tenure::new(true, true);
        assert!(tenure.refused(&owned(3, "b"), "a"));
        assert_eq!(tenure.claim(), Some(Claim::Next { after: 3, takeover: true }));
        assert!(!tenure.refused(&owned(3, "b"), "a"), "it has no right to that, as yet");
        let mut granted = tenure;
        assert!(granted.refused(&owned(4, "a"), "a"));
        assert_eq!(granted.claim(), Some(Claim::Next { after: 4, takeover: false }));
        assert!(!tenure.refused(&owned(5, "b"), "a"));
        assert_eq!(tenure, Tenure::Sought { takeover: false }, "granted or too late: it is used");
    }
}
