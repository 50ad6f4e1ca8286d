//! A whole installation as a value: people, nodes, a clock that only tests move, and
//! verbs for what can happen. After every event all that must always hold is checked.

// Each user of this file needs another part of it.
#![allow(dead_code, unreachable_pub, reason = "shared by several test crates")]

use longshore_common::agent::{AgentState, Device, Health, Inventory, Links, RuntimeState};
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::api::{Blocker, NewSession, TerminateAnswer};
use longshore_common::ids::{
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, DeviceId, DomainId, Fence, Generation,
    GroupId, InstanceId, PolicyId, ProjectId, Rank, SessionId, UserId,
};
use longshore_common::session::{
    Cause, ContainerState, End, Entry, ExactImage, Exit, Reason, SessionState, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    ContainerReport, DeviceUse, Outcome as AgentOutcome, OutcomeNumber, Totals,
};
use longshore_core::model::{
    Accepted, AccessRule, Answer, Beginning, Caller, Change, Container, Effect, Enrol, Event,
    Group, HelloFacts, History, JoinToken, JoinTokenOrder, Keypair, Meta, Refusal, Role,
    SchedulerSettings, Session, SessionDefaults, State, Steer, Steering, Stretch, Submit, Summary,
    Terminate, UsageBy, UsageChange, UsageRow, User, desired_set, may_follow,
};
use longshore_core::{Core, scheduler};
use std::collections::{BTreeMap, BTreeSet};

/// T1 in these tests.
pub const LOST_MS: i64 = 15_000;
/// T2 in these tests.
pub const GIVE_UP_S: u32 = 600;

/// See the module.
#[derive(Debug)]
pub struct World {
    pub core: Core,
    pub now: Timestamp,
    /// Every session as it was stored last, settled ones too.
    pub stored: BTreeMap<SessionId, Session>,
    pub history: Vec<History>,
    /// What happened since somebody took them: for a store to follow.
    pub changes: Vec<Change>,
    pub effects: Vec<Effect>,
    agent_of: BTreeMap<ContainerKey, AgentId>,
    /// Every row of usage as a store has it.
    pub usage: BTreeMap<(ContainerKey, SlotName, Option<DeviceId>), UsageRow>,
    drawn: u128,
}

pub fn meta() -> Meta {
    Meta {
        cluster: ClusterId::new(7),
        generation: CoordinatorGeneration(1),
        next_session: 1,
        next_uid: 20_000,
    }
}

/// The group a new installation has.
pub fn group() -> Group {
    Group {
        default: true,
        declare_lost_s: GIVE_UP_S,
        ..Group::new(GroupId::new(1), "default")
    }
}

/// What every installation has.
pub fn beginning() -> Beginning {
    Beginning {
        group: group(),
        domain: DomainId::new(2),
        project: ProjectId::new(3),
        keypair_policy: PolicyId::new(4),
        user_policy: PolicyId::new(5),
        project_policy: PolicyId::new(6),
        scheduler: SchedulerSettings::default(),
        service_account_admins: false,
        throttle: longshore_identity::throttle::Limits::default(),
    }
}

/// A batch session of one core.
pub fn job() -> NewSession {
    NewSession {
        command: vec!["work".to_owned()],
        image: Some("base".to_owned()),
        ..NewSession::default()
    }
}

/// The same with GPUs.
pub fn gpu_job(gpus: u32) -> NewSession {
    slots(job(), &[("cuda.device", &gpus.to_string())])
}

/// The same with these slots.
pub fn slots(mut request: NewSession, slots: &[(&str, &str)]) -> NewSession {
    request.slots.extend(
        slots
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    );
    request
}

/// A process that ended by itself.
pub fn exit(code: i32) -> End {
    End::Exited(Exit {
        code,
        signal: None,
        oom: false,
        at: Timestamp(0),
    })
}

/// A start that failed.
pub fn failed(cause: Cause) -> End {
    End::StartFailed {
        cause,
        detail: "as the test wants".to_owned(),
    }
}

