//! Opens and closes channels on the threads that use the clients' bdevs.

use spdk::user;
use world::process;

use crate::fleet::ClientSide;
use crate::users::User;

/// A thread's use of its client's bdev.
#[derive(Debug, Default)]
pub(crate) struct ThreadUse {
    /// Whether the thread should have a channel.
    wanted: bool,
    /// Whether the thread was asked to open a channel and has not done so yet.
    posted: bool,
    was_open: bool,
}

impl ThreadUse {
    /// Sets whether the thread should have a channel.
    pub fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Notes that the client's process is a new one, which was not asked for anything yet.
    pub fn restarted(&mut self) {
        self.posted = false;
    }

    /// Returns the state of a thread that should have a channel.
    pub fn wanted() -> ThreadUse {
        ThreadUse { wanted: true, ..ThreadUse::default() }
    }
}

/// Returns the user on a client's thread, or `None` if the thread cannot use the bdev now.
pub(crate) fn user(seats: &[ThreadUse], client: usize, side: &ClientSide, thread: usize) -> Option<User> {
    let disk = side.disk?;
    let id = side.threads[thread];
    let ready = seats[thread].wanted && user::is_open(disk, id) && !user::is_going(disk);
    ready.then_some(User { client, disk, thread: id, store: side.store })
}

/// Opens and closes channels so that each thread has one if it should.
pub(crate) fn tend(seats: &mut [ThreadUse], side: &ClientSide) {
    let Some(disk) = side.disk else { return };
    let going = user::is_going(disk);
    for (seat, &thread) in seats.iter_mut().zip(&side.threads) {
        let open = user::is_open(disk, thread);
        let wanted = seat.wanted && !going;
        if open != seat.was_open {
            seat.was_open = open;
            seat.posted = false;
        }
        if wanted && !open && !seat.posted {
            seat.posted = true;
            process::on(thread, move || {
                if !user::has_channel(disk) {
                    let _ = user::open(disk);
                }
            });
        } else if !wanted && open {
            // Closing is repeated until the channel's I/O has ended.
            process::on(thread, move || user::close(disk));
        }
    }
}
