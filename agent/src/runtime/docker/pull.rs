//! Makes images present.
//!
//! One pull per image, with any number of callers waiting on it. A pull that nobody
//! waits for any more ends; one that failed is not tried again at once. One for which the
//! engine's disk has no room is not begun, or ends as soon as the layers' sizes are known.

use super::collect::{Collector, Rules};
use super::engine::{CallError, Engine};
use crate::host::{self, Disk};
use crate::runtime::{ImageFacts, PullState, RuntimeError};
use bollard::auth::DockerCredentials;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::{CreateImageOptions, TagImageOptions};
use futures_util::StreamExt;
use longshore_common::session::{Cause, PullRule};
use longshore_common::wire::RegistryLogin;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

/// A pull that tells nothing new for so long is given up.
const STALL_S: u64 = 300;
/// Waiters are told at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// After a failure the same image is not pulled again for so long, doubling up to the
/// second value, so that a broken registry is not hammered by every new order.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// An image that was there so lately is taken to be there still. A create tells if not.
const SEEN_KEPT: Duration = Duration::from_secs(5);
/// Compressed layers take so many times their size while they are unpacked.
const UNPACKED: u64 = 2;

/// What a pull has come to.
#[derive(Debug, Clone)]
enum Stage {
    Going(PullState),
    Done(Result<(), RuntimeError>),
}

#[derive(Debug)]
struct Failed {
    error: RuntimeError,
    until: Instant,
    wait: Duration,
}

/// An image as it is asked for: reference and wanted digest.
type Asked = (String, Option<String>);

