//! The broker's decisions, which the driver carries out in their order.

use dst_session::slots::Slots;
use dst_wire::{Device, Event, Refusal, Status, Welcome};

use crate::ids::{ClientId, ConnectionId};

/// A decision for the driver to carry out.
#[derive(Debug, Clone)]
pub enum Output {
    /// Pass an order to a connection's group.
    ToGroup {
        /// The group.
        group: usize,
        /// The connection.
        connection: ConnectionId,
        /// The order.
        order: Order,
    },
    /// A hello that waited may go on. Answer with [`crate::Input::AskedAgain`].
    AskAgain {
        /// The connection.
        connection: ConnectionId,
        /// The instance of the client's previous session, if the hello names one.
        instance: Option<[u8; 16]>,
    },
    /// Pass a message through all groups, so that they have carried out all earlier orders, then
    /// answer with [`crate::Input::SizeConfirmed`].
    ConfirmSize {
        /// The export.
        export: String,
        /// The export's size in blocks.
        num_blocks: u64,
    },
    /// Count the export's requests in the backend, then answer with [`crate::Input::InFlight`].
    /// After [`Lateness::Twice`], the timer of the drain time-out is no longer needed.
    CountInFlight {
        /// The export.
        export: String,
        /// How late the backend is.
        lateness: Lateness,
    },
    /// Reset the export's bdev, then report [`crate::Input::ResetEnded`].
    ResetBackend {
        /// The export.
        export: String,
        /// The number of requests that the backend has.
        in_flight: usize,
        /// The time since the deletion or the removal began, ms.
        waited_ms: u64,
    },
    /// Reset the export's bdev for its clients, then report [`crate::Input::HostsResetEnded`].
    /// Earlier orders must reach the groups before the reset ends any I/O.
    ResetForHosts {
        /// The export.
        export: String,
    },
    /// Tell the caller that asked for the deletion that the backend hangs; if the bdev was removed,
    /// tell the operator. The drain continues.
    BackendHangs {
        /// The export.
        export: String,
        /// The number of requests that the backend has.
        in_flight: usize,
        /// The time since the deletion or the removal began, ms.
        waited_ms: u64,
    },
    /// The backend has finished all I/O to a bdev that was removed: close the bdev. The export may
    /// take another one.
    BackingGone {
        /// The export.
        export: String,
        /// Whether the drain time-out had passed.
        was_late: bool,
    },
    /// Make the ownership of an export durable, then report [`crate::Input::OwnershipStored`], or
    /// [`crate::Input::OwnershipNotStored`] if that fails.
    StoreOwnership {
        /// The export.
        export: String,
        /// The number of the newest ownership.
        number: u64,
        /// The name of the owner's host, or `None` if that ownership has ended.
        host: Option<String>,
        /// The time since which the ownership exists, in seconds since 1970, or `None` if it begins
        /// now.
        since_s: Option<u64>,
    },
    /// Nothing of the export is left: close its bdev, and tell the caller that asked for the
    /// deletion.
    ExportGone {
        /// The export.
        export: String,
        /// Whether the drain time-out had passed.
        was_late: bool,
        /// Whether the backend has failed a flush since the export was created.
        has_failed: bool,
    },
    /// A line for the log.
    Log {
        /// Whether the line is a warning. Otherwise it is a notice.
        is_warning: bool,
        /// The topic, which selects the limit on the rate of lines.
        topic: Topic,
        /// The line.
        text: String,
    },
    /// No connection and no export is left after [`crate::Input::Stop`].
    Stopped,
}

/// An order for a connection's group.
#[derive(Debug, Clone)]
pub enum Order {
    /// Admit the connection. With a [`Joining`] the connection carries requests.
    Welcome(Box<Welcome>, Option<Box<Joining>>),
    /// Refuse the connection.
    Refuse(Refusal),
    /// Send the connection's client an event.
    Event(Event),
    /// Take this step of a reset that a client asked for.
    Reset(ResetStep),
    /// Close the connection.
    Close,
    /// Close the connection, which carries requests, because the target stops: answer what the backend
    /// has, and tell the client that nothing else was executed.
    Leave,
}

/// A connection's step in a reset that a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetStep {
    /// Report [`crate::Input::Quiesced`] with this number once all requests that the connection has
    /// now are answered, other than resets.
    Quiesce(u64),
    /// The round of this number has failed: nothing needs to be reported for it any more.
    Abandon(u64),
    /// The backend is about to be reset for this connection's session: answer the requests that the
    /// reset ends instead of executing them again.
    Begins,
    /// The reset of the backend has ended.
    Ends,
    /// Answer the Reset in this slot.
    Answer {
        /// The slot.
        slot: u16,
        /// The outcome of the reset.
        status: Status,
    },
}

/// The parameters of a connection that joins a queue to carry requests.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The device, with the operations that the host may use.
    pub device: Device,
    /// The maximum number of bytes of one request.
    pub max_transfer: u32,
    /// Whether data has digests.
    pub has_digests: bool,
    /// The record of the queue.
    pub slots: Slots,
    /// The client that has the session.
    pub client: ClientId,
}

/// How often the drain time-out has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// Once. A reset of the bdev may help.
    Once,
    /// Twice. The caller that asked need not wait any longer.
    Twice,
}

/// The topic of a log line. Each topic has its own limit on the rate of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Sessions that begin, come back and end.
    Sessions,
    /// Events that anybody can cause by connecting. These lines must not crowd out those about
    /// refusals.
    Flood,
    /// Refused hosts. Only the log gives the reason.
    Refusals,
    /// Events that an operator has caused. These lines have no limit.
    Operators,
}
