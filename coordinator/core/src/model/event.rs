//! What can happen to the coordinator, and what it says back.

use super::admin::{AdminAnswer, AdminOrder, FixedOrder};
use super::announce::AnnounceOrder;
use super::change::Change;
use super::cluster_idle::ClusterIdleVerdict;
use super::devices::CordonOrder;
use super::drain::DrainOrder;
use super::entities::{Adjusted, Group, JoinToken, Session};
use super::loaded::LoadedOrder;
use super::logins::{LoginAnswer, LoginEvent};
use super::notify::NotifyOrder;
use super::people::{Keypair, User};
use super::policies::{SchedulerSettings, StoredSettings};
use super::prolong::{Prolong, Prolonged};
use super::replay::Replay;
use super::retention::Old;
use super::steer::Steer;
use super::unclaimed::Stray;
use super::watchdog::{WatchdogVerdict, Watched};
use crate::access::Operation;
use longshore_common::admin::InUse;
use longshore_common::agent::{Inventory, RuntimeState};
use longshore_common::amount::SlotName;
use longshore_common::api::{LimitMet, MemberError, NewSession, TerminateAnswer};
use longshore_common::ids::{
    AgentId, Attempt, ContainerKey, DeviceId, DomainId, Fence, Generation, GroupId, PolicyId,
    ProjectId, ServiceAccountId, SessionId, UserId, VaultId,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    CloseCode, ContainerReport, EnrolRefusal, OutcomeNumber, RefusedCode,
};
use longshore_identity::Secret;
use longshore_identity::throttle::Limits;
use std::collections::{BTreeMap, BTreeSet};

