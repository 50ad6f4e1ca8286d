//! What becomes live, with what that means for the sessions that wait in queues.

use super::super::change::Change;
use super::super::draft::Draft;
use super::super::entities::{Adjusted, Group, QueueSeat, Session, least_mem};
use super::super::event::{Caller, Effect, Refusal};
use super::super::lifecycle;
use super::super::pools::{LiveConfig, PolicyProfile, Profile, ResourceConfig};
use super::super::state::State;
use super::super::submit::pointer;
use super::config::{draft_version, live_view, queue_view, saved, view_of_live};
use super::findings::validate;
use super::impact::{Scope, impact};
use super::members::{Reader, fresh, unknown};
use super::{AdminObject, Decision, sessions_of};
use crate::scheduler::could_ever_hold;
use crate::scheduler::limits::{Requester, layers, over_alone};
use longshore_common::admin::{ConfigVerdict, Finding, Member, QueueView};
use longshore_common::amount::Slots;
use longshore_common::api::MemberError;
use longshore_common::ids::{SessionId, UserGroupId, UserId};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use std::collections::BTreeSet;

fn invalid(findings: Vec<Finding>) -> Refusal {
    let errors: Vec<MemberError> = findings
        .into_iter()
        .filter(|f| f.level == "error")
        .map(|f| MemberError {
            pointer: f.pointer,
            message: f.message,
            ..MemberError::default()
        })
        .collect();
    let detail = match errors.as_slice() {
        [one] => one.message.clone(),
        many => format!("The draft has {} errors.", many.len()),
    };
    Refusal {
        errors,
        ..Refusal::new("LS-CONFIG-INVALID", detail)
            .hint("Change the draft, and validate it before it is provisioned.")
    }
}

fn is_valid(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.level != "error")
}

/// The draft, or what is live where there is none.
fn drafted(state: &State) -> (u64, &ResourceConfig) {
    match &state.config_draft {
        Some(draft) => (draft.base, &draft.config),
        None => (state.config.version, &state.config.config),
    }
}

pub(super) fn look_at_draft(state: &State, caller: &Caller, now: Timestamp) -> Decision {
    let (_, config) = drafted(state);
    let findings = validate(state, config);
    let valid = is_valid(&findings);
    let impact = valid.then(|| {
        let (decision, _) = becomes_live(state, caller, config, now);
        impact(state, &decision.changes, &decision.scope, now)
    });
    let verdict = ConfigVerdict {
        valid,
        findings,
        impact,
        config: None,
        cancelled: Vec::new(),
    };
    Decision::new(AdminObject::Verdict(Box::new(verdict)), Vec::new())
}

pub(super) fn provision(
    state: &State,
    caller: &Caller,
    expected_version: u64,
    expected_draft: Option<u64>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let live = state.config.version;
    fresh(expected_draft, "The draft", draft_version(state))?;
    let (base, config) = drafted(state);
    if expected_version != live || base != live {
        let detail = if base == live {
            format!("Version {live} is live; you saw version {expected_version}.")
        } else {
            format!("Version {live} is live; the draft was made from version {base}.")
        };
        return Err(Refusal::new("LS-CONFIG-STALE", detail)
            .hint("Reset the draft, or load a version into it, and make your changes anew."));
    }
    let findings = validate(state, config);
    if !is_valid(&findings) {
        return Err(invalid(findings));
    }
    if *config == state.config.config {
        return Ok(already_live(state, findings));
    }
    let (mut decision, (live, cancelled)) = becomes_live(state, caller, config, now);
    let draft = saved(state, live.version, config.clone(), now);
    decision
        .changes
        .push(Change::ConfigDraft(Some(Box::new(draft))));
    let verdict = ConfigVerdict {
        valid: true,
        findings,
        impact: None,
        config: Some(Box::new(view_of_live(state, &live))),
        cancelled: cancelled.iter().map(ToString::to_string).collect(),
    };
    decision.object = AdminObject::Verdict(Box::new(verdict));
    Ok(decision)
}

/// A draft without any difference makes no version: who counts versions counts changes.
fn already_live(state: &State, mut findings: Vec<Finding>) -> Decision {
    findings.push(Finding {
        level: "warning".to_owned(),
        rule: "nothing-changed".to_owned(),
        pointer: String::new(),
        message: format!(
            "The draft is the same as version {}, which stays live.",
            state.config.version
        ),
    });
    let verdict = ConfigVerdict {
        valid: true,
        findings,
        impact: None,
        config: Some(Box::new(live_view(state))),
        cancelled: Vec::new(),
    };
    Decision::new(AdminObject::Verdict(Box::new(verdict)), Vec::new())
}

