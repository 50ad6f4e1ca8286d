//! What asking who somebody is, and what they may, costs.

use super::Order;
use super::report::{Of, Row, Target, quantile};
use super::submit::{CLIENTS, hammer};
use anyhow::{Result, bail, ensure};
use longshore_common::ids::{AccessRuleId, DomainId, ProjectId, UserGroupId, UserId};
use longshore_coordinator::engine::wall_clock;
use longshore_coordinator::store::Store;
use longshore_core::access::rules::Place;
use longshore_core::access::{
    BuiltinGroups, Caller, Membership as Belongs, Object, Resource, Role, Rule, RuleBook,
    RuleLevel, Subject, UserFacts,
};
use longshore_core::model::{Change, Event, Membership, User, react};
use longshore_tests::load::daemons::Coordinator;
use longshore_tests::load::https::Client;
use longshore_tests::load::in_process::{administrator, beginning, new_meta};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::interval_at;

/// Callers whose waiting is measured, and the pause between two requests of one of them:
/// nobody who hurries.
const CALLERS: u32 = 8;
const PACE: Duration = Duration::from_millis(100);

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    Ok(vec![
        authenticated(order).await?,
        pages(order).await?,
        decisions(order),
        flooded(order).await?,
    ])
}

/// A GET of a small object by somebody who proves to be somebody, beside an answer that is
/// always the same, from the same server by the same clients.
async fn authenticated(order: &Order) -> Result<Row> {
    let window = order.pick(Duration::from_secs(3), Duration::from_millis(500));
    let dir = tempfile::tempdir()?;
    let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
    coordinator.set_up().await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..order.pick(order.pairs, 2) {
        let client = &coordinator.client;
        let me = client.request("GET", "/api/v1/me", "", b"");
        ours.push(hammer(client, me, 200, window).await?);
        let fixed = client.request("GET", "/version", "", b"");
        floor.push(hammer(client, fixed, 200, window).await?);
    }
    Ok(Row::new(
        "people",
        "authenticated GET of a small object, 64 connections",
        "/s",
        ours,
    )
    .beside("a static answer of the same server", floor)
    .target(Of::Ratio, Target::AtLeast(0.7)))
}

/// Pages out of a long list of people, one after the other over one connection.
async fn pages(order: &Order) -> Result<Row> {
    let count = order.pick(100_000, 1000);
    let dir = tempfile::tempdir()?;
    let bearer = people(&dir.path().join("data"), count).await?;
    let coordinator = Coordinator::start(&order.programs, dir.path()).await?;
    let header = format!("authorization: Bearer {bearer}\r\n");
    let mut connection = coordinator.client.connect().await?;
    let mut cursor = String::new();
    let mut took = Vec::new();
    for _ in 0..order.pick(300, 20) {
        let path = match cursor.as_str() {
            "" => "/api/v1/users?limit=50".to_owned(),
            cursor => format!("/api/v1/users?limit=50&cursor={cursor}"),
        };
        let request = coordinator.client.request("GET", &path, &header, b"");
        let began = Instant::now();
        let answer = connection.send(&request).await?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(answer.status == 200, "answered {}", answer.status);
        let page: serde_json::Value = answer.json()?;
        let next = page.get("next_cursor").and_then(|text| text.as_str());
        next.unwrap_or_default().clone_into(&mut cursor);
    }
    let p99 = quantile(&took, 0.99).unwrap_or(f64::INFINITY);
    let p50 = quantile(&took, 0.5).unwrap_or(f64::INFINITY);
    Ok(Row::new(
        "people",
        "a page of 50 out of many users, p99",
        "ms",
        vec![p99],
    )
    .target(Of::Ours, Target::AtMost(10.0))
    .note(format!(
        "{count} users; p50 {p50:.2} ms; {} pages over one connection",
        took.len()
    )))
}

