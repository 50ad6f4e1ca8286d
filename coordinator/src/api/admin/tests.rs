//! Administration as its callers meet it.

mod closed;
mod images;
mod invitations;
mod limits;
mod people;
mod vaults;

use super::super::tests::{Answer, Fixture, batch, ready as bare};
use axum::body::Body;
use longshore_common::agent::Inventory;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{
    AgentId, ContainerKey, DomainId, Fence, Generation, GroupId, PolicyId, ProjectId,
};
use longshore_common::session::ContainerState;
use longshore_common::time::Timestamp;
use longshore_common::wire::{Claim, ContainerReport, UnclaimedItem};
use longshore_core::model::{Beginning, Event, Group, SchedulerSettings};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

impl Fixture {
    pub(in crate::api) async fn patch(&self, path: &str, tag: &str, body: &Value) -> Answer {
        let headers = [MERGE, ("if-match", tag)];
        self.send("PATCH", path, &headers, Body::from(body.to_string()))
            .await
    }

    pub(in crate::api) async fn put(&self, path: &str, tag: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        self.send("PUT", path, &headers, Body::from(body.to_string()))
            .await
    }

    async fn delete(&self, path: &str, tag: &str) -> Answer {
        self.send("DELETE", path, &[("if-match", tag)], Body::empty())
            .await
    }

