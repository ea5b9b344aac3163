//! The states of the groups' threads.

use spdk::thread::Thread;

use crate::error::Error;

/// The callback for the outcome of starting the groups.
pub(crate) type Started = Box<dyn FnOnce(Result<(), Error>)>;

/// The threads of the groups. The index of a thread is the broker's number of the group.
#[derive(Default)]
pub(crate) enum GroupThreads {
    /// There was no listener yet. A process that is only a client has no groups.
    #[default]
    None,
    /// Each thread is creating its group.
    Starting {
        threads: Vec<Thread>,
        /// The number of threads that have not reported the outcome.
        missing: usize,
        /// The first failure.
        failure: Option<Error>,
        /// The callbacks for the outcome.
        then: Vec<Started>,
    },
    /// All groups have started.
    Started(Vec<Thread>),
}

impl GroupThreads {
    /// Returns the threads of the groups, or none if the groups have not started yet.
    pub fn threads(&self) -> &[Thread] {
        match self {
            GroupThreads::Started(threads) => threads,
            GroupThreads::None | GroupThreads::Starting { .. } => &[],
        }
    }
}