impl World {
    /// One administrator and one group, no nodes.
    pub fn new() -> Self {
        let mut world = Self {
            core: Core::new(State::new(meta())),
            now: Timestamp(1_800_000_000_000),
            stored: BTreeMap::new(),
            history: Vec::new(),
            usage: BTreeMap::new(),
            changes: Vec::new(),
            effects: Vec::new(),
            agent_of: BTreeMap::new(),
            drawn: 1000,
        };
        let rule = AccessRule::factory(Timestamp(0));
        world.apply(vec![Change::Group(group()), Change::AccessRule(rule)]);
        world.user("ada");
        world
    }

    /// Another person.
    pub fn user(&mut self, name: &str) -> UserId {
        let id = UserId::new(self.draw());
        let user = User {
            username: name.to_owned(),
            email: format!("{name}@example.org"),
            role: Role::Superadmin,
            uid: 20_000,
            domain: DomainId::new(2),
            ..User::new(id, self.now)
        };
        let pair = Keypair::new(&format!("LK{name}"), [7; 32], id, self.now);
        self.apply(vec![Change::User(Box::new(user)), Change::Keypair(pair)]);
        id
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        self.drawn
    }

    pub fn caller(&self) -> Caller {
        let user = self
            .state()
            .users
            .values()
            .find(|u| u.username == "ada")
            .expect("ada is there");
        Caller {
            user: user.id,
            access_key: "LKada".to_owned(),
        }
    }

    /// Something happens: decided, applied, placed, checked.
    pub fn happen(&mut self, event: Event) -> Result<Answer, Refusal> {
        let (mut changes, mut effects) = (Vec::new(), Vec::new());
        let due = |core: &Core, now| core.next_deadline().is_some_and(|at| at <= now);
        let pass = due(&self.core, self.now);
        let answer = self
            .core
            .happen(&event, self.now, &mut changes, &mut effects);
        if pass || !changes.is_empty() {
            self.core.place(self.now, &mut changes, &mut effects);
        }
        changes.iter().for_each(|change| self.follow(change));
        self.changes.extend(changes);
        self.effects.extend(effects);
        if let Err(broken) = self.check() {
            panic!("after {event:?}: {broken}\n{}", self.show_all());
        }
        answer
    }

    /// The same for what is never refused.
    pub fn does(&mut self, event: Event) -> Answer {
        match self.happen(event) {
            Ok(answer) => answer,
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    pub fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.follow(&change);
            self.core.apply(&change);
            self.changes.push(change);
        }
    }

    pub fn state(&self) -> &State {
        self.core.state()
    }

