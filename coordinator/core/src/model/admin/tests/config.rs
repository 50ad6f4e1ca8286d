//! Pools, profiles, allocation policies, queues.

use super::super::{AdminObject, AdminVerb, live_view, queue_view, queue_views, validate};
use super::{World, errors, from, shown};
use crate::model::{Change, ResourceConfig};
use longshore_common::admin::{ConfigVerdict, ResourceConfigRequest};
use longshore_common::ids::SessionId;
use longshore_common::session::{Reason, SessionState};
use serde_json::{Value, json};

/// Two pools of 8, one profile of 4, Dev and Research.
fn document() -> Value {
    json!({
        "pools": [{"name": "Bare Metal", "group": "bare", "count": "8"}, {"name": "H100", "group": "H100"}],
        "profiles": [{"name": "4x", "slots": {"cuda.device": "4"}, "pools": ["bare metal", "H100"]}],
        "allocation_policies": [
            {"name": "Dev", "users": ["alice", "BOB"], "reservation": "8", "limit": "16", "profiles": [{"profile": "4X"}]},
            {"name": "Research", "reservation": "8", "limit": "16", "profiles": [{"profile": "4x", "queue": "research"}]},
        ],
    })
}

fn save(document: Value) -> AdminVerb {
    AdminVerb::SaveDraft(Box::new(from::<ResourceConfigRequest>(document)))
}

fn provision(world: &mut World, document: Value) -> ConfigVerdict {
    world.admin(save(document)).unwrap();
    let expected_version = world.state().config.version;
    match world.admin(AdminVerb::Provision { expected_version }) {
        Ok(AdminObject::Verdict(verdict)) => *verdict,
        other => panic!("{other:?}"),
    }
}

fn rules(world: &World, level: &str) -> Vec<(String, String)> {
    let config = &world.state().config_draft.as_ref().unwrap().config;
    let found = validate(world.state(), config).into_iter();
    found
        .filter(|f| f.level == level)
        .map(|f| (f.rule, f.pointer))
        .collect()
}

fn pair(rule: &str, pointer: &str) -> (String, String) {
    (rule.to_owned(), pointer.to_owned())
}

fn queued(world: &mut World, user: u128, queue: &str) -> SessionId {
    world.submit(user, json!({"queue": queue})).unwrap()
}

/// Ended as `queue-removed`: then memory has forgotten it.
fn ended(world: &World, id: SessionId) -> bool {
    world.session(id).is_none()
}

/// Example E38.
#[test]
fn a_draft_is_kept_and_touches_nothing() {
    let mut world = World::new();
    let saved = shown(&world.admin(save(document())).unwrap());
    assert_eq!((&saved["version"], &saved["base"]), (&json!(1), &json!(0)));
    assert_eq!(
        saved["pools"][0]["profiles"],
        json!(["4x"]),
        "orders are completed"
    );
    assert_eq!(
        saved["profiles"][0]["pools"],
        json!(["Bare Metal", "H100"]),
        "names are spelled alike"
    );
    assert_eq!(saved["profiles"][0]["policies"], json!(["Dev", "Research"]));
    assert_eq!(
        saved["allocation_policies"][0]["profiles"],
        json!([{"profile": "4x", "queue": "Dev/4x"}])
    );
    assert_eq!(
        saved["allocation_policies"][0]["users"],
        json!(["alice", "bob"])
    );
    assert_eq!(
        (
            &saved["pools"][1]["count_now"],
            saved["pools"][1].get("count")
        ),
        (&json!("8"), None)
    );
    assert_eq!(live_view(world.state()).version, 0);
    assert!(live_view(world.state()).pools.is_empty());
    // What was read can be sent back.
    let again = shown(&world.admin_at(Some(1), save(saved.clone())).unwrap());
    assert_eq!(again["version"], 2);
    assert_eq!(again["profiles"], saved["profiles"]);
    assert_eq!(
        world.admin_at(Some(1), save(document())).unwrap_err().code,
        "LS-VERSION-STALE"
    );
    let reset = shown(&world.admin(AdminVerb::ResetDraft).unwrap());
    assert_eq!(
        (&reset["version"], &reset["pools"]),
        (&json!(3), &json!([]))
    );
    let verdict = provision(&mut world, document());
    assert!(verdict.valid && verdict.findings.is_empty(), "{verdict:?}");
    let live = live_view(world.state());
    assert_eq!(
        (live.version, live.enabled, live.by.as_str()),
        (1, Some(true), "root")
    );
    assert_eq!(world.state().config_draft.as_ref().unwrap().base, 1);
    let stale = world
        .admin(AdminVerb::Provision {
            expected_version: 0,
        })
        .unwrap_err();
    assert_eq!(stale.code, "LS-CONFIG-STALE");
    // A draft of an older version is stale whatever the caller expects.
    let mut draft = world.state().config_draft.clone().unwrap();
    draft.base = 0;
    world.take(&[Change::ConfigDraft(Some(Box::new(draft)))]);
    let stale = world
        .admin(AdminVerb::Provision {
            expected_version: 1,
        })
        .unwrap_err();
    assert_eq!(
        stale.detail,
        "Version 1 is live; the draft was made from version 0."
    );
    let loaded = shown(&world.admin(AdminVerb::LoadDraft(Box::default())).unwrap());
    assert_eq!((&loaded["base"], &loaded["pools"]), (&json!(1), &json!([])));
    assert!(ResourceConfig::default() != world.state().config.config);
}

