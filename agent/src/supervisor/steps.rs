//! What the supervisor has done by tasks of their own. Each reports back once, by an
//! event; none touches the supervisor's state.

use super::{Checked, Done, Event};
use crate::delivery::login_of;
use crate::host::freezer::Freezer;
use crate::lease::PAUSE;
use crate::link::Shared;
use crate::logs::LogStore;
use crate::runtime::docker::is_of_order;
use crate::runtime::{
    Containers, CreateRequest, Found, FoundStatus, ImageFacts, OutputChunk, PullState, RuntimeError,
};
use longshore_common::ids::ContainerKey;
use longshore_common::session::{Cause, ContainerSpec, End};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    Delivery, DeviceUse, Given, MAX_TAIL, Outcome, OutcomeNumber, PullProgress, RegistryLogin,
    Totals,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

/// Pieces of output between engine and store.
const OUTPUT_QUEUE: usize = 256;
/// Output of an ended container is waited for so long before its end is told.
const DRAIN: Duration = Duration::from_secs(5);
/// After so many refusals in a row, each with an engine that answered in between, output
/// is given up: what is refused then has a cause that waiting does not mend.
const OUTPUT_REFUSALS: u32 = 3;

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
    // First of all: the other nodes of its session look for this one. Like a create, what was
    // asked of the engine is waited for.
    if let Err(error) = runtime.join(&request).await {
        return Done::Prepared(Err(error));
    }
    let reached = tokio::select! {
        reached = runtime.reach(&request) => reached,
        _ = &mut cancelled => return Done::Prepared(Err(unwanted())),
    };
    if let Err(error) = reached {
        return Done::Prepared(Err(error));
    }
    let delivery = tokio::select! {
        given = given(&shared, key) => match given {
            Ok(delivery) => delivery,
            Err(error) => return Done::Prepared(Err(error)),
        },
        _ = &mut cancelled => return Done::Prepared(Err(unwanted())),
    };
    loop {
        let login = login_of(&request.spec.image, &delivery.registries);
        match ensure(
            &*runtime,
            &shared,
            key,
            &request.spec,
            login,
            &mut cancelled,
        )
        .await
        {
            Ok(facts) => request.image = facts,
            Err(error) => return Done::Prepared(Err(error)),
        }
        match runtime.deliver(&request, &delivery).await {
            Ok(delivered) => request.delivered = delivered,
            Err(error) => return Done::Prepared(Err(error)),
        }
        let _ = events.send(Event::Step(key, Done::Creating)).await; // the end of the supervisor ends us too
        match create(&*runtime, &request).await {
            // Somebody removed the image since it was looked at.
            Err(RuntimeError::Failed {
                cause: Cause::ImageNotAvailable,
                ..
            }) if !tried => tried = true,
            result => {
                let notes = Done::Notes(std::mem::take(&mut request.delivered.notes));
                if !matches!(&notes, Done::Notes(notes) if notes.is_empty()) {
                    let _ = events.send(Event::Step(key, notes)).await; // as above
                }
                return Done::Prepared(result);
            }
        }
    }
}

/// What the coordinator has for a container. Waits for the link if need be.
async fn given(shared: &Shared, key: ContainerKey) -> Result<Zeroizing<Delivery>, RuntimeError> {
    let failed = |cause, detail| Err(RuntimeError::Failed { cause, detail });
    match shared.material(key).await {
        Given::Delivery(delivery) => Ok(Zeroizing::new(*delivery)),
        Given::Unavailable(text) => failed(Cause::VaultUnavailable, text),
        Given::Unknown => {
            let text = "the coordinator does not know this container any more";
            failed(Cause::CreateFailed, text.to_owned())
        }
    }
}

fn unwanted() -> RuntimeError {
    RuntimeError::Failed {
        cause: Cause::ImageNotAvailable,
        detail: "nobody waits for the image any more".to_owned(),
    }
}

/// Makes the files of a running container again, if they are gone: with the tmpfs on which
/// they were, for one that an agent before this one started.
pub(super) async fn deliver_again<C: Containers>(
    runtime: Arc<C>,
    shared: Arc<Shared>,
    request: CreateRequest,
    events: mpsc::Sender<Event>,
) {
    let key = request.key;
    if !runtime.lacks_files(key).await {
        return;
    }
    let made = async {
        let delivery = given(&shared, key).await?;
        runtime.deliver(&request, &delivery).await
    };
    // The link may be away for long; the supervisor's end is the end of this wait.
    let made = tokio::select! {
        made = made => made,
        () = events.closed() => return,
    };
    match made {
        Ok(_) => tracing::info!(%key, "files were made again"),
        Err(error) => tracing::warn!(%key, %error, "files could not be made again"),
    }
}

