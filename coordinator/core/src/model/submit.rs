//! What can be said about a request at once: each rule in its order, each refusal
//! with everything the asker needs.

use super::arrays::{self, ArrayPlan};
use super::attempts::Restart;
use super::draft::Draft;
use super::entities::SignalWish;
use super::entities::{Adjusted, Cluster, PIDS_MAX, QueueSeat, Session, least_mem};
use super::event::{Accepted, Answer, Outcome, Refusal, SessionDefaults, Submit};
use super::given::{Given, GivenText};
use super::images;
use super::people::User;
use super::policies::Project;
use super::rules;
use super::state::State;
use super::steer::restart_wish;
use crate::scheduler::limits::Requester;
use longshore_common::amount::{SlotName, Slots, format_bytes_short};
use longshore_common::api::{MemberError, NewSession};
use longshore_common::ids::{Attempt, ProjectId, Rank, SessionId, is_session_name};
use longshore_common::session::{ClusterMode, ClusterRun, PullRule, SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::SIGNALS;
use longshore_config::work::environment as rules_of;
use std::collections::{BTreeMap, BTreeSet};

/// What is said of a name that is none.
pub(super) const BAD_NAME: &str = "A name has 1 to 64 of a-z 0-9 . _ -, begins with a letter or digit, and is not of the form s-42.";

pub(super) fn submit(state: &State, order: &Submit, now: Timestamp) -> Outcome {
    if let Some((key, body)) = &order.idempotency
        && let Some(known) = state.idempotency.get(&(order.caller.user, key.clone()))
    {
        return if known.body_sha256 == *body {
            Outcome::only(Answer::Session(Accepted {
                id: known.session,
                replayed: true,
            }))
        } else {
            Outcome::refuse(Refusal::new(
                "LS-IDEMPOTENCY-BODY",
                format!(
                    "The idempotency key was used for another request, which made {}.",
                    known.session
                ),
            ))
        };
    }
    if let Some(why) = &order.no_room {
        let text = format!("The disk of the coordinator is nearly full: {why}.");
        let hint = "What runs goes on and can be stopped.";
        return Outcome::refuse(Refusal::new("LS-DISK-LOW", text).hint(hint));
    }
    let session = match check(state, order, now) {
        Ok(session) => session,
        Err(refusal) => return Outcome::refuse(refusal),
    };
    let id = session.id;
    let owner = session.owner_name.clone();
    let mut draft = Draft::new(state, now);
    let mut meta = state.meta.clone();
    meta.next_session += 1;
    draft.push(super::Change::Meta(meta));
    if let Some((key, body)) = &order.idempotency {
        draft.push(super::Change::Idempotency(super::Idempotency {
            caller: order.caller.user,
            key: key.clone(),
            body_sha256: *body,
            session: id,
            at: now,
        }));
    }
    if let Some(given) = Given::of(&order.request) {
        draft.push(super::Change::Given(GivenText {
            session: id,
            text: given.text(),
        }));
    }
    draft.admit(session, &format!("user {owner}"));
    let (changes, effects) = draft.finish();
    Outcome {
        changes,
        effects,
        answer: Ok(Answer::Session(Accepted {
            id,
            replayed: false,
        })),
    }
}

/// Whose limits and rights a request goes by.
fn requester(order: &Submit, owner: &User, project: Option<&Project>) -> Requester {
    Requester {
        keypair: order.caller.access_key.clone(),
        user: owner.id,
        project: project.map_or(ProjectId::new(0), |p| p.id),
        domain: owner.domain,
    }
}

/// As whom the session of a request would run, by the resource group it would come to. Where the
/// request is refused, which [`check`] says, that is its owner.
#[must_use]
pub fn runs_as<'a>(state: &'a State, order: &Submit) -> Option<&'a User> {
    let owner = state.users.get(&order.caller.user)?;
    let request = &order.request;
    let group = || {
        let rights = rules::acting(state, order, owner)?;
        let project = rules::project(state, request, owner, &order.caller.access_key, &rights)?;
        let who = requester(order, owner, project);
        let kind = request.kind.as_deref().and_then(|text| text.parse().ok());
        let kind = kind.unwrap_or(SessionType::Batch);
        let preset = rules::preset(state, request)?;
        let queue = rules::queue(state, request, owner, &rights)?;
        rules::group(
            state,
            request,
            (&who, &rights),
            kind,
            queue.as_ref(),
            preset,
        )
    };
    match group() {
        Ok(group) => state.identity_in(group.id, owner.id),
        Err::<_, Refusal>(_) => Some(owner),
    }
}

