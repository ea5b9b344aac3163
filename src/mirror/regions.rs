//! The intent log: the regions of the device in which writes may be in flight.
//!
//! A write begins only where the durable metadata say that its regions are *hot*. After a crash,
//! members may differ in hot regions and nowhere else. A region stays hot when its writes have
//! ended, so a steady load rewrites the metadata rarely. When there are too many hot regions, those
//! that were not written to for the longest time cool. A region cools only when it is idle, and
//! when all members were flushed since its last write: before that, a power loss may make them
//! differ.
//!
//! DRBD's activity log and md's write-intent bitmap are the models.

use std::ops::Range;

use crate::extents::Extent;
pub use crate::region_size::{REGION_MIN, REGIONS_MAX, RegionSize};

/// The maximum number of hot regions: as many as the superblock has room for.
pub const HOT_MAX: usize = 1024;

/// An entry of [`Regions::index`] without a hot region.
const COLD: u16 = u16::MAX;

/// The answer to a write that wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// The write is counted, and may be sent to the members.
    Start,
    /// The write is counted. It waits until [`Regions::is_recorded`] is true of its range.
    Record,
    /// The write is not counted, since too few regions can cool. It is to be tried again when
    /// writes have ended and the members were flushed ([`Regions::flushable`]).
    Full,
}

/// A record of the hot regions that is being written: which changes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordTicket(u64);

/// A flush of all members that is under way: which writes it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlushTicket(u64);

#[derive(Debug, Clone, Copy)]
struct Hot {
    region: u16,
    /// The writes that have begun and not ended, and those that wait for the record.
    writes: u32,
    /// The change with which the region became hot.
    added: u64,
    /// The time of the last begin or end of a write.
    used: u64,
    /// The flush that covers the last write that ended: the first to begin after it. 0 if no write
    /// has ended.
    flush: u64,
}

/// The hot regions of one mirror.
#[derive(Debug)]
pub struct Regions {
    size: RegionSize,
    blocks: u64,
    max: usize,
    hot: Vec<Hot>,
    /// For each region its index in `hot`, or [`COLD`].
    index: Vec<u16>,
    /// The number of begins and ends of writes so far.
    time: u64,
    /// The number of the last change of the set.
    changes: u64,
    /// The last change that is in a durable record.
    recorded: u64,
    /// The last change that took a region out.
    cooled: u64,
    /// The number of flushes that began, and the last one of these that succeeded.
    flushes: u64,
    flushed: u64,
}

impl Regions {
    /// Returns a log without hot regions for a device of `blocks` blocks. At most `max` regions are
    /// hot, from 4 to [`HOT_MAX`].
    ///
    /// # Panics
    /// If `max` is outside of its range, or the device has more than [`REGIONS_MAX`] regions.
    pub fn new(size: RegionSize, blocks: u64, max: usize) -> Regions {
        assert!((4..=HOT_MAX).contains(&max), "{max} hot regions, not 4 to {HOT_MAX}");
        let count = size.count(blocks);
        assert!(count <= REGIONS_MAX, "{count} regions, not up to {REGIONS_MAX}");
        Regions {
            size,
            blocks,
            max,
            hot: Vec::with_capacity(max),
            index: vec![COLD; count as usize],
            time: 0,
            changes: 0,
            recorded: 0,
            cooled: 0,
            flushes: 0,
            flushed: 0,
        }
    }

    /// Returns the size of the regions.
    pub fn size(&self) -> RegionSize {
        self.size
    }

    /// Returns the number of hot regions.
    pub fn len(&self) -> usize {
        self.hot.len()
    }

    /// Returns whether no region is hot.
    pub fn is_empty(&self) -> bool {
        self.hot.is_empty()
    }

    /// Returns the longest beginning of a write's range that one [`Regions::begin`] takes: a
    /// quarter of the hot regions, so that a long write does not keep out all others.
    pub fn limit(&self, extent: Extent) -> Extent {
        let regions = self.max as u64 / 4;
        let last = (extent.start >> self.size.shift()).saturating_add(regions);
        let end = if last >= self.index.len() as u64 { self.blocks } else { last << self.size.shift() };
        Extent::between(extent.start, extent.end().min(end.max(extent.start)))
    }

    /// Begins a write to `extent`, if it may begin. The extent is not empty, and [`Regions::limit`]
    /// does not shorten it.
    ///
    /// # Panics
    /// If the range runs past the end of the device.
    #[inline]
    pub fn begin(&mut self, extent: Extent) -> Begin {
        self.time += 1;
        let regions = self.size.regions(extent);
        if regions.clone().all(|region| self.is_region_recorded(region)) {
            for region in regions {
                self.count(region);
            }
            return Begin::Start;
        }
        self.begin_cold(extent)
    }

