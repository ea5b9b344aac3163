//! What the groups' connections did, for those who ask.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::control::Target;
use crate::group;
use crate::sessions::{Session, SessionId, SessionInfo};
use crate::stats::Stats;

impl Target {
    /// The sessions, of one export or all, once the groups have told their counts.
    pub fn sessions(self: &Rc<Self>, export: Option<String>, done: impl FnOnce(Vec<SessionInfo>) + 'static) {
        self.gather(move |target, counts| {
            let state = target.state.borrow();
            let wanted =
                state.sessions.iter().filter(|(_, s)| export.as_ref().is_none_or(|e| *e == s.export));
            let show = |(id, session): (&SessionId, &Session)| {
                let mut stats = session.stats;
                session.connections().filter_map(|id| counts.get(&id)).for_each(|count| stats.add(count));
                SessionInfo {
                    id: *id,
                    export: session.export.clone(),
                    host: session.host.clone(),
                    peer: session.peer,
                    connections: session.connections().count(),
                    stats,
                }
            };
            let list = wanted.map(show).collect();
            drop(state);
            done(list);
        });
    }

    /// Totals since the start, and connections and sessions now, once the groups have told their counts.
    pub fn stats(self: &Rc<Self>, done: impl FnOnce(Stats, usize, usize) + 'static) {
        self.gather(|target, counts| {
            let state = target.state.borrow();
            let mut total = state.past;
            state.sessions.iter().for_each(|(_, session)| total.add(&session.stats));
            counts.values().for_each(|count| total.add(count));
            let (connections, sessions) = (state.connections.len(), state.sessions.len());
            drop(state);
            done(total, connections, sessions);
        });
    }

    /// Asks every group for its connections' counts.
    fn gather(self: &Rc<Self>, done: impl FnOnce(&Rc<Target>, BTreeMap<u64, Stats>) + 'static) {
        let groups = self.state.borrow().groups.len();
        if groups == 0 {
            return done(self, BTreeMap::new());
        }
        // What comes back is looked up by number: a closure that holds `done` can't leave this thread.
        spdk::thread_local! {
            static GATHERINGS: RefCell<BTreeMap<u64, Gathering>> = RefCell::default();
        }
        type Gathered = Box<dyn FnOnce(&Rc<Target>, BTreeMap<u64, Stats>)>;
        struct Gathering {
            missing: usize,
            counts: BTreeMap<u64, Stats>,
            done: Gathered,
        }
        let key = self.next_id();
        let gathering = Gathering { missing: groups, counts: BTreeMap::new(), done: Box::new(done) };
        GATHERINGS.with(|all| all.borrow_mut().insert(key, gathering));
        fn told(target: &Rc<Target>, key: u64, counts: Vec<(u64, Stats)>) {
            let complete = GATHERINGS.with(|all| {
                let mut all = all.borrow_mut();
                let gathering = all.get_mut(&key)?;
                gathering.counts.extend(counts);
                gathering.missing -= 1;
                if gathering.missing == 0 { all.remove(&key) } else { None }
            });
            if let Some(gathering) = complete {
                (gathering.done)(target, gathering.counts);
            }
        }
        for index in 0..groups {
            let (thread, control) = (self.state.borrow().groups[index].thread, self.thread);
            let ask = move || {
                // A group that could not be started has no connections.
                let mut counts = Vec::new();
                group::with(|group| counts = group.stats());
                let answer = control.send(move || Target::with(|target| told(target, key, counts)));
                assert!(answer.is_ok(), "a target thread can't send to the control thread");
            };
            assert!(thread.send(ask).is_ok(), "control can't send to target thread {index}");
        }
    }
}
