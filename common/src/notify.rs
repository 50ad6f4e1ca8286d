//! What people are told outside of the product, as the API shows it.

use crate::session::words;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// What people can be told of.
    NoteEvent {
        /// A session of theirs runs.
        Start = "start",
        /// A session of theirs has ended, and they did not end it themselves.
        End = "end",
        /// A session of theirs is stopped soon.
        Warn = "warn",
        /// Somebody else did something to a session of theirs.
        Changed = "changed",
        /// A session of theirs stands still.
        Stalled = "stalled",
        /// A node with a session of theirs has to be empty at an instant.
        Drain = "drain",
        /// No heartbeats of an agent come.
        AgentLost = "agent-lost",
        /// They come again.
        AgentBack = "agent-back",
        /// Many agents vanished at once: none of them is given up.
        MassLoss = "mass-loss",
        /// A device may not be given out any more.
        Device = "device",
        /// Books and nodes differ.
        QuotaDrift = "quota-drift",
        /// Something that should not be with a node, and that a person has to look at.
        Alarm = "alarm",
        /// Somebody wanted to see whether it arrives.
        Test = "test",
    }
}

impl NoteEvent {
    /// Whether it is about the installation, and for administrators.
    #[must_use]
    pub const fn is_for_administrators(self) -> bool {
        matches!(
            self,
            Self::AgentLost
                | Self::AgentBack
                | Self::MassLoss
                | Self::Device
                | Self::QuotaDrift
                | Self::Alarm
        )
    }

    /// Whether somebody can choose to be told of it: tests come without having been chosen.
    #[must_use]
    pub const fn can_be_chosen(self) -> bool {
        !matches!(self, Self::Test)
    }

    /// What it is, for people.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Start => "a session of yours runs",
            Self::End => "a session of yours has ended, and you did not end it",
            Self::Warn => "a session of yours is stopped soon",
            Self::Changed => "somebody else did something to a session of yours",
            Self::Stalled => "a session of yours stands still",
            Self::Drain => "a node with a session of yours has to be empty",
            Self::AgentLost => "no heartbeats of an agent come",
            Self::AgentBack => "heartbeats of an agent come again",
            Self::MassLoss => "many agents vanished at once",
            Self::Device => "a device may not be given out any more",
            Self::QuotaDrift => "books and nodes differ",
            Self::Alarm => "something is wrong with a node that a person has to look at",
            Self::Test => "a test",
        }
    }
}

/// An event, and by what one is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyRow {
    /// Its name.
    pub event: String,
    /// What it is.
    pub about: String,
    /// One is told by mail.
    pub mail: bool,
    /// One is told by a call of one's webhook.
    pub webhook: bool,
}

/// What one is told of, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyView {
    /// Whether mail can be sent to one: it is set up, and one has an address.
    pub mail: bool,
    /// What calls go to, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// Signs these calls. It is another for another address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<String>,
    /// Each event one can be told of.
    pub events: Vec<NotifyRow>,
}

/// What one wants to be told of. It replaces what was chosen before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyRequest {
    /// Events told by mail; absent = the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 32)]
    pub mail: Option<Vec<String>>,
    /// Events told by calls; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 32)]
    pub webhook: Option<Vec<String>>,
    /// An http or https address that is called; absent = none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub webhook_url: Option<String>,
}

/// Which of the places is tried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyTest {
    /// A webhook of the configuration, by name, for administrators; absent = one's own places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub channel: Option<String>,
}

/// How many were put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyTested {
    /// Mails and calls that go out.
    pub queued: u32,
}

words! {
    /// What became of telling somebody.
    NoteState {
        /// It is tried, or tried again.
        Waiting = "waiting",
        /// It was taken.
        Sent = "sent",
        /// It is not tried any more.
        Failed = "failed",
    }
}

/// Something that somebody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoteView {
    /// `n-17`; a receiver that gets one twice knows it by this.
    pub id: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What, by its name.
    pub event: String,
    /// `mail` or `webhook`.
    pub by: String,
    /// Login name of whom it is for, or the name of a webhook of the configuration.
    pub to: String,
    /// In words.
    pub text: String,
    /// The session it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Name of the agent it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// `waiting`, `sent` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// When it was taken or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// What hindered the last try.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A webhook of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// The host that is called.
    pub host: String,
    /// Events it is called for.
    pub events: Vec<String>,
    /// Whether calls are signed.
    pub signed: bool,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Channels {
    /// In the order of the configuration.
    pub items: Vec<ChannelView>,
}
