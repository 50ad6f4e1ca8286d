//! Throws away images when their disk is getting full: those that this agent pulled, whose
//! names it gave itself, that no container of anybody uses, the least recently used first.
//! Never with force: what the engine does not want to lose stays.

use super::engine::{CallError, Engine};
use super::pull::canonical;
use crate::host::{self, Disk, wall_clock};
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The disk is looked at this often.
const EVERY: Duration = Duration::from_secs(300);
/// What was pulled or used so lately may be wanted again at once, in seconds.
const YOUNG_S: i64 = 3600;
/// Room is made until so many parts of a hundred above the low-water mark are free, or the
/// next small pull would have to make room again.
const ABOVE_PERCENT: i64 = 5;
/// Listing is quick; removing large layers is not.
const LIST_S: u64 = 30;
const REMOVE_S: u64 = 120;

/// When and how images are thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// So much of the disk shall be free, in percent.
    pub(super) low_water_percent: u8,
    /// Off: it is only said that the disk is full.
    pub(super) on: bool,
    /// References that always stay.
    pub(super) keep: Vec<String>,
}

/// An image that this agent pulled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Own {
    /// The names it gave.
    names: BTreeSet<String>,
    /// When it was pulled or last used, in seconds since 1970.
    used_s: i64,
}

/// By id.
type Owned = BTreeMap<String, Own>;

/// See the module.
#[derive(Debug)]
pub(super) struct Collector {
    rules: Mutex<Rules>,
    /// Where the list of own images lies.
    path: PathBuf,
    owned: Mutex<Owned>,
    due: Mutex<Option<Instant>>,
    /// One pass at a time.
    pass: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector {
    pub(super) fn new(state_dir: &Path, rules: Rules) -> Self {
        let path = state_dir.join("images.json");
        // Without a list nothing is ours, and nothing is thrown away.
        let owned = std::fs::read(&path).ok();
        let owned = owned.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            rules: Mutex::new(rules),
            path,
            owned: Mutex::new(owned.unwrap_or_default()),
            due: Mutex::default(),
            pass: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn rules(&self) -> Rules {
        lock(&self.rules).clone()
    }

    /// Goes by other rules from now on.
    pub(super) fn set_rules(&self, rules: Rules) {
        *lock(&self.rules) = rules;
    }

    /// This agent pulled an image and gave it these names.
    pub(super) fn pulled(&self, id: &str, names: impl IntoIterator<Item = String>) {
        let mut owned = lock(&self.owned);
        let own = owned.entry(id.to_owned()).or_default();
        own.names.extend(names);
        own.used_s = now_s();
        self.keep(&owned);
    }

    /// Whether it is time to look, and if so, notes that somebody does.
    pub(super) fn is_due(&self) -> bool {
        let mut due = lock(&self.due);
        let is_due = due.is_none_or(|at| at <= Instant::now());
        if is_due {
            *due = Some(Instant::now() + EVERY);
        }
        is_due
    }

    fn keep(&self, owned: &Owned) {
        let aside = self.path.with_extension("new");
        let written = serde_json::to_vec(owned)
            .map_err(std::io::Error::from)
            .and_then(|bytes| std::fs::write(&aside, bytes))
            .and_then(|()| std::fs::rename(&aside, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, "which images are ours could not be noted; they stay");
        }
    }

    /// Notes what is used, and makes room if too little is free, or would be with `wanted`
    /// bytes less.
    pub(super) async fn look(&self, engine: &Engine, root: Option<&Path>, wanted: u64) {
        let _one = self.pass.lock().await;
        if let Err(error) = self.make_room(engine, root, wanted).await {
            tracing::warn!(%error, "images could not be thrown away");
        }
    }

    async fn make_room(
        &self,
        engine: &Engine,
        root: Option<&Path>,
        wanted: u64,
    ) -> Result<(), CallError> {
        let used = in_use(engine).await?;
        {
            let mut owned = lock(&self.owned);
            let before = owned.clone();
            for id in &used {
                if let Some(own) = owned.get_mut(id) {
                    own.used_s = now_s();
                }
            }
            if *owned != before {
                self.keep(&owned);
            }
        }
        let Some(disk) = root.and_then(|root| host::disk(root).ok()) else {
            return Ok(()); // an engine elsewhere looks after its own disk
        };
        let rules = self.rules();
        if missing(disk, rules.low_water_percent, wanted) == 0 {
            return Ok(());
        }
        if !rules.on {
            if missing(disk, rules.low_water_percent, 0) > 0 {
                tracing::warn!(free = disk.free, "the disk of images is nearly full");
            }
            return Ok(());
        }
        let there = list(engine).await?;
        let gone = {
            let mut owned = lock(&self.owned);
            owned.retain(|id, _| there.iter().any(|image| image.id == *id));
            choose(&there, &owned, &used, &rules, (disk, wanted), now_s())
        };
        for image in gone {
            match remove(engine, image).await {
                Ok(()) => {
                    tracing::info!(
                        id = image.id,
                        size = image.size,
                        "image thrown away for room"
                    );
                    lock(&self.owned).remove(&image.id);
                }
                Err(error) => tracing::warn!(id = image.id, %error, "image stays"),
            }
        }
        self.keep(&lock(&self.owned));
        Ok(())
    }
}

fn now_s() -> i64 {
    wall_clock().0 / 1000
}

/// Bytes that are to be freed; 0 while enough is free, also with `wanted` bytes less.
fn missing(disk: Disk, low_water_percent: u8, wanted: u64) -> i64 {
    let low = i64::from(low_water_percent);
    match missing_to(disk, low, wanted) {
        ..=0 => 0,
        _ => missing_to(disk, low + ABOVE_PERCENT, wanted),
    }
}

/// Bytes that are to be freed until so many parts of a hundred are free; less than 0 where
/// more are.
fn missing_to(disk: Disk, percent: i64, wanted: u64) -> i64 {
    let part = i128::from(disk.total) * i128::from(percent.min(100)) / 100;
    let missing = part + i128::from(wanted) - i128::from(disk.free);
    i64::try_from(missing).unwrap_or(i64::MAX)
}

/// What goes, in this order, until enough is free.
fn choose<'a>(
    there: &'a [ImageSummary],
    owned: &Owned,
    used: &BTreeSet<String>,
    rules: &Rules,
    (disk, wanted): (Disk, u64),
    now_s: i64,
) -> Vec<&'a ImageSummary> {
    let keep: BTreeSet<String> = rules.keep.iter().map(|name| canonical(name)).collect();
    let may_go = |image: &&ImageSummary| {
        let Some(own) = owned.get(&image.id) else {
            return false;
        };
        // The engine lists short forms, and people write any.
        let given: BTreeSet<String> = own.names.iter().map(|name| canonical(name)).collect();
        let mut names = tags(image).chain(&image.repo_digests);
        let ours = tags(image).all(|tag| given.contains(&canonical(tag)));
        let kept =
            names.any(|name| keep.contains(&canonical(name))) || rules.keep.contains(&image.id);
        ours && !kept && !used.contains(&image.id) && now_s - own.used_s >= YOUNG_S
    };
    let mut all: Vec<&ImageSummary> = there.iter().filter(may_go).collect();
    all.sort_by_key(|image| (owned.get(&image.id).map(|own| own.used_s), &image.id));
    // What is there stays where throwing all of it away would not make room for another.
    let most: i64 = all.iter().map(|image| image.size.max(0)).sum();
    let low = rules.low_water_percent;
    let fits = missing_to(disk, low.into(), wanted) <= most;
    let mut left = missing(disk, low, if fits { wanted } else { 0 });
    let mut gone = Vec::new();
    for image in all {
        if left <= 0 {
            break;
        }
        left = left.saturating_sub(image.size.max(0));
        gone.push(image);
    }
    gone
}

