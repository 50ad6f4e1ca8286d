//! That this process lives, and what systemd is told of it.

use crate::supervisor::Event;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

/// The thread that calls the GPU library: one that panicked is treated like a call that does not
/// come back, and its devices are not offered.
pub(crate) const GPU_CALLS: &str = "gpu-calls";

tokio::task_local! {
    /// Set on tasks that answer one request of the coordinator: a panic there ends its stream.
    pub(crate) static GUARDED: ();
}

/// A panic ends this process, and systemd begins another one, which takes up what runs; but where
/// a single request is answered or the GPU library is called.
pub fn panics_end_the_process() {
    longshore_logging::end_on_panic("longshore-agent", is_guarded);
}

fn is_guarded() -> bool {
    std::thread::current().name() == Some(GPU_CALLS) || GUARDED.try_with(|()| ()).is_ok()
}

/// Tells systemd how this process stands; without systemd nobody listens.
pub fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd could not be told");
    }
}

/// Whether the supervisor answers.
#[derive(Debug, Clone)]
pub struct Pulse(mpsc::Sender<Event>);

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    /// It was answered.
    Heard,
    /// Not in time.
    Late,
    /// There is nobody to ask.
    Gone,
}

impl Pulse {
    pub(crate) const fn of(events: mpsc::Sender<Event>) -> Self {
        Self(events)
    }

    /// Asks it.
    async fn beats_within(&self, limit: Duration) -> Beat {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.0.send(Event::Alive(reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Some(())) => Beat::Heard,
            Ok(None) => Beat::Gone,
            Err(_) => Beat::Late,
        }
    }
}

/// Tells systemd that all is well as long as the supervisor answers, where the unit has a
/// `WatchdogSec`. Returns only where it has none.
pub async fn watchdog(pulse: Pulse) {
    if let Some(limit) = sd_notify::watchdog_enabled() {
        feed(limit, &pulse, || tell(&[NotifyState::Watchdog])).await;
    }
}

/// Three times within the limit: an answer may come late once. After one that did not come in time
/// the next is asked for at once, so that one that comes late is told while there is time.
async fn feed(limit: Duration, pulse: &Pulse, well: impl Fn()) {
    let every = (limit / 3).max(Duration::from_millis(100));
    loop {
        match pulse.beats_within(every).await {
            Beat::Heard => {
                well();
                tokio::time::sleep(every).await;
            }
            Beat::Late => warn!("the supervisor does not answer"),
            Beat::Gone => {
                warn!("the supervisor is gone");
                tokio::time::sleep(every).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn systemd_hears_as_long_as_the_supervisor_answers() {
        let (events, mut inbox) = mpsc::channel(8);
        let pulse = Pulse::of(events);
        let heard = Cell::new(0_u32);
        let limit = Duration::from_secs(30);
        let feeding = feed(limit, &pulse, || heard.set(heard.get() + 1));
        let answering = async {
            for _ in 0..3 {
                let Some(Event::Alive(reply)) = inbox.recv().await else {
                    panic!("something else was asked");
                };
                reply.send(()).unwrap();
            }
            // From here on it hangs: what is asked lies there.
            tokio::time::sleep(limit * 10).await;
        };
        tokio::select! {
            () = feeding => unreachable!("it never ends"),
            () = answering => (),
        }
        assert_eq!(heard.get(), 3);
        drop(inbox);
        assert_eq!(pulse.beats_within(limit).await, Beat::Gone);
    }

    #[tokio::test(start_paused = true)]
    async fn one_late_answer_is_no_reason_to_end_an_agent() {
        let (events, mut inbox) = mpsc::channel(8);
        let pulse = Pulse::of(events);
        let limit = Duration::from_secs(30);
        let start = tokio::time::Instant::now();
        let heard = std::cell::RefCell::new(Vec::new());
        let feeding = feed(limit, &pulse, || {
            heard.borrow_mut().push(start.elapsed().as_secs());
        });
        let answering = async {
            let mut asked = 0;
            while let Some(Event::Alive(reply)) = inbox.recv().await {
                asked += 1;
                if asked == 2 {
                    tokio::time::sleep(Duration::from_secs(12)).await;
                }
                let _ = reply.send(()); // nobody waits for what came late
                if asked == 4 {
                    return;
                }
            }
        };
        tokio::select! {
            () = feeding => unreachable!("it never ends"),
            () = answering => (),
        }
        // Asked at 10 s, answered at 22 s; asked again at 20 s.
        assert_eq!(*heard.borrow(), [0, 22]);
    }

    #[tokio::test]
    async fn what_answers_one_request_and_the_calls_of_the_gpu_library_are_guarded() {
        assert!(!is_guarded());
        assert!(GUARDED.scope((), async { is_guarded() }).await);
        let calls = std::thread::Builder::new().name(GPU_CALLS.to_owned());
        assert!(calls.spawn(is_guarded).unwrap().join().unwrap());
    }
}
