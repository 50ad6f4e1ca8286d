//! Typed identifiers.
//!
//! Every noun has its own type, so that an agent's id cannot be handed over for a
//! session's. Ids of stored objects are 128 bits, time-ordered, and shown as a
//! prefix and 26 lower-case base32 characters. Drawing one is the rim's business:
//! this module only wraps, prints and reads them.

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {expected}")]
pub struct ParseIdError {
    /// What was given, cut to 64 bytes.
    pub text: String,
    /// What would have been accepted, in words.
    pub expected: &'static str,
}

impl ParseIdError {
    fn new(text: &str, expected: &'static str) -> Self {
        let text = text.chars().take(64).collect();
        Self { text, expected }
    }
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn encode_base32(value: u128) -> String {
    // 26 characters hold 130 bits; the two spare ones are the leading zeros.
    (0..26)
        .rev()
        .map(|place| char::from(BASE32[((value >> (place * 5)) & 31) as usize]))
        .collect()
}

fn decode_base32(text: &str) -> Option<u128> {
    if text.len() != 26 {
        return None;
    }
    let mut value: u128 = 0;
    for (index, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'a'..=b'z' => byte - b'a',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        if index == 0 && digit > 7 {
            return None; // would not fit in 128 bits
        }
        value = (value << 5) | u128::from(digit);
    }
    Some(value)
}

struct TextVisitor<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr> Visitor<'_> for TextVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse()
            .map_err(|_| E::custom(format_args!("expected {}", self.0)))
    }
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The prefix of the printed form.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps 128 bits drawn by the caller (a version 7 UUID).
            #[must_use]
            pub const fn new(bits: u128) -> Self {
                Self(bits)
            }

            /// The bare 128 bits.
            #[must_use]
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!("{}{}", $prefix, encode_base32(self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(decode_base32)
                    .map(Self)
                    .ok_or_else(|| ParseIdError::new(text, concat!("an id of the form ", $prefix, "…")))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(TextVisitor(
                        concat!("an id of the form ", $prefix, "…"),
                        std::marker::PhantomData,
                    ))
                } else {
                    u128::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

object_id!(
    /// The installation: one coordinator and the nodes that joined it.
    ClusterId, "cls_");
object_id!(
    /// A node's agent, given at enrolment and kept for ever.
    AgentId, "agt_");
object_id!(
    /// A person.
    UserId, "usr_");
object_id!(
    /// A service account: a program that works without a person's login.
    ServiceAccountId, "svc_");
object_id!(
    /// A login: what a password, or an identity provider, opened.
    LoginId, "log_");
object_id!(
    /// A link that works once: an invitation, a proof of an address, a new password.
    InvitationId, "inv_");
object_id!(
    /// A group of users and service accounts; [`GroupId`] is a resource group.
    UserGroupId, "grp_");
object_id!(
    /// An access rule.
    AccessRuleId, "acr_");
object_id!(
    /// A vault: a document with what sessions get.
    VaultId, "vlt_");
object_id!(
    /// A resource group.
    GroupId, "rgp_");
object_id!(
    /// A domain: a tenant with users and projects of its own.
    DomainId, "dom_");
object_id!(
    /// A project: people who work on one thing and share its limits.
    ProjectId, "prj_");
object_id!(
    /// A policy of any kind.
    PolicyId, "pol_");
object_id!(
    /// A preset.
    PresetId, "pre_");
object_id!(
    /// What is said of an image.
    ImageId, "img_");
object_id!(
    /// An announcement.
    AnnouncementId, "ann_");
object_id!(
    /// A command or terminal that somebody opened in a running session.
    ExecId, "exe_");
object_id!(
    /// One running program: drawn anew at each start of a daemon.
    InstanceId, "ins_");
object_id!(
    /// One request to the API that has not been given an id by its caller.
    RequestId, "req_");

impl ClusterId {
    /// The eight characters that stand in the names of containers on a node.
    #[must_use]
    pub fn short(self) -> String {
        let text = encode_base32(self.0);
        text[18..].to_owned()
    }
}

/// A session, printed `s-42`, or a task of an array, printed `s-42.7`. The number comes from a
/// counter that never goes back.
///
/// One number says both: the lower 40 bits are the number of the session, or of the array; the
/// upper 24 are 0 for a session and the index plus 1 for a task. So what was there before there
/// were arrays has the same number in stores, in journals and on the wire. Ids are ordered by
/// number, a task behind its array by its index.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    const NUMBER_BITS: u32 = 40;
    /// The highest number of a session.
    pub const MAX_NUMBER: u64 = (1 << Self::NUMBER_BITS) - 1;
    /// The highest index of a task that every store can hold, whose numbers have a sign.
    pub const MAX_TASK: u32 = (1 << 23) - 2;

    /// The n of `s-n`.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & Self::MAX_NUMBER
    }

    /// The index, if this is a task of an array.
    #[must_use]
    pub const fn task_index(self) -> Option<u32> {
        ((self.0 >> Self::NUMBER_BITS) as u32).checked_sub(1)
    }

    /// The array, if this is a task of one.
    #[must_use]
    pub const fn array(self) -> Option<Self> {
        match self.task_index() {
            Some(_) => Some(Self(self.number())),
            None => None,
        }
    }

    /// A task of this array; an index above [`Self::MAX_TASK`] counts as that.
    #[must_use]
    pub const fn task(self, index: u32) -> Self {
        let index = if index > Self::MAX_TASK {
            Self::MAX_TASK
        } else {
            index
        };
        Self(self.number() | ((index as u64 + 1) << Self::NUMBER_BITS))
    }

    /// A number that orders as ids do.
    #[must_use]
    pub const fn place(self) -> u64 {
        self.0.rotate_right(Self::NUMBER_BITS) // the number goes above the index
    }

    /// The id of a [`Self::place`].
    #[must_use]
    pub const fn at_place(place: u64) -> Self {
        Self(place.rotate_left(Self::NUMBER_BITS))
    }
}