/// All pulls of one agent.
#[derive(Debug)]
pub(super) struct Pulls {
    engine: Arc<Engine>,
    places: Arc<Semaphore>,
    going: Mutex<HashMap<String, Weak<watch::Sender<Stage>>>>,
    failed: Arc<Mutex<HashMap<String, Failed>>>,
    /// Images that were found here, and when.
    seen: Mutex<HashMap<Asked, (Instant, ImageFacts)>>,
    /// Where the engine keeps images, once it has said.
    root: Mutex<Option<PathBuf>>,
    collector: Arc<Collector>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulls {
    pub(super) fn new(engine: Arc<Engine>, parallel: usize, collector: Collector) -> Self {
        Self {
            engine,
            places: Arc::new(Semaphore::new(parallel.max(1))),
            going: Mutex::default(),
            failed: Arc::default(),
            seen: Mutex::default(),
            root: Mutex::default(),
            collector: Arc::new(collector),
        }
    }

    /// Goes by other rules from now on; a pull that is under way keeps those it began with.
    pub(super) fn set_rules(&self, rules: Rules) {
        self.collector.set_rules(rules);
    }

    /// Looks after the room on the disk of images now and then, without anybody waiting.
    pub(super) fn look_if_due(&self) {
        let root = lock(&self.root).clone();
        if root.is_none() || !self.collector.is_due() {
            return;
        }
        let (collector, engine) = (Arc::clone(&self.collector), Arc::clone(&self.engine));
        tokio::spawn(async move { collector.look(&engine, root.as_deref(), 0).await });
    }

    /// Notes where the engine keeps its images.
    pub(super) fn set_root(&self, root: Option<&str>) {
        *lock(&self.root) = root.filter(|path| !path.is_empty()).map(PathBuf::from);
    }

    /// An image that was taken to be here is gone.
    pub(super) fn forget(&self, id: &str) {
        lock(&self.seen).retain(|_, (_, facts)| facts.id != id);
    }

    fn seen(&self, image: &str, wanted: Option<&str>) -> Option<ImageFacts> {
        let mut seen = lock(&self.seen);
        seen.retain(|_, (at, _)| at.elapsed() < SEEN_KEPT);
        let name = (image.to_owned(), wanted.map(str::to_owned));
        seen.get(&name).map(|(_, facts)| facts.clone())
    }

    fn note_seen(&self, image: &str, wanted: Option<&str>, facts: &ImageFacts) {
        let name = (image.to_owned(), wanted.map(str::to_owned));
        lock(&self.seen).insert(name, (Instant::now(), facts.clone()));
    }

    /// Makes an image present by the rule; the answer is the one that lies here now.
    pub(super) async fn ensure(
        &self,
        image: &str,
        digest: Option<&str>,
        rule: PullRule,
        login: Option<&RegistryLogin>,
        progress: &mpsc::Sender<PullState>,
    ) -> Result<ImageFacts, RuntimeError> {
        let wanted = digest.filter(|_| rule == PullRule::Digest);
        if let Some(facts) = self.seen(image, wanted) {
            return Ok(facts);
        }
        if let Some(facts) = self.present(image, wanted).await? {
            let facts = checked(facts)?;
            self.note_seen(image, wanted, &facts);
            return Ok(facts);
        }
        if rule == PullRule::None {
            let detail =
                format!("the image {image} is not on this node, and the rule forbids pulling it");
            return Err(RuntimeError::Failed {
                cause: Cause::ImageNotAvailable,
                detail,
            });
        }
        let target = wanted.map_or_else(
            || with_tag(image),
            |digest| format!("{}@{digest}", repository(image)),
        );
        self.join(&target, login, progress).await?;
        if let Some(digest) = wanted {
            self.tag(image, digest).await;
        }
        match self.present(image, wanted).await? {
            Some(facts) => {
                let names = [with_tag(image), target];
                self.collector.pulled(&facts.id, names);
                checked(facts)
            }
            None if wanted.is_some() => {
                let detail =
                    format!("what the registry gave for {image} is not the recorded {target}");
                Err(RuntimeError::Failed {
                    cause: Cause::DigestMismatch,
                    detail,
                })
            }
            None => {
                let detail = format!("the image {image} was pulled and is not there");
                Err(RuntimeError::Failed {
                    cause: Cause::ImageNotAvailable,
                    detail,
                })
            }
        }
    }

    /// The image on this node; none when it is absent or not the wanted one.
    async fn present(
        &self,
        image: &str,
        wanted: Option<&str>,
    ) -> Result<Option<ImageFacts>, RuntimeError> {
        if let Some(found) = self.inspect(image).await?
            && wanted.is_none_or(|digest| has_digest(&found, digest))
        {
            return Ok(Some(facts(&found, image)));
        }
        let Some(digest) = wanted else {
            return Ok(None);
        };
        let exact = format!("{}@{digest}", repository(image));
        Ok(self
            .inspect(&exact)
            .await?
            .map(|found| facts(&found, image)))
    }

    async fn inspect(&self, name: &str) -> Result<Option<ImageInspect>, RuntimeError> {
        let result = self
            .engine
            .call("inspect", 5, |client| async move {
                client.inspect_image(name).await
            })
            .await;
        match result {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_absent() => Ok(None),
            // Not a name at all.
            Err(CallError::Refused {
                status: 400,
                message,
            }) => Err(RuntimeError::Failed {
                cause: Cause::PullNotFound,
                detail: message,
            }),
            Err(error) => Err(error.into_runtime(Cause::ImageNotAvailable)),
        }
    }

    /// Gives what was pulled by digest the name it was asked by. A nicety: containers
    /// are made from the id, so a failure changes nothing.
    async fn tag(&self, image: &str, digest: &str) {
        let repo = repository(image).to_owned();
        let Some(tag) = tag_of(image) else { return };
        let exact = format!("{repo}@{digest}");
        let options = TagImageOptions {
            repo: Some(repo),
            tag: Some(tag.to_owned()),
        };
        let result = self
            .engine
            .call("tag", 5, |client| async move {
                client.tag_image(&exact, Some(options)).await
            })
            .await;
        if let Err(error) = result {
            tracing::debug!(image, %error, "image not tagged");
        }
    }

    /// Waits for the pull of `target`, starting it if none goes on.
    async fn join(
        &self,
        target: &str,
        login: Option<&RegistryLogin>,
        progress: &mpsc::Sender<PullState>,
    ) -> Result<(), RuntimeError> {
        let mut stage = self.subscribe(target, login)?;
        let mut told: Option<Instant> = None;
        loop {
            let now = stage.borrow_and_update().clone();
            match now {
                Stage::Done(result) => return result,
                Stage::Going(state) => {
                    if told.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
                        // Somebody who has not read the last news needs no newer ones.
                        let _ = progress.try_send(state);
                        told = Some(Instant::now());
                    }
                }
            }
            if stage.changed().await.is_err() {
                return match &*stage.borrow() {
                    Stage::Done(result) => result.clone(),
                    Stage::Going(_) => Err(RuntimeError::Unreachable(
                        "the pull was broken off".to_owned(),
                    )),
                };
            }
        }
    }

