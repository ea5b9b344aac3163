//! Why the broker rejects an operator's request.

use thiserror::Error;

/// The reason for which an operator's request is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// No export has this name.
    #[error("there is no export named `{0}`")]
    NoExport(String),
    /// An export has this name already.
    #[error("an export named `{0}` already exists")]
    ExportExists(String),
    /// The target stops.
    #[error("the target stops")]
    Stopping,
    /// The export is being deleted already.
    #[error("export `{0}` is already being deleted")]
    ExportBusy(String),
    /// The host has an entry at this export already.
    #[error("export `{export}` already has an entry for host `{host}`")]
    HostExists {
        /// The export.
        export: String,
        /// The host.
        host: String,
    },
    /// The export demands a cipher, and the host's entry has no key.
    #[error("export `{export}` demands a cipher, so host `{host}` needs a key")]
    NeedsKey {
        /// The export.
        export: String,
        /// The host.
        host: String,
    },
    /// The export has as many hosts as it may have.
    #[error(
        "export `{export}` already has {max} hosts, the most that are possible; remove some, or let many in \
         with one entry, `*`"
    )]
    TooManyHosts {
        /// The export.
        export: String,
        /// The limit.
        max: usize,
    },
    /// The export's ownership is not kept.
    #[error("export `{0}` has no state file, so nobody can own it")]
    OwnershipNotKept(String),
    /// The export's ownership is being changed already.
    #[error("a change of the ownership of export `{0}` is not durable yet; try again later")]
    OwnershipChanging(String),
    /// No client waits for the export's backend to become its owner.
    #[error(
        "nobody waits for the backend of export `{0}` to own it; dst_export_reset ends a wait that \
         ownership.waiting of dst_get_exports shows"
    )]
    NobodyWaits(String),
    /// The export's bdev is being reset already.
    #[error("the bdev of export `{0}` is being reset; if that hangs, another reset can't help")]
    ResetUnderWay(String),
    /// The host has no entry at this export.
    #[error("export `{export}` has no entry for host `{host}`")]
    NoHost {
        /// The export.
        export: String,
        /// The host.
        host: String,
    },
}
