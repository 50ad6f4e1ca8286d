//! Exact amounts of resources. No floating point: counts and shares are whole
//! thousandths, memory is whole bytes, sums are checked.

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// Thousandths in one unit of a counted or shared slot.
pub const UNIT: i64 = 1000;
/// Largest amount of one counted or shared slot: a million units, in thousandths.
pub const MAX_MILLI: i64 = 1_000_000 * UNIT;
/// Largest amount of memory: 2^53 bytes, which every JSON reader keeps exact.
pub const MAX_BYTES: i64 = 1 << 53;

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not of the accepted form at all.
    #[error("\"{text}\" is not an amount: write a number such as {example}")]
    Form {
        /// What was given, cut.
        text: String,
        /// What would do.
        example: &'static str,
    },
    /// A counted slot must be whole.
    #[error("\"{text}\" must be a whole number")]
    NotWhole {
        /// What was given, cut.
        text: String,
    },
    /// Above the largest amount.
    #[error("\"{text}\" is too large")]
    TooLarge {
        /// What was given, cut.
        text: String,
    },
    /// A slot that exists once per device takes 0 or 1.
    #[error("\"{text}\" must be 0 or 1")]
    NotUnique {
        /// What was given, cut.
        text: String,
    },
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What the number of a slot means; follows from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// Whole pieces, kept in thousandths.
    Count,
    /// Parts of a device, kept in thousandths.
    Fraction,
    /// Exactly one or none, kept in thousandths.
    Unique,
    /// Bytes.
    Bytes,
}

/// The name of a resource: `cpu`, `mem`, `cuda.device`, `cuda.shares`, `cuda.mig-1g.10gb`.
///
/// Ordered in *resource order*: cuda, rocm, other families by name, then cpu, then mem.
#[derive(Clone)]
pub struct SlotName {
    /// The rank of the family in resource order, one digit found once, and behind it the name.
    /// Shared: names are copied with every decision.
    ranked: Arc<str>,
}

static CPU: LazyLock<SlotName> = LazyLock::new(|| SlotName::new("cpu"));
static MEM: LazyLock<SlotName> = LazyLock::new(|| SlotName::new("mem"));
static CUDA_DEVICE: LazyLock<SlotName> = LazyLock::new(|| SlotName::new("cuda.device"));

impl PartialEq for SlotName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ranked, &other.ranked) || self.ranked == other.ranked
    }
}

impl Eq for SlotName {}

impl Hash for SlotName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for SlotName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl SlotName {
    fn new(text: &str) -> Self {
        let rank = match text.split('.').next() {
            Some("cuda") => '0',
            Some("rocm") => '1',
            Some("cpu") => '3',
            Some("mem") => '4',
            _ => '2',
        };
        Self {
            ranked: format!("{rank}{text}").into(),
        }
    }

    /// The rank of the family in resource order.
    fn rank(&self) -> u8 {
        self.ranked.as_bytes()[0] // `new` puts it there
    }

    /// Processor cores.
    #[must_use]
    pub fn cpu() -> Self {
        CPU.clone()
    }
    /// Memory in bytes.
    #[must_use]
    pub fn mem() -> Self {
        MEM.clone()
    }
    /// Whole NVIDIA GPUs.
    #[must_use]
    pub fn cuda_device() -> Self {
        CUDA_DEVICE.clone()
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.ranked[1..]
    }
    /// The part before the first dot.
    #[must_use]
    pub fn family(&self) -> &str {
        let text = self.as_str();
        text.split('.').next().unwrap_or(text)
    }
    /// The part behind the first dot, empty if there is none.
    #[must_use]
    pub fn variant(&self) -> &str {
        let parts = self.as_str().split_once('.');
        parts.map_or("", |(_, variant)| variant)
    }
    /// What an amount of it means.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        match (self.as_str(), self.variant()) {
            ("mem", _) => SlotKind::Bytes,
            (_, "shares") => SlotKind::Fraction,
            (_, variant) if variant.starts_with("mig-") => SlotKind::Unique,
            _ => SlotKind::Count,
        }
    }
    /// Whether it is neither cpu nor mem.
    #[must_use]
    pub fn is_accelerator(&self) -> bool {
        !matches!(self.as_str(), "cpu" | "mem")
    }

    /// Reads an amount of this slot: thousandths, or bytes for memory.
    ///
    /// # Errors
    /// [`AmountError`] says which form would have been accepted.
    pub fn parse_amount(&self, text: &str) -> Result<i64, AmountError> {
        match self.kind() {
            SlotKind::Bytes => parse_bytes(text),
            SlotKind::Fraction => parse_milli(text),
            SlotKind::Count => {
                let value = parse_milli(text)?;
                if value % UNIT == 0 {
                    Ok(value)
                } else {
                    Err(AmountError::NotWhole { text: cut(text) })
                }
            }
            SlotKind::Unique => match parse_milli(text)? {
                value @ (0 | UNIT) => Ok(value),
                _ => Err(AmountError::NotUnique { text: cut(text) }),
            },
        }
    }

    /// Prints an amount of this slot in canonical form.
    #[must_use]
    pub fn format_amount(&self, value: i64) -> String {
        match self.kind() {
            SlotKind::Bytes => value.to_string(),
            _ => format_milli(value),
        }
    }
}