/// The configuration that is to be in force, as far as decisions rest on it. It was checked as a
/// whole at the rim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsOrder {
    /// What is to be stored of it; none = what is stored stays. Its version does not count.
    pub stored: Option<StoredSettings>,
    /// The version of the stored settings the caller saw; none = whatever it is.
    pub expected_version: Option<u64>,
    /// What groups do that do not say.
    pub scheduler: SchedulerSettings,
    /// Service accounts that are `admin` act as administrators of their domain.
    pub service_account_admins: bool,
    /// How many logins may fail.
    pub throttle: Limits,
    /// The people of the configuration, where there are some or were; none = as it was.
    pub fixed: Option<FixedOrder>,
    /// Check, and change nothing.
    pub dry_run: bool,
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The coordinator starts: its generation goes up, and what every installation has
    /// is made where it is missing.
    Started(Box<Beginning>),
    /// The people of the configuration are to be as it says.
    FixedUsers(Box<FixedOrder>),
    /// The configuration is another one from now on.
    Settings(Box<SettingsOrder>),
    /// A configuration is in force.
    Loaded(Box<LoadedOrder>),
    /// The first administrator is to be made.
    Setup(Box<SetupOrder>),
    /// A session is asked for.
    Submit(Box<Submit>),
    /// Sessions are to be ended.
    Terminate(Terminate),
    /// A signal is sent to a session, or somebody reaches into it.
    UseSession(Box<UseSession>),
    /// A session is to have more time.
    Prolong(Box<Prolong>),
    /// A join token is wanted.
    CreateToken(JoinTokenOrder),
    /// A join token is to be taken back.
    DeleteToken(String),
    /// A node asks to be taken in.
    Enrol(Enrol),
    /// A node asks for a certificate over a new key.
    RenewKey {
        /// Which node.
        agent: AgentId,
        /// SHA-256 of the new public key.
        key: [u8; 32],
        /// SHA-256 of the key it proved to hold.
        proven: [u8; 32],
    },
    /// A node has connected and said hello.
    Hello(Box<HelloFacts>),
    /// A node said what it is.
    Inventory {
        /// Which node.
        agent: AgentId,
        /// What it is.
        inventory: Box<Inventory>,
    },
    /// A condition of a node changed.
    Condition {
        /// Which node.
        agent: AgentId,
        /// Whether its engine answers.
        runtime: RuntimeState,
        /// Whether its disk is too full for new work.
        disk_low: bool,
    },
    /// A node tells how its containers stand.
    Report {
        /// Which node.
        agent: AgentId,
        /// The set it has applied.
        applied: Generation,
        /// How they stand.
        items: Vec<ContainerReport>,
        /// Whether `items` is everything it has.
        whole: bool,
        /// Whether the machine was started anew since the last whole report.
        rebooted: bool,
    },
    /// A container came to an end.
    Outcome {
        /// Which node says so.
        agent: AgentId,
        /// What it says.
        outcome: Box<longshore_common::wire::Outcome>,
    },
    /// A node says which of its containers no order names.
    Unclaimed {
        /// Which node.
        agent: AgentId,
        /// All of them.
        items: Vec<Stray>,
    },
    /// A node says that a file was not delivered into one of its containers.
    FileNotice {
        /// Which node.
        agent: AgentId,
        /// Into which container.
        key: ContainerKey,
        /// Why, in words.
        text: String,
    },
    /// A node says that one of its sessions is stopped soon.
    Warned {
        /// Which node.
        agent: AgentId,
        /// Which of its containers.
        key: ContainerKey,
        /// When and why, in words.
        text: String,
    },
    /// Something is wrong with a node, and a person has to look at it.
    Alarm {
        /// Which node.
        agent: AgentId,
        /// About which of its containers, if about one.
        key: Option<ContainerKey>,
        /// What, in words.
        text: String,
    },
    /// Something is wrong with the coordinator itself, and a person has to look at it.
    Trouble {
        /// What, in words.
        text: String,
    },
    /// Something is announced to everybody, or not any more.
    Announce(Box<AnnounceOrder>),
    /// A request with an idempotency key is noted.
    Replay(Box<Replay>),
    /// About what people are told.
    Notify(Box<NotifyOrder>),
    /// Something grew old in the store.
    Forget(Old),
    /// A cycle of the watchdog came to a verdict about a session.
    Watchdog {
        /// What it saw.
        seen: Watched,
        /// What follows.
        verdict: WatchdogVerdict,
    },
    /// The containers of a session were judged together for idleness.
    ClusterIdle {
        /// Whose.
        session: SessionId,
        /// Of which attempt they are.
        attempt: Attempt,
        /// What follows.
        verdict: ClusterIdleVerdict,
    },
    /// No heartbeat came for some time.
    Silent {
        /// Which node.
        agent: AgentId,
        /// For how long, in milliseconds.
        for_ms: i64,
        /// T1 in milliseconds.
        lost_after_ms: i64,
    },
    /// A person changes whether a node takes new work.
    SetSchedulable {
        /// Which node.
        agent: AgentId,
        /// The version the person saw; none = whatever it is.
        version: Option<u64>,
        /// The new value.
        schedulable: bool,
    },
    /// A node is to be emptied, or not any more.
    Drain(Box<DrainOrder>),
    /// A device of a node is to be kept back, or not any more.
    CordonDevice(Box<CordonOrder>),
    /// A node says something of one of its devices.
    DeviceNotice {
        /// Which node.
        agent: AgentId,
        /// Which device.
        device: DeviceId,
        /// What, in words.
        text: String,
    },
    /// A person removes a node for good.
    Expel {
        /// Which node.
        agent: AgentId,
    },
    /// A person confirms that a LOST node is gone: what ran there is given up now.
    ConfirmLoss {
        /// Which node.
        agent: AgentId,
        /// Say whether it can be, and change nothing.
        dry_run: bool,
    },
    /// A person holds a session back, lets it go, restarts it, or changes how it waits.
    Steer(Box<Steer>),
    /// Keypairs were used: access key, when, from which address.
    KeypairsUsed(Vec<(String, Timestamp, String)>),
    /// An administrator gives an order.
    Admin(Box<AdminOrder>),
    /// It was looked at which vaults can be opened.
    VaultsChecked {
        /// Those that were looked at.
        looked_at: BTreeSet<VaultId>,
        /// Those that cannot be opened.
        unusable: BTreeSet<VaultId>,
    },
    /// The configuration of an attempt of a session was worked out.
    Configured {
        /// Which session.
        session: SessionId,
        /// Which of its attempts.
        attempt: Attempt,
        /// Names the configuration.
        hash: String,
        /// The vaults in it, and their versions.
        vaults: Vec<(VaultId, u64)>,
        /// Vaults that it starts without.
        skipped: Vec<VaultId>,
        /// Variables whose values are hidden where it is shown.
        redact: Vec<String>,
        /// What it does not get, and why: a sentence each, without values.
        left_out: Vec<String>,
        /// What it is given, to be kept for later questions of the same attempt; none = its
        /// request alone says it.
        keep: Option<Secret>,
    },
    /// Something about logins.
    Login(Box<LoginEvent>),
    /// Time passed: deadlines are looked at.
    Tick,
}

