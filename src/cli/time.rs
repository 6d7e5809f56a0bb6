//! Times as people write and read them: UTC, or so long ago.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Milliseconds since the Unix epoch, by the system's clock. Only for showing and for "so long ago".
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time in UTC: `2026-11-23 07:15:02Z`.
#[must_use]
pub fn shown(ms: u64) -> String {
    let (year, month, day) = civil(ms / DAY_MS);
    let second = ms % DAY_MS / 1_000;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// The milliseconds since the Unix epoch that `text` means: a number of them, a duration before `now_ms` (`90s`, `15m`, `2h`,
/// `3d`), or a time in UTC (`2026-11-23`, `2026-11-23T07:15:02Z`).
#[must_use]
pub fn parse(text: &str, now_ms: u64) -> Option<u64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    duration(text).map(|ago| now_ms.saturating_sub(ago)).or_else(|| utc(text))
}

/// The milliseconds of a duration: `90s`, `15m`, `2h`, `3d`.
#[must_use]
pub fn duration(text: &str) -> Option<u64> {
    let unit_ms = match text.chars().next_back()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => DAY_MS,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(unit_ms)
}

fn utc(text: &str) -> Option<u64> {
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    if hour > 23 || minute > 59 || second > 59 || !(1970..=9999).contains(&year) {
        return None;
    }
    let days = days(year, month, day);
    // A day that the month does not have comes back as another one.
    (civil(days) == (year, month, day))
        .then_some(days * DAY_MS + (hour * 3_600 + minute * 60 + second) * 1_000)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(between).map(|part| part.parse().ok()).collect();
    let numbers: [u64; 3] = numbers?.try_into().ok()?;
    numbers.iter().all(|number| *number <= 9_999).then_some(numbers)
}

/// Days since 1970-01-01 of a date from 1970 on, by years that begin in March, so that leap days come last.
/// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.saturating_sub(1);
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).saturating_sub(719_468)
}

/// The other way round.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(shown(0), "1970-01-01 00:00:00Z");
        assert_eq!(shown(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(shown(1_767_945_600_999), "2026-01-09 08:00:00Z");
        assert_eq!(shown(253_402_214_400_000), "9999-12-31 00:00:00Z");
    }

    #[test]
    fn times_are_read_as_they_are_shown_and_as_people_say_them() {
        let now = 1_767_945_600_000;
        assert_eq!(parse("1767945600000", now), Some(now));
        assert_eq!(parse("2026-01-09T08:00:00Z", 0), Some(now));
        assert_eq!(parse("2026-01-09 08:00:00Z", 0), Some(now));
        assert_eq!(parse("2026-01-09", 0), Some(now - 8 * 3_600_000));
        assert_eq!(parse("15m", now), Some(now - 900_000));
        assert_eq!(parse("99999d", now), Some(0), "not before the epoch");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "m",
            "-5m",
            "yesterday",
            "2026-02-29",
            "2026-13-01",
            "2026-01-00",
            "2026-01-09T25:00:00Z",
            "2026-01-09T08:00:00",
            "1969-12-31",
            "99999999999999999d",
            "é",
        ] {
            assert_eq!(parse(text, 0), None, "{text}");
        }
    }
}
