//! The one task that owns the state.
//!
//! It takes everything that waits in its inbox, up to a bound, decides event by event,
//! commits one transaction for all, and only then lets anybody hear of it. Between two
//! events it sleeps until the next deadline it named itself. After a commit that failed it
//! decides nothing for a moment; who only looks is answered meanwhile.
//!
//! | input | output |
//! |---|---|
//! | [`Message`] from the API, agents' tasks, the silence watch | answers; [`Effect`]s to `cluster`; changed sessions to those who wait for them |
//!
//! Each operation with an effect leaves a record in the audit log, in the same transaction.

pub use self::audit::{Origin, begin, begin_fixed, begin_loaded};

use crate::live::Live;
use crate::store::{Store, StoreError};
use longshore_common::ids::SessionId;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use longshore_common::wire::CloseCode;
use longshore_core::Core;
use longshore_core::model::{Answer, Change, Effect, Event, Refusal, State};
use longshore_core::scheduler::Planner;
use longshore_identity::audit::{Draft, Head};
use longshore_link::boot_ms;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, warn};

pub(crate) mod audit;
#[cfg(test)]
pub(crate) mod tests;

/// Messages that may wait; beyond it the API answers "busy".
const INBOX: usize = 8192;
/// Messages decided in one transaction at most.
const BATCH: usize = 1024;
/// After a commit that failed: a full disk does not heal faster for being asked more often.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The longest sleep when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What the asker gets: the answer or refusal, or why there is none.
type Told = Result<Result<Answer, Refusal>, EngineError>;
/// Runs on the engine's task once the batch is stored; hands the answer on.
type Reply = Box<dyn FnOnce(&mut Core, Timestamp, Told) + Send>;
type Look = Box<dyn FnOnce(&mut Core, Timestamp) + Send>;

enum Message {
    /// What happened, who asked for it, who waits for what follows.
    Event(Box<Event>, Option<Arc<Origin>>, Option<Reply>),
    /// What happened beside the state and belongs into the audit log.
    Record(Box<Draft>, Option<Reply>),
    /// Retention removes the records of the audit log up to this one.
    Forget(Head, Reply),
    Look(Look),
}

/// Why the engine gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Its inbox is full.
    #[error("the coordinator has too much to do; try again in a second")]
    Busy,
    /// It is stopping.
    #[error("the coordinator is stopping")]
    Stopped,
    /// The change could not be stored; nothing was done.
    #[error("the change could not be stored, nothing was done")]
    Store,
    /// The disk is full; nothing was done.
    #[error("the coordinator's disk is full, nothing was done")]
    DiskFull,
    /// The audit log could not be written; nothing was done.
    #[error("the audit log could not be written, nothing was done")]
    Audit,
}

/// The way to the engine, cheap to copy.
#[derive(Clone)]
pub struct Engine {
    inbox: mpsc::Sender<Message>,
    changed: Arc<Changed>,
    /// Who asks through this handle; none = the coordinator itself.
    origin: Option<Arc<Origin>>,
    /// Figures that are never stored.
    pub live: Arc<Live>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Keeps something up to date with the state. Called on the engine's task, once what changed
/// is stored and before anybody is told of it; must be short.
pub trait Follow: Send + Sync {
    /// These changes were made; the state has them.
    fn changed(&self, state: &State, changes: &[Change]);
}

/// Who waits for a session to change.
#[derive(Debug, Default)]
struct Changed {
    /// Each who waits remembers what it has seen: one wake-up does not spend another's.
    waiting: Mutex<HashMap<SessionId, watch::Sender<()>>>,
    /// How often somebody began to wait.
    #[cfg(test)]
    waits: std::sync::atomic::AtomicUsize,
}

impl Changed {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, watch::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These sessions have changed.
    fn wake(&self, sessions: impl Iterator<Item = SessionId>) {
        let waiting = self.lock();
        if waiting.is_empty() {
            return;
        }
        for id in sessions {
            if let Some(changed) = waiting.get(&id) {
                changed.send_replace(());
            }
        }
    }
}

/// Woken when the session it was asked for has changed.
#[derive(Debug)]
pub struct Watch {
    id: SessionId,
    /// None only while it is dropped.
    news: Option<watch::Receiver<()>>,
    changed: Arc<Changed>,
}

impl Watch {
    /// Returns once the session changed after this watch was made or last returned.
    pub async fn changed(&mut self) {
        let Some(news) = &mut self.news else { return };
        #[cfg(test)]
        self.changed
            .waits
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // The other end is kept for as long as somebody has this one.
        let _ = news.changed().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.changed.lock();
        // Given up under the lock: of two that go at once, the second finds the map's alone.
        drop(self.news.take());
        let left = waiting.get(&self.id).map(watch::Sender::receiver_count);
        if left == Some(0) {
            waiting.remove(&self.id);
        }
    }
}

impl Engine {
    /// The same engine, asked by somebody: what follows is recorded under that name.
    #[must_use]
    pub fn asked_by(&self, origin: Arc<Origin>) -> Self {
        Self {
            origin: Some(origin),
            ..self.clone()
        }
    }

