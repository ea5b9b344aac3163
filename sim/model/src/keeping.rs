//! Changes of the stored ownership, and the checks of who may be the owner.

use std::sync::Arc;

use dst_broker::{ConnectionId, Input, OwnershipChange, OwnershipState};
use dst_session::mutation::{Mutation, is_on};
use dst_wire::{Claim, Ownership, Welcome};

use crate::kept::{Kept, Storing};
use crate::state::State;
use crate::target::EXPORT;
use crate::world::World;

fn claim_follows(claim: Option<Claim>, before: &Ownership) -> bool {
    matches!(claim, Some(Claim::Next { after, .. }) if after == before.number())
}

/// The time that is stored with each change.
const SINCE_S: u64 = 0;

impl State {
    /// Starts to store a change that the broker wants to be durable.
    pub fn store(&mut self, target: u8, number: u64, host: Option<String>) {
        let next = match host {
            Some(host) => Ownership::Exclusive { number, host, since_s: SINCE_S },
            None => Ownership::Free { last: number },
        };
        self.target(target).storing = Some(Storing::Writing(next));
        if is_on(Mutation::OwnerNotDurable) {
            self.broker_handles(
                target,
                Input::OwnershipStored { export: EXPORT.to_owned(), since_s: SINCE_S },
            );
        }
    }

    /// Checks the broker's decision about a Hello: it may grant a claim only if the claim is for
    /// the ownership that follows the current one.
    pub fn check_claim(&mut self, target: u8, connection: ConnectionId, claim: Option<Claim>) {
        let broker = &self.targets[usize::from(target)].broker;
        let ownership = broker.export(EXPORT).map(|export| export.ownership.clone());
        let Some(OwnershipState::Changing {
            before,
            change: OwnershipChange::Claim { number, claimant, .. },
        }) = ownership
        else {
            return;
        };
        let follows = before.ownership().is_some_and(|before| claim_follows(claim, before));
        if claimant == connection && !follows {
            self.ledger.broken(11, format!("ownership {number} is granted to a claim that comes too late"));
        }
    }

    /// Makes the change that a target process is storing durable.
    pub fn written(&mut self, target: u8) {
        if let Some(Storing::Writing(next)) = self.target(target).storing.replace(Storing::Written) {
            self.kept = Kept::Ownership(next);
        }
    }

    /// Tells control that the change is durable.
    pub fn stored(&mut self, target: u8, world: &World) {
        self.target(target).storing = None;
        if is_on(Mutation::OwnerNotDurable) {
            return;
        }
        self.broker_handles(target, Input::OwnershipStored { export: EXPORT.to_owned(), since_s: SINCE_S });
        self.carry_out(target, world);
    }

    /// Tells control that a target process could not store the change. If `is_in_doubt`, the store
    /// has the change all the same.
    pub fn not_stored(&mut self, target: u8, is_in_doubt: bool, world: &World) {
        let storing = self.target(target).storing.take();
        if is_in_doubt && let Some(Storing::Writing(next)) = storing {
            self.kept = Kept::Ownership(next);
        }
        let (export, why) = (EXPORT.to_owned(), "there is no space".to_owned());
        self.broker_handles(target, Input::OwnershipNotStored { export, why, is_in_doubt });
        self.carry_out(target, world);
    }

    /// Releases the export for an operator. The next ownership's number is higher than all before.
    pub fn release_export(&mut self, target: u8, world: &World) {
        let now_us = self.now_us;
        let floor = 100 * self.targets.len() as u64;
        let broker = Arc::make_mut(&mut self.target(target).broker);
        // The call fails if the export is being deleted.
        if broker.release_export(now_us, EXPORT, floor).is_ok() {
            self.carry_out(target, world);
        }
    }

    /// Checks the broker's decision to admit an owner: it must be the only owner, and durably
    /// stored.
    pub fn check_owner(&mut self, target: u8, id: ConnectionId, welcome: &Welcome) {
        let Some(number) = welcome.ownership else { return };
        let is_other = |place: &dst_wire::SessionRef| place.id != welcome.session.id;
        let has_other = self.wires.iter().any(|(&(other_target, other), wire)| {
            let queue = wire.queue().filter(|_| other_target == target && other != id);
            queue.is_some_and(|queue| is_other(&queue.place))
        });
        if has_other {
            self.ledger.broken(11, format!("owner {number} is let in before others have finished"));
        }
        let Ok(kept) = self.kept.read() else { return };
        // Until control learns of the new owner, a queue of the previous owner may come back.
        let is_new = welcome.session.queue == 0 && welcome.session.id == [self.next_session; 16];
        if number > kept.number() || is_new && number < kept.number() {
            self.ledger.broken(11, format!("owner {number} is let in, and {kept:?} is kept"));
        }
    }
}
