//! Answers that are held open, by what they rest on; and who reached into a session.

use super::{Answer, Lab, bearer};
use crate::api::held::LOOKS;
use longshore_common::time::Timestamp;
use longshore_core::model::Event;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

const NONE: Value = Value::Null;
/// Far longer than it takes to notice, far less than answers are held for.
const SOON: Duration = Duration::from_secs(20);

/// A session that waits for ever.
fn work() -> Value {
    json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" },
        "start_at": "2100-01-01T00:00:00.000Z" })
}

/// Waits until answers that are held open were looked at so often.
async fn looks(count: usize) {
    let until = LOOKS.load(Ordering::Relaxed) + count;
    while LOOKS.load(Ordering::Relaxed) < until {
        tokio::task::yield_now().await;
    }
}

impl Lab {
    async fn session(&self, who: &str) -> String {
        let made = self.good(who, "POST", "/sessions", work()).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Looks at a session until it changes; in the middle of it something else happens.
    async fn held(&self, who: &str, id: &str, meanwhile: impl Future<Output = ()>) -> Answer {
        let path = format!("/sessions/{id}");
        let tag = self.get(who, &path).await.header("etag").to_owned();
        assert!(!tag.is_empty(), "it is seen at first");
        let path = format!("{path}?wait_s=60");
        let headers = [("if-none-match", tag.as_str())];
        let look = self.with(who, "GET", &path, &NONE, &headers);
        let waits = self.0.app.engine.waits();
        let both = async {
            let (answer, ()) = tokio::join!(look, async {
                self.0.somebody_waits(waits).await;
                meanwhile.await;
            });
            answer
        };
        tokio::time::timeout(SOON, both).await.expect("it is held")
    }

    /// Follows the output of a session to the end of the answer.
    async fn follows(&self, who: &str, id: &str, meanwhile: impl Future<Output = ()>) -> Answer {
        let path = format!("/sessions/{id}/logs/stream?follow=true");
        let waits = self.0.app.engine.waits();
        let both = async {
            let (answer, ()) = tokio::join!(self.get(who, &path), async {
                self.0.somebody_waits(waits).await;
                meanwhile.await;
            });
            answer
        };
        let answer = tokio::time::timeout(SOON, both).await.expect("it is open");
        assert!(answer.broke, "what is cut does not look whole");
        answer
    }
}

#[tokio::test]
async fn a_held_answer_ends_with_the_rule_or_group_it_rests_on() {
    let lab = Lab::new().await;
    let (alice, bob) = (
        lab.person("alice", json!({})).await,
        lab.person("bob", json!({})).await,
    );
    let id = lab.session(&alice).await;
    lab.without_factory_rule().await;
    let rule = lab.rule("ro", "project", "default", "bob").await;
    let path = format!("/access-rules/{rule}");
    let lost = lab
        .held(&bob, &id, async {
            lab.good("", "DELETE", &path, NONE).await;
        })
        .await;
    let never = lab.get(&bob, "/sessions/s-999").await;
    assert_eq!((lost.status.as_u16(), lost.code()), (404, never.code()));

    let team = json!({ "name": "team", "members": ["bob"] });
    lab.good("", "POST", "/groups", team).await;
    lab.rule("ro", "project", "default", "team").await;
    let lost = lab
        .held(&bob, &id, async {
            lab.good("", "DELETE", "/groups/team/members/bob", NONE)
                .await;
        })
        .await;
    assert_eq!(lost.status, 404);
    // What was not lost is held on.
    let kept = lab
        .held(&alice, &id, async {
            lab.rule("ro", "project", "default", "bob").await;
            looks(3).await;
            let end = format!("/sessions/{id}/terminate");
            lab.good(&alice, "POST", &end, json!({})).await;
        })
        .await;
    assert_eq!(kept.status, 200, "{}", kept.text());
}

#[tokio::test]
async fn a_held_answer_ends_with_the_role_or_membership_it_rests_on() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let dan = lab.person("dan", json!({ "role": "domain-admin" })).await;
    let bob = lab.person("bob", json!({})).await;
    let id = lab.session(&alice).await;
    lab.rule("ro", "project", "default", "bob").await;
    lab.without_factory_rule().await;
    let lost = lab
        .held(&dan, &id, async {
            let role = json!({ "role": "user" });
            lab.good("", "PUT", "/users/dan/role", role).await;
        })
        .await;
    assert_eq!(lost.status, 404, "{}", lost.text());
    let lost = lab
        .held(&bob, &id, async {
            let path = "/projects/default/members/bob";
            lab.good("", "DELETE", path, NONE).await;
        })
        .await;
    assert_eq!(lost.status, 404, "{}", lost.text());
}