impl Ord for SessionId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for SessionId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task_index() {
            Some(index) => f.pad(&format!("s-{}.{index}", self.number())),
            None => f.pad(&format!("s-{}", self.0)),
        }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError::new(text, "a session id of the form s-42 or s-42.7");
        let digits = text.strip_prefix("s-").ok_or_else(error)?;
        let (digits, index) = match digits.split_once('.') {
            Some((digits, index)) => (digits, Some(index)),
            None => (digits, None),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.starts_with('0') {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        if number > Self::MAX_NUMBER {
            return Err(error());
        }
        let Some(index) = index else {
            return Ok(Self(number));
        };
        // One form for each: an id is found however it was asked for.
        let plain = index == "0" || !index.starts_with('0');
        if !plain || !index.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let index: u32 = index.parse().map_err(|_| error())?;
        if index > Self::MAX_TASK {
            return Err(error());
        }
        Ok(Self(number).task(index))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(TextVisitor(
                "a session id of the form s-42 or s-42.7",
                std::marker::PhantomData,
            ))
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// The place of a container in its session: 0 is `main1`, n is `sub<n>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rank(pub u16);

impl Rank {
    /// The container whose exit code is the session's result.
    pub const MAIN: Self = Self(0);
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.pad("main1"),
            n => f.pad(&format!("sub{n}")),
        }
    }
}

impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Rank {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError::new(text, "a rank of the form main1 or sub1");
        if text == "main1" {
            return Ok(Self(0));
        }
        let number: u16 = text
            .strip_prefix("sub")
            .and_then(|n| n.parse().ok())
            .ok_or_else(error)?;
        if number == 0 {
            Err(error())
        } else {
            Ok(Self(number))
        }
    }
}

impl Serialize for Rank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Rank {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(TextVisitor(
                "a rank of the form main1 or sub1",
                std::marker::PhantomData,
            ))
        } else {
            u16::deserialize(deserializer).map(Self)
        }
    }
}

/// How often a session was given to agents, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first one.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Names one container for ever. One key starts at most once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerKey {
    /// Whose container it is.
    pub session: SessionId,
    /// Its place in the session.
    pub rank: Rank,
    /// Which try of the session it belongs to.
    pub attempt: Attempt,
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}-a{}", self.session, self.rank, self.attempt))
    }
}

