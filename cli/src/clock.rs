//! The clock, and times as people read them.

use longshore_common::time::Timestamp;
use std::time::SystemTime;

/// Now.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_or(0, |d| d.as_millis());
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

struct Local {
    year: i32,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
}

fn local(at: Timestamp) -> Option<Local> {
    let seconds: libc::time_t = at.0.div_euclid(1000);
    let mut out = std::mem::MaybeUninit::<libc::tm>::uninit();
    // The rules of the machine's time zone are known to the C library alone.
    // SAFETY: both pointers are valid for the call, which keeps neither of them; no
    // thread of this program changes the environment that it reads. `out` is read
    // only when the call says that it was written.
    #[allow(unsafe_code)]
    let tm = unsafe {
        if libc::localtime_r(&raw const seconds, out.as_mut_ptr()).is_null() {
            return None;
        }
        out.assume_init()
    };
    Some(Local {
        year: tm.tm_year + 1900,
        month: tm.tm_mon + 1,
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
    })
}

/// The next instant at which clocks here show this time of day.
pub(crate) fn next(hour: u32, minute: u32) -> Timestamp {
    let now = now();
    let Some(shown) = local(now) else {
        return now;
    };
    let of_day = i64::from(shown.hour) * 3600 + i64::from(shown.minute) * 60;
    let of_day = of_day + i64::from(shown.second);
    let wanted = i64::from(hour) * 3600 + i64::from(minute) * 60;
    now.plus_s((wanted - of_day).rem_euclid(86_400))
}

/// Local date and time to the second.
pub(crate) fn full(at: Timestamp) -> String {
    match local(at) {
        Some(t) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            t.year, t.month, t.day, t.hour, t.minute, t.second
        ),
        None => at.to_string(),
    }
}

/// Local time, with the date unless that is today's: `22:05`, `11-20 22:05`.
pub(crate) fn short(at: Timestamp) -> String {
    match (local(at), local(now())) {
        (Some(t), Some(today))
            if (t.year, t.month, t.day) == (today.year, today.month, today.day) =>
        {
            format!("{:02}:{:02}", t.hour, t.minute)
        }
        (Some(t), Some(today)) if t.year == today.year => {
            format!("{:02}-{:02} {:02}:{:02}", t.month, t.day, t.hour, t.minute)
        }
        (Some(t), _) => {
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}",
                t.year, t.month, t.day, t.hour, t.minute
            )
        }
        (None, _) => at.to_string(),
    }
}

/// A stretch of time: `45 s`, `11m`, `3h12m`, `2d4h`.
pub(crate) fn span(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    let (d, h, m) = (s / 86_400, s % 86_400 / 3600, s % 3600 / 60);
    match () {
        () if s < 60 => format!("{s} s"),
        () if d == 0 && h == 0 => match s % 60 {
            rest if m < 10 && rest > 0 => format!("{m}m{rest:02}s"),
            _ => format!("{m}m"),
        },
        () if d == 0 && m == 0 => format!("{h}h"),
        () if d == 0 => format!("{h}h{m:02}m"),
        () if h == 0 => format!("{d}d"),
        () => format!("{d}d{h}h"),
    }
}

/// How long ago.
pub(crate) fn ago(at: Timestamp) -> String {
    span(now().since(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let table = [
            (900, "0 s"),
            (45_000, "45 s"),
            (125_000, "2m05s"),
            (11 * 60_000, "11m"),
            (3_600_000, "1h"),
            (3 * 3_600_000 + 12 * 60_000, "3h12m"),
            (86_400_000, "1d"),
            (100 * 3_600_000, "4d4h"),
            (-5, "0 s"),
        ];
        for (ms, text) in table {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn a_local_time_has_the_form_of_a_time() {
        let text = full(Timestamp(1_795_208_703_120));
        assert_eq!(text.len(), "2026-11-20 21:05:03".len());
        assert!(text.starts_with("2026-11-2"));
    }
}
