//! The events that the broker is told of. Operators' requests are methods instead, because they are
//! answered at once.

use dst_session::slots::Slots;
use dst_wire::{Device, Hello, Refusal};

use crate::connection::{Opening, Proof, Remains};
use crate::ids::{ClientId, ConnectionId, SessionId};
use crate::output::Lateness;

/// An event from a group, a listener, a timer or the backend.
#[derive(Debug)]
pub enum Input {
    /// All groups have started; this is their number. To be reported before the first connection.
    GroupsStarted(usize),
    /// A connection's group could not be given its socket.
    NotAdopted {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection has sent a hello.
    Hello {
        /// The connection.
        connection: ConnectionId,
        /// The hello.
        hello: Box<Hello>,
        /// What the broker needs to know if the hello opens a session.
        opening: Opening,
    },
    /// The answer to [`crate::Output::AskAgain`].
    AskedAgain {
        /// The connection.
        connection: ConnectionId,
        /// What the broker needs to know, as it is now.
        opening: Opening,
    },
    /// A connection's client has proved the key of its entry.
    KeyShown {
        /// The connection.
        connection: ConnectionId,
        /// The proof.
        proof: Proof,
    },
    /// A connection's client has not proved the key of its entry.
    KeyRefused {
        /// The connection.
        connection: ConnectionId,
        /// The host that the client claims to be, and the export that it names.
        client: ClientId,
        /// The reason, for the log.
        why: String,
        /// The refusal that the client is sent.
        refusal: Refusal,
    },
    /// A connection's client has sent a message that cannot be decoded.
    Malformed {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection's socket is shut, and the backend still holds requests of the connection.
    Draining {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection is gone, and the backend holds none of its requests.
    Finished {
        /// The connection.
        connection: ConnectionId,
        /// What is left of the connection.
        remains: Box<Remains>,
    },
    /// A record comes back from a connection that was gone before it could receive the record.
    Returned {
        /// The connection.
        connection: ConnectionId,
        /// The session that the record belongs to.
        session: SessionId,
        /// The queue that the record belongs to.
        queue: u16,
        /// The record.
        slots: Slots,
    },
    /// The bdev of an export is present. Clients are admitted from now on.
    Online {
        /// The export.
        export: String,
        /// The device.
        device: Device,
        /// The instance that clients are told. It is a new one each time, which clients take for
        /// a restarted target.
        instance: [u8; 16],
        /// The instances whose targets have stopped in order, of which the [note](crate::stop_note)
        /// says that the device has everything that was completed.
        predecessors: Vec<[u8; 16]>,
    },
    /// The bdev of an export is gone.
    Offline {
        /// The export.
        export: String,
    },
    /// An export's bdev has another size.
    Resized {
        /// The export.
        export: String,
        /// The device as it is now.
        device: Device,
    },
    /// All groups have carried out the orders that came before [`crate::Output::ConfirmSize`].
    SizeConfirmed {
        /// The export.
        export: String,
        /// The export's size in blocks, as [`crate::Output::ConfirmSize`] gave it.
        num_blocks: u64,
    },
    /// The drain time-out has passed once more since the deletion of an export or the removal of
    /// its bdev began.
    DrainTimeout {
        /// The export.
        export: String,
    },
    /// The answer to [`crate::Output::CountInFlight`].
    InFlight {
        /// The export.
        export: String,
        /// The value from [`crate::Output::CountInFlight`].
        lateness: Lateness,
        /// The number of the export's requests that the backend has.
        in_flight: usize,
    },
    /// The ownership from [`crate::Output::StoreOwnership`] is durable.
    OwnershipStored {
        /// The export.
        export: String,
        /// The time stored with the ownership, to be shown to people, in seconds since 1970.
        since_s: u64,
    },
    /// The ownership from [`crate::Output::StoreOwnership`] was not made durable.
    OwnershipNotStored {
        /// The export.
        export: String,
        /// The reason.
        why: String,
        /// Whether it may have been stored all the same, so that the next start may find either
        /// it or the previous one. Otherwise the previous one is still durable.
        is_in_doubt: bool,
    },
    /// The reset of an export's bdev has ended or could not be started.
    ResetEnded {
        /// The export.
        export: String,
    },
    /// A client asks for a reset. [`crate::ResetStep::Answer`] follows, unless the connection is
    /// closed before that.
    Reset {
        /// The connection.
        connection: ConnectionId,
        /// The slot of the request.
        slot: u16,
    },
    /// A connection has answered all requests that it had when it was told
    /// [`crate::ResetStep::Quiesce`].
    Quiesced {
        /// The connection.
        connection: ConnectionId,
        /// The number from [`crate::ResetStep::Quiesce`].
        round: u64,
    },
    /// The answer to [`crate::Output::ResetForHosts`].
    HostsResetEnded {
        /// The export.
        export: String,
        /// Whether the reset succeeded.
        has_succeeded: bool,
    },
    /// Some time has passed; the driver reports this about every half second.
    Tick,
    /// The target stops. No connection is admitted any more, and all sessions and connections end.
    Stop,
}