#[test]
fn a_draft_without_a_difference_makes_no_version() {
    let mut world = World::new();
    provision(&mut world, document());
    let id = queued(&mut world, 2, "Dev/4x");
    world.admin(AdminVerb::ResetDraft).unwrap();
    let before = world.state().config.clone();
    let mut changes = Vec::new();
    let order = super::super::AdminOrder {
        caller: super::caller(1, "LSroot"),
        dry_run: false,
        expected_version: None,
        verb: AdminVerb::Provision {
            expected_version: 1,
        },
    };
    let event = crate::model::Event::Admin(Box::new(order));
    world
        .core
        .happen(&event, super::NOW, &mut changes, &mut Vec::new())
        .unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    let verdict = provision(&mut world, document());
    assert_eq!((verdict.valid, verdict.config.unwrap().version), (true, 1));
    let last = verdict.findings.last().unwrap();
    assert_eq!(
        (
            last.level.as_str(),
            last.rule.as_str(),
            last.message.as_str()
        ),
        (
            "warning",
            "nothing-changed",
            "The draft is the same as version 1, which stays live."
        )
    );
    assert_eq!(world.state().config, before);
    assert!(world.session(id).is_some());
    // A draft that is of another version is stale all the same.
    let stale = AdminVerb::Provision {
        expected_version: 0,
    };
    assert_eq!(world.admin(stale).unwrap_err().code, "LS-CONFIG-STALE");
}

#[test]
fn what_cannot_be_read_is_not_saved() {
    let mut world = World::new();
    let refusal = world
        .admin(save(json!({
            "pools": [{"name": "", "group": "bare", "counts": "GPUS!", "count": "-1"}, {"name": "a\tb"}],
            "profiles": [{"name": "p", "slots": {"cpu": "1"}}, {"name": "P", "slots": {"cuda.device": "1", "cuda.shares": "0.5"}, "allotment": "0"}],
            "allocation_policies": [{"name": "x", "users": ["alcie"], "reservation": "lots", "pending_timeout_s": 1.5,
                "profiles": [{"profile": "p"}, {"profile": "P"}]}],
            "links": [{"profile": "p", "pool": "q"}], "base": 7,
        })))
        .unwrap_err();
    let (code, mut found) = errors(&refusal);
    found.sort_unstable();
    assert_eq!(code, "LS-INVALID");
    assert_eq!(
        found,
        [
            (
                "/allocation_policies/0/pending_timeout_s",
                "pending_timeout_s must be a whole number."
            ),
            (
                "/allocation_policies/0/profiles/1/profile",
                "Profile P is there already."
            ),
            (
                "/allocation_policies/0/reservation",
                "\"lots\" is not an amount: write a number such as 4, 0.5 or 1/7."
            ),
            (
                "/allocation_policies/0/users/0",
                "There is no user alcie; did you mean alice?"
            ),
            ("/base", "base is 0 and cannot be changed."),
            (
                "/links",
                "links follow from the member pools of each profile; change them there."
            ),
            ("/pools/0/count", "count must be between 0 and 1000000."),
            (
                "/pools/0/counts",
                "counts must be gpu or the name of a slot."
            ),
            ("/pools/0/name", "name is required."),
            ("/pools/1/group", "group is required."),
            (
                "/pools/1/name",
                "name must have 1 to 64 printable characters."
            ),
            (
                "/profiles/0/allotment",
                "allotment is required: the slots hold no accelerator that would count."
            ),
            ("/profiles/1/allotment", "allotment must be above 0."),
            ("/profiles/1/name", "Another profile is named P."),
            (
                "/profiles/1/slots",
                "One container cannot have both cuda.device and cuda.shares."
            ),
        ]
    );
}