    /// What must hold between two forms of one thing.
    fn follow(&mut self, change: &Change) {
        match change {
            Change::Session(session) => {
                if let Some(old) = self.stored.insert(session.id, (**session).clone()) {
                    assert!(
                        session.version > old.version,
                        "{} has its version twice",
                        session.id
                    );
                    assert!(
                        session.attempt >= old.attempt,
                        "{} goes back an attempt",
                        session.id
                    );
                    let running = session.containers.iter().filter(|c| c.may_run());
                    let attempts: BTreeSet<_> = running.map(|c| c.key.attempt).collect();
                    assert!(attempts.len() <= 1, "{} runs twice", session.id);
                    if old.state.is_final() {
                        assert_eq!(
                            old.state, session.state,
                            "{} leaves a final state",
                            session.id
                        );
                        assert_eq!(old.reason, session.reason, "{} has two reasons", session.id);
                    }
                }
            }
            Change::History(line) => {
                let mut lines = self.history.iter().filter(|l| l.session == line.session);
                let before = lines.clone().count();
                let stood = lines.next_back().map(|l| l.to);
                assert_eq!(line.from, stood, "history of {} jumps", line.session);
                assert_eq!(
                    line.seq,
                    before as u64 + 1,
                    "history of {} has a hole",
                    line.session
                );
                assert!(
                    may_follow(line.from, line.to),
                    "{} goes from {:?} to {}",
                    line.session,
                    line.from,
                    line.to
                );
                self.history.push(line.clone());
            }
            Change::LedgerOpened(row) => {
                let agent = *self.agent_of.entry(row.key).or_insert(row.agent);
                assert_eq!(agent, row.agent, "{} is placed twice", row.key);
            }
            Change::Usage(UsageChange::Opened(row)) => {
                let place = (row.key, row.slot.clone(), row.device.clone());
                let before = self.usage.insert(place, (**row).clone());
                assert!(before.is_none(), "{} has its usage twice", row.key);
            }
            Change::Usage(UsageChange::Ran {
                session,
                attempt,
                at,
            }) => {
                for row in self.usage.values_mut() {
                    if (row.key.session, row.key.attempt) == (*session, *attempt) {
                        assert_eq!(row.billable_from, None, "{session} ran twice");
                        row.billable_from = Some(*at);
                    }
                }
            }
            Change::Usage(UsageChange::Rested { session, at }) => {
                for row in self.usage.values_mut() {
                    let runs = row.billable_from.is_some() && row.billable_to.is_none();
                    if row.key.session == *session && runs {
                        row.billable_to = Some(*at);
                    }
                }
            }
            Change::LedgerClosed { key, at } => {
                for row in self.usage.values_mut() {
                    if row.key == *key && row.to.is_none() {
                        row.to = Some(*at);
                    }
                }
            }
            _ => (),
        }
    }

    /// Rows of usage say of each session what its lines of history say: RUNNING from the
    /// first word of it to the last, once for each attempt.
    pub fn check_usage(&self) {
        let end = self.now;
        for row in self.usage.values() {
            // Remarks stand between the lines that change the state.
            let lines = self.history.iter().filter(|l| l.from != Some(l.to));
            let own: Vec<_> = lines.filter(|l| l.session == row.key.session).collect();
            let began = own
                .iter()
                .position(|l| l.to == SessionState::Running && l.attempt == row.key.attempt);
            let ended = began.and_then(|at| own.get(at + 1));
            assert_eq!(
                row.billable_from.is_some(),
                began.is_some(),
                "{} is billed as its history says",
                row.key
            );
            let (Some(from), Some(at)) = (row.billable_from, began) else {
                continue;
            };
            assert!(row.from <= from && from <= own[at].at, "{}", row.key);
            assert_eq!(row.billable_to, ended.map(|l| l.at), "{}", row.key);
            let open = self.state().ledger.contains_key(&row.key);
            assert_eq!(row.to.is_none(), open, "{} ends with its claim", row.key);
        }
        // A device is held once, also by attempts of one session.
        for row in self.usage.values().filter(|row| row.device.is_some()) {
            let mut others = self.usage.values();
            let twice = others.find(|other| {
                let same = (other.key.session, &other.device) == (row.key.session, &row.device);
                let later = other.key.attempt > row.key.attempt;
                same && later && row.to.is_none_or(|to| other.from < to)
            });
            assert!(twice.is_none(), "{row:?} and {twice:?}");
        }
        for session in self.stored.values() {
            let stretch = Stretch {
                since: None,
                until: Some(end),
            };
            let mut sum = Summary::new(UsageBy::Session, stretch, end);
            let mut rows = self.usage.values().filter(|r| r.key.session == session.id);
            rows.by_ref().for_each(|row| sum.take(row));
            let sum = sum.done();
            let counted = sum.first().map_or(0, |s| s.accelerators.allocated);
            let runs = session.spent.runs_since.map_or(0, |since| {
                i128::from(end.since(since)) * i128::from(session.spent.runs_with)
            });
            let said = i128::from(session.spent.accelerator_ms) + runs;
            assert_eq!(counted, said, "accelerator time of {}", session.id);
        }
    }

