//! Reading the members of a request: all that is wrong with them is said at once.

use super::super::event::Refusal;
use super::super::submit::{cut, pointer};
use longshore_common::admin::{Member, Size, SlotTexts};
use longshore_common::amount::{
    AmountError, MAX_BYTES, MAX_MILLI, SlotKind, SlotLimits, SlotName, UNIT, parse_bytes,
};
use longshore_common::api::MemberError;
use longshore_common::ids::{SessionId, is_handle};
use longshore_common::session::UnknownWord;
use serde_json::Value;
use std::collections::BTreeSet;
use std::str::FromStr;

/// What a request says of a member: nothing, take it away, or a value.
pub(super) type Said<T> = Option<Option<T>>;

/// The longest description, in characters.
pub(super) const DESCRIPTION: usize = 500;
/// The longest name, in characters.
const NAME: usize = 64;

/// What 0 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    /// The same as null: no limit.
    Lifts,
    /// It is a value.
    Counts,
}

/// The largest amounts a map of limits may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caps {
    /// Of a keypair policy.
    Policy,
    /// Of a project or domain: whatever an amount may be.
    Total,
}

impl Caps {
    /// The largest amount, and how it is written.
    fn of(self, slot: &SlotName) -> (i64, String) {
        let units = |n: i64| (n * UNIT, n.to_string());
        let whole_device = slot.variant() == "device" || slot.as_str() == "rocm";
        match (self, slot.kind()) {
            (Self::Policy, SlotKind::Bytes) => (1 << 40, "1024g".to_owned()),
            (Self::Policy, SlotKind::Unique) => units(64),
            (Self::Policy, SlotKind::Fraction) => units(256),
            (Self::Policy, SlotKind::Count) if slot.as_str() == "cpu" => units(512),
            (Self::Policy, SlotKind::Count) if whole_device => units(64),
            (Self::Total, SlotKind::Bytes) => (MAX_BYTES, MAX_BYTES.to_string()),
            _ => (MAX_MILLI, (MAX_MILLI / UNIT).to_string()),
        }
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Reader {
    errors: Vec<MemberError>,
    prefix: String,
}

impl Reader {
    /// The same for members of an object inside the request.
    pub(super) fn within<T>(&mut self, prefix: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.prefix.len();
        self.prefix.push_str(prefix);
        let done = work(self);
        self.prefix.truncate(length);
        done
    }

    pub(super) fn wrong(&mut self, pointer: &str, message: impl Into<String>) {
        self.errors.push(MemberError {
            pointer: format!("{}{pointer}", self.prefix),
            message: message.into(),
            ..MemberError::default()
        });
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_good(&self) -> bool {
        self.errors.is_empty()
    }

    /// Everything was good, or the refusal with all that was not.
    pub(super) fn done(self) -> Result<(), Refusal> {
        let detail = match self.errors.as_slice() {
            [] => return Ok(()),
            [one] => one.message.clone(),
            many => format!("{} members of the request are not valid.", many.len()),
        };
        Err(Refusal {
            errors: self.errors,
            ..Refusal::new("LS-INVALID", detail)
        })
    }

    /// A member of whatever kind, unless it is of a wrong one.
    fn given<'m, T>(&mut self, field: &str, member: &'m Member<T>, kind: &str) -> Said<&'m T> {
        match member {
            Member::Absent => None,
            Member::Null => Some(None),
            Member::Value(value) => Some(Some(value)),
            Member::Wrong(_) => {
                self.wrong(&format!("/{field}"), format!("{field} must be {kind}."));
                None
            }
        }
    }

    /// A whole number from 0 to `max`.
    pub(super) fn count(
        &mut self,
        field: &str,
        member: &Member<i64>,
        max: i64,
        zero: Zero,
    ) -> Said<i64> {
        let said = self.whole(field, member, 0, max)?;
        Some(said.filter(|v| *v != 0 || zero == Zero::Counts))
    }

    /// The most there may be of something: [`Self::count`] where no value means no limit, which
    /// may be written out here as in a map of amounts.
    pub(super) fn limit(
        &mut self,
        field: &str,
        member: &Member<i64>,
        max: i64,
        zero: Zero,
    ) -> Said<i64> {
        match member {
            Member::Wrong(Value::String(text)) if is_no_limit(text) => Some(None),
            _ => self.count(field, member, max, zero),
        }
    }

    /// A whole number in a range.
    pub(super) fn whole(
        &mut self,
        field: &str,
        member: &Member<i64>,
        min: i64,
        max: i64,
    ) -> Said<i64> {
        let value = match member {
            Member::Absent => return None,
            Member::Null => return Some(None),
            Member::Value(value) => Ok(*value),
            Member::Wrong(Value::Number(number)) => whole_of(number),
            Member::Wrong(_) => Err(false),
        };
        match value {
            Ok(value) if (min..=max).contains(&value) => return Some(Some(value)),
            Ok(_) | Err(true) => self.wrong(
                &format!("/{field}"),
                format!("{field} must be between {min} and {max}."),
            ),
            Err(false) => {
                self.wrong(
                    &format!("/{field}"),
                    format!("{field} must be a whole number."),
                );
            }
        }
        None
    }

    pub(super) fn flag(&mut self, field: &str, member: &Member<bool>) -> Said<bool> {
        Some(self.given(field, member, "true or false")?.copied())
    }

    /// A text without outer blanks, of at most so many characters, none of them a control one.
    pub(super) fn text(
        &mut self,
        field: &str,
        member: &Member<String>,
        max: usize,
    ) -> Said<String> {
        let Some(text) = self.given(field, member, "text")? else {
            return Some(None);
        };
        let text = text.trim();
        if text.chars().count() > max {
            self.wrong(
                &format!("/{field}"),
                format!("{field} must be at most {max} characters."),
            );
            return None;
        }
        if text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            let message = format!("{field} must not hold control characters.");
            self.wrong(&format!("/{field}"), message);
            return None;
        }
        Some(Some(text.to_owned()))
    }

