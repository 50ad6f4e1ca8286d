//! The commands and terminals that are open, and those that ended a short while ago. Kept in
//! memory alone: what is open ends with the connections of this process anyway.

use crate::api::errors::Failure;
use longshore_common::ids::{AgentId, ExecId, SessionId, UserId};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ExecKind, ExecRequest};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Open ones of one session: what its agent allows for one container.
const PER_SESSION: usize = 32;
/// Open ones of one caller.
const PER_CALLER: usize = 200;
/// Entries in all, ended ones among them: a few KiB each. Where they are so many, the one that
/// ended first is forgotten for a new one.
const IN_ALL: usize = 4096;
/// One that nobody connected to is forgotten after so many milliseconds.
const UNUSED_MS: i64 = 60_000;
/// A terminal is kept by its agent for 60 s after its connection was lost; later it is over.
const DETACHED_MS: i64 = 65_000;
/// What became of one that has ended can be asked for so many milliseconds.
const ENDED_MS: i64 = 600_000;

/// How one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has connected yet.
    Created,
    /// Somebody is connected.
    Attached,
    /// A terminal whose connection was lost, or a detached command that nobody looks at.
    Detached,
    /// It is over; its exit code where that is known.
    Ended(Option<i32>),
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Ended(_) => "ended",
        }
    }
}

/// One command or terminal.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: SessionId,
    pub(super) agent: AgentId,
    pub(super) request: ExecRequest,
    /// Nobody else may use it.
    pub(super) by: UserId,
    /// SHA-256 of its token.
    pub(super) token: [u8; 32],
    pub(super) created_at: Timestamp,
    pub(super) state: State,
    /// Of the last change of the state, on the clock that never steps.
    since_ms: i64,
    /// Counts connections: what an older one says of its end is no news.
    connection: u64,
    /// Dropped to say that a newer connection takes over.
    held: Option<oneshot::Sender<()>>,
}

impl Entry {
    pub(super) const fn new(
        (session, agent): (SessionId, AgentId),
        request: ExecRequest,
        (by, token): (UserId, [u8; 32]),
        created_at: Timestamp,
    ) -> Self {
        Self {
            session,
            agent,
            request,
            by,
            token,
            created_at,
            state: State::Created,
            since_ms: 0,
            connection: 0,
            held: None,
        }
    }
}

impl Entry {
    /// Whom to ask how a detached command stands, and what.
    pub(super) fn asks(&self) -> (AgentId, ExecRequest) {
        let request = ExecRequest {
            kind: ExecKind::Standing,
            ..self.request.clone()
        };
        (self.agent, request)
    }
}

/// A connection to one.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) exec: ExecId,
    pub(super) agent: AgentId,
    pub(super) request: ExecRequest,
    number: u64,
    /// Resolves when a newer connection takes over.
    pub(super) replaced: oneshot::Receiver<()>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Execs(Mutex<BTreeMap<ExecId, Entry>>);