    /// What must always hold.
    pub fn check(&self) -> Result<(), String> {
        self.state().check()?;
        let mut keys = BTreeSet::new();
        for session in self.state().sessions.values() {
            let id = session.id;
            if session.array.is_some() {
                continue; // none is ever placed
            }
            for container in &session.containers {
                if !self.state().agents.contains_key(&container.agent) {
                    return Err(format!("{id} is placed on nobody"));
                }
                if !keys.insert(container.key) {
                    return Err(format!("{} is there twice", container.key));
                }
            }
            let placed = session.present().next().is_some();
            let due = session.deadline.is_some();
            let sound = match session.state {
                SessionState::Pending => !placed && !due,
                SessionState::Scheduled | SessionState::Preparing | SessionState::Terminating => {
                    placed && due
                }
                SessionState::Running => placed && !due,
                _ => session.ended_at.is_some() && session.reason.is_some() && !due,
            };
            if !sound {
                return Err(format!(
                    "{id} is {} (placed {placed}, deadline {due})",
                    session.state
                ));
            }
        }
        for agent in self.state().agents.values() {
            let usage = self.state().agent_use(agent.id);
            if let Some(inventory) = &agent.inventory
                && !inventory.offered.fits(
                    &usage
                        .slots
                        .iter()
                        .filter(|(s, _)| !s.is_accelerator())
                        .map(|(s, a)| (s.clone(), a))
                        .collect(),
                )
            {
                return Err(format!(
                    "{} gives out more than it has: {}",
                    agent.name, usage.slots
                ));
            }
        }
        Ok(())
    }

    // ---- people ----

    pub fn ask(&mut self, request: NewSession) -> Result<SessionId, Refusal> {
        self.ask_again(request, None).map(|a| a.id)
    }

    pub fn ask_again(
        &mut self,
        request: NewSession,
        idempotency: Option<(String, [u8; 32])>,
    ) -> Result<Accepted, Refusal> {
        let caller = self.caller();
        let defaults = SessionDefaults {
            system_image: "files".to_owned(),
            ..SessionDefaults::default()
        };
        let submit = Submit {
            idempotency,
            ..Submit::new(caller, request, defaults)
        };
        match self.happen(Event::Submit(Box::new(submit)))? {
            Answer::Session(accepted) => Ok(accepted),
            other => panic!("{other:?}"),
        }
    }

    pub fn submit(&mut self, request: NewSession) -> SessionId {
        self.ask(request).expect("a good request")
    }

