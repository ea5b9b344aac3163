//! The held requests, as groups and the control thread know them; the rule is in
//! [`dst_session::holds`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use dst_broker::ClientId;
use dst_session::holds::{HOLDS_MAX, HoldId, Holds};
use dst_wire::Op;

/// The held requests of one client, as one group knows them.
pub struct ClientHolds {
    client: ClientId,
    has_any: Cell<bool>,
    holds: RefCell<Holds>,
}

impl ClientHolds {
    /// Returns the holds of a client that has none.
    pub fn new(client: ClientId) -> ClientHolds {
        ClientHolds { client, has_any: Cell::new(false), holds: RefCell::default() }
    }

    /// Returns the client.
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// Returns true if a request has to wait, because it overlaps a held one. HOT.
    #[inline]
    pub fn stop(&self, op: Op, start: u64, count: u64) -> bool {
        self.has_any.get() && self.holds.borrow().stop(op, start, count)
    }

    fn change(&self, change: impl FnOnce(&mut Holds)) {
        let mut holds = self.holds.borrow_mut();
        change(&mut holds);
        self.has_any.set(!holds.is_empty());
    }
}

/// The held requests of all clients, including those without a connection in this group.
#[derive(Default)]
pub struct GroupHolds(RefCell<BTreeMap<ClientId, Rc<ClientHolds>>>);

impl GroupHolds {
    /// Returns the held requests of a client.
    pub fn of(&self, client: &ClientId) -> Rc<ClientHolds> {
        let mut clients = self.0.borrow_mut();
        if let Some(holds) = clients.get(client) {
            return Rc::clone(holds);
        }
        clients.retain(|_, holds| holds.has_any.get() || Rc::strong_count(holds) > 1);
        let holds = Rc::new(ClientHolds::new(client.clone()));
        clients.insert(client.clone(), Rc::clone(&holds));
        holds
    }

    /// Holds a request.
    pub fn hold(&self, hold: &HeldRequest) {
        let HeldRequest { client, id, start, count } = hold;
        self.of(client).change(|holds| holds.add(*id, *start, *count));
    }

    /// Ends the hold of a request.
    pub fn release(&self, client: &ClientId, id: HoldId) {
        self.of(client).change(|holds| holds.remove(id));
    }
}

/// A request that is to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRequest {
    /// The client that has sent the request.
    pub client: ClientId,
    /// The request.
    pub id: HoldId,
    /// The first block of the request's range.
    pub start: u64,
    /// The number of blocks in the range.
    pub count: u64,
}

/// A connection's notice about an aborted request, for the control thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldNotice {
    /// All groups are to hold the request.
    Hold(HeldRequest),
    /// The hold ends, because the backend has finished the request.
    Release { client: ClientId, id: HoldId },
}

/// A group's reports of holds to the control thread. At most one report is under way, so that the
/// control thread's message queue stays short, however many requests clients abort.
#[derive(Debug, Default)]
pub struct HoldReports {
    waiting: Vec<HoldNotice>,
    is_under_way: bool,
}

impl HoldReports {
    /// Adds a notice to the next report.
    pub fn add(&mut self, notice: HoldNotice) {
        if let HoldNotice::Release { id, .. } = &notice
            && let Some(at) = self
                .waiting
                .iter()
                .rposition(|other| matches!(other, HoldNotice::Hold(hold) if hold.id == *id))
        {
            // The hold ends before it was reported.
            self.waiting.remove(at);
            return;
        }
        self.waiting.push(notice);
    }

    /// Returns true if a report can be sent now. HOT.
    #[inline]
    pub fn is_due(&self) -> bool {
        !self.waiting.is_empty() && !self.is_under_way
    }

    /// Returns the next report, if one is due. It is under way from then on.
    pub fn next(&mut self) -> Option<Vec<HoldNotice>> {
        if !self.is_due() {
            return None;
        }
        self.is_under_way = true;
        Some(std::mem::take(&mut self.waiting))
    }

    /// Notes that the control thread has handled the report that was under way.
    pub fn taken(&mut self) {
        self.is_under_way = false;
    }
}