/// The session a request would become, by every rule of submit. Nothing is stored.
///
/// # Errors
/// The first rule that refuses it, with all its failures.
pub fn check(state: &State, order: &Submit, now: Timestamp) -> Result<Session, Refusal> {
    let request = &order.request;
    let Some(owner) = state.users.get(&order.caller.user) else {
        return Err(Refusal::new(
            "LS-AUTH-FAILED",
            "The credentials are not valid.",
        ));
    };
    let rights = rules::acting(state, order, owner)?;
    let members = members(request, &order.defaults)?;
    super::given::check(request)?;
    let ports = super::apps::ports(&request.ports)?;
    if let Some(name) = &request.name
        && let Some(holder) = state.session_by_name(owner.id, name)
    {
        return Err(Refusal::new(
            "LS-EXISTS",
            format!("Your session {holder} has the name {name}."),
        )
        .at("/name", format!("{name} is taken by {holder}."))
        .hint("Choose another name, or wait until that session has ended."));
    }
    let project = rules::project(state, request, owner, &order.caller.access_key, &rights)?;
    let who = requester(order, owner, project);
    let preset = rules::preset(state, request)?;
    let queue = rules::queue(state, request, owner, &rights)?;
    let mut adjusted = order.held.clone();
    let mut ranks = Vec::new();
    let named = rules::named_slots(request, preset, queue.as_ref())?;
    let slots = slots(state, &named, "/slots", order, &mut adjusted)?;
    let containers = request.cluster.as_ref().map_or(&[][..], |c| &c.containers);
    for (at, container) in containers.iter().enumerate() {
        let at = format!("/cluster/containers/{at}");
        ranks.push(self::slots(state, container, &at, order, &mut adjusted)?);
    }
    let asker = (&who, &rights);
    let group = rules::group(state, request, asker, members.kind, queue.as_ref(), preset)?;
    let shm_asked = rules::shm_asked(request, preset)?;
    let image = state.image(&members.image);
    let offered = image.map_or_else(BTreeSet::new, |_| state.offered_in(group));
    let mut raised =
        |slots, path: &str| images::raise(slots, image, &offered, shm_asked, path, &mut adjusted);
    let given = slots.clone();
    let slots = raised(slots, "/slots");
    if let Some(queue) = &queue {
        images::within_profile(state, queue, image, &given, &slots)?;
    }
    let ranks: Vec<Slots> = ranks
        .into_iter()
        .enumerate()
        .map(|(at, slots)| raised(slots, &format!("/cluster/containers/{at}")))
        .collect();
    if members.kind == SessionType::System {
        without_accelerators(&slots, &ranks, &adjusted)?;
    }
    let image_shm = image.and_then(|i| i.shm_bytes);
    let policy = rules::policy_of(state, &order.caller.access_key);
    let shm_max = policy.and_then(|p| Some((p.max_shm?, p.name.as_str())));
    let shm_bytes = shm(shm_asked.or(image_shm), least_mem(&slots, &ranks), shm_max)?;
    let id = SessionId(state.meta.next_session);
    let session = Session {
        id,
        version: 1,
        name: request.name.clone(),
        owner: owner.id,
        owner_name: owner.username.clone(),
        submitted_by: order.submitted_by,
        uid: owner.uid,
        access_key: order.caller.access_key.clone(),
        group: group.id,
        group_name: group.name.clone(),
        domain: owner.domain,
        project: who.project,
        project_name: project.map_or_else(String::new, |p| p.name.clone()),
        queue: queue.as_ref().map(|queue| {
            Box::new(QueueSeat {
                name: queue.name.to_owned(),
                policy: queue.policy.name.clone(),
                profile: queue.profile.name.clone(),
                allotment: queue.profile.allotment(),
                pool: None,
            })
        }),
        kind: members.kind,
        image: members.image,
        image_digest: None,
        pull: PullRule::default(),
        command: request.command.clone(),
        workdir: request.workdir.clone(),
        tty: request.tty,
        ports,
        environment: request.environment.clone(),
        slots,
        cluster: Cluster {
            size: members.size,
            mode: members.mode,
            run: members.run,
            ranks,
        },
        arch: request.arch.clone(),
        designated: rules::designated(state, request, owner, asker, queue.as_ref())?,
        start_at: request.start_at,
        held: request.hold,
        restart: members.restart,
        restarts: 0,
        restarted: false,
        attempts: Vec::new(),
        depends_on: Vec::new(),
        array: members.array.map(Box::new),
        task_of: None,
        retries_given: order.retries,
        shm_bytes,
        pids_max: PIDS_MAX,
        root: false,
        sudo: false,
        priority: members.priority,
        labels: request.labels.clone(),
        lifetime_s: request.lifetime_s,
        lifetime_asked_s: request.lifetime_s,
        life: rules::life(state, &order.caller.access_key, owner, now),
        batch_timeout_s: request.batch_timeout_s.and_then(|s| u32::try_from(s).ok()),
        idle: rules::idle(state, &order.caller.access_key, members.kind),
        adjusted,
        state: SessionState::Pending,
        phase: None,
        unreachable: false,
        stalled_since: None,
        releasing_told: false,
        attempt: Attempt::FIRST,
        stop: None,
        failed: None,
        failed_starts: 0,
        not_before: None,
        penalties: Vec::new(),
        reason: None,
        detail: None,
        result: None,
        exit_code: None,
        signal: None,
        tail: None,
        tail_at: None,
        tail_rank: Rank::MAIN,
        awaits_range: None,
        created_at: now,
        pending_since: now,
        placed_at: None,
        started_at: None,
        ended_at: None,
        deadline: None,
        containers: Vec::new(),
        networks: Vec::new(),
        history_len: 0,
        config_hash: None,
        configured: None,
        delivered: None,
        vaults: Vec::new(),
        vaults_skipped: Vec::new(),
        given: Given::of(request).is_some(),
        not_given: Vec::new(),
        redact: order.redact.clone(),
        signal_before: request.signal_before.as_ref().map(|wish| SignalWish {
            signal: wish.signal.clone(),
            lead_s: wish
                .lead_s
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or(LEAD_S),
        }),
        spent: super::Spent::default(),
        adopted: None,
    };
    let bound = rules::bind(state, order, session, &who, queue.as_ref());
    bound.map_err(|refusal| images::elsewhere(state, refusal, image, group, (&who, &rights)))
}

