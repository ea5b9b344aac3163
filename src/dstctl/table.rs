//! Tables for people.

use std::fmt::Write;

/// Returns rows with aligned columns below their titles; the last column is not padded. Empty if
/// there are no rows.
pub fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let titles = titles.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&titles).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns a number of bytes as people read it: `512 B`, `10.0 GiB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut amount = bytes as f64;
    let mut shown = format!("{bytes} B");
    for unit in units {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        shown = format!("{amount:.1} {unit}");
    }
    shown
}

/// Returns a duration as people read it: `850 ms`, `12 s`, `3 min 20 s`, `2 d 4 h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_their_ends() {
        let rows = [["a".to_owned(), String::new()], ["größer".to_owned(), "x".to_owned()]];
        assert_eq!(table(["NAME", "B"], &rows), "NAME    B\na\ngrößer  x\n");
        assert_eq!(table(["NAME"], &[]), "");
    }

    #[test]
    fn amounts() {
        assert_eq!([0, 1023, 1024, 10 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "10.0 GiB"]);
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(
            [0, 999, 1000, 61_000, 7_260_000, 187_200_000].map(duration),
            ["0 ms", "999 ms", "1 s", "1 min 1 s", "2 h 1 min", "2 d 4 h"]
        );
        assert!(duration(u64::MAX).contains(" d "));
    }
}
