//! Tables in JSON: `{"columns": ["name", …], "rows": [[…], …]}`. The names of the columns are written
//! once and not in each row, since they would be most of the bytes.

use dst_session::histogram::Histogram;
use serde::Serialize;

/// A value in a row.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// A string.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// A list: the sum of all latencies in µs, the number of operations that took less than 1 µs, less
    /// than 2 µs but not less than 1, and so on in powers of two, up to the last bucket that is not
    /// empty.
    Histogram(&'a Histogram),
}

impl Cell<'_> {
    fn write(self, text: &mut Vec<u8>) {
        match self {
            Cell::Text(value) => write(text, value),
            Cell::Number(value) => write_number(text, value),
            Cell::Histogram(histogram) => {
                text.push(b'[');
                write_number(text, histogram.sum_us());
                let counts = histogram.counts();
                let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
                for count in &counts[..used] {
                    text.push(b',');
                    write_number(text, *count);
                }
                text.push(b']');
            }
        }
    }
}

fn write_number(text: &mut Vec<u8>, value: u64) {
    match value {
        // Most counts of errors and most buckets are such.
        0..=9 => text.push(b'0' + value as u8),
        10.. => write(text, &value),
    }
}

fn write<T: Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(text, value).expect("memory is no file, and this is no map");
}

/// A cell with the name of its column.
pub type Named<'a> = (&'static str, Cell<'a>);

/// Writes a table. All rows have the same columns.
pub fn table<'a, R: Iterator<Item = Named<'a>> + Clone>(text: &mut Vec<u8>, rows: impl Iterator<Item = R>) {
    text.extend_from_slice(b"{\"columns\":[");
    let mut rows = rows.peekable();
    if let Some(first) = rows.peek() {
        listed(text, first.clone(), |text, (name, _)| write(text, name));
    }
    text.extend_from_slice(b"],\"rows\":[");
    listed(text, rows, |text, row| {
        text.push(b'[');
        listed(text, row, |text, (_, cell)| cell.write(text));
        text.push(b']');
    });
    text.extend_from_slice(b"]}");
}

/// Writes items with commas between them.
fn listed<T>(text: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    // `for_each` goes through rows that are chains of arrays faster than a loop.
    items.enumerate().for_each(|(index, item)| {
        if index > 0 {
            text.push(b',');
        }
        write(text, item);
    });
}
