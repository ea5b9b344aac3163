//! What the devices have been asked for and not answered, and what the driver is to do next.

use std::collections::VecDeque;

use crate::extents::Extent;
use crate::handles::{Device, Devices, IoId, RequestId, SlotId};
use crate::output::{Level, Output, Rare, Status};
use crate::ports::Places;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Metadata of a device that is not in use yet are read.
    Load,
    /// A user's read.
    Read(IoId),
    /// A user's write.
    Write(IoId),
    /// The blocks of a user's read are read again, or written back.
    Repair(IoId),
    /// The flush of all members of this number.
    Flush(u32),
    /// A slot is filled or emptied.
    Copy(SlotId),
    /// A flush of the member that is resynced.
    CopyFlush,
    /// A step of a verification.
    Verify,
    /// A step of a record.
    Record,
    /// The metadata are overwritten.
    Wipe,
    /// All requests of the device are ended.
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    /// The devices that have not answered; none: there is no such request.
    devices: Devices,
    /// The places of those that have carried it out.
    succeeded: Places,
    purpose: Purpose,
    since: u64,
}

const NONE: Request = Request { devices: Devices::NONE, succeeded: 0, purpose: Purpose::Load, since: 0 };

/// The answer of a device to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// What the request is for.
    pub(crate) purpose: Purpose,
    /// Whether no device has the request any more.
    pub(crate) is_last: bool,
    /// The places of the devices that have carried the request out so far.
    pub(crate) succeeded: Places,
}

/// The requests of one mirror and its outputs.
#[derive(Debug)]
pub(crate) struct Requests {
    /// The time of the last input, in µs.
    pub(crate) now: u64,
    outstanding: Vec<Request>,
    free: Vec<u32>,
    in_flight: [u32; Device::COUNT],
    resets: [bool; Device::COUNT],
    outputs: VecDeque<Output>,
}

impl Requests {
    /// Returns a table for `max` requests.
    pub(crate) fn new(max: u32) -> Requests {
        Requests {
            now: 0,
            outstanding: vec![NONE; max as usize],
            free: (0..max).rev().collect(),
            in_flight: [0; Device::COUNT],
            resets: [false; Device::COUNT],
            outputs: VecDeque::new(),
        }
    }

    /// Makes room for `max` requests, if there is less.
    pub(crate) fn grow(&mut self, max: u32) {
        let before = self.max();
        if max > before {
            self.outstanding.resize(max as usize, NONE);
            self.free.extend((before..max).rev());
        }
    }

    /// Returns the number of requests that there are at most.
    pub(crate) fn max(&self) -> u32 {
        self.outstanding.len() as u32
    }

    /// Returns what is to be done next.
    #[inline]
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the number of requests that a device has, other than resets.
    #[inline]
    pub(crate) fn in_flight(&self, device: Device) -> u32 {
        self.in_flight[device.index()]
    }

    /// Begins a request to one device.
    #[inline]
    fn begin(&mut self, device: Device, purpose: Purpose) -> RequestId {
        self.in_flight[device.index()] += 1;
        self.add(Devices::of(device), purpose)
    }

    /// Begins a request to several devices.
    #[inline]
    fn begin_at(&mut self, devices: Devices, purpose: Purpose) -> RequestId {
        debug_assert!(!devices.is_empty(), "a request to no device");
        for device in devices.iter() {
            self.in_flight[device.index()] += 1;
        }
        self.add(devices, purpose)
    }

    /// Adds a request. `Requests::max` is computed such that there is always a free one.
    #[inline]
    fn add(&mut self, devices: Devices, purpose: Purpose) -> RequestId {
        let id = self.free.pop().expect("no more requests than the sum of what each part may have");
        self.outstanding[id as usize] = Request { devices, succeeded: 0, purpose, since: self.now };
        RequestId(id)
    }

    /// A request has ended at a device. `succeeded` is the device's place if it has carried the request
    /// out, or else nothing.
    ///
    /// # Panics
    /// If the device does not have the request.
    #[inline(always)]
    pub(crate) fn end(&mut self, request: RequestId, device: Device, succeeded: Places) -> Answer {
        let found = &mut self.outstanding[request.0 as usize];
        assert!(found.devices.contains(device), "a device ends a request that it does not have");
        found.devices = found.devices.without(device);
        found.succeeded |= succeeded;
        let is_last = found.devices.is_empty();
        if is_last {
            self.free.push(request.0);
        }
        match found.purpose {
            Purpose::Reset => self.resets[device.index()] = false,
            _ => self.in_flight[device.index()] -= 1,
        }
        Answer { purpose: found.purpose, is_last, succeeded: found.succeeded }
    }