/// A program gets the signal it wants before its end so many seconds before, where it does not
/// say.
const LEAD_S: u32 = 60;

struct Members {
    kind: SessionType,
    image: String,
    priority: u8,
    size: u16,
    mode: ClusterMode,
    run: ClusterRun,
    restart: Restart,
    array: Option<ArrayPlan>,
}

/// Rule 1: members by themselves; all that is wrong is said at once.
fn members(request: &NewSession, defaults: &SessionDefaults) -> Result<Members, Refusal> {
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, message: String| {
        errors.push(MemberError {
            pointer: pointer.to_owned(),
            message,
            ..MemberError::default()
        });
    };
    if let Some(name) = &request.name
        && !is_session_name(name)
    {
        wrong("/name", BAD_NAME.to_owned());
    }
    let kind = match request.kind.as_deref() {
        None => SessionType::Batch,
        Some(text) => text.parse().unwrap_or_else(|error| {
            wrong("/type", format!("{error}."));
            SessionType::Batch
        }),
    };
    let system = kind == SessionType::System;
    if system {
        system_members(request, defaults, &mut wrong);
    }
    let image = match &request.image {
        _ if system => defaults.system_image.clone(),
        Some(image) => image.clone(),
        None => defaults.image.clone(),
    };
    if system && image.is_empty() {
        // It was said what is missing.
    } else if image.is_empty() {
        wrong(
            "/image",
            "No image is named and the installation has no default image.".to_owned(),
        );
    } else if !is_image_reference(&image) {
        wrong(
            "/image",
            "An image reference is [host[:port]/]path[:tag][@sha256:digest] in lower case."
                .to_owned(),
        );
    }
    if kind == SessionType::Batch && request.command.is_empty() {
        wrong("/command", "A batch session needs a command.".to_owned());
    }
    if request.command.first().is_some_and(String::is_empty) {
        wrong("/command/0", "The program has no name.".to_owned());
    }
    if request.command.len() > 1024
        || request.command.iter().map(String::len).sum::<usize>() > 64 * 1024
    {
        wrong(
            "/command",
            "A command has at most 1,024 words and 64 KiB.".to_owned(),
        );
    }
    if request.command.iter().any(|word| word.contains('\0')) {
        wrong(
            "/command",
            "A command cannot hold the character NUL.".to_owned(),
        );
    }
    if let Some(dir) = &request.workdir
        && (!dir.starts_with('/')
            || dir.len() > 1024
            || dir.contains('\0')
            || dir.split('/').any(|part| part == ".."))
    {
        wrong(
            "/workdir",
            "A directory is an absolute path of at most 1,024 bytes without \"..\".".to_owned(),
        );
    }
    let priority = request
        .priority
        .unwrap_or_else(|| i64::from(defaults.priority));
    let priority = u8::try_from(priority)
        .ok()
        .filter(|p| *p <= 100)
        .unwrap_or_else(|| {
            wrong(
                "/priority",
                "A priority is a whole number from 0 to 100.".to_owned(),
            );
            0
        });
    for (pointer, value) in [
        ("/lifetime_s", request.lifetime_s),
        ("/batch_timeout_s", request.batch_timeout_s),
    ] {
        if value.is_some_and(|s| !(1..=315_360_000).contains(&s)) {
            wrong(
                pointer,
                "A duration is 1 to 315,360,000 seconds.".to_owned(),
            );
        }
    }
    if let Some(wish) = &request.signal_before {
        if !SIGNALS.contains(&wish.signal.as_str()) {
            let known = SIGNALS.join(", ");
            wrong(
                "/signal_before/signal",
                format!("A signal is one of {known}."),
            );
        }
        if wish.lead_s.is_some_and(|s| !(1..=86_400).contains(&s)) {
            let text = "A signal comes 1 to 86,400 seconds before.";
            wrong("/signal_before/lead_s", text.to_owned());
        }
    }
    if request.batch_timeout_s.is_some() && kind != SessionType::Batch {
        wrong(
            "/batch_timeout_s",
            "Only batch sessions have a time limit of the command.".to_owned(),
        );
    }
    let restart = restart_wish(request.restart.as_ref(), kind, &mut wrong);
    let most = defaults.array_tasks;
    let array = arrays::wish(request.array.as_ref(), kind, most, &mut wrong);
    labels(&request.labels, &mut wrong);
    let (size, mode, run) = cluster(request, &mut wrong);
    if request.group.is_some() && request.queue.is_some() {
        wrong(
            "/queue",
            "A session names a group or a queue, not both.".to_owned(),
        );
    }
    if request.queue.is_some() && size != 1 {
        wrong(
            "/cluster/size",
            "A session of a queue has one container.".to_owned(),
        );
    }
    if let Some(arch) = &request.arch
        && (arch.is_empty() || arch.len() > 32 || !arch.bytes().all(|b| b.is_ascii_graphic()))
    {
        wrong(
            "/arch",
            "An architecture is a word such as amd64.".to_owned(),
        );
    }
    let environment = environment(&request.environment, &mut wrong);
    if errors.is_empty() {
        return Ok(Members {
            kind,
            image,
            priority,
            size,
            mode,
            run,
            restart,
            array,
        });
    }
    let only_environment =
        environment && errors.iter().all(|e| e.pointer.starts_with("/environment"));
    let code = if only_environment {
        "LS-ENVIRONMENT"
    } else {
        "LS-INVALID"
    };
    Err(Refusal::of_members(code, errors))
}

