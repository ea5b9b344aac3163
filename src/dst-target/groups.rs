//! How far the groups' threads are.

use spdk::thread::Thread;

use crate::error::Error;

/// Called when the groups are there, or can't be had.
pub(crate) type Started = Box<dyn FnOnce(Result<(), Error>)>;

/// The threads of the groups, by the broker's numbers for them.
#[derive(Default)]
pub(crate) enum Groups {
    /// There was no listener yet: a process that is only a client has no groups.
    #[default]
    None,
    /// Each thread makes its pools.
    Starting {
        threads: Vec<Thread>,
        /// Threads that have not told how that went.
        missing: usize,
        /// The first that has not succeeded.
        failure: Option<Error>,
        then: Vec<Started>,
    },
    /// All groups are there.
    Started(Vec<Thread>),
}

impl Groups {
    /// Returns the threads of groups that can be told something.
    pub fn threads(&self) -> &[Thread] {
        match self {
            Groups::Started(threads) => threads,
            Groups::None | Groups::Starting { .. } => &[],
        }
    }
}