/// Example E37 and the other errors of 13.4.
#[test]
fn errors_are_found_one_by_one() {
    let mut world = World::new();
    let mut one = |pointer: &str, value: Value| {
        let mut changed = document();
        *changed
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = value;
        world.admin(save(changed)).unwrap();
        rules(&world, "error")
    };
    let policy = "/allocation_policies/0";
    assert_eq!(
        one("/profiles/0/pools", json!([])),
        [pair("profile-without-pool", "/profiles/0/pools")]
    );
    assert_eq!(
        one("/pools/0/group", json!("nowhere")),
        [pair("group-unknown", "/pools/0/group")]
    );
    assert_eq!(
        one("/pools/1/group", json!("Bare")),
        [pair("group-taken", "/pools/1/group")]
    );
    assert_eq!(
        one(&format!("{policy}/limit"), json!("3")),
        [
            pair(
                "reservation-above-limit",
                "/allocation_policies/0/reservation"
            ),
            pair("allotment-above-limit", "/allocation_policies/0/profiles/0"),
        ]
    );
    assert_eq!(
        one(&format!("{policy}/reservation"), json!("9")),
        [pair("reservations-above-counts", "/allocation_policies")]
    );
    assert_eq!(
        one("/profiles/0/slots", json!({"cuda.device": "9"})),
        [pair("allotment-above-count", "/profiles/0/allotment")]
    );
    assert_eq!(
        one("/allocation_policies/1/profiles/0/queue", json!("DEV/4X")),
        [pair(
            "queue-taken",
            "/allocation_policies/1/profiles/0/queue"
        )]
    );
    assert_eq!(
        one("/profiles/0/pools", json!(["H100", "Gone"])),
        [pair("pool-unknown", "/profiles/0/pools/1")]
    );
    assert_eq!(
        one(&format!("{policy}/profiles"), json!([{"profile": "8x"}])),
        [pair(
            "profile-unknown",
            "/allocation_policies/0/profiles/0/profile"
        )]
    );
    let mut changed = document();
    changed["pools"][0]["profiles"] = json!(["8x", "4x"]);
    changed["profiles"][0]["policies"] = json!(["Nobody"]);
    world.admin(save(changed)).unwrap();
    assert_eq!(
        rules(&world, "error"),
        [
            pair("order-not-linked", "/pools/0/profiles/0"),
            pair("order-not-linked", "/profiles/0/policies/0"),
        ]
    );
    let refusal = world
        .admin(AdminVerb::Provision {
            expected_version: 0,
        })
        .unwrap_err();
    assert_eq!(errors(&refusal).0, "LS-CONFIG-INVALID");
    assert_eq!(errors(&refusal).1.len(), 2);
    assert_eq!(world.state().config.version, 0);
    let object = world.admin(AdminVerb::ValidateDraft).unwrap();
    let AdminObject::Verdict(verdict) = object else {
        panic!("{object:?}")
    };
    assert!(!verdict.valid && verdict.impact.is_none());
    let inactive =
        AdminVerb::PatchGroup("bare".to_owned(), Box::new(from(json!({"active": false}))));
    world.admin(inactive).unwrap();
    world.admin(save(document())).unwrap();
    assert_eq!(
        rules(&world, "error"),
        [pair("group-inactive", "/pools/0/group")]
    );
}