    /// Writes a record of what changes nothing in the state, and waits until it is stored.
    /// For what must not happen without one: record first, then do it.
    ///
    /// # Errors
    /// [`EngineError`]: it is not stored.
    pub async fn record(&self, draft: Draft) -> Result<(), EngineError> {
        let (message, answer) = recording(draft);
        match self.inbox.try_send(message) {
            Ok(()) => answer.await.unwrap_or(Err(EngineError::Stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(EngineError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(EngineError::Stopped),
        }
    }

    /// [`Self::record`] that waits for room as [`Self::tell`] does: for refusals, which would
    /// be lost otherwise just when there are many.
    ///
    /// # Errors
    /// [`EngineError`]: it is not stored.
    pub async fn record_when_room(&self, draft: Draft) -> Result<(), EngineError> {
        let (message, answer) = recording(draft);
        let sent = self.inbox.send(message).await;
        sent.map_err(|_| EngineError::Stopped)?;
        answer.await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Removes the records of the audit log up to one, and leaves a record that says which was
    /// the last. Waits for room.
    ///
    /// # Errors
    /// [`EngineError`]: nothing was removed.
    pub async fn forget_audit(&self, removed: Head) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        let reply: Reply = Box::new(move |_, _, told| {
            let _ = reply.send(told.map(drop)); // the asker may have gone
        });
        let sent = self.inbox.send(Message::Forget(removed, reply)).await;
        sent.map_err(|_| EngineError::Stopped)?;
        answer.await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Says what happened and waits until what follows is stored.
    ///
    /// # Errors
    /// [`EngineError`] when there is no answer; the inner result is the answer or refusal.
    pub async fn ask(&self, event: Event) -> Result<Result<Answer, Refusal>, EngineError> {
        self.ask_then(event, |_, _, answer| answer.clone()).await
    }

    /// Says what happened, waits until what follows is stored, and looks at the state as
    /// it is then: one way to the engine where [`Self::ask`] and [`Self::read`] are two.
    ///
    /// # Errors
    /// [`EngineError`] when there is no answer.
    pub async fn ask_then<T: Send + 'static>(
        &self,
        event: Event,
        look: impl FnOnce(&State, Timestamp, &Result<Answer, Refusal>) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        self.ask_and_consult(event, |state, _, now, answer| look(state, now, answer))
            .await
    }

    /// [`Self::ask_then`] for answers that need the planner, such as why a session waits.
    ///
    /// # Errors
    /// [`EngineError`] when there is no answer.
    pub async fn ask_and_consult<T: Send + 'static>(
        &self,
        event: Event,
        look: impl FnOnce(&State, &mut Planner, Timestamp, &Result<Answer, Refusal>) -> T
        + Send
        + 'static,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let reply: Reply = Box::new(move |core, now, told| {
            let seen = told.map(|answer| {
                let (state, planner) = core.ask();
                look(state, planner, now, &answer)
            });
            let _ = reply.send(seen); // the asker may have gone
        });
        match self.inbox.try_send(Message::Event(
            Box::new(event),
            self.origin.clone(),
            Some(reply),
        )) {
            Ok(()) => answer.await.unwrap_or(Err(EngineError::Stopped)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(EngineError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(EngineError::Stopped),
        }
    }

    /// Says what happened and waits for room, not for an answer. For agents' tasks, whose
    /// reports must not be dropped: a full inbox slows the agent down instead.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn tell(&self, event: Event) -> Result<(), EngineError> {
        self.inbox
            .send(Message::Event(Box::new(event), self.origin.clone(), None))
            .await
            .map_err(|_| EngineError::Stopped)
    }

    /// [`Self::tell`], and a look at the state once what follows is stored, whether anybody
    /// still waits or not; none when it cannot be stored. `look` runs on the engine's task
    /// and must be short.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn tell_then(
        &self,
        event: Event,
        look: impl FnOnce(&State) + Send + 'static,
    ) -> Result<(), EngineError> {
        let reply: Reply = Box::new(move |core, _, told| {
            if told.is_ok() {
                look(core.state());
            }
        });
        self.inbox
            .send(Message::Event(
                Box::new(event),
                self.origin.clone(),
                Some(reply),
            ))
            .await
            .map_err(|_| EngineError::Stopped)
    }

