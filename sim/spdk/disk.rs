//! Being a bdev: disks, and SPDK's calls to them.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
pub use spdk_contract::disk::DiskInfo;

use crate::bdev_io::{BdevIo, IoKind};
use crate::errno::{Errno, Result};
use crate::user::{self, Record, SimDisk};
use crate::world::with;

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

struct Of<D>(Arc<D>);
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

/// A bdev that SPDK has.
pub struct Registered<D> {
    id: u64,
    name: String,
    _not_send: PhantomData<*mut D>,
}

/// Registers a bdev.
pub fn register<D: Disk>(disk: Arc<D>, info: DiskInfo) -> Result<Registered<D>> {
    if info.name.is_empty() || info.block_size == 0 || info.num_blocks == 0 {
        return Err(Errno::EINVAL);
    }
    if crate::bdev::info(&info.name).is_some() {
        return Err(Errno::EEXIST);
    }
    let name = info.name.clone();
    let disk: Rc<dyn AnyDisk> = Rc::new(Of(disk));
    let id = with(|w| {
        let process = w.current_process().ok_or(Errno::ESRCH)?;
        let id = w.id();
        w.record(Record::DiskIsThere { process, disk: id, name: info.name.clone() });
        w.disks.insert(id, SimDisk::new(id, process, disk, info));
        Ok(id)
    })?;
    Ok(Registered { id, name, _not_send: PhantomData })
}

impl<D: Disk> Registered<D> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the bdev. When all have closed it, and the disk has been destructed, `done` is called on this
    /// thread.
    pub fn unregister(&self, done: impl FnOnce(Result<()>) + 'static) {
        user::unregister(self.id, Box::new(done));
    }

    /// Changes the number of blocks and tells everybody who has it open.
    pub fn resize(&self, num_blocks: u64) -> Result<()> {
        with(|w| {
            let disk = w.disks.get_mut(&self.id).ok_or(Errno::ENODEV)?;
            if num_blocks < disk.info.num_blocks && disk.opens > 0 {
                return Err(Errno::EBUSY);
            }
            disk.info.num_blocks = num_blocks;
            w.record(Record::DiskResized { disk: self.id, num_blocks });
            Ok(())
        })
    }
}

/// Says that a disk needs to be no more.
#[must_use = "the bdev is not gone until done() is called"]
pub struct DestructDone {
    pub(crate) disk: u64,
}

impl DestructDone {
    /// Frees the bdev, once its last channel is gone.
    pub fn done(self) {
        user::destructed(self.disk);
    }
}