#[test]
fn warnings_do_not_hinder() {
    let mut world = World::new();
    let mut changed = document();
    changed["pools"][0]["count"] = json!("6");
    changed["allocation_policies"][0]["users"] = json!([]);
    changed["allocation_policies"][1]["reservation"] = json!("5");
    changed["profiles"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "1x", "slots": {"cuda.device": "1"}, "pools": ["H100"]}));
    world.admin(save(changed)).unwrap();
    assert_eq!(
        rules(&world, "warning"),
        [
            pair("count-differs", "/pools/0/count"),
            pair("profile-unused", "/profiles/1"),
            pair("users-empty", "/allocation_policies/0/users"),
            pair("reservation-uneven", "/allocation_policies/1/reservation"),
        ]
    );
    assert_eq!(rules(&world, "error"), []);
    // 6 and 6: the sum of 12 suffices for three jobs of 4, but only two find room.
    let mut changed = document();
    changed["pools"][0]["count"] = json!("6");
    changed["pools"][1]["count"] = json!("6");
    changed["allocation_policies"][1]["reservation"] = json!("4");
    world.admin(save(changed)).unwrap();
    let warned = rules(&world, "warning");
    assert!(
        warned.contains(&pair(
            "reservations-do-not-fit",
            "/allocation_policies/1/reservation"
        )),
        "{warned:?}"
    );
    assert!(
        !warned.contains(&pair(
            "reservations-do-not-fit",
            "/allocation_policies/0/reservation"
        )),
        "{warned:?}"
    );
}