    /// Looks at the state. `look` runs on the engine's task and must be short.
    ///
    /// # Errors
    /// [`EngineError`] when there is no answer.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, Timestamp) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        self.consult(|state, _, now| look(state, now)).await
    }

    /// [`Self::read`] that waits for room as [`Self::tell`] does: for what an agent's task
    /// cannot go on without.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn read_when_room<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, Timestamp) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |core, now| {
            let _ = reply.send(look(core.state(), now)); // the asker may have gone
        });
        self.inbox
            .send(Message::Look(look))
            .await
            .map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)
    }

    /// Looks at the state and asks the planner: why somebody waits, what would start.
    /// `look` runs on the engine's task and must be short.
    ///
    /// # Errors
    /// [`EngineError`] when there is no answer.
    pub async fn consult<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, &mut Planner, Timestamp) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |core, now| {
            let (state, planner) = core.ask();
            let _ = reply.send(look(state, planner, now)); // the asker may have gone
        });
        match self.inbox.try_send(Message::Look(look)) {
            Ok(()) => answer.await.map_err(|_| EngineError::Stopped),
            Err(mpsc::error::TrySendError::Full(_)) => Err(EngineError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(EngineError::Stopped),
        }
    }

    /// A watch on one session. Make it, then read the version, then wait: nothing is missed.
    #[must_use]
    pub fn watch(&self, id: SessionId) -> Watch {
        let mut waiting = self.changed.lock();
        let news = waiting.entry(id).or_default().subscribe();
        Watch {
            id,
            news: Some(news),
            changed: Arc::clone(&self.changed),
        }
    }

    /// How often somebody began to wait for a change of a session.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> usize {
        self.changed.waits.load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn recording(draft: Draft) -> (Message, oneshot::Receiver<Result<(), EngineError>>) {
    let (reply, answer) = oneshot::channel();
    let reply: Reply = Box::new(move |_, _, told| {
        let _ = reply.send(told.map(drop)); // the asker may have gone
    });
    (Message::Record(Box::new(draft), Some(reply)), answer)
}

/// The engine's time: the wall clock at the start of the process, carried on by the clock
/// that never steps. So a step of the wall clock ends no session and moves no deadline.
#[derive(Debug, Clone, Copy)]
struct Clock {
    wall: Timestamp,
    boot_ms: i64,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: wall_clock(),
            boot_ms: boot_ms(),
        }
    }

    fn now(&self) -> Timestamp {
        self.wall.plus_ms(boot_ms() - self.boot_ms)
    }
}

/// The wall clock. The only place of the coordinator that reads it for decisions.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Starts the engine on a task of its own.
///
/// `effects` gets what is to be done at agents; it is drained by `cluster` and never
/// waits on the engine. The task ends when every [`Engine`] is dropped.
#[must_use]
pub fn start(
    state: State,
    store: Store,
    live: Arc<Live>,
    effects: mpsc::UnboundedSender<Effect>,
    followers: Vec<Arc<dyn Follow>>,
) -> (Engine, tokio::task::JoinHandle<()>) {
    start_with(state, store, live, effects, followers, AFTER_FAILURE)
}

/// [`start`] with another rest after a commit that failed.
fn start_with(
    state: State,
    store: Store,
    live: Arc<Live>,
    effects: mpsc::UnboundedSender<Effect>,
    followers: Vec<Arc<dyn Follow>>,
    after_failure: Duration,
) -> (Engine, tokio::task::JoinHandle<()>) {
    let (inbox, messages) = mpsc::channel(INBOX);
    live.set_audit_end(state.audit);
    let changed = Arc::new(Changed::default());
    let engine = Engine {
        inbox,
        changed: Arc::clone(&changed),
        origin: None,
        live: Arc::clone(&live),
    };
    let task = Task {
        core: Core::new(state),
        store,
        clock: Clock::start(),
        live,
        effects,
        changed,
        followers,
    };
    let task = tokio::spawn(task.run(messages, after_failure));
    (engine, task)
}

