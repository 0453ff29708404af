//! Sizes, counts, lengths of time, money and moments as people read them.

use std::time::Duration;

use dure_types::{Money, Timestamp};

/// `213 KiB`, `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    // 1023.95 would be written as 1024.0.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 || size >= 99.95 { format!("{size:.0} {}", UNITS[unit]) } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// `1,797`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12 ms`, `0.3 s`, `11 s`, `4 min`, `2 min 5 s`, `3 h 12 min`, `2 d 3 h`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs_f64();
    if seconds < 0.0995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        small => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..600 => two(whole / 60, "min", whole % 60, "s"),
        600..3600 => format!("{} min", whole / 60),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

/// A length of time that was given in seconds by someone else; nonsense becomes nothing.
pub fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `$0.0310/h`.
pub fn per_hour(rate: Money) -> String {
    format!("{rate}/h")
}

/// Four significant digits, without zeros that say nothing.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return dure_types::run::number::name(value).unwrap_or("NaN").to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}");
    }
    if value == value.trunc() {
        return format!("{value:.0}");
    }
    let places = match size {
        size if size >= 1000.0 => 1,
        size if size >= 100.0 => 2,
        size if size >= 10.0 => 3,
        size if size >= 0.1 => 4,
        _ => 6,
    };
    let text = format!("{value:.places$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment in this machine's zone: `10:42:05` today, with its date on other days.
pub fn moment(moment: Timestamp) -> String {
    moment_in(moment, now(), &jiff::tz::TimeZone::system())
}

fn moment_in(moment: Timestamp, now: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let read = |moment: Timestamp| jiff::Timestamp::from_microsecond(moment.micros());
    let (Ok(at), Ok(now)) = (read(moment), read(now)) else {
        return moment.to_string();
    };
    let (at, now) = (at.to_zoned_datetime(zone.clone()), now.to_zoned_datetime(zone.clone()));
    if at.date() == now.date() {
        at.strftime("%H:%M:%S").to_string()
    } else {
        at.strftime("%Y-%m-%d %H:%M").to_string()
    }
}

/// The present as the person at this terminal has it: only ever shown, nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the one place where the command line reads the clock")]
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// Text of others made harmless for a terminal: no escape sequence, no line break.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect()
}

/// Control characters, and those that turn the direction of what follows.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines of others made harmless, with their line breaks and tabs.
pub fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

/// Without ` (os error 2)`, which says nothing that the words before it do not say.
pub fn without_errno(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        written.push_str(before);
        let end = after.find(')').filter(|end| after[..*end].bytes().all(|byte| byte.is_ascii_digit()));
        match end {
            Some(end) => rest = &after[end + 1..],
            None => {
                written.push_str(" (os error ");
                rest = after;
            }
        }
    }
    written.push_str(rest);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_fault_is_left_out_and_nothing_else() {
        assert_eq!(without_errno("a: No such file (os error 2); b"), "a: No such file; b");
        assert_eq!(without_errno("x (os error two) (os error"), "x (os error two) (os error");
    }

    #[test]
    fn sizes_carry_units() {
        for (size, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1024, "1.0 KiB"),
            (218_112, "213 KiB"),
            (1_048_575, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(count(1_797), "1,797");
        assert_eq!(count(12), "12");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (length, text) in [
            (0.012, "12 ms"),
            (0.31, "0.3 s"),
            (9.94, "9.9 s"),
            (9.97, "10 s"),
            (59.6, "1 min"),
            (125.0, "2 min 5 s"),
            (11_520.0, "3 h 12 min"),
            (183_600.0, "2 d 3 h"),
        ] {
            assert_eq!(seconds(length), text);
        }
        assert_eq!(seconds(f64::NAN), "0 ms");
        assert_eq!(seconds(-1.0), "0 ms");
    }

    #[test]
    fn numbers_keep_four_digits() {
        for (value, text) in [
            (0.9625, "0.9625"),
            (0.972_222, "0.9722"),
            (20.0, "20"),
            (0.5, "0.5"),
            (1e-7, "1.000e-7"),
            (1234.56, "1234.6"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(f64::NEG_INFINITY), "-Infinity");
    }

    #[test]
    fn a_moment_of_another_day_has_its_date() {
        let zone = jiff::tz::TimeZone::get("Asia/Seoul").unwrap();
        let now: Timestamp = "2026-11-24T08:30:00Z".parse().unwrap();
        let at = |text: &str| moment_in(text.parse().unwrap(), now, &zone);
        assert_eq!(at("2026-11-24T01:42:05Z"), "10:42:05");
        assert_eq!(at("2026-11-23T14:59:00Z"), "2026-11-23 23:59");
    }

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc\u{202e}d"), "a [2Jb  c d");
        assert_eq!(clean_lines("a\tb\n\u{1b}[31m한"), "a\tb\n [31m한");
    }
}