/// Example E39, and the other rows of the table of edits.
#[test]
fn provisioning_acts_on_those_who_wait_and_on_nobody_who_runs() {
    let mut world = World::new();
    provision(&mut world, document());
    let runs: Vec<SessionId> = (0..2).map(|_| queued(&mut world, 2, "Dev/4x")).collect();
    world.place();
    assert!(
        runs.iter()
            .all(|id| !world.session(*id).unwrap().containers.is_empty())
    );
    let waits: Vec<SessionId> = [2, 3, 2]
        .map(|user| queued(&mut world, user, "Dev/4x"))
        .to_vec();
    let research = queued(&mut world, 3, "research");
    // Research may start now: rest it, so that all of them wait.
    world.admin(AdminVerb::EnablePools(false)).unwrap();

    let mut changed = document();
    changed["allocation_policies"][0]["users"] = json!(["alice"]);
    changed["allocation_policies"][0]["profiles"][0]["queue"] = json!("dev");
    changed["profiles"][0]["slots"] = json!({"cuda.device": "2", "cpu": "3"});
    world.admin(save(changed.clone())).unwrap();
    let object = world.admin(AdminVerb::ValidateDraft).unwrap();
    let AdminObject::Verdict(verdict) = object else {
        panic!("{object:?}")
    };
    let impact = verdict.impact.unwrap();
    assert_eq!((impact.counts["cancelled"], impact.counts["kept"]), (1, 5));
    assert_eq!(impact.sessions[0].id, waits[1].to_string());

    let told = world
        .rehearse(AdminVerb::Provision {
            expected_version: 1,
        })
        .unwrap();
    let AdminObject::Verdict(rehearsed) = told.object else {
        panic!("no verdict")
    };
    assert_eq!(rehearsed.impact.unwrap().counts["cancelled"], 1);
    assert_eq!(world.state().config.version, 1);

    let verdict = provision(&mut world, changed);
    assert_eq!(verdict.cancelled, [waits[1].to_string()]);
    assert!(ended(&world, waits[1]));
    for id in [waits[0], waits[2]] {
        let session = world.session(id).unwrap();
        let seat = session.queue.as_ref().unwrap();
        assert_eq!((seat.name.as_str(), seat.allotment), ("dev", 2000));
        assert_eq!(
            (
                session.slots.amount(&super::slot("cuda.device")),
                session.slots.cpu_milli()
            ),
            (2000, 3000)
        );
        assert!(session.adjusted.iter().any(|a| a.reason == "profile"));
    }
    for id in &runs {
        let session = world.session(*id).unwrap();
        let seat = session.queue.as_ref().unwrap();
        assert_eq!((seat.name.as_str(), seat.allotment), ("Dev/4x", 4000));
        assert_eq!(session.slots.amount(&super::slot("cuda.device")), 4000);
    }
    let queue = queue_view(world.state(), "DEV").unwrap();
    assert_eq!(
        (queue.pending, queue.running, queue.in_use.as_str()),
        (2, 2, "8")
    );
    assert_eq!(queue_views(world.state()).len(), 2);

    // The policy goes: its queue goes, what runs goes on and still counts in the pool.
    let mut changed = document();
    changed["allocation_policies"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    let verdict = provision(&mut world, changed);
    assert_eq!(
        verdict.cancelled,
        [waits[0].to_string(), waits[2].to_string()]
    );
    assert!(runs.iter().all(|id| {
        world
            .session(*id)
            .is_some_and(|s| s.state != SessionState::Terminating)
    }));
    assert_eq!(live_view(world.state()).pools[0].used, "8");
    assert!(world.session(research).is_some());
    assert_eq!(
        world
            .session(research)
            .unwrap()
            .slots
            .amount(&super::slot("cuda.device")),
        4000
    );
}

#[test]
fn a_removed_pool_leaves_the_others_or_none() {
    let mut world = World::new();
    provision(&mut world, document());
    let id = queued(&mut world, 2, "Dev/4x");
    assert_eq!(world.session(id).unwrap().group_name, "bare");
    let mut changed = document();
    changed["pools"].as_array_mut().unwrap().remove(0);
    changed["profiles"][0]["pools"] = json!(["H100"]);
    changed["allocation_policies"][1]["reservation"] = json!("0");
    let verdict = provision(&mut world, changed);
    assert!(verdict.cancelled.is_empty());
    assert_eq!(world.session(id).unwrap().group_name, "h100");
    world.place();
    let session = world.session(id).unwrap();
    assert_eq!(
        session.queue.as_ref().unwrap().pool.as_deref(),
        Some("H100")
    );
}

#[test]
fn what_could_never_be_is_cancelled() {
    let mut world = World::new();
    provision(&mut world, document());
    let id = queued(&mut world, 2, "Dev/4x");
    let mut changed = document();
    // 17 cores are more than any agent has; the pool's own count would allow it.
    changed["profiles"][0]["slots"] = json!({"cuda.device": "4", "cpu": "17"});
    world.admin(save(changed)).unwrap();
    let mut changes = Vec::new();
    let order = super::super::AdminOrder {
        caller: super::caller(1, "LSroot"),
        dry_run: false,
        expected_version: None,
        verb: AdminVerb::Provision {
            expected_version: 1,
        },
    };
    world
        .core
        .happen(
            &crate::model::Event::Admin(Box::new(order)),
            super::NOW,
            &mut changes,
            &mut Vec::new(),
        )
        .unwrap();
    let session = changes.iter().find_map(|c| match c {
        Change::Session(s) if s.id == id => Some(s),
        _ => None,
    });
    let session = session.unwrap();
    assert_eq!(
        (session.state, session.reason),
        (SessionState::Cancelled, Some(Reason::QueueRemoved))
    );
    assert_eq!(
        session.detail.as_deref(),
        Some(
            "profile 4x was changed to cuda.device 4, cpu 17, which no agent of its pools could hold"
        )
    );
    let history = changes
        .iter()
        .any(|c| matches!(c, Change::History(h) if h.session == id && h.by == "user root"));
    assert!(history, "an event says so");
}

#[test]
fn a_queue_gets_another_name() {
    let mut world = World::new();
    provision(&mut world, document());
    let id = queued(&mut world, 2, "Dev/4x");
    let rename = |queue: &str, name: &str| AdminVerb::RenameQueue {
        queue: queue.to_owned(),
        request: from(json!({"name": name})),
    };
    assert_eq!(
        world.admin(rename("Dev/4x", "RESEARCH")).unwrap_err().code,
        "LS-EXISTS"
    );
    assert_eq!(
        world.admin(rename("gone", "x")).unwrap_err().code,
        "LS-NOT-FOUND"
    );
    assert_eq!(
        errors(&world.admin(rename("Dev/4x", "")).unwrap_err()).1[0].0,
        "/name"
    );
    let seen = shown(&world.admin(rename("dev/4X", "fast")).unwrap());
    assert_eq!(
        (&seen["name"], &seen["pending"]),
        (&json!("fast"), &json!(1))
    );
    assert_eq!(
        world.session(id).unwrap().queue.as_ref().unwrap().name,
        "fast"
    );
    assert_eq!(world.state().config.version, 2);
    let draft = world.state().config_draft.as_ref().unwrap();
    assert_eq!(
        (
            draft.base,
            draft.config.allocation_policies[0].profiles[0]
                .queue
                .as_str()
        ),
        (2, "fast")
    );
    world.place();
    assert!(!world.session(id).unwrap().containers.is_empty());
}

#[test]
fn the_switch_lets_queues_rest() {
    let mut world = World::new();
    provision(&mut world, document());
    let id = queued(&mut world, 2, "Dev/4x");
    let told = world
        .rehearse(AdminVerb::EnablePools(false))
        .unwrap()
        .impact
        .unwrap();
    assert_eq!(told.sessions[0].effect, "waits");
    let seen = shown(&world.admin(AdminVerb::EnablePools(false)).unwrap());
    assert_eq!(
        (&seen["enabled"], &seen["version"]),
        (&json!(false), &json!(1))
    );
    world.place();
    assert!(world.session(id).unwrap().containers.is_empty());
    world.admin(AdminVerb::EnablePools(true)).unwrap();
    world.place();
    assert!(!world.session(id).unwrap().containers.is_empty());
}

/// After any provisioning each waiting seat is one of the queues there are, its person may
/// use it, and it counts what its profile counts; who runs is as before.
mod any_edit {
    use super::super::World;
    use super::{AdminVerb, document, save};
    use crate::model::State;
    use longshore_common::ids::UserId;
    use longshore_common::session::SessionState;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn edit(document: &mut Value, which: u8, at: usize) {
        let at = at % 2;
        let policy = format!("/allocation_policies/{at}");
        let mut set = |pointer: &str, value: Value| {
            if let Some(place) = document.pointer_mut(pointer) {
                *place = value;
            }
        };
        match which {
            0 => set("/profiles/0/slots", json!({"cuda.device": "2"})),
            1 => set(
                "/profiles/0/slots",
                json!({"cuda.device": "4", "cpu": "17"}),
            ),
            2 => set(
                "/profiles/0/slots",
                json!({"cuda.device": "8", "mem": "1g"}),
            ),
            3 => set("/profiles/0/pools", json!(["H100"])),
            4 => set(&format!("{policy}/profiles"), json!([])),
            5 => set(&format!("{policy}/users"), json!(["bob"])),
            6 => set(&format!("{policy}/users"), Value::Null),
            7 => set(
                &format!("{policy}/profiles/0/queue"),
                json!(format!("other-{at}")),
            ),
            8 => set(&format!("{policy}/name"), json!(format!("named-{at}"))),
            9 => set(&format!("{policy}/limit"), Value::Null),
            10 => set(&format!("{policy}/reservation"), json!("0")),
            _ => *document = super::document(),
        }
    }

    fn seats_hold(state: &State) {
        let config = &state.config.config;
        for session in state.sessions.values() {
            let Some(seat) = session.queue.as_ref() else {
                continue;
            };
            if session.state != SessionState::Pending {
                continue;
            }
            let queue = config.queue(&seat.name).expect("its queue is there");
            assert_eq!(
                (&queue.policy.name, &queue.profile.name),
                (&seat.policy, &seat.profile)
            );
            assert_eq!(queue.profile.allotment(), seat.allotment);
            assert!(queue.policy.admits(state, session.owner));
            for (slot, amount) in queue.profile.slots.iter() {
                assert_eq!(session.slots.amount(slot), amount);
            }
            let mem = session.slots.mem_bytes();
            assert_eq!(session.shm_bytes, mem, "nobody asked for less");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn keeps_seats_and_queues_together(edits in prop::collection::vec((0u8..12, 0usize..2, 0u8..4), 1..8)) {
            let mut world = World::new();
            let mut draft = document();
            super::provision(&mut world, draft.clone());
            for (which, at, then) in edits {
                let names: Vec<String> = world.state().config.config.queues().map(|q| q.name.to_owned()).collect();
                for user in [2, 3] {
                    if let Some(name) = names.get(at % names.len().max(1)) {
                        let admitted = world.state().config.config.queue(name).is_some_and(|q| {
                            q.policy.admits(world.state(), UserId::new(user))
                        });
                        let fits = world.submit(user, json!({"queue": name})).is_ok();
                        prop_assert!(admitted || !fits);
                    }
                }
                if then == 0 {
                    world.place();
                }
                edit(&mut draft, which, at);
                let running: Vec<_> = world.state().sessions.values().filter(|s| s.state != SessionState::Pending).cloned().collect();
                world.admin(save(draft.clone())).unwrap();
                let before = world.state().config.clone();
                let expected_version = before.version;
                match world.admin(AdminVerb::Provision { expected_version }) {
                    Ok(_) => {
                        let now = &world.state().config;
                        let differs = u64::from(now.config != before.config);
                        prop_assert_eq!(now.version, expected_version + differs);
                    }
                    Err(refusal) => {
                        prop_assert_eq!(refusal.code, "LS-CONFIG-INVALID");
                        prop_assert_eq!(world.state().config.version, expected_version);
                    }
                }
                seats_hold(world.state());
                for session in running {
                    prop_assert_eq!(world.session(session.id), Some(&session));
                }
            }
        }
    }
}
