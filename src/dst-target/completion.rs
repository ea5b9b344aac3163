//! Completion of backend I/O: the backend's calls are noted, and handed out in the group's turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use dst_wire::Status;
use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::clock::now_us;
use spdk::poller::Waker;

/// An I/O object, with all that the backend needs while the I/O is under way.
pub type Io = Box<BackendIo<Context>>;

/// Receives the completions of the I/O that it submitted.
pub trait Submitter {
    /// The backend has finished an I/O. `now_us` is for the statistics only. HOT.
    fn completed(self: Rc<Self>, io: Io, status: Status, now_us: u64);
}

/// What the target keeps in an I/O object.
pub struct Context {
    completions: Rc<Completions>,
    /// The connection, while the I/O is in the backend.
    submitter: Option<Rc<dyn Submitter>>,
    /// The connection's slot.
    pub slot: u16,
}

impl Context {
    /// Returns the context of an I/O object whose completions go to this group's list.
    pub fn new(completions: Rc<Completions>) -> Context {
        Context { completions, submitter: None, slot: 0 }
    }

    /// The I/O goes to the backend, and its completion to `submitter`. HOT.
    pub fn submitted_by(&mut self, submitter: Rc<dyn Submitter>) {
        self.submitter = Some(submitter);
        self.completions.in_backend.set(self.completions.in_backend.get() + 1);
    }
}

impl BackendDone for Context {
    /// Only notes the completion: when a backend answers at once, the connection may be borrowed up
    /// the stack.
    fn done(io: Io, status: IoStatus) {
        let completions = Rc::clone(&io.ctx.completions);
        completions.note(io, status);
    }
}

/// A group's list of completions that nobody has looked at yet.
pub struct Completions {
    /// I/O objects that the backend has, or that are in `finished`.
    in_backend: Cell<usize>,
    finished: RefCell<VecDeque<(Io, IoStatus)>>,
    /// Of the poller that looks at this list.
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

    /// Returns whether the backend works for this group.
    pub fn are_expected(&self) -> bool {
        self.in_backend.get() > 0
    }

    fn note(&self, io: Io, status: IoStatus) {
        let mut finished = self.finished.borrow_mut();
        let is_first = finished.is_empty();
        finished.push_back((io, status));
        if is_first {
            // Whoever takes the first one takes all.
            self.waker.borrow().wake();
        }
    }

    /// Hands what the backend has finished to its submitters. Returns how many there were.
    pub fn collect(&self) -> usize {
        let mut count = 0;
        // One look at the clock for all of them: the time is for the statistics only.
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

/// Returns what the client is told of a backend's status.
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
