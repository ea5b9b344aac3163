//! The state of a verification: how far it is, and what it has found.

use crate::configuration::MEMBERS_MAX;
use crate::credit::Credit;
use crate::extents::Extent;
use crate::handles::SlotId;
use crate::report::{Verification, VerificationState};

/// What becomes of a window. Members are named by their places, and sets of them have a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The range is being locked.
    Locking,
    /// The reference is read.
    Reading,
    /// A member is read, and compared with the reference.
    Comparing { who: usize },
    /// The region waits for room in the intent log.
    Logging { who: usize },
    /// The region waits until the record that calls it hot counts.
    Recording { who: usize },
    /// Blocks that a member holds otherwise are read from the reference.
    RepairReading { who: usize, run: Extent },
    /// These blocks are written to the member.
    RepairWriting { who: usize, run: Extent },
}

/// The range that is compared just now.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) range: Extent,
    /// The slot with the reference's blocks, and the one for another member's.
    pub(crate) slots: [SlotId; 2],
    pub(crate) step: Step,
    /// The members in sync when the range was locked.
    pub(crate) members: u16,
    /// The caches that each member had lost then.
    pub(crate) lost_caches: [u32; MEMBERS_MAX],
    /// The member that the others are compared with.
    pub(crate) reference: usize,
    /// The members that have not been compared.
    pub(crate) left: u16,
    /// The members that could not read the range.
    pub(crate) unread: u16,
    /// Those of them that have not been written since.
    pub(crate) unreadable: u16,
    /// The ranges that the member at hand holds otherwise, and that have not been written.
    pub(crate) differing: Vec<Extent>,
    /// What was found and not repaired: the member, and the range.
    pub(crate) found: Vec<(usize, Extent)>,
    /// Whether the intent log counts the window as a write.
    pub(crate) is_logged: bool,
}

/// What a mirror does for a verification.
#[derive(Debug)]
pub(crate) enum Stage {
    /// No window is under way, and none begins.
    Idle,
    /// The window that begins with this block begins when it can.
    Between { position: u64 },
    /// A window is under way.
    Comparing(Window),
}

/// A verification, and what is known of the last one.
#[derive(Debug)]
pub(crate) struct Verifying {
    pub(crate) stage: Stage,
    /// What is shown: of the verification under way, or else of the last one.
    pub(crate) shown: Option<Verification>,
    pub(crate) credit: Credit,
    /// The time in µs before which no window begins, because of the rate.
    pub(crate) not_before: u64,
}

impl Verifying {
    pub(crate) fn new() -> Verifying {
        Verifying { stage: Stage::Idle, shown: None, credit: Credit::new(), not_before: 0 }
    }

    /// Returns whether nothing is under way: no range is locked, and no member has a request.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Returns whether a verification is under way that nobody has stopped.
    pub(crate) fn goes_on(&self) -> bool {
        self.shown.as_ref().is_some_and(|shown| matches!(shown.state, VerificationState::Running { .. }))
    }

    /// Returns whether a window waits for room in the intent log.
    pub(crate) fn is_logging(&self) -> bool {
        matches!(&self.stage, Stage::Comparing(Window { step: Step::Logging { .. }, .. }))
    }

    /// Takes the window, if there is one. It is put back, or what it has is given back.
    pub(crate) fn take_window(&mut self) -> Option<Window> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Comparing(window) => Some(window),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Returns when to go on, if the next window waits for a time.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        (matches!(self.stage, Stage::Between { .. }) && self.not_before > 0).then_some(self.not_before)
    }
}
