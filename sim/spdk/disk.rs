//! Being a bdev: what SPDK calls.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
pub use spdk_contract::disk::DiskInfo;

use crate::bdev_io::{BdevIo, IoKind};
use crate::errno::Result;

/// A bdev. SPDK calls it from all its threads; what belongs to one is in the `Channel`.
pub trait Disk: Send + Sync + 'static {
    /// What a thread needs for I/O.
    type Channel: 'static;

    /// Makes the channel of the current SPDK thread.
    fn create_channel(&self) -> Result<Rc<Self::Channel>>;

    /// Takes back a thread's channel, on that thread, after its last I/O has completed.
    fn destroy_channel(channel: Rc<Self::Channel>);

    /// Executes an I/O of a supported kind.
    fn submit(channel: &Rc<Self::Channel>, io: BdevIo);

    /// Whether it does that kind of I/O.
    fn supports(&self, kind: IoKind) -> bool;

    /// The value of `dst` in what `bdev_get_bdevs` shows.
    fn dump_info(&self) -> Value;

    /// RPCs that make this bdev again.
    fn write_config(&self) -> Vec<Value>;

    /// The bdev was unregistered, and nobody has it open.
    fn destruct(&self, done: DestructDone);
}

/// A disk of any kind.
pub(crate) trait AnyDisk {
    fn create_channel(&self) -> Result<Box<dyn AnyChannel>>;
    fn supports(&self, kind: IoKind) -> bool;
    fn destruct(&self, done: DestructDone);
}

/// A channel of any kind of disk.
pub(crate) trait AnyChannel {
    fn submit(&self, io: BdevIo);
    fn destroy(&self);
}

/// A disk of one kind as one of any.
pub(crate) struct Of<D>(pub Arc<D>);
struct ChannelOf<D: Disk>(Rc<D::Channel>);

impl<D: Disk> AnyDisk for Of<D> {
    fn create_channel(&self) -> Result<Box<dyn AnyChannel>> {
        Ok(Box::new(ChannelOf::<D>(self.0.create_channel()?)))
    }

    fn supports(&self, kind: IoKind) -> bool {
        self.0.supports(kind)
    }

    fn destruct(&self, done: DestructDone) {
        self.0.destruct(done);
    }
}

impl<D: Disk> AnyChannel for ChannelOf<D> {
    fn submit(&self, io: BdevIo) {
        D::submit(&self.0, io);
    }

    fn destroy(&self) {
        D::destroy_channel(Rc::clone(&self.0));
    }
}

/// Signals that destruction may complete.
#[must_use = "the bdev is not gone until done() is called"]
pub struct DestructDone {
    pub(crate) disk: u64,
    /// Whom to tell.
    pub(crate) destructed: fn(u64),
}

impl DestructDone {
    /// Frees the bdev, once its last channel is gone.
    pub fn done(self) {
        (self.destructed)(self.disk);
    }
}