impl fmt::Debug for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ContainerKey {
    /// The name the container has in Docker. A function of the key, so that Docker
    /// itself refuses a second one.
    #[must_use]
    pub fn docker_name(self, cluster: ClusterId) -> String {
        format!("longshore-{}-{self}", cluster.short())
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter!(
    /// Number of a desired set, per agent. Higher replaces lower.
    Generation);
counter!(
    /// Raised whenever an agent's work was given away; an agent with an older one starts nothing.
    Fence);
counter!(
    /// Raised at each start of the coordinator; an agent refuses a lower one.
    CoordinatorGeneration);

/// The stable id of a device: a GPU's UUID or a MIG instance's, never a list position.
///
/// At most 96 bytes of printable ASCII, checked where a peer's text comes in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceId(Arc<str>); // shared: grants are copied with every decision

impl DeviceId {
    /// Longest accepted id in bytes.
    pub const MAX: usize = 96;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both lie at one place in memory. Equal ids need not.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeviceId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fits = !text.is_empty() && text.len() <= Self::MAX;
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new(
                text,
                "a device id of 1 to 96 printable characters",
            ))
        }
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Whether `text` is a handle: 1-64 of `[A-Za-z0-9._-]`, first a letter or digit.
#[must_use]
pub fn is_handle(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether `text` may name a session: a lower-case handle that is not of the form of an id.
#[must_use]
pub fn is_session_name(text: &str) -> bool {
    is_handle(text)
        && !text.bytes().any(|b| b.is_ascii_uppercase())
        && text.parse::<SessionId>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_print_and_parse() {
        for bits in [0, 1, u128::MAX, 0x0190_a1b2_c3d4_7000_8000_0000_0000_0001] {
            let id = AgentId::new(bits);
            let text = id.to_string();
            assert_eq!(text.len(), 4 + 26);
            assert_eq!(text.parse::<AgentId>(), Ok(id));
            assert!(text.parse::<UserId>().is_err(), "prefix decides the kind");
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<AgentId>(&json).unwrap(), id);
            let bytes = postcard::to_stdvec(&id).unwrap();
            assert_eq!(postcard::from_bytes::<AgentId>(&bytes).unwrap(), id);
        }
        assert!("agt_zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<AgentId>().is_err());
    }

    #[test]
    fn every_kind_has_a_prefix_of_its_own() {
        let prefixes = [
            ClusterId::PREFIX,
            AgentId::PREFIX,
            UserId::PREFIX,
            ServiceAccountId::PREFIX,
            UserGroupId::PREFIX,
            AccessRuleId::PREFIX,
            GroupId::PREFIX,
            DomainId::PREFIX,
            ProjectId::PREFIX,
            PolicyId::PREFIX,
            PresetId::PREFIX,
            ImageId::PREFIX,
            ExecId::PREFIX,
            InstanceId::PREFIX,
            RequestId::PREFIX,
        ];
        let different = std::collections::BTreeSet::from(prefixes);
        assert_eq!(different.len(), prefixes.len());
        assert!(prefixes.iter().all(|p| p.len() == 4 && p.ends_with('_')));
    }

    #[test]
    fn order_of_text_is_order_of_bits() {
        let (low, high) = (AgentId::new(1 << 70), AgentId::new(1 << 90));
        assert!(low.to_string() < high.to_string());
    }

    #[test]
    fn session_ids_have_one_form() {
        assert_eq!("s-42".parse(), Ok(SessionId(42)));
        for bad in [
            "s-",
            "s-042",
            "s--1",
            "42",
            "s-+1",
            "S-1",
            "s-99999999999999999999",
            "s-1099511627776",
            "s-42.",
            "s-42.07",
            "s-42.-1",
            "s-42.7.7",
            "s-.7",
            "s-42.8388607",
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tasks_stand_behind_their_array() {
        let array = SessionId(42);
        let task = array.task(7);
        assert_eq!(task.to_string(), "s-42.7");
        assert_eq!("s-42.7".parse(), Ok(task));
        assert_eq!("s-42.0".parse(), Ok(array.task(0)));
        assert_eq!((task.array(), task.task_index()), (Some(array), Some(7)));
        assert_eq!((array.array(), array.task_index()), (None, None));
        let mut ids = [
            SessionId(43),
            array.task(10),
            task,
            array,
            SessionId(9).task(99),
        ];
        ids.sort();
        let shown: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["s-9.99", "s-42", "s-42.7", "s-42.10", "s-43"]);
        let last = SessionId(SessionId::MAX_NUMBER).task(SessionId::MAX_TASK);
        for id in [array, task, last, SessionId(u64::MAX)] {
            assert_eq!(SessionId::at_place(id.place()), id);
        }
        assert_eq!(last.to_string().parse(), Ok(last));
        assert!(i64::try_from(last.0).is_ok(), "stores have a sign");
        // As it was on the wire before there were tasks.
        let bytes = postcard::to_stdvec(&array).unwrap();
        assert_eq!(bytes, [42]);
        let bytes = postcard::to_stdvec(&task).unwrap();
        assert_eq!(postcard::from_bytes::<SessionId>(&bytes), Ok(task));
    }

    #[test]
    fn docker_names_follow_from_keys() {
        let key = ContainerKey {
            session: SessionId(7),
            rank: Rank(2),
            attempt: Attempt(3),
        };
        assert_eq!(
            key.docker_name(ClusterId::new(0)),
            "longshore-aaaaaaaa-s-7-sub2-a3"
        );
    }

    #[test]
    fn names() {
        assert!(is_session_name("train-vit"));
        for bad in ["", "s-1", "s-1.2", "Train", "-x", "a b", &"x".repeat(65)] {
            assert!(!is_session_name(bad), "{bad}");
        }
    }
}
