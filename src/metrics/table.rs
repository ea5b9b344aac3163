//! Tables in JSON: `{"columns": ["name", …], "rows": [[…], …]}`. The names of the columns are written
//! once and not in each row, since they would be most of the bytes.

use dst_session::histogram::{BUCKETS, Histogram};

/// Receives the values of a row, each with the name of its column. All rows of a table have the same
/// columns in the same order.
pub trait Cells {
    /// A string.
    fn text(&mut self, column: &'static str, value: &str);
    /// A number.
    fn number(&mut self, column: &'static str, value: u64);
    /// A list: the sum of all latencies in µs, the number of operations that took less than 1 µs, less
    /// than 2 µs but not less than 1, and so on in powers of two, up to the last bucket that is not
    /// empty.
    fn histogram(&mut self, column: &'static str, value: &Histogram);
}

/// A row of a table.
pub trait Row {
    /// Passes the values to `cells`. A method that is called for each value takes a third of the
    /// instructions that an iterator of values takes.
    fn cells(&self, cells: &mut impl Cells);
}

/// The names of the columns, as [`Cells`].
struct Columns<'a>(&'a mut Text);

impl Cells for Columns<'_> {
    fn text(&mut self, column: &'static str, _: &str) {
        self.0.string(column);
    }

    fn number(&mut self, column: &'static str, _: u64) {
        self.0.string(column);
    }

    fn histogram(&mut self, column: &'static str, _: &Histogram) {
        self.0.string(column);
    }
}

/// The values of rows, as [`Cells`].
struct Values<'a>(&'a mut Text);

impl Cells for Values<'_> {
    #[inline]
    fn text(&mut self, _: &'static str, value: &str) {
        self.0.string(value);
    }

    #[inline]
    fn number(&mut self, _: &'static str, value: u64) {
        self.0.number(value);
    }

    #[inline]
    fn histogram(&mut self, _: &'static str, value: &Histogram) {
        self.0.histogram(value);
    }
}

/// The size of [`Text`]'s room: more than most rows have.
const ROOM: usize = 1024;

/// The longest string that goes through the room.
const SHORT_STRING: usize = 64;

/// What fits into the room after [`Text::make_room`]: a short string with quotes and a comma, or a
/// number of 20 digits and a comma, behind which eight bytes are overwritten.
const CELL: usize = SHORT_STRING + 3;

/// JSON text that grows. Values are written to `room` first, because a write to a vector takes more
/// instructions than a number has digits.
pub struct Text {
    /// Everything up to the last flush.
    flushed: Vec<u8>,
    /// What comes after that, up to `filled`.
    room: [u8; ROOM],
    filled: usize,
}

impl Text {
    /// Returns an empty text that takes `capacity` bytes without growing.
    pub fn with_capacity(capacity: usize) -> Text {
        Text { flushed: Vec::with_capacity(capacity), room: [0; ROOM], filled: 0 }
    }

    /// Returns the text.
    pub fn into_string(mut self) -> String {
        self.flush();
        String::from_utf8(self.flushed).expect("strings and digits are UTF-8")
    }

    /// Writes what is JSON already.
    pub fn json(&mut self, json: &str) {
        self.flush();
        self.flushed.extend_from_slice(json.as_bytes());
    }

    #[inline(never)]
    fn flush(&mut self) {
        self.flushed.extend_from_slice(&self.room[..self.filled]);
        self.filled = 0;
    }

    /// Makes room for [`CELL`] bytes.
    #[inline]
    fn make_room(&mut self) {
        if self.filled > ROOM - CELL {
            self.flush();
        }
    }

    /// Writes the lowest `len` bytes, eight at most. There must be room for eight.
    #[inline]
    fn put(&mut self, bytes: u64, len: usize) {
        let end = self.filled + 8;
        self.room[self.filled..end].copy_from_slice(&bytes.to_le_bytes());
        self.filled += len;
    }

    #[inline]
    fn begin_list(&mut self) {
        self.make_room();
        self.put(b'['.into(), 1);
    }

    /// Ends a list of values, each of which has a comma behind it. Writes a comma.
    fn end_list(&mut self) {
        self.make_room();
        self.take_back_comma();
        self.put(u64::from_le_bytes(*b"],\0\0\0\0\0\0"), 2);
    }

    /// Takes back the last byte, if it is a comma.
    fn take_back_comma(&mut self) {
        match self.filled.checked_sub(1) {
            Some(last) => self.filled -= usize::from(self.room[last] == b','),
            None => {
                if self.flushed.last() == Some(&b',') {
                    self.flushed.pop();
                }
            }
        }
    }

    /// Writes a number and a comma.
    #[inline]
    fn number(&mut self, value: u64) {
        self.make_room();
        match value {
            // Most counts of errors are such.
            0..=9 => self.put(ASCII_SMALL | value, 2),
            10.. => self.large(value),
        }
    }

    /// Writes a number of at least two digits and a comma.
    #[inline(never)]
    fn large(&mut self, value: u64) {
        if value < SEVEN_DIGITS_END {
            let (shown, len) = up_to_seven_digits(value);
            return self.put(shown, len);
        }
        let (rest, last) = (value / SEVEN_DIGITS_END, value % SEVEN_DIGITS_END);
        match rest {
            0..=9 => self.put(ASCII_SMALL | rest, 1),
            10.. => {
                self.large(rest);
                self.filled -= 1;
            }
        }
        // The first of eight digits is 0.
        self.put((eight_digits(last) | ASCII_ZEROES) >> 8, 7);
        self.put(b','.into(), 1);
    }