    /// One of some words, in any case.
    pub(super) fn word<T: FromStr<Err = UnknownWord>>(
        &mut self,
        field: &str,
        member: &Member<String>,
    ) -> Said<T> {
        let Some(text) = self.given(field, member, "text")? else {
            return Some(None);
        };
        match text.trim().parse() {
            Ok(word) => Some(Some(word)),
            Err(error) => {
                self.wrong(
                    &format!("/{field}"),
                    format!("{field} must be one of {}.", error.known),
                );
                None
            }
        }
    }

    pub(super) fn object<'m, T>(&mut self, field: &str, member: &'m Member<T>) -> Said<&'m T> {
        self.given(field, member, "an object of its members")
    }

    pub(super) fn list<'m, T>(&mut self, field: &str, member: &'m Member<Vec<T>>) -> Said<&'m [T]> {
        Some(self.given(field, member, "a list")?.map(Vec::as_slice))
    }

    /// A number of bytes up to `max`; 0 is the same as null.
    pub(super) fn size(&mut self, field: &str, member: &Member<Size>, max: i64) -> Said<i64> {
        let Some(Size(text)) =
            self.given(field, member, "a number of bytes, or text such as 1.5g")?
        else {
            return Some(None);
        };
        let between = |max: i64| format!("{field} must be between 0 and {}.", bytes_text(max));
        let message = match parse_bytes(text.trim()) {
            Ok(0) => return Some(None),
            Ok(bytes) if bytes <= max => return Some(Some(bytes)),
            Ok(_) | Err(AmountError::TooLarge { .. }) => between(max),
            Err(_) if text.trim().starts_with('-') => between(max),
            Err(error) => format!("{error}."),
        };
        self.wrong(&format!("/{field}"), message);
        None
    }

    /// The most bytes there may be of something: [`Self::size`] where no value means no limit.
    pub(super) fn limit_size(&mut self, field: &str, member: &Member<Size>, max: i64) -> Said<i64> {
        match member {
            Member::Value(Size(text)) if is_no_limit(text) => Some(None),
            _ => self.size(field, member, max),
        }
    }

    /// Limits per slot, to be merged into those there are; outer null takes all of them away.
    pub(super) fn limits(
        &mut self,
        field: &str,
        member: &Member<SlotTexts>,
        caps: Caps,
    ) -> Said<Vec<(SlotName, Option<i64>)>> {
        let Some(texts) = self.given(field, member, "amounts per slot")? else {
            return Some(None);
        };
        if texts.len() > NAME {
            self.wrong(
                &format!("/{field}"),
                format!("{field} names more than 64 slots."),
            );
            return None;
        }
        let mut limits = Vec::with_capacity(texts.len());
        for (name, member) in texts {
            let at = pointer(&format!("/{field}"), name);
            let slot: SlotName = match name.parse() {
                Ok(slot) => slot,
                Err(error) => {
                    self.wrong(&at, format!("{error}."));
                    continue;
                }
            };
            match limit(&slot, member, caps) {
                Ok(limit) => limits.push((slot, limit)),
                Err(why) => {
                    let message = match why {
                        Bad::Range(max) => format!("{field}.{slot} must be between 0 and {max}."),
                        Bad::NotWhole => format!("{field}.{slot} must be a whole number."),
                        Bad::Other(text) => format!("{field}.{slot}: {text}."),
                    };
                    self.wrong(&at, message);
                }
            }
        }
        Some(Some(limits))
    }

    /// The name of something new, unique by itself.
    pub(super) fn handle(&mut self, member: &Member<String>) -> Option<String> {
        match self.given("name", member, "text") {
            Some(Some(text)) if is_name(text.trim()) => return Some(text.trim().to_owned()),
            Some(Some(_)) => self.wrong("/name", "name must have 1 to 64 of A-Z a-z 0-9 . _ -, begin with a letter or digit, and not be of the form of an id or of s-42."),
            Some(None) => self.wrong("/name", "name is required."),
            None if member.is_absent() => self.wrong("/name", "name is required."),
            None => (),
        }
        None
    }

    /// A title: 1 to 64 printable characters.
    pub(super) fn title(&mut self, field: &str, member: &Member<String>) -> Option<String> {
        let text = match self.given(field, member, "text") {
            Some(Some(text)) => text.trim(),
            Some(None) => "",
            None if member.is_absent() => "",
            None => return None,
        };
        if is_title(text) {
            return Some(text.to_owned());
        }
        let message = if text.is_empty() {
            format!("{field} is required.")
        } else {
            format!("{field} must have 1 to 64 printable characters.")
        };
        self.wrong(&format!("/{field}"), message);
        None
    }
}

