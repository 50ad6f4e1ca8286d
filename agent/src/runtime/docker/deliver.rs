//! Files that a container is given: which of them the image leaves room for, and making them.

use super::{Docker, deadline, files};
use crate::delivery::store::{Filling, make_in_home, make_mount_point};
use crate::delivery::{
    CLUSTER, Delivered, HOME, Placed, Required, SECRETS, cluster, kept, plan, skipped,
};
use crate::runtime::docker::engine::{CallError, Engine};
use crate::runtime::{CreateRequest, RuntimeError};
use bollard::query_parameters::ContainerArchiveInfoOptions;
use longshore_common::session::Cause;
use longshore_common::wire::Delivery;
use std::collections::BTreeMap;
use zeroize::Zeroize as _;

/// The bit of a directory in the modes the engine tells.
const DIRECTORY: u32 = 1 << 31;
/// The bit of a link.
const LINK: u32 = 1 << 27;

/// What the image has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    File,
    Directory,
    Link,
    /// Something on the way to it is no directory.
    NoWay,
}

fn failed(Required(detail): Required) -> RuntimeError {
    RuntimeError::Failed {
        cause: Cause::VaultUnavailable,
        detail,
    }
}

/// See [`crate::runtime::Containers::deliver`].
pub(super) async fn deliver(
    docker: &Docker,
    request: &CreateRequest,
    delivery: &Delivery,
) -> Result<Delivered, RuntimeError> {
    let plan = plan(delivery, &docker.file_roots(), &[]).map_err(failed)?;
    let there = in_image(docker, request, &plan.files).await?;
    let mut notes = plan.notes;
    let mut files: Vec<Placed> = Vec::new();
    let hosts = cluster::hosts(&request.spec);
    let seed = delivery.cluster_key.as_ref().filter(|_| !hosts.is_empty());
    // At the address of a node there may be several.
    let network = request.network.as_ref();
    let of_nodes = network.is_some_and(|network| network.own.is_none());
    let shared = of_nodes.then_some(request.key.rank.0);
    files.extend(
        seed.and_then(|seed| cluster::files(seed, &hosts, shared))
            .into_iter()
            .flatten(),
    );
    for placed in plan.files {
        let file = &placed.file;
        let note = match there.get(&placed.target).copied() {
            None | Some(There::Nothing) => {
                files.push(placed);
                continue;
            }
            Some(There::File) if file.overwrite => {
                files.push(placed);
                continue;
            }
            Some(There::File) => kept(file),
            Some(There::Directory) => {
                skipped(file, "the image has a directory there").map_err(failed)?
            }
            Some(There::Link) => {
                skipped(file, "a link of the image is in its path").map_err(failed)?
            }
            Some(There::NoWay) => {
                skipped(file, "the image has a file where a directory is needed").map_err(failed)?
            }
        };
        notes.push(note);
    }
    let (kept_files, request) = (docker.0.files.clone(), request.clone());
    let made = tokio::task::spawn_blocking(move || make(&kept_files, &request, files));
    let (bound, skipped) = made.await.expect("making files does not panic")?;
    notes.extend(skipped);
    Ok(Delivered {
        files: bound,
        environment: plan.environment,
        notes,
        record: delivery.record.clone(),
    })
}

type Made = (
    Vec<crate::delivery::store::BoundFile>,
    Vec<crate::delivery::FileNote>,
);

fn make(
    files: &files::Files,
    request: &CreateRequest,
    placed: Vec<Placed>,
) -> Result<Made, RuntimeError> {
    let broken = |error: std::io::Error| RuntimeError::Failed {
        cause: match error.kind() {
            std::io::ErrorKind::StorageFull => Cause::NoSpace,
            _ => Cause::CreateFailed,
        },
        detail: format!("the files that a container is given: {error}"),
    };
    let user = match request.spec.root {
        true => (0, 0),
        false => (request.spec.uid, request.spec.gid),
    };
    let home = files.make_home(request).map_err(broken)?;
    let filling = Filling::begin(&files.given(request.key), user).map_err(broken)?;
    let (mut bound, mut notes) = (Vec::new(), Vec::new());
    let with_keys = placed
        .iter()
        .any(|placed| placed.target.starts_with(CLUSTER));
    for mut placed in placed {
        let rest = placed.target.strip_prefix(HOME);
        let point = match rest.and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => make_mount_point(&home, rest, user),
            None => Ok(()),
        };
        let put = point.and_then(|()| filling.put(&placed));
        placed.file.contents.zeroize();
        match put {
            Ok(found) => bound.extend(found),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                return Err(broken(error));
            }
            Err(error) => {
                let why = error.to_string();
                notes.push(skipped(&placed.file, &why).map_err(failed)?);
            }
        }
    }
    // What somebody gave of this name lies there already.
    if with_keys && !request.spec.root {
        let config = cluster::client_config();
        make_in_home(&home, ".ssh/config", config.as_bytes(), user).map_err(broken)?;
    }
    filling.finish().map_err(broken)?;
    Ok((bound, notes))
}

/// What the image has where files are to go. Home and secrets are ours: nothing of the image is
/// seen there.
async fn in_image(
    docker: &Docker,
    request: &CreateRequest,
    files: &[Placed],
) -> Result<BTreeMap<String, There>, RuntimeError> {
    let ours = |path: &str| {
        [HOME, SECRETS].iter().any(|root| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let asked: Vec<&str> = files
        .iter()
        .map(|placed| placed.target.as_str())
        .filter(|target| !ours(target))
        .collect();
    let mut there = BTreeMap::new();
    if asked.is_empty() || request.image.id.is_empty() {
        return Ok(there);
    }
    let engine = &docker.0.engine;
    let ids = (request.cluster, request.agent);
    let purpose = format!("files-{}", request.key);
    let looked = async {
        let name = files::make_probe(engine, ids, &request.image.id, &purpose).await?;
        let mut found = Ok(());
        for path in asked {
            match look(engine, &name, path).await {
                Ok(what) => there.insert(path.to_owned(), what),
                Err(error) => {
                    found = Err(error);
                    break;
                }
            };
        }
        files::remove(engine, &name).await?;
        found
    };
    let looked: Result<(), CallError> = looked.await;
    looked.map_err(|error| error.into_runtime(Cause::CreateFailed))?;
    Ok(there)
}

/// Looks at each part of a path, from the top: the engine itself would follow links.
async fn look(engine: &Engine, name: &str, path: &str) -> Result<There, CallError> {
    let ends: Vec<usize> = path
        .match_indices('/')
        .map(|(at, _)| at)
        .filter(|at| *at > 0)
        .chain([path.len()])
        .collect();
    for end in ends {
        let part = &path[..end];
        let options = ContainerArchiveInfoOptions {
            path: part.to_owned(),
        };
        let found = engine
            .call("archive", deadline::ASK, |client| async move {
                client.get_container_archive_info(name, Some(options)).await
            })
            .await;
        let mode = match found {
            Ok(found) if !found.link_target.is_empty() => LINK,
            Ok(found) => found.file_mode,
            Err(error) if error.is_absent() => return Ok(There::Nothing),
            Err(error) => return Err(error),
        };
        let last = end == path.len();
        match (mode & LINK != 0, mode & DIRECTORY != 0) {
            (true, _) => return Ok(There::Link),
            (false, true) if last => return Ok(There::Directory),
            (false, true) => (),
            (false, false) if last => return Ok(There::File),
            (false, false) => return Ok(There::NoWay),
        }
    }
    Ok(There::Nothing)
}