/// What a session cannot have that is the installation's, and never waits.
fn system_members(
    request: &NewSession,
    defaults: &SessionDefaults,
    wrong: &mut impl FnMut(&str, String),
) {
    if defaults.system_image.is_empty() {
        let text =
            "The installation has no image for system sessions (services.sessions.system_image).";
        wrong("/type", text.to_owned());
    }
    if request.image.is_some() {
        let text = "The image of system sessions is that of the installation.";
        wrong("/image", text.to_owned());
    }
    let waits = [
        ("/queue", request.queue.is_some()),
        ("/start_at", request.start_at.is_some()),
        ("/hold", request.hold),
        ("/depends_on", !request.depends_on.is_empty()),
    ];
    for (pointer, _) in waits.iter().filter(|(_, given)| *given) {
        wrong(pointer, "A system session does not wait.".to_owned());
    }
    if request.cluster.as_ref().is_some_and(|c| c.size != 1) {
        let text = "A system session has one container.";
        wrong("/cluster/size", text.to_owned());
    }
    if request
        .cluster
        .as_ref()
        .is_some_and(|c| !c.containers.is_empty())
    {
        let text = "A system session lists no containers: what it gets is said in slots.";
        wrong("/cluster/containers", text.to_owned());
    }
}

/// Devices of a system session would count against nobody. Looked at when everything that adds
/// to a request has: what its image needs at least, too.
fn without_accelerators(
    slots: &Slots,
    ranks: &[Slots],
    adjusted: &[Adjusted],
) -> Result<(), Refusal> {
    let paths = (0..ranks.len()).map(|at| format!("/cluster/containers/{at}"));
    let all = std::iter::once((slots, "/slots".to_owned())).chain(ranks.iter().zip(paths));
    for (slots, path) in all {
        let Some((slot, _)) = slots.iter().find(|(slot, _)| slot.is_accelerator()) else {
            continue;
        };
        let at = pointer(&path, slot.as_str());
        let image = adjusted
            .iter()
            .find(|a| a.path == at && a.reason == "image-minimum")
            .and_then(|a| a.source.as_deref());
        let text = match image {
            Some(image) => format!(
                "A system session has no accelerator, and the image {image} has a minimum of {slot}."
            ),
            None => "A system session has no accelerator.".to_owned(),
        };
        return Err(Refusal::new("LS-INVALID", &text).at(at, text));
    }
    Ok(())
}