/// Its tags. Older engines write one that says that there is none.
fn tags(image: &ImageSummary) -> impl Iterator<Item = &String> {
    let all = image.repo_tags.iter();
    all.filter(|tag| !tag.starts_with("<none>"))
}

/// Ids of the images of all containers, whoever made them, also of those that have ended.
async fn in_use(engine: &Engine) -> Result<BTreeSet<String>, CallError> {
    let options = ListContainersOptions {
        all: true,
        ..ListContainersOptions::default()
    };
    let call = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
    let all = engine.call("list", LIST_S, call).await?;
    Ok(all.into_iter().filter_map(|one| one.image_id).collect())
}

async fn list(engine: &Engine) -> Result<Vec<ImageSummary>, CallError> {
    let options = ListImagesOptions::default();
    let call = |client: bollard::Docker| async move { client.list_images(Some(options)).await };
    engine.call("images", LIST_S, call).await
}

/// Takes its names away one by one; with the last one it goes.
async fn remove(engine: &Engine, image: &ImageSummary) -> Result<(), CallError> {
    let mut names: Vec<&str> = tags(image).map(String::as_str).collect();
    if names.is_empty() {
        names.push(&image.id);
    }
    for name in names {
        let options = RemoveImageOptions {
            force: false,
            ..RemoveImageOptions::default()
        };
        let call = |client: bollard::Docker| async move {
            client.remove_image(name, Some(options), None).await
        };
        match engine.call("remove image", REMOVE_S, call).await {
            Ok(_) => (),
            Err(error) if error.is_absent() => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
