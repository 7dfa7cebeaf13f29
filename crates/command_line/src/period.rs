//! Lengths of time as people write them: `0.5`, `500ms`, `2s`, `1m`, `1h`. Exact to the nanosecond, without floats.
//!
//! Says nothing about which lengths a setting allows.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The units and their nanoseconds; a longer name stands before one that it ends with.
const UNITS: [(&str, u128); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60 * 1_000_000_000), ("h", 3600 * 1_000_000_000)];

/// The unit of a bare number: a second.
const DEFAULT_UNIT: u128 = 1_000_000_000;

/// More digits than this on either side of the point are a slip, and need not fit any number.
const MAX_DIGITS: usize = 15;

/// A length of time as it was given, not yet held against any bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Period(
    /// The length.
    pub Duration,
);

/// What was given is no length of time.
#[derive(Debug, thiserror::Error)]
#[error("write seconds, as 0.5, or a number with its unit ms, s, m or h, as 500ms or 2m")]
pub struct PeriodError;

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let with_unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
        let (number, unit) = with_unit.unwrap_or((text, DEFAULT_UNIT));
        let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
        let places = u32::try_from(fraction.len()).map_err(|_| PeriodError)?;
        let nanoseconds = digits(whole)? * unit + digits(fraction)? * unit / 10_u128.pow(places);
        u64::try_from(nanoseconds)
            .map(|nanoseconds| Self(Duration::from_nanos(nanoseconds)))
            .map_err(|_| PeriodError)
    }
}

/// One digit at least; `str::parse` alone would take a sign, too.
fn digits(text: &str) -> Result<u128, PeriodError> {
    if text.len() > MAX_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PeriodError);
    }
    text.parse().map_err(|_| PeriodError)
}

impl fmt::Display for Period {
    /// Below a second in milliseconds, else in seconds; reads back as the same length.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let (name, unit) = if (1..UNITS[1].1).contains(&nanoseconds) { UNITS[0] } else { UNITS[1] };
        write!(formatter, "{}", nanoseconds / unit)?;
        let rest = nanoseconds % unit;
        if rest > 0 {
            // As many places as the unit has digits behind the first one.
            let places = unit.ilog10() as usize;
            write!(formatter, ".{}", format!("{rest:0places$}").trim_end_matches('0'))?;
        }
        formatter.write_str(name)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeriodVisitor)
    }
}

/// Takes a string, or a number of seconds.
struct PeriodVisitor;

impl de::Visitor<'_> for PeriodVisitor {
    type Value = Period;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of seconds, or a string as \"500ms\" or \"2m\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
        text.parse().map_err(|error| E::custom(format!("'{text}' is no length of time: {error}")))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Period, E> {
        self.visit_str(&seconds.to_string())
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Period, E> {
        self.visit_str(&seconds.to_string())
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Period, E> {
        // The shortest decimal form is the number as it was written.
        self.visit_str(&seconds.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanoseconds(text: &str) -> Option<u128> {
        text.parse::<Period>().ok().map(|period| period.0.as_nanos())
    }

    #[test]
    fn lengths_are_exact() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            ("0.1s", 100_000_000),
            ("500ms", 500_000_000),
            ("1.5 ms", 1_500_000),
            ("2s", 2_000_000_000),
            ("1m", 60_000_000_000),
            ("0.5m", 30_000_000_000),
            ("10 m", 600_000_000_000),
            ("1.25h", 4_500_000_000_000),
            ("0.000000001", 1),
            ("0.0000000001", 0),
            ("18446744073.709551615", u128::from(u64::MAX)),
        ] {
            assert_eq!(nanoseconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in [
            "",
            " ",
            "s",
            "ms",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e3",
            "NaN",
            "inf",
            "1 d",
            "5x",
            "1m30s",
            "1.2.3",
            "0x1",
            "18446744073.709551616",
            "9999999999999999",
            "0.9999999999999999",
            "٣",
        ] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
        assert_eq!(
            "5x".parse::<Period>().unwrap_err().to_string(),
            "write seconds, as 0.5, or a number with its unit ms, s, m or h, as 500ms or 2m"
        );
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "0.000001ms"),
            (500_000_000, "500ms"),
            (999_999_999, "999.999999ms"),
            (1_000_000_000, "1s"),
            (1_050_000_000, "1.05s"),
            (60_000_000_000, "60s"),
            (u64::MAX, "18446744073.709551615s"),
        ] {
            let period = Period(Duration::from_nanos(nanoseconds));
            assert_eq!(period.to_string(), expected);
            assert_eq!(expected.parse::<Period>().unwrap(), period);
        }
    }

    #[test]
    fn a_file_may_give_a_number_or_a_string() {
        #[derive(Deserialize)]
        struct File {
            period: Period,
        }
        let read = |value: &str| {
            let file: Result<File, _> = toml::from_str(&format!("period = {value}"));
            file.map(|file| file.period.0.as_millis()).map_err(|error| error.message().to_owned())
        };
        for (value, expected) in [("2", 2000), ("0.1", 100), ("'1.5s'", 1500), ("\"2m\"", 120_000)] {
            assert_eq!(read(value), Ok(expected), "{value}");
        }
        for value in ["-1", "nan", "'soon'", "1e300"] {
            assert!(read(value).unwrap_err().contains("is no length of time"), "{value}");
        }
        assert!(read("true").unwrap_err().contains("a number of seconds"));
    }
}
