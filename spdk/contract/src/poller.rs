//! The result of a poller's turn.

/// The result of a poller's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The poller found work.
    Worked,
    /// The poller found no work and must run again at once, because something is due that wakes
    /// nothing.
    Waiting,
    /// The poller found no work and must run again only when something that it watches is ready,
    /// when it is woken, or when its rest is over.
    Nothing,
}

impl From<bool> for Turn {
    /// Converts whether the poller found work.
    fn from(worked: bool) -> Turn {
        if worked { Turn::Worked } else { Turn::Nothing }
    }
}