/// How many containers, and where they may be.
fn cluster(
    request: &NewSession,
    wrong: &mut impl FnMut(&str, String),
) -> (u16, ClusterMode, ClusterRun) {
    let Some(cluster) = &request.cluster else {
        return (1, ClusterMode::SingleNode, ClusterRun::Main);
    };
    let size = u16::try_from(cluster.size).ok().filter(|n| *n >= 1);
    let size = size.unwrap_or_else(|| {
        wrong(
            "/cluster/size",
            "A cluster has a whole number of containers, at least 1.".to_owned(),
        );
        1
    });
    let mode = match cluster.mode.as_deref() {
        None => ClusterMode::SingleNode,
        Some(text) => text.parse().unwrap_or_else(|error| {
            wrong("/cluster/mode", format!("{error}."));
            ClusterMode::SingleNode
        }),
    };
    let listed = cluster.containers.len();
    if listed > 0 && listed != usize::from(size) {
        wrong(
            "/cluster/containers",
            format!("{listed} containers are listed for a cluster of {size}."),
        );
    }
    let run = match cluster.run.as_deref() {
        None => ClusterRun::Main,
        Some(text) => text.parse().unwrap_or_else(|error| {
            wrong("/cluster/run", format!("{error}."));
            ClusterRun::Main
        }),
    };
    if run == ClusterRun::All && request.command.is_empty() {
        let text = "There is no command that all containers could run.";
        wrong("/cluster/run", text.to_owned());
    }
    (size, mode, run)
}

pub(super) fn labels(labels: &BTreeMap<String, String>, wrong: &mut impl FnMut(&str, String)) {
    if labels.len() > 32 {
        wrong("/labels", "A session has at most 32 labels.".to_owned());
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > 63 || value.len() > 63 {
            wrong(
                &pointer("/labels", key),
                "Key and value of a label have at most 63 characters.".to_owned(),
            );
        }
    }
}

