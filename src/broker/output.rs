//! What the broker decides, for the driver to carry out in this order.

use dst_session::slots::Slots;
use dst_wire::{Device, Event, Refusal, Status, Welcome};

use crate::ids::{ConnectionId, Owner};

/// One thing to be done.
#[derive(Debug, Clone)]
pub enum Output {
    /// A connection's group is to do something.
    ToGroup {
        /// The group.
        group: usize,
        /// The connection.
        connection: ConnectionId,
        /// What is to be done.
        order: Order,
    },
    /// A hello that waited may go on: answer with [`crate::Input::AskedAgain`].
    AskAgain {
        /// The connection.
        connection: ConnectionId,
        /// The target process that had the client's previous session, if it names one.
        instance: Option<[u8; 16]>,
    },
    /// Ask all groups for something, then answer with [`crate::Input::SizeConfirmed`].
    ConfirmSize {
        /// The export.
        export: String,
        /// Its size in blocks.
        num_blocks: u64,
    },
    /// Count the export's requests in the backend, then answer with [`crate::Input::InFlight`].
    /// After [`Lateness::Twice`] the drain time-out's timer is not needed any more.
    CountInFlight {
        /// The export.
        export: String,
        /// How late the backend is.
        lateness: Lateness,
    },
    /// Reset the export's bdev, then say [`crate::Input::ResetEnded`].
    ResetBackend {
        /// The export.
        export: String,
        /// Requests that the backend has.
        in_flight: usize,
        /// Since the deletion or the removal began, ms.
        waited_ms: u64,
    },
    /// Reset the export's bdev for its clients, then say [`crate::Input::HostsResetEnded`]. What was told
    /// to groups before reaches them before the reset ends anything.
    ResetForHosts {
        /// The export.
        export: String,
    },
    /// Whoever asked for the deletion, or the operator, is to hear that the backend hangs. The drain goes
    /// on.
    BackendHangs {
        /// The export.
        export: String,
        /// Requests that the backend has.
        in_flight: usize,
        /// Since the deletion or the removal began, ms.
        waited_ms: u64,
    },
    /// The backend has finished with a bdev that was removed: close it. The export may take another one.
    BackingGone {
        /// The export.
        export: String,
        /// Whether the backend had been late.
        was_late: bool,
    },
    /// Nothing of the export is left: close its bdev, and tell whoever asked for the deletion.
    ExportGone {
        /// The export.
        export: String,
        /// Whether the backend had been late.
        was_late: bool,
    },
    /// A line for the log.
    Log {
        /// Whether it is a warning; a notice otherwise.
        is_warning: bool,
        /// Which limit on lines goes for it.
        topic: Topic,
        /// The line.
        text: String,
    },
    /// After [`crate::Input::Stop`]: no connection and no export is left.
    Stopped,
}

/// What a connection's group is to do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Let the connection in, to carry requests if it joins a queue for that.
    Welcome(Box<Welcome>, Option<Box<Joining>>),
    /// Refuse the connection.
    Refuse(Refusal),
    /// Tell the connection's client that something changed.
    Event(Event),
    /// Take part in a reset that a client asked for.
    Reset(ResetStep),
    /// Close the connection.
    Close,
}

/// What a connection does in a reset that a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetStep {
    /// Say [`crate::Input::Quiesced`] with this number when all requests that the connection has now are
    /// answered, resets left out.
    Quiesce(u64),
    /// The backend is about to be reset for this connection's session: what that ends is answered.
    Begins,
    /// The reset of the backend has ended.
    Ends,
    /// Answer the Reset in this slot.
    Answer {
        /// The slot.
        slot: u16,
        /// How the reset went.
        status: Status,
    },
}

/// What a connection that joins a queue needs.
#[derive(Debug, Clone)]
pub struct Joining {
    /// What was negotiated.
    pub device: Device,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// Whether data has digests.
    pub has_digests: bool,
    /// The record of the queue.
    pub slots: Slots,
    /// Whose the session is.
    pub owner: Owner,
}

/// How often a drain time-out has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// Once: a reset of the bdev may help.
    Once,
    /// Twice: whoever asked need not wait any longer.
    Twice,
}

/// What a log line is about. Each topic has a limit on lines of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Sessions come and go.
    Sessions,
    /// What anybody can cause by connecting. It must not hide why somebody is refused.
    Flood,
    /// Why somebody is refused. The reason is only in the log.
    Refusals,
    /// What an operator caused: without a limit.
    Operators,
}
