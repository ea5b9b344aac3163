//! What the broker is told. What operators ask for has methods of its own, as it is answered at once.

use dst_session::slots::Slots;
use dst_wire::{Device, Hello, Refusal};

use crate::connection::{Opening, Proof, Remains};
use crate::ids::{ConnectionId, Owner, SessionId};
use crate::output::Lateness;

/// What groups, listeners, timers and the backend say.
#[derive(Debug)]
pub enum Input {
    /// There are so many groups from now on. Before the first connection.
    GroupsStarted(usize),
    /// A connection's group could not be given its socket.
    NotAdopted {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection says hello.
    Hello {
        /// The connection.
        connection: ConnectionId,
        /// What it says.
        hello: Box<Hello>,
        /// For a hello that opens a session.
        opening: Opening,
    },
    /// The answer to [`crate::Output::AskAgain`].
    AskedAgain {
        /// The connection.
        connection: ConnectionId,
        /// As it is now.
        opening: Opening,
    },
    /// A connection's client has shown the key of its entry.
    KeyShown {
        /// The connection.
        connection: ConnectionId,
        /// What it has shown.
        proof: Proof,
    },
    /// A connection's client has not shown the key of its entry.
    KeyRefused {
        /// The connection.
        connection: ConnectionId,
        /// What the client says to be, and wants.
        owner: Owner,
        /// Why, for the log.
        why: String,
        /// What the client is told.
        refusal: Refusal,
    },
    /// What a connection's client sent makes no sense.
    Malformed {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection's socket is shut, and the backend still has something of it.
    Draining {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection is gone, and the backend has nothing of it any more.
    Finished {
        /// The connection.
        connection: ConnectionId,
        /// What is left of it.
        remains: Box<Remains>,
    },
    /// A record comes back from a connection that was gone before it could have it.
    Returned {
        /// The connection.
        connection: ConnectionId,
        /// Its session.
        session: SessionId,
        /// Its queue.
        queue: u16,
        /// The record.
        slots: Slots,
    },
    /// The bdev of an export is there: from now on clients are admitted.
    Online {
        /// The export.
        export: String,
        /// The device.
        device: Device,
        /// What clients take for a start of the target. For a bdev that comes back another one than before.
        instance: [u8; 16],
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
    /// All groups have acted on what they were told before [`crate::Output::ConfirmSize`].
    SizeConfirmed {
        /// The export.
        export: String,
        /// Its size in blocks, as it was told.
        num_blocks: u64,
    },
    /// The drain time-out has passed since a deletion or the removal of a bdev, once more.
    DrainTimeout {
        /// The export.
        export: String,
    },
    /// The answer to [`crate::Output::CountInFlight`].
    InFlight {
        /// The export.
        export: String,
        /// As it was asked.
        lateness: Lateness,
        /// Requests of the export that the backend has.
        in_flight: usize,
    },
    /// The reset of an export's bdev has ended, or could not be begun.
    ResetEnded {
        /// The export.
        export: String,
    },
    /// A client asks for a reset. [`crate::ResetStep::Answer`] follows, unless the connection is closed
    /// before.
    Reset {
        /// The connection.
        connection: ConnectionId,
        /// The slot of the request.
        slot: u16,
    },
    /// A connection has answered all that it had when it was told [`crate::ResetStep::Quiesce`].
    Quiesced {
        /// The connection.
        connection: ConnectionId,
        /// The number that it was told.
        round: u64,
    },
    /// The answer to [`crate::Output::ResetForHosts`].
    HostsResetEnded {
        /// The export.
        export: String,
        /// Whether the bdev was reset.
        has_succeeded: bool,
    },
    /// Some time has passed: half a second or so.
    Tick,
    /// The target stops: nobody is let in any more, all sessions and connections end.
    Stop,
}
