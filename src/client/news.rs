//! What other modules of the process have to know of a bdev, and what no I/O could tell them in time.

use std::sync::OnceLock;

/// Something that has happened to a bdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Completed writes that were not flushed may be lost. Nothing was sent since.
    LostCache,
    /// Another host owns the export now. All I/O fails.
    TakenOver,
    /// The target, which could not be reached for a time, answers again, and I/O does not fail at once.
    Reachable,
}

/// Takes news of the bdev with this name, on the control thread. It may submit I/O to the bdev, but
/// neither create nor delete one.
pub type Listener = fn(bdev: &str, news: News);

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Sets what takes the news of all bdevs. Only the first call has an effect.
pub fn set_listener(listener: Listener) {
    LISTENER.get_or_init(|| listener);
}

pub fn tell(bdev: &str, news: News) {
    if let Some(listener) = LISTENER.get() {
        listener(bdev, news);
    }
}
