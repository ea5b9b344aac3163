//! Where the ownership of the export is kept, which outlives target processes, and who may be the owner.

use std::sync::Arc;

use dst_broker::{Change, ConnectionId, Input, Known, OwnershipState};
use dst_session::mutation::{Mutation, is_on};
use dst_wire::{Claim, Ownership, Welcome};

use crate::state::State;
use crate::target::EXPORT;
use crate::world::World;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kept {
    /// This ownership.
    Ownership(Ownership),
    /// Nothing: it was lost.
    Nothing,
}

/// A change of the ownership at a target process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Storing {
    /// This is not durable yet, and may never be.
    Writing(Ownership),
    /// The change is durable, and control does not know.
    Written,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept::Ownership(Ownership::Free { last: 0 })
    }
}

impl Kept {
    /// Returns what a target process finds when it starts.
    pub fn read(&self) -> Known {
        match self {
            Kept::Ownership(ownership) => Ok(ownership.clone()),
            Kept::Nothing => Err("it is missing".to_owned()),
        }
    }

    /// It is lost.
    pub fn lose(&mut self) {
        *self = Kept::Nothing;
    }
}

fn claim_follows(claim: Option<Claim>, before: &Ownership) -> bool {
    matches!(claim, Some(Claim::Next { after, .. }) if after == before.number())
}

/// The time that is stored with every change.
const SINCE_S: u64 = 0;

impl State {
    /// The broker wants a change to be durable.
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

    /// The broker has decided about a hello. If it grants the claim, that must be one of the ownership that
    /// follows what is kept.
    pub fn check_claim(&mut self, target: u8, connection: ConnectionId, claim: Option<Claim>) {
        let broker = &self.targets[usize::from(target)].broker;
        let ownership = broker.export(EXPORT).map(|export| export.ownership.clone());
        let Some(OwnershipState::Changing { before, change: Change::Claim { number, claimant, .. } }) =
            ownership
        else {
            return;
        };
        let follows = before.is_ok_and(|before| claim_follows(claim, &before));
        if claimant == connection && !follows {
            self.ledger.broken(11, format!("ownership {number} is granted to a claim that comes too late"));
        }
    }

    /// What a target process writes is durable.
    pub fn written(&mut self, target: u8) {
        if let Some(Storing::Writing(next)) = self.target(target).storing.replace(Storing::Written) {
            self.kept = Kept::Ownership(next);
        }
    }

    /// Control hears that.
    pub fn stored(&mut self, target: u8, world: &World) {
        self.target(target).storing = None;
        if is_on(Mutation::OwnerNotDurable) {
            return;
        }
        self.broker_handles(target, Input::OwnershipStored { export: EXPORT.to_owned(), since_s: SINCE_S });
        self.carry_out(target, world);
    }

    /// A target process can't write, and control hears that.
    pub fn not_stored(&mut self, target: u8, world: &World) {
        self.target(target).storing = None;
        let why = "there is no space".to_owned();
        self.broker_handles(target, Input::OwnershipNotStored { export: EXPORT.to_owned(), why });
        self.carry_out(target, world);
    }

    /// An operator releases the export. Numbers begin anew above all that there were.
    pub fn release_export(&mut self, target: u8, world: &World) {
        let now_us = self.now_us;
        let floor = 100 * self.targets.len() as u64;
        let broker = Arc::make_mut(&mut self.target(target).broker);
        // The export may be being deleted.
        if broker.release_export(now_us, EXPORT, floor).is_ok() {
            self.carry_out(target, world);
        }
    }

    /// The broker lets an owner open a session: it has to be the only one, durably.
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
        // A queue of the owner before may come back until control hears that there is another one.
        let is_new = welcome.session.queue == 0 && welcome.session.id == [self.next_session; 16];
        if number > kept.number() || is_new && number < kept.number() {
            self.ledger.broken(11, format!("owner {number} is let in, and {kept:?} is kept"));
        }
    }
}
