//! Instants as whole milliseconds.
//!
//! This module never asks what time it is: the rim reads the clock and hands the
//! value in.

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Milliseconds since 1970-01-01T00:00:00Z. Printed as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// 0000-01-01T00:00:00Z: the first instant that can be written as text.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// 9999-12-31T23:59:59.999Z: the last one.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// This instant moved by `ms` milliseconds, stopping at [`Self::MIN`] and [`Self::MAX`]:
    /// what is worked out from an instant can always be stored and read again.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms)).in_range()
    }

    /// The nearest instant that can be written as text.
    const fn in_range(self) -> Self {
        match self.0 {
            ms if ms < Self::MIN.0 => Self::MIN,
            ms if ms > Self::MAX.0 => Self::MAX,
            _ => self,
        }
    }

    /// This instant moved by whole seconds.
    #[must_use]
    pub const fn plus_s(self, s: i64) -> Self {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to this instant; negative if it lies before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The text is not an instant of RFC 3339, or none between [`Timestamp::MIN`] and
/// [`Timestamp::MAX`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time like 2026-11-20T21:05:03Z")]
pub struct ParseTimeError;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
        else {
            return write!(f, "@{}", self.0);
        };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ParseTimeError)?;
        let ms = i64::try_from(at.unix_timestamp_nanos() / 1_000_000);
        let at = ms.map(Self).map_err(|_| ParseTimeError)?;
        // With an offset the years 0 and 9999 reach beyond what UTC can say.
        match at == at.in_range() {
            true => Ok(at),
            false => Err(ParseTimeError),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            // What is stored must be read again, wherever it came from.
            serializer.collect_str(&self.in_range())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_milliseconds_in_utc_and_reads_any_offset() {
        let at = Timestamp(1_795_208_703_120);
        assert_eq!(at.to_string(), "2026-11-20T21:05:03.120Z");
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2026-11-20T22:05:03.120+01:00".parse(), Ok(at));
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn what_utc_cannot_say_is_refused() {
        for (end, text) in [
            (Timestamp::MIN, "0000-01-01T00:00:00.000Z"),
            (Timestamp::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(end.to_string(), text);
            assert_eq!(text.parse(), Ok(end));
        }
        for beyond in ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+01:00"] {
            assert_eq!(beyond.parse::<Timestamp>(), Err(ParseTimeError), "{beyond}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_worked_out_and_stored_is_read_again(at: i64, ms: i64) {
            let moved = Timestamp(at).plus_ms(ms);
            proptest::prop_assert_eq!(moved.to_string().parse(), Ok(moved));
            let stored = serde_json::to_string(&Timestamp(at)).unwrap();
            let read: Timestamp = serde_json::from_str(&stored).unwrap();
            proptest::prop_assert_eq!(read, Timestamp(at).in_range());
        }

        #[test]
        fn what_is_read_is_read_again(
            day in "(0000-01-01|9999-12-31|1970-01-01)",
            time in "(00:00:00|23:59:59|23:59:60)(\\.[0-9]{1,9})?",
            zone in "(Z|[+-](00|01|23):(00|59))",
        ) {
            if let Ok(at) = format!("{day}T{time}{zone}").parse::<Timestamp>() {
                proptest::prop_assert_eq!(at.to_string().parse(), Ok(at));
            }
        }
    }
}