    fn subscribe(
        &self,
        target: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<watch::Receiver<Stage>, RuntimeError> {
        let shared_by = shared_by(target, login);
        let mut going = lock(&self.going);
        going.retain(|_, stage| stage.strong_count() > 0);
        if let Some(sender) = going.get(&shared_by).and_then(Weak::upgrade) {
            return Ok(sender.subscribe());
        }
        let failed = lock(&self.failed);
        if let Some(last) = failed
            .get(&shared_by)
            .filter(|last| Instant::now() < last.until)
        {
            return Err(last.error.clone());
        }
        drop(failed);
        let (sender, receiver) = watch::channel(Stage::Going(PullState::default()));
        let sender = Arc::new(sender);
        going.insert(shared_by.clone(), Arc::downgrade(&sender));
        let job = Job {
            engine: Arc::clone(&self.engine),
            places: Arc::clone(&self.places),
            failed: Arc::clone(&self.failed),
            target: target.to_owned(),
            login: login.cloned(),
            shared_by,
            stage: sender,
            root: lock(&self.root).clone(),
            low_water_percent: self.collector.rules().low_water_percent,
            collector: Arc::clone(&self.collector),
        };
        tokio::spawn(job.run());
        Ok(receiver)
    }
}

/// One pull, in a task of its own so that no waiter's end ends it.
struct Job {
    engine: Arc<Engine>,
    places: Arc<Semaphore>,
    failed: Arc<Mutex<HashMap<String, Failed>>>,
    target: String,
    login: Option<RegistryLogin>,
    /// Under which name others find it.
    shared_by: String,
    stage: Arc<watch::Sender<Stage>>,
    root: Option<PathBuf>,
    low_water_percent: u8,
    collector: Arc<Collector>,
}

/// The disk that images lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    root: PathBuf,
    disk: Disk,
    /// So much of the disk stays free, in percent.
    low_water_percent: u8,
}

impl Room {
    /// What there is now. None where the agent cannot see the disk: an engine elsewhere
    /// says itself when it has no room.
    fn measure(root: Option<&Path>, low_water_percent: u8) -> Option<Self> {
        let root = root?.to_owned();
        let disk = host::disk(&root).ok()?;
        Some(Self {
            root,
            disk,
            low_water_percent,
        })
    }

    /// Takes over what came free between two measurings.
    fn gain(&mut self, before: &Self, after: &Self) {
        let gained = after.disk.free.saturating_sub(before.disk.free).max(0);
        self.disk.free = self.disk.free.saturating_add(gained);
    }

    /// Whether an image of which so many compressed bytes are to come has room.
    fn admits(&self, image: &str, compressed: u64) -> Result<(), RuntimeError> {
        let (free, total) = (i128::from(self.disk.free), i128::from(self.disk.total));
        let kept = total * i128::from(self.low_water_percent) / 100;
        let needed = i128::from(compressed) * i128::from(UNPACKED);
        if free >= needed + kept {
            return Ok(());
        }
        let mb = |bytes: i128| format!("{} MB", bytes / 1_000_000);
        let needs = if compressed == 0 {
            String::new() // not known before the engine has begun
        } else {
            format!("it needs {}, and ", mb(needed))
        };
        Err(RuntimeError::Failed {
            cause: Cause::NoSpace,
            detail: format!(
                "no room to pull {image}: {needs}{} has {} free, of which {} ({} %) are kept",
                self.root.display(),
                mb(free),
                mb(kept),
                self.low_water_percent
            ),
        })
    }
}

impl Job {
    async fn run(self) {
        let result = tokio::select! {
            result = self.pull() => result,
            // Breaking the connection off makes the engine stop.
            () = self.stage.closed() => return,
        };
        self.remember(&result);
        self.stage.send_replace(Stage::Done(result));
    }

