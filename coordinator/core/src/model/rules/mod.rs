//! Rules of submit that ask about more than the request itself: groups, queues, presets,
//! policies, limits, and what the agents of a group could ever hold.

mod named;
mod never;
mod pending;

use named::elsewhere;
pub use named::is_open_to;
pub(super) use named::{
    designated, group, listed_project, named_slots, preset, project, queue, shm_asked, usable,
};
use never::{never_allowed, never_fits, queue_groups};
pub(super) use pending::has_pending_room;
use pending::pending;

use super::arrays::ArrayPlan;
use super::entities::{Adjusted, Dependency, Group, Life, Session};
use super::event::{Refusal, Submit};
use super::people::{Role, User};
use super::policies::{KeypairPolicy, LifetimeBase};
use super::pools::Queue;
use super::state::{BUILTIN, State};
use super::submit::{cut, pointer};
use crate::access::Caller as Rights;
use crate::scheduler::limits::{Layer, Requester, layers};
use longshore_common::amount::{SlotKind, SlotName, Slots, format_bytes_short};
use longshore_common::api::{LimitMet, MemberError, Source};
use longshore_common::ids::SessionId;
use longshore_common::limits::IdlePolicy;
use longshore_common::session::{DependOn, ResultKind, SessionType};
use longshore_common::time::Timestamp;

/// Containers of one session where no policy says less.
const CONTAINERS: u32 = 100;

/// A session in somebody's name that asks for amounts in a group; for questions such as
/// whether a preset is offered.
#[must_use]
pub fn requester_session(
    template: &Session,
    who: &Requester,
    group: &Group,
    slots: Slots,
) -> Session {
    Session {
        access_key: who.keypair.clone(),
        owner: who.user,
        project: who.project,
        domain: who.domain,
        group: group.id,
        group_name: group.name.clone(),
        slots,
        ..template.clone()
    }
}

/// What the owner of a session may do as it is submitted: reduced to a plain user where a
/// service account acts for it.
pub(super) fn acting(state: &State, order: &Submit, owner: &User) -> Result<Rights, Refusal> {
    let rights = state.rights_of(owner);
    let within = |rights: Rights| match order.bound {
        Some(project) => rights.bound_to(project, &BUILTIN),
        None => rights,
    };
    let Some(account) = order.submitted_by else {
        return Ok(within(rights));
    };
    let account = state
        .account(account)
        .ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."))?;
    let acting = state.rights_of(account).on_behalf_of(&rights, &BUILTIN);
    acting.map(within).map_err(|why| {
        let detail = format!(
            "Service account {} may not act for other users.",
            account.username
        );
        Refusal::new(why.code(), detail)
    })
}

/// Rules 11 to 16: what policies, dependencies and the agents say to the whole session.
pub(super) fn bind(
    state: &State,
    order: &Submit,
    mut session: Session,
    who: &Requester,
    queue: Option<&Queue<'_>>,
) -> Result<Session, Refusal> {
    let layers = layers(state, who);
    cluster_size(&session, &layers)?;
    priority(state, &session, &layers)?;
    session.depends_on = dependencies(state, order, &session)?;
    // What never waits is under no limit of what does.
    if session.kind != SessionType::System {
        pending(state, &session, &layers)?;
    }
    elsewhere(state, &session, queue)?;
    never_fits(state, &session, queue)?;
    never_allowed(state, &session, &layers, queue)?;
    lifetime(&mut session, &layers);
    Ok(session)
}

fn policy_source(layer: &Layer<'_>) -> Source {
    Source {
        kind: layer.kind.source_kind().to_owned(),
        name: layer.name.to_owned(),
        id: Some(layer.id.clone()),
    }
}

