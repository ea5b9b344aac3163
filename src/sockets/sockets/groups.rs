//! Which sockets of a group are ready.

use std::collections::VecDeque;

use crate::entry::SocketId;
use crate::port::Port;

use super::Sockets;

impl<P: Port, L: AsRef<[u8]>> Sockets<P, L> {
    /// Adds a socket to a group, which knows it by a token.
    pub fn join(&mut self, id: SocketId, group: u64, token: usize) {
        self.leave(id);
        if let Some(entry) = self.get_mut(id) {
            entry.group = Some((group, token));
            self.list(id.index);
        }
    }

    /// Returns true if a socket is in a group.
    pub fn is_in_group(&self, id: SocketId) -> bool {
        self.get(id).is_some_and(|entry| entry.group.is_some())
    }

    /// Takes a socket out of its group.
    pub fn leave(&mut self, id: SocketId) {
        let Some(entry) = self.get_mut(id) else { return };
        let was_listed = std::mem::take(&mut entry.is_listed);
        if let Some((group, _)) = entry.group.take()
            && was_listed
            && let Some((_, listed)) = self.groups.iter_mut().find(|(known, _)| *known == group)
        {
            listed.retain(|index| *index != id.index);
        }
    }

    /// Forgets a group, which has no sockets left.
    pub fn forget(&mut self, group: u64) {
        self.groups.retain(|(known, _)| *known != group);
    }

    /// Adds a socket that may be ready to its group's list.
    pub(super) fn list(&mut self, index: u32) {
        let Some(entry) = &mut self.slots[index as usize].entry else { return };
        if let Some((group, _)) = entry.group
            && !entry.is_listed
            && entry.is_ready()
        {
            entry.is_listed = true;
            match self.groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, listed)) => listed.push_back(index),
                None => self.groups.push((group, VecDeque::from([index]))),
            }
        }
    }

    /// Calls `ready` with the tokens of sockets of a group that have something to read or have
    /// ended, at most `limit`, and fewer if they lead to more writing than the core's cache holds. A
    /// socket is ready until all of that was read; those that were reported come last the next time.
    /// Returns their number.
    pub fn ready(&mut self, group: u64, limit: usize, mut ready: impl FnMut(usize)) -> usize {
        let Sockets { groups, slots, pace, .. } = self;
        let Some((_, listed)) = groups.iter_mut().find(|(known, _)| *known == group) else { return 0 };
        if listed.is_empty() {
            return 0;
        }
        let limit = pace.limit(limit);
        let mut count = 0;
        for _ in 0..listed.len() {
            if count == limit {
                break;
            }
            let Some(index) = listed.pop_front() else { break };
            let Some(entry) = &mut slots[index as usize].entry else { continue };
            match entry.group {
                Some((_, token)) if entry.is_ready() => {
                    ready(token);
                    count += 1;
                    listed.push_back(index);
                }
                _ => entry.is_listed = false,
            }
        }
        pace.reported(count);
        count
    }
}