/// Puts a document in place of the live one, with what that means for who waits.
fn becomes_live(
    state: &State,
    caller: &Caller,
    config: &ResourceConfig,
    now: Timestamp,
) -> (Decision, (LiveConfig, Vec<SessionId>)) {
    let live = next_version(state, caller, config.clone(), now);
    let mut draft = Draft::new(state, now);
    let mut cancelled = Vec::new();
    for (session, seat) in in_queues(state).filter_map(|s| Some((s, s.queue.as_ref()?))) {
        match seat_in(state, config, session, seat) {
            Ok(None) => (),
            Ok(Some(moved)) => {
                if let Some(copy) = draft.session_mut(session.id) {
                    moved.take(copy);
                }
            }
            Err(detail) => {
                let by = super::by(state, caller);
                lifecycle::cancel(&mut draft, session.id, Reason::QueueRemoved, &detail, &by);
                cancelled.push(session.id);
            }
        }
    }
    draft.push(Change::Config(Box::new(live.clone())));
    let backed = |group: &Group| {
        config.pool_of_group(&group.name).is_some()
            || state.config.config.pool_of_group(&group.name).is_some()
    };
    let groups: BTreeSet<_> = state
        .groups
        .values()
        .filter(|g| backed(g))
        .map(|g| g.id)
        .collect();
    let scope = Scope::sessions(state, |s| s.queue.is_some() || groups.contains(&s.group));
    let decision = Decision::drafted(AdminObject::Gone, draft).touching(scope);
    (decision, (live, cancelled))
}

/// Sessions that wait, and arrays of which tasks are still to be made.
fn in_queues(state: &State) -> impl Iterator<Item = &Session> {
    state
        .sessions
        .values()
        .filter(|s| s.state == SessionState::Pending || s.is_open_array())
}

/// What follows when groups of users lose members: who waits in a queue of a policy of such a
/// group, and is in it no longer, waits no longer.
pub(super) fn removed(
    state: &State,
    caller: &Caller,
    changes: &mut Vec<Change>,
    effects: &mut Vec<Effect>,
    now: Timestamp,
) {
    let mut left: BTreeSet<(UserGroupId, UserId)> = BTreeSet::new();
    for change in changes.iter() {
        if let Change::UserGroup(new) = change
            && let Some(old) = state.user_groups.get(&new.id)
        {
            let gone = old
                .members
                .keys()
                .filter(|id| !new.members.contains_key(id));
            left.extend(gone.map(|id| (new.id, *id)));
        }
    }
    if left.is_empty() {
        return;
    }
    // One that the order itself changes would be told of twice.
    let own = sessions_of(changes);
    let mut draft = Draft::new(state, now);
    let waiting = in_queues(state).filter(|s| !own.contains(&s.id));
    for (session, seat) in waiting.filter_map(|s| Some((s, s.queue.as_ref()?))) {
        let policy = state.config.config.policy(&seat.policy);
        let group = policy.and_then(|policy| policy.user_group);
        if group.is_some_and(|group| left.contains(&(group, session.owner))) {
            let detail = format!(
                "allocation policy {} no longer includes {}",
                seat.policy, session.owner_name
            );
            let by = super::by(state, caller);
            lifecycle::cancel(&mut draft, session.id, Reason::QueueRemoved, &detail, &by);
        }
    }
    let (more, told) = draft.finish();
    changes.extend(more);
    effects.extend(told);
}

fn next_version(
    state: &State,
    caller: &Caller,
    config: ResourceConfig,
    now: Timestamp,
) -> LiveConfig {
    LiveConfig {
        version: state.config.version + 1,
        provisioned_at: Some(now),
        by: state
            .users
            .get(&caller.user)
            .map_or_else(String::new, |u| u.username.clone()),
        enabled: state.config.enabled,
        config,
    }
}

/// What differs for a session that waits in a queue.
struct Moved {
    seat: QueueSeat,
    slots: Vec<Slots>,
    group: Option<(longshore_common::ids::GroupId, String)>,
    adjusted: Vec<Adjusted>,
    shm_bytes: i64,
}

impl Moved {
    fn take(self, session: &mut Session) {
        session.queue = Some(Box::new(self.seat));
        let mut slots = self.slots.into_iter();
        if let Some(own) = slots.next() {
            session.slots = own;
            session.cluster.ranks = slots.collect();
        }
        if let Some((group, name)) = self.group {
            session.group = group;
            session.group_name = name;
        }
        session.adjusted.extend(self.adjusted);
        session.shm_bytes = self.shm_bytes;
    }
}