/// What every installation has. The ids were drawn at the rim, for what has to be made.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// The resource group of an installation that has none.
    pub group: Group,
    /// Id of the domain `default`.
    pub domain: DomainId,
    /// Id of the project `default`.
    pub project: ProjectId,
    /// Id of the keypair policy `default`.
    pub keypair_policy: PolicyId,
    /// Id of the user policy `default`.
    pub user_policy: PolicyId,
    /// Id of the project policy `default`.
    pub project_policy: PolicyId,
    /// What resource groups do that do not say; in force from now on.
    pub scheduler: SchedulerSettings,
    /// Service accounts may act as administrators of their domain; in force from now on.
    pub service_account_admins: bool,
    /// How many logins may fail; in force from now on.
    pub throttle: Limits,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// The keypair used.
    pub access_key: String,
}

/// How somebody calls, as far as that narrows what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Called {
    /// The service account that asks in the caller's name.
    pub acted_for: Option<ServiceAccountId>,
    /// The one project that the keypair used is good for.
    pub project: Option<ProjectId>,
}

/// The first administrator.
#[derive(Debug, Clone)]
pub struct SetupOrder {
    /// Who, complete but for the user number.
    pub user: User,
    /// With which keypair.
    pub keypair: Keypair,
    /// Where.
    pub place: SetupPlace,
}

/// Domain and project of the first administrator by name; none = those named `default`. What
/// is not there yet is made. The ids were drawn at the rim.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetupPlace {
    /// Name of the domain, and its id if it has to be made.
    pub domain: Option<(String, DomainId)>,
    /// Name of the project, and its id if it has to be made.
    pub project: Option<(String, ProjectId)>,
}

/// A session is asked for.
#[derive(Debug, Clone)]
pub struct Submit {
    /// By whom.
    pub caller: Caller,
    /// The service account that asks in the caller's name.
    pub submitted_by: Option<ServiceAccountId>,
    /// The one project that the keypair used is good for, whoever is acted for.
    pub bound: Option<ProjectId>,
    /// What.
    pub request: NewSession,
    /// Key and SHA-256 of the body, so that a repeated request makes nothing new.
    pub idempotency: Option<(String, [u8; 32])>,
    /// The installation's defaults for what the request leaves out.
    pub defaults: SessionDefaults,
    /// Sessions it depends on that memory has forgotten.
    pub past: Vec<PastSession>,
    /// Tries it begins with; for scenarios.
    pub retries: Option<u32>,
    /// What locked vaults hold against the request.
    pub held: Vec<Adjusted>,
    /// Variables whose values are hidden where it is shown, as far as that is known before it
    /// starts.
    pub redact: Vec<String>,
    /// Slots that count as known although no agent has them yet.
    pub known_slots: Vec<SlotName>,
    /// Why no new sessions are taken at all; one that was made by the same request is told of all
    /// the same.
    pub no_room: Option<String>,
}

impl Submit {
    /// A submit without anything known beside the request.
    #[must_use]
    pub const fn new(caller: Caller, request: NewSession, defaults: SessionDefaults) -> Self {
        Self {
            caller,
            submitted_by: None,
            bound: None,
            request,
            idempotency: None,
            defaults,
            past: Vec::new(),
            retries: None,
            held: Vec::new(),
            redact: Vec::new(),
            known_slots: Vec::new(),
            no_room: None,
        }
    }
}

