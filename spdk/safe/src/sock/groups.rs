//! Many sockets, in groups that SPDK polls at small cost.
//!
//! Each poll of a group makes SPDK walk over all its sockets, and tells of 32 at most (`MAX_EVENTS_PER_POLL` in its
//! `posix` module). With 2,000 busy sockets in one group the walks took a third of a core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Group, Member, Sock, SockReady};
use crate::errno::{Errno, Result};
use crate::interrupt;
use crate::interrupt::Watch;
use crate::poller::Waker;

/// Sockets of a group: as many as one poll can tell of.
const SOCKETS: usize = 32;

/// A group in which so many looks found nothing is quiet: of such, each poll looks at one.
const QUIET_AFTER: u32 = 256;

/// Sockets that one SPDK thread polls, any number.
pub struct Groups {
    parts: RefCell<Vec<Part>>,
    /// Where the next look at those that are not quiet begins, and at those that are.
    next: Cell<usize>,
    next_quiet: Cell<usize>,
}

struct Part {
    group: Group,
    /// Looks that found nothing, one after the other.
    empty_looks: Cell<u32>,
}

impl Part {
    fn new() -> Result<Part> {
        Ok(Part { group: Group::create()?, empty_looks: Cell::new(0) })
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
        Ok(Groups { parts: RefCell::new(vec![Part::new()?]), next: Cell::new(0), next_quiet: Cell::new(0) })
    }

    /// Puts `sock` into one of the groups, as [`Group::add`]. `EBUSY` also when called from an owner.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>) -> Result<Member> {
        // What wakes a sleeping thread is one group's descriptor, and a thread that sleeps walks seldom.
        let most = if interrupt::enabled() { usize::MAX } else { SOCKETS };
        let mut parts = self.parts.try_borrow_mut().map_err(|_| Errno::EBUSY)?;
        let part = match parts.iter().position(|part| part.group.len() < most) {
            Some(index) => &parts[index],
            None => {
                parts.push(Part::new()?);
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
        if let Some(index) = following(&parts, &self.next_quiet, Part::is_quiet) {
            events += parts[index].look(max_events)?;
            // Not the last one: it is what may be watched.
            empty = (parts[index].group.len() == 0 && parts.len() > 1).then_some(index);
        }
        let busy = parts.iter().filter(|part| !part.is_quiet()).count();
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