/// All requests that are held, as the control thread knows them.
#[derive(Default)]
pub struct AllHolds {
    /// The held requests of each client, at most [`HOLDS_MAX`] of one client.
    of: RefCell<BTreeMap<ClientId, Vec<HoldId>>>,
    /// The requests that were passed on to the groups since the groups were last asked to confirm.
    pub untold: RefCell<Vec<HoldId>>,
    /// Whether the groups were asked to confirm and have not all answered.
    pub is_asking: Cell<bool>,
}

impl AllHolds {
    /// Adds a request. Returns false if the client already has [`HOLDS_MAX`] held requests.
    pub fn add(&self, client: &ClientId, id: HoldId) -> bool {
        let mut of = self.of.borrow_mut();
        let held = of.entry(client.clone()).or_default();
        let has_room = held.len() < HOLDS_MAX;
        if has_room {
            held.push(id);
            self.untold.borrow_mut().push(id);
        }
        has_room
    }

    /// Removes a request. Returns false if it was not held.
    pub fn remove(&self, client: &ClientId, id: HoldId) -> bool {
        let mut of = self.of.borrow_mut();
        let Some(held) = of.get_mut(client) else { return false };
        let before = held.len();
        held.retain(|other| *other != id);
        let was_there = held.len() < before;
        if held.is_empty() {
            of.remove(client);
        }
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(host: &str) -> ClientId {
        ClientId { export: "disk".to_owned(), host: host.to_owned() }
    }

    #[test]
    fn one_report_is_under_way_and_what_came_and_went_meanwhile_is_not_told() {
        let id = |request| HoldId { connection: 1, request };
        let hold = |request| {
            HoldNotice::Hold(HeldRequest { client: client("a"), id: id(request), start: 5, count: 1 })
        };
        let release = |request| HoldNotice::Release { client: client("a"), id: id(request) };
        let mut reports = HoldReports::default();
        assert!(!reports.is_due() && reports.next().is_none());
        reports.add(hold(1));
        assert_eq!(reports.next(), Some(vec![hold(1)]));
        for request in 2..1000 {
            reports.add(hold(request));
            reports.add(release(request));
        }
        reports.add(release(1));
        reports.add(hold(1000));
        assert!(!reports.is_due() && reports.next().is_none(), "one is under way");
        reports.taken();
        assert_eq!(reports.next(), Some(vec![release(1), hold(1000)]));
    }

    #[test]
    fn a_client_is_known_as_long_as_something_is_held_or_a_connection_is_here() {
        let (group, id) = (GroupHolds::default(), HoldId { connection: 1, request: 2 });
        group.hold(&HeldRequest { client: client("a"), id, start: 5, count: 5 });
        assert!(!group.of(&client("b")).stop(Op::Write, 5, 1), "another host's I/O waits");
        let a = group.of(&client("a"));
        assert!(a.stop(Op::Write, 9, 1) && a.stop(Op::Flush, 0, 0) && !a.stop(Op::Read, 0, 5));
        group.release(&client("a"), id);
        assert!(!a.stop(Op::Write, 9, 1) && !a.stop(Op::Flush, 0, 0));
        group.of(&client("c"));
        assert_eq!(group.0.borrow().len(), 2, "a has a connection, b has nothing");
        drop(a);
        group.of(&client("d"));
        assert_eq!(group.0.borrow().len(), 1);
    }

    #[test]
    fn a_client_has_no_more_than_its_share_of_holds() {
        let (holding, client) =
            (AllHolds::default(), ClientId { export: "disk".to_owned(), host: "a".to_owned() });
        let id = |request| HoldId { connection: 1, request };
        for request in 0..HOLDS_MAX as u64 {
            assert!(holding.add(&client, id(request)));
        }
        assert!(!holding.add(&client, id(1000)), "one too many");
        assert!(!holding.remove(&client, id(1000)), "it is not held");
        assert!(holding.add(&ClientId { host: "b".to_owned(), ..client.clone() }, id(1)), "another host's");
        assert!(holding.remove(&client, id(7)) && !holding.remove(&client, id(7)));
        assert!(holding.add(&client, id(1000)));
        assert_eq!(holding.untold.take().len(), HOLDS_MAX + 2);
    }
}
