//! Attempts that have failed, and what they mean for the session, the addresses and the attach.

use dst_wire::{Ownership, Refusal, RefusalReason};
use spdk::clock;

use super::{ControlConnection, TurnOutcome};
use crate::address::Address;
use crate::attach::AttachDue;
use crate::error::Error;
use crate::holding::Newest;
use crate::news::{self, News};

impl ControlConnection {
    /// Handles a failed attempt: `why` it failed, the refusal if there was one, and the address `at`
    /// that had connected, if one had.
    pub(super) fn attempt_failed(
        &mut self,
        now: u64,
        why: String,
        refused: Option<Refusal>,
        at: Option<&Address>,
    ) -> TurnOutcome {
        if let Some(Refusal { reason: RefusalReason::Owned, ownership: Some(newest), .. }) = &refused {
            let host = &self.shared.target().host;
            let is_own = matches!(newest, Ownership::Exclusive { host: owner, .. } if owner == host);
            // The time at the beginning of this turn may be older than the refusal.
            self.newest = Some(Newest { number: newest.number(), read_us: clock::now_us(), is_own });
            if self.tenure.refused(newest, host) {
                self.link.retry_at_once(now);
                return TurnOutcome::Nothing;
            }
            if self.bdev.is_some() && self.tenure.is_over(newest) {
                // A newer ownership exists, so this client's ownership will never be valid again.
                self.shared.fail(&why);
                news::tell(self.shared.name(), News::TakenOver);
                return TurnOutcome::Nothing;
            }
        }
        self.shared.attempt_failed(why.clone(), now);
        let refused = refused.map(|refusal| refusal.reason);
        let mut all_tried = false;
        let is_used = self.shared.channels().connections() > 0;
        if refused == Some(RefusalReason::NoSession)
            && self.shared.session().is_some()
            && self.shared.places().ends_session(at, is_used)
        {
            self.shared.set_session(None);
            self.session_is_given_up(now);
        } else {
            all_tried = self.was_not_admitted(at);
            if !all_tried {
                self.link.try_next_address(now);
            }
        }
        let final_no = matches!(
            refused,
            Some(
                RefusalReason::NotAllowed
                    | RefusalReason::Version
                    | RefusalReason::Protection
                    | RefusalReason::Owned
            )
        );
        if refused.is_some() {
            self.round.refused(final_no, &why);
        }
        let refusal = if all_tried { self.round.end() } else { None };
        let due = if all_tried { self.attach.all_tried(refusal.is_some()) } else { AttachDue::Nothing };
        match due {
            // If no caller waits any more, even "not allowed" is tried again: a target that was
            // just started may not have its exports yet.
            AttachDue::Nothing => TurnOutcome::Nothing,
            AttachDue::Answer => TurnOutcome::Answer,
            AttachDue::GiveUp => {
                let (export, host) = (self.shared.target().export.clone(), self.shared.target().host.clone());
                TurnOutcome::GiveUp(Error::Refused { export, host, why: refusal.unwrap_or(why) })
            }
        }
    }

    /// Notes that the client was not admitted at the address `at`, or, if that is `None`, that no
    /// address has connected. Returns true if all addresses have been tried.
    pub(super) fn was_not_admitted(&self, at: Option<&Address>) -> bool {
        self.shared.places().with_addresses(|addresses| match at {
            Some(address) => addresses.put_off(address),
            None => {
                addresses.unreached();
                true
            }
        })
    }
}