    #[cold]
    fn begin_cold(&mut self, extent: Extent) -> Begin {
        let regions = self.size.regions(extent);
        debug_assert!(self.limit(extent) == extent, "{extent:?} has too many regions");
        let cold = regions.clone().filter(|&region| self.index[region] == COLD).count();
        let room = self.max - self.hot.len();
        if cold > room && !self.cool_oldest(cold - room, &regions) {
            return Begin::Full;
        }
        if cold > 0 {
            self.changes += 1;
        }
        for region in regions {
            if self.index[region] == COLD {
                self.index[region] = self.hot.len() as u16;
                let added = self.changes;
                self.hot.push(Hot { region: region as u16, writes: 0, added, used: 0, flush: 0 });
            }
            self.count(region);
        }
        Begin::Record
    }

    /// A write has ended on every member that had it, whether or not it succeeded. Each write that
    /// was counted ends once.
    #[inline]
    pub fn end(&mut self, extent: Extent) {
        self.time += 1;
        for region in self.size.regions(extent) {
            let hot = &mut self.hot[usize::from(self.index[region])];
            hot.writes -= 1;
            hot.used = self.time;
            hot.flush = self.flushes + 1;
        }
    }

    /// Returns whether durable metadata say that all regions of the range are hot.
    #[inline]
    pub fn is_recorded(&self, extent: Extent) -> bool {
        self.size.regions(extent).all(|region| self.is_region_recorded(region))
    }

    /// Returns whether no region of the range is hot: all members have durably what was written
    /// there.
    #[inline]
    pub fn is_cold(&self, extent: Extent) -> bool {
        self.size.regions(extent).all(|region| self.index[region] == COLD)
    }

    /// Returns whether regions have become hot that no begun record has.
    pub fn wants_record(&self, newest: Option<RecordTicket>) -> bool {
        let begun = newest.map_or(self.recorded, |ticket| ticket.0.max(self.recorded));
        self.hot.iter().any(|hot| hot.added > begun)
    }

    /// A record is made of [`Regions::hot`] as it is now.
    pub fn record_begun(&self) -> RecordTicket {
        RecordTicket(self.changes)
    }

    /// A record is durable on all members in sync.
    pub fn recorded(&mut self, ticket: RecordTicket) {
        self.recorded = self.recorded.max(ticket.0);
    }

    /// Returns whether a record of [`Regions::hot`] as it is now lacks a region that the newest
    /// durable record may have. What absent members missed in that region has to be durable before
    /// the new record.
    pub fn evicts(&self) -> bool {
        self.cooled > self.recorded
    }

    /// Returns the hot regions, in no order.
    pub fn hot(&self) -> impl Iterator<Item = u16> + '_ {
        self.hot.iter().map(|hot| hot.region)
    }

    /// Returns the number of regions that may cool after a flush that begins now, and not earlier.
    /// This looks at each hot region: it is for a timer and for [`Begin::Full`], not for each I/O.
    pub fn flushable(&self) -> usize {
        self.hot.iter().filter(|hot| hot.writes == 0 && hot.flush > self.flushes).count()
    }

    /// A flush of all members in sync begins.
    pub fn flush_begun(&mut self) -> FlushTicket {
        self.flushes += 1;
        FlushTicket(self.flushes)
    }

    /// A flush has succeeded on all members in sync.
    pub fn flushed(&mut self, ticket: FlushTicket) {
        self.flushed = self.flushed.max(ticket.0);
    }

    /// Returns the blocks of the regions in which a write is in flight, or has ended since the last
    /// successful flush.
    pub fn unflushed(&self) -> impl Iterator<Item = Extent> + '_ {
        let is_unflushed = |hot: &&Hot| !hot.is_flushed(self.flushed);
        self.hot.iter().filter(is_unflushed).map(|hot| self.size.extent(hot.region, self.blocks))
    }

    /// Lets all regions cool that may.
    pub fn cool(&mut self) {
        let mut at = 0;
        while let Some(hot) = self.hot.get(at) {
            if hot.is_flushed(self.flushed) { self.take(hot.region) } else { at += 1 }
        }
    }

    #[inline]
    fn is_region_recorded(&self, region: usize) -> bool {
        let at = self.index[region];
        at != COLD && self.hot[usize::from(at)].added <= self.recorded
    }

    #[inline]
    fn count(&mut self, region: usize) {
        let hot = &mut self.hot[usize::from(self.index[region])];
        hot.writes += 1;
        hot.used = self.time;
    }

    /// Lets the `count` regions cool that were not used for the longest time, other than those in
    /// `but`. Returns false, and changes nothing, if fewer may cool.
    fn cool_oldest(&mut self, count: usize, but: &Range<usize>) -> bool {
        let flushed = self.flushed;
        let may_cool = |hot: &&Hot| hot.is_flushed(flushed) && !but.contains(&usize::from(hot.region));
        if self.hot.iter().filter(may_cool).count() < count {
            return false;
        }
        // `count` is nearly always 1: a search is cheaper than a list in the order of use, which each
        // write would change.
        for _ in 0..count {
            let oldest = self.hot.iter().filter(may_cool).min_by_key(|hot| (hot.used, hot.region));
            let region = oldest.expect("as many were counted").region;
            self.take(region);
        }
        true
    }

    /// Takes a region out of the log.
    fn take(&mut self, region: u16) {
        let at = std::mem::replace(&mut self.index[usize::from(region)], COLD);
        self.hot.swap_remove(usize::from(at));
        if let Some(moved) = self.hot.get(usize::from(at)) {
            self.index[usize::from(moved.region)] = at;
        }
        self.changes += 1;
        self.cooled = self.changes;
    }
}

