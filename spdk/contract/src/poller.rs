//! What a poller's turn comes to.

/// What came of a poller's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It found work.
    Worked,
    /// It found none, and is to look again at once: something is due of which nothing tells.
    Waiting,
    /// It found none, and needs to look when something that it watches tells, when it is woken, or when its
    /// rest is over.
    Nothing,
}

impl From<bool> for Turn {
    /// Whether it found work.
    fn from(worked: bool) -> Turn {
        if worked { Turn::Worked } else { Turn::Nothing }
    }
}
