//! Prometheus's text format, version 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{Display, Write};

use super::answer::Histogram;

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The buckets that are shown: their bounds are 2^i µs. Smaller and larger latencies are counted in
/// the first and in the last (+Inf): 16 µs is a round trip in one machine room, and after 67 s all
/// I/O has failed with the default options. Each bucket costs the server a time series.
const SHOWN_BUCKETS: std::ops::RangeInclusive<u32> = 4..=26;

/// Metrics as text.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The labels of a sample.
pub type Labels<'a> = [(&'a str, &'a str)];

impl Exposition {
    /// Begins a metric. Its samples follow.
    pub fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample.
    pub fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.put(format_args!("{label}=\"{}\"", escaped(value)));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    /// Adds the samples of a histogram of seconds.
    pub fn histogram(&mut self, name: &str, labels: &Labels<'_>, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let with = |le: &str, this: &mut Exposition, count: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", le)]).collect();
            this.sample(&bucket, &labels, count);
        };
        let total = |counts: &[u64]| counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        for bit in SHOWN_BUCKETS {
            // Bucket `bit` is the last whose latencies are below the bound.
            let len = histogram.counts.len().min(bit as usize + 1);
            with(&seconds(1 << bit).to_string(), self, total(&histogram.counts[..len]));
        }
        let all = total(&histogram.counts);
        with("+Inf", self, all);
        self.sample(&format!("{name}_sum"), labels, seconds(histogram.sum_us));
        self.sample(&format!("{name}_count"), labels, all);
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a string takes everything");
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.text
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut all = Exposition::default();
        all.begin("m_total", Kind::Counter, "Help.");
        all.sample("m_total", &[("a", "x\"\\\ny"), ("b", "ü")], 5);
        all.sample("m_total", &[], u64::MAX);
        let text = "# HELP m_total Help.\n# TYPE m_total counter\nm_total{a=\"x\\\"\\\\\\ny\",b=\"ü\"} 5\n\
                    m_total 18446744073709551615\n";
        assert_eq!(all.into_text(), text);
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut all = Exposition::default();
        // One of less than 1 µs, two of 8 to 15 µs, four of 16 to 31 µs, eight of 67 s and more.
        let mut counts = vec![1, 0, 0, 0, 2, 4];
        counts.resize(27, 0);
        counts.push(8);
        all.histogram("h", &[("a", "b")], &Histogram { sum_us: 2_500_000, counts });
        let text = all.into_text();
        for line in [
            "h_bucket{a=\"b\",le=\"0.000016\"} 3",
            "h_bucket{a=\"b\",le=\"0.000032\"} 7",
            "h_bucket{a=\"b\",le=\"67.108864\"} 7",
            "h_bucket{a=\"b\",le=\"+Inf\"} 15",
            "h_sum{a=\"b\"} 2.5",
            "h_count{a=\"b\"} 15",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.lines().count(), 26);
        let mut empty = Exposition::default();
        empty.histogram("h", &[], &Histogram { sum_us: 0, counts: Vec::new() });
        assert!(empty.into_text().ends_with("h_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n"));
    }
}
