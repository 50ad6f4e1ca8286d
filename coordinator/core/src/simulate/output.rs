//! The lines of a run. Each is one JSON object; the same input gives the same bytes.

use super::watch::Watch;
use crate::model::{PastSession, Refusal, Session, State};
use crate::scheduler::{Planner, Start, blocked_by, class_of, position};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{GroupId, Rank, SessionId};
use longshore_common::session::{Reason, ResultKind, SessionType};
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Seconds left as they are shown: -1 once it has passed.
fn remaining(at: Timestamp, now: Timestamp) -> String {
    match at.since(now) {
        left if left < 0 => "-1".to_owned(),
        left => decimal(left),
    }
}

/// An object whose members stand in the order in which they were put in.
struct Object(String);

impl Object {
    const fn new() -> Self {
        Self(String::new())
    }

    fn raw(&mut self, name: &str, value: &str) {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}{}:{value}", text(name)); // writing to a String cannot fail
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &text(value));
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.raw(name, &value.to_string());
    }

    fn done(self) -> String {
        format!("{{{}}}", self.0)
    }
}

fn text(value: &str) -> String {
    serde_json::Value::String(value.to_owned()).to_string()
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

/// Thousandths as the shortest decimal.
fn decimal(milli: i64) -> String {
    longshore_common::amount::format_milli(milli)
}

pub(super) struct Lines {
    origin: Timestamp,
    pub(super) now: Timestamp,
    lines: Vec<String>,
    /// Of sessions cancelled with those they waited for: they come after the instant's events.
    cancelled: BTreeMap<SessionId, String>,
    pub(super) submitted: u64,
    refused: u64,
    started: u64,
    ended: BTreeMap<&'static str, u64>,
    past: BTreeMap<SessionId, PastSession>,
    /// From submit to the first start, in milliseconds.
    waits: BTreeMap<SessionId, i64>,
}

impl Lines {
    pub(super) const fn new(origin: Timestamp) -> Self {
        Self {
            origin,
            now: origin,
            lines: Vec::new(),
            cancelled: BTreeMap::new(),
            submitted: 0,
            refused: 0,
            started: 0,
            ended: BTreeMap::new(),
            past: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    fn begin(&self, event: &str) -> Object {
        let mut line = Object::new();
        line.number("at", decimal(self.now.since(self.origin)));
        line.text("event", event);
        line
    }

    fn put(&mut self, line: Object) {
        self.lines.push(line.done());
    }

    /// What became of a session that ended, if it did.
    pub(super) fn past(&self, id: SessionId) -> Option<PastSession> {
        self.past.get(&id).cloned()
    }

    pub(super) fn started(&mut self, state: &State, name: &str, session: &Session, start: &Start) {
        self.started += 1;
        let waited = self.now.since(session.created_at);
        self.waits.entry(session.id).or_insert(waited);
        let mut line = self.begin("started");
        line.text("session", name);
        line.number("attempt", session.attempt.0);
        let containers = start.places.iter().zip(0u16..).map(|(place, rank)| {
            let mut container = Object::new();
            container.text("rank", &Rank(rank).to_string());
            let agent = state.agents.get(&place.agent);
            container.text("agent", agent.map_or("", |a| a.name.as_str()));
            let mut slots: BTreeMap<&SlotName, Object> = BTreeMap::new();
            for grant in &place.devices {
                slots.entry(&grant.slot).or_insert_with(Object::new).text(
                    grant.device.as_str(),
                    &grant.slot.format_amount(grant.amount),
                );
            }
            let mut devices = Object::new();
            for (slot, ids) in slots {
                devices.raw(slot.as_str(), &ids.done());
            }
            container.raw("devices", &devices.done());
            container.done()
        });
        line.raw("containers", &list(containers));
        if let Some(pool) = &start.pool {
            line.text("pool", pool);
        }
        self.put(line);
    }

    pub(super) fn start_failed(&mut self, name: &str, attempt: u32, agent: &str) {
        let mut line = self.begin("start-failed");
        line.text("session", name);
        line.number("attempt", attempt);
        line.text("agent", agent);
        self.put(line);
    }

    pub(super) fn refused(&mut self, name: &str, refusal: &Refusal) {
        self.refused += 1;
        self.no_more(name, refusal);
    }

    /// Something else than a session was refused; it is none of the refused sessions.
    pub(super) fn no_more(&mut self, name: &str, refusal: &Refusal) {
        let mut line = self.begin("refused");
        line.text("session", name);
        line.text("code", refusal.code);
        line.text("detail", &refusal.detail);
        self.put(line);
    }

    /// A limit will stop a session.
    pub(super) fn warned(&mut self, name: &str, stop_at: Timestamp, reason: Reason) {
        let mut line = self.begin("warned");
        line.text("session", name);
        line.number("stop_at", decimal(stop_at.since(self.origin)));
        line.text("reason", reason.as_str());
        self.put(line);
    }

    /// What will stop a session, and when.
    pub(super) fn report(
        &mut self,
        name: &str,
        session: &Session,
        extensions_left: u32,
        watch: Option<&Watch>,
    ) {
        let (origin, now) = (self.origin, self.now);
        let seconds = |at: Timestamp| decimal(at.since(origin));
        let end = |object: &mut Object, at: Timestamp| {
            object.raw("deadline", &seconds(at));
            object.number("remaining_s", remaining(at, now));
        };
        let mut line = self.begin("report");
        line.text("session", name);
        let verdict = watch.map(|w| &w.verdict);
        let deadline = verdict.and_then(|v| v.idle_deadline_ms).map(Timestamp);
        line.text(
            "kind",
            match deadline {
                _ if verdict.is_some_and(|v| v.in_grace) => "grace_period",
                Some(_) => "expire_after",
                None => "none",
            },
        );
        if let Some(at) = deadline {
            end(&mut line, at);
        }
        if let Some(check) = verdict.and_then(|v| v.decided_by) {
            line.text("decided_by", check.name());
        }
        if let Some((watch, rules)) = watch.and_then(|w| Some((w, w.rules()?))) {
            let checks = watch.verdict.checks.map(|at| at.map(Timestamp));
            if rules.interaction_timeout_s.is_some() && session.kind == SessionType::Interactive {
                let mut check = Object::new();
                if let Some(at) = checks[0] {
                    end(&mut check, at);
                }
                if let Some(ms) = watch.history().last_activity_ms() {
                    check.raw("last_activity", &seconds(Timestamp(ms)));
                }
                line.raw("interaction", &check.done());
            }
            if let Some(rules) = rules
                .utilization
                .as_ref()
                .filter(|u| u.judges(session.kind))
            {
                let mut check = Object::new();
                if let Some(at) = checks[1] {
                    end(&mut check, at);
                }
                let mut metrics = Object::new();
                for report in watch.history().metric_reports(rules) {
                    let mut metric = Object::new();
                    if let Some(tenths) = report.mean_tenths {
                        metric.raw("mean_pct", &decimal(i64::from(tenths) * 100));
                    }
                    metric.number("threshold_pct", report.threshold);
                    metric.number("data_pct", report.share_of_data);
                    metrics.raw(&report.metric.to_string(), &metric.done());
                }
                check.raw("metrics", &metrics.done());
                line.raw("utilization", &check.done());
            }
        }
        if let Some(at) = session.lifetime_deadline() {
            let moved = verdict.and_then(|v| v.lifetime_deadline_ms).map(Timestamp);
            let mut life = Object::new();
            end(&mut life, moved.unwrap_or(at));
            life.number("extensions_used", session.life.extensions);
            life.number("extensions_left", extensions_left);
            line.raw("lifetime", &life.done());
        }
        self.put(line);
    }

    /// Writes down that a session ended, once.
    pub(super) fn ended(&mut self, name: &str, session: &Session) -> bool {
        if self.past.contains_key(&session.id) {
            return false;
        }
        let past = PastSession {
            id: session.id,
            owner: session.owner,
            ok: session.result == Some(ResultKind::Success),
        };
        self.past.insert(session.id, past);
        if session.array.is_none() {
            *self.ended.entry(session.state.as_str()).or_insert(0) += 1;
        }
        let mut line = self.begin("ended");
        line.text("session", name);
        line.text("state", session.state.as_str());
        if let Some(reason) = session.reason {
            line.text("reason", reason.as_str());
        }
        if session.kind == SessionType::Batch && session.started_at.is_some() {
            if let Some(result) = session.result {
                line.text("result", result.as_str());
            }
            if let Some(code) = session.exit_code {
                line.number("exit_code", code);
            }
        }
        if session.reason == Some(Reason::DependencyFailed) {
            self.cancelled.insert(session.id, line.done());
        } else {
            self.put(line);
        }
        true
    }

    /// Writes down who was cancelled with those they waited for, in creation order.
    pub(super) fn cancellations(&mut self) {
        self.lines
            .extend(std::mem::take(&mut self.cancelled).into_values());
    }

    pub(super) fn pending(
        &mut self,
        planner: &mut Planner,
        state: &State,
        session: &Session,
        name: &str,
        names: &BTreeMap<String, String>,
        now: Timestamp,
    ) {
        let origin = self.origin;
        let blocked = blocked_by(planner, state, session, now);
        let mut line = self.begin("pending");
        line.text("session", name);
        if let Some(position) = position(planner, state, session, now) {
            line.number("position", position);
        }
        line.number("retries", planner.retries(session.id));
        line.text("class", class_of(&blocked).unwrap_or("capacity"));
        let entries = blocked.iter().map(|blocker| {
            let mut entry = Object::new();
            entry.text("stage", &blocker.stage);
            entry.text("rule", &blocker.rule);
            for (member, value) in [
                ("slot", &blocker.slot),
                ("need", &blocker.need),
                ("have", &blocker.have),
                ("limit", &blocker.limit),
            ] {
                if let Some(value) = value {
                    entry.text(member, value);
                }
            }
            if let Some(source) = &blocker.source {
                let mut from = Object::new();
                from.text("kind", &source.kind);
                let known = names.get(&source.name).filter(|_| source.kind == "session");
                from.text("name", known.unwrap_or(&source.name));
                entry.raw("source", &from.done());
            }
            if let Some(since) = blocker.since {
                entry.raw("since", &decimal(since.since(origin)));
            }
            entry.done()
        });
        line.raw("blocked_by", &list(entries));
        self.put(line);
    }

    pub(super) fn summary(&mut self, pending: usize, running: usize, meter: &Meter, state: &State) {
        let mut line = self.begin("summary");
        line.number("submitted", self.submitted);
        line.number("refused", self.refused);
        line.number("started", self.started);
        let mut ended = Object::new();
        for (state, count) in &self.ended {
            ended.number(state, count);
        }
        line.raw("ended", &ended.done());
        line.number("pending", pending);
        line.number("running", running);
        let mut waits: Vec<i64> = self.waits.values().copied().collect();
        waits.sort_unstable();
        let mut object = Object::new();
        let count = i64::try_from(waits.len()).unwrap_or(i64::MAX);
        let mean = match count {
            0 => 0,
            count => {
                let sum: i128 = waits.iter().map(|w| i128::from(*w)).sum();
                i64::try_from((sum + i128::from(count) / 2) / i128::from(count)).unwrap_or(i64::MAX)
            }
        };
        // Nearest rank: the smallest that at least so many of a hundred do not exceed.
        let rank = |percent: usize| {
            let at = (waits.len() * percent).div_ceil(100).max(1) - 1;
            waits.get(at).copied().unwrap_or(0)
        };
        object.number("mean_s", decimal(mean));
        object.number("p50_s", decimal(rank(50)));
        object.number("p95_s", decimal(rank(95)));
        object.number("max_s", decimal(waits.last().copied().unwrap_or(0)));
        line.raw("waits", &object.done());
        line.raw("utilisation", &meter.shown(state));
        self.put(line);
    }

    pub(super) fn into_text(self) -> Vec<String> {
        self.lines
    }
}

/// Occupied and offered amounts over time.
#[derive(Debug, Default)]
pub(super) struct Meter {
    passed: bool,
    sums: BTreeMap<(GroupId, SlotName), (i128, i128)>,
}

impl Meter {
    pub(super) fn advance(&mut self, state: &State, ms: i64) {
        if ms <= 0 {
            return;
        }
        self.passed = true;
        for (key, (occupied, offered)) in present(state) {
            let sum = self.sums.entry(key).or_default();
            sum.0 += i128::from(occupied) * i128::from(ms);
            sum.1 += i128::from(offered) * i128::from(ms);
        }
    }

    fn shown(&self, state: &State) -> String {
        let now: BTreeMap<(GroupId, SlotName), (i128, i128)>;
        let sums = if self.passed {
            &self.sums
        } else {
            now = present(state)
                .into_iter()
                .map(|(key, (a, b))| (key, (i128::from(a), i128::from(b))))
                .collect();
            &now
        };
        let mut groups: BTreeMap<&str, Object> = BTreeMap::new();
        for ((group, slot), (occupied, offered)) in sums {
            let Some(group) = state.groups.get(group) else {
                continue;
            };
            if *offered == 0 {
                continue;
            }
            let ratio = (occupied * 10_000 + offered / 2) / offered;
            let mut shown = format!("{}.{:04}", ratio / 10_000, ratio % 10_000);
            shown.truncate(shown.trim_end_matches('0').trim_end_matches('.').len());
            groups
                .entry(&group.name)
                .or_insert_with(Object::new)
                .number(slot.as_str(), shown);
        }
        let mut line = Object::new();
        for (group, slots) in groups {
            line.raw(group, &slots.done());
        }
        line.done()
    }
}

/// What is occupied and offered now, by group and slot.
fn present(state: &State) -> BTreeMap<(GroupId, SlotName), (i64, i64)> {
    let mut sums: BTreeMap<(GroupId, SlotName), (i64, i64)> = BTreeMap::new();
    for agent in state.agents.values() {
        if agent.state == AgentState::Alive
            && let Some(inventory) = &agent.inventory
        {
            for (slot, amount) in inventory.capacity().iter() {
                sums.entry((agent.group, slot.clone())).or_default().1 += amount;
            }
        }
        let nothing = Slots::new();
        let used = state.agent_use_ref(agent.id).map_or(&nothing, |u| &u.slots);
        for (slot, amount) in used.iter() {
            sums.entry((agent.group, slot.clone())).or_default().0 += amount;
        }
    }
    sums
}