impl Hot {
    fn is_flushed(&self, flushed: u64) -> bool {
        self.writes == 0 && self.flush <= flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A device of 16 regions of 256 blocks of 4 KiB, of which the last one is shorter.
    const BLOCKS: u64 = 16 * 256 - 100;

    fn regions(max: usize) -> Regions {
        Regions::new(RegionSize::for_device(BLOCKS, 4096), BLOCKS, max)
    }

    fn write(region: u64) -> Extent {
        Extent::new(region * 256 + 7, 1)
    }

    fn record(regions: &mut Regions) {
        let ticket = regions.record_begun();
        regions.recorded(ticket);
    }

    fn flush(regions: &mut Regions) {
        let ticket = regions.flush_begun();
        regions.flushed(ticket);
    }

    #[test]
    fn a_write_waits_for_the_record_once() {
        let mut regions = regions(4);
        assert_eq!(regions.begin(write(3)), Begin::Record);
        assert!(regions.wants_record(None) && !regions.is_recorded(write(3)));
        let ticket = regions.record_begun();
        assert!(!regions.wants_record(Some(ticket)));
        assert_eq!(regions.begin(write(4)), Begin::Record);
        assert!(regions.wants_record(Some(ticket)));
        regions.recorded(ticket);
        assert!(regions.is_recorded(write(3)) && !regions.is_recorded(write(4)));
        assert_eq!(regions.begin(write(3)), Begin::Start);
        for region in [3, 3, 4] {
            regions.end(write(region));
        }
        assert_eq!(regions.begin(write(3)), Begin::Start, "it stays hot");
        assert_eq!(regions.begin(write(4)), Begin::Record, "hot, and in no record yet");
    }

    #[test]
    fn a_region_cools_when_it_is_idle_and_flushed_the_oldest_first() {
        let mut regions = regions(4);
        for region in 0..4 {
            assert_eq!(regions.begin(write(region)), Begin::Record);
        }
        record(&mut regions);
        assert_eq!(regions.begin(write(9)), Begin::Full);
        regions.end(write(1));
        let early = regions.flush_begun();
        regions.end(write(0));
        assert_eq!(regions.flushable(), 1);
        assert_eq!(regions.begin(write(9)), Begin::Full, "not flushed");
        regions.flushed(early);
        assert_eq!(regions.unflushed().count(), 3);
        assert!(!regions.evicts());
        assert_eq!(regions.begin(write(9)), Begin::Record);
        assert!(regions.evicts() && regions.hot().collect::<BTreeSet<u16>>() == BTreeSet::from([0, 2, 3, 9]));
        assert_eq!(regions.begin(write(10)), Begin::Full, "region 0 ended after the flush began");
        flush(&mut regions);
        assert_eq!(regions.begin(write(0)), Begin::Start);
        assert_eq!(regions.begin(write(10)), Begin::Full, "region 0 is in use again");
        record(&mut regions);
        assert!(!regions.evicts());
        for region in [0, 2, 3, 9] {
            regions.end(write(region));
        }
        regions.cool();
        assert_eq!(regions.len(), 4, "not flushed");
        flush(&mut regions);
        regions.cool();
        assert!(regions.is_empty() && regions.evicts());
    }

    #[test]
    fn a_long_write_takes_a_quarter_of_the_log() {
        let regions = regions(8);
        let whole = Extent::new(0, BLOCKS);
        assert_eq!(regions.limit(whole), Extent::new(0, 512));
        assert_eq!(regions.limit(Extent::between(300, BLOCKS)), Extent::between(300, 768));
        assert_eq!(regions.limit(Extent::between(14 * 256, BLOCKS)), Extent::between(14 * 256, BLOCKS));
        assert_eq!(regions.limit(Extent::new(255, 2)), Extent::new(255, 2));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begin(Extent),
        End(usize),
        BeginRecord,
        Recorded,
        BeginFlush,
        Flushed,
        Cool,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..BLOCKS, 1u64..500).prop_map(|(start, count)| Step::Begin(Extent::new(start, count.min(BLOCKS - start)))),
            6 => any::<usize>().prop_map(Step::End),
            3 => Just(Step::BeginRecord),
            3 => Just(Step::Recorded),
            2 => Just(Step::BeginFlush),
            2 => Just(Step::Flushed),
            1 => Just(Step::Cool),
        ]
    }

    /// What is known of a mirror without its log.
    #[derive(Default)]
    struct Model {
        /// What the durable metadata say, and the record that is being written.
        durable: BTreeSet<u16>,
        record: Option<(RecordTicket, BTreeSet<u16>)>,
        flush: Option<(FlushTicket, Vec<Extent>)>,
        waiting: Vec<Extent>,
        sent: Vec<Extent>,
        /// Ended, and not known to be on the members' media.
        ended: Vec<Extent>,
    }

    impl Model {
        fn step(&mut self, regions: &mut Regions, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Begin(extent) => {
                    let extent = regions.limit(extent);
                    match regions.begin(extent) {
                        Begin::Start => self.sent.push(extent),
                        Begin::Record => self.waiting.push(extent),
                        Begin::Full => prop_assert!(regions.hot.len() + 3 > regions.max, "there is room"),
                    }
                }
                Step::End(at) if !self.sent.is_empty() => {
                    let extent = self.sent.swap_remove(at % self.sent.len());
                    regions.end(extent);
                    self.ended.push(extent);
                }
                Step::BeginRecord if self.record.is_none() => {
                    self.record = Some((regions.record_begun(), regions.hot().collect()));
                }
                Step::Recorded => {
                    if let Some((ticket, hot)) = self.record.take() {
                        regions.recorded(ticket);
                        self.durable = hot;
                        let is_recorded = |extent: &mut Extent| regions.is_recorded(*extent);
                        self.sent.extend(self.waiting.extract_if(.., is_recorded));
                    }
                }
                Step::BeginFlush if self.flush.is_none() => {
                    self.flush = Some((regions.flush_begun(), std::mem::take(&mut self.ended)));
                }
                Step::Flushed => {
                    if let Some((ticket, _)) = self.flush.take() {
                        regions.flushed(ticket);
                    }
                }
                Step::Cool => regions.cool(),
                Step::End(_) | Step::BeginRecord | Step::BeginFlush => {}
            }
            Ok(())
        }

        /// The writes that may be on some members, and not on others, if the power fails now.
        fn at_risk(&self) -> impl Iterator<Item = Extent> + '_ {
            let flushing = self.flush.iter().flat_map(|(_, ended)| ended);
            self.sent.iter().chain(&self.ended).chain(flushing).copied()
        }
    }

    proptest! {
        /// Whenever the owner crashes, the record that is then durable has all regions where the
        /// members may differ.
        #[test]
        fn what_may_differ_is_in_the_durable_record(max in 4usize..12, steps in proptest::collection::vec(any_step(), 0..150)) {
            let (mut regions, mut model) = (regions(max), Model::default());
            for step in steps {
                model.step(&mut regions, step)?;
                prop_assert!(regions.len() <= max);
                for (at, hot) in regions.hot.iter().enumerate() {
                    prop_assert_eq!(usize::from(regions.index[usize::from(hot.region)]), at);
                }
                for extent in model.at_risk() {
                    for region in regions.size.regions(extent) {
                        prop_assert!(model.durable.contains(&(region as u16)), "the region {region} is not recorded");
                        let new = model.record.as_ref().is_none_or(|(_, hot)| hot.contains(&(region as u16)));
                        prop_assert!(new, "the record that is being written lacks the region {region}");
                        prop_assert!(regions.unflushed().any(|unflushed| unflushed.overlaps(extent)));
                    }
                }
                let drops = model.durable.iter().any(|&region| !regions.hot().any(|hot| hot == region));
                prop_assert!(!drops || regions.evicts());
            }
            // The load ends: everything is written, and the log can be emptied.
            for step in [Step::Recorded, Step::BeginRecord, Step::Recorded].into_iter().chain([Step::End(0); 150]) {
                model.step(&mut regions, step)?;
            }
            prop_assert!(model.waiting.is_empty() && model.sent.is_empty());
            for step in [Step::Flushed, Step::BeginFlush, Step::Flushed, Step::Cool] {
                model.step(&mut regions, step)?;
            }
            prop_assert!(regions.is_empty());
        }
    }
}
