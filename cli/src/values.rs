//! Reading what people type: durations, session ids, environment files, pairs.

use longshore_common::api::{NewArray, NewPort, SignalBefore};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_common::wire::SIGNALS;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// Reads `90m`, `1h30m`, `2d`, `30s` or `45` (seconds).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let form = || {
        format!(
            "\"{}\" is not a duration: write 45, 30s, 90m, 1h30m or 2d",
            short(text)
        )
    };
    if text.is_empty() || text.len() > 32 {
        return Err(form());
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    let mut seconds: u64 = 0;
    let mut number = String::new();
    let mut last = u64::MAX;
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(form()),
        };
        // Each unit once, the large ones first: 30m1h is a slip, not a wish.
        if unit >= last {
            return Err(form());
        }
        last = unit;
        let value: u64 = number.parse().map_err(|_| form())?;
        number.clear();
        seconds = value
            .checked_mul(unit)
            .and_then(|v| seconds.checked_add(v))
            .filter(|v| *v <= 315_360_000)
            .ok_or_else(|| format!("\"{}\" is longer than ten years", short(text)))?;
    }
    if number.is_empty() {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(form())
    }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// How a session is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionRef {
    /// `s-42` or `42`.
    Id(SessionId),
    /// A name of one's own.
    Name(String),
    /// `@` is my latest, `@2` the one before.
    Latest(u32),
}

impl FromStr for SessionRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "\"{}\" is not a session: write s-42, 42, a name, @ or @2",
                short(text)
            )
        };
        if let Some(back) = text.strip_prefix('@') {
            return match back {
                "" => Ok(Self::Latest(1)),
                back => match back.parse() {
                    Ok(n @ 1..=1000) => Ok(Self::Latest(n)),
                    Ok(_) | Err(_) => Err(form()),
                },
            };
        }
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let task = text
            .split_once('.')
            .is_some_and(|(n, i)| number(n) && number(i));
        if number(text) || task {
            return format!("s-{text}")
                .parse()
                .map(Self::Id)
                .map_err(|_| form());
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let first = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.bytes().all(good) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(form())
        }
    }
}

/// Sessions as one word: what [`SessionRef`] reads, or `s-42.3-9` for some tasks of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRefs(pub(crate) Vec<SessionRef>);

/// Tasks that one word may name: what one array may have unless its coordinator says otherwise.
const MOST_TASKS: u32 = 10_000;

impl FromStr for SessionRefs {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let range = || {
            let (array, range) = text.split_once('.')?;
            let (first, last) = range.split_once('-')?;
            let number = array.strip_prefix("s-").unwrap_or(array);
            let array: SessionId = format!("s-{number}").parse().ok()?;
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            (last <= SessionId::MAX_TASK).then_some((array, first, last))
        };
        let Some((array, first, last)) = range() else {
            return text.parse().map(|one| Self(vec![one]));
        };
        if first > last || last - first >= MOST_TASKS {
            let text = short(text);
            return Err(format!(
                "\"{text}\" is not 1 to {MOST_TASKS} tasks: write s-42.3-9"
            ));
        }
        let tasks = (first..=last).map(|index| SessionRef::Id(array.task(index)));
        Ok(Self(tasks.collect()))
    }
}

/// The sessions of all words, in their order.
pub(crate) fn each(words: &[SessionRefs]) -> Vec<SessionRef> {
    words
        .iter()
        .flat_map(|word| word.0.iter().cloned())
        .collect()
}

/// Reads `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("\"{}\" is not of the form NAME=VALUE", short(text))),
    }
}

/// Reads `--env K=V`, or `--env K`, which takes the value from `own`.
pub(crate) fn env_pair(
    text: &str,
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, String), String> {
    if text.contains('=') {
        return pair(text);
    }
    match own(text) {
        Some(value) => Ok((text.to_owned(), value)),
        None => Err(format!("{} is not set here: write {0}=VALUE", short(text))),
    }
}

/// Reads a file of variables: one `K=V` or `K` a line, `#` at the start of a line is a
/// comment, values are taken as they stand, quotation marks included.
pub(crate) fn env_file(
    text: &str,
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = env_pair(line, own).map_err(|e| format!("line {}: {e}", index + 1))?;
        variables.insert(name, value);
    }
    Ok(variables)
}

/// What `--gpu` means: a whole number of GPUs, or a part of one.
pub(crate) fn gpu(text: &str) -> Result<Option<(String, String)>, String> {
    let milli = longshore_common::amount::parse_milli(text).map_err(|e| e.to_string())?;
    if milli == 0 && text.trim_matches(['0', '.']).is_empty() {
        return Ok(None);
    }
    let slot = if milli > 0 && milli % 1000 == 0 {
        "cuda.device"
    } else {
        "cuda.shares"
    };
    let amount = if slot == "cuda.device" {
        (milli / 1000).to_string()
    } else {
        text.to_owned()
    };
    Ok(Some((slot.to_owned(), amount)))
}

