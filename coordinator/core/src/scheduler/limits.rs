//! The limits that bind a request, computed in one place: submit, the pass, `check`,
//! `explain`, presets and the view of one's quota all ask here.

use crate::model::{Account, KeypairPolicy, Session, State, Usage};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{DomainId, ProjectId, UserId};
use longshore_common::session::SessionType;

/// Whose limits are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The keypair used.
    pub keypair: String,
    /// The person.
    pub user: UserId,
    /// The project.
    pub project: ProjectId,
    /// The person's domain.
    pub domain: DomainId,
}

impl Requester {
    /// Who asked for a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self {
            keypair: session.access_key.clone(),
            user: session.owner,
            project: session.project,
            domain: session.domain,
        }
    }
}

/// Which layer a limit belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// The keypair alone.
    Keypair,
    /// All keypairs of the user, against the policy of the main one.
    User,
    /// The project.
    Project,
    /// The domain.
    Domain,
}

impl LayerKind {
    /// The rule by which its slots make a session wait.
    #[must_use]
    pub const fn slots_rule(self) -> &'static str {
        match self {
            Self::Keypair => "keypair-slots",
            Self::User => "user-slots",
            Self::Project => "project-slots",
            Self::Domain => "domain-slots",
        }
    }

    /// The rule by which its count of sessions makes a session wait.
    #[must_use]
    pub const fn count_rule(self) -> &'static str {
        match self {
            Self::Keypair => "concurrent-sessions",
            _ => "user-sessions",
        }
    }

    /// The rule by which its count of system sessions has one refused.
    #[must_use]
    pub const fn system_rule(self) -> &'static str {
        match self {
            Self::Keypair => "system-sessions",
            _ => "user-system-sessions",
        }
    }

    /// What kind of thing carries the limit.
    #[must_use]
    pub const fn source_kind(self) -> &'static str {
        match self {
            Self::Keypair | Self::User => "keypair-policy",
            Self::Project => "project",
            Self::Domain => "domain",
        }
    }
}

/// One layer of limits with whose use counts against it.
#[derive(Debug, Clone)]
pub struct Layer<'a> {
    /// Which.
    pub kind: LayerKind,
    /// Whose use counts.
    pub account: Account,
    /// Name of the policy, project or domain.
    pub name: &'a str,
    /// Its id.
    pub id: String,
    limits: Limits<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Limits<'a> {
    Policy(&'a KeypairPolicy),
    Total(&'a longshore_common::amount::SlotLimits),
}

impl Layer<'_> {
    /// The most of a slot that may be held; none = no limit.
    #[must_use]
    pub fn limit(&self, slot: &SlotName) -> Option<i64> {
        match self.limits {
            Limits::Policy(policy) => policy.limit(slot),
            Limits::Total(total) => total.get(slot).flatten(),
        }
    }

    /// The most sessions at once; none = no limit.
    #[must_use]
    pub fn max_sessions(&self) -> Option<u32> {
        match self.limits {
            Limits::Policy(policy) => policy.max_concurrent_sessions.filter(|n| *n > 0),
            Limits::Total(_) => None,
        }
    }

    /// The most system sessions at once; none = no limit.
    #[must_use]
    pub fn max_system_sessions(&self) -> Option<u32> {
        let most = self.policy()?.max_concurrent_sftp_sessions;
        most.filter(|n| *n > 0)
    }

    /// The policy behind it, where it is one.
    #[must_use]
    pub const fn policy(&self) -> Option<&KeypairPolicy> {
        match self.limits {
            Limits::Policy(policy) => Some(policy),
            Limits::Total(_) => None,
        }
    }

    /// Every slot this layer says something about.
    #[must_use]
    pub fn named_slots(&self) -> Vec<SlotName> {
        let limits = match self.limits {
            Limits::Policy(policy) => &policy.total_slots,
            Limits::Total(total) => total,
        };
        limits.iter().map(|(slot, _)| slot.clone()).collect()
    }
}