/// What the engine's task works with.
struct Task {
    core: Core,
    store: Store,
    clock: Clock,
    live: Arc<Live>,
    effects: mpsc::UnboundedSender<Effect>,
    changed: Arc<Changed>,
    followers: Vec<Arc<dyn Follow>>,
}

impl Task {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>, after_failure: Duration) {
        // At once: a planner that is new knows of no deadline before its first pass.
        let mut next_tick = Instant::now();
        // What would need a commit before this instant waits in the batch, which is bounded.
        let mut no_commit_before = next_tick;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = Instant::now() + sleep_until_due(&self.core, &self.clock);
            let wake_at = due.min(next_tick).max(no_commit_before);
            let room = BATCH - batch.len();
            let closed = tokio::select! {
                count = messages.recv_many(&mut batch, room), if room > 0 => count == 0,
                () = tokio::time::sleep_until(wake_at) => false,
            };
            if closed {
                return;
            }
            if Instant::now() < no_commit_before {
                self.look(&mut batch);
                continue;
            }
            let tick = Instant::now() >= next_tick;
            if tick {
                next_tick = Instant::now() + LONGEST_SLEEP;
                batch.push(Message::Event(Box::new(Event::Tick), None, None));
            }
            if !self.step(&mut batch, tick).await {
                no_commit_before = Instant::now() + after_failure;
                next_tick = no_commit_before; // the planner is new
            }
        }
    }

    /// Answers who only looks. They may overtake events that wait for the store.
    fn look(&mut self, batch: &mut Vec<Message>) {
        let now = self.clock.now();
        for message in batch.extract_if(.., |m| matches!(m, Message::Look(_))) {
            if let Message::Look(look) = message {
                look(&mut self.core, now);
            }
        }
    }
}

fn sleep_until_due(core: &Core, clock: &Clock) -> Duration {
    let Some(at) = core.next_deadline() else {
        return LONGEST_SLEEP;
    };
    let ms = at.since(clock.now()).max(0);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(LONGEST_SLEEP)
}