/// A session that ended and is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastSession {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub owner: UserId,
    /// It ended with success.
    pub ok: bool,
}

/// What a request gets that does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDefaults {
    /// Image reference; empty = there is none.
    pub image: String,
    /// Image of system sessions; empty = there are none.
    pub system_image: String,
    /// Cores in thousandths; 0 = none are filled in.
    pub cpu_milli: i64,
    /// Memory in bytes; 0 = none is filled in.
    pub mem_bytes: i64,
    /// The least memory a container can be made with, in bytes; less is raised.
    pub mem_minimum: i64,
    /// 0 to 100.
    pub priority: u8,
    /// Tasks an array may have.
    pub array_tasks: u32,
}

impl Default for SessionDefaults {
    fn default() -> Self {
        Self {
            image: String::new(),
            system_image: String::new(),
            cpu_milli: 1000,
            mem_bytes: 2 << 30,
            mem_minimum: 6 << 20,
            priority: 10,
            array_tasks: 10_000,
        }
    }
}

/// Sessions are to be ended.
#[derive(Debug, Clone)]
pub struct Terminate {
    /// By whom.
    pub caller: Caller,
    /// How it calls, for judging whether it may; none = it was not asked by anybody but made
    /// up (a scenario, a measurement), and nothing is judged.
    pub called: Option<Called>,
    /// Which.
    pub ids: Vec<SessionId>,
    /// Seconds between signal and kill.
    pub grace_s: u32,
    /// At once in the books.
    pub force: bool,
    /// Asked for many at once: what may only be read is left out, and said so.
    pub many: bool,
    /// The newest set that was handed out for each agent, where that is known: a container that
    /// stands in later ones alone was never sent to anybody.
    pub handed: BTreeMap<AgentId, Generation>,
}

/// Something is done to a session that leaves its state as it is.
#[derive(Debug, Clone)]
pub struct UseSession {
    /// By whom.
    pub caller: Caller,
    /// How it calls.
    pub called: Called,
    /// To which session.
    pub session: SessionId,
    /// The session as it is stored, where memory may have forgotten it.
    pub past: Option<Box<Session>>,
    /// What.
    pub what: SessionUse,
    /// Administrators may reach into sessions of others.
    pub admin_exec: bool,
}

/// What is done to a session that leaves its state as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionUse {
    /// Its program gets this signal.
    Signal(String),
    /// Something is reached that is the owner's alone: `logs`.
    Reach(String),
}

impl SessionUse {
    /// The operation of the table.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Signal(_) => Operation::SessionSignal,
            Self::Reach(_) => Operation::SessionReach,
        }
    }
}

/// A join token is wanted. Id and secret were drawn at the rim.
#[derive(Debug, Clone)]
pub struct JoinTokenOrder {
    /// The token, complete but for its group.
    pub token: JoinToken,
    /// Name or id of the group; none = the default group.
    pub group: Option<String>,
}

/// A node asks to be taken in.
#[derive(Debug, Clone)]
pub struct Enrol {
    /// Public part of its token.
    pub token: String,
    /// SHA-256 of the secret it gave.
    pub secret_sha256: [u8; 32],
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// The name it would like.
    pub name: String,
    /// See [`super::Agent`].
    pub fingerprint: String,
    /// See [`super::Agent`].
    pub machine: String,
    /// The id it gets if it is taken in.
    pub new_id: AgentId,
}

/// What the engine must know of a Hello.
#[derive(Debug, Clone)]
pub struct HelloFacts {
    /// Which node, by its certificate.
    pub agent: AgentId,
    /// SHA-256 of the public key of its certificate.
    pub key: [u8; 32],
    /// See [`super::Agent`].
    pub fingerprint: String,
    /// See [`super::Agent`].
    pub machine: String,
    /// See [`super::Agent`].
    pub boot_id: String,
    /// The fence it holds.
    pub fence: Fence,
    /// Whether another connection of this node is open with another engine.
    pub other_engine_connected: bool,
}