    pub fn terminate(&mut self, ids: &[SessionId], grace_s: u32, force: bool) -> TerminateAnswer {
        let caller = self.caller();
        match self.does(Event::Terminate(Terminate {
            caller,
            called: None,
            ids: ids.to_vec(),
            grace_s,
            force,
            many: false,
            handed: BTreeMap::new(),
        })) {
            Answer::Terminated(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn steer(&mut self, id: SessionId, what: Steering) -> Result<Session, Refusal> {
        let order = Steer {
            caller: self.caller(),
            called: None,
            session: id,
            past: None,
            version: None,
            dry_run: false,
            what,
        };
        match self.happen(Event::Steer(Box::new(order)))? {
            Answer::Steered(session) => Ok(*session),
            other => panic!("{other:?}"),
        }
    }

    // ---- nodes ----

    pub fn token(&mut self, max_uses: u32, name: Option<&str>) -> String {
        let id = format!("tok{}", self.draw());
        let token = JoinToken {
            id: id.clone(),
            secret_sha256: [1; 32],
            group: GroupId::new(1),
            agent_name: name.map(str::to_owned),
            created_at: self.now,
            expires_at: self.now.plus_s(3600),
            max_uses,
            joined: vec![],
            created_by: self.caller().user,
        };
        self.does(Event::CreateToken(JoinTokenOrder { token, group: None }));
        id
    }

    pub fn enrol(&mut self, token: &str, name: &str, key: [u8; 32]) -> Result<AgentId, Refusal> {
        let new_id = AgentId::new(self.draw());
        let order = Enrol {
            token: token.to_owned(),
            secret_sha256: [1; 32],
            key,
            name: name.to_owned(),
            fingerprint: "f".to_owned(),
            machine: "m".to_owned(),
            new_id,
        };
        match self.happen(Event::Enrol(order))? {
            Answer::Enrolled { agent, .. } => Ok(agent),
            other => panic!("{other:?}"),
        }
    }

    /// A node with 16 cores, 64 GB and GPUs, connected.
    pub fn agent(&mut self, name: &str, gpus: u32) -> AgentId {
        let token = self.token(1, None);
        let agent = self.enrol(&token, name, [2; 32]).expect("a good token");
        self.hello(agent);
        self.does(Event::Inventory {
            agent,
            inventory: Box::new(inventory(name, gpus)),
        });
        agent
    }

    pub fn hello(&mut self, agent: AgentId) -> Answer {
        let facts = HelloFacts {
            agent,
            key: [2; 32],
            fingerprint: "f".to_owned(),
            machine: "m".to_owned(),
            boot_id: "b".to_owned(),
            fence: Fence(1),
            other_engine_connected: false,
        };
        self.does(Event::Hello(Box::new(facts)))
    }

    pub fn silent(&mut self, agent: AgentId, for_ms: i64) {
        self.does(Event::Silent {
            agent,
            for_ms,
            lost_after_ms: LOST_MS,
        });
    }

    /// T1 and no more.
    pub fn lose(&mut self, agent: AgentId) {
        self.silent(agent, LOST_MS);
    }

    /// T2.
    pub fn give_up(&mut self, agent: AgentId) {
        self.silent(agent, i64::from(GIVE_UP_S) * 1000);
    }

    /// An administrator says that it is gone.
    pub fn confirm(&mut self, agent: AgentId) -> Result<Answer, Refusal> {
        self.happen(Event::ConfirmLoss {
            agent,
            dry_run: false,
        })
    }

    pub fn schedulable(&mut self, agent: AgentId, schedulable: bool) {
        self.does(Event::SetSchedulable {
            agent,
            version: None,
            schedulable,
        });
    }

    pub fn generation(&self, agent: AgentId) -> Generation {
        self.state().agents[&agent].generation
    }

    // ---- containers ----

    /// The container of the present attempt.
    pub fn container(&self, id: SessionId) -> &Container {
        self.stored[&id]
            .present()
            .next()
            .unwrap_or_else(|| panic!("{id} has no place"))
    }

    pub fn key(&self, id: SessionId) -> ContainerKey {
        self.container(id).key
    }

    pub fn agent_of(&self, id: SessionId) -> AgentId {
        self.container(id).agent
    }

    /// Its agent takes its orders and says nothing else.
    pub fn acknowledge(&mut self, id: SessionId) {
        let agent = self.agent_of(id);
        let applied = self.generation(agent);
        self.does(Event::Report {
            agent,
            applied,
            items: vec![],
            whole: false,
            rebooted: false,
        });
    }

    pub fn report(&mut self, id: SessionId, state: ContainerState) {
        self.report_key(self.agent_of(id), self.key(id), state);
    }

    pub fn report_key(&mut self, agent: AgentId, key: ContainerKey, state: ContainerState) {
        let applied = self.generation(agent);
        let items = vec![self.item(key, state)];
        self.does(Event::Report {
            agent,
            applied,
            items,
            whole: false,
            rebooted: false,
        });
    }

    /// Everything an agent has.
    pub fn whole(
        &mut self,
        agent: AgentId,
        items: &[(ContainerKey, ContainerState)],
        rebooted: bool,
    ) {
        let applied = self.generation(agent);
        let items = items
            .iter()
            .map(|(key, state)| self.item(*key, *state))
            .collect();
        self.does(Event::Report {
            agent,
            applied,
            items,
            whole: true,
            rebooted,
        });
    }

    fn item(&self, key: ContainerKey, state: ContainerState) -> ContainerReport {
        let ran = matches!(
            state,
            ContainerState::Running | ContainerState::Stopping | ContainerState::Exited
        );
        ContainerReport {
            key,
            state,
            docker_id: "d0c".to_owned(),
            started_at: ran.then_some(self.now),
            fence: Fence(1),
            idle_deadline: None,
            frozen: false,
            idle: false,
            used_at: None,
            image: None,
        }
    }

    /// Its container is there, made from this image.
    pub fn made_from(&mut self, id: SessionId, image: ExactImage) {
        let (agent, key) = (self.agent_of(id), self.key(id));
        let item = ContainerReport {
            image: Some(image),
            ..self.item(key, ContainerState::Created)
        };
        self.does(Event::Report {
            agent,
            applied: self.generation(agent),
            items: vec![item],
            whole: false,
            rebooted: false,
        });
    }

    /// From its place to RUNNING.
    pub fn run(&mut self, id: SessionId) {
        self.acknowledge(id);
        self.report(id, ContainerState::Created);
        self.report(id, ContainerState::Running);
        assert_eq!(self.stored[&id].state, SessionState::Running);
    }

    /// Outcome 1.
    pub fn ended(&mut self, id: SessionId, end: End) {
        self.outcome(
            self.agent_of(id),
            self.key(id),
            OutcomeNumber::Ended,
            Some(end),
        );
    }

    /// Outcome 2.
    pub fn closed(&mut self, id: SessionId) {
        self.outcome(self.agent_of(id), self.key(id), OutcomeNumber::Closed, None);
    }

    /// Both.
    pub fn ends(&mut self, id: SessionId, end: End) {
        let (agent, key) = (self.agent_of(id), self.key(id));
        self.outcome(agent, key, OutcomeNumber::Ended, Some(end));
        self.outcome(agent, key, OutcomeNumber::Closed, None);
    }

    pub fn outcome(
        &mut self,
        agent: AgentId,
        key: ContainerKey,
        number: OutcomeNumber,
        end: Option<End>,
    ) {
        self.outcome_with(agent, key, number, end, Vec::new());
    }

    /// The same, with what was measured.
    pub fn outcome_with(
        &mut self,
        agent: AgentId,
        key: ContainerKey,
        number: OutcomeNumber,
        end: Option<End>,
        devices: Vec<DeviceUse>,
    ) {
        let never_ran = matches!(end, Some(End::StartFailed { .. }) | None);
        let outcome = AgentOutcome {
            key,
            number,
            end,
            started_at: (!never_ran).then_some(self.now),
            at: self.now,
            tail: match key.rank {
                Rank::MAIN => b"last words".to_vec(),
                rank => format!("last words of {rank}").into_bytes(),
            },
            totals: Totals::default(),
            devices,
        };
        self.does(Event::Outcome {
            agent,
            outcome: Box::new(outcome),
        });
        assert!(
            self.effects
                .contains(&Effect::AckOutcome { agent, key, number }),
            "no acknowledgement"
        );
    }

    // ---- time ----

    /// Time passes; what becomes due is looked at when it is due.
    pub fn later(&mut self, ms: i64) {
        let end = self.now.plus_ms(ms);
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.does(Event::Tick);
            let next = self.core.next_deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline is due for ever (at {}, sessions {:?})\n{}",
                self.now,
                self.state().next_deadline(),
                self.show_all()
            );
        }
        self.now = end;
    }

    // ---- what can be seen ----

    /// Order that stands in the set of its agent for this container.
    pub fn order(&self, agent: AgentId, key: ContainerKey) -> Option<Entry> {
        let set = desired_set(self.state(), agent, InstanceId::new(1), self.now)?;
        set.entries.into_iter().find(|e| e.key == key)
    }

    pub fn want(&self, id: SessionId) -> Option<Want> {
        self.order(self.agent_of(id), self.key(id)).map(|e| e.want)
    }

    pub fn is(&self, id: SessionId, state: SessionState) -> bool {
        self.stored[&id].state == state
    }

    pub fn reason(&self, id: SessionId) -> Option<Reason> {
        self.stored[&id].reason
    }

    /// Open claims of a session.
    pub fn rows(&self, id: SessionId) -> usize {
        self.state()
            .ledger
            .iter()
            .filter(|(key, _)| key.session == id)
            .map(|(_, rows)| rows.len())
            .sum()
    }

    /// Whether the claims of a session still count against its owner.
    pub fn counts(&self, id: SessionId) -> bool {
        let rows = self
            .state()
            .ledger
            .iter()
            .filter(|(key, _)| key.session == id);
        rows.flat_map(|(_, rows)| rows.values())
            .any(|row| row.quota_freed_at.is_none())
    }

    /// Devices of a session's present attempt.
    pub fn devices(&self, id: SessionId) -> Vec<String> {
        self.container(id)
            .devices
            .iter()
            .map(|d| d.device.to_string())
            .collect()
    }

    /// Why it waits, in the words people see.
    pub fn why(&mut self, id: SessionId) -> String {
        self.blocked(id)
            .into_iter()
            .map(|b| b.text)
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// All that it waits for.
    pub fn blocked(&mut self, id: SessionId) -> Vec<Blocker> {
        let (state, planner) = self.core.ask();
        scheduler::blocked_by(planner, state, &self.stored[&id], self.now)
    }

    /// One session in a line: `s-1 RUNNING a1, n1 run running GPU-n1-0`.
    pub fn show(&self, id: SessionId) -> String {
        let session = &self.stored[&id];
        let mut line = format!("{id} {}", session.state);
        if let Some(phase) = session.phase {
            line += &format!("/{phase}");
        }
        line += &format!(" a{}", session.attempt);
        if let Some(reason) = session.reason {
            line += &format!(" {reason}");
        }
        if let Some(result) = session.result {
            line += &format!(" {result}");
        }
        if session.unreachable {
            line += " unreachable";
        }
        for container in session.containers.iter().filter(|c| !c.is_closed()) {
            let node = &self.state().agents[&container.agent].name;
            let old = if container.key.attempt == session.attempt {
                ""
            } else {
                "old "
            };
            line += &format!(", {old}{node} {} {}", container.want, container.state);
            for grant in &container.devices {
                line += &format!(" {}", grant.device);
            }
        }
        line
    }

    pub fn show_all(&self) -> String {
        self.state()
            .sessions
            .keys()
            .map(|id| self.show(*id) + "\n")
            .collect()
    }

    /// The states a session went through.
    pub fn path(&self, id: SessionId) -> String {
        let lines = self.history.iter().filter(|l| l.session == id);
        lines.map(|l| l.to.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub fn alive(&self, agent: AgentId) -> bool {
        self.state().agents[&agent].state == AgentState::Alive
    }
}

/// 16 cores, 64 GB and GPUs named after the node.
pub fn inventory(name: &str, gpus: u32) -> Inventory {
    let plain = Slots::new()
        .with(SlotName::cpu(), 16 * UNIT)
        .with(SlotName::mem(), 64 << 30);
    Inventory {
        hostname: name.into(),
        arch: "amd64".into(),
        cgroup_version: 2,
        offered: plain.clone(),
        total: plain,
        devices: (0..gpus)
            .map(|index| Device {
                id: format!("GPU-{name}-{index}").parse().expect("a device id"),
                index,
                slot: SlotName::cuda_device(),
                capacity: UNIT,
                model: "GPU".into(),
                memory_bytes: 0,
                pci: Box::default(),
                minor: Some(index),
                numa: None,
                links: Links::default(),
                health: Health::Healthy,
                health_detail: Box::default(),
            })
            .collect(),
        ..Inventory::default()
    }
}

/// The condition of a node.
pub fn condition(agent: AgentId, runtime: RuntimeState, disk_low: bool) -> Event {
    Event::Condition {
        agent,
        runtime,
        disk_low,
    }
}
