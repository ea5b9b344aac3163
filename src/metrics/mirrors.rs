//! The rows of mirrors and of their members.

use dst_mirror::Report;
use dst_mirror::report::{Condition, Counts, MemberReport, WitnessReport};

use crate::table::{Cells, Row};

/// A mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The mirror's name.
    pub name: String,
    /// What its rules show.
    pub report: Report,
    /// The number of I/Os that are being executed.
    pub outstanding: usize,
    /// The number of I/Os that wait for that.
    pub waiting: usize,
}

impl Mirror {
    fn bytes(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(self.report.block_size.into())
    }

    /// Returns the members that count, with their places: those that were removed are shown by
    /// nothing but `bdev_dst_mirror_get_info`.
    fn attached(&self) -> impl Iterator<Item = (usize, &MemberReport)> {
        let all = self.report.members.iter().enumerate();
        all.filter(|(_, member)| member.condition != Condition::Detached)
    }

    /// Returns the rows of the members.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.attached().map(|(place, member)| Member { mirror: self, place, member })
    }
}

impl Row for &Mirror {
    fn cells(&self, cells: &mut impl Cells) {
        let Mirror { name, report, outstanding, waiting } = self;
        // Without `..`, so that a forgotten count does not compile.
        let Counts {
            reads,
            writes,
            flushes,
            records,
            copied_blocks,
            read_errors,
            repaired_blocks,
            departures,
            lost_caches,
        } = report.counts;
        let in_sync = self.attached().filter(|(_, member)| member.condition == Condition::InSync);
        let unrepaired = report
            .verification
            .as_ref()
            .map_or(0, |found| found.differing.saturating_add(found.unread).saturating_sub(found.repaired));
        cells.text("mirror", name);
        cells.text("state", report.state.name());
        cells.number("size_bytes", self.bytes(report.blocks));
        cells.number("members", self.attached().count() as u64);
        cells.number("members_in_sync", in_sync.count() as u64);
        cells.number("witnesses", report.witness.is_some().into());
        cells.number(
            "witnesses_current",
            report.witness.as_ref().is_some_and(WitnessReport::is_current).into(),
        );
        cells.number("unrepaired_bytes", self.bytes(unrepaired));
        cells.number("outstanding", *outstanding as u64);
        cells.number("waiting", *waiting as u64);
        cells.number("reads", reads);
        cells.number("writes", writes);
        cells.number("flushes", flushes);
        cells.number("records", records);
        cells.number("copied_bytes", self.bytes(copied_blocks));
        cells.number("read_errors", read_errors);
        cells.number("repaired_bytes", self.bytes(repaired_blocks));
        cells.number("departures", departures);
        cells.number("lost_caches", lost_caches);
    }
}

/// A member of a mirror.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    mirror: &'a Mirror,
    /// The place among the mirror's members. Two members may have the same name, since a name is that
    /// of a bdev when it joined.
    place: usize,
    member: &'a MemberReport,
}

impl Row for Member<'_> {
    fn cells(&self, cells: &mut impl Cells) {
        let Member { mirror, place, member } = self;
        cells.text("mirror", &mirror.name);
        cells.text("member", &member.name);
        cells.text("place", &place.to_string());
        cells.text("state", member.condition.name());
        cells.number("behind_bytes", mirror.bytes(member.condition.behind()));
        cells.number("in_flight", member.in_flight as u64);
    }
}
