//! The users: random I/O to so few blocks that much of it overlaps.

use dst_mirror::Op;

use crate::owner::{Owner, UserIo};
use crate::state::{Run, Stage};
use crate::world::Event;

impl Run {
    /// A user submits an I/O, if there is a mirror.
    pub(crate) fn think(&mut self, user: usize) {
        if self.users[user].busy {
            return;
        }
        let usable: Vec<usize> = (0..self.plan.hosts)
            .filter(|&host| self.world.hosts[host].alive && !self.world.hosts[host].stopped)
            .filter(|&host| self.owners[host].as_ref().is_some_and(Owner::is_usable))
            .collect();
        if usable.is_empty() {
            return self.world.after(20_000, Event::Think { user });
        }
        let host = self.world.rng.pick(&usable);
        let (op, start, count) = match self.stage {
            Stage::ReadBack { .. } => match self.read_back.pop() {
                Some(block) => (Op::Read, block, 1),
                None => return,
            },
            _ if self.ios_left == 0 || self.plan.load.is_some() => return,
            _ => self.choose(host),
        };
        self.submit(host, Some(user), op, start, count);
    }

    /// Returns a random I/O.
    fn choose(&mut self, host: usize) -> (Op, u64, u64) {
        let r = &mut self.world.rng;
        self.ios_left -= 1;
        if r.chance(self.plan.flushes) {
            return (Op::Flush, 0, 0);
        }
        let start = r.pick(&self.plan.hot);
        let most = if r.chance(700) { 1 } else { 5 };
        let count = r.range(1, most).min(self.plan.blocks - start);
        let most = self.owners[host].as_ref().map_or(1, |owner| owner.mirror.io_blocks_max(start));
        let count = count.min(most);
        let op = match r.below(100) {
            0..=44 => Op::Read,
            45..=94 => Op::Write,
            _ => Op::WriteZeroes,
        };
        let is_doubled = self.owners.iter().flatten().any(|owner| {
            owner.ios.values().any(|io| (io.op, io.start, io.count) == (Op::WriteZeroes, start, count))
        });
        (if op == Op::WriteZeroes && is_doubled { Op::Read } else { op }, start, count)
    }

    /// An I/O of the load comes, and the next one after a random time.
    pub(crate) fn arrive(&mut self) {
        let Some(load) = self.plan.load.filter(|_| self.ios_left > 0) else { return };
        // As those of many users who know nothing of each other: their times are distributed
        // exponentially.
        let dice = (self.load_rng.below(1 << 20) + 1) as f64 / (1 << 20) as f64;
        let pause_us = (-dice.ln() * load.every_ns as f64 / 1000.0) as u64;
        self.world.after(pause_us, Event::Arrive);
        let start = self.load_rng.pick(&self.plan.hot);
        let op = if self.load_rng.chance(load.reads) { Op::Read } else { Op::Write };
        self.ios_left -= 1;
        let Some(host) = self.user() else { return };
        let most = self.owners[host].as_ref().map_or(1, |owner| owner.mirror.io_blocks_max(start));
        let count = load.blocks.min(self.plan.blocks - start).min(most);
        let waiting = self.owners[host].as_ref().map_or(0, |owner| owner.ios.len());
        if waiting >= self.plan.options.ios_max as usize {
            return self.violate("12", format!("{waiting} I/Os wait at once"));
        }
        self.submit(host, None, op, start, count);
    }

    /// A user's I/O has ended. The user submits the next one after a random time.
    pub(crate) fn free_user(&mut self, user: Option<usize>, within_us: u64) {
        let Some(user) = user else { return };
        self.users[user].busy = false;
        let pause = self.world.rng.below(within_us);
        self.world.after(pause, Event::Think { user });
    }

    /// Submits an I/O of a user, or of the load.
    pub(crate) fn submit(&mut self, host: usize, user: Option<usize>, op: Op, start: u64, count: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let since = (self.world.stamp(), self.world.now);
        let io = UserIo { user, number, op, start, count, since, data: Vec::new(), in_use: 0 };
        self.world.note(|| format!("host {host}: user {user:?}: I/O {number} {op:?} {start}+{count}"));
        if matches!(op, Op::Write | Op::WriteZeroes) {
            self.model.submit(number, io.blocks(), since.0);
        }
        if let Some(user) = user {
            self.users[user].busy = true;
        }
        if let Some(owner) = &mut self.owners[host] {
            let input = owner.submit(io);
            self.tell(host, input);
        }
    }
}