fn cluster_size(session: &Session, layers: &[Layer<'_>]) -> Result<(), Refusal> {
    let asked = u32::from(session.cluster.size);
    let named = layers
        .iter()
        .filter_map(|l| {
            Some((
                l.policy()?.max_containers_per_session.filter(|n| *n > 0)?,
                l,
            ))
        })
        .min_by_key(|(most, _)| *most);
    let most = named.map_or(CONTAINERS, |(most, _)| most);
    if asked <= most {
        return Ok(());
    }
    let source = named.map(|(_, layer)| policy_source(layer));
    let who = source.as_ref().map_or_else(
        || "A session".to_owned(),
        |s| format!("Keypair policy {}", s.name),
    );
    Err(Refusal {
        limit: Some(Box::new(LimitMet {
            rule: "cluster-size".to_owned(),
            slot: None,
            limit: Some(most.to_string()),
            have: "0".to_owned(),
            need: asked.to_string(),
            source,
        })),
        ..Refusal::new(
            "LS-CLUSTER-SIZE",
            format!("{who} allows {most} containers in one session; this one asks for {asked}."),
        )
        .at("/cluster/size", format!("At most {most}."))
        .hint(format!("Ask for {most} containers or fewer."))
    })
}

/// Whether the policies of a session's owner allow its priority.
pub(super) fn priority_allowed(state: &State, session: &Session) -> Result<(), Refusal> {
    let who = Requester {
        keypair: session.access_key.clone(),
        user: session.owner,
        project: session.project,
        domain: session.domain,
    };
    priority(state, session, &layers(state, &who))
}

/// The highest priority that binds a requester.
fn priority(state: &State, session: &Session, layers: &[Layer<'_>]) -> Result<(), Refusal> {
    let admin = state
        .users
        .get(&session.owner)
        .is_some_and(|u| matches!(u.role, Role::Superadmin | Role::DomainAdmin));
    let named = layers
        .iter()
        .filter_map(|l| Some((l.policy()?.max_priority?, l)))
        .min_by_key(|(most, _)| *most);
    let Some((most, layer)) = named.filter(|(most, _)| session.priority > *most && !admin) else {
        return Ok(());
    };
    Err(Refusal {
        limit: Some(Box::new(LimitMet {
            rule: "priority".to_owned(),
            slot: None,
            limit: Some(most.to_string()),
            have: "0".to_owned(),
            need: session.priority.to_string(),
            source: Some(policy_source(layer)),
        })),
        ..Refusal::new(
            "LS-PRIORITY",
            format!(
                "Keypair policy {} allows priorities up to {most}; this session asks for {}.",
                layer.name, session.priority
            ),
        )
        .at("/priority", format!("At most {most}."))
        .hint(format!("Ask for priority {most} or less."))
    })
}

fn dependencies(
    state: &State,
    order: &Submit,
    session: &Session,
) -> Result<Vec<Dependency>, Refusal> {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    for (at, wish) in order.request.depends_on.iter().enumerate() {
        let mut wrong = |message: String| {
            errors.push(MemberError {
                pointer: format!("/depends_on/{at}"),
                message,
                ..MemberError::default()
            });
        };
        let on = match wish.on.as_deref().unwrap_or("ok").parse::<DependOn>() {
            Ok(on) => on,
            Err(error) => {
                wrong(format!("{error}."));
                continue;
            }
        };
        let id = wish.session.parse::<SessionId>().ok();
        let named = || state.session_by_name(session.owner, &wish.session);
        let Some(id) = id.or_else(named) else {
            wrong(format!("{} is no session of yours.", cut(&wish.session)));
            continue;
        };
        let live = state
            .sessions
            .get(&id)
            .filter(|s| s.owner == session.owner)
            .map(|s| {
                // An array may fail long before it ends.
                let lost = s.array.as_deref().is_some_and(ArrayPlan::has_failed);
                match s.state.is_final() {
                    true => Some(s.result == Some(ResultKind::Success)),
                    false if lost && on == DependOn::Ok => Some(false),
                    false => None,
                }
            });
        let past = || {
            let past = order.past.iter();
            past.filter(|p| p.id == id && p.owner == session.owner)
                .map(|p| Some(p.ok))
                .next()
        };
        match live.or_else(past) {
            None => wrong(format!("{id} is no session of yours.")),
            Some(None) => entries.push(Dependency {
                session: id,
                on,
                met: false,
            }),
            Some(Some(ok)) if holds(on, ok) => entries.push(Dependency {
                session: id,
                on,
                met: true,
            }),
            Some(Some(ok)) => wrong(format!(
                "{id} ended {} success and is waited for as \"{on}\".",
                if ok { "with" } else { "without" }
            )),
        }
    }
    if errors.is_empty() {
        return Ok(entries);
    }
    let detail = errors[0].message.clone();
    Err(Refusal {
        errors,
        ..Refusal::new("LS-DEPENDENCY", detail)
            .hint("Name sessions of your own that can still end so, or leave them out.")
    })
}

/// Whether what is waited for has come, now that a session ended with success or without.
pub(super) const fn holds(on: DependOn, ok: bool) -> bool {
    match on {
        DependOn::Ok => ok,
        DependOn::Any => true,
        DependOn::Fail => !ok,
    }
}

fn refuse_limits(
    code: &'static str,
    met: Vec<(LimitMet, String)>,
    hint: &str,
) -> Result<(), Refusal> {
    let errors = met
        .iter()
        .map(|(limit, detail)| MemberError {
            pointer: match &limit.slot {
                Some(slot) => pointer("/slots", slot),
                None => String::new(),
            },
            message: detail.clone(),
            ..MemberError::default()
        })
        .collect();
    match met.into_iter().next() {
        None => Ok(()),
        Some((limit, detail)) => Err(Refusal {
            errors,
            limit: Some(Box::new(limit)),
            ..Refusal::new(code, detail).hint(hint)
        }),
    }
}

fn show(slot: &SlotName, value: i64) -> String {
    match slot.kind() {
        SlotKind::Bytes => format_bytes_short(value),
        _ => slot.format_amount(value),
    }
}

/// The policy of a keypair, as long as both are there.
pub(super) fn policy_of<'a>(state: &'a State, access_key: &str) -> Option<&'a KeypairPolicy> {
    let keypair = state.keypairs.get(access_key)?;
    let name = keypair.policy.to_ascii_lowercase();
    state.keypair_policies.get(&name)
}