/// What a node is told when it is taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WelcomeFacts {
    /// Its name.
    pub name: String,
    /// Its group's name.
    pub group: String,
    /// The fence it has to hold.
    pub fence: Fence,
    /// How long restartable work may go on unacknowledged, in milliseconds; 0 = for ever.
    pub lease_ms: u64,
    /// Whether the machine was started anew since it last connected.
    pub rebooted: bool,
}

/// What [`super::react()`] says.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What becomes different.
    pub changes: Vec<Change>,
    /// What is to be done once that is stored.
    pub effects: Vec<Effect>,
    /// What the asker is told once that is stored.
    pub answer: Result<Answer, Refusal>,
}

impl Outcome {
    /// Nothing changes; this is the answer.
    #[must_use]
    pub fn refuse(refusal: Refusal) -> Self {
        Self {
            changes: Vec::new(),
            effects: Vec::new(),
            answer: Err(refusal),
        }
    }

    /// Nothing changes; this is the answer.
    #[must_use]
    pub fn only(answer: Answer) -> Self {
        Self {
            changes: Vec::new(),
            effects: Vec::new(),
            answer: Ok(answer),
        }
    }
}

/// What is to be done after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The desired set of a node changed.
    SendDesired(AgentId),
    /// An outcome is stored.
    AckOutcome {
        /// The node that sent it.
        agent: AgentId,
        /// Of which container.
        key: ContainerKey,
        /// Which of its two.
        number: OutcomeNumber,
    },
    /// The connection of a node is to be closed.
    Close {
        /// Which node.
        agent: AgentId,
        /// With which code.
        code: CloseCode,
    },
}

/// A good answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// A session was accepted, now or earlier under the same idempotency key.
    Session(Accepted),
    /// What became of sessions.
    Terminated(TerminateAnswer),
    /// A session to which something may be done, as it is.
    Used(Box<Session>),
    /// A session that has more time.
    Prolonged(Box<Prolonged>),
    /// A session that was steered, as it is from now on.
    Steered(Box<Session>),
    /// A node was taken in.
    Enrolled {
        /// Its id.
        agent: AgentId,
        /// Its name.
        name: String,
        /// Its group's name.
        group: String,
    },
    /// A node may stay.
    Welcome(WelcomeFacts),
    /// A node may not stay.
    Refused(RefusedCode, String),
    /// A token was made.
    Token(GroupId),
    /// What an administrator is told.
    Admin(Box<AdminAnswer>),
    /// What became of a login.
    Login(Box<LoginAnswer>),
}

/// A session that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: SessionId,
    /// It had been accepted before, under the same key.
    pub replayed: bool,
}

/// A no, with everything the asker needs to do better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code of the API, e.g. `LS-SLOT-UNKNOWN`.
    pub code: &'static str,
    /// One sentence with the numbers.
    pub detail: String,
    /// Every bad member.
    pub errors: Vec<MemberError>,
    /// The limit that was met.
    pub limit: Option<Box<LimitMet>>,
    /// What would pass.
    pub hint: Option<String>,
    /// What still uses the object that was to go.
    pub in_use: Option<Box<InUse>>,
    /// For enrolment: which refusal.
    pub enrol: Option<EnrolRefusal>,
    /// After so many seconds it is worth asking again.
    pub retry_after_s: Option<u32>,
}

impl Refusal {
    /// A refusal with a code and a sentence.
    #[must_use]
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            limit: None,
            hint: None,
            in_use: None,
            enrol: None,
            retry_after_s: None,
        }
    }

    /// A refusal for what is wrong with members of a request, one or more.
    #[must_use]
    pub fn of_members(code: &'static str, errors: Vec<MemberError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.message.clone(),
            many => format!("{} members of the request are not valid.", many.len()),
        };
        Self {
            errors,
            ..Self::new(code, detail)
        }
    }

    /// The same where asking again is worth it after so many seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same about one member.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(MemberError {
            pointer: pointer.into(),
            message: message.into(),
            ..MemberError::default()
        });
        self
    }
}