/// The seat of a waiting session under another document: as it is, otherwise, or none.
fn seat_in(
    state: &State,
    config: &ResourceConfig,
    session: &Session,
    seat: &QueueSeat,
) -> Result<Option<Moved>, String> {
    let removed = || format!("queue {} was removed", seat.name);
    let policy = config.policy(&seat.policy).ok_or_else(removed)?;
    let profile = config.profile(&seat.profile).ok_or_else(removed)?;
    let entry = policy.profiles.iter().find(|e| e.profile == seat.profile);
    let entry = entry.ok_or_else(removed)?;
    let name = state
        .users
        .get(&session.owner)
        .map_or(session.owner_name.as_str(), |u| u.username.as_str());
    if !policy.admits(state, session.owner) {
        return Err(format!(
            "allocation policy {} no longer includes {name}",
            policy.name
        ));
    }
    let new_seat = QueueSeat {
        name: entry.queue.clone(),
        allotment: profile.allotment(),
        ..seat.clone()
    };
    let groups: Vec<&Group> = profile
        .pools
        .iter()
        .filter_map(|pool| state.group_by_ref(&config.pool(pool)?.group))
        .collect();
    // Where it stands while it waits says what it is shown with: that of the first pool
    // that takes its type, unless the present one still is among them.
    let group = groups
        .iter()
        .filter(|_| groups.iter().all(|g| g.id != session.group))
        .find(|g| g.allowed_session_types.contains(&session.kind))
        .map(|g| (g.id, g.name.clone()));
    let before = state.config.config.profile(&seat.profile).map(|p| &p.slots);
    let mut moved = Moved {
        shm_bytes: session.shm_bytes,
        slots: Vec::new(),
        adjusted: Vec::new(),
        seat: new_seat,
        group,
    };
    if before != Some(&profile.slots) {
        let present = std::iter::once(&session.slots).chain(&session.cluster.ranks);
        moved.slots = present
            .map(|s| new_slots(s, before, profile, session))
            .collect();
        for (slot, amount) in moved.slots[0].iter() {
            let was = session.slots.amount(slot);
            if was != amount {
                moved.adjusted.push(Adjusted {
                    path: pointer("/slots", slot.as_str()),
                    from: (was > 0).then(|| slot.format_amount(was)),
                    to: slot.format_amount(amount),
                    reason: "profile".to_owned(),
                    source: Some(profile.name.clone()),
                });
            }
        }
        let mem = least_mem(&moved.slots[0], &moved.slots[1..]);
        // Asked for it was less than the memory, so as much as that is what nobody asked for.
        if moved.shm_bytes == session.least_mem() {
            moved.shm_bytes = mem;
        } else if moved.shm_bytes >= mem {
            moved.shm_bytes = mem / 2;
        }
    }
    if !moved.slots.is_empty() || moved.seat.allotment != seat.allotment {
        let mut asked = session.clone();
        let same = Moved {
            seat: moved.seat.clone(),
            slots: moved.slots.clone(),
            group: moved.group.clone(),
            adjusted: Vec::new(),
            shm_bytes: moved.shm_bytes,
        };
        same.take(&mut asked);
        could_ever_be(state, &asked, &groups, profile)?;
    }
    let same = moved.seat == *seat && moved.slots.is_empty() && moved.group.is_none();
    Ok((!same).then_some(moved))
}

/// A container's amounts with those of its profile exchanged. What was asked for beyond
/// the profile stays, and what its image needs at least stays.
fn new_slots(
    present: &Slots,
    before: Option<&Slots>,
    profile: &Profile,
    session: &Session,
) -> Slots {
    let mut slots = present.clone();
    for (slot, _) in before.into_iter().flat_map(Slots::iter) {
        // Without cpu and memory there is no container: these stay as they were.
        if slot.is_accelerator() {
            slots.set(slot.clone(), 0);
        }
    }
    for (slot, amount) in profile.slots.iter() {
        let path = pointer("/slots", slot.as_str());
        let least = session
            .adjusted
            .iter()
            .filter(|a| {
                a.path == path && matches!(a.reason.as_str(), "image-minimum" | "engine-minimum")
            })
            .filter_map(|a| slot.parse_amount(&a.to).ok())
            .max();
        slots.set(slot.clone(), amount.max(least.unwrap_or(0)));
    }
    slots
}