impl Ord for SlotName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if Arc::ptr_eq(&self.ranked, &other.ranked) {
            return std::cmp::Ordering::Equal;
        }
        self.rank()
            .cmp(&other.rank())
            .then_with(|| self.family().cmp(other.family()))
            .then_with(|| self.variant().cmp(other.variant()))
    }
}

impl PartialOrd for SlotName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text cannot name a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a slot name: lower-case letters, digits, '-', and '.' before the variant")]
pub struct SlotNameError(String);

impl FromStr for SlotName {
    type Err = SlotNameError;
    fn from_str(text: &str) -> Result<Self, SlotNameError> {
        let (family, variant) = match text.split_once('.') {
            Some((family, variant)) => (family, Some(variant)),
            None => (text, None),
        };
        let word = |part: &str, dot: bool| {
            !part.is_empty()
                && part.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (dot && b == b'.')
                })
        };
        // Those of nearly every node and request lie in memory once.
        for known in [&CPU, &MEM, &CUDA_DEVICE] {
            if known.as_str() == text {
                return Ok((**known).clone());
            }
        }
        if text.len() <= 64 && word(family, false) && variant.is_none_or(|v| word(v, true)) {
            Ok(Self::new(text))
        } else {
            Err(SlotNameError(cut(text)))
        }
    }
}

impl<'de> Deserialize<'de> for SlotName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Reads a count or share into thousandths: `4`, `0.5`, `1/7` (floored to a thousandth).
///
/// # Errors
/// Anything else, signs and exponents included.
pub fn parse_milli(text: &str) -> Result<i64, AmountError> {
    let form = || AmountError::Form {
        text: cut(text),
        example: "4, 0.5 or 1/7",
    };
    let large = || AmountError::TooLarge { text: cut(text) };
    if text.len() > 64 {
        return Err(form());
    }
    let value = if let Some((above, below)) = text.split_once('/') {
        let above: i128 = digits(above).ok_or_else(form)?;
        let below: i128 = digits(below).ok_or_else(form)?;
        if below == 0 {
            return Err(form());
        }
        above.checked_mul(i128::from(UNIT)).ok_or_else(large)? / below
    } else {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let whole: i128 = digits(whole).ok_or_else(form)?;
        // Zeros behind the third place change nothing: 2.0000 is 2.
        let trimmed = part.trim_end_matches('0');
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) || trimmed.len() > 3 {
            return Err(form());
        }
        let milli: i128 = format!("{trimmed:0<3}").parse().map_err(|_| form())?;
        whole
            .checked_mul(i128::from(UNIT))
            .and_then(|w| w.checked_add(milli))
            .ok_or_else(large)?
    };
    i64::try_from(value)
        .ok()
        .filter(|v| *v <= MAX_MILLI)
        .ok_or_else(large)
}

