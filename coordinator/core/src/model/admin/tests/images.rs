//! What administrators say of images, and what sessions get of it.

use super::{World, errors, from, shown, slot};
use crate::model::Change;
use crate::model::admin::AdminVerb;
use longshore_common::ids::ImageId;
use serde_json::{Value, json};
use std::sync::Arc;

fn create(members: Value) -> AdminVerb {
    AdminVerb::CreateImage(ImageId::new(1), Box::new(from(members)))
}

fn patch(members: Value) -> AdminVerb {
    AdminVerb::PatchImage("base".to_owned(), Box::new(from(members)))
}

#[test]
fn what_is_said_of_an_image_is_checked() {
    let mut world = World::new();
    for (members, code, pointer) in [
        (json!({}), "LS-INVALID", "/reference"),
        (json!({"reference": "A b"}), "LS-INVALID", "/reference"),
        (
            json!({"reference": "base", "min_slots": {"mem": "lots"}}),
            "LS-SLOT-AMOUNT",
            "/min_slots/mem",
        ),
        (
            json!({"reference": "base", "min_slots": {"Cpu!": "1"}}),
            "LS-SLOT-UNKNOWN",
            "/min_slots/Cpu!",
        ),
    ] {
        let refusal = world.admin(create(members)).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal:?}");
        assert_eq!(errors(&refusal).1[0].0, pointer);
    }
    // An image may need what no agent has, and variants that exclude each other in a session.
    let least = json!({"mem": "1g", "rocm": "1", "cuda.device": "1", "cuda.shares": "0.1"});
    let made = json!({"reference": "base", "shm": "64m", "min_slots": least});
    let made = shown(&world.admin(create(made)).unwrap());
    assert_eq!(made["reference"], "docker.io/library/base:latest");
    assert_eq!(made["min_slots"]["mem"], "1073741824");
    assert_eq!(made["shm"], "67108864");
    let again = create(json!({"reference": "docker.io/library/base"}));
    assert_eq!(world.admin(again).unwrap_err().code, "LS-EXISTS");
    let changed = json!({"reference": "base:latest", "min_slots": {"rocm": null, "mem": "0"}});
    let changed = shown(&world.admin(patch(changed)).unwrap());
    let left = json!({"cuda.device": "1", "cuda.shares": "0.1"});
    assert_eq!(
        (&changed["min_slots"], &changed["version"]),
        (&left, &json!(2))
    );
    let other = world.admin(patch(json!({"reference": "other"})));
    assert_eq!(other.unwrap_err().code, "LS-FIELD-FIXED");
    let forget = || AdminVerb::ForgetImage("base".to_owned());
    let stale = world.admin_at(Some(1), forget()).unwrap_err();
    assert_eq!(stale.code, "LS-VERSION-STALE");
    world.admin_at(Some(2), forget()).unwrap();
    assert!(world.state().images.is_empty());
}

#[test]
fn where_what_an_image_needs_is_offered_is_said() {
    let mut world = World::new();
    let made = json!({"reference": "base", "min_slots": {"cuda.device": "1"}});
    world.admin(create(made)).unwrap();
    let bare = world.state().group_by_ref("bare").unwrap().id;
    let mut node = world
        .state()
        .agents
        .values()
        .find(|a| a.group == bare)
        .unwrap()
        .clone();
    let mut inventory = (**node.inventory.as_ref().unwrap()).clone();
    inventory.devices.clear();
    node.inventory = Some(Arc::new(inventory));
    world.core.apply(&Change::Agent(Box::new(node)));
    let refusal = world.submit(2, json!({"group": "bare"})).unwrap_err();
    assert_eq!(refusal.code, "LS-FIT-NEVER");
    let hint = "Groups that offer what the image needs: h100.";
    assert_eq!(refusal.hint.as_deref(), Some(hint));
    // It is not the image that asks for too much there.
    let cores = json!({"group": "h100", "slots": {"cpu": "99"}});
    let refusal = world.submit(2, cores).unwrap_err();
    assert_eq!(refusal.code, "LS-FIT-NEVER");
    assert!(refusal.hint.is_none_or(|hint| !hint.contains("image")));
}

