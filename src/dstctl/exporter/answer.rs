//! The answer of `dst_get_metrics`.

use serde::Deserialize;
use serde_json::Value;

/// The counts of an application. Tables and columns that this version of dstctl does not know are
/// ignored, and so are those that the application does not have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Answer {
    /// When the process started, in ms since 1970.
    pub start_time_ms: u64,
    #[serde(default)]
    pub bdevs: Table,
    #[serde(default)]
    pub mirrors: Table,
    #[serde(default)]
    pub mirror_members: Table,
    #[serde(default)]
    pub exports: Table,
    #[serde(default)]
    pub listeners: Table,
    #[serde(default)]
    pub target: Table,
}

/// A table whose columns have names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// A row of a table.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    cells: &'a [Value],
}

/// A histogram of latencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    pub sum_us: u64,
    /// The number of operations in each bucket: less than 1 µs, less than 2 µs, less than 4 µs, and
    /// so on. Empty buckets at the end may be left out.
    pub counts: Vec<u64>,
}

impl Table {
    /// Returns the rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { columns: &self.columns, cells })
    }
}

impl<'a> Row<'a> {
    fn cell(&self, column: &str) -> Option<&'a Value> {
        self.cells.get(self.columns.iter().position(|name| name == column)?)
    }

    /// Returns the text in this column.
    pub fn text(&self, column: &str) -> Option<&'a str> {
        self.cell(column)?.as_str()
    }

    /// Returns the number in this column.
    pub fn number(&self, column: &str) -> Option<u64> {
        self.cell(column)?.as_u64()
    }

    /// Returns the histogram in this column.
    pub fn histogram(&self, column: &str) -> Option<Histogram> {
        let numbers: Option<Vec<u64>> = self.cell(column)?.as_array()?.iter().map(Value::as_u64).collect();
        let numbers = numbers?;
        let (sum_us, counts) = numbers.split_first()?;
        Some(Histogram { sum_us: *sum_us, counts: counts.to_vec() })
    }
}
