//! What the supervisor has done by tasks of their own. Each reports back once, by an
//! event; none touches the supervisor's state.

use super::{Checked, Done, Event};
use crate::host::{freezer, wall_clock};
use crate::link::Shared;
use crate::logs::LogStore;
use crate::runtime::{
    Containers, CreateRequest, Found, FoundStatus, ImageFacts, OutputChunk, PullState, RuntimeError,
};
use longshore_common::ids::ContainerKey;
use longshore_common::session::{Cause, ContainerSpec, End};
use longshore_common::time::Timestamp;
use longshore_common::wire::{DeviceUse, MAX_TAIL, Outcome, OutcomeNumber, PullProgress, Totals};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The engine has so long to freeze a container before the kernel is asked.
const PAUSE: Duration = Duration::from_secs(5);
/// Pieces of output between engine and store.
const OUTPUT_QUEUE: usize = 256;
/// Output of an ended container is waited for so long before its end is told.
const DRAIN: Duration = Duration::from_secs(5);
/// After so many refusals in a row, each with an engine that answered in between, output
/// is given up: what is refused then has a cause that waiting does not mend.
const OUTPUT_REFUSALS: u32 = 3;
/// Output that ends so long after its process did not end because of it, in milliseconds:
/// the engine was away in between and may have more. The engine ends both in one go.
const LATE_END_MS: i64 = 1000;

/// Pulls if need be and creates.
pub(super) async fn prepare<C: Containers>(
    runtime: Arc<C>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    mut request: CreateRequest,
    mut cancelled: oneshot::Receiver<()>,
) -> Done {
    let key = request.key;
    let mut tried = false;
    loop {
        match ensure(&*runtime, &shared, key, &request.spec, &mut cancelled).await {
            Ok(facts) => request.image = facts,
            Err(error) => return Done::Prepared(Err(error)),
        }
        let _ = events.send(Event::Step(key, Done::Creating)).await; // the end of the supervisor ends us too
        match create(&*runtime, &request).await {
            // Somebody removed the image since it was looked at.
            Err(RuntimeError::Failed {
                cause: Cause::ImageNotAvailable,
                ..
            }) if !tried => tried = true,
            result => return Done::Prepared(result),
        }
    }
}

async fn create<C: Containers>(
    runtime: &C,
    request: &CreateRequest,
) -> Result<String, RuntimeError> {
    match runtime.create(request).await {
        // It exists: ours by its labels, made before we were killed.
        Err(RuntimeError::Conflict) => match runtime.find(request.key).await? {
            Some(found) => Ok(found.docker_id),
            None => Err(RuntimeError::Conflict),
        },
        result => result,
    }
}

/// Makes the image present, and tells how far it is meanwhile.
async fn ensure<C: Containers>(
    runtime: &C,
    shared: &Arc<Shared>,
    key: ContainerKey,
    spec: &ContainerSpec,
    cancelled: &mut oneshot::Receiver<()>,
) -> Result<ImageFacts, RuntimeError> {
    let (progress, states) = mpsc::channel(8);
    let forward = tokio::spawn(forward_progress(key, states, Arc::clone(shared)));
    let pull = runtime.ensure_image(&spec.image, spec.digest.as_deref(), spec.pull, progress);
    // Only the pull can be given up: a create that was sent is waited for, or the engine
    // would finish it behind our back.
    let image = tokio::select! {
        image = pull => image,
        _ = cancelled => Err(RuntimeError::Failed {
            cause: Cause::ImageNotAvailable,
            detail: "nobody waits for the image any more".to_owned(),
        }),
    };
    forward.abort();
    let _ = forward.await; // it must not put back what is taken out now
    shared.outbox().progress.remove(&key);
    image
}

async fn forward_progress(
    key: ContainerKey,
    mut states: mpsc::Receiver<PullState>,
    shared: Arc<Shared>,
) {
    while let Some(state) = states.recv().await {
        let progress = PullProgress {
            key,
            bytes_done: state.bytes_done,
            bytes_total: state.bytes_total,
            layers_done: state.layers_done,
            layers_total: state.layers_total,
        };
        shared.outbox().progress.insert(key, progress);
        shared.changed.notify_one();
    }
}

/// Starts and compares what the container got with what it was granted.
pub(super) async fn start<C: Containers>(
    runtime: Arc<C>,
    docker_id: String,
    request: CreateRequest,
) -> Done {
    if let Err(error) = runtime.start(&docker_id).await {
        return Done::Started(Err(error));
    }
    let breach = runtime.verify(&docker_id, &request).await;
    let found = runtime.find(request.key).await;
    match found {
        Ok(Some(found)) => Done::Started(Ok((Box::new(found), breach))),
        Ok(None) => Done::Started(Err(RuntimeError::NotFound)),
        Err(error) => Done::Started(Err(error)),
    }
}