/// What everybody else waits while somebody tries passwords from as many addresses and for
/// as many names as it takes to never be stopped: every try is worth a hash.
async fn flooded(order: &Order) -> Result<Row> {
    let window = order.pick(Duration::from_secs(4), Duration::from_millis(500));
    let dir = tempfile::tempdir()?;
    let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
    coordinator.set_up().await?;
    let callers = &coordinator.client;
    let (mut ours, mut quiet) = (Vec::new(), Vec::new());
    let tries = Arc::new(Tries::default());
    for _ in 0..order.pick(order.pairs, 2) {
        quiet.push(paced(callers, window).await?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut flood = JoinSet::new();
        for _ in 0..CLIENTS {
            let (client, tries) = (coordinator.client.clone(), Arc::clone(&tries));
            flood.spawn(wrong_logins(client, tries, Arc::clone(&stop)));
        }
        ours.push(paced(callers, window).await?);
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = flood.join_next().await {
            ended??;
        }
    }
    let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
    Ok(Row::new(
        "people",
        "GET of a small object while wrong logins flood in, p99",
        "ms",
        ours,
    )
    .beside("the same in quiet", quiet)
    .target(Of::Ours, Target::AtMost(100.0))
    .note(format!(
        "{CLIENTS} connections that try without a pause, each try another name and address: {} passwords checked, {} turned away because too many wait",
        count(&tries.checked),
        count(&tries.busy)
    )))
}

/// How the tries of a flood ended.
#[derive(Debug, Default)]
struct Tries {
    made: AtomicU32,
    checked: AtomicU32,
    busy: AtomicU32,
}

/// Tries one password after the other until told to stop.
async fn wrong_logins(mut client: Client, tries: Arc<Tries>, stop: Arc<AtomicBool>) -> Result<()> {
    client.bearer = None;
    let mut connection = client.connect().await?;
    while !stop.load(Ordering::Relaxed) {
        let number = tries.made.fetch_add(1, Ordering::Relaxed);
        let [_, high, middle, low] = number.to_be_bytes();
        let from = format!("x-forwarded-for: 10.{high}.{middle}.{low}\r\n");
        let body = format!(r#"{{"login":"nobody-{number}","password":"wrong","client":"cli"}}"#);
        let request = client.request("POST", "/api/v1/auth/login", &from, body.as_bytes());
        let ended = match connection.send(&request).await?.status {
            401 => &tries.checked,
            503 => &tries.busy,
            other => bail!("a wrong login was answered {other}"),
        };
        ended.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The p99 in ms of requests at a steady pace, from when each was due: one that is late
/// because the one before took long waited as well.
async fn paced(client: &Client, window: Duration) -> Result<f64> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mut connection = client.connect().await?;
        let request = client.request("GET", "/api/v1/me", "", b"");
        // Not all at the same moment.
        let first = tokio::time::Instant::now() + PACE * number / CALLERS;
        callers.spawn(async move {
            let (mut pace, mut took) = (interval_at(first, PACE), Vec::new());
            while began.elapsed() < window {
                let due = pace.tick().await;
                let answer = connection.send(&request).await?;
                took.push(due.elapsed().as_secs_f64() * 1000.0);
                ensure!(answer.status == 200, "answered {}", answer.status);
            }
            Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(ended) = callers.join_next().await {
        took.extend(ended??);
    }
    Ok(quantile(&took, 0.99).unwrap_or(f64::INFINITY))
}

/// A database with so many people in it; the credentials of its administrator.
async fn people(data_dir: &Path, count: u32) -> Result<String> {
    const SECRET: &str = "a secret of thirty-two characters!";
    std::fs::create_dir_all(data_dir)?;
    let (store, mut state) = Store::open(
        &data_dir.join("longshore.db"),
        &longshore_coordinator::secrets::Keyring::fresh(),
        new_meta,
    )?;
    let mut order = administrator();
    order.keypair.secret_sha256 = Some(longshore_coordinator::pki::sha256(SECRET.as_bytes()));
    let bearer = format!("{}.{SECRET}", order.keypair.access_key);
    let mut changes = Vec::new();
    for event in [
        Event::Started(Box::new(beginning())),
        Event::Setup(Box::new(order)),
    ] {
        let outcome = react(&state, &event, wall_clock());
        outcome
            .changes
            .iter()
            .for_each(|change| state.apply(change));
        changes.extend(outcome.changes);
    }
    let home = state
        .users
        .values()
        .next()
        .map(|user| (user.domain, user.projects.clone()));
    let (domain, projects) = home.unwrap_or((DomainId::new(0), Vec::new()));
    changes.extend((1..=count).map(|number| {
        Change::User(Box::new(User {
            username: format!("user-{number:06}"),
            email: format!("user-{number:06}@lab.example"),
            full_name: format!("Person {number}"),
            uid: 30_000 + number,
            domain,
            projects: projects
                .iter()
                .map(|m| Membership::manual(m.project))
                .collect(),
            ..User::new(UserId::new(u128::from(number) << 64), wall_clock())
        }))
    }));
    store.commit(changes).await?;
    Ok(bearer)
}

/// What the rules give somebody in 50 groups on a session, with 10,000 rules: the first time
/// spread over many projects, as they are, then all on the way up from that session.
fn decisions(order: &Order) -> Row {
    const RULES: u128 = 10_000;
    let builtin = BuiltinGroups {
        users: UserGroupId::new(1),
        admins: UserGroupId::new(2),
        queue_admins: UserGroupId::new(3),
    };
    let (domain, project) = (DomainId::new(1), ProjectId::new(7));
    let caller = Caller::user(
        UserFacts {
            id: UserId::new(1),
            role: Role::User,
            domain,
            active: true,
            projects: BTreeMap::from([(project, Belongs::Member)]),
            groups: (10..60).map(UserGroupId::new).collect(),
        },
        &builtin,
    );
    let book = |on: fn(u128) -> ProjectId| {
        RuleBook::new((0..RULES).map(|n| Rule {
            id: AccessRuleId::new(n + 1),
            resource: Resource::Project(on(n)),
            level: RuleLevel::Ro,
            subjects: BTreeSet::from([Subject::Group(UserGroupId::new(100 + n))]),
            default: false,
        }))
    };
    let object = Object::Project(Place { project, domain });
    let rounds = order.pick(20_000, 200);
    let each = |book: &RuleBook| {
        let began = Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(book.level(&caller, std::hint::black_box(&object)));
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    let (spread, chained) = (
        book(|n| ProjectId::new(n % 500)),
        book(|_| ProjectId::new(7)),
    );
    let pairs = order.pick(order.pairs, 2);
    let chained: Vec<f64> = (0..pairs).map(|_| each(&chained)).collect();
    let usual: Vec<f64> = (0..pairs).map(|_| each(&spread)).collect();
    Row::new(
        "people",
        "an access decision: 50 groups, 10,000 rules on the object",
        "us",
        chained,
    )
    .beside("the same with the rules spread over 500 projects", usual)
    .target(Of::Ours, Target::AtMost(20.0))
}
