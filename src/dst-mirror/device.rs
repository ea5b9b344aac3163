//! A device of a mirror: the bdev that it is, and what has become of that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use dst_mirror::Device;
use spdk::Errno;
use spdk::bdev::{BackendChannel, BackendIo, BdevInfo, Desc, Footprint};

use crate::error::Error;

/// What an operator named a device by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name, or the UUID as text.
    pub text: String,
    uuid: Option<[u8; 16]>,
}

impl Wanted {
    /// Returns what the text names: a bdev of this name or alias, or else with this UUID.
    pub fn new(text: &str) -> Wanted {
        Wanted { text: text.to_owned(), uuid: parse_uuid(text) }
    }

    /// Returns whether the text may be a UUID.
    pub fn is_uuid(&self) -> bool {
        self.uuid.is_some()
    }

    /// Returns the bdev, if it is there.
    pub fn find(&self) -> Option<BdevInfo> {
        let by_name = spdk::bdev::info(&self.text);
        by_name.or_else(|| self.uuid.and_then(spdk::bdev::info_by_uuid))
    }
}

/// Returns the bytes of a UUID of 8-4-4-4-12 hexadecimal digits.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let is_uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let bits = u128::from_str_radix(&text.replace('-', ""), 16).ok()?;
    (is_uuid && bits != 0).then_some(bits.to_be_bytes())
}

/// An open bdev, claimed for the mirror alone.
pub struct OpenDevice {
    desc: Desc,
    channel: BackendChannel,
    /// The properties that the bdev had when it was opened.
    pub info: BdevInfo,
    /// The requests that have not ended, in the order in which they began.
    under_way: RefCell<VecDeque<Footprint>>,
}

impl OpenDevice {
    /// Returns an open bdev, with memory for so many requests at once.
    ///
    /// # Errors
    /// The bdev cannot make a channel.
    pub fn new(desc: Desc, requests_max: usize) -> Result<OpenDevice, Error> {
        let info = desc.info();
        let channel = desc.handle().channel();
        let channel = channel.map_err(|errno| Error::Open { name: info.name.clone(), errno })?;
        let under_way = RefCell::new(VecDeque::with_capacity(requests_max));
        Ok(OpenDevice { desc, channel, info, under_way })
    }

    /// Returns the channel for one more request. HOT.
    pub fn begin<T>(&self, io: &BackendIo<T>) -> &BackendChannel {
        self.under_way.borrow_mut().push_back(io.footprint());
        &self.channel
    }

    /// A request has ended. Most end in the order in which they began, and the data of others have
    /// meanwhile pushed the next one out of the CPU's caches: it is fetched now. HOT.
    pub fn end(&self) {
        let mut under_way = self.under_way.borrow_mut();
        assert!(under_way.pop_front().is_some(), "no request is under way");
        if let Some(next) = under_way.front() {
            next.prefetch();
        }
    }

    /// Returns the number of requests that have not ended.
    pub fn in_flight(&self) -> usize {
        self.under_way.borrow().len()
    }

    /// Returns the alignment that the bdev requires of data in memory, in bytes.
    pub fn required_alignment(&self) -> usize {
        self.channel.required_alignment()
    }

    /// Returns the size in blocks as it is now.
    pub fn blocks_now(&self) -> u64 {
        self.desc.info().num_blocks
    }
}

/// What has become of a device.
pub enum Backing {
    /// The bdev is not there, or cannot be had.
    Waiting {
        /// The reason.
        why: String,
    },
    /// The bdev is in use.
    Open(Rc<OpenDevice>),
    /// The bdev is closed when its requests have ended.
    Leaving {
        /// The bdev.
        open: Rc<OpenDevice>,
        /// Whether SPDK waits for that, since the bdev is being removed.
        is_removed: bool,
        /// The time since when, in µs.
        since_us: u64,
        /// Whether the bdev was reset to end the requests.
        was_reset: bool,
    },
}

/// A device, and what the operator named it by.
pub struct Place {
    /// What the operator named it by.
    pub wanted: Wanted,
    /// What has become of it.
    pub backing: Backing,
    /// Whether the operator wants it.
    pub standing: Standing,
}

/// Whether the operator wants a device to be one of the mirror's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A call named the device, or it has become a member.
    Named,
    /// The device is to become a member.
    Candidate,
    /// The device is closed for good when its requests have ended.
    Dropped,
}

