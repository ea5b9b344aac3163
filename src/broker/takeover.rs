//! The takeover of an export. The change of its ownership is made durable first. Then all other
//! sessions end, and the new owner is admitted once the backend holds nothing of them.

use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::refuse;
use dst_wire::{Claim, Ownership, RefusalReason};

use crate::broker::Broker;
use crate::connection::{PendingHello, Stage};
use crate::error::Rejection;
use crate::ids::{ClientId, ConnectionId, SessionId};
use crate::output::{Output, Topic};
use crate::ownership::{KnownOwnership, OwnershipChange, OwnershipState, ReadOwnership, Stored};

impl Broker {
    /// Keeps the ownership of an export from now on. `read` is the ownership that was kept before,
    /// or the reason why it is not known. To be called before the first client is admitted.
    ///
    /// # Errors
    /// Fails if there is no such export.
    pub fn keep_ownership(&mut self, now_us: u64, name: &str, read: ReadOwnership) -> Result<(), Rejection> {
        self.now_us = now_us;
        let export = self.exports.get_mut(name).ok_or_else(|| Rejection::NoExport(name.to_owned()))?;
        export.ownership = OwnershipState::Settled(read.clone().into());
        if let Err(why) = read {
            self.warn(Topic::Operators, || {
                format!(
                    "DST export {name}: its owner is not known: {why}; nobody is let in until dst_export_release"
                )
            });
        }
        Ok(())
    }

    /// Ends the ownership of an export, or the doubt about it. [`Output::StoreOwnership`] follows,
    /// and the owner's sessions end once the change is stored. `floor` is used if the kept numbers
    /// are not known. It must be higher than all of them; the time in seconds since 1970 is,
    /// provided that there was less than one ownership a second.
    ///
    /// # Errors
    /// Fails if there is no such export, if the export is being deleted, or if its ownership is not
    /// kept or is already being changed.
    pub fn release_export(&mut self, now_us: u64, name: &str, floor: u64) -> Result<(), Rejection> {
        self.now_us = now_us;
        let of = || name.to_owned();
        let export = self.exports.get_mut(name).ok_or_else(|| Rejection::NoExport(of()))?;
        if export.is_deleting() {
            return Err(Rejection::ExportBusy(of()));
        }
        let last = match &export.ownership {
            OwnershipState::NotKept => return Err(Rejection::OwnershipNotKept(of())),
            OwnershipState::Changing { .. } => return Err(Rejection::OwnershipChanging(of())),
            OwnershipState::Settled(known) => known.ownership().map_or(floor, Ownership::number),
        };
        self.change_ownership(name, OwnershipChange::Release { last });
        Ok(())
    }

    /// Resets the bdev of an export for a client that waits to be admitted as its owner: an
    /// operator's means against a backend that hangs. [`Output::ResetForHosts`] follows, and the
    /// client is admitted when the reset has ended and the backend has nothing of others any more.
    /// No client is admitted meanwhile, since the reset would end its I/O.
    ///
    /// # Errors
    /// Fails if there is no such export, if no client waits, if the export is being deleted or its
    /// bdev was removed, or if the bdev is being reset already.
    pub fn reset_for_takeover(&mut self, now_us: u64, name: &str) -> Result<(), Rejection> {
        self.now_us = now_us;
        let of = || name.to_owned();
        let export = self.exports.get(name).ok_or_else(|| Rejection::NoExport(of()))?;
        if export.is_deleting() {
            return Err(Rejection::ExportBusy(of()));
        }
        let is_resetting = export.drain.as_ref().is_some_and(|drain| drain.is_resetting);
        if is_resetting || self.resets.is_resetting(name) {
            return Err(Rejection::ResetUnderWay(of()));
        }
        let Some(host) = self.waiting_for_backend(name) else { return Err(Rejection::NobodyWaits(of())) };
        self.notice(Topic::Operators, || {
            format!(
                "DST export {name}: an operator has its bdev reset for host {host:?}, which waits to own it"
            )
        });
        self.reset_for_operator(name);
        Ok(())
    }

    /// Returns a host that is to own the export and waits for the backend. The host's hello waits;
    /// or the hello has waited so long that it was refused, and the client is between two attempts.
    fn waiting_for_backend(&self, name: &str) -> Option<String> {
        let waits = self.connections.values().find_map(|entry| match &entry.stage {
            Stage::WaitingToOpen(PendingHello { hello, .. })
                if hello.export == name && hello.claim.is_some() =>
            {
                Some(hello.host.clone())
            }
            _ => None,
        });
        waits.or_else(|| {
            let owner = self.exports.get(name)?.ownership.owner()?;
            let is_in = self.sessions.iter().any(|(_, session)| session.client.export == name);
            (!is_in && self.is_draining_all(name)).then(|| owner.to_owned())
        })
    }

