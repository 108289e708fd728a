//! Units live in values: `"250ms"`, `"64MiB"`, `"20%"`. A bare number is a count. Errors are sentences that show the right form.

use std::time::Duration;

/// Longer spans are refused: sums stay far from overflow. A bound must be able to cover the largest `Age` there is, 2^31 s.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A span of time such as `250ms`, `30s`, `1h 30m`, as the humantime crate reads it, at most a hundred years.
///
/// # Errors
/// A sentence that says what is wrong and what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "a duration needs a unit (did you mean \"{text}s\" or \"{text}ms\"?)"
        ));
    }
    let span = humantime::parse_duration(text)
        .map_err(|_| format!("expected a duration like \"250ms\", \"30s\" or \"1h\", found \"{text}\""))?;
    if span > LONGEST {
        return Err(format!("\"{text}\" is longer than a hundred years"));
    }
    Ok(span)
}

const SIZES: [(&str, u64); 5] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("B", 1),
];

/// A number of bytes such as `512B`, `32KiB`, `64MiB`.
///
/// # Errors
/// A sentence that says what is wrong and what a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    if number.is_empty() {
        return Err(format!("expected a size like \"32KiB\" or \"64MiB\", found \"{text}\""));
    }
    if unit.is_empty() {
        return Err(format!(
            "a size needs a unit (did you mean \"{text}B\" or \"{text}MiB\"?)"
        ));
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let initial = unit.chars().next().unwrap_or(' ').to_ascii_uppercase();
        let near = SIZES.iter().find(|(name, _)| name.starts_with(initial));
        let hint = near.map_or_else(String::new, |(name, _)| format!(" (did you mean \"{number}{name}\"?)"));
        return Err(format!(
            "unknown unit \"{unit}\", expected B, KiB, MiB, GiB or TiB{hint}"
        ));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(*factor))
        .ok_or_else(|| format!("\"{text}\" is too large"))
}

/// A share such as `20%`, from 0 to 100.
///
/// # Errors
/// A sentence that says what is wrong and what a percentage looks like.
pub fn percent(text: &str) -> Result<u32, String> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(format!("expected a percentage like \"20%\", found \"{text}\""));
    };
    match number.trim().parse::<u32>() {
        Ok(n) if n <= 100 => Ok(n),
        Ok(_) => Err(format!("\"{text}\" is more than \"100%\"")),
        Err(_) => Err(format!("expected a whole percentage like \"20%\", found \"{text}\"")),
    }
}

/// The shortest form of a span that [`duration`] reads back.
#[must_use]
pub fn show_duration(span: Duration) -> String {
    match (span.as_secs(), span.subsec_nanos()) {
        (s, 0) if s > 0 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        (s, 0) => format!("{s}s"),
        (_, ns) if ns % 1_000_000 == 0 => format!("{}ms", span.as_millis()),
        (_, ns) if ns % 1000 == 0 => format!("{}us", span.as_micros()),
        _ => format!("{}ns", span.as_nanos()),
    }
}

/// The shortest form of a size that [`size`] reads back.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let best = SIZES
        .iter()
        .rev()
        .skip(1)
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    best.or(SIZES.last())
        .map_or_else(String::new, |(name, factor)| format!("{}{name}", bytes / factor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_read_what_the_interface_shows() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1h", 3_600_000),
            ("0s", 0),
            ("1h 30m", 5_400_000),
            ("2min", 120_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, bytes) in [
            ("512B", 512),
            ("32KiB", 32 << 10),
            ("64MiB", 64 << 20),
            ("2GiB", 2 << 30),
            ("1 TiB", 1 << 40),
            ("0B", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, n) in [("0%", 0), ("20%", 20), ("100%", 100)] {
            assert_eq!(percent(text), Ok(n), "{text}");
        }
    }

    #[test]
    fn wrong_units_are_told_the_right_ones() {
        for (error, part) in [
            (duration("30").unwrap_err(), "\"30s\" or \"30ms\""),
            (duration("").unwrap_err(), "expected a duration"),
            (duration("soon").unwrap_err(), "expected a duration"),
            (duration("-1s").unwrap_err(), "expected a duration"),
            (duration("99999999999999999999s").unwrap_err(), "expected a duration"),
            (duration("101years").unwrap_err(), "a hundred years"),
            (size("64MB").unwrap_err(), "did you mean \"64MiB\""),
            (size("64").unwrap_err(), "\"64B\""),
            (size("big").unwrap_err(), "expected a size"),
            (size("").unwrap_err(), "expected a size"),
            (size("99999999TiB").unwrap_err(), "too large"),
            (size("1zz").unwrap_err(), "unknown unit"),
            (percent("20").unwrap_err(), "like \"20%\""),
            (percent("120%").unwrap_err(), "more than"),
            (percent("0.5%").unwrap_err(), "whole percentage"),
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for us in [
            0,
            1,
            999,
            1000,
            1500,
            250_000,
            1_000_000,
            61_000_000,
            3_600_000_000,
            5_400_000_000,
        ] {
            let span = Duration::from_micros(us);
            assert_eq!(duration(&show_duration(span)), Ok(span));
        }
        assert_eq!(show_duration(Duration::from_secs(3600)), "1h");
        for bytes in [0, 1, 1023, 1024, 1536, 8 << 20, 3 << 40, u64::MAX] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(1536), "1536B");
    }
}