/// The layers that bind a requester, in the order in which the tightest is named.
#[must_use]
pub fn layers<'a>(state: &'a State, who: &Requester) -> Vec<Layer<'a>> {
    let mut layers = Vec::with_capacity(4);
    if let Some(policy) = state
        .keypairs
        .get(&who.keypair)
        .and_then(|k| state.policy_of(k))
    {
        layers.push(Layer {
            kind: LayerKind::Keypair,
            account: Account::Keypair(who.keypair.clone()),
            name: &policy.name,
            id: policy.id.to_string(),
            limits: Limits::Policy(policy),
        });
    }
    // A revoked keypair may still hold what its sessions hold.
    let several = state.all_keypairs_of(who.user).nth(1).is_some() && !crate::bugs::is(2);
    if several
        && let Some(policy) = state
            .main_keypair(who.user)
            .and_then(|k| state.policy_of(k))
    {
        layers.push(Layer {
            kind: LayerKind::User,
            account: Account::User(who.user),
            name: &policy.name,
            id: policy.id.to_string(),
            limits: Limits::Policy(policy),
        });
    }
    if let Some(project) = state.projects.get(&who.project) {
        layers.push(Layer {
            kind: LayerKind::Project,
            account: Account::Project(who.project),
            name: &project.name,
            id: project.id.to_string(),
            limits: Limits::Total(&project.total_slots),
        });
    }
    if let Some(domain) = state.domains.get(&who.domain) {
        layers.push(Layer {
            kind: LayerKind::Domain,
            account: Account::Domain(who.domain),
            name: &domain.name,
            id: domain.id.to_string(),
            limits: Limits::Total(&domain.total_slots),
        });
    }
    layers
}

/// A limit that a request is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Which layer.
    pub kind: LayerKind,
    /// The rule, as it is shown.
    pub rule: &'static str,
    /// Which slot; none = the number of sessions.
    pub slot: Option<SlotName>,
    /// Asked.
    pub need: i64,
    /// In use.
    pub have: i64,
    /// Allowed.
    pub limit: i64,
    /// Name of the policy, project or domain.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// Every limit that a session is over together with what is in use; all layers, and in each
/// only the slots that are asked for.
#[must_use]
pub fn over_now(state: &State, layers: &[Layer<'_>], session: &Session) -> Vec<Over> {
    let mut over = Vec::new();
    let nothing = Usage::default();
    for layer in layers {
        let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
        let (rule, most, have) = match session.kind {
            SessionType::System => (
                layer.kind.system_rule(),
                layer.max_system_sessions(),
                usage.system_sessions,
            ),
            _ => (
                layer.kind.count_rule(),
                layer.max_sessions(),
                usage.sessions,
            ),
        };
        if let Some(max) = most
            && have + 1 > max
        {
            over.push(Over {
                kind: layer.kind,
                rule,
                slot: None,
                need: 1000,
                have: i64::from(have) * 1000,
                limit: i64::from(max) * 1000,
                name: layer.name.to_owned(),
                id: layer.id.clone(),
            });
        }
    }
    over.extend(over_slots(state, layers, &session.limited_slots()));
    over
}

fn over_slots(state: &State, layers: &[Layer<'_>], request: &Slots) -> Vec<Over> {
    let mut over = Vec::new();
    let nothing = Usage::default();
    for layer in layers {
        let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
        for (slot, need) in request.iter().filter(|(_, need)| *need > 0) {
            let have = usage.slots.amount(slot);
            if let Some(limit) = layer.limit(slot)
                && have.saturating_add(need) > limit
            {
                over.push(Over {
                    kind: layer.kind,
                    rule: layer.kind.slots_rule(),
                    slot: Some(slot.clone()),
                    need,
                    have,
                    limit,
                    name: layer.name.to_owned(),
                    id: layer.id.clone(),
                });
            }
        }
    }
    over
}

/// Every limit that the request alone is over: it can never be within it.
#[must_use]
pub fn over_alone(state: &State, layers: &[Layer<'_>], request: &Slots) -> Vec<Over> {
    let mut over = over_slots(state, layers, request);
    over.retain(|o| o.need > o.limit);
    over
}