#[test]
fn sessions_get_at_least_what_their_image_needs() {
    let mut world = World::new();
    let made = json!({"reference": "base", "shm": "64m",
        "min_slots": {"cpu": "2", "mem": "1g", "cuda.device": "1"}});
    world.admin(create(made)).unwrap();
    let asked = json!({"slots": {"cpu": "1", "mem": "256m"}});
    let id = world.submit(2, asked.clone()).unwrap();
    let session = world.session(id).unwrap();
    let gpu = session.slots.amount(&slot("cuda.device"));
    assert_eq!((session.slots.cpu_milli(), gpu), (2000, 1000));
    assert_eq!(session.slots.mem_bytes(), (1 << 30) + (64 << 20));
    assert_eq!(session.shm_bytes, 64 << 20);
    let paths: Vec<&str> = session.adjusted.iter().map(|a| &*a.path).collect();
    assert_eq!(paths, ["/slots/cuda.device", "/slots/cpu", "/slots/mem"]);
    // Another image needs nothing; the same by another spelling does.
    let mut other = asked.clone();
    other["image"] = json!("other");
    let id = world.submit(2, other).unwrap();
    assert!(world.session(id).unwrap().adjusted.is_empty());
    let mut spelled = asked;
    spelled["image"] = json!("docker.io/library/base:latest");
    let id = world.submit(2, spelled).unwrap();
    assert_eq!(world.session(id).unwrap().slots.cpu_milli(), 2000);
    // What no agent of the group offers is refused, as if it had been asked for.
    let needs = json!({"min_slots": {"cuda.device": null, "rocm": "1"}});
    world.admin(patch(needs)).unwrap();
    assert_eq!(world.submit(2, json!({})).unwrap_err().code, "LS-FIT-NEVER");
}

#[test]
fn a_digest_with_a_tag_gets_what_is_said_of_the_tag() {
    let mut world = World::new();
    let said = json!({"reference": "base:1", "min_slots": {"cpu": "3"}});
    world.admin(create(said)).unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut cpu = |image: String| {
        let id = world.submit(2, json!({"image": image})).unwrap();
        world.session(id).unwrap().slots.cpu_milli()
    };
    assert_eq!(cpu(format!("index.docker.io/base:1@{digest}")), 3000);
    let other = cpu(format!("base:2@{digest}"));
    assert_eq!(cpu(format!("base@{digest}")), other);
    assert!(other < 3000, "{other}");
    // What is said of the digest itself is nearer.
    let image = format!("docker.io/base:9@{digest}");
    let said = json!({"reference": image, "min_slots": {"cpu": "4"}});
    let said = AdminVerb::CreateImage(ImageId::new(2), Box::new(from(said)));
    world.admin(said).unwrap();
    let id = world
        .submit(2, json!({"image": format!("base:1@{digest}")}))
        .unwrap();
    assert_eq!(world.session(id).unwrap().slots.cpu_milli(), 4000);
}

#[test]
fn in_a_queue_an_image_gets_no_more_than_what_counts() {
    let mut world = World::new();
    let document = json!({
        "pools": [{"name": "gpus", "group": "h100"}, {"name": "memory", "group": "bare", "counts": "mem"}],
        "profiles": [
            {"name": "2x", "slots": {"cuda.device": "2", "mem": "1g"}, "pools": ["gpus"]},
            {"name": "small", "slots": {"mem": "1g"}, "allotment": "1", "pools": ["memory"]},
        ],
        "allocation_policies": [{"name": "Dev", "limit": "8", "profiles": [
            {"profile": "2x", "queue": "gpu"}, {"profile": "small", "queue": "mem"},
        ]}],
    });
    let save = AdminVerb::SaveDraft(Box::new(from(document)));
    world.admin(save).unwrap();
    let expected_version = world.state().config.version;
    world
        .admin(AdminVerb::Provision { expected_version })
        .unwrap();
    let asked = |queue: &str| json!({ "queue": queue });
    let least = |world: &mut World, least: Value| {
        world.admin(patch(json!({ "min_slots": least }))).unwrap();
    };
    let said = json!({"reference": "base", "min_slots": {"cuda.device": "4"}});
    world.admin(create(said)).unwrap();
    for queue in ["gpu", "mem"] {
        let refusal = world.submit(2, asked(queue)).unwrap_err();
        assert_eq!(
            (refusal.code, errors(&refusal).1[0].0),
            ("LS-INVALID", "/image")
        );
        assert!(
            refusal.detail.contains("cuda.device 4"),
            "{}",
            refusal.detail
        );
    }
    // What its jobs have is enough, and what nobody counts is raised.
    least(&mut world, json!({"cuda.device": "2", "mem": "2g"}));
    let id = world.submit(2, asked("gpu")).unwrap();
    let session = world.session(id).unwrap();
    assert_eq!(session.slots.mem_bytes(), 2 << 30);
    assert_eq!(session.queue.as_ref().unwrap().allotment, 2000);
    // Memory is what the other pool counts.
    least(&mut world, json!({"cuda.device": null}));
    let refusal = world.submit(2, asked("mem")).unwrap_err();
    assert!(refusal.detail.contains("needs mem"), "{}", refusal.detail);
    assert!(world.submit(2, asked("gpu")).is_ok());
}
