//! Completion of backend I/O: the backend's callbacks only note completions, which reach the
//! connections in the group's turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use dst_wire::{Crc32c, Status};
use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::clock::now_us;
use spdk::poller::Waker;

/// An I/O object, which has everything that the backend needs during an I/O.
pub type Io = Box<BackendIo<Context>>;

/// Returns the digest of the first `len` bytes of an I/O's data.
#[inline]
pub fn digest_of(io: &Io, len: usize) -> u32 {
    Crc32c::of_pieces(len, |at| io.data.slice(at))
}

/// A submitter of I/O to the backend, which receives the completions.
pub trait Submitter {
    /// Handles the completion of an I/O. `now_us` is for the statistics only. HOT.
    fn completed(self: Rc<Self>, io: Io, status: Status, now_us: u64);
}

/// The target's own data in an I/O object.
pub struct Context {
    completions: Rc<Completions>,
    /// The receiver of the completion, while the I/O is in the backend.
    submitter: Option<Rc<dyn Submitter>>,
    /// The slot of the request.
    pub slot: u16,
}

impl Context {
    /// Returns the context of an I/O object whose completions are noted in `completions`.
    pub fn new(completions: Rc<Completions>) -> Context {
        Context { completions, submitter: None, slot: 0 }
    }

    /// Prepares the I/O for its submission to the backend. `submitter` will get the completion.
    /// HOT.
    pub fn submitted_by(&mut self, submitter: Rc<dyn Submitter>) {
        self.submitter = Some(submitter);
        self.completions.in_backend.set(self.completions.in_backend.get() + 1);
    }
}

impl BackendDone for Context {
    /// Only notes the completion. If a backend completes an I/O at once, the connection is still
    /// borrowed by the caller that submitted it.
    fn done(io: Io, status: IoStatus) {
        let completions = Rc::clone(&io.ctx.completions);
        completions.note(io, status);
    }
}

/// A group's list of completions that have not reached their submitters yet.
pub struct Completions {
    /// The number of I/O objects that the backend has or that are in `finished`.
    in_backend: Cell<usize>,
    finished: RefCell<VecDeque<(Io, IoStatus)>>,
    /// The waker of the poller that empties this list.
    waker: RefCell<Waker>,
}

impl Completions {
    /// Returns an empty list with room for this many I/O objects, so that it never grows.
    pub fn new(objects: usize) -> Completions {
        Completions {
            in_backend: Cell::new(0),
            finished: RefCell::new(VecDeque::with_capacity(objects)),
            waker: RefCell::default(),
        }
    }

    /// Sets the waker of the poller that calls [`Completions::collect`].
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.borrow_mut() = waker;
    }

    /// Returns true if the backend has I/O of this group.
    pub fn are_expected(&self) -> bool {
        self.in_backend.get() > 0
    }

    fn note(&self, io: Io, status: IoStatus) {
        let mut finished = self.finished.borrow_mut();
        let is_first = finished.is_empty();
        finished.push_back((io, status));
        if is_first {
            // One wake-up is enough, since the poller takes all completions.
            self.waker.borrow().wake();
        }
    }

    /// Hands all noted completions to their submitters. Returns their number.
    pub fn collect(&self) -> usize {
        let mut count = 0;
        // The clock is read once for all completions: the time is for the statistics only.
        let now_us = if self.finished.borrow().is_empty() { 0 } else { now_us() };
        loop {
            let next = self.finished.borrow_mut().pop_front();
            let Some((mut io, result)) = next else { return count };
            let submitter = io.ctx.submitter.take().expect("an I/O in the backend has a submitter");
            self.in_backend.set(self.in_backend.get() - 1);
            submitter.completed(io, status(result), now_us);
            count += 1;
        }
    }
}

/// Returns the status in the Answer for a status of the backend.
fn status(status: IoStatus) -> Status {
    match status {
        IoStatus::Success => Status::Success,
        IoStatus::Miscompare => Status::Miscompare,
        IoStatus::Aborted => Status::Aborted,
        IoStatus::Failed | IoStatus::Nomem => Status::Failed,
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests {
    use super::*;

    /// Notes what it hears, and submits each I/O again until it failed.
    struct Recorder {
        heard: RefCell<Vec<(u16, Status)>>,
    }

    impl Submitter for Recorder {
        fn completed(self: Rc<Self>, mut io: Io, status: Status, _: u64) {
            self.heard.borrow_mut().push((io.ctx.slot, status));
            if status == Status::Success {
                io.ctx.submitted_by(Rc::clone(&self) as Rc<dyn Submitter>);
                Context::done(io, IoStatus::Failed);
            }
        }
    }

    #[test]
    fn a_completion_reaches_its_submitter_in_the_turn_and_once() {
        let completions = Rc::new(Completions::new(2));
        let recorder = Rc::new(Recorder { heard: RefCell::default() });
        for (slot, status) in [(1, IoStatus::Success), (2, IoStatus::Aborted)] {
            let mut io = Box::new(BackendIo::new(Context::new(Rc::clone(&completions))));
            io.ctx.slot = slot;
            io.ctx.submitted_by(Rc::clone(&recorder) as Rc<dyn Submitter>);
            assert!(completions.are_expected());
            Context::done(io, status);
        }
        assert!(recorder.heard.borrow().is_empty(), "a submitter was called inside the backend's call");
        assert_eq!(completions.collect(), 3, "one of them was submitted again, and answered at once");
        let heard = [(1, Status::Success), (2, Status::Aborted), (1, Status::Failed)];
        assert_eq!(*recorder.heard.borrow(), heard);
        assert!(!completions.are_expected());
        assert_eq!(completions.collect(), 0);
        assert_eq!(Rc::strong_count(&recorder), 1, "nobody keeps a connection that is done");
    }
}