impl Execs {
    fn lock(&self, now_ms: i64) -> MutexGuard<'_, BTreeMap<ExecId, Entry>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, entry| {
            let for_ms = now_ms - entry.since_ms;
            let terminal = entry.request.kind == ExecKind::Terminal;
            if terminal && entry.state == State::Detached && for_ms > DETACHED_MS {
                entry.state = State::Ended(None);
                entry.since_ms += DETACHED_MS;
            }
            match entry.state {
                State::Created => for_ms <= UNUSED_MS,
                State::Ended(_) => now_ms - entry.since_ms <= ENDED_MS,
                State::Attached | State::Detached => true,
            }
        });
        all
    }

    /// Enters a new one.
    pub(super) fn enter(&self, mut entry: Entry, now_ms: i64) -> Result<(), Failure> {
        let mut all = self.lock(now_ms);
        room(&all, entry.session, entry.by)?;
        if all.len() >= IN_ALL {
            let ended = all.values().filter(|e| matches!(e.state, State::Ended(_)));
            let oldest = ended.min_by_key(|e| e.since_ms).map(|e| e.request.exec);
            oldest.and_then(|exec| all.remove(&exec));
        }
        entry.since_ms = now_ms;
        all.insert(entry.request.exec, entry);
        Ok(())
    }

    /// Whether one more may be opened in a session by somebody.
    pub(super) fn room(
        &self,
        (session, by): (SessionId, UserId),
        now_ms: i64,
    ) -> Result<(), Failure> {
        room(&self.lock(now_ms), session, by)
    }

    /// Looks at one, where it is of this session and this caller.
    pub(super) fn look<T>(
        &self,
        (session, exec, by): (SessionId, ExecId, UserId),
        now_ms: i64,
        look: impl FnOnce(&Entry) -> T,
    ) -> Option<T> {
        let all = self.lock(now_ms);
        let entry = all.get(&exec);
        let entry = entry.filter(|entry| entry.session == session && entry.by == by);
        entry.map(look)
    }

    /// Connects to one. A command takes one connection; a terminal takes another one when
    /// the first was lost, or takes its place before anybody has noticed that. A detached command
    /// is begun by the first, and looked at by all others, also after its end.
    pub(super) fn connect(&self, exec: ExecId, now_ms: i64) -> Result<Connected, Failure> {
        let mut all = self.lock(now_ms);
        let entry = all.get_mut(&exec).ok_or_else(none)?;
        let resume = match (entry.state, entry.request.kind) {
            (State::Created, _) => false,
            (State::Attached | State::Detached, ExecKind::Terminal) | (_, ExecKind::Detached) => {
                true
            }
            (state, _) => {
                let text = format!("{exec} is {}; it takes one connection.", state.as_str());
                return Err(Failure::new("LS-STATE", text));
            }
        };
        let (held, replaced) = oneshot::channel();
        if !matches!(entry.state, State::Ended(_)) {
            entry.state = State::Attached;
            entry.since_ms = now_ms;
        }
        entry.connection += 1;
        entry.held = Some(held);
        let request = ExecRequest {
            resume,
            ..entry.request.clone()
        };
        // Needed once, and people put secrets there.
        entry.request.command = Vec::new();
        entry.request.environment = BTreeMap::new();
        Ok(Connected {
            exec,
            agent: entry.agent,
            request,
            number: entry.connection,
            replaced,
        })
    }

    /// A connection is over.
    pub(super) fn leave(&self, connected: &Connected, state: State, now_ms: i64) {
        let mut all = self.lock(now_ms);
        if let Some(entry) = all.get_mut(&connected.exec)
            && entry.connection == connected.number
        {
            if !matches!(entry.state, State::Ended(_)) {
                entry.state = state;
                entry.since_ms = now_ms;
            }
            entry.held = None;
        }
    }

    /// Says what became of a detached command.
    pub(super) fn ended(&self, exec: ExecId, code: Option<i32>, now_ms: i64) {
        let mut all = self.lock(now_ms);
        if let Some(entry) = all.get_mut(&exec)
            && !matches!(entry.state, State::Ended(_))
        {
            entry.state = State::Ended(code);
            entry.since_ms = now_ms;
        }
    }

    /// Detached commands that may have ended unnoticed and stand in the way of a new one in this
    /// session, of this caller, or of anybody: with the agent that knows.
    pub(super) fn unsure(
        &self,
        (session, by): (SessionId, UserId),
        now_ms: i64,
    ) -> Vec<(AgentId, ExecRequest)> {
        let all = self.lock(now_ms);
        let full = all.len() >= IN_ALL;
        let unsure = all.values().filter(|e| {
            let open = matches!(e.state, State::Attached | State::Detached);
            let concerned = full || e.session == session || e.by == by;
            open && e.request.kind == ExecKind::Detached && concerned
        });
        unsure.take(PER_CALLER).map(Entry::asks).collect()
    }
}

pub(super) fn none() -> Failure {
    Failure::not_found("such command or terminal")
}

