//! What operators say about a mirror.

use dst_mirror::Device;

use crate::device::Wanted;
use crate::sharing;

/// The options of a mirror, all of which may be changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The maximum number of MiB that are copied to members in a second; 0: no limit.
    pub resync_rate_mib: u32,
    /// The maximum number of MiB of the mirror that a verification compares in a second; 0: no limit.
    pub verify_rate_mib: u32,
    /// How long a member may take for a request before it is reset and given up, ms; 0: for ever.
    pub member_timeout_ms: u32,
    /// The time between two flushes that the mirror makes by itself, ms.
    pub flush_interval_ms: u32,
    /// How long the assembly waits for members that are missing, if it may go on without them, ms.
    pub degraded_wait_ms: u32,
    /// How long the end of a mirror may take, ms.
    pub stop_timeout_ms: u32,
    /// How long an RPC waits until the mirror can be used, ms.
    pub start_timeout_ms: u32,
}

impl Default for Options {
    fn default() -> Options {
        let core = dst_mirror::Options::default();
        let ms = |time: u64| u32::try_from(time).unwrap_or(u32::MAX);
        Options {
            resync_rate_mib: ms(core.resync_rate >> 20),
            verify_rate_mib: ms(core.verify_rate >> 20),
            member_timeout_ms: ms(core.member_timeout_ms),
            flush_interval_ms: ms(core.flush_interval_ms),
            degraded_wait_ms: ms(core.degraded_wait_ms),
            stop_timeout_ms: ms(core.stop_timeout_ms),
            // Less than rpc.py waits for an answer.
            start_timeout_ms: 30_000,
        }
    }
}

impl Options {
    /// Returns the options as the rules want them.
    pub(crate) fn for_rules(self) -> dst_mirror::Options {
        dst_mirror::Options {
            resync_rate: u64::from(self.resync_rate_mib) << 20,
            shares_rate: sharing::rate() > 0,
            verify_rate: u64::from(self.verify_rate_mib) << 20,
            member_timeout_ms: self.member_timeout_ms.into(),
            flush_interval_ms: self.flush_interval_ms.into(),
            degraded_wait_ms: self.degraded_wait_ms.into(),
            stop_timeout_ms: self.stop_timeout_ms.into(),
            ..dst_mirror::Options::default()
        }
    }
}

/// What all mirrors of a process may do together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of MiB that all mirrors together copy to members in a second; 0: no limit.
    pub total_resync_rate_mib: u32,
}

/// How a mirror begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Its metadata are written to the devices, which are all there.
    Create {
        /// Whether devices are taken that hold another mirror's metadata, or data.
        force: bool,
        /// Whether all members hold the same data already.
        is_equal: bool,
    },
    /// Its metadata are on the devices, which may appear later.
    Assemble {
        /// The member whose data count, whatever the others have.
        force: Option<Device>,
        /// Who waits for that.
        waits: Waits,
    },
}

/// Whether an RPC waits until a mirror that is assembled can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The RPC does not wait. The mirror takes its devices whenever they appear.
    No,
    /// The RPC waits. Nothing stays if the mirror's start takes too long.
    UntilUsable,
    /// As [`Waits::UntilUsable`]; the devices are taken over first, from whoever has them.
    UntilTakenOver,
}

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The name of the bdev.
    pub name: String,
    /// The members' bdevs.
    pub members: Vec<String>,
    /// The witness's bdev.
    pub witness: Option<String>,
    /// The options.
    pub options: Options,
    /// How it begins.
    pub start: Start,
}

impl Plan {
    /// Returns the devices, with their places.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (Device, Wanted)> + '_ {
        let members = (0..).map(Device).zip(&self.members);
        let all = members.chain(self.witness.iter().map(|name| (Device::WITNESS, name)));
        all.map(|(device, name)| (device, Wanted::new(name)))
    }
}