/// Reads `ID`, `ID:ok`, `ID:any` or `ID:fail`; a number alone is the id of a session.
pub(crate) fn after(text: &str) -> Result<(String, Option<String>), String> {
    let (id, how) = match text.split_once(':') {
        Some((id, how)) => (id, Some(how)),
        None => (text, None),
    };
    if let Some(how) = how.filter(|how| !["ok", "any", "fail"].contains(how)) {
        return Err(format!(
            "\"{}\" is not a way to end: write ok, any or fail",
            short(how)
        ));
    }
    let id = match id.parse::<SessionRef>()? {
        SessionRef::Id(id) => id.to_string(),
        SessionRef::Name(name) => name,
        SessionRef::Latest(_) => return Err("write the id of the session here".to_owned()),
    };
    Ok((id, how.map(str::to_owned)))
}

/// A moment: a time, or so long from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instant {
    /// A time.
    At(Timestamp),
    /// From now on.
    In(Duration),
}

impl Instant {
    /// The time, seen from `now`.
    pub(crate) fn since(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::In(time) => now.plus_s(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
        }
    }
}

/// Reads `2026-11-20T21:00:00Z` or `+2h`.
pub(crate) fn instant(text: &str) -> Result<Instant, String> {
    if let Some(rest) = text.strip_prefix('+') {
        return duration(rest).map(Instant::In);
    }
    text.parse().map(Instant::At).map_err(|_| {
        format!(
            "\"{}\" is not a time: write 2026-11-20T21:00:00Z or +2h",
            short(text)
        )
    })
}

/// The tasks of an array: `0-99`, or `0-99%8` for at most eight at a time.
pub(crate) fn array(text: &str) -> Result<NewArray, String> {
    let form = || format!("\"{}\" is no array: write 0-99 or 0-99%8", short(text));
    let (range, parallel) = match text.split_once('%') {
        Some((range, most)) => (range, Some(most.parse().map_err(|_| form())?)),
        None => (text, None),
    };
    let good = |b: u8| b.is_ascii_digit() || b == b'-';
    if range.is_empty() || !range.bytes().all(good) || parallel.is_some_and(|n: i64| n < 1) {
        return Err(form());
    }
    Ok(NewArray {
        range: range.to_owned(),
        parallel,
    })
}

/// A port inside: `8000`, `web=8000`, `web=8000/http`. Without a name it is called after its
/// number.
pub(crate) fn port(text: &str) -> Result<NewPort, String> {
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) => (Some(name), rest),
        None => (None, text),
    };
    let (number, protocol) = match rest.split_once('/') {
        Some((number, protocol)) => (number, Some(protocol.to_owned())),
        None => (rest, None),
    };
    let port = number.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or("expected [NAME=]PORT, a port from 1 to 65535")?;
    Ok(NewPort {
        name: name.map_or_else(|| format!("port-{port}"), str::to_owned),
        protocol,
        port: i64::from(port),
        command: Vec::new(),
    })
}

/// Reads `USR1@5m`, or `USR1`: the signal, and how long before.
pub(crate) fn signal_before(text: &str) -> Result<SignalBefore, String> {
    let (signal, lead) = match text.split_once('@') {
        Some((signal, lead)) => (signal, Some(duration(lead)?)),
        None => (text, None),
    };
    let signal = signal.to_ascii_uppercase();
    let signal = signal.strip_prefix("SIG").unwrap_or(&signal);
    if !SIGNALS.contains(&signal) {
        return Err(format!("a signal is one of {}", SIGNALS.join(", ")));
    }
    Ok(SignalBefore {
        signal: signal.to_owned(),
        lead_s: lead.map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
    })
}

/// An app that the coordinator knows how to start.
pub(crate) fn app(text: &str) -> Result<NewPort, String> {
    let port = match text {
        "jupyter" | "jupyterlab" => 8888,
        "code" => 8080,
        "tensorboard" => 6006,
        _ => return Err("expected jupyter, jupyterlab, code or tensorboard".to_owned()),
    };
    Ok(NewPort {
        name: text.to_owned(),
        protocol: Some("http".to_owned()),
        port,
        command: Vec::new(),
    })
}