fn room(all: &BTreeMap<ExecId, Entry>, session: SessionId, by: UserId) -> Result<(), Failure> {
    let open = |entry: &&Entry| !matches!(entry.state, State::Ended(_));
    let open = || all.values().filter(open);
    if open().filter(|e| e.session == session).count() >= PER_SESSION {
        let text = format!("{PER_SESSION} commands and terminals are open in {session}.");
        return Err(Failure::new("LS-STREAMS", text).retry_after(10));
    }
    if open().filter(|e| e.by == by).count() >= PER_CALLER {
        let text = format!("{PER_CALLER} commands and terminals of yours are open.");
        return Err(Failure::new("LS-STREAMS", text).retry_after(10));
    }
    if open().count() >= IN_ALL {
        let text = "Too many commands and terminals are open.";
        return Err(Failure::new("LS-STREAMS", text).retry_after(60));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, ContainerKey, Rank};
    use longshore_common::wire::TerminalSize;

    const ME: UserId = UserId::new(1);
    const HERE: SessionId = SessionId(4);

    fn entry(exec: u128, kind: ExecKind) -> Entry {
        let request = ExecRequest {
            key: ContainerKey {
                session: HERE,
                rank: Rank::MAIN,
                attempt: Attempt(1),
            },
            exec: ExecId::new(exec),
            kind,
            command: vec!["true".to_owned()],
            environment: BTreeMap::new(),
            workdir: None,
            tty: false,
            size: TerminalSize::default(),
            resume: false,
        };
        let at = Timestamp(0);
        Entry::new((HERE, AgentId::new(2)), request, (ME, [0; 32]), at)
    }

    fn state(execs: &Execs, exec: u128, now_ms: i64) -> Option<State> {
        execs.look((HERE, ExecId::new(exec), ME), now_ms, |e| e.state)
    }

    #[test]
    fn a_command_takes_one_connection_and_is_remembered_for_a_while() {
        let execs = Execs::default();
        execs.enter(entry(1, ExecKind::Command), 0).unwrap();
        let connected = execs.connect(ExecId::new(1), 10).unwrap();
        assert!(!connected.request.resume);
        let again = execs.connect(ExecId::new(1), 20).unwrap_err();
        assert_eq!(again.code, "LS-STATE");
        execs.leave(&connected, State::Ended(Some(3)), 30);
        assert_eq!(state(&execs, 1, 600_030), Some(State::Ended(Some(3))));
        assert_eq!(state(&execs, 1, 600_031), None);
        execs.enter(entry(2, ExecKind::Command), 0).unwrap();
        assert_eq!(state(&execs, 2, 60_001), None, "nobody connected");
    }

    #[test]
    fn a_detached_command_is_begun_once_and_looked_at_for_as_long_as_it_is_known() {
        let execs = Execs::default();
        execs.enter(entry(1, ExecKind::Detached), 0).unwrap();
        let first = execs.connect(ExecId::new(1), 0).unwrap();
        assert!(!first.request.resume && !first.request.command.is_empty());
        execs.leave(&first, State::Detached, 0);
        let day = 86_400_000;
        assert_eq!(
            state(&execs, 1, day),
            Some(State::Detached),
            "it takes its time"
        );
        let look = execs.connect(ExecId::new(1), day).unwrap();
        assert!(look.request.resume);
        execs.leave(&look, State::Detached, day);
        let (_, asked) = &execs.unsure((HERE, UserId::new(9)), day)[0];
        assert_eq!(
            (asked.exec, asked.kind),
            (ExecId::new(1), ExecKind::Standing)
        );
        assert!(execs.unsure((SessionId(5), UserId::new(9)), day).is_empty());
        execs.ended(ExecId::new(1), Some(4), day);
        assert!(execs.unsure((HERE, ME), day).is_empty());
        // Looking at one that has ended changes nothing.
        let late = execs.connect(ExecId::new(1), day + 10).unwrap();
        execs.leave(&late, State::Ended(None), day + 20);
        execs.ended(ExecId::new(1), None, day + 30);
        assert_eq!(
            state(&execs, 1, day + ENDED_MS),
            Some(State::Ended(Some(4)))
        );
        assert_eq!(state(&execs, 1, day + ENDED_MS + 1), None);
    }

    #[test]
    fn a_terminal_is_taken_up_again_until_its_agent_gives_it_up() {
        let execs = Execs::default();
        execs.enter(entry(1, ExecKind::Terminal), 0).unwrap();
        let mut first = execs.connect(ExecId::new(1), 0).unwrap();
        let second = execs.connect(ExecId::new(1), 10).unwrap();
        assert!(second.request.resume);
        assert!(first.replaced.try_recv().is_err(), "the older one is told");
        execs.leave(&first, State::Ended(None), 20);
        assert_eq!(state(&execs, 1, 20), Some(State::Attached));
        execs.leave(&second, State::Detached, 100);
        assert_eq!(state(&execs, 1, 60_100), Some(State::Detached));
        assert!(execs.connect(ExecId::new(1), 60_100).is_ok());
        execs.leave(&second, State::Detached, 100); // of an older connection
        assert_eq!(state(&execs, 1, 60_100), Some(State::Attached));
    }

    #[test]
    fn nobody_takes_all_the_room() {
        let execs = Execs::default();
        let of = |exec: u128, user: u128| {
            let mut entry = entry(exec, ExecKind::Command);
            entry.session = SessionId(exec as u64); // a few of many sessions
            entry.by = UserId::new(user);
            entry
        };
        // Those that have ended are in nobody's way.
        for exec in 0..IN_ALL as u128 {
            execs.enter(of(exec, 1), 0).unwrap();
            let connected = execs.connect(ExecId::new(exec), 0).unwrap();
            execs.leave(&connected, State::Ended(Some(0)), exec as i64);
        }
        let there = |exec: u128| execs.lock(5_000).contains_key(&ExecId::new(exec));
        for exec in 5_000..5_200 {
            execs.enter(of(exec, 1), 5_000).unwrap();
        }
        assert!(
            !there(199) && there(200),
            "those that ended first are forgotten"
        );
        let more = execs.enter(of(6_000, 1), 5_000).unwrap_err();
        assert_eq!(more.code, "LS-STREAMS");
        assert!(execs.enter(of(6_000, 2), 5_000).is_ok());
    }

    #[test]
    fn one_that_is_not_the_callers_is_not_there_and_a_session_takes_so_many() {
        let execs = Execs::default();
        for exec in 0..32 {
            execs.enter(entry(exec, ExecKind::Command), 0).unwrap();
        }
        let more = execs.enter(entry(99, ExecKind::Command), 0).unwrap_err();
        assert_eq!(more.code, "LS-STREAMS");
        let one = ExecId::new(1);
        assert!(execs.look((HERE, one, UserId::new(2)), 0, |_| ()).is_none());
        assert!(execs.look((SessionId(5), one, ME), 0, |_| ()).is_none());
        let connected = execs.connect(one, 0).unwrap();
        execs.leave(&connected, State::Ended(None), 0);
        assert!(execs.enter(entry(99, ExecKind::Command), 0).is_ok());
    }
}