pub(super) fn environment(
    environment: &BTreeMap<String, String>,
    wrong: &mut impl FnMut(&str, String),
) -> bool {
    let mut any = false;
    let mut bad = |name: &str, message: String| {
        any = true;
        wrong(&pointer("/environment", name), message);
    };
    for (name, value) in environment {
        let fault = rules_of::name_fault(name);
        if let Some(message) = fault.or_else(|| rules_of::value_fault(name, Some(value))) {
            bad(name, message);
        }
    }
    let total: usize = environment.iter().map(|(k, v)| k.len() + v.len()).sum();
    if total > 60 * 1024 {
        bad("", "The environment has at most 60 KiB in all.".to_owned());
    }
    any
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A JSON pointer to a member of a map (RFC 6901 escapes).
pub(super) fn pointer(map: &str, key: &str) -> String {
    format!("{map}/{}", cut(key).replace('~', "~0").replace('/', "~1"))
}

/// `[host[:port]/]path[:tag][@sha256:…]`, lower case but for host and tag.
#[must_use]
pub(super) fn is_image_reference(text: &str) -> bool {
    if text.len() > 512 {
        return false;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or("");
        if hex.len() != 64
            || !hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return false;
        }
    }
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[slash..].find(':') {
        Some(at) => (&rest[..slash + at], Some(&rest[slash + at + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if tag.is_empty()
            || tag.len() > 128
            || tag.starts_with(['.', '-'])
            || !tag.bytes().all(word)
        {
            return false;
        }
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    let host = parts[0];
    if parts.len() > 1 && (host.contains('.') || host.contains(':') || host == "localhost") {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        if !edge(host.bytes().next())
            || !edge(host.bytes().last())
            || !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
        {
            return false;
        }
        parts.remove(0);
    }
    parts.iter().all(|part| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
            })
    })
}

/// Rules 3 and 4: slots known, amounts and families.
fn slots(
    state: &State,
    texts: &BTreeMap<String, String>,
    path: &str,
    order: &Submit,
    adjusted: &mut Vec<Adjusted>,
) -> Result<Slots, Refusal> {
    let defaults = &order.defaults;
    let mut slots = amounts(state, texts, path, &order.known_slots)?;
    families(&slots, path)?;
    if slots.cpu_milli() == 0 {
        slots.set(SlotName::cpu(), defaults.cpu_milli);
    }
    if slots.mem_bytes() == 0 {
        slots.set(SlotName::mem(), defaults.mem_bytes);
    } else if slots.mem_bytes() < defaults.mem_minimum {
        adjusted.push(Adjusted {
            path: pointer(path, "mem"),
            from: Some(slots.mem_bytes().to_string()),
            to: defaults.mem_minimum.to_string(),
            reason: "engine-minimum".to_owned(),
            source: None,
        });
        slots.set(SlotName::mem(), defaults.mem_minimum);
    }
    Ok(slots)
}

/// Slots that some agent offers, or that are named in `more`, with amounts of their kind.
pub(super) fn amounts(
    state: &State,
    texts: &BTreeMap<String, String>,
    path: &str,
    more: &[SlotName],
) -> Result<Slots, Refusal> {
    let mut known = known_slots(state);
    known.extend(more.iter().cloned());
    let mut slots = Slots::new();
    let mut unknown = Vec::new();
    let mut errors = Vec::new();
    for (name, text) in texts {
        let at = pointer(path, name);
        let slot: SlotName = match name.parse() {
            Ok(slot) => slot,
            Err(error) => {
                unknown.push(MemberError {
                    pointer: at,
                    message: format!("{error}."),
                    ..MemberError::default()
                });
                continue;
            }
        };
        match slot.parse_amount(text) {
            Err(error) => errors.push(MemberError {
                pointer: at,
                message: format!("{error}."),
                ..MemberError::default()
            }),
            Ok(0) => (), // not requested
            Ok(_) if !known.contains(&slot) => unknown.push(MemberError {
                pointer: at,
                message: format!("No agent offers {slot}."),
                ..MemberError::default()
            }),
            Ok(amount) => slots.set(slot, amount),
        }
    }
    if !unknown.is_empty() {
        let names: Vec<&str> = known.iter().map(SlotName::as_str).collect();
        let asked = &unknown[0].message;
        let gpu = unknown.iter().any(|e| e.pointer.contains("cuda"));
        let detail = if gpu && !known.iter().any(SlotName::is_accelerator) {
            "No agent offers a GPU.".to_owned()
        } else {
            asked.clone()
        };
        let refusal = Refusal {
            errors: unknown,
            ..Refusal::new("LS-SLOT-UNKNOWN", detail)
        };
        return Err(refusal.hint(format!("Known slots: {}.", names.join(", "))));
    }
    if !errors.is_empty() {
        let detail = errors[0].message.clone();
        return Err(Refusal {
            errors,
            ..Refusal::new("LS-SLOT-AMOUNT", detail)
                .hint("Amounts are like 4 of cpu, 1 of a GPU, 0.5 of shares, 512m or 2g of mem.")
        });
    }
    Ok(slots)
}

/// cpu, mem, and what any registered agent reports.
fn known_slots(state: &State) -> BTreeSet<SlotName> {
    let mut known = BTreeSet::from([SlotName::cpu(), SlotName::mem()]);
    known.extend(state.device_slots().cloned());
    known
}

/// Two variants of one family exclude each other in one container.
pub(super) fn families(slots: &Slots, path: &str) -> Result<(), Refusal> {
    let mut seen: BTreeMap<&str, &SlotName> = BTreeMap::new();
    for (slot, _) in slots.iter().filter(|(slot, _)| slot.is_accelerator()) {
        if let Some(other) = seen.insert(slot.family(), slot) {
            return Err(Refusal::new(
                "LS-SLOT-EXCLUSIVE",
                format!("One container cannot have both {other} and {slot}."),
            )
            .at(
                pointer(path, slot.as_str()),
                format!("{other} is asked for already."),
            )
            .hint(format!(
                "Ask for {other} or for {slot}, or for a container of each."
            )));
        }
    }
    Ok(())
}

/// Rule 10: shared memory below the memory of every container, of which `mem` is the least, and
/// within what the keypair's policy allows. Who asks for none gets as much as that memory: what
/// lies there is counted as memory, so that a bound of its own would only break programs whose
/// workers hand tensors to each other in it.
fn shm(asked: Option<i64>, mem: i64, most: Option<(i64, &str)>) -> Result<i64, Refusal> {
    let Some(shm) = asked else {
        let most = most.map_or(i64::MAX, |(most, _)| most);
        return Ok(mem.min(most));
    };
    if let Some((most, policy)) = most.filter(|(most, _)| shm > *most) {
        let (shm, most) = (format_bytes_short(shm), format_bytes_short(most));
        let detail = format!("Shared memory of {shm} is more than the {most} of policy {policy}.");
        return Err(Refusal::new("LS-SHM", detail)
            .at("/shm", format!("Must be at most {most}."))
            .hint(format!("Ask for {most} or less.")));
    }
    if shm < mem {
        return Ok(shm);
    }
    let (shm_text, mem_text) = (format_bytes_short(shm), format_bytes_short(mem));
    Err(Refusal::new(
        "LS-SHM",
        format!("Shared memory of {shm_text} must be below the memory of {mem_text}."),
    )
    .at("/shm", format!("Must be below {mem_text}."))
    .hint(format!("Ask for more mem than {shm_text}, or less shm.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "base",
            "longshore/base:latest",
            "127.0.0.1:5055/team/a_b:v1",
            "Reg.Example:443/x",
            "localhost/x",
            digest.as_str(),
        ] {
            assert!(is_image_reference(good), "{good}");
        }
        for bad in [
            "",
            "A/b",
            "a//b",
            "a:",
            "a:-x",
            "a b",
            "-a",
            "a@sha256:00",
            "../a",
            "a/",
            "x:y:z",
        ] {
            assert!(!is_image_reference(bad), "{bad}");
        }
    }

    #[test]
    fn reserved_names() {
        for name in [
            "LONGSHORE_X",
            "LD_PRELOAD",
            "NVIDIA_VISIBLE_DEVICES",
            "CUDA_VISIBLE_DEVICES",
            "DOCKER_HOST",
        ] {
            assert!(rules_of::name_fault(name).is_some(), "{name}");
        }
        for name in ["LD_LIBRARY_PATH", "PATH", "CUDA_HOME"] {
            assert_eq!(rules_of::name_fault(name), None);
        }
    }
}
