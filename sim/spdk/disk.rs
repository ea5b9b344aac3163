//! A bdev's implementation: what SPDK calls.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
pub use spdk_contract::disk::DiskInfo;

use crate::bdev_io::{BdevIo, IoKind};
use crate::errno::Result;

/// A bdev. SPDK calls it on all its threads; whatever belongs to one thread is in the `Channel`.
pub trait Disk: Send + Sync + 'static {
    /// A thread's state for I/O.
    type Channel: 'static;

    /// Creates the channel of the current SPDK thread.
    fn create_channel(&self) -> Result<Rc<Self::Channel>>;

    /// Destroys a thread's channel. Called on that thread, after the channel's last I/O has
    /// completed.
    fn destroy_channel(channel: Rc<Self::Channel>);

    /// Executes an I/O of a supported kind.
    fn submit(channel: &Rc<Self::Channel>, io: BdevIo);

    /// Returns whether the bdev supports this kind of I/O.
    fn supports(&self, kind: IoKind) -> bool;

    /// Returns the value of `dst` in the output of `bdev_get_bdevs`.
    fn dump_info(&self) -> Value;

    /// Returns the RPCs that create this bdev again.
    fn write_config(&self) -> Vec<Value>;

    /// Called when the bdev was unregistered and nobody has it open any more.
    fn destruct(&self, done: DestructDone);
}

/// A `Disk` whose type is erased.
pub(crate) trait AnyDisk {
    fn create_channel(&self) -> Result<Box<dyn AnyChannel>>;
    fn supports(&self, kind: IoKind) -> bool;
    fn destruct(&self, done: DestructDone);
}

/// A channel whose disk's type is erased.
pub(crate) trait AnyChannel {
    fn submit(&self, io: BdevIo);
    fn destroy(&self);
}

/// Implements [`AnyDisk`] for any `Disk`.
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
    /// The function that is told.
    pub(crate) destructed: fn(u64),
}

impl DestructDone {
    /// Frees the bdev, once its last channel is gone.
    pub fn done(self) {
        (self.destructed)(self.disk);
    }
}
