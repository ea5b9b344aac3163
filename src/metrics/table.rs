//! Tables in JSON: `{"columns": ["name", …], "rows": [[…], …]}`. The names of the columns are written
//! once and not in each row, since they would be most of the bytes.

use dst_session::histogram::{BUCKETS, Histogram};

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
    /// Writes the value and a comma.
    fn write(self, text: &mut Vec<u8>) {
        match self {
            Cell::Text(value) => write_text(text, value),
            Cell::Number(value) => write_number(text, value),
            Cell::Histogram(histogram) => {
                text.push(b'[');
                write_number(text, histogram.sum_us());
                let counts = histogram.counts();
                let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
                write_counts(text, &counts[..used]);
                end_list(text);
                text.push(b',');
            }
        }
    }
}

/// Ends a list of values, each of which has a comma behind it.
fn end_list(text: &mut Vec<u8>) {
    match text.last_mut() {
        Some(last @ b',') => *last = b']',
        _ => text.push(b']'),
    }
}

/// Writes a number and a comma.
#[inline]
fn write_number(text: &mut Vec<u8>, value: u64) {
    match value {
        // Most counts of errors are such.
        0..=9 => text.extend_from_slice(&[b'0' + value as u8, b',']),
        10.. => write_large(text, value),
    }
}

/// Writes a number of at least two digits and a comma.
#[inline(never)]
fn write_large(text: &mut Vec<u8>, value: u64) {
    if value < SEVEN_DIGITS_END {
        let (shown, len) = up_to_seven_digits(value);
        // Eight bytes are written at once, without a loop, and the last ones are taken back.
        text.extend_from_slice(&shown.to_le_bytes());
        return text.truncate(text.len() + len - 8);
    }
    let (rest, last) = (value / SEVEN_DIGITS_END, value % SEVEN_DIGITS_END);
    write_number(text, rest);
    text.pop();
    // The first of eight digits is 0.
    let digits = eight_digits(last) | ASCII_ZEROES;
    text.extend_from_slice(&digits.to_le_bytes()[1..]);
    text.push(b',');
}

/// Writes the counts of buckets, each with a comma. They are most of the answer.
fn write_counts(text: &mut Vec<u8>, counts: &[u64]) {
    let mut room = [0; 8 * BUCKETS];
    let mut filled = 0;
    for &count in counts {
        let Some(next) = room[filled..].first_chunk_mut::<8>().filter(|_| count < SEVEN_DIGITS_END) else {
            text.extend_from_slice(&room[..filled]);
            filled = 0;
            write_number(text, count);
            continue;
        };
        let (shown, len) = if count < 10 { (ASCII_SMALL | count, 2) } else { up_to_seven_digits(count) };
        *next = shown.to_le_bytes();
        filled += len;
    }
    text.extend_from_slice(&room[..filled]);
}

/// The lowest number that has more than seven digits.
const SEVEN_DIGITS_END: u64 = 10_000_000;

/// The digit 0 and a comma.
const ASCII_SMALL: u64 = 0x2c30;

/// The digit 0 in each of eight bytes.
const ASCII_ZEROES: u64 = 0x3030_3030_3030_3030;

/// Returns a number of two to seven digits as text with a comma behind it, the first character in the
/// lowest byte, and the length of this text.
#[inline(always)]
fn up_to_seven_digits(value: u64) -> (u64, usize) {
    let digits = eight_digits(value);
    let zero_bits = digits.trailing_zeros() & !7;
    let shown = (digits | ASCII_ZEROES) >> zero_bits;
    let comma = u64::from(b',') << (64 - zero_bits);
    (shown | comma, 9 - zero_bits as usize / 8)
}

/// Returns the digits of a number of at most eight digits, each as a number in its byte, the first one
/// in the lowest byte. The number is halved three times, all parts at once: of `x`, the lower half
/// becomes `x / n` and the upper half `x - n * (x / n)`. A multiplication and a shift divide by 100
/// what is below 10,000, and by 10 what is below 100.
#[inline(always)]
fn eight_digits(value: u64) -> u64 {
    let high = value / 10_000;
    let fours = (value << 32) - high * ((10_000 << 32) - 1);
    let high = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = (fours << 16) - high * ((100 << 16) - 1);
    let high = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    (twos << 8) - high * ((10 << 8) - 1)
}

/// Writes a string and a comma.
fn write_text(text: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(&mut *text, value).expect("memory is no file, and this is no map");
    text.push(b',');
}

/// A cell with the name of its column.
pub type Named<'a> = (&'static str, Cell<'a>);

/// Writes a table. All rows have the same columns.
pub fn table<'a, R: Iterator<Item = Named<'a>> + Clone>(text: &mut Vec<u8>, rows: impl Iterator<Item = R>) {
    text.extend_from_slice(b"{\"columns\":[");
    let mut rows = rows.peekable();
    // `for_each` goes through rows that are chains of arrays faster than a loop.
    if let Some(first) = rows.peek() {
        first.clone().for_each(|(name, _)| write_text(text, name));
    }
    end_list(text);
    text.extend_from_slice(b",\"rows\":[");
    rows.for_each(|row| {
        text.push(b'[');
        row.for_each(|(_, cell)| cell.write(text));
        end_list(text);
        text.push(b',');
    });
    end_list(text);
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The number as it is written by itself, and among counts.
    fn written(value: u64) -> String {
        let text = |write: fn(&mut Vec<u8>, u64)| {
            let mut text = b"[".to_vec();
            write(&mut text, value);
            end_list(&mut text);
            String::from_utf8(text).unwrap()
        };
        let alone = text(write_number);
        let counts = text(|text, value| write_counts(text, &[value; BUCKETS]));
        let digits = &alone[1..alone.len() - 1];
        assert_eq!(counts, format!("[{}]", [digits; BUCKETS].join(",")));
        alone
    }

    #[test]
    fn all_numbers_of_four_digits_and_all_lengths_are_written() {
        for value in 0..10_000 {
            assert_eq!(written(value), format!("[{value}]"));
            assert_eq!(written(value * 10_000), format!("[{}]", value * 10_000));
        }
        let mut edge = 1u64;
        loop {
            for value in [edge - 1, edge, edge + 1] {
                assert_eq!(written(value), format!("[{value}]"));
            }
            let Some(next) = edge.checked_mul(10) else { break };
            edge = next;
        }
        assert_eq!(written(u64::MAX), format!("[{}]", u64::MAX));
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_rust_does(value: u64, bits in 0u32..64) {
            let value = value >> bits;
            prop_assert_eq!(written(value), format!("[{value}]"));
        }
    }
}