fn digits(text: &str) -> Option<i128> {
    if text.is_empty() || text.len() > 30 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Reads memory into bytes: `1073741824`, `16g`, `1.5GiB`; letters count in powers of 1024.
///
/// # Errors
/// Anything else; a plain number with a fraction too.
pub fn parse_bytes(text: &str) -> Result<i64, AmountError> {
    let form = || AmountError::Form {
        text: cut(text),
        example: "512m, 16g or 1.5g",
    };
    let large = || AmountError::TooLarge { text: cut(text) };
    if text.len() > 64 {
        return Err(form());
    }
    let lower = text.to_ascii_lowercase();
    let split = lower
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let bare = unit.strip_suffix('b').unwrap_or(unit);
    let bare = bare.strip_suffix('i').unwrap_or(bare);
    let shift = match bare {
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => return Err(form()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = digits(whole).ok_or_else(form)?;
    let mut value = whole.checked_shl(shift).ok_or_else(large)?;
    if whole > i128::from(MAX_BYTES) {
        return Err(large());
    }
    if number.contains('.') {
        if shift == 0 || part.is_empty() || part.len() > 18 {
            return Err(form());
        }
        let above = digits(part).ok_or_else(form)?;
        let below = 10i128.pow(part.len() as u32);
        value += (above << shift) / below;
    }
    i64::try_from(value)
        .ok()
        .filter(|v| *v <= MAX_BYTES)
        .ok_or_else(large)
}

/// Prints thousandths as the shortest decimal: `4`, `0.5`, `0.142`.
#[must_use]
pub fn format_milli(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, part) = (value.unsigned_abs() / 1000, value.unsigned_abs() % 1000);
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let part = format!("{part:03}");
    format!("{sign}{whole}.{}", part.trim_end_matches('0'))
}

/// Prints bytes for people: `512 MB`, `16 GB`, `1.5 GB` (powers of 1024).
#[must_use]
pub fn format_bytes_short(value: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut tenths = i128::from(value) * 10;
    while tenths.abs() >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths % 10 == 0 || tenths.abs() >= 1000 || unit == 0 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, (tenths % 10).abs(), UNITS[unit])
    }
}

/// Amounts per slot: thousandths, or bytes for `mem`. A slot with 0 is never held.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Slots(Vec<(SlotName, i64)>); // in resource order; few, so that a list beats a tree

/// One slot of which there is too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Which.
    pub slot: SlotName,
    /// How much was asked.
    pub need: i64,
    /// How much there is.
    pub have: i64,
}

impl Slots {
    /// Nothing of anything.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Where a slot is, or would be.
    fn place(&self, slot: &SlotName) -> Result<usize, usize> {
        self.0.binary_search_by(|(held, _)| held.cmp(slot))
    }

    /// The amount of a slot, 0 when absent.
    #[must_use]
    pub fn amount(&self, slot: &SlotName) -> i64 {
        self.place(slot).map_or(0, |at| self.0[at].1)
    }

    /// Cores in thousandths.
    #[must_use]
    pub fn cpu_milli(&self) -> i64 {
        self.amount(&SlotName::cpu())
    }

    /// Memory in bytes.
    #[must_use]
    pub fn mem_bytes(&self) -> i64 {
        self.amount(&SlotName::mem())
    }

    /// Sets a slot; 0 takes it out.
    pub fn set(&mut self, slot: SlotName, amount: i64) {
        match (self.place(&slot), amount) {
            (Ok(at), 0) => drop(self.0.remove(at)),
            (Ok(at), _) => self.0[at].1 = amount,
            (Err(_), 0) => (),
            (Err(at), _) => {
                // One more at a time: most are written once and kept in thousands.
                self.0.reserve_exact(1);
                self.0.insert(at, (slot, amount));
            }
        }
    }

    /// The same with one slot set.
    #[must_use]
    pub fn with(mut self, slot: SlotName, amount: i64) -> Self {
        self.set(slot, amount);
        self
    }

    /// All slots held, in resource order.
    pub fn iter(&self) -> impl Iterator<Item = (&SlotName, i64)> {
        self.0.iter().map(|(slot, amount)| (slot, *amount))
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds another map, slot by slot. Amounts are bounded far below the range of
    /// `i64`, so a sum of all there can be stays inside it; it saturates regardless.
    pub fn add(&mut self, other: &Self) {
        for (slot, amount) in other.iter() {
            let sum = self.amount(slot).saturating_add(amount);
            self.set(slot.clone(), sum);
        }
    }

    /// Takes another map away, slot by slot; amounts may become negative.
    pub fn sub(&mut self, other: &Self) {
        for (slot, amount) in other.iter() {
            let rest = self.amount(slot).saturating_sub(amount);
            self.set(slot.clone(), rest);
        }
    }

    /// The slots of `request` of which `self` has too little; empty means it fits.
    #[must_use]
    pub fn shortages(&self, request: &Self) -> Vec<Shortage> {
        request
            .iter()
            .filter(|(_, need)| *need > 0)
            .filter_map(|(slot, need)| {
                let have = self.amount(slot);
                (have < need).then(|| Shortage {
                    slot: slot.clone(),
                    need,
                    have,
                })
            })
            .collect()
    }

    /// Whether every slot of `request` is there in the wanted amount.
    #[must_use]
    pub fn fits(&self, request: &Self) -> bool {
        request
            .iter()
            .all(|(slot, need)| need <= 0 || self.amount(slot) >= need)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (slot, amount)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match slot.kind() {
                SlotKind::Bytes => write!(f, "{comma}{slot} {}", format_bytes_short(amount))?,
                _ => write!(f, "{comma}{slot} {}", format_milli(amount))?,
            }
        }
        Ok(())
    }
}

