//! Times of day for people to read.

const DAY_S: u64 = 24 * 3600;

/// Returns a time, given in seconds since 1970, as a date and time in UTC. Leap seconds are not
/// counted.
pub fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / DAY_S, unix_s % DAY_S);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Returns the date of a day, counted from 1970-01-01, in the Gregorian calendar.
///
/// The calendar repeats after 400 years. In a year that begins in March, the leap day is the last
/// day, and every five consecutive months have 153 days.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_400_YEARS: u64 = 146_097;
    const DAYS_100_YEARS: u64 = 36_524;
    const DAYS_4_YEARS: u64 = 1461;
    // The days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_400_YEARS, days % DAYS_400_YEARS);
    let leap_days = day / (DAYS_4_YEARS - 1) - day / DAYS_100_YEARS + day / (DAYS_400_YEARS - 1);
    let year = (day - leap_days) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let is_next_year = month >= 10;
    (
        400 * era + year + u64::from(is_next_year),
        if is_next_year { month - 9 } else { month + 3 },
        day - (153 * month + 2) / 5 + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_500_years_follows_the_one_before() {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..500 * 366 {
            assert_eq!(date(days), (year, month, day), "day {days}");
            let last = match month {
                2 if is_leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn a_time_is_readable() {
        assert_eq!(utc(1_000_000_000), "2001-09-09 01:46:40 UTC");
        assert!(utc(u64::MAX).ends_with(" UTC"));
    }
}