    async fn pull(&self) -> Result<(), RuntimeError> {
        let _place = self
            .places
            .acquire()
            .await
            .expect("the semaphore is never closed");
        // As it is before the pull: what is fetched on the way counts for it, not against it.
        let root = self.root.as_deref();
        let mut room = Room::measure(root, self.low_water_percent);
        self.make_room(&mut room, 0).await?;
        let options = CreateImageOptions {
            from_image: Some(self.target.clone()),
            ..CreateImageOptions::default()
        };
        let client = self.engine.client().await.map_err(pull_error)?;
        let mut stream = client.create_image(Some(options), None, self.credentials());
        let mut layers = Layers::default();
        let (mut largest, mut fetched) = (0, 0);
        loop {
            let stall = Duration::from_secs(STALL_S);
            let Ok(item) = tokio::time::timeout(stall, stream.next()).await else {
                let detail = format!("pulling {} made no progress for {STALL_S} s", self.target);
                return Err(RuntimeError::Failed {
                    cause: Cause::PullTimeout,
                    detail,
                });
            };
            match item {
                None => return Ok(()),
                Some(Ok(info)) => {
                    layers.note(&info);
                    // The sizes come one by one. Together they are never less than so far,
                    // so an image without room is given up before most of it was fetched.
                    let known = layers.bytes_known();
                    if known > largest {
                        largest = known;
                        self.make_room(&mut room, known).await?;
                    }
                    let state = layers.state();
                    // A layer that is begun anew counts again only from where it was.
                    let more = state.bytes_done.saturating_sub(fetched);
                    self.engine.times.fetched(more);
                    fetched += more;
                    self.stage.send_replace(Stage::Going(state));
                }
                Some(Err(error)) => return Err(pull_error(error.into())),
            }
        }
    }

    /// Whether there is room for an image of which so many compressed bytes are known, if need
    /// be after images that nobody uses were thrown away for it.
    async fn make_room(
        &self,
        room: &mut Option<Room>,
        compressed: u64,
    ) -> Result<(), RuntimeError> {
        let Some(measured) = room else { return Ok(()) };
        if measured.admits(&self.target, compressed).is_ok() {
            return Ok(());
        }
        let wanted = compressed.saturating_mul(UNPACKED);
        let root = self.root.as_deref();
        let before = Room::measure(root, self.low_water_percent);
        self.collector.look(&self.engine, root, wanted).await;
        let after = Room::measure(root, self.low_water_percent);
        if let Some((before, after)) = before.zip(after) {
            measured.gain(&before, &after);
        }
        measured.admits(&self.target, compressed)
    }

    /// For the registry of this image alone, whose host the login was chosen by.
    fn credentials(&self) -> Option<DockerCredentials> {
        self.login.as_ref().map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.clone()),
            serveraddress: Some(login.host.clone()),
            ..DockerCredentials::default()
        })
    }

    fn remember(&self, result: &Result<(), RuntimeError>) {
        let mut failed = lock(&self.failed);
        match result {
            Err(error @ RuntimeError::Failed { .. }) => {
                let before = failed
                    .get(&self.shared_by)
                    .filter(|last| same_cause(&last.error, error));
                let wait = match (error, before) {
                    // A disk that has room again is used within ten seconds.
                    (RuntimeError::Failed { cause, .. }, _) if *cause == Cause::NoSpace => {
                        BACKOFF_FIRST
                    }
                    (_, Some(last)) => (last.wait * 2).min(BACKOFF_MAX),
                    (_, None) => BACKOFF_FIRST,
                };
                let entry = Failed {
                    error: error.clone(),
                    until: Instant::now() + wait,
                    wait,
                };
                failed.insert(self.shared_by.clone(), entry);
            }
            // Trouble of the engine says nothing about the image.
            Ok(()) | Err(_) => {
                failed.remove(&self.shared_by);
            }
        }
        // Names that nobody asks for any more.
        failed.retain(|_, last| Instant::now() < last.until + BACKOFF_MAX);
    }
}