/// 1 to 64 printable characters without outer blanks.
pub(super) fn is_title(text: &str) -> bool {
    (1..=NAME).contains(&text.chars().count())
        && text.trim() == text
        && !text
            .chars()
            .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// A handle that cannot be taken for an id.
pub(super) fn is_name(text: &str) -> bool {
    let id = text.split_once('_').is_some_and(|(prefix, rest)| {
        prefix.len() == 3
            && prefix.bytes().all(|b| b.is_ascii_lowercase())
            && rest.len() == 26
            && rest
                .bytes()
                .all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
    });
    is_handle(text) && !id && text.parse::<SessionId>().is_err()
}

/// A number that did not read as `i64`: whole all the same, too large, or with a fraction.
fn whole_of(number: &serde_json::Number) -> Result<i64, bool> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() <= EXACT => {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
            let value = value as i64;
            Ok(value)
        }
        Some(value) => Err(value.fract() == 0.0),
        None => Err(true),
    }
}

/// Whether a text says that there is no limit.
pub(super) fn is_no_limit(text: &str) -> bool {
    let text = text.trim();
    ["unlimited", "inf"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

enum Bad {
    Range(String),
    NotWhole,
    Other(String),
}

fn limit(slot: &SlotName, member: &Member<String>, caps: Caps) -> Result<Option<i64>, Bad> {
    let (max, max_text) = caps.of(slot);
    let text = match member {
        // A slot that is named without a value is not limited, whatever its map says.
        Member::Absent | Member::Null => return Ok(None),
        Member::Value(text) => text.trim(),
        Member::Wrong(_) => return Err(Bad::Other("amounts are text, such as \"4\"".to_owned())),
    };
    if text.starts_with('-') {
        return Err(Bad::Range(max_text));
    }
    let one = std::collections::BTreeMap::from([(slot.to_string(), text.to_owned())]);
    match SlotLimits::parse(&one) {
        Ok(read) => match read.get(slot).flatten() {
            Some(value) if value > max => Err(Bad::Range(max_text)),
            limit => Ok(limit),
        },
        Err(_) => Err(match slot.parse_amount(text) {
            Err(AmountError::TooLarge { .. }) => Bad::Range(max_text),
            Err(AmountError::NotWhole { .. } | AmountError::NotUnique { .. }) => Bad::NotWhole,
            Err(AmountError::Form { .. }) if slot.kind() == SlotKind::Count => Bad::NotWhole,
            Err(error) => Bad::Other(error.to_string()),
            Ok(_) => Bad::Other("this is not an amount".to_owned()),
        }),
    }
}

/// A size the way people write it.
fn bytes_text(bytes: i64) -> String {
    if bytes % (1 << 30) == 0 {
        format!("{}g", bytes >> 30)
    } else {
        bytes.to_string()
    }
}

/// Puts what was said into a map of limits.
pub(super) fn merge(into: &mut SlotLimits, said: Said<Vec<(SlotName, Option<i64>)>>) {
    match said {
        None => (),
        Some(None) => *into = SlotLimits::new(),
        Some(Some(limits)) => {
            for (slot, limit) in limits {
                into.set(slot, limit);
            }
        }
    }
}

/// Puts a value, or the one that stands when none is given, where the request says anything.
pub(super) fn put<T>(into: &mut T, said: Said<T>, otherwise: T) {
    if let Some(value) = said {
        *into = value.unwrap_or(otherwise);
    }
}

/// Puts a value or none where the request says anything.
pub(super) fn put_limit<T, U: TryFrom<T>>(into: &mut Option<U>, said: Said<T>) {
    if let Some(value) = said {
        // The range was checked: what does not fit cannot come here.
        *into = value.and_then(|v| U::try_from(v).ok());
    }
}

/// A version other than the one the caller saw.
pub(super) fn fresh(expected: Option<u64>, what: &str, version: u64) -> Result<(), Refusal> {
    match expected {
        Some(seen) if seen != version => Err(Refusal::new(
            "LS-VERSION-STALE",
            format!("{what} has changed meanwhile: it is at version {version}."),
        )
        .hint("Read it again and repeat what you want to change.")),
        _ => Ok(()),
    }
}

/// Another name than the one it has.
pub(super) fn fixed(field: &str, member: &Member<String>, present: &str) -> Result<(), Refusal> {
    let same = match member {
        Member::Absent => true,
        Member::Value(text) => text.trim() == present,
        Member::Null | Member::Wrong(_) => false,
    };
    if same {
        return Ok(());
    }
    let message = format!("{field} cannot be changed; it is {present}.");
    Err(Refusal::new("LS-FIELD-FIXED", message.clone()).at(format!("/{field}"), message))
}

/// Nothing of that name.
pub(super) fn missing(what: &str, name: &str) -> Refusal {
    Refusal::new("LS-NOT-FOUND", format!("There is no {what} {}.", cut(name)))
}

/// The name is taken.
pub(super) fn taken(what: &str, name: &str) -> Refusal {
    Refusal::new("LS-EXISTS", format!("A {what} is named {name} already.")).at("/name", "Taken.")
}

/// A sentence about a name that is not known, with the nearest one that is.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("There is no {what} {}; did you mean {near}?", cut(name)),
        None => format!("There is no {what} {}.", cut(name)),
    }
}