#[tokio::test]
async fn a_stream_of_an_administrator_ends_with_the_setting_it_rests_on() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let id = lab.session(&alice).await;
    let set = async |value: Value| {
        let values = json!({ "values": { "services.sessions.admin_exec": value } });
        let headers = [("if-match", "*")];
        let told = lab.with("", "PATCH", "/settings", &values, &headers).await;
        assert_eq!(told.status, 200, "{}", told.text());
    };
    let path = format!("/sessions/{id}/logs/stream?follow=true");
    let before = lab.get("", &path).await;
    assert_eq!(before.status, 403, "{}", before.text());
    set(json!(true)).await;
    let open = lab
        .follows("", &id, async { set(json!(false)).await })
        .await;
    assert_eq!(open.status, 200);
}

#[tokio::test]
async fn a_stream_ends_with_the_secret_it_was_opened_with() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let id = lab.session(&alice).await;
    let key = alice
        .trim_start_matches("Bearer ")
        .split('.')
        .next()
        .unwrap();
    let path = format!("/keypairs/{key}/rotate");
    // The old one stays good for a second, and so does what it opened.
    let new = std::cell::Cell::new(String::new());
    lab.follows(&alice, &id, async {
        let made = lab.good("", "POST", &path, json!({ "overlap_s": 1 })).await;
        new.set(bearer(&made));
        let now = lab.get(&alice, "/me").await;
        assert_eq!(now.status, 200, "the overlap has begun");
    })
    .await;
    assert_eq!(lab.get(&alice, "/me").await.code(), "LS-AUTH-FAILED");
    let alice = new.take();
    lab.follows(&alice, &id, async {
        lab.good("", "POST", &path, json!({})).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_for_an_account_that_may_act_for_others_no_longer() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let id = lab.session(&alice).await;
    let account = json!({ "name": "ci", "projects": ["default"], "allow_impersonation": true });
    let ci = bearer(&lab.good("", "POST", "/service-accounts", account).await);
    let path = format!("/sessions/{id}/logs/stream?follow=true");
    let headers = [("longshore-on-behalf-of", "alice")];
    let waits = lab.0.app.engine.waits();
    let both = async {
        tokio::join!(lab.with(&ci, "GET", &path, &NONE, &headers), async {
            lab.0.somebody_waits(waits).await;
            let no = json!({ "allow_impersonation": false });
            lab.good("", "PATCH", "/service-accounts/ci", no).await;
        })
    };
    let (answer, _) = tokio::time::timeout(SOON, both).await.expect("it is open");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn the_owner_sees_who_reached_in() {
    let lab = Lab::with_admin_exec().await;
    let alice = lab.person("alice", json!({})).await;
    let id = lab.session(&alice).await;
    let logs = format!("/sessions/{id}/logs");
    assert_eq!(lab.get(&alice, &logs).await.status, 200);
    assert_eq!(lab.get("", &logs).await.status, 200);
    let history = format!("/sessions/{id}/history");
    let lines = async || -> Vec<Value> {
        let page = lab.good(&alice, "GET", &history, NONE).await;
        page["items"].as_array().unwrap().clone()
    };
    let seen = lines().await;
    assert_eq!(seen.len(), 2, "once, and not the owner: {seen:?}");
    assert_eq!(
        (
            &seen[1]["reached"],
            &seen[1]["by"],
            &seen[1]["to"],
            &seen[1]["seq"]
        ),
        (
            &json!("logs"),
            &json!("user dana"),
            &json!("PENDING"),
            &json!(1)
        )
    );
    assert!(seen[0].get("reached").is_none());
    // What comes later stands behind it, also of a session that is over.
    let end = format!("/sessions/{id}/terminate");
    lab.good(&alice, "POST", &end, json!({})).await;
    assert_eq!(lab.get("", &logs).await.status, 200);
    let seen: Vec<Value> = lines().await;
    let what: Vec<&str> = seen.iter().map(|l| l["to"].as_str().unwrap()).collect();
    assert_eq!(what, ["PENDING", "PENDING", "CANCELLED", "CANCELLED"]);
    let numbers: Vec<&Value> = seen.iter().map(|l| &l["seq"]).collect();
    assert_eq!(numbers, [1, 1, 2, 2], "those of what is stored");
    // Page by page nothing is left out or told twice.
    let mut paged: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = lab
            .good(&alice, "GET", &format!("{history}?limit=1{cursor}"), NONE)
            .await;
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, seen);
    // Colleagues see what became of it, and not who looked into it.
    let bob = lab.person("bob", json!({})).await;
    let page = lab.good(&bob, "GET", &history, NONE).await;
    let colleague = page["items"].as_array().unwrap();
    assert_eq!(colleague.len(), 2, "{colleague:?}");
    assert!(colleague.iter().all(|line| line.get("reached").is_none()));
    let page = lab.good("", "GET", &history, NONE).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 4);
    let log = "/audit?operation=session.reach&outcome=ok";
    let log = lab.good("", "GET", log, NONE).await;
    let records = log["items"].as_array().unwrap();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(records[0]["detail"], "logs");
}