    /// Returns the device that has a request which goes to one alone.
    ///
    /// # Panics
    /// If the request is not outstanding.
    pub(crate) fn device(&self, request: RequestId) -> Device {
        let devices = self.outstanding[request.0 as usize].devices;
        devices.iter().next().expect("a request that is outstanding")
    }

    /// Returns the time at which the oldest request of a device was sent, but for resets. Walks over all
    /// requests, if the device has any.
    pub(crate) fn oldest(&self, device: Device) -> Option<u64> {
        if self.in_flight(device) == 0 {
            return None;
        }
        let of_device =
            self.outstanding.iter().filter(|r| r.devices.contains(device) && r.purpose != Purpose::Reset);
        of_device.map(|request| request.since).min()
    }

    #[inline(always)]
    pub(crate) fn read(&mut self, device: Device, purpose: Purpose, io: IoId, range: Extent) {
        let request = self.begin(device, purpose);
        self.outputs.push_back(Output::Read { request, device, io, range });
    }

    #[inline]
    pub(crate) fn write(&mut self, devices: Devices, purpose: Purpose, io: IoId, range: Extent) {
        let request = self.begin_at(devices, purpose);
        self.outputs.push_back(Output::Write { request, devices, io, range });
    }

    pub(crate) fn write_zeroes(&mut self, devices: Devices, io: IoId, range: Extent) {
        let request = self.begin_at(devices, Purpose::Write(io));
        self.outputs.push_back(Output::WriteZeroes { request, devices, range });
    }

    pub(crate) fn flush(&mut self, device: Device, purpose: Purpose) {
        let request = self.begin(device, purpose);
        self.outputs.push_back(Output::Flush { request, device });
    }

    pub(crate) fn copy_read(&mut self, device: Device, purpose: Purpose, slot: SlotId, range: Extent) {
        let request = self.begin(device, purpose);
        self.outputs.push_back(Output::CopyRead { request, device, slot, range });
    }

    pub(crate) fn copy_write(&mut self, device: Device, purpose: Purpose, slot: SlotId, range: Extent) {
        let request = self.begin(device, purpose);
        self.outputs.push_back(Output::CopyWrite { request, device, slot, range });
    }

    /// Reads a range into the second slot, to be compared with the first one.
    pub(crate) fn compare_read(&mut self, device: Device, [with, slot]: [SlotId; 2], range: Extent) {
        let request = self.begin(device, Purpose::Verify);
        self.outputs.push_back(Output::CompareRead { request, device, slot, with, range });
    }

    pub(crate) fn metadata_read(&mut self, device: Device, range: Extent) {
        let request = self.begin(device, Purpose::Load);
        self.outputs.push_back(Output::MetadataRead { request, device, range });
    }

    pub(crate) fn metadata_write(&mut self, device: Device, purpose: Purpose, range: Extent, bytes: Vec<u8>) {
        let request = self.begin(device, purpose);
        self.push(Rare::MetadataWrite { request, device, range, bytes });
    }

    /// Ends all requests of a device, unless it has none or is being reset.
    pub(crate) fn reset(&mut self, device: Device) {
        if self.in_flight(device) == 0 || self.resets[device.index()] {
            return;
        }
        let request = self.begin(device, Purpose::Reset);
        self.in_flight[device.index()] -= 1;
        self.resets[device.index()] = true;
        self.outputs.push_back(Output::Reset { request, device });
    }

    pub(crate) fn close(&mut self, device: Device) {
        self.outputs.push_back(Output::Close { device });
    }

    #[inline]
    pub(crate) fn complete(&mut self, io: IoId, status: Status) {
        self.outputs.push_back(Output::Complete { io, status });
    }

    pub(crate) fn push(&mut self, output: impl Into<Output>) {
        self.outputs.push_back(output.into());
    }

    pub(crate) fn warn(&mut self, text: String) {
        self.push(Rare::Log { level: Level::Warning, text });
    }

    pub(crate) fn notice(&mut self, text: String) {
        self.push(Rare::Log { level: Level::Notice, text });
    }
}