async fn create<C: Containers>(
    runtime: &C,
    request: &CreateRequest,
) -> Result<String, RuntimeError> {
    match runtime.create(request).await {
        // It exists: ours by its labels, made before we were killed.
        Err(RuntimeError::Conflict) => match runtime.find(request.key).await? {
            Some(found) if is_of_order(&found.spec_hash, &request.spec) => Ok(found.docker_id),
            Some(found) => Err(name_taken(&found.docker_id)),
            None => Err(RuntimeError::Conflict),
        },
        result => result,
    }
}

/// Why nothing starts under the name of a key that another container has.
pub(super) fn name_taken(docker_id: &str) -> RuntimeError {
    let id: String = docker_id.chars().take(12).collect();
    RuntimeError::Failed {
        cause: Cause::CreateFailed,
        detail: format!("container {id} has its name and was made of another order"),
    }
}

/// Makes the image present, and tells how far it is meanwhile.
async fn ensure<C: Containers>(
    runtime: &C,
    shared: &Arc<Shared>,
    key: ContainerKey,
    spec: &ContainerSpec,
    login: Option<&RegistryLogin>,
    cancelled: &mut oneshot::Receiver<()>,
) -> Result<ImageFacts, RuntimeError> {
    let (progress, states) = mpsc::channel(8);
    let forward = tokio::spawn(forward_progress(key, states, Arc::clone(shared)));
    let pull = runtime.ensure_image(
        &spec.image,
        spec.digest.as_deref(),
        spec.pull,
        login,
        progress,
    );
    // Only the pull can be given up: a create that was sent is waited for, or the engine
    // would finish it behind our back.
    let image = tokio::select! {
        image = pull => image,
        _ = cancelled => Err(unwanted()),
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
    shared: Arc<Shared>,
    docker_id: String,
    request: CreateRequest,
) -> Done {
    // It may have been created by an agent before this one, on a tmpfs that is gone.
    if runtime.lacks_files(request.key).await {
        let made = match given(&shared, request.key).await {
            Ok(delivery) => runtime.deliver(&request, &delivery).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            return Done::Started(Err(error));
        }
    }
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

/// Freezes through the engine. Whether to go past one that does not answer is decided when
/// that is known: the link may be back by then.
pub(super) async fn freeze<C: Containers>(
    runtime: Arc<C>,
    key: ContainerKey,
    found: Found,
) -> Done {
    let asked = tokio::time::timeout(PAUSE, runtime.freeze(&found.docker_id)).await;
    match asked {
        Ok(Ok(()) | Err(RuntimeError::NotFound)) => {
            Done::Found(runtime.find(key).await.map(Box::new))
        }
        Ok(Err(error)) => Done::NotFrozen(error.to_string()),
        Err(_) => Done::NotFrozen("the engine does not answer".to_owned()),
    }
}

/// Thaws, by whichever way it was frozen.
pub(super) async fn thaw<C: Containers>(
    runtime: Arc<C>,
    key: ContainerKey,
    found: Found,
    freezer: Freezer,
) -> Done {
    if let Err(error) = runtime.thaw(&found.docker_id).await {
        return Done::Found(Err(error));
    }
    thaw_past_engine(&found, &freezer);
    Done::Found(runtime.find(key).await.map(Box::new))
}

/// Undoes what was done without the engine, if anything was.
pub(super) fn thaw_past_engine(found: &Found, freezer: &Freezer) {
    if let Some(pid) = found.pid
        && let Err(error) = freezer.thaw(pid, &found.docker_id)
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
    logs: Arc<LogStore>,
    key: ContainerKey,
    docker_id: Option<String>,
) -> Done {
    let removed = runtime.remove(key, docker_id.as_deref()).await;
    if removed.is_ok() {
        logs.beside(move |logs| logs.finish(key)).await;
    }
    Done::Removed(removed)
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
    let last = logs.beside(move |logs| {
        logs.finish(key);
        (logs.tail(key, MAX_TAIL), logs.position(key))
    });
    let (tail, position) = last.await.unzip();
    let tail = tail.unwrap_or_default();
    totals.output = position;
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
    logs: &Arc<LogStore>,
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
    logs: &Arc<LogStore>,
    key: ContainerKey,
    docker_id: &str,
) -> (Result<(), RuntimeError>, bool) {
    let resume = logs.beside(move |logs| logs.resume_from(key)).await;
    let resume = resume.flatten();
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
            let appended = logs.beside(move |logs| {
                let appended = logs.append(key, &taken);
                taken.clear();
                (taken, appended)
            });
            // None while this process ends: its successor reads it once more.
            let Some((emptied, appended)) = appended.await else {
                return;
            };
            if let Err(error) = appended {
                tracing::warn!(%key, %error, "output is lost");
            }
            taken = emptied;
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
        // The engine ends a stream with the process, at times before its last lines are written;
        // what it shows as ended it has written whole.
        Some(FoundStatus::Exited(_)) => Next::Rest,
        Some(FoundStatus::Created) | None => Next::Nothing,
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
