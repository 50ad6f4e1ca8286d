//! What the coordinator knows, and what follows from what happens.
//!
//! [`State`] is changed by [`Change`]s only; [`react()`] makes them from an [`Event`]. The
//! store keeps the same changes, so memory and database cannot disagree.

pub mod admin;
mod adoption;
mod announce;
mod apps;
mod arrays;
mod ask;
mod attempts;
mod audited;
mod census;
mod change;
mod cluster_idle;
mod delivery;
mod desired;
mod devices;
mod draft;
mod drain;
mod ends;
mod entities;
mod event;
mod exec;
mod given;
mod images;
mod lifecycle;
mod loaded;
pub mod logins;
mod loss;
mod network;
mod notify;
mod people;
mod policies;
mod pools;
mod prolong;
mod react;
mod replay;
mod retention;
mod rights;
mod rules;
mod settings;
mod setup;
mod state;
mod steer;
mod submit;
mod table;
mod transitions;
mod unclaimed;
mod usage;
mod vaults;
mod verbs;
mod watchdog;

pub use adoption::{Adopted, Placement, placement};
pub use announce::{AnnounceOrder, AnnounceVerb, Announcement};
pub use apps::{BUILT_IN as BUILT_IN_APPS, port_container};
pub use arrays::{ArrayPlan, LAST_INDEX};
pub use ask::Ask;
pub use attempts::{PastAttempt, Restart};
pub use audited::{AuditHead, AuditLine, AuditTarget, Audited, Doer, audit_domain, audited};
pub use census::{COUNTED, Census, HeldGpu, NodeCensus, Seen};
pub use change::{Change, PolicyKind};
pub use cluster_idle::{ClusterIdleVerdict, IdleSaid, cluster_idle, judged_together};
pub use delivery::is_given;
pub(crate) use desired::limits as agent_limits;
pub use desired::{desired_entries, desired_set};
pub use devices::{CordonOrder, DeviceCordon, faulty};
pub use drain::{DrainOrder, NewDrain, drain_deadline, may_move, sessions_on};
pub use entities::*;
pub use event::{
    Accepted, Answer, Beginning, Called, Caller, Effect, Enrol, Event, HelloFacts, JoinTokenOrder,
    Outcome, PastSession, Refusal, SessionDefaults, SessionUse, SettingsOrder, SetupOrder,
    SetupPlace, Submit, Terminate, UseSession, WelcomeFacts,
};
pub use exec::{ExecWish, exec_container, exec_wish};
pub use given::{Given, GivenText, GivenTrees};
pub use images::{Image, canonical as canonical_image};
pub use lifecycle::{cancel_session, finish_unconfirmed, start_session};
pub use loaded::{LoadedConfig, LoadedOrder};
pub use loss::lease_ms;
pub use network::{AttemptNetwork, OwnRange};
pub use notify::{
    Channel, Note, NoteTried, NotifyChoice, NotifyOrder, NotifySettings, StoredNote, Tried, TryEnd,
    events_of, told as notes_about,
};
pub use people::*;
pub use policies::*;
pub use pools::*;
pub use prolong::{Done, Extensions, More, Prolong, Prolonged};
pub use react::react;
pub use replay::{Replay, ReplayAnswer, ReplayStep};
pub use retention::{Old, forgettable, old_before};
pub use rights::{Unfit, is_about_sessions, user_of};
pub use rules::{is_open_to, requester_session};
pub use state::{Account, AgentUse, BUILTIN, FACTORY_RULE, Gone, QueueKey, State, Usage};
pub use steer::{Steer, Steering};
pub use submit::{check as check_submit, runs_as};
pub use table::Table;
pub use transitions::may_follow;
pub use unclaimed::{Stray, UNDECIDED_S, Unclaimed};
pub use usage::{Spending, Spent, Stretch, Summary, UsageBy, UsageChange, UsageRow, UsageSum};
pub use vaults::{OwnVault, Vault, VaultContent, VaultStanding, personal_vault};
pub use watchdog::{WatchdogSettings, WatchdogVerdict, Watched, watchdog_verdict, watched};
