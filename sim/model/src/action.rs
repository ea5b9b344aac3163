//! The actions that are possible in a world.

use crate::ledger::Io;
use crate::wire::Key;

/// One action. The names of its fields say what they are.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client connects a queue and sends a Hello.
    Connect { host: u8, queue: u16 },
    /// A user submits the next I/O of a queue.
    Submit(Io),
    /// A queue's next I/O reaches its deadline.
    Deadline { host: u8, queue: u16, io: Io },
    /// A client's thread acts on something that no frame tells it.
    Turn { host: u8, queue: u16 },
    /// A client takes the next frame from a connection.
    ClientReads(Key),
    /// A client sees that the target's end of a connection is closed. Frames that it has not read
    /// are lost.
    ClientSeesEnd(Key),
    /// A client loses a connection, and with it this many of the last frames on their way to the
    /// target.
    ClientLoses { host: u8, queue: u16, frames: u8 },
    /// A client sends a keep-alive.
    KeepAlive { host: u8, queue: u16 },
    /// A client ends a connection with a Goodbye.
    Goodbye { host: u8, queue: u16 },
    /// A group takes the next frame from a connection.
    GroupReads(Key),
    /// A group sees that the client's end of a connection is closed.
    GroupSeesEnd(Key),
    /// A group loses a connection whose client still has its end.
    GroupLoses(Key),
    /// The last frame on its way from a client that has died is lost.
    FrameLost(Key),
    /// A group sees that a connection's lease has ended.
    LeaseOver(Key),
    /// The backend finishes the request in a slot.
    BackendDone(Key, u16),
    /// Control takes the group's next message.
    ControlHears(u8),
    /// The group takes control's next message.
    GroupHears(u8),
    /// The broker looks for sessions to which no client has come back.
    BrokerTick(u8),
    /// A client's process dies and starts again.
    ClientDies(u8),
    /// A target's process dies and starts again.
    TargetDies(u8),
    /// A client loses all its connections, but none of the frames on their way, and goes to its
    /// next address.
    FailsOver(u8),
    /// An operator deletes the export.
    DeleteExport(u8),
    /// An operator removes a host from the export.
    RemoveHost { target: u8, host: u8 },
    /// The drain timeout of the deletion passes.
    DrainTimeout(u8),
    /// The reset of the backend ends.
    ResetEnded(u8),
    /// An operator deletes a client's bdev.
    DeleteBdev(u8),
    /// A change of the ownership becomes durable.
    Written(u8),
    /// Control learns that a change of the ownership is durable.
    Stored(u8),
    /// A change of the ownership fails, and control learns that.
    NotStored(u8),
    /// A change of the ownership becomes durable, but control learns that it may not be.
    StoredInDoubt(u8),
    /// The stored ownership is lost; the next target process finds none.
    StoreLost,
    /// An operator releases the export.
    Release(u8),
    /// Time passes.
    Tick,
}

impl Action {
    /// Returns true if the action happens by itself sooner or later, because nothing can prevent
    /// it: it is neither a fault nor something that a user does.
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

    /// Returns true if the action happens rarely.
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
            | Action::StoredInDoubt(_)
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
