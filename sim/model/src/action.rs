//! What may happen in a world.

use crate::ledger::Io;
use crate::wire::Key;

/// One thing that happens. What its fields are is in their names.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client connects a queue and says hello.
    Connect { host: u8, queue: u16 },
    /// A user submits the next I/O of a queue.
    Submit(Io),
    /// The time of a queue's next I/O is up.
    Deadline { host: u8, queue: u16, io: Io },
    /// A client's thread looks at what no frame tells it.
    Turn { host: u8, queue: u16 },
    /// A client takes the next frame of a connection.
    ClientReads(Key),
    /// A client sees that the target's end of a connection is closed. What it has not read is lost.
    ClientSeesEnd(Key),
    /// A client loses a connection, and so many of the last frames on their way to the target are lost.
    ClientLoses { host: u8, queue: u16, frames: u8 },
    /// A client sends a keep-alive.
    KeepAlive { host: u8, queue: u16 },
    /// A client ends a connection on purpose.
    Goodbye { host: u8, queue: u16 },
    /// A group takes the next frame of a connection.
    GroupReads(Key),
    /// A group sees that the client's end of a connection is closed.
    GroupSeesEnd(Key),
    /// A group loses a connection that its client still has.
    GroupLoses(Key),
    /// The last frame under way on a connection of a client that has died is lost.
    FrameLost(Key),
    /// A group sees that a connection's lease is over.
    LeaseOver(Key),
    /// The backend finishes what it has of a slot.
    BackendDone(Key, u16),
    /// Control hears the group's next message.
    ControlHears(u8),
    /// The group hears control's next message.
    GroupHears(u8),
    /// The broker looks for sessions that nobody came back to.
    BrokerTick(u8),
    /// A client process dies and starts again.
    ClientDies(u8),
    /// A target process dies and starts again.
    TargetDies(u8),
    /// A client loses all its connections, though none of the frames under way, and goes to its next address.
    FailsOver(u8),
    /// An operator deletes the export.
    DeleteExport(u8),
    /// An operator removes a host from the export.
    RemoveHost { target: u8, host: u8 },
    /// The deletion's drain time-out passes.
    DrainTimeout(u8),
    /// The reset of the bdev ends.
    ResetEnded(u8),
    /// An operator deletes a client's bdev.
    DeleteBdev(u8),
    /// A change of the ownership becomes durable.
    Written(u8),
    /// Control hears that a change of the ownership is durable.
    Stored(u8),
    /// A change of the ownership fails, and control hears that.
    NotStored(u8),
    /// What is kept of the ownership is lost; the next target process finds that.
    StoreLost,
    /// An operator releases the export.
    Release(u8),
    /// Time passes.
    Tick,
}

impl Action {
    /// Returns true for what happens by itself sooner or later, as nothing can stop it: neither a fault nor
    /// something that a user does.
    pub fn is_inevitable(self) -> bool {
        !self.is_fault()
            && !matches!(
                self,
                Action::Connect { .. }
                    | Action::Submit(_)
                    | Action::Deadline { .. }
                    | Action::KeepAlive { .. }
                    | Action::Tick
            )
    }

    /// Returns true for what happens rarely.
    pub fn is_fault(self) -> bool {
        match self {
            Action::ClientLoses { .. }
            | Action::GroupLoses(_)
            | Action::FrameLost(_)
            | Action::BrokerTick(_)
            | Action::ClientDies(_)
            | Action::TargetDies(_)
            | Action::FailsOver(_)
            | Action::DeleteExport(_)
            | Action::RemoveHost { .. }
            | Action::DeleteBdev(_)
            | Action::NotStored(_)
            | Action::StoreLost
            | Action::Release(_) => true,
            Action::Connect { .. }
            | Action::Submit(_)
            | Action::Deadline { .. }
            | Action::Turn { .. }
            | Action::ClientReads(_)
            | Action::ClientSeesEnd(_)
            | Action::KeepAlive { .. }
            | Action::Goodbye { .. }
            | Action::GroupReads(_)
            | Action::GroupSeesEnd(_)
            | Action::LeaseOver(_)
            | Action::BackendDone(..)
            | Action::ControlHears(_)
            | Action::GroupHears(_)
            | Action::DrainTimeout(_)
            | Action::ResetEnded(_)
            | Action::Written(_)
            | Action::Stored(_)
            | Action::Tick => false,
        }
    }
}