/// Compares a running container once more.
pub(super) async fn verify<C: Containers>(
    runtime: Arc<C>,
    docker_id: String,
    request: CreateRequest,
) -> Checked {
    runtime.verify(&docker_id, &request).await
}

/// Stops or kills, then looks.
pub(super) async fn stop<C: Containers>(
    runtime: Arc<C>,
    key: ContainerKey,
    docker_id: String,
    grace_s: u32,
    kill: bool,
) -> Done {
    let stopped = if kill {
        runtime.kill(&docker_id).await
    } else {
        runtime.stop(&docker_id, grace_s).await
    };
    match stopped {
        Ok(()) | Err(RuntimeError::NotFound) => Done::Found(runtime.find(key).await.map(Box::new)),
        Err(error) => Done::Found(Err(error)),
    }
}

/// Freezes: through the engine, or past it if it does not answer. What is not frozen is killed,
/// because a new attempt may begin elsewhere.
pub(super) async fn freeze<C: Containers>(
    runtime: Arc<C>,
    key: ContainerKey,
    found: Found,
) -> Done {
    let asked = tokio::time::timeout(PAUSE, runtime.freeze(&found.docker_id)).await;
    if !matches!(asked, Ok(Ok(()) | Err(RuntimeError::NotFound))) {
        let done = past_engine(&found);
        tracing::warn!(%key, ?asked, ?done, "frozen without the engine");
    }
    Done::Found(runtime.find(key).await.map(Box::new))
}

/// What is done to a container without the engine.
fn past_engine(found: &Found) -> std::io::Result<()> {
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let pid = found.pid.ok_or_else(gone)?;
    freezer::freeze(pid, &found.docker_id).or_else(|_| freezer::kill(pid, &found.docker_id))
}

/// Thaws, by whichever way it was frozen.
pub(super) async fn thaw<C: Containers>(runtime: Arc<C>, key: ContainerKey, found: Found) -> Done {
    if let Err(error) = runtime.thaw(&found.docker_id).await {
        return Done::Found(Err(error));
    }
    thaw_past_engine(&found);
    Done::Found(runtime.find(key).await.map(Box::new))
}

/// Undoes what was done without the engine, if anything was.
pub(super) fn thaw_past_engine(found: &Found) {
    if let Some(pid) = found.pid
        && let Err(error) = freezer::thaw(pid, &found.docker_id)
    {
        tracing::debug!(key = %found.key, %error, "the kernel's freezer was not asked");
    }
}

/// Looks at one container.
pub(super) async fn find<C: Containers>(runtime: Arc<C>, key: ContainerKey) -> Done {
    Done::Found(runtime.find(key).await.map(Box::new))
}

/// Removes a container and what was made for it.
pub(super) async fn remove<C: Containers>(
    runtime: Arc<C>,
    key: ContainerKey,
    docker_id: Option<String>,
) -> Done {
    Done::Removed(runtime.remove(key, docker_id.as_deref()).await)
}

/// Waits for the last output, then says how it ended.
pub(super) async fn end(
    logs: Arc<LogStore>,
    key: ContainerKey,
    end: End,
    started_at: Option<Timestamp>,
    at: Timestamp,
    (mut totals, devices): (Totals, Vec<DeviceUse>),
    output: Option<watch::Receiver<bool>>,
) -> Done {
    if let Some(mut output) = output {
        let drained = output.wait_for(|done| *done);
        let _ = tokio::time::timeout(DRAIN, drained).await; // what is missing then is lost
    }
    logs.finish(key);
    let tail = logs.tail(key, MAX_TAIL);
    totals.output = Some(logs.position(key));
    let number = OutcomeNumber::Ended;
    Done::Ended(Box::new(Outcome {
        key,
        number,
        end: Some(end),
        started_at,
        at,
        tail,
        totals,
        devices,
    }))
}

/// Copies output into the store until the container has ended, and says so; or until the
/// supervisor has, whose successor reads on where this stopped.
pub(super) async fn pump<C: Containers>(
    runtime: Arc<C>,
    logs: Arc<LogStore>,
    key: ContainerKey,
    docker_id: String,
    done: watch::Sender<bool>,
    pings: watch::Receiver<u64>,
    events: mpsc::Sender<Event>,
) {
    tokio::select! {
        () = copy_output(&*runtime, &logs, key, &docker_id, pings) => (),
        () = events.closed() => return,
    }
    done.send_replace(true);
    let _ = events.send(Event::Hint(key)).await; // the end of output is the end of the process
}