    #[inline(never)]
    fn histogram(&mut self, histogram: &Histogram) {
        self.begin_list();
        self.number(histogram.sum_us());
        let counts = histogram.counts();
        // Eight are looked at together first, because most buckets are empty.
        let is_used = |counts: &[u64]| counts.iter().fold(0, |all, count| all | count) > 0;
        let end = counts.chunks(8).rposition(is_used).map_or(0, |last| 8 * last + 8);
        let used = counts[..end].iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.counts(&counts[..used]);
        self.end_list();
    }

    /// Writes the counts of buckets, each with a comma. They are most of the answer.
    fn counts(&mut self, counts: &[u64]) {
        if self.filled > ROOM - 8 * BUCKETS {
            self.flush();
        }
        for &count in counts {
            match count {
                0..=9 => self.put(ASCII_SMALL | count, 2),
                10..SEVEN_DIGITS_END => {
                    let (shown, len) = up_to_seven_digits(count);
                    self.put(shown, len);
                }
                SEVEN_DIGITS_END.. => {
                    self.make_room();
                    self.large(count);
                    if self.filled > ROOM - 8 * BUCKETS {
                        self.flush();
                    }
                }
            }
        }
    }

    /// Writes a string and a comma.
    fn string(&mut self, value: &str) {
        let bytes = value.as_bytes();
        if bytes.len() > SHORT_STRING || !bytes.iter().all(|byte| IS_PLAIN[usize::from(*byte)]) {
            self.flush();
            serde_json::to_writer(&mut self.flushed, value).expect("memory is no file, and this is no map");
            return self.flushed.push(b',');
        }
        self.make_room();
        let (begin, end) = (self.filled + 1, self.filled + 1 + bytes.len());
        self.room[self.filled] = b'"';
        self.room[begin..end].copy_from_slice(bytes);
        self.room[end..end + 2].copy_from_slice(b"\",");
        self.filled = end + 2;
    }
}

/// Whether a byte is a character that JSON's strings contain as it is.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        plain[byte as usize] = !matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    plain
};

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

/// Writes a table. All rows have the same columns.
pub fn table<R: Row>(text: &mut Text, rows: impl Iterator<Item = R>) {
    text.json("{\"columns\":[");
    let mut is_first = true;
    rows.for_each(|row| {
        if is_first {
            is_first = false;
            row.cells(&mut Columns(text));
            text.take_back_comma();
            text.json("],\"rows\":[");
        }
        text.begin_list();
        row.cells(&mut Values(text));
        text.end_list();
    });
    if is_first {
        text.json("],\"rows\":[");
    }
    text.take_back_comma();
    text.json("]}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text of what is written before which `before` bytes are in the room.
    fn text(before: usize, write: impl FnOnce(&mut Text)) -> String {
        let mut text = Text::with_capacity(0);
        (0..before).for_each(|_| {
            text.make_room();
            text.put(b'#'.into(), 1);
        });
        write(&mut text);
        text.into_string().trim_start_matches('#').to_owned()
    }

    /// The number as it is written by itself, and among counts.
    fn written(before: usize, value: u64) -> String {
        let number = text(before, |text| text.number(value));
        let counts = text(before, |text| text.counts(&[value; BUCKETS]));
        assert_eq!(counts, number.repeat(BUCKETS));
        number
    }

    #[test]
    fn all_numbers_of_four_digits_and_all_lengths_are_written() {
        for value in 0..10_000 {
            assert_eq!(written(0, value), format!("{value},"));
            assert_eq!(written(0, value * 10_000), format!("{},", value * 10_000));
        }
        let mut edge = 1u64;
        loop {
            for value in [edge - 1, edge, edge + 1] {
                assert_eq!(written(0, value), format!("{value},"));
            }
            let Some(next) = edge.checked_mul(10) else { break };
            edge = next;
        }
    }

    #[test]
    fn whatever_is_in_the_room_the_longest_values_are_written() {
        for before in 0..=2 * ROOM {
            assert_eq!(written(before, u64::MAX), format!("{},", u64::MAX));
            let (short, long) = ("x".repeat(SHORT_STRING), "x".repeat(SHORT_STRING + 1));
            assert_eq!(text(before, |text| text.string(&short)), format!("\"{short}\","));
            assert_eq!(text(before, |text| text.string(&long)), format!("\"{long}\","));
            let mixed = [[9_999_999; BUCKETS - 1].as_slice(), &[u64::MAX]].concat();
            let counts = text(before, |text| text.counts(&mixed));
            assert_eq!(counts, "9999999,".repeat(BUCKETS - 1) + &format!("{},", u64::MAX));
            let list = text(before, |text| {
                text.begin_list();
                text.string("\n");
                text.end_list();
            });
            assert_eq!(list, "[\"\\n\"],");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_rust_does(value: u64, bits in 0u32..64) {
            let value = value >> bits;
            prop_assert_eq!(written(0, value), format!("{value},"));
        }

        #[test]
        fn strings_are_written_as_serde_does(value: String) {
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(text(0, |text| text.string(&value)), format!("{json},"));
        }
    }
}