/// When a session counts as unused: as the policy of its keypair says, else as the
/// installation does.
pub(super) fn idle(state: &State, access_key: &str, kind: SessionType) -> Option<IdlePolicy> {
    if kind == SessionType::System {
        return Some(IdlePolicy::of_system());
    }
    policy_of(state, access_key)
        .and_then(super::admin::idle_rules)
        .or_else(|| state.scheduler.idle.clone())
}

/// From when its life counts.
pub(super) fn life(state: &State, access_key: &str, owner: &User, now: Timestamp) -> Life {
    let grace_s = Some(state.scheduler.lives.new_user_grace_s).filter(|s| *s > 0);
    let until = grace_s.map(|s| owner.created_at.plus_s(s));
    Life {
        base: policy_of(state, access_key).map_or(LifetimeBase::Created, |p| p.lifetime_base),
        // What is over now can hold nothing up any more.
        new_user_until: until.filter(|until| *until > now),
        ..Life::default()
    }
}

/// The lifetime that binds: the policy's, or the session's own where that is shorter.
fn lifetime(session: &mut Session, layers: &[Layer<'_>]) {
    let least = layers
        .iter()
        .filter_map(|l| Some((l.policy()?.max_session_lifetime_s.filter(|s| *s > 0)?, l)))
        .min_by_key(|(most, _)| *most);
    if let Some((most, layer)) = least
        && session.lifetime_s.is_none_or(|own| own > most)
    {
        if let Some(own) = session.lifetime_s {
            session.adjusted.push(Adjusted {
                path: "/lifetime_s".to_owned(),
                from: Some(own.to_string()),
                to: most.to_string(),
                reason: "policy-lifetime".to_owned(),
                source: Some(layer.name.to_owned()),
            });
        }
        session.lifetime_s = Some(most);
    }
}