impl FromIterator<(SlotName, i64)> for Slots {
    fn from_iter<I: IntoIterator<Item = (SlotName, i64)>>(items: I) -> Self {
        let mut slots = Self::new();
        for (slot, amount) in items {
            slots.set(slot, amount);
        }
        slots
    }
}

impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (slot, amount) in &self.0 {
            map.serialize_entry(
                slot,
                &AmountText {
                    slot,
                    amount: *amount,
                },
            )?;
        }
        map.end()
    }
}

struct AmountText<'a> {
    slot: &'a SlotName,
    amount: i64,
}

impl Serialize for AmountText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.slot.format_amount(self.amount))
        } else {
            serializer.serialize_i64(self.amount)
        }
    }
}

struct SlotsVisitor {
    human: bool,
}

impl<'de> Visitor<'de> for SlotsVisitor {
    type Value = Slots;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from slot names to amounts")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Slots, A::Error> {
        let mut slots = Slots::new();
        while let Some(slot) = map.next_key::<SlotName>()? {
            if slots.0.len() >= 64 {
                return Err(A::Error::custom("more than 64 slots"));
            }
            if slots.place(&slot).is_ok() {
                return Err(A::Error::custom(format_args!("slot {slot} is given twice")));
            }
            let amount = if self.human {
                let text: String = map.next_value()?;
                slot.parse_amount(&text).map_err(A::Error::custom)?
            } else {
                map.next_value::<i64>()?
            };
            slots.set(slot, amount);
        }
        Ok(slots)
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let human = deserializer.is_human_readable();
        deserializer.deserialize_map(SlotsVisitor { human })
    }
}

/// Limits per slot: an amount, or explicitly none. A slot that is not named follows the
/// rule of whoever holds the map.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct SlotLimits(BTreeMap<SlotName, Option<i64>>);

impl SlotLimits {
    /// Names no slot.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Limits a slot; none = expressly unlimited.
    pub fn set(&mut self, slot: SlotName, limit: Option<i64>) {
        self.0.insert(slot, limit);
    }

    /// The same with one slot set.
    #[must_use]
    pub fn with(mut self, slot: SlotName, limit: Option<i64>) -> Self {
        self.set(slot, limit);
        self
    }

    /// What is said of a slot: nothing, unlimited, or an amount.
    #[must_use]
    pub fn get(&self, slot: &SlotName) -> Option<Option<i64>> {
        self.0.get(slot).copied()
    }

    /// All slots named, in resource order.
    pub fn iter(&self) -> impl Iterator<Item = (&SlotName, Option<i64>)> {
        self.0.iter().map(|(slot, limit)| (slot, *limit))
    }

    /// Whether no slot is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the texts of a request: an amount, `unlimited`, or `inf`.
    ///
    /// # Errors
    /// The slot and what is wrong, for each bad entry.
    pub fn parse(texts: &BTreeMap<String, String>) -> Result<Self, Vec<(String, String)>> {
        let mut limits = Self::new();
        let mut wrong = Vec::new();
        for (name, text) in texts {
            match name.parse::<SlotName>() {
                Err(error) => wrong.push((name.clone(), error.to_string())),
                Ok(slot) => match limit_from_text(&slot, text) {
                    Ok(limit) => limits.set(slot, limit),
                    Err(error) => wrong.push((name.clone(), error.to_string())),
                },
            }
        }
        if wrong.is_empty() {
            Ok(limits)
        } else {
            Err(wrong)
        }
    }

    /// The text form, slot by slot.
    #[must_use]
    pub fn to_texts(&self) -> BTreeMap<String, String> {
        self.iter()
            .map(|(slot, limit)| (slot.to_string(), limit_text(slot, limit)))
            .collect()
    }
}

fn limit_text(slot: &SlotName, limit: Option<i64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |v| slot.format_amount(v))
}

fn limit_from_text(slot: &SlotName, text: &str) -> Result<Option<i64>, AmountError> {
    if text.eq_ignore_ascii_case("unlimited") || text.eq_ignore_ascii_case("inf") {
        return Ok(None);
    }
    // A limit on a slot of single pieces may be any whole number of them.
    match slot.kind() {
        SlotKind::Unique => {
            let value = parse_milli(text)?;
            if value % UNIT == 0 {
                Ok(Some(value))
            } else {
                Err(AmountError::NotWhole { text: cut(text) })
            }
        }
        _ => slot.parse_amount(text).map(Some),
    }
}

