//! Changes: the only way anything becomes different, in memory and in the store.

use super::entities::{
    Agent, Group, History, Idempotency, JoinToken, Keypair, LedgerRow, Meta, Session, User,
};
use longshore_common::ids::{ContainerKey, UserId};
use longshore_common::time::Timestamp;

/// One stored difference. Objects are stored whole; rows of the ledger are opened,
/// marked and closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Facts of the installation.
    Meta(Meta),
    /// A person, new or changed.
    User(User),
    /// A keypair, new or changed.
    Keypair(Keypair),
    /// A resource group, new or changed.
    Group(Group),
    /// A node, new or changed.
    Agent(Box<Agent>),
    /// A join token, new or changed.
    Token(JoinToken),
    /// A join token is gone.
    TokenDeleted(String),
    /// A session, new or changed.
    Session(Box<Session>),
    /// A line of history; kept by the store alone.
    History(History),
    /// A claim begins.
    LedgerOpened(LedgerRow),
    /// The claims of a container no longer count against its owner.
    QuotaFreed {
        /// Whose claims.
        key: ContainerKey,
        /// Since when.
        at: Timestamp,
    },
    /// The claims of a container end: the node confirmed.
    LedgerClosed {
        /// Whose claims.
        key: ContainerKey,
        /// When.
        at: Timestamp,
    },
    /// A request that may be repeated.
    Idempotency(Idempotency),
    /// Repeating it is a new request again.
    IdempotencyForgotten {
        /// Whose.
        caller: UserId,
        /// Which.
        key: String,
    },
}