impl Place {
    /// Returns what the device needs, or may need if it is not open.
    pub fn needs(&self) -> Promised {
        match &self.backing {
            Backing::Open(open) => {
                Promised { alignment: open.required_alignment(), write_cache: open.info.write_cache }
            }
            Backing::Leaving { .. } | Backing::Waiting { .. } => Promised::OF_ABSENT,
        }
    }
}

/// What the mirror's users were told when its bdev was registered, which SPDK cannot change later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promised {
    /// The alignment of data in memory, in bytes.
    pub alignment: usize,
    /// Whether completed writes may be lost that were not flushed.
    pub write_cache: bool,
}

impl Promised {
    /// What is assumed of a member that is not there. The alignment is the largest one of SPDK's usual
    /// bdevs: files and disks with blocks of 4 KiB.
    pub const OF_ABSENT: Promised = Promised { alignment: 4096, write_cache: true };

    /// Checks that a bdev needs no more than this. `alignment` is what it requires, in bytes.
    ///
    /// # Errors
    /// [`Error::Unsuitable`].
    pub fn check(self, info: &BdevInfo, alignment: usize) -> Result<(), Error> {
        let unsuitable = |why| Err(Error::Unsuitable { name: info.name.clone(), why });
        if info.write_cache && !self.write_cache {
            return unsuitable(
                "it has a volatile cache, and the mirror's users were told that they need not flush. Delete \
                 the mirror, and assemble it again with this bdev",
            );
        }
        if alignment > self.alignment {
            return unsuitable(
                "it requires data to be aligned more than the mirror's users were told. Delete the mirror, and \
                 assemble it again with this bdev",
            );
        }
        Ok(())
    }
}

/// All devices, each at its place; `None` where the operator named none.
pub type Places = [Option<Place>; Device::COUNT];

/// Checks that a bdev can be a device of a mirror.
///
/// # Errors
/// [`Error::Unsuitable`].
pub fn check_suitable(info: &BdevInfo) -> Result<(), Error> {
    use spdk::bdev::IoTypes;
    let unsuitable = |why| Err(Error::Unsuitable { name: info.name.clone(), why });
    if info.md_size > 0 {
        return unsuitable("it has metadata in or beside its blocks");
    }
    if !info.block_size.is_power_of_two() || !(512..=65_536).contains(&info.block_size) {
        return unsuitable("its block size is not a power of two from 512 to 65536");
    }
    if info.write_unit_size > 1 {
        return unsuitable("it is written in units of several blocks");
    }
    if !info.supports.contains(IoTypes::READ | IoTypes::WRITE) {
        return unsuitable("it can't be read and written");
    }
    Ok(())
}

/// Returns why a bdev can't be opened. `shown` is its name as the operator gave it.
pub fn cannot_open(shown: &str, bdev_name: &str, errno: Errno) -> Error {
    let name = shown.to_owned();
    match (spdk::bdev::claimed_by(bdev_name), errno) {
        (Some(module), Errno::EPERM) => Error::Claimed { name, module },
        (_, Errno::EBUSY) => Error::InUse { name },
        (_, Errno::ENODEV) => Error::NoBdev(name),
        _ => Error::Open { name, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bdev(write_cache: bool) -> BdevInfo {
        BdevInfo {
            name: "Malloc0".to_owned(),
            uuid: [1; 16],
            block_size: 512,
            num_blocks: 100,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            required_alignment_log2: 0,
            acwu: 1,
            write_cache,
            md_size: 0,
            supports: spdk::bdev::IoTypes::NONE,
        }
    }

    #[test]
    fn a_bdev_that_needs_more_than_users_were_told_is_refused() {
        let little = Promised { alignment: 512, write_cache: false };
        let refused = |promised: Promised, has_cache: bool, alignment: usize| {
            promised.check(&bdev(has_cache), alignment).err().map(|error| error.to_string())
        };
        assert_eq!(refused(little, false, 512), None);
        assert!(refused(little, true, 1).unwrap().contains("volatile cache"));
        assert!(refused(little, false, 1024).unwrap().contains("aligned"));
        assert_eq!(refused(Promised::OF_ABSENT, true, 4096), None);
        assert!(refused(Promised::OF_ABSENT, true, 8192).is_some());
    }

    #[test]
    fn a_uuid_is_known_by_its_form() {
        assert_eq!(parse_uuid("00010203-0405-0607-0809-0a0b0c0d0e0f").map(|uuid| uuid[15]), Some(15));
        for text in
            ["", "Malloc0", "00010203-0405-0607-08090a0b0c0d0e0f", "00000000-0000-0000-0000-000000000000"]
        {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }
}