/// Pulls are shared by image and login: what one may have another may not, and a wrong password
/// is nobody else's failure. The name holds no password.
fn shared_by(target: &str, login: Option<&RegistryLogin>) -> String {
    let Some(login) = login else {
        return target.to_owned();
    };
    let text = format!("{}\0{}\0{}", login.host, login.username, login.password);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let short: String = digest.as_ref()[..8]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("{target} {short}")
}

fn same_cause(one: &RuntimeError, other: &RuntimeError) -> bool {
    matches!(
        (one, other),
        (RuntimeError::Failed { cause: a, .. }, RuntimeError::Failed { cause: b, .. }) if a == b
    )
}

/// What the engine said about each layer so far.
#[derive(Debug, Default)]
struct Layers(HashMap<String, Layer>);

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    done: u64,
    total: u64,
    there: bool,
}

impl Layers {
    fn note(&mut self, info: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&info.id, &info.status) else {
            return;
        };
        if status.starts_with("Pulling from") {
            return; // its id is the tag
        }
        let layer = self.0.entry(id.clone()).or_default();
        match status.as_str() {
            "Downloading" => {
                let number =
                    |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(0);
                let detail = info.progress_detail.as_ref();
                layer.done = number(detail.and_then(|d| d.current));
                layer.total = number(detail.and_then(|d| d.total));
            }
            "Download complete" | "Pull complete" | "Already exists" => {
                layer.there = true;
                layer.done = layer.total;
            }
            _ => (),
        }
    }

    /// Bytes of the layers that are to be fetched, as far as the engine has said.
    fn bytes_known(&self) -> u64 {
        self.sum(|layer| layer.total)
    }

    /// The engine's numbers come from a registry: a false manifest must not overflow.
    fn sum(&self, bytes: impl Fn(&Layer) -> u64) -> u64 {
        let all = self.0.values().map(bytes);
        all.fold(0, u64::saturating_add)
    }

    fn state(&self) -> PullState {
        let layers = || self.0.values();
        let known = layers().all(|layer| layer.there || layer.total > 0);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PullState {
            bytes_done: self.sum(|layer| layer.done),
            // A total that is not known is not invented.
            bytes_total: if known {
                self.sum(|layer| layer.total)
            } else {
                0
            },
            layers_done: number(layers().filter(|layer| layer.there).count()),
            layers_total: number(self.0.len()),
        }
    }
}

/// Why a pull failed, from the engine's words.
fn pull_error(error: CallError) -> RuntimeError {
    let CallError::Refused { message, status } = error else {
        return error.into_runtime(Cause::PullNetwork);
    };
    let text = message.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    // The engine says "access denied" of a repository that does not exist, too.
    let cause = if has(&[
        "not found",
        "manifest unknown",
        "does not exist",
        "no such image",
        "name unknown",
        "no matching manifest",
        "invalid reference",
    ]) {
        Cause::PullNotFound
    } else if has(&["no space left"]) {
        Cause::NoSpace
    } else if has(&[
        "unauthorized",
        "no basic auth",
        "denied",
        "forbidden",
        "authentication required",
    ]) {
        Cause::PullDenied
    } else if status == 404 {
        Cause::PullNotFound
    } else {
        Cause::PullNetwork
    };
    RuntimeError::Failed {
        cause,
        detail: message,
    }
}

fn checked(facts: ImageFacts) -> Result<ImageFacts, RuntimeError> {
    let node = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    if facts.arch.is_empty() || facts.arch == node {
        return Ok(facts);
    }
    let detail = format!("the image is for {}, this node is {node}", facts.arch);
    Err(RuntimeError::Failed {
        cause: Cause::ArchMismatch,
        detail,
    })
}

fn facts(found: &ImageInspect, image: &str) -> ImageFacts {
    let id = found.id.clone().unwrap_or_default();
    let asked = canonical(repository(image));
    let mut names = found.repo_digests.iter().flatten();
    // Under another name it may be unknown to the registry that is asked.
    let exact = names.find(|name| canonical(repository(name)) == asked);
    let config = found.config.as_ref();
    ImageFacts {
        exact: exact.unwrap_or(&id).clone(),
        id,
        environment: config.and_then(|c| c.env.clone()).unwrap_or_default(),
        stop_signal: config
            .and_then(|c| c.stop_signal.clone())
            .unwrap_or_default(),
        arch: found.architecture.clone().unwrap_or_default(),
    }
}