#[tokio::test]
async fn a_reach_into_what_is_over_is_of_the_domain_of_the_session() {
    let lab = Lab::with_admin_exec().await;
    lab.good("", "POST", "/domains", json!({ "name": "lab" }))
        .await;
    let project = json!({ "name": "p", "domain": "lab" });
    lab.good("", "POST", "/projects", project).await;
    let of_lab =
        |role: &str| json!({ "domain": "lab", "projects": ["p"], "role": role.to_owned() });
    let eve = lab.person("eve", of_lab("user")).await;
    let admin = lab.person("ada", of_lab("domain-admin")).await;
    let mut body = work();
    body["project"] = json!("p");
    let made = lab.good(&eve, "POST", "/sessions", body).await;
    let path = format!("/sessions/{}", made["id"].as_str().unwrap());
    lab.good(&eve, "POST", &format!("{path}/terminate"), json!({}))
        .await;
    // It is over and holds nothing: only the store remembers it.
    assert_eq!(lab.get("", &format!("{path}/logs")).await.status, 200);
    let log = "/audit?operation=session.reach";
    let log = lab.good(&admin, "GET", log, NONE).await;
    assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");
}

#[tokio::test]
async fn streams_are_judged_anew_only_when_rights_are_others() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let made = lab.good(&alice, "POST", "/keypairs", json!({})).await;
    let key = made["access_key"].as_str().unwrap().to_owned();
    let at = || {
        let identity = &lab.0.app.identity;
        (identity.generation(), identity.edition())
    };
    let before = at();
    let used = vec![(key.clone(), Timestamp(5_000), "10.0.0.1".to_owned())];
    let used = Event::KeypairsUsed(used);
    let stored = lab.0.app.engine.ask(used).await.expect("it answers");
    assert!(stored.is_ok(), "{stored:?}");
    let after = at();
    assert_eq!(after.0, before.0, "a use takes nothing from anybody");
    assert!(after.1 > before.1, "and is shown");
    let path = format!("/keypairs/{key}/deactivate");
    lab.good(&alice, "POST", &path, json!({})).await;
    assert!(at().0 > after.0);
    let after = at();
    let member = json!({ "full_name": "Alice A" });
    lab.good("", "PATCH", "/users/alice", member).await;
    assert_eq!(at().0, after.0, "a name is no right");
    let role = json!({ "role": "monitor" });
    lab.good("", "PUT", "/users/alice/role", role).await;
    assert!(at().0 > after.0);
}

/// A keypair that is good for one project opens nothing of another one.
#[tokio::test]
async fn a_bound_keypair_sees_and_ends_sessions_of_its_project_only() {
    let lab = Lab::new().await;
    lab.good("", "POST", "/projects", json!({ "name": "other" }))
        .await;
    let projects = json!({ "projects": ["default", "other"] });
    let alice = lab.person("alice", projects).await;
    let id = lab.session(&alice).await;
    let order = json!({ "project": "other" });
    let bound = bearer(&lab.good(&alice, "POST", "/keypairs", order).await);
    let path = format!("/sessions/{id}");
    assert_eq!(lab.get(&alice, &path).await.status, 200);
    assert_eq!(lab.get(&bound, &path).await.status, 404);
    let end = format!("{path}/terminate");
    let refused = lab.refused(&bound, "POST", &end, json!({})).await;
    assert_eq!(refused, (404, "LS-NOT-FOUND".to_owned()));
}

