//! The faults.

/// A fault, or an operator's action: which target or client it concerns, and for how long.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A connection is cut.
    Cut,
    /// A connection carries nothing for a time, in the given directions.
    BlackHole { there: bool, back: bool, for_us: u64 },
    /// A client and a target cannot reach each other for a time.
    Partition { client: usize, target: usize, for_us: u64 },
    /// A client's connections to a target are reset at the client; bytes that the client had sent
    /// arrive later. New connections are refused for a time.
    Sever { client: usize, target: usize, late_us: u64, for_us: u64 },
    /// What a client's connections to one of a target's addresses carry, in the given directions, is
    /// delayed for a time; `blocked`: new connections there are not answered either.
    LosePath {
        client: usize,
        target: usize,
        address: usize,
        there: bool,
        back: bool,
        blocked: bool,
        for_us: u64,
    },
    /// One bit is flipped in a header, or in data that has a digest.
    Corrupt { from_client: bool, data: bool },
    /// A target is stopped for a time.
    StopTarget { target: usize, for_us: u64 },
    /// A client is stopped for a time.
    StopClient { client: usize, for_us: u64 },
    /// A target dies and is started again after a time. A volatile cache may lose its contents.
    KillTarget { target: usize, vanish: bool, lose: bool, for_us: u64 },
    /// A target is told to stop, and so many of 1,000 operations of its backend fail from then on.
    /// After a time it dies, whether or not it has stopped, and is started again. A volatile cache may
    /// lose its contents.
    EndTarget { target: usize, errors: u64, lose: bool, for_us: u64 },
    /// A client is told to stop; after a time it dies and is started again.
    EndClient { client: usize, for_us: u64 },
    /// A client dies and is started again after a time.
    KillClient { client: usize, vanish: bool, for_us: u64 },
    /// The backend answers nothing for a time.
    Hang { target: usize, for_us: u64 },
    /// Requests that the backend has at that moment are not answered for a time; later ones are.
    HoldCurrent { target: usize, for_us: u64 },
    /// A target's app thread is busy with something else for a time.
    BusyControl { target: usize, for_us: u64 },
    /// All of a client's connections to a target are cut.
    CutAll { client: usize, target: usize },
    /// Whatever a target sends on the client's current connections is delayed for a time.
    KeepBack { client: usize, target: usize, for_us: u64 },
    /// A client's new connections to a target are refused for a time.
    Refuse { client: usize, target: usize, for_us: u64 },
    /// A user deletes a bdev and creates it again after a time.
    DeleteBdev { client: usize, for_us: u64 },
    /// An operator deletes the export and creates it again after a time.
    DeleteExport { target: usize, for_us: u64 },
    /// A target's backend is removed, as by pulling the device, and comes back after a time. A
    /// volatile cache may lose its contents.
    Pull { target: usize, lose: bool, for_us: u64 },
    /// A host's entry is removed from the export and added again after a time.
    RemoveHost { target: usize, client: usize, for_us: u64 },
    /// A client's host has only read access at its target for a time, while its session lives.
    Restrict { client: usize, for_us: u64 },
    /// The backend grows.
    Grow { target: usize, by: u64 },
    /// A thread closes its channel and opens another one after a time.
    Reopen { client: usize, thread: usize, for_us: u64 },
    /// A user gives a bdev the addresses of the next target alone.
    Repoint { client: usize },
    /// The target restarts with another device under the same name, for a time.
    OtherDevice { target: usize, for_us: u64 },
    /// A client takes the export over, as a new process or with a new bdev.
    TakeOver { client: usize, reborn: bool },
    /// The target dies, and its state file is lost or torn. The target is started again after a
    /// time.
    LoseOwner { is_torn: bool, for_us: u64 },
}

impl Fault {
    /// Returns how long the fault lasts, in µs.
    pub fn lasts_us(self) -> u64 {
        match self {
            Fault::Cut
            | Fault::Corrupt { .. }
            | Fault::CutAll { .. }
            | Fault::Grow { .. }
            | Fault::Repoint { .. }
            | Fault::TakeOver { .. } => 0,
            Fault::Sever { late_us, for_us, .. } => late_us.max(for_us),
            Fault::BlackHole { for_us, .. }
            | Fault::Partition { for_us, .. }
            | Fault::LosePath { for_us, .. }
            | Fault::StopTarget { for_us, .. }
            | Fault::StopClient { for_us, .. }
            | Fault::KillTarget { for_us, .. }
            | Fault::EndTarget { for_us, .. }
            | Fault::EndClient { for_us, .. }
            | Fault::KillClient { for_us, .. }
            | Fault::Hang { for_us, .. }
            | Fault::HoldCurrent { for_us, .. }
            | Fault::BusyControl { for_us, .. }
            | Fault::KeepBack { for_us, .. }
            | Fault::Refuse { for_us, .. }
            | Fault::DeleteBdev { for_us, .. }
            | Fault::DeleteExport { for_us, .. }
            | Fault::Pull { for_us, .. }
            | Fault::RemoveHost { for_us, .. }
            | Fault::Restrict { for_us, .. }
            | Fault::Reopen { for_us, .. }
            | Fault::OtherDevice { for_us, .. }
            | Fault::LoseOwner { for_us, .. } => for_us,
        }
    }
}