/// The known name that differs least, if that is little.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = name.to_lowercase().chars().take(NAME).collect();
    known
        .map(|other| (distance(&given, other), other))
        .filter(|(far, _)| *far <= 2 && *far < given.len())
        .min_by_key(|(far, _)| *far)
        .map(|(_, other)| other)
}

/// How many letters must be put in, taken out or exchanged.
fn distance(given: &[char], other: &str) -> usize {
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (at, b) in other.to_lowercase().chars().take(NAME).enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (place, a) in given.iter().enumerate() {
            let cost = before + usize::from(*a != b);
            before = row[place + 1];
            row[place + 1] = cost.min(before + 1).min(row[place] + 1);
        }
    }
    row[given.len()]
}

/// With a capital at its head.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| {
        c.to_ascii_uppercase().to_string() + letters.as_str()
    })
}

/// The first name that is there twice without regard to case, with its place.
pub(super) fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    names
        .enumerate()
        .filter(|(_, name)| !seen.insert(name.to_lowercase()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "A-1", "x.y_z", &"a".repeat(64), "s-x"] {
            assert!(is_name(good), "{good}");
        }
        let id = format!("pol_{}", "a".repeat(26));
        for bad in ["", "-a", "s-42", &"a".repeat(65), "a b", "ä", &id] {
            assert!(!is_name(bad), "{bad}");
        }
        for good in ["Dev/4x", "Blä Bla", &"ä".repeat(64)] {
            assert!(is_title(good), "{good}");
        }
        for bad in ["", " a", "a\tb", &"ä".repeat(65)] {
            assert!(!is_title(bad), "{bad}");
        }
    }

    #[test]
    fn whole_numbers() {
        let read = |json: &str| {
            let member: Member<i64> = serde_json::from_str(json).unwrap();
            let mut reader = Reader::default();
            let said = reader.count("n", &member, 100, Zero::Lifts);
            (said, reader.errors.first().map(|e| e.message.clone()))
        };
        let between = Some("n must be between 0 and 100.".to_owned());
        let whole = Some("n must be a whole number.".to_owned());
        assert_eq!(read("7"), (Some(Some(7)), None));
        assert_eq!(read("7.0"), (Some(Some(7)), None));
        assert_eq!(read("0"), (Some(None), None));
        assert_eq!(read("null"), (Some(None), None));
        for bad in ["101", "-1", "1e30", "18446744073709551615"] {
            assert_eq!(read(bad), (None, between.clone()), "{bad}");
        }
        for bad in ["1.5", "\"7\"", "true", "[]", "{}"] {
            assert_eq!(read(bad), (None, whole.clone()), "{bad}");
        }
    }

    #[test]
    fn amounts_are_bounded_slot_by_slot() {
        let read = |caps, json: &str| {
            let member: Member<SlotTexts> = serde_json::from_str(json).unwrap();
            let mut reader = Reader::default();
            let said = reader.limits("total_slots", &member, caps);
            let errors: Vec<String> = reader.errors.iter().map(|e| e.message.clone()).collect();
            (said.flatten().unwrap_or_default(), errors)
        };
        let (limits, errors) = read(
            Caps::Policy,
            r#"{"cpu":"512","mem":"1024g","cuda.device":"64","cuda.shares":"256","cuda.mig-1g.10gb":"64","x":"1000000","rocm":"inf","cuda.x":null}"#,
        );
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(limits.len(), 8);
        assert_eq!(limits.iter().filter(|(_, l)| l.is_none()).count(), 2);
        let (_, errors) = read(
            Caps::Policy,
            r#"{"cpu":"513","mem":"1025g","cuda.device":"65","cuda.shares":"256.5","x":"-1","rocm":"1.5","cuda.mig-1g.10gb":"half","CPU":"1","cuda.y":4}"#,
        );
        assert_eq!(
            errors,
            [
                "\"CPU\" is not a slot name: lower-case letters, digits, '-', and '.' before the variant.",
                "total_slots.cpu must be between 0 and 512.",
                "total_slots.cuda.device must be between 0 and 64.",
                "total_slots.cuda.mig-1g.10gb: \"half\" is not an amount: write a number such as 4, 0.5 or 1/7.",
                "total_slots.cuda.shares must be between 0 and 256.",
                "total_slots.cuda.y: amounts are text, such as \"4\".",
                "total_slots.mem must be between 0 and 1024g.",
                "total_slots.rocm must be a whole number.",
                "total_slots.x must be between 0 and 1000000.",
            ]
        );
        let (_, errors) = read(Caps::Total, r#"{"cpu":"100000","mem":"8p"}"#);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn the_nearest_name() {
        let known = || ["default", "student", "wide"].into_iter();
        assert_eq!(nearest("studnet", known()), Some("student"));
        assert_eq!(nearest("Defaul", known()), Some("default"));
        assert_eq!(nearest("nothing", known()), None);
    }
}