/// Rules 15 and 16 of submit for a session whose profile was changed.
fn could_ever_be(
    state: &State,
    session: &Session,
    groups: &[&Group],
    profile: &Profile,
) -> Result<(), String> {
    let ranks = [session.rank_slots(0).clone()];
    let arch = session.arch.as_deref();
    let fits = groups.is_empty()
        || groups.iter().any(|group| {
            !group.refuse_never_fits || could_ever_hold(state, group.id, &ranks, true, arch).is_ok()
        });
    if !fits {
        return Err(format!(
            "profile {} was changed to {}, which no agent of its pools could hold",
            profile.name, profile.slots
        ));
    }
    let layers = layers(state, &Requester::of(session));
    if let Some(over) = over_alone(state, &layers, &session.limited_slots()).first() {
        return Err(format!(
            "profile {} was changed to {}, more than {} {} allows in all",
            profile.name,
            profile.slots,
            over.kind.source_kind(),
            over.name
        ));
    }
    Ok(())
}

pub(super) fn enable(state: &State, enabled: bool) -> Decision {
    let live = LiveConfig {
        enabled,
        ..state.config.clone()
    };
    let object = AdminObject::Config(Box::new(view_of_live(state, &live)));
    let changes = if live == state.config {
        Vec::new()
    } else {
        vec![Change::Config(Box::new(live))]
    };
    let scope = Scope::sessions(state, |s| s.queue.is_some());
    Decision::new(object, changes)
        .was(&live_view(state))
        .touching(scope)
}

pub(super) fn rename_queue(
    state: &State,
    caller: &Caller,
    queue: &str,
    name: &Member<String>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let live = &state.config.config;
    let present = live.queues().find(|q| q.name.eq_ignore_ascii_case(queue));
    let present = present.ok_or_else(|| {
        let known = live.queues().map(|q| q.name);
        Refusal::new("LS-NOT-FOUND", unknown("queue", queue, known))
    })?;
    let mut reader = Reader::default();
    let name = reader.title("name", name).unwrap_or_default();
    reader.done()?;
    let (policy, profile) = (present.policy.name.clone(), present.profile.name.clone());
    let is_it = |p: &str, e: &PolicyProfile| p == policy && e.profile == profile;
    let entries = live
        .allocation_policies
        .iter()
        .flat_map(|p| p.profiles.iter().map(|e| (p.name.as_str(), e)));
    let mut others = entries.filter(|(p, e)| !is_it(p, e));
    if let Some((p, e)) = others.find(|(_, e)| e.queue.to_lowercase() == name.to_lowercase()) {
        let detail = format!("{} is the queue of {p} with {}.", e.queue, e.profile);
        return Err(Refusal::new("LS-EXISTS", detail).at("/name", "Taken."));
    }
    let renamed = |config: &ResourceConfig| {
        let mut config = config.clone();
        for policy in &mut config.allocation_policies {
            for entry in &mut policy.profiles {
                if is_it(&policy.name, entry) {
                    entry.queue.clone_from(&name);
                }
            }
        }
        config
    };
    let before = queue_view(state, queue);
    let view = before.clone().map(|view| QueueView {
        name: name.clone(),
        ..view
    });
    let object = view.map_or(AdminObject::Gone, |view| AdminObject::Queue(Box::new(view)));
    if present.name == name {
        return Ok(Decision::new(object, Vec::new()));
    }
    let mut draft = Draft::new(state, now);
    for session in state
        .sessions
        .values()
        .filter(|s| s.state == SessionState::Pending)
    {
        let here = session
            .queue
            .as_ref()
            .is_some_and(|seat| seat.policy == policy && seat.profile == profile);
        if here
            && let Some(copy) = draft.session_mut(session.id)
            && let Some(seat) = &mut copy.queue
        {
            seat.name.clone_from(&name);
        }
    }
    let next = next_version(state, caller, renamed(live), now);
    // Work on a draft goes on: it knows the new name too, and what is live now.
    if let Some(known) = state
        .config_draft
        .as_ref()
        .filter(|d| d.base == state.config.version)
    {
        let known = saved(state, next.version, renamed(&known.config), now);
        draft.push(Change::ConfigDraft(Some(Box::new(known))));
    }
    draft.push(Change::Config(Box::new(next)));
    let scope = Scope::sessions(state, |s| {
        s.queue
            .as_ref()
            .is_some_and(|q| q.policy == policy && q.profile == profile)
    });
    let decision = Decision::drafted(object, draft).touching(scope);
    Ok(match &before {
        Some(before) => decision.was(before),
        None => decision,
    })
}
