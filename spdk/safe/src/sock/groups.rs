//! Any number of sockets, in groups that SPDK polls at low cost.
//!
//! Each poll of a group makes SPDK walk over all its sockets and report at most 32
//! (`MAX_EVENTS_PER_POLL` in its `posix` module). With 2,000 busy sockets in one group, the walks
//! took a third of a core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub use spdk_contract::sock::Traffic;

use super::{Group, Member, Sock, SockReady};
use crate::errno::{Errno, Result};
use crate::interrupt::Watch;
use crate::interrupt_mode;
use crate::poller::Waker;

/// The maximum number of sockets in a group: as many as one poll can report.
const SOCKETS: usize = 32;

/// A group is quiet after this many polls without an event. Each poll visits only one of the quiet
/// groups.
const QUIET_AFTER: u32 = 256;

/// Only one in this many polls visits a quiet group of [`Traffic::Control`], since a visit costs a
/// system call.
const LITTLE_EVERY: u32 = 32;

/// Any number of sockets that one SPDK thread polls.
pub struct Groups {
    parts: RefCell<Vec<Part>>,
    /// The positions at which the next visits begin: of busy groups, of quiet ones of much traffic,
    /// and of quiet ones of little traffic.
    next: Cell<usize>,
    next_quiet: Cell<usize>,
    next_little: Cell<usize>,
    polls: Cell<u32>,
}

struct Part {
    group: Group,
    traffic: Traffic,
    /// The number of consecutive visits without an event.
    empty_looks: Cell<u32>,
}

impl Part {
    fn new(traffic: Traffic) -> Result<Part> {
        Ok(Part { group: Group::create()?, traffic, empty_looks: Cell::new(0) })
    }

    fn is_quiet(&self) -> bool {
        self.empty_looks.get() >= QUIET_AFTER
    }

    fn look(&self, max_events: usize) -> Result<usize> {
        let events = self.group.poll(max_events)?;
        self.empty_looks.set(if events == 0 { self.empty_looks.get().saturating_add(1) } else { 0 });
        Ok(events)
    }
}

impl Groups {
    /// Creates an empty set of groups for the current SPDK thread.
    pub fn create() -> Result<Groups> {
        Ok(Groups {
            // In interrupt mode, this group has all sockets, since whatever wakes the thread must
            // be polled at once.
            parts: RefCell::new(vec![Part::new(Traffic::Data)?]),
            next: Cell::new(0),
            next_quiet: Cell::new(0),
            next_little: Cell::new(0),
            polls: Cell::new(0),
        })
    }

    /// Adds `sock` to one of the groups, as [`Group::add`] does. `EBUSY` also means that it was
    /// called from an owner.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>, traffic: Traffic) -> Result<Member> {
        let mut parts = self.parts.try_borrow_mut().map_err(|_| Errno::EBUSY)?;
        // One group's file descriptor wakes a sleeping thread, and a thread that sleeps polls
        // seldom.
        let takes =
            |part: &Part| interrupt_mode::enabled() || part.traffic == traffic && part.group.len() < SOCKETS;
        let part = match parts.iter().position(takes) {
            Some(index) => &parts[index],
            None => {
                parts.push(Part::new(traffic)?);
                &parts[parts.len() - 1]
            }
        };
        part.empty_looks.set(0);
        part.group.add(sock, owner)
    }

    /// Calls the owners of readable sockets, slightly more than `max_events` at most, and returns
    /// how many were called. A socket that was quiet for long may wait for a few more polls than
    /// others. HOT.
    pub fn poll(&self, max_events: usize) -> Result<usize> {
        let parts = self.parts.borrow();
        let mut events = 0;
        let mut empty = None;
        let busy = parts.iter().filter(|part| !part.is_quiet()).count();
        self.polls.set(self.polls.get().wrapping_add(1));
        for (traffic, next) in [(Traffic::Data, &self.next_quiet), (Traffic::Control, &self.next_little)] {
            let is_due = traffic == Traffic::Data || self.polls.get().is_multiple_of(LITTLE_EVERY);
            let which = |part: &Part| part.traffic == traffic && part.is_quiet();
            if is_due && let Some(index) = following(&parts, next, which) {
                events += parts[index].look(max_events)?;
                // The last group stays, since it may be watched.
                if parts[index].group.len() == 0 && parts.len() > 1 {
                    empty = Some(index);
                }
            }
        }
        for _ in 0..busy {
            if events >= max_events {
                break;
            }
            let Some(index) = following(&parts, &self.next, |part| !part.is_quiet()) else { break };
            events += parts[index].look(max_events)?;
        }
        drop(parts);
        if let Some(index) = empty {
            // Removing the group closes its file descriptor. It is still empty, since `add`
            // returned `EBUSY` in the meantime.
            self.parts.borrow_mut().swap_remove(index);
        }
        Ok(events)
    }

    /// Runs `waker`'s poller when a socket is readable.
    pub fn watch(&self, waker: &Waker) -> Result<Watch> {
        self.parts.borrow()[0].group.watch(waker)
    }
}

/// Returns the first part from `next` on for which `which` is true, and moves `next` past it.
fn following(parts: &[Part], next: &Cell<usize>, which: impl Fn(&Part) -> bool) -> Option<usize> {
    let from = next.get();
    let index = (0..parts.len()).map(|i| (from + i) % parts.len()).find(|&i| which(&parts[i]))?;
    next.set(index + 1);
    Some(index)
}