impl Task {
    /// Decide, commit, apply, perform - for everything in `batch`. `pass` demands a pass of
    /// the planner although nothing differs. False when it could not be stored.
    async fn step(&mut self, batch: &mut Vec<Message>, pass: bool) -> bool {
        let core = &mut self.core;
        let now = self.clock.now();
        let mut changes: Vec<Change> = Vec::new();
        let mut due: Vec<Effect> = Vec::new();
        let mut replies = Vec::new();
        let mut looks = Vec::new();
        // What is due by the clock is decided with the rest, however busy the inbox is.
        let pass = pass || core.next_deadline().is_some_and(|at| at <= now);
        // A record that cannot be made is as one that cannot be stored: nothing happened.
        let mut sealed = Ok(());
        let mut record =
            |core: &mut Core, (draft, domain), changes: &mut Vec<Change>| match audit::seal(
                core.state(),
                draft,
                domain,
                now,
            ) {
                Ok(line) => core.record(line, changes),
                Err(error) => sealed = Err(error),
            };
        if core.state().next_deadline().is_some_and(|at| at <= now) {
            // Nobody asked; what is done without being asked is recorded all the same.
            let (_, audited) = core.happen_audited(&Event::Tick, now, &mut changes, &mut due);
            for one in audited {
                let domain = one.domain;
                record(core, (audit::draft(one, None), domain), &mut changes);
            }
        }
        for message in batch.drain(..) {
            match message {
                Message::Event(mut event, origin, reply) => {
                    if let Event::Terminate(order) = &mut *event
                        && order.force
                    {
                        // Sets are made by looks, which this task answers: nothing is handed out
                        // meanwhile.
                        order.handed = self.live.handed();
                    }
                    let (answer, audited) =
                        core.happen_audited(&event, now, &mut changes, &mut due);
                    for one in audited {
                        let domain = one.domain;
                        let draft = audit::draft(one, origin.as_deref());
                        record(core, (draft, domain), &mut changes);
                    }
                    if let Some(reply) = reply {
                        replies.push((reply, answer));
                    }
                }
                Message::Record(draft, reply) => {
                    record(core, (*draft, None), &mut changes);
                    if let Some(reply) = reply {
                        replies.push((reply, Ok(Answer::Done)));
                    }
                }
                Message::Forget(removed, reply) => {
                    core.forget_audit(removed.seq, &mut changes);
                    record(core, (Draft::checkpoint(removed), None), &mut changes);
                    replies.push((reply, Ok(Answer::Done)));
                }
                Message::Look(look) => looks.push(look),
            }
        }
        if pass || !changes.is_empty() {
            place(core, now, &mut changes, &mut due);
        }
        let stored = match sealed {
            Ok(()) if changes.is_empty() => Ok(()),
            Ok(()) => self.store.commit(changes.clone()).await,
            Err(error) => Err(error),
        };
        let good = stored.is_ok();
        match stored {
            Ok(()) => {
                if core.state().audit.seq != self.live.audit_end().seq {
                    self.live.set_audit_end(core.state().audit);
                }
                for follower in &self.followers {
                    follower.changed(core.state(), &changes);
                }
                for (reply, answer) in replies {
                    reply(core, now, Ok(answer));
                }
                perform(due, &self.effects);
                forget(&changes, &self.live);
                wake(&changes, &self.changed);
            }
            Err(cause) => {
                error!(error = %cause, "a batch could not be stored; memory goes back to what is");
                let told = if cause.is_disk_full() {
                    self.live.disk.full();
                    EngineError::DiskFull
                } else if cause.is_audit() {
                    EngineError::Audit
                } else {
                    EngineError::Store
                };
                restore(core, &self.store, &cause).await;
                for (reply, _) in replies {
                    reply(core, now, Err(told));
                }
                // What agents told in this batch is lost to us and sent for them: with a
                // new connection they say it again.
                for agent in core.state().agents.keys() {
                    let code = CloseCode::Overload;
                    let _ = self.effects.send(Effect::Close {
                        agent: *agent,
                        code,
                    }); // see perform
                }
            }
        }
        for look in looks {
            look(core, now);
        }
        good
    }
}

/// One pass of the planner, with a line in the log for each start.
fn place(core: &mut Core, now: Timestamp, changes: &mut Vec<Change>, effects: &mut Vec<Effect>) {
    let before = changes.len();
    core.place(now, changes, effects);
    for change in &changes[before..] {
        let Change::Session(session) = change else {
            continue;
        };
        if session.state != SessionState::Scheduled {
            continue;
        }
        let mut agents: Vec<String> = session.present().map(|c| c.agent.to_string()).collect();
        agents.dedup();
        tracing::info!(session = %session.id, agents = agents.join(" "), "scheduled");
    }
}

fn perform(due: Vec<Effect>, effects: &mpsc::UnboundedSender<Effect>) {
    let mut sent: Vec<Effect> = Vec::with_capacity(due.len());
    for effect in due {
        // One set per agent and batch: sets are whole.
        if !(matches!(effect, Effect::SendDesired(_)) && sent.contains(&effect)) {
            sent.push(effect);
        }
    }
    for effect in sent {
        if effects.send(effect).is_err() {
            warn!("nobody takes effects any more: the coordinator is stopping");
        }
    }
}

/// Figures of what is over are of interest to nobody.
fn forget(changes: &[Change], live: &Live) {
    for change in changes {
        if let Change::Session(session) = change
            && session.state.is_final()
        {
            live.forget_progress(session.id);
        }
    }
}

fn wake(changes: &[Change], changed: &Changed) {
    changed.wake(changes.iter().filter_map(|change| match change {
        Change::Session(session) => Some(session.id),
        _ => None,
    }));
}

/// Puts memory back to what is stored. A store that cannot even be read ends the process:
/// going on would mean deciding on a state nobody has.
async fn restore(core: &mut Core, store: &Store, cause: &StoreError) {
    if cause.is_fatal() {
        error!(error = %cause, "the database failed; the coordinator ends so that it can start clean");
        std::process::exit(3);
    }
    match store.load().await {
        Ok(loaded) => *core = Core::new(loaded),
        Err(again) => {
            error!(error = %again, "the database cannot be read back; the coordinator ends");
            std::process::exit(3);
        }
    }
}