/// Checks a size and keeps it as it was written; the server reads it again.
pub(crate) fn size(text: &str) -> Result<String, String> {
    longshore_common::amount::parse_bytes(text)
        .map(|_| text.to_owned())
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_name_a_number_and_maybe_a_protocol() {
        let bare = port("8000").unwrap();
        assert_eq!((bare.name.as_str(), bare.port), ("port-8000", 8000));
        let web = port("web=80/http").unwrap();
        assert_eq!((web.name.as_str(), web.port), ("web", 80));
        assert_eq!(web.protocol.as_deref(), Some("http"));
        assert!(port("web").is_err() && port("web=0").is_err() && port("web=70000").is_err());
        assert_eq!(app("jupyter").unwrap().port, 8888);
        assert!(app("emacs").is_err());
    }

    #[test]
    fn durations() {
        let table = [
            ("45", 45),
            ("30s", 30),
            ("90m", 5400),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1d2h3m4s", 93_784),
            ("0", 0),
        ];
        for (text, seconds) in table {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "h",
            "1x",
            "-5",
            "1.5h",
            "30m1h",
            "1h1h",
            "1h30",
            "99999999d",
            "１h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sessions() {
        assert_eq!("s-42".parse(), Ok(SessionRef::Id(SessionId(42))));
        assert_eq!("42".parse(), Ok(SessionRef::Id(SessionId(42))));
        let some = |text: &str| text.parse::<SessionRefs>().map(|refs| refs.0);
        let task = |index| SessionRef::Id(SessionId(42).task(index));
        assert_eq!(some("s-42.3-5"), Ok(vec![task(3), task(4), task(5)]));
        assert_eq!(some("42.7-7"), Ok(vec![task(7)]));
        assert_eq!(some("s-42.7"), Ok(vec![task(7)]));
        assert_eq!(
            some("a.3-5"),
            Ok(vec![SessionRef::Name("a.3-5".to_owned())])
        );
        assert!(some("s-42.5-3").is_err() && some("s-42.0-10000").is_err());
        let task = SessionId(42).task(7);
        assert_eq!("s-42.7".parse(), Ok(SessionRef::Id(task)));
        assert_eq!("42.7".parse(), Ok(SessionRef::Id(task)));
        assert_eq!("@".parse(), Ok(SessionRef::Latest(1)));
        assert_eq!("@2".parse(), Ok(SessionRef::Latest(2)));
        assert_eq!(
            "train-vit".parse(),
            Ok(SessionRef::Name("train-vit".into()))
        );
        for text in ["", "@0", "@x", "0", "a/b", "../x", "Train", "-x", "a b"] {
            assert!(text.parse::<SessionRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn variables() {
        let own = |name: &str| (name == "HOME").then(|| "/home/dana".to_owned());
        let file = "# comment\n\nA=1\n  B= two words \nHOME\nC=x=y\n";
        let read = env_file(file, &own).unwrap();
        assert_eq!(read["A"], "1");
        assert_eq!(read["B"], " two words ");
        assert_eq!(read["HOME"], "/home/dana");
        assert_eq!(read["C"], "x=y");
        let error = env_file("A=1\nNOPE\n", &own).unwrap_err();
        assert_eq!(error, "line 2: NOPE is not set here: write NOPE=VALUE");
        assert!(env_pair("=x", &own).is_err());
    }

    #[test]
    fn dependencies_and_times() {
        let dependency = |id: &str, how: Option<&str>| Ok((id.to_owned(), how.map(str::to_owned)));
        assert_eq!(after("s-4"), dependency("s-4", None));
        let array = array("0-99%8").map(|a| (a.range, a.parallel));
        assert_eq!(array, Ok(("0-99".to_owned(), Some(8))));
        assert!(super::array("7").is_ok_and(|a| a.parallel.is_none()));
        for bad in ["", "%3", "0-9%", "0-9%0", "a-b", "0..9"] {
            assert!(super::array(bad).is_err(), "{bad}");
        }
        assert_eq!(after("4:any"), dependency("s-4", Some("any")));
        assert_eq!(after("train:fail"), dependency("train", Some("fail")));
        assert!(after("4:soon").is_err() && after("@").is_err());
        let now = Timestamp(1000);
        assert_eq!(instant("+2s").unwrap().since(now), Timestamp(3000));
        let at = instant("1970-01-01T00:00:05Z").unwrap();
        assert_eq!(at.since(now), Timestamp(5000));
        assert!(instant("tomorrow").is_err());
    }

    #[test]
    fn a_signal_and_how_long_before() {
        let read = |text| signal_before(text).map(|wish| (wish.signal, wish.lead_s));
        assert_eq!(read("USR1@5m"), Ok(("USR1".to_owned(), Some(300))));
        assert_eq!(read("sigterm"), Ok(("TERM".to_owned(), None)));
        assert!(read("KILL").is_err() && read("USR1@soon").is_err());
    }

    #[test]
    fn gpus() {
        let slot = |name: &str, amount: &str| Ok(Some((name.to_owned(), amount.to_owned())));
        assert_eq!(gpu("2"), slot("cuda.device", "2"));
        assert_eq!(gpu("1.0"), slot("cuda.device", "1"));
        assert_eq!(gpu("0.5"), slot("cuda.shares", "0.5"));
        assert_eq!(gpu("1/7"), slot("cuda.shares", "1/7"));
        assert_eq!(gpu("0"), Ok(None));
        assert!(gpu("all").is_err());
        assert!(size("16G").is_ok() && size("16 X").is_err());
    }
}