impl fmt::Debug for SlotLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.to_texts()).finish()
    }
}

impl Serialize for SlotLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.to_texts())
    }
}

impl<'de> Deserialize<'de> for SlotLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        Self::parse(&texts).map_err(|wrong| {
            let (slot, why) = &wrong[0];
            D::Error::custom(format_args!("slot {slot}: {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(text: &str) -> SlotName {
        text.parse().unwrap()
    }

    #[test]
    fn counts_and_shares() {
        for (text, milli) in [
            ("4", 4000),
            ("2.0", 2000),
            ("4/2", 2000),
            ("0.5", 500),
            ("1/7", 142),
            ("0", 0),
            ("2.5000", 2500),
        ] {
            assert_eq!(parse_milli(text), Ok(milli), "{text}");
        }
        for bad in [
            "", "-1", "+1", "1e3", "inf", "nan", "1.", ".5", "0.0001", "1/0", "1/", "1 ", "１",
            "1_000", "1000001",
        ] {
            assert!(parse_milli(bad).is_err(), "{bad}");
        }
        assert_eq!(format_milli(142), "0.142");
        assert_eq!(format_milli(4000), "4");
        assert_eq!(format_milli(-500), "-0.5");
    }

    #[test]
    fn memory() {
        for (text, bytes) in [
            ("1024", 1024),
            ("1k", 1024),
            ("1.5g", 1_610_612_736),
            ("16GiB", 16 << 30),
            ("2Mb", 2 << 20),
            ("0", 0),
            ("7b", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "1.5",
            "g",
            "-1g",
            "1x",
            "1gg",
            "1ib",
            "9e",
            "99999999999999999999",
            "1.g",
            "i",
            "1i",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(format_bytes_short(16 << 30), "16 GB");
        assert_eq!(format_bytes_short(1_610_612_736), "1.5 GB");
        assert_eq!(format_bytes_short(512), "512 B");
    }

    #[test]
    fn kinds_follow_from_names() {
        assert!(slot("cuda.device").parse_amount("1.5").is_err());
        assert_eq!(slot("cuda.shares").parse_amount("1.5"), Ok(1500));
        assert_eq!(slot("cuda.mig-1g.10gb").parse_amount("1"), Ok(1000));
        assert!(slot("cuda.mig-1g.10gb").parse_amount("2").is_err());
        for bad in ["", "CPU", "cuda.", ".x", "a b", "cuda device"] {
            assert!(bad.parse::<SlotName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn resource_order() {
        let mut names: Vec<SlotName> = ["mem", "cpu", "tpu", "rocm", "cuda.shares", "cuda.device"]
            .map(slot)
            .into();
        names.sort();
        let texts: Vec<&str> = names.iter().map(SlotName::as_str).collect();
        assert_eq!(
            texts,
            ["cuda.device", "cuda.shares", "rocm", "tpu", "cpu", "mem"]
        );
    }

    #[test]
    fn json_is_text_and_postcard_is_numbers() {
        let slots = Slots::new()
            .with(SlotName::cpu(), 1500)
            .with(SlotName::mem(), 1 << 30);
        let json = serde_json::to_string(&slots).unwrap();
        assert_eq!(json, r#"{"cpu":"1.5","mem":"1073741824"}"#);
        // cpu is a count: the text form of an amount that is not whole does not read back.
        assert!(serde_json::from_str::<Slots>(&json).is_err());
        let whole: Slots =
            serde_json::from_str(r#"{"cpu":"2","mem":"1g","cuda.device":"0"}"#).unwrap();
        assert_eq!(whole.to_string(), "cpu 2, mem 1 GB");
        let bytes = postcard::to_stdvec(&slots).unwrap();
        assert_eq!(postcard::from_bytes::<Slots>(&bytes).unwrap(), slots);
        assert!(
            serde_json::from_str::<Slots>(r#"{"cpu":2}"#).is_err(),
            "text only"
        );
        assert!(serde_json::from_str::<Slots>(r#"{"cpu":"1","cpu":"2"}"#).is_err());
    }

    #[test]
    fn shortages_name_only_what_is_asked() {
        let free = Slots::new().with(SlotName::cpu(), 1000);
        let request = Slots::new().with(SlotName::cpu(), 2000);
        assert_eq!(
            free.shortages(&request),
            vec![Shortage {
                slot: SlotName::cpu(),
                need: 2000,
                have: 1000
            }]
        );
        assert!(free.fits(&Slots::new()));
    }
}
