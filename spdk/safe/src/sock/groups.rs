//! Many sockets, in groups that SPDK polls at small cost.
//!
//! Each poll of a group makes SPDK walk over all its sockets, and tells of 32 at most (`MAX_EVENTS_PER_POLL` in its
//! `posix` module). With 2,000 busy sockets in one group the walks took a third of a core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub use spdk_contract::sock::Traffic;

use super::{Group, Member, Sock, SockReady};
use crate::errno::{Errno, Result};
use crate::interrupt::Watch;
use crate::interrupt_mode;
use crate::poller::Waker;

/// Sockets of a group: as many as one poll can tell of.
const SOCKETS: usize = 32;

/// A group in which so many looks found nothing is quiet: of such, each poll looks at one.
const QUIET_AFTER: u32 = 256;

/// Of quiet groups of which little is to come anyway, every so many polls look at one: a look is a system call.
const LITTLE_EVERY: u32 = 32;

/// Sockets that one SPDK thread polls, any number.
pub struct Groups {
    parts: RefCell<Vec<Part>>,
    /// Where the next look at those that are not quiet begins, and at those that are, of much and of little traffic.
    next: Cell<usize>,
    next_quiet: Cell<usize>,
    next_little: Cell<usize>,
    polls: Cell<u32>,
}

struct Part {
    group: Group,
    traffic: Traffic,
    /// Looks that found nothing, one after the other.
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
    /// None yet, for the current SPDK thread.
    pub fn create() -> Result<Groups> {
        Ok(Groups {
            // In interrupt mode this one has all of them: what wakes its thread is to be looked at, then and there.
            parts: RefCell::new(vec![Part::new(Traffic::Much)?]),
            next: Cell::new(0),
            next_quiet: Cell::new(0),
            next_little: Cell::new(0),
            polls: Cell::new(0),
        })
    }

    /// Puts `sock` into one of the groups, as [`Group::add`]. `EBUSY` also when called from an owner.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>, traffic: Traffic) -> Result<Member> {
        let mut parts = self.parts.try_borrow_mut().map_err(|_| Errno::EBUSY)?;
        // What wakes a sleeping thread is one group's descriptor, and a thread that sleeps walks seldom.
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

    /// Calls the owners of readable sockets, some more than `max_events` at most. The number called. A socket of
    /// which nothing came for long waits for some more polls than others. HOT.
    pub fn poll(&self, max_events: usize) -> Result<usize> {
        let parts = self.parts.borrow();
        let mut events = 0;
        let mut empty = None;
        let busy = parts.iter().filter(|part| !part.is_quiet()).count();
        self.polls.set(self.polls.get().wrapping_add(1));
        for (traffic, next) in [(Traffic::Much, &self.next_quiet), (Traffic::Little, &self.next_little)] {
            let is_due = traffic == Traffic::Much || self.polls.get().is_multiple_of(LITTLE_EVERY);
            let which = |part: &Part| part.traffic == traffic && part.is_quiet();
            if is_due && let Some(index) = following(&parts, next, which) {
                events += parts[index].look(max_events)?;
                // Not the last one: it is what may be watched.
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
            // Its descriptor goes with it. Nothing was put into it since: whoever adds is told `EBUSY` meanwhile.
            self.parts.borrow_mut().swap_remove(index);
        }
        Ok(events)
    }

    /// Runs `waker`'s poller when a socket is readable.
    pub fn watch(&self, waker: &Waker) -> Result<Watch> {
        self.parts.borrow()[0].group.watch(waker)
    }
}

/// The first from `next` on of which `which` is true; `next` is behind it then.
fn following(parts: &[Part], next: &Cell<usize>, which: impl Fn(&Part) -> bool) -> Option<usize> {
    let from = next.get();
    let index = (0..parts.len()).map(|i| (from + i) % parts.len()).find(|&i| which(&parts[i]))?;
    next.set(index + 1);
    Some(index)
}