async fn copy_output<C: Containers>(
    runtime: &C,
    logs: &LogStore,
    key: ContainerKey,
    docker_id: &str,
    mut pings: watch::Receiver<u64>,
) {
    let (mut warned, mut refusals, mut seen_ended) = (false, 0, false);
    loop {
        let (read, came) = copy_once(runtime, logs, key, docker_id).await;
        // An engine that restarts while containers live on ends its streams as if they had ended.
        let after = match read {
            Ok(()) if seen_ended => return,
            Ok(()) => after_clean_end(runtime, key, docker_id).await,
            Err(RuntimeError::NotFound) => return,
            Err(error) => Err(error),
        };
        match after {
            Ok(Next::Nothing) => return,
            Ok(Next::Rest) => {
                seen_ended = true;
                continue;
            }
            Ok(Next::More) => {
                refusals = 0;
                if came {
                    continue; // so far, and no further: a reading that brings nothing waits
                }
            }
            Err(error) => {
                refusals = match error.is_engine_trouble() {
                    true => 0,
                    false if came => 1,
                    false => refusals + 1,
                };
                if refusals >= OUTPUT_REFUSALS {
                    tracing::warn!(%key, %error, "output cannot be read and is lost");
                    return;
                }
                if !warned {
                    tracing::warn!(%key, %error, "output broke off; it is read on once the engine answers");
                    warned = true;
                }
            }
        }
        pings.mark_unchanged(); // an answer from before says nothing about this
        if pings.changed().await.is_err() {
            return; // the supervisor is gone; its successor reads on
        }
    }
}

/// Reads from where the store ends until the engine ends the stream; also whether
/// anything came that was not there.
async fn copy_once<C: Containers>(
    runtime: &C,
    logs: &LogStore,
    key: ContainerKey,
    docker_id: &str,
) -> (Result<(), RuntimeError>, bool) {
    let resume = logs.resume_from(key);
    let (sink, mut chunks) = mpsc::channel(OUTPUT_QUEUE);
    let since = resume.map(|(at, _)| at);
    let mut skip = resume.map_or(0, |(_, count)| count);
    let read = runtime.output(docker_id, since, sink);
    let mut came = false;
    let copy = async {
        let mut taken = Vec::with_capacity(OUTPUT_QUEUE);
        while chunks.recv_many(&mut taken, OUTPUT_QUEUE).await > 0 {
            // Records with the time of the last one were taken already, in order.
            taken.retain(|chunk: &OutputChunk| {
                let known = skip > 0 && Some(chunk.at) == since;
                skip -= u64::from(known);
                !known
            });
            came |= !taken.is_empty();
            if let Err(error) = logs.append(key, &taken) {
                tracing::warn!(%key, %error, "output is lost");
            }
            taken.clear();
        }
    };
    let (read, ()) = tokio::join!(read, copy);
    (read, came)
}

/// What follows when the engine has ended a stream of output without an error.
enum Next {
    /// Everything was read.
    Nothing,
    /// The process has ended and output may be left: one more reading takes it all.
    Rest,
    /// The process goes on, and so does its output.
    More,
}

async fn after_clean_end<C: Containers>(
    runtime: &C,
    key: ContainerKey,
    docker_id: &str,
) -> Result<Next, RuntimeError> {
    let found = runtime.find(key).await?;
    let status = found.filter(|f| f.docker_id == docker_id).map(|f| f.status);
    Ok(match status {
        Some(FoundStatus::Running | FoundStatus::Paused) => Next::More,
        Some(FoundStatus::Exited(exit)) if wall_clock().since(exit.at) > LATE_END_MS => Next::Rest,
        Some(FoundStatus::Exited(_) | FoundStatus::Created) | None => Next::Nothing,
    })
}

/// What the engine is and which containers of ours it has.
pub type Everything = (
    Result<crate::runtime::EngineInfo, RuntimeError>,
    Result<Vec<Found>, RuntimeError>,
);

/// Reads the list of everything there is.
pub(super) async fn list<C: Containers>(runtime: Arc<C>) -> Everything {
    let info = runtime.info().await;
    let list = match &info {
        Ok(_) => runtime.list().await,
        Err(error) => Err(error.clone()),
    };
    (info, list)
}