    /// Begins to make a change of an export's ownership durable.
    pub(crate) fn change_ownership(&mut self, name: &str, change: OwnershipChange) {
        let Some(export) = self.exports.get_mut(name) else { return };
        let (number, host, since_s) = match (&change, &export.ownership) {
            (OwnershipChange::Claim { number, host, .. }, _) => (*number, Some(host.clone()), None),
            (OwnershipChange::Release { last }, _) => (*last, None, None),
            (OwnershipChange::Restore, OwnershipState::Settled(KnownOwnership::Doubtful(known))) => {
                match known {
                    Ownership::Free { last } => (*last, None, None),
                    Ownership::Exclusive { number, host, since_s } => {
                        (*number, Some(host.clone()), Some(*since_s))
                    }
                }
            }
            (OwnershipChange::Restore, _) => return,
        };
        export.ownership.begin(change);
        self.output(Output::StoreOwnership { export: name.to_owned(), number, host, since_s });
    }

    /// Carries out a change of an export's ownership, which is durable now.
    pub(crate) fn ownership_stored(&mut self, name: &str, since_s: u64) {
        let change =
            self.exports.get_mut(name).and_then(|export| export.ownership.end(Stored::Durably { since_s }));
        match change {
            None => return,
            Some(OwnershipChange::Restore) => {
                self.notice(Topic::Operators, || {
                    format!("DST export {name}: its ownership is durable again, as it was")
                });
            }
            Some(OwnershipChange::Claim { number, host, claimant }) => {
                self.notice(Topic::Operators, || {
                    format!("DST export {name}: host {host:?} owns it now (ownership {number})")
                });
                if !is_on(Mutation::NoTakeoverEnd) {
                    self.close_sessions(name, "its export has another owner");
                }
                self.claim_granted(claimant, number);
            }
            Some(OwnershipChange::Release { last }) => {
                self.notice(Topic::Operators, || {
                    format!("DST export {name}: nobody owns it now; the last ownership was {last}")
                });
                let is_owned = self
                    .sessions
                    .iter()
                    .any(|(_, session)| session.client.export == name && session.ownership.is_some());
                // If nobody owned the export, its sessions share it and may go on.
                if is_owned {
                    self.close_sessions(name, "its export was released");
                }
            }
        }
        self.drained(name);
    }

    /// Drops a change of an export's ownership that could not be made durable. The ownership stays
    /// as it was. If the state file may hold the change all the same, the ownership is in doubt
    /// from now on.
    pub(crate) fn ownership_not_stored(&mut self, name: &str, why: &str, is_in_doubt: bool) {
        let stored = if is_in_doubt { Stored::InDoubt } else { Stored::No };
        let change = self.exports.get_mut(name).and_then(|export| export.ownership.end(stored));
        let Some(change) = change else { return };
        if let OwnershipChange::Claim { host, claimant, .. } = change {
            let client = ClientId { export: name.to_owned(), host };
            let text = format!("the new ownership can't be made durable: {why}");
            self.refuse(claimant, &client, &text.clone(), refuse(RefusalReason::Busy, text));
        }
        self.drained(name);
    }

    /// Grants a claim. From now on the hello waits as that of the owner, until the requests of all
    /// other hosts have ended.
    fn claim_granted(&mut self, claimant: ConnectionId, number: u64) {
        let Some(entry) = self.connections.get_mut(&claimant) else { return };
        if matches!(entry.stage, Stage::WaitingToOwn(_))
            && let Stage::WaitingToOwn(PendingHello { mut hello, proof }) =
                std::mem::replace(&mut entry.stage, Stage::Refused)
        {
            hello.claim = Some(Claim::Held(number));
            let instance = hello.previous.map(|previous| previous.instance);
            entry.stage = Stage::WaitingToOpen(PendingHello { hello, proof });
            self.output(Output::AskAgain { connection: claimant, instance });
        }
    }

    /// Ends all sessions of an export. Their clients may come back.
    pub(crate) fn close_sessions(&mut self, name: &str, why: &str) {
        let its = self.sessions.iter().filter(|(_, session)| session.client.export == name);
        let ids: Vec<SessionId> = its.map(|(id, _)| *id).collect();
        for id in &ids {
            self.close_session(id, why);
        }
    }

    /// Returns the hosts whose hellos wait to own the export or to be admitted as its owner, with
    /// the times at which their connections were accepted, µs.
    pub(crate) fn waiting_to_own<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.connections.values().filter_map(move |entry| match &entry.stage {
            Stage::WaitingToOwn(PendingHello { hello, .. })
            | Stage::WaitingToOpen(PendingHello { hello, .. })
                if hello.export == name && hello.claim.is_some() =>
            {
                Some((hello.host.as_str(), entry.since_us))
            }
            _ => None,
        })
    }
}