/// A session is made once by a key; who asks again and may not see it is not told of it.
#[tokio::test]
async fn a_replay_of_what_may_not_be_seen_is_not_found() {
    let lab = Lab::new().await;
    lab.good("", "POST", "/projects", json!({ "name": "other" }))
        .await;
    let projects = json!({ "projects": ["default", "other"] });
    let alice = lab.person("alice", projects).await;
    let order = json!({ "project": "other" });
    let bound = bearer(&lab.good(&alice, "POST", "/keypairs", order).await);
    let mut body = work();
    body["project"] = json!("default");
    let key = [("idempotency-key", "k-1")];
    let made = lab.with(&alice, "POST", "/sessions", &body, &key).await;
    let end = format!(
        "/sessions/{}/terminate",
        made.json()["id"].as_str().unwrap()
    );
    lab.good(&alice, "POST", &end, json!({})).await;
    let again = lab.with(&alice, "POST", "/sessions", &body, &key).await;
    assert_eq!(again.status, 201, "{}", again.text());
    let again = lab.with(&bound, "POST", "/sessions", &body, &key).await;
    assert_eq!(
        (again.status.as_u16(), again.code().as_str()),
        (404, "LS-NOT-FOUND")
    );
}

/// Nor is it told of what only the other one lets in, or only an administrator sees.
#[tokio::test]
async fn a_bound_keypair_reads_what_its_project_may_see_only() {
    let lab = Lab::new().await;
    for name in ["other", "third"] {
        lab.good("", "POST", "/projects", json!({ "name": name }))
            .await;
    }
    for (name, project) in [("theirs", "third"), ("ours", "other")] {
        let allowed = json!({ "projects": [project], "domains": [], "keypairs": [] });
        let group = json!({ "name": name, "allowed": allowed });
        lab.good("", "POST", "/resource-groups", group).await;
    }
    let both = json!({ "projects": ["other", "third"] });
    let alice = lab.person("alice", both).await;
    let order = json!({ "project": "other" });
    let bound = bearer(&lab.good(&alice, "POST", "/keypairs", order.clone()).await);
    assert_eq!(lab.get(&alice, "/resource-groups/theirs").await.status, 200);
    assert_eq!(lab.get(&bound, "/resource-groups/ours").await.status, 200);
    assert_eq!(lab.get(&bound, "/resource-groups/theirs").await.status, 404);
    // The keypair of an administrator is one of an ordinary member.
    let ada = json!({ "projects": ["other"], "role": "domain-admin" });
    let ada = lab.person("ada", ada).await;
    lab.good(&ada, "POST", "/groups", json!({ "name": "team" }))
        .await;
    let path = "/groups/team";
    let bound = bearer(&lab.good(&ada, "POST", "/keypairs", order).await);
    assert_eq!(lab.get(&ada, path).await.status, 200);
    assert_eq!(lab.get(&bound, path).await.status, 404);
}

#[tokio::test]
async fn a_bound_keypair_of_an_account_acts_for_others_in_its_project_only() {
    let lab = Lab::new().await;
    lab.good("", "POST", "/projects", json!({ "name": "other" }))
        .await;
    let both = json!(["default", "other"]);
    let alice = lab.person("alice", json!({ "projects": both })).await;
    let id = lab.session(&alice).await;
    let account = json!({ "name": "ci", "projects": both, "allow_impersonation": true });
    lab.good("", "POST", "/service-accounts", account).await;
    let order = json!({ "user": "ci", "project": "other" });
    let bound = bearer(&lab.good("", "POST", "/keypairs", order).await);
    let headers = [("longshore-on-behalf-of", "alice")];
    let path = format!("/sessions/{id}");
    let seen = lab.with(&bound, "GET", &path, &NONE, &headers).await;
    assert_eq!(seen.status, 404, "{}", seen.text());
    let submit = async |project: &str| {
        let mut body = work();
        body["project"] = json!(project);
        lab.with(&bound, "POST", "/sessions", &body, &headers).await
    };
    assert_eq!(submit("default").await.status, 422);
    let made = submit("other").await;
    assert_eq!(made.status, 201, "{}", made.text());
}
