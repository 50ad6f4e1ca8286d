//! The one task that owns the state.
//!
//! It takes everything that waits in its inbox, up to a bound, decides event by event,
//! commits one transaction for all, and only then lets anybody hear of it. Between two
//! events it sleeps until the next deadline it named itself.
//!
//! | input | output |
//! |---|---|
//! | [`Message`] from the API, agents' tasks, the silence watch | answers; [`Effect`]s to `cluster`; changed sessions to those who wait for them |

use crate::live::Live;
use crate::store::{Store, StoreError};
use longshore_common::ids::SessionId;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use longshore_common::wire::CloseCode;
use longshore_core::Core;
use longshore_core::model::{Answer, Change, Effect, Event, Refusal, State};
use longshore_core::scheduler::Planner;
use longshore_link::boot_ms;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, warn};

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
    Event(Box<Event>, Option<Reply>),
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
}

/// The way to the engine, cheap to copy.
#[derive(Clone)]
pub struct Engine {
    inbox: mpsc::Sender<Message>,
    changed: Arc<Changed>,
    /// Figures that are never stored.
    pub live: Arc<Live>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Who waits for a session to change.
#[derive(Debug, Default)]
struct Changed {
    waiting: Mutex<HashMap<SessionId, Arc<Notify>>>,
}

/// Woken when the session it was asked for has changed.
#[derive(Debug)]
pub struct Watch {
    id: SessionId,
    notify: Arc<Notify>,
    changed: Arc<Changed>,
}

impl Watch {
    /// Returns once the session changed after this watch was made or last returned.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self
            .changed
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Two owners are left: this watch and the map.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(&self.id);
        }
    }
}

impl Engine {
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
        match self
            .inbox
            .try_send(Message::Event(Box::new(event), Some(reply)))
        {
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
            .send(Message::Event(Box::new(event), None))
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
        let mut waiting = self
            .changed
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let notify = Arc::clone(waiting.entry(id).or_default());
        Watch {
            id,
            notify,
            changed: Arc::clone(&self.changed),
        }
    }
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
) -> (Engine, tokio::task::JoinHandle<()>) {
    let (inbox, messages) = mpsc::channel(INBOX);
    let changed = Arc::new(Changed::default());
    let engine = Engine {
        inbox,
        changed: Arc::clone(&changed),
        live,
    };
    let task = tokio::spawn(run(state, store, messages, effects, changed));
    (engine, task)
}

async fn run(
    state: State,
    store: Store,
    mut messages: mpsc::Receiver<Message>,
    effects: mpsc::UnboundedSender<Effect>,
    changed: Arc<Changed>,
) {
    let mut core = Core::new(state);
    let clock = Clock::start();
    // At once: a planner that is new knows of no deadline before its first pass.
    let mut next_tick = tokio::time::Instant::now();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let sleep = sleep_until_due(&core, &clock)
            .min(next_tick.saturating_duration_since(tokio::time::Instant::now()));
        let closed = tokio::select! {
            count = messages.recv_many(&mut batch, BATCH) => count == 0,
            () = tokio::time::sleep(sleep) => false,
        };
        if closed {
            return;
        }
        let tick = tokio::time::Instant::now() >= next_tick;
        if tick {
            next_tick = tokio::time::Instant::now() + LONGEST_SLEEP;
            batch.push(Message::Event(Box::new(Event::Tick), None));
        }
        step(
            &mut core, &store, &clock, &mut batch, tick, &effects, &changed,
        )
        .await;
    }
}

fn sleep_until_due(core: &Core, clock: &Clock) -> Duration {
    let Some(at) = core.next_deadline() else {
        return LONGEST_SLEEP;
    };
    let ms = at.since(clock.now()).max(0);
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(LONGEST_SLEEP)
}

/// Decide, commit, apply, perform - for everything in `batch`. `pass` demands a pass of
/// the planner although nothing differs.
async fn step(
    core: &mut Core,
    store: &Store,
    clock: &Clock,
    batch: &mut Vec<Message>,
    pass: bool,
    effects: &mpsc::UnboundedSender<Effect>,
    changed: &Changed,
) {
    let now = clock.now();
    let mut changes: Vec<Change> = Vec::new();
    let mut due: Vec<Effect> = Vec::new();
    let mut replies = Vec::new();
    let mut looks = Vec::new();
    // What is due by the clock is decided with the rest, however busy the inbox is.
    let pass = pass || core.next_deadline().is_some_and(|at| at <= now);
    if core.state().next_deadline().is_some_and(|at| at <= now) {
        let _ = core.happen(&Event::Tick, now, &mut changes, &mut due); // nobody asked
    }
    for message in batch.drain(..) {
        match message {
            Message::Event(event, reply) => {
                let answer = core.happen(&event, now, &mut changes, &mut due);
                if let Some(reply) = reply {
                    replies.push((reply, answer));
                }
            }
            Message::Look(look) => looks.push(look),
        }
    }
    if pass || !changes.is_empty() {
        place(core, now, &mut changes, &mut due);
    }
    let stored = if changes.is_empty() {
        Ok(())
    } else {
        store.commit(changes.clone()).await
    };
    match stored {
        Ok(()) => {
            for (reply, answer) in replies {
                reply(core, now, Ok(answer));
            }
            perform(due, effects);
            wake(&changes, changed);
            for look in looks {
                look(core, now);
            }
        }
        Err(cause) => {
            error!(error = %cause, "a batch could not be stored; memory goes back to what is");
            let told = if cause.is_disk_full() {
                EngineError::DiskFull
            } else {
                EngineError::Store
            };
            restore(core, store, &cause).await;
            // What agents told in this batch is lost to us and sent for them: with a new
            // connection they say it again.
            for agent in core.state().agents.keys() {
                let code = CloseCode::Overload;
                let _ = effects.send(Effect::Close {
                    agent: *agent,
                    code,
                }); // see perform
            }
            tokio::time::sleep(AFTER_FAILURE).await;
            for (reply, _) in replies {
                reply(core, now, Err(told));
            }
            for look in looks {
                look(core, now);
            }
        }
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

fn wake(changes: &[Change], changed: &Changed) {
    let waiting = changed
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if waiting.is_empty() {
        return;
    }
    for change in changes {
        if let Change::Session(session) = change
            && let Some(notify) = waiting.get(&session.id)
        {
            notify.notify_waiters();
            notify.notify_one(); // for one that is between reading and waiting
        }
    }
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