fn has_digest(found: &ImageInspect, digest: &str) -> bool {
    let listed = found.repo_digests.iter().flatten();
    found.id.as_deref() == Some(digest)
        || listed
            .filter_map(|name| name.split_once('@'))
            .any(|(_, own)| own == digest)
}

/// The reference without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

fn tag_of(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    name.strip_prefix(repository(name))
        .and_then(|rest| rest.strip_prefix(':'))
}

/// Without a tag the engine would pull every one there is.
fn with_tag(image: &str) -> String {
    if image.contains('@') || tag_of(image).is_some() {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// A reference in the one form that stands for all in which it may be written: the engine
/// lists `docker.io/library/base` as `base:latest`.
pub(super) fn canonical(image: &str) -> String {
    let full = with_tag(image);
    let name = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
    let mut name = name
        .iter()
        .find_map(|hub| full.strip_prefix(hub))
        .unwrap_or(&full);
    // Only there; of another registry it is a name like any other.
    name = name.strip_prefix("library/").unwrap_or(name);
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn references_are_cut_at_the_right_colon() {
        for (image, repo, tag, full) in [
            ("base", "base", None, "base:latest"),
            ("base:1", "base", Some("1"), "base:1"),
            (
                "reg:5000/team/base",
                "reg:5000/team/base",
                None,
                "reg:5000/team/base:latest",
            ),
            (
                "reg:5000/base:v2",
                "reg:5000/base",
                Some("v2"),
                "reg:5000/base:v2",
            ),
            ("base@sha256:00", "base", None, "base@sha256:00"),
            ("base:1@sha256:00", "base", Some("1"), "base:1@sha256:00"),
        ] {
            assert_eq!(
                (repository(image), tag_of(image), with_tag(image).as_str()),
                (repo, tag, full)
            );
        }
    }

    #[test]
    fn all_forms_of_a_reference_are_one() {
        for (image, form) in [
            ("base", "base:latest"),
            ("docker.io/base", "base:latest"),
            ("docker.io/library/base:1", "base:1"),
            ("index.docker.io/library/base", "base:latest"),
            ("library/base@sha256:00", "base@sha256:00"),
            ("docker.io/team/base", "team/base:latest"),
            ("reg:5000/library/base", "reg:5000/library/base:latest"),
        ] {
            assert_eq!(canonical(image), form, "{image}");
        }
    }

    #[test]
    fn what_comes_free_counts_for_the_pull() {
        let room = |free| Room {
            root: PathBuf::from("/r"),
            disk: Disk { free, total: 1000 },
            low_water_percent: 10,
        };
        let mut measured = room(300);
        assert!(measured.admits("i", 150).is_err());
        // A part of it was fetched by then.
        measured.gain(&room(200), &room(320));
        assert_eq!(measured.disk.free, 420);
        assert!(measured.admits("i", 150).is_ok());
        measured.gain(&room(200), &room(100));
        assert_eq!(measured.disk.free, 420, "others take, too");
    }

    #[test]
    fn words_of_registries_become_causes() {
        for (message, cause) in [
            (
                "manifest for base:9 not found: manifest unknown",
                Cause::PullNotFound,
            ),
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                Cause::PullNotFound,
            ),
            ("unauthorized: authentication required", Cause::PullDenied),
            (
                "Head \"https://x/v2/\": no basic auth credentials",
                Cause::PullDenied,
            ),
            ("write /x: no space left on device", Cause::NoSpace),
            ("dial tcp: lookup x: no such host", Cause::PullNetwork),
            ("net/http: TLS handshake timeout", Cause::PullNetwork),
        ] {
            let error = pull_error(CallError::Refused {
                status: 500,
                message: message.to_owned(),
            });
            assert!(
                matches!(error, RuntimeError::Failed { cause: c, .. } if c == cause),
                "{message}: {error:?}"
            );
        }
        let down = pull_error(CallError::Unreachable("x".to_owned()));
        assert!(down.is_engine_trouble());
    }

    #[test]
    fn totals_are_told_once_all_are_known() {
        let info = |id: &str, status: &str, bytes: Option<(i64, i64)>| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: bytes.map(|(current, total)| ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..Default::default()
        };
        let mut layers = Layers::default();
        layers.note(&info("1.0", "Pulling from base", None));
        layers.note(&info("a", "Pulling fs layer", None));
        layers.note(&info("b", "Downloading", Some((5, 10))));
        let half = PullState {
            bytes_done: 5,
            bytes_total: 0,
            layers_done: 0,
            layers_total: 2,
        };
        assert_eq!(layers.state(), half);
        layers.note(&info("a", "Already exists", None));
        layers.note(&info("b", "Download complete", None));
        layers.note(&info("b", "Extracting", Some((1, 99))));
        let all = PullState {
            bytes_done: 10,
            bytes_total: 10,
            layers_done: 2,
            layers_total: 2,
        };
        assert_eq!(layers.state(), all);
    }

    #[test]
    fn sizes_beyond_all_measure_are_the_most_there_is() {
        let mut layers = Layers::default();
        for id in ["a", "b", "c"] {
            layers.note(&CreateImageInfo {
                id: Some(id.to_owned()),
                status: Some("Downloading".to_owned()),
                progress_detail: Some(ProgressDetail {
                    current: Some(i64::MAX),
                    total: Some(i64::MAX),
                }),
                ..Default::default()
            });
        }
        assert_eq!(layers.bytes_known(), u64::MAX);
        let state = layers.state();
        assert_eq!((state.bytes_done, state.bytes_total), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_pull_needs_twice_its_size_above_the_low_water_mark() {
        let room = |free: i64| Room {
            root: PathBuf::from("/images"),
            disk: Disk {
                free,
                total: 1_000_000_000,
            },
            low_water_percent: 10,
        };
        assert_eq!(room(100_000_000).admits("base:1", 0), Ok(()));
        assert_eq!(room(300_000_000).admits("base:1", 100_000_000), Ok(()));
        for (free, compressed, words) in [
            (
                99_999_999,
                0,
                "/images has 99 MB free, of which 100 MB (10 %) are kept",
            ),
            (
                299_999_999,
                100_000_000,
                "it needs 200 MB, and /images has 299 MB free",
            ),
            (i64::MAX / 4, u64::MAX, "it needs "),
        ] {
            let refused = room(free).admits("base:1", compressed);
            let Err(RuntimeError::Failed { cause, detail }) = refused else {
                panic!("{free} {compressed}: {refused:?}");
            };
            assert_eq!(cause, Cause::NoSpace);
            let words = format!("no room to pull base:1: {words}");
            assert!(detail.starts_with(&words), "{detail}");
        }
        assert_eq!(Room::measure(Some(Path::new("/no/such/place")), 10), None);
        assert_eq!(Room::measure(None, 10), None);
    }

    #[test]
    fn an_image_is_told_by_what_its_own_registry_calls_it() {
        let found = ImageInspect {
            id: Some("sha256:id".to_owned()),
            repo_digests: Some(vec![
                "base@sha256:aa".to_owned(),
                "hub.lab:5000/base@sha256:bb".to_owned(),
            ]),
            ..ImageInspect::default()
        };
        for (asked, exact) in [
            ("base:1", "base@sha256:aa"),
            ("docker.io/library/base", "base@sha256:aa"),
            ("hub.lab:5000/base:2", "hub.lab:5000/base@sha256:bb"),
            ("hub.lab:5000/base@sha256:bb", "hub.lab:5000/base@sha256:bb"),
            // Another image may have come from there under this name.
            ("other/image:1", "sha256:id"),
            ("database:1", "sha256:id"),
        ] {
            assert_eq!(facts(&found, asked).exact, exact, "{asked}");
        }
    }

    #[test]
    fn digests_are_compared_exactly() {
        let found = ImageInspect {
            id: Some("sha256:id".to_owned()),
            repo_digests: Some(vec!["base@sha256:aa".to_owned()]),
            ..Default::default()
        };
        assert!(has_digest(&found, "sha256:aa"));
        assert!(
            has_digest(&found, "sha256:id"),
            "an image that never was in a registry"
        );
        assert!(!has_digest(&found, "sha256:a"));
    }
}