    /// Makes somebody and returns the value of the Authorization header.
    async fn person(&self, name: &str, more: Value) -> String {
        let mut body = json!({ "email": format!("{name}@lab.example"), "username": name });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let made = self.post("/api/v1/users", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        let part = |name: &str| made[name].as_str().unwrap().to_owned();
        format!("Bearer {}.{}", part("access_key"), part("secret_key"))
    }

    async fn get_as(&self, bearer: &str, path: &str) -> Answer {
        self.send("GET", path, &[("authorization", bearer)], Body::empty())
            .await
    }

    async fn send_as(&self, bearer: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [
            ("authorization", bearer),
            ("content-type", "application/json"),
            ("if-match", "*"),
        ];
        self.send(method, path, &headers, Body::from(body.to_string()))
            .await
    }

    /// Lets a machine with so many GPUs join a group.
    async fn machine(&self, name: &str, group: &str, gpus: u32) {
        let token = self
            .post(
                "/api/v1/join-tokens",
                &json!({ "group": group, "agent_name": name }),
            )
            .await
            .json();
        let parts: Vec<&str> = token["token"].as_str().unwrap().split('.').collect();
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(parts[2])
            .unwrap();
        let id = AgentId::new(crate::identity::new_id());
        let enrol = longshore_core::model::Enrol {
            token: parts[1].to_owned(),
            secret_sha256: crate::pki::sha256(&secret),
            key: crate::pki::sha256(name.as_bytes()),
            name: name.to_owned(),
            fingerprint: name.to_owned(),
            machine: name.to_owned(),
            new_id: id,
        };
        let key = enrol.key;
        self.tell(Event::Enrol(enrol)).await;
        let hello = longshore_core::model::HelloFacts {
            agent: id,
            key,
            fingerprint: name.to_owned(),
            machine: name.to_owned(),
            boot_id: "b".to_owned(),
            fence: Fence(1),
            other_engine_connected: false,
        };
        self.tell(Event::Hello(Box::new(hello))).await;
        let offered = Slots::new()
            .with(SlotName::cpu(), 64_000)
            .with(SlotName::mem(), 1 << 38);
        let inventory = Inventory {
            hostname: name.into(),
            offered: offered.clone(),
            total: offered,
            devices: (0..gpus).map(super::super::tests::device).collect(),
            ..super::super::tests::inventory()
        };
        self.tell(Event::Inventory {
            agent: id,
            inventory: Box::new(inventory),
        })
        .await;
    }

    async fn tell(&self, event: Event) {
        let told = self.app.engine.ask(event).await.unwrap();
        assert!(told.is_ok(), "{told:?}");
    }
}

/// An installation with what every start makes where it is missing.
async fn ready() -> Fixture {
    let f = bare().await;
    let beginning = Beginning {
        group: Group::new(GroupId::new(9), "default"),
        domain: DomainId::new(10),
        project: ProjectId::new(11),
        keypair_policy: PolicyId::new(12),
        user_policy: PolicyId::new(13),
        project_policy: PolicyId::new(14),
        scheduler: SchedulerSettings::default(),
        service_account_admins: false,
        throttle: longshore_identity::throttle::Limits::default(),
    };
    f.tell(Event::Started(Box::new(beginning))).await;
    f
}

fn pointers(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let errors = body["errors"].as_array().unwrap().iter();
    errors
        .map(|e| e["pointer"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_resource_group_from_creation_to_deletion() {
    let f = ready().await;
    let body =
        json!({ "name": "gpu", "retries_to_skip": 5, "allowed": { "projects": ["default"] } });
    let dry = f.post("/api/v1/resource-groups?dry_run=true", &body).await;
    assert_eq!(
        (dry.status.as_u16(), dry.header("longshore-dry-run")),
        (201, "true")
    );
    assert_eq!(f.get("/api/v1/resource-groups/gpu").await.status, 404);
    let made = f.post("/api/v1/resource-groups", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let group = made.json();
    assert_eq!(
        made.header("location"),
        format!("/api/v1/resource-groups/{}", group["id"].as_str().unwrap())
    );
    assert_eq!(
        (made.header("etag"), made.header("longshore-dry-run")),
        ("\"1\"", "")
    );
    assert_eq!(group["retries_to_skip"], 5);
    let inherited: Vec<&str> = group["inherited"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert!(inherited.contains(&"scheduler") && !inherited.contains(&"retries_to_skip"));
    assert!(!made.text().contains("null"));
    assert_eq!(
        f.post("/api/v1/resource-groups", &body).await.code(),
        "LS-EXISTS"
    );
    let path = "/api/v1/resource-groups/gpu";
    let answer = f
        .send("PATCH", path, &[MERGE], Body::from("{\"active\":false}"))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (428, "LS-VERSION-MISSING")
    );
    let stale = f.patch(path, "\"7\"", &json!({ "active": false })).await;
    assert_eq!(
        (stale.status.as_u16(), stale.code().as_str()),
        (412, "LS-VERSION-STALE")
    );
    assert_eq!(stale.json()["current"]["version"], 1);
    let changed = f
        .patch(
            path,
            "\"1\"",
            &json!({ "retries_to_skip": null, "scheduler": "drf", "allowed": null }),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let group = changed.json();
    assert_eq!(
        (group["version"].as_u64(), group["retries_to_skip"].as_u64()),
        (Some(2), Some(3))
    );
    assert!(group.get("allowed").is_none());
    let bad = f
        .patch(
            path,
            "*",
            &json!({ "scheduler": "best", "declare_lost_s": 5 }),
        )
        .await;
    assert_eq!(bad.code(), "LS-INVALID");
    assert_eq!(pointers(&bad), ["/scheduler", "/declare_lost_s"]);
    assert_eq!(
        f.patch(path, "*", &json!({ "name": "x" })).await.code(),
        "LS-FIELD-FIXED"
    );
    assert_eq!(
        f.patch(path, "*", &json!({ "schedular": "drf" }))
            .await
            .code(),
        "LS-UNKNOWN-FIELD"
    );
    // Who may use it, one by one.
    let allowed = format!("{path}/allowed");
    assert_eq!(f.get(&allowed).await.json()["everybody"], true);
    let answer = f
        .send(
            "PUT",
            &format!("{allowed}/projects/default"),
            &[],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.json()["allowed"]["projects"][0], "default");
    let answer = f
        .send(
            "DELETE",
            &format!("{allowed}/projects/default"),
            &[],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.status, 204);
    let nobody = f.get(&allowed).await.json();
    assert_eq!(
        (&nobody["everybody"], &nobody["projects"]),
        (&json!(false), &json!([]))
    );
    let none = f
        .send(
            "PUT",
            &format!("{allowed}/people/default"),
            &[],
            Body::empty(),
        )
        .await;
    assert_eq!(none.code(), "LS-NOT-FOUND");
    // An agent is moved, and is in the way then.
    let agent = f.get("/api/v1/agents/gpu01").await;
    let moved = f
        .patch(
            "/api/v1/agents/gpu01",
            agent.header("etag"),
            &json!({ "group": "gpu" }),
        )
        .await;
    assert_eq!(moved.json()["group_name"], "gpu", "{}", moved.text());
    assert_eq!(f.get(path).await.json()["capacity"]["cuda.device"], "2");
    let used = f.delete(path, "*").await;
    assert_eq!(used.code(), "LS-IN-USE");
    let used = used.json();
    assert_eq!(
        (&used["blockers"][0]["kind"], &used["counts"]["agent"]),
        (&json!("agent"), &json!(1))
    );
    f.patch("/api/v1/agents/gpu01", "*", &json!({ "group": "default" }))
        .await;
    let dry = f.delete(&format!("{path}?dry_run=true"), "*").await;
    assert_eq!(
        (dry.status.as_u16(), dry.header("longshore-dry-run")),
        (204, "true")
    );
    assert_eq!(f.get(path).await.status, 200);
    assert_eq!(f.delete(path, "*").await.status, 204);
    assert_eq!(f.delete(path, "*").await.status, 204, "gone already");
}

#[tokio::test]
async fn policies_limit_and_say_what_they_touch() {
    let f = ready().await;
    let body = json!({ "name": "student", "total_slots": { "cpu": "2", "cuda.device": "1" },
        "max_concurrent_sessions": 2, "max_session_lifetime_s": 3600 });
    let made = f.post("/api/v1/keypair-policies", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["total_slots"]["cpu"], "2");
    let clone = json!({ "name": "wide", "clone": "student", "max_concurrent_sessions": null });
    let wide = f.post("/api/v1/keypair-policies", &clone).await.json();
    assert_eq!(wide["total_slots"]["cuda.device"], "1");
    assert!(wide.get("max_concurrent_sessions").is_none());
    let bad = json!({ "name": "x", "total_slots": { "cpu": "-1" }, "max_priority": 101 });
    let bad = f.post("/api/v1/keypair-policies", &bad).await;
    assert_eq!(bad.code(), "LS-INVALID");
    assert_eq!(pointers(&bad).len(), 2, "{}", bad.text());
    let alice = f
        .person(
            "alice",
            json!({ "keypair_policy": "student", "projects": ["default"] }),
        )
        .await;
    let body = json!({ "command": ["x"], "slots": { "cpu": "2", "mem": "1g" } });
    let made = f.send_as(&alice, "POST", "/api/v1/sessions", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let limits = f.get_as(&alice, "/api/v1/me/limits").await;
    assert_eq!(limits.status, 200, "{}", limits.text());
    let limits = limits.json();
    let cpu = limits["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["slot"] == "cpu")
        .unwrap()
        .clone();
    assert_eq!(
        (
            &cpu["used"],
            &cpu["limit"],
            &cpu["remaining"],
            &cpu["tightest"]["name"]
        ),
        (&json!("2"), &json!("2"), &json!("0"), &json!("student"))
    );
    assert_eq!(limits["policy"]["max_session_lifetime_s"], 3600);
    let same = f.get("/api/v1/users/alice/limits").await.json();
    assert_eq!(same["entries"], limits["entries"]);
    assert_eq!(
        f.get_as(&alice, "/api/v1/users/dana/limits").await.code(),
        "LS-NOT-FOUND"
    );
    // A rehearsal names whom it touches, and changes nothing.
    let path = "/api/v1/keypair-policies/student";
    let dry = f
        .patch(
            &format!("{path}?dry_run=true"),
            "*",
            &json!({ "total_slots": { "cpu": "1" } }),
        )
        .await;
    let dry = dry.json();
    assert_eq!(dry["impact"]["users"][0], "alice", "{dry}");
    assert_eq!(dry["impact"]["diff"][0]["path"], "/total_slots");
    assert_eq!(f.get(path).await.json()["total_slots"]["cpu"], "2");
    let used = f.delete(path, "*").await;
    assert_eq!(used.code(), "LS-IN-USE");
    assert_eq!(used.json()["blockers"][0]["name"], "alice");
    assert_eq!(
        f.delete("/api/v1/keypair-policies/default", "*")
            .await
            .code(),
        "LS-BUILTIN"
    );
    assert_eq!(
        f.delete(&format!("{path}?move_to=wide"), "*").await.status,
        204
    );
    let keys = f.get("/api/v1/keypairs?user=alice").await.json();
    assert_eq!(keys["items"][0]["policy"], "wide");
    // The other kinds go the same way.
    for (list, member) in [
        ("user-policies", "max_folder_count"),
        ("project-policies", "max_network_count"),
    ] {
        let mut body = json!({ "name": "small" });
        body[member] = json!(2);
        let made = f.post(&format!("/api/v1/{list}"), &body).await;
        assert_eq!(
            (made.status.as_u16(), &made.json()[member]),
            (201, &json!(2))
        );
        let changed = f
            .patch(
                &format!("/api/v1/{list}/SMALL"),
                "\"1\"",
                &json!({ (member): 4 }),
            )
            .await;
        assert_eq!(changed.json()[member], 4, "{}", changed.text());
        assert_eq!(
            f.get(&format!("/api/v1/{list}")).await.json()["items"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            f.delete(&format!("/api/v1/{list}/small"), "\"2\"")
                .await
                .status,
            204
        );
    }
}

#[tokio::test]
async fn people_keypairs_projects_and_domains() {
    let f = ready().await;
    let made = f
        .post(
            "/api/v1/projects",
            &json!({ "name": "vision", "total_slots": { "cuda.device": "4" } }),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let dry = f
        .post(
            "/api/v1/users?dry_run=true",
            &json!({ "email": "bob@lab.example" }),
        )
        .await;
    assert_eq!(dry.status, 201);
    assert!(dry.json().get("secret_key").is_none());
    assert_eq!(f.get("/api/v1/users/bob@lab.example").await.status, 404);
    let bob = f
        .person("bob", json!({ "projects": ["vision", "default"] }))
        .await;
    let me = f.get_as(&bob, "/api/v1/me").await.json();
    assert_eq!(
        (&me["username"], &me["role"]),
        (&json!("bob"), &json!("user"))
    );
    assert_eq!(
        f.post("/api/v1/users", &json!({ "email": "bob@lab.example" }))
            .await
            .code(),
        "LS-EXISTS"
    );
    // What is not one's own is not there; what administers is forbidden.
    for denied in [
        ("POST", "/api/v1/users"),
        ("POST", "/api/v1/resource-groups"),
        ("PATCH", "/api/v1/keypair-policies/default"),
        ("DELETE", "/api/v1/presets/x"),
        ("PUT", "/api/v1/resource-config/draft"),
        ("POST", "/api/v1/resource-config/provision"),
        ("PUT", "/api/v1/users/bob/status"),
        ("POST", "/api/v1/usage-audit"),
        ("GET", "/api/v1/resource-groups/default/allowed"),
    ] {
        let answer = f.send_as(&bob, denied.0, denied.1, &json!({})).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (403, "LS-FORBIDDEN"),
            "{denied:?}"
        );
    }
    let count = |answer: Answer| answer.json()["items"].as_array().unwrap().len();
    assert_eq!(count(f.get_as(&bob, "/api/v1/users").await), 2);
    assert_eq!(count(f.get("/api/v1/users").await), 2);
    assert_eq!(count(f.get_as(&bob, "/api/v1/keypairs").await), 1);
    assert_eq!(count(f.get_as(&bob, "/api/v1/projects").await), 2);
    assert_eq!(count(f.get_as(&bob, "/api/v1/domains").await), 1);
    assert_eq!(
        f.get_as(&bob, "/api/v1/users/nobody").await.code(),
        "LS-NOT-FOUND"
    );
    // A further keypair of one's own, without choice of its policy.
    let second = f
        .send_as(&bob, "POST", "/api/v1/keypairs", &json!({}))
        .await
        .into_json();
    let key = second["access_key"].as_str().unwrap().to_owned();
    assert!(second["secret_key"].is_string() && second["main"] == false);
    for wrong in [json!({ "policy": "default" }), json!({ "user": "dana" })] {
        let answer = f.send_as(&bob, "POST", "/api/v1/keypairs", &wrong).await;
        assert_eq!(answer.code(), "LS-FORBIDDEN", "{wrong}");
    }
    let main = f
        .send_as(
            &bob,
            "PUT",
            "/api/v1/users/bob/main-keypair",
            &json!({ "access_key": key }),
        )
        .await;
    assert_eq!(main.json()["main_keypair"], key, "{}", main.text());
    let bearer = format!("Bearer {key}.{}", second["secret_key"].as_str().unwrap());
    assert_eq!(f.get_as(&bearer, "/api/v1/me").await.status, 200);
    let off = format!("/api/v1/keypairs/{key}/deactivate");
    assert_eq!(
        f.send_as(&bob, "POST", &off, &json!({})).await.json()["state"],
        "inactive"
    );
    assert_eq!(
        f.send_as(&bob, "POST", &off, &json!({})).await.code(),
        "LS-KEYPAIR-STATE"
    );
    assert_eq!(
        f.get_as(&bearer, "/api/v1/me").await.code(),
        "LS-KEYPAIR-INACTIVE"
    );
    let on = f
        .post(&format!("/api/v1/keypairs/{key}/activate"), &json!({}))
        .await;
    assert_eq!(on.json()["state"], "active");
    let path = format!("/api/v1/keypairs/{key}");
    let wrong = f.patch(&path, "", &json!({ "policy": "defualt" })).await;
    assert_eq!(wrong.code(), "LS-INVALID");
    assert!(wrong.text().contains("default"), "{}", wrong.text());
    assert_eq!(
        f.patch(&path, "", &json!({ "policy": "default" }))
            .await
            .status,
        200
    );
    let changed = f
        .patch(
            "/api/v1/users/bob",
            "*",
            &json!({ "weight": "2.5", "projects": ["vision"] }),
        )
        .await;
    assert_eq!(
        (&changed.json()["weight"], &changed.json()["projects"]),
        (&json!("2.5"), &json!(["vision"])),
        "{}",
        changed.text()
    );
    // Switched off: right credentials open nothing, and the list does not show it.
    let status = "/api/v1/users/bob/status";
    let dry = f
        .put(
            &format!("{status}?dry_run=true"),
            "*",
            &json!({ "status": "inactive" }),
        )
        .await;
    assert_eq!(dry.json()["status"], "inactive");
    assert_eq!(f.get_as(&bob, "/api/v1/me").await.status, 200);
    let answer = f.put(status, "*", &json!({ "status": "inactive" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = f.get_as(&bob, "/api/v1/me").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "LS-USER-INACTIVE")
    );
    assert_eq!(count(f.get("/api/v1/users").await), 1);
    assert_eq!(count(f.get("/api/v1/users?status=inactive").await), 1);
    assert_eq!(
        f.put(
            "/api/v1/users/dana/status",
            "*",
            &json!({ "status": "inactive" })
        )
        .await
        .code(),
        "LS-USER-SELF"
    );
    // Domains.
    let made = f
        .post("/api/v1/domains", &json!({ "name": "physics" }))
        .await;
    assert_eq!(made.status, 201);
    let changed = f
        .patch(
            "/api/v1/domains/physics",
            made.header("etag"),
            &json!({ "total_slots": { "cuda.device": "2" } }),
        )
        .await;
    assert_eq!(changed.json()["total_slots"]["cuda.device"], "2");
}

impl Answer {
    fn into_json(self) -> Value {
        assert!(self.status.is_success(), "{}", self.text());
        self.json()
    }
}

/// Two pools of 8, one profile of 4 linked to both, two policies with a reservation of 8.
fn document() -> Value {
    json!({
        "pools": [
            { "name": "Bare Metal", "group": "bare-metal", "count": "8" },
            { "name": "H100", "group": "h100", "count": "8" },
        ],
        "profiles": [
            { "name": "4x", "slots": { "cuda.device": "4" }, "pools": ["Bare Metal", "H100"],
              "policies": ["Dev", "Research"] },
        ],
        "allocation_policies": [
            { "name": "Dev", "reservation": "8", "profiles": [{ "profile": "4x" }] },
            { "name": "Research", "reservation": "8", "profiles": [{ "profile": "4x" }],
              "users": ["dana"] },
        ],
    })
}

/// Who is no superadmin sees of the live document what is open to it.
async fn the_open_part_is_shown(f: &Fixture) {
    let fay = f.person("fay", json!({ "projects": ["default"] })).await;
    let closed = json!({ "allowed": { "domains": [], "projects": [], "keypairs": [] } });
    let path = "/api/v1/resource-groups/h100";
    f.patch(path, "*", &closed).await.into_json();
    let live = f.get_as(&fay, "/api/v1/resource-config").await.into_json();
    let names = |list: &Value, member: &str| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| item[member].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&live["pools"], "name"), ["Bare Metal"]);
    assert_eq!(names(&live["allocation_policies"], "name"), ["Dev"]);
    assert_eq!(names(&live["links"], "pool"), ["Bare Metal"]);
    assert_eq!(live["profiles"][0]["pools"], json!(["Bare Metal"]));
    assert_eq!(live["profiles"][0]["policies"], json!(["Dev"]));
    assert!(live.get("by").is_none());
    let whole = f.get("/api/v1/resource-config").await.into_json();
    assert_eq!(names(&whole["pools"], "name"), ["Bare Metal", "H100"]);
    assert_eq!(whole["allocation_policies"][1]["users"], json!(["dana"]));
    let open = json!({ "allowed": null });
    f.patch(path, "*", &open).await.into_json();
}

#[tokio::test]
async fn pools_are_drafted_provisioned_and_shared_out() {
    let f = ready().await;
    for group in ["bare-metal", "h100"] {
        f.post("/api/v1/resource-groups", &json!({ "name": group }))
            .await
            .into_json();
        f.machine(&format!("{group}-1"), group, 8).await;
    }
    let empty = f.get("/api/v1/resource-config").await.json();
    assert_eq!(
        (&empty["version"], &empty["enabled"]),
        (&json!(0), &json!(true))
    );
    let draft = "/api/v1/resource-config/draft";
    let tag = f.get(draft).await.header("etag").to_owned();
    let json_type = [("content-type", "application/json")];
    let missing = f
        .send("PUT", draft, &json_type, Body::from(document().to_string()))
        .await;
    assert_eq!(missing.code(), "LS-VERSION-MISSING");
    let mut broken = document();
    broken["profiles"][0]["pools"] = json!([]);
    let saved = f.put(draft, &tag, &broken).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
    let stale = f.put(draft, &tag, &document()).await;
    assert_eq!(
        (stale.status.as_u16(), stale.code().as_str()),
        (412, "LS-VERSION-STALE")
    );
    let verdict = f
        .post("/api/v1/resource-config/draft/validate", &json!({}))
        .await
        .into_json();
    assert_eq!(verdict["valid"], false);
    assert_eq!(
        verdict["findings"][0]["rule"], "profile-without-pool",
        "{verdict}"
    );
    let provision = "/api/v1/resource-config/provision";
    let go = json!({ "expected_version": 0 });
    let refused = f.post(provision, &go).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (422, "LS-CONFIG-INVALID")
    );
    f.put(draft, "*", &document()).await.into_json();
    assert_eq!(f.post(provision, &json!({})).await.code(), "LS-INVALID");
    assert_eq!(
        f.post(provision, &json!({ "expected_version": 3 }))
            .await
            .code(),
        "LS-CONFIG-STALE"
    );
    let dry = f
        .post(&format!("{provision}?dry_run=true"), &go)
        .await
        .into_json();
    assert!(dry["impact"].is_object(), "{dry}");
    assert_eq!(f.get("/api/v1/resource-config").await.json()["version"], 0);
    let stale = [("content-type", "application/json"), ("if-match", "\"1\"")];
    let refused = f.send("POST", provision, &stale, go.to_string().into());
    let refused = refused.await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (412, "LS-VERSION-STALE"),
        "another draft was saved meanwhile"
    );
    let done = f.post(provision, &go).await.into_json();
    assert_eq!(
        (&done["valid"], &done["config"]["version"]),
        (&json!(true), &json!(1))
    );
    // What was live before is kept, and can be made the draft again.
    let versions = "/api/v1/resource-config/versions";
    let listed = f.get(versions).await.into_json();
    assert_eq!(
        (&listed["items"][0]["version"], &listed["items"][0]["by"]),
        (&json!(1), &done["config"]["by"]),
        "{listed}"
    );
    f.put(draft, "*", &json!({})).await.into_json();
    f.post(provision, &json!({ "expected_version": 1 }))
        .await
        .into_json();
    let first = f.get(&format!("{versions}?limit=1")).await.into_json();
    assert_eq!(first["items"][0]["version"], 2);
    let cursor = first["next_cursor"].as_str().expect("more");
    let next = format!("{versions}?limit=1&cursor={cursor}");
    let next = f.get(&next).await.into_json();
    assert_eq!(next["items"][0]["version"], 1);
    let old = f.get(&format!("{versions}/1")).await.into_json();
    assert_eq!(
        (&old["version"], &old["pools"][0]["name"]),
        (&json!(1), &done["config"]["pools"][0]["name"]),
        "{old}"
    );
    for none in ["7", "x", "-1"] {
        let none = f.get(&format!("{versions}/{none}")).await;
        assert_eq!(none.code(), "LS-NOT-FOUND");
    }
    let load = format!("{draft}/load");
    assert_eq!(f.post(&load, &json!({})).await.code(), "LS-INVALID");
    let none = f.post(&load, &json!({ "version": 7 })).await;
    assert_eq!(none.code(), "LS-NOT-FOUND");
    let loaded = f.post(&load, &json!({ "version": 1 })).await.into_json();
    assert_eq!(
        (&loaded["base"], &loaded["profiles"]),
        (&json!(2), &old["profiles"])
    );
    let done = f.post(provision, &json!({ "expected_version": 2 })).await;
    let done = done.into_json();
    assert_eq!(done["config"]["version"], 3, "{done}");
    // Dev's jobs come first, then Research's; the rest finds every pool full.
    let queue = |name: &str| json!({ "command": ["x"], "queue": name, "slots": { "cpu": "1", "mem": "1g" } });
    for name in [
        "Dev/4x",
        "Dev/4x",
        "Research/4x",
        "Research/4x",
        "Dev/4x",
        "Research/4x",
    ] {
        let made = f.submit(queue(name)).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    for (id, pool) in [
        ("s-1", "Bare Metal"),
        ("s-2", "Bare Metal"),
        ("s-3", "H100"),
        ("s-4", "H100"),
    ] {
        let session = f.get(&format!("/api/v1/sessions/{id}")).await.json();
        assert_eq!(
            (&session["state"], &session["pool"]),
            (&json!("SCHEDULED"), &json!(pool)),
            "{id}"
        );
    }
    for id in ["s-5", "s-6"] {
        let session = f.get(&format!("/api/v1/sessions/{id}")).await.json();
        assert_eq!(session["state"], "PENDING");
        let rules: BTreeSet<&str> = session["blocked_by"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["rule"].as_str().unwrap())
            .collect();
        assert!(rules.contains("pool-full"), "{id}: {rules:?}");
    }
    let queues = f.get("/api/v1/queues").await.json();
    assert_eq!(
        (
            &queues["items"][0]["name"],
            &queues["items"][0]["in_use"],
            &queues["items"][0]["pending"]
        ),
        (&json!("Dev/4x"), &json!("8"), &json!(1))
    );
    let waiting = f.get("/api/v1/queues/Research%2F4x/pending").await.json();
    assert_eq!(
        (&waiting["items"][0]["id"], &waiting["items"][0]["position"]),
        (&json!("s-6"), &json!(1))
    );
    the_open_part_is_shown(&f).await;
    // Who may not use a queue does not see it.
    let bob = f.person("bob", json!({ "projects": ["default"] })).await;
    let seen = f.get_as(&bob, "/api/v1/queues").await.json();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        f.get_as(&bob, "/api/v1/queues/Research%2F4x/pending")
            .await
            .code(),
        "LS-NOT-FOUND"
    );
    let other = f
        .get_as(&bob, "/api/v1/queues/Dev%2F4x/pending")
        .await
        .json();
    assert_eq!(
        (
            &other["items"][0]["owner_name"],
            &other["items"][0]["command"]
        ),
        (&json!("dana"), &json!([]))
    );
    // A group behind a pool stays.
    let used = f.delete("/api/v1/resource-groups/h100", "*").await;
    assert_eq!(used.code(), "LS-IN-USE");
    assert!(
        used.json()["blockers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|b| b["kind"] == "pool")
    );
    // The switch: work stays at its place.
    let off = f
        .put(
            "/api/v1/resource-config/enabled",
            "",
            &json!({ "enabled": false }),
        )
        .await
        .into_json();
    assert_eq!(off["enabled"], false);
    let rule = f.get("/api/v1/sessions/s-5").await.json()["blocked_by"][0]["rule"].clone();
    assert_eq!(rule, "pools-disabled");
    let renamed = f
        .patch("/api/v1/queues/Dev%2F4x", "", &json!({ "name": "fast" }))
        .await
        .into_json();
    assert_eq!(renamed["name"], "fast");
    assert_eq!(
        f.get("/api/v1/queues?name=fast").await.json()["items"][0]["policy"],
        "Dev"
    );
    let reset = f
        .post("/api/v1/resource-config/draft/reset", &json!({}))
        .await
        .into_json();
    assert_eq!(
        reset["allocation_policies"][0]["profiles"][0]["queue"],
        "fast"
    );
}

#[tokio::test]
async fn presets_are_offered_while_they_fit() {
    let f = ready().await;
    for (name, slots) in [
        (
            "one",
            json!({ "cuda.device": "1", "cpu": "1", "mem": "1g" }),
        ),
        (
            "two",
            json!({ "cuda.device": "2", "cpu": "1", "mem": "1g" }),
        ),
        (
            "nine",
            json!({ "cuda.device": "9", "cpu": "1", "mem": "1g" }),
        ),
    ] {
        let made = f
            .post("/api/v1/presets", &json!({ "name": name, "slots": slots }))
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let bad = f
        .post(
            "/api/v1/presets",
            &json!({ "name": "bad", "slots": { "cpux": "1" } }),
        )
        .await;
    assert_eq!(bad.code(), "LS-SLOT-UNKNOWN");
    let offered = async || -> Vec<(String, bool, bool)> {
        let page = f
            .get("/api/v1/presets/offered?group=default")
            .await
            .into_json();
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|i| {
                (
                    i["name"].as_str().unwrap().to_owned(),
                    i["offered"] == true,
                    i["never"] == true,
                )
            })
            .collect()
    };
    let line = |name: &str, offered, never| (name.to_owned(), offered, never);
    assert_eq!(
        offered().await,
        [
            line("nine", false, true),
            line("one", true, false),
            line("two", true, false)
        ]
    );
    let mut body = batch();
    body["preset"] = json!("one");
    body.as_object_mut().unwrap().remove("slots");
    let made = f.submit(body).await;
    assert_eq!(made.json()["slots"]["cuda.device"], "1", "{}", made.text());
    assert_eq!(
        offered().await,
        [
            line("nine", false, true),
            line("one", true, false),
            line("two", false, false)
        ]
    );
    let path = "/api/v1/presets/two";
    let changed = f
        .patch(
            path,
            "\"1\"",
            &json!({ "slots": { "cuda.device": "1" }, "group": "default" }),
        )
        .await;
    assert_eq!(
        changed.json()["slots"]["cuda.device"],
        "1",
        "{}",
        changed.text()
    );
    assert!(offered().await.contains(&line("two", true, false)));
    assert_eq!(f.delete(path, "\"2\"").await.status, 204);
    assert_eq!(
        f.get("/api/v1/presets/offered?group=none").await.code(),
        "LS-NOT-FOUND"
    );
}

#[tokio::test]
async fn exports_hold_what_lists_show() {
    let f = ready().await;
    let bob = f.person("bob", json!({ "projects": ["default"] })).await;
    let all = f.get("/api/v1/exports/users?filename=people.csv").await;
    assert_eq!(all.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(
        all.header("content-disposition"),
        "attachment; filename=\"people.csv\""
    );
    assert!(all.text().starts_with("\"id\",\"email\""), "{}", all.text());
    assert_eq!(all.text().lines().count(), 3);
    let own = f.get_as(&bob, "/api/v1/exports/users").await;
    assert_eq!(own.text().lines().count(), 2);
    for kind in [
        "keypairs",
        "keypair-policies",
        "user-policies",
        "project-policies",
    ] {
        let table = f.get(&format!("/api/v1/exports/{kind}")).await;
        assert_eq!(table.status, 200, "{kind}");
        let own = f.get_as(&bob, &format!("/api/v1/exports/{kind}")).await;
        assert_eq!(own.text().lines().count(), 2, "{kind}: {}", own.text());
    }
    // What was exported can be taken in elsewhere.
    let table = f.get("/api/v1/exports/users?columns=email,projects").await;
    let row = "\"bob@lab.example\",\"[\"\"default\"\"]\"";
    assert!(table.text().contains(row), "{}", table.text());
    let other = format!("email,projects\r\n{}\r\n", row.replace("bob", "rob"));
    let import = ("POST", "/api/v1/users/import");
    let taken = f
        .send(
            import.0,
            import.1,
            &[("content-type", "text/csv")],
            Body::from(other),
        )
        .await;
    assert!(taken.status.is_success(), "{}", taken.text());
    let rob = f.get("/api/v1/users/rob@lab.example").await.json();
    assert_eq!(rob["projects"], json!(["default"]), "{rob}");
    let two = f.get("/api/v1/exports/users?columns=username,email").await;
    assert_eq!(two.text().lines().next(), Some("\"username\",\"email\""));
    for bad in ["columns=nothing", "filename=../x", "filename="] {
        let answer = f.get(&format!("/api/v1/exports/users?{bad}")).await;
        assert_eq!(answer.code(), "LS-PARAMETER", "{bad}");
    }
    assert_eq!(
        f.get("/api/v1/exports/secrets").await.code(),
        "LS-NOT-FOUND"
    );
}

#[tokio::test]
async fn the_audit_compares_books_with_nodes() {
    let f = ready().await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    f.submit(body).await;
    f.runs("s-1").await;
    let path = "/api/v1/usage-audit";
    let audit = f.post(path, &json!({})).await.into_json();
    assert_eq!(audit["not_checked"][0], "gpu01");
    let id = "s-1".parse().unwrap();
    let (agent, key, generation): (AgentId, ContainerKey, Generation) = f
        .app
        .engine
        .read(move |s, _| {
            let container = &s.sessions[&id].containers[0];
            (
                container.agent,
                container.key,
                s.agents[&container.agent].generation,
            )
        })
        .await
        .unwrap();
    let live = &f.app.engine.live;
    live.set_held(agent, Some((generation, BTreeSet::from([key]))));
    let audit = f.post(path, &json!({})).await.into_json();
    assert_eq!(
        (&audit["drifts"], &audit["not_checked"]),
        (&json!([]), &json!([])),
        "{audit}"
    );
    live.note_held(agent, generation, key, false);
    let audit = f.post(path, &json!({ "apply": false })).await.into_json();
    assert_eq!(audit["drifts"][0]["agent"], "gpu01", "{audit}");
    assert_eq!(audit["drifts"][0]["sessions"][0], "s-1");
}

#[tokio::test]
async fn containers_that_no_order_names_are_listed() {
    let f = ready().await;
    let path = "/api/v1/unclaimed";
    assert_eq!(f.get(path).await.json()["items"], json!([]));
    f.submit(batch()).await;
    f.runs("s-1").await;
    let id = "s-1".parse().unwrap();
    let (agent, key): (AgentId, ContainerKey) = f
        .app
        .engine
        .read(move |s, _| {
            let container = &s.sessions[&id].containers[0];
            (container.agent, container.key)
        })
        .await
        .unwrap();
    let stranger = ContainerKey {
        session: "s-900".parse().unwrap(),
        ..key
    };
    let report = |key| ContainerReport {
        key,
        state: ContainerState::Running,
        docker_id: "0123456789ab".to_owned(),
        started_at: None,
        fence: Fence(1),
        idle_deadline: None,
        frozen: false,
        idle: false,
        used_at: None,
        image: None,
    };
    let reports = [report(key), report(stranger)];
    let live = &f.app.engine.live;
    // Nothing was known of either when they were reported; one has an order by now.
    live.note_strangers(agent, &reports, &BTreeSet::new(), true, Timestamp(1000));
    let items = f.get(path).await.json()["items"].take();
    let name = items[0]["container_name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("longshore-") && name.ends_with("-s-900-main1-a1"));
    let wanted = json!([{
        "id": "s-900-main1-a1",
        "agent": agent.to_string(),
        "agent_name": "gpu01",
        "session": "s-900",
        "container_name": name,
        "docker_id": "0123456789ab",
        "state": items[0]["state"],
        "since": "1970-01-01T00:00:01.000Z",
    }]);
    assert_eq!(items, wanted);
    assert_eq!(
        f.get(&format!("{path}?agent=gpu01")).await.json()["items"],
        wanted
    );
    let other = f.get(&format!("{path}?agent=gpu02")).await;
    assert_eq!(other.json()["items"], json!([]));
    // Its node says what it holds; somebody ends it.
    let stop = format!("{path}/s-900-main1-a1/stop");
    let told = UnclaimedItem {
        key: stranger,
        claim: Claim {
            slots: Slots::new().with(SlotName::cpu(), 1000),
            devices: Vec::new(),
        },
        report: report(stranger),
        record: String::new(),
    };
    assert_eq!(f.post(&stop, &json!({})).await.code(), "LS-NOT-FOUND");
    let items = vec![told.into()];
    let event = Event::Unclaimed { agent, items };
    f.app.engine.ask(event).await.unwrap().unwrap();
    let bad = f.post(&stop, &json!({ "grace_s": 601 })).await;
    assert_eq!(bad.code(), "LS-INVALID");
    let rehearsed = f.post(&format!("{stop}?dry_run=true"), &json!({})).await;
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    let shown = f.get(path).await.json()["items"][0].take();
    assert_eq!(
        (&shown["slots"]["cpu"], &shown["stopping"]),
        (&json!("1"), &Value::Null)
    );
    assert_eq!(shown["why"], "it carries no record of this installation");
    assert!(shown["stops_at"].is_string(), "{shown}");
    let adopt = format!("{path}/s-900-main1-a1/adopt");
    let kept = f.post(&adopt, &json!({})).await.into_json();
    assert_eq!(
        (&kept["kept"], &kept["stops_at"]),
        (&json!(true), &Value::Null)
    );
    let shown = f.get(path).await.json()["items"][0].take();
    assert_eq!(
        (&shown["kept"], &shown["stops_at"]),
        (&json!(true), &Value::Null)
    );
    let stopped = f.post(&stop, &json!({ "grace_s": 0 })).await.into_json();
    assert_eq!(stopped["stopping"], true);
    assert_eq!(f.get(path).await.json()["items"][0]["stopping"], true);
    let record = f
        .get("/api/v1/audit?operation=unclaimed.write")
        .await
        .json();
    assert_eq!(
        record["items"][0]["after"],
        json!({ "stopping": true }),
        "{record}"
    );
    assert_eq!(f.post(&adopt, &json!({})).await.code(), "LS-STATE");
    let node = f.get("/api/v1/agents/gpu01").await.json();
    assert_eq!(node["unclaimed"], 1);
    let bob = f.person("bob", json!({})).await;
    assert_eq!(f.get_as(&bob, path).await.code(), "LS-FORBIDDEN");
    assert_eq!(
        f.send_as(&bob, "POST", &stop, &json!({})).await.code(),
        "LS-FORBIDDEN"
    );
    let refused = f.send_as(&bob, "POST", &adopt, &json!({})).await;
    assert_eq!(refused.code(), "LS-FORBIDDEN");
    let node = f.get_as(&bob, "/api/v1/agents/gpu01").await.json();
    assert!(node.get("unclaimed").is_none(), "{node}");
}

#[tokio::test]
async fn who_may_not_use_a_group_does_not_see_it() {
    let f = ready().await;
    let body =
        json!({ "name": "closed", "allowed": { "projects": [], "domains": [], "keypairs": [] } });
    f.post("/api/v1/resource-groups", &body).await.into_json();
    let bob = f.person("bob", json!({ "projects": ["default"] })).await;
    let groups = f.get_as(&bob, "/api/v1/resource-groups").await.json();
    assert_eq!(groups["items"].as_array().unwrap().len(), 1);
    for path in [
        "/api/v1/resource-groups/closed",
        "/api/v1/resource-groups/closed/pending",
    ] {
        assert_eq!(f.get_as(&bob, path).await.code(), "LS-NOT-FOUND", "{path}");
    }
    let pair = bob
        .strip_prefix("Bearer ")
        .unwrap()
        .split('.')
        .next()
        .unwrap();
    let path = format!("/api/v1/resource-groups/closed/allowed/keypairs/{pair}");
    assert_eq!(f.send("PUT", &path, &[], Body::empty()).await.status, 200);
    let seen = f.get_as(&bob, "/api/v1/resource-groups/closed").await;
    assert_eq!(seen.status, 200);
    assert!(
        seen.json().get("allowed").is_none(),
        "that is for administrators"
    );
}

/// The cap of a priority is that of whose session it is, whoever asks.
#[tokio::test]
async fn a_colleague_raises_no_priority_above_the_cap_of_its_owner() {
    let f = ready().await;
    f.start(None).await;
    let policy = "/api/v1/keypair-policies/default";
    let capped = f.patch(policy, "*", &json!({ "max_priority": 20 })).await;
    assert_eq!(capped.status, 200, "{}", capped.text());
    let more = json!({ "projects": ["default"] });
    let (ann, bob) = (
        f.person("ann", more.clone()).await,
        f.person("bob", more).await,
    );
    let mut body = batch();
    body["hold"] = json!(true);
    let made = f.send_as(&ann, "POST", "/api/v1/sessions", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/sessions/{id}");
    for who in [&ann, &bob] {
        let ask = async |priority: i64| {
            let headers = [("authorization", who.as_str()), MERGE, ("if-match", "*")];
            let body = json!({ "priority": priority }).to_string();
            f.send("PATCH", &path, &headers, Body::from(body)).await
        };
        let problem = ask(50).await.json();
        assert_eq!(problem["limit"]["rule"], "priority", "{problem}");
        let answer = ask(20).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let raised = f.patch(&path, "*", &json!({ "priority": 50 })).await;
    assert_eq!(raised.status, 200, "{}", raised.text());
}
