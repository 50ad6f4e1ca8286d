//! The truth table of access rules through the router, sessions by level, and service
//! accounts that act for users.

use super::{Lab, bearer};
use serde_json::{Value, json};

const NONE: Value = Value::Null;

/// A session that waits: no machine has so many GPUs free for long.
fn work() -> Value {
    json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" },
        "start_at": "2100-01-01T00:00:00.000Z" })
}

/// Alice and Bob in project default, with a session each; the factory rule is gone unless
/// it is to stay.
struct Two {
    lab: Lab,
    alice: String,
    bob: String,
    /// Alice's.
    t1: String,
    /// Bob's.
    t2: String,
}

impl Two {
    async fn new(factory: bool) -> Self {
        let lab = Lab::new().await;
        let alice = lab.person("alice", json!({})).await;
        let bob = lab.person("bob", json!({})).await;
        let carol = lab.person("carol", json!({})).await;
        let mut ids = Vec::new();
        for who in [&carol, &bob] {
            let made = lab.good(who, "POST", "/sessions", work()).await;
            ids.push(made["id"].as_str().unwrap().to_owned());
        }
        if !factory {
            lab.without_factory_rule().await;
        }
        let (t2, t1) = (ids.pop().unwrap(), ids.pop().unwrap());
        Self {
            lab,
            alice,
            bob,
            t1,
            t2,
        }
    }

    /// Which level shows in what the router lets somebody do with a session.
    async fn level(&self, who: &str, id: &str) -> &'static str {
        let path = format!("/sessions/{id}");
        if self.lab.get(who, &path).await.status == 404 {
            assert_eq!(
                self.lab.get(who, &format!("{path}/history")).await.status,
                404
            );
            assert_eq!(
                self.lab.get(who, &format!("{path}/explain")).await.status,
                404
            );
            return "none";
        }
        // A signal to what does not run is refused for that only where it may be sent.
        let signal = json!({ "signal": "INT" });
        let answer = self
            .lab
            .ask(who, "POST", &format!("{path}/signal"), &signal)
            .await;
        match answer.code().as_str() {
            "LS-READ-ONLY" => "ro",
            "LS-STATE" => "rw",
            other => panic!("{other}"),
        }
    }

    async fn project(&self) -> &'static str {
        let asked = "/access/effective?subject=alice&type=project&id=default";
        match self.lab.good("", "GET", asked, NONE).await["level"]
            .as_str()
            .unwrap()
        {
            "none" => "none",
            "ro" => "ro",
            _ => "rw",
        }
    }
}

#[tokio::test]
async fn row_1_colleagues_see_and_stop_each_others_sessions() {
    let two = Two::new(true).await;
    assert_eq!(two.level(&two.alice, &two.t1).await, "rw");
    let end = format!("/sessions/{}/terminate", two.t2);
    let ended = two.lab.good(&two.alice, "POST", &end, json!({})).await;
    assert_eq!(ended["cancelled"], json!([two.t2]));
    // A list is of one's own unless more is asked for.
    let list = |query: &'static str| two.lab.good(&two.bob, "GET", query, NONE);
    let many = |page: Value| page["items"].as_array().unwrap().len();
    assert_eq!(many(list("/sessions").await), 0);
    assert_eq!(many(list("/sessions?ended=true").await), 1);
    assert_eq!(many(list("/sessions?scope=all").await), 2);
    assert_eq!(many(list("/sessions?scope=all&ended=false").await), 1);
    assert_eq!(many(list("/sessions?scope=project").await), 1);
    assert_eq!(many(list("/sessions?scope=mine&ended=true").await), 1);
    assert_eq!(many(list("/sessions?owner=carol").await), 1);
    // Nobody reaches into somebody else's, not even a superadmin.
    for who in [&two.alice, &String::new()] {
        let logs = two
            .lab
            .refused(who, "GET", &format!("/sessions/{}/logs", two.t1), NONE)
            .await;
        assert_eq!(logs, (403, "LS-FORBIDDEN".to_owned()));
    }
}

#[tokio::test]
async fn rows_2_to_4_and_7_a_rule_on_the_project() {
    let two = Two::new(false).await;
    let alice = &two.alice;
    assert_eq!(
        (two.project().await, two.level(alice, &two.t1).await),
        ("none", "none")
    );
    // One's own stays one's own.
    assert_eq!(two.level(&two.bob, &two.t2).await, "rw");
    let rule = two.lab.rule("ro", "project", "default", "alice").await;
    assert_eq!(
        (two.project().await, two.level(alice, &two.t1).await),
        ("ro", "ro")
    );
    assert_eq!(two.level(&two.bob, &two.t1).await, "none");
    let seen = two
        .lab
        .good(alice, "GET", "/sessions?scope=all", NONE)
        .await;
    assert_eq!(seen["items"].as_array().unwrap().len(), 2);
    let end = json!({ "ids": [two.t1, "s-99"] });
    let answer = two
        .lab
        .good(alice, "POST", "/sessions/terminate", end)
        .await;
    assert_eq!(answer["skipped"][0]["why"], "read-only");
    two.lab
        .good(
            "",
            "PATCH",
            &format!("/access-rules/{rule}"),
            json!({ "level": "rw" }),
        )
        .await;
    two.lab.rule("ro", "session", &two.t1, "alice").await;
    assert_eq!(two.level(alice, &two.t1).await, "rw");
}

#[tokio::test]
async fn rows_5_and_6_a_rule_on_a_session() {
    let two = Two::new(false).await;
    let alice = &two.alice;
    two.lab.rule("rw", "session", &two.t1, "alice").await;
    assert_eq!(two.level(alice, &two.t1).await, "rw");
    assert_eq!(
        (two.level(alice, &two.t2).await, two.project().await),
        ("none", "none")
    );
    two.lab.rule("ro", "project", "default", "alice").await;
    assert_eq!(
        (
            two.level(alice, &two.t1).await,
            two.level(alice, &two.t2).await
        ),
        ("rw", "ro")
    );
}

#[tokio::test]
async fn rows_8_and_9_a_group_and_a_person() {
    let two = Two::new(false).await;
    two.lab
        .good(
            "",
            "POST",
            "/groups",
            json!({ "name": "team", "members": ["alice"] }),
        )
        .await;
    two.lab.rule("ro", "project", "default", "team").await;
    let own = two.lab.rule("rw", "project", "default", "alice").await;
    assert_eq!(two.level(&two.alice, &two.t1).await, "rw");
    two.lab
        .good("", "DELETE", &format!("/access-rules/{own}"), NONE)
        .await;
    assert_eq!(two.level(&two.alice, &two.t1).await, "ro");
    two.lab
        .good("", "DELETE", "/groups/team/members/alice", NONE)
        .await;
    assert_eq!(two.level(&two.alice, &two.t1).await, "none");
}

#[tokio::test]
async fn rows_13_to_15_the_built_in_groups() {
    let two = Two::new(false).await;
    let (lab, alice) = (&two.lab, &two.alice);
    let group = json!({ "name": "gpu" });
    lab.good("", "PUT", "/groups/admins/members/alice", NONE)
        .await;
    assert_eq!(
        (two.project().await, two.level(alice, &two.t1).await),
        ("rw", "rw")
    );
    let made = lab
        .refused(alice, "POST", "/resource-groups", group.clone())
        .await;
    assert_eq!(made, (403, "LS-FORBIDDEN".to_owned()));
    lab.good("", "DELETE", "/groups/admins/members/alice", NONE)
        .await;
    lab.good("", "PUT", "/groups/queue-admins/members/alice", NONE)
        .await;
    lab.good(alice, "POST", "/resource-groups", group).await;
    lab.good(alice, "DELETE", "/resource-groups/gpu", NONE)
        .await;
    assert_eq!(two.level(alice, &two.t1).await, "none");
}

#[tokio::test]
async fn roles_see_their_domain() {
    let two = Two::new(false).await;
    let boss = two
        .lab
        .person("boss", json!({ "role": "domain-admin", "projects": [] }))
        .await;
    let watch = two
        .lab
        .person("watch", json!({ "role": "monitor", "projects": [] }))
        .await;
    assert_eq!(two.level(&boss, &two.t1).await, "rw");
    assert_eq!(
        two.lab
            .get(&watch, &format!("/sessions/{}", two.t1))
            .await
            .status,
        200
    );
    let end = format!("/sessions/{}/terminate", two.t1);
    assert_eq!(
        two.lab.refused(&watch, "POST", &end, json!({})).await.0,
        403
    );
    for who in [&boss, &watch] {
        let seen = two.lab.good(who, "GET", "/sessions", NONE).await;
        assert_eq!(seen["items"].as_array().unwrap().len(), 2);
    }
    two.lab
        .good("", "POST", "/domains", json!({ "name": "away" }))
        .await;
    let away = json!({ "role": "domain-admin", "domain": "away", "projects": [] });
    let other = two.lab.person("other", away).await;
    assert_eq!(two.level(&other, &two.t1).await, "none");
}

#[tokio::test]
async fn row_19_submitting_needs_rw_on_project_and_queue() {
    let two = Two::new(false).await;
    let (lab, alice) = (&two.lab, &two.alice);
    let submit = |more: Value| {
        let mut body = work();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        lab.ask(alice, "POST", "/sessions", Box::leak(Box::new(body)))
    };
    let named = json!({ "project": "default", "group": "default" });
    // What is not seen does not exist.
    assert_eq!(submit(named.clone()).await.code(), "LS-INVALID");
    let project = lab.rule("ro", "project", "default", "alice").await;
    assert_eq!(submit(named.clone()).await.code(), "LS-READ-ONLY");
    lab.good(
        "",
        "PATCH",
        &format!("/access-rules/{project}"),
        json!({ "level": "rw" }),
    )
    .await;
    let hidden = submit(named.clone()).await;
    assert_eq!(
        (hidden.status.as_u16(), hidden.code()),
        (422, "LS-GROUP-UNKNOWN".to_owned())
    );
    let nobody = submit(json!({ "project": "default", "group": "nothing" })).await;
    let words = |answer: &super::Answer| answer.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(words(&hidden).replace("default", "nothing"), words(&nobody));
    assert_eq!(submit(json!({})).await.code(), "LS-GROUP-DENIED");
    let listed = lab.good(alice, "GET", "/resource-groups", NONE).await;
    assert_eq!(listed["items"], json!([]));
    let queue = lab.rule("ro", "queue", "default", "alice").await;
    let listed = lab.good(alice, "GET", "/resource-groups", NONE).await;
    assert_eq!(listed["items"][0]["name"], "default");
    let refused = submit(named.clone()).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (403, "LS-READ-ONLY".to_owned())
    );
    lab.good(
        "",
        "PATCH",
        &format!("/access-rules/{queue}"),
        json!({ "level": "rw" }),
    )
    .await;
    let made = submit(json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    // A right that is lost keeps what waits from starting, and comes back.
    let path = format!("/sessions/{}", made.json()["id"].as_str().unwrap());
    lab.good(
        "",
        "PATCH",
        &format!("/access-rules/{queue}"),
        json!({ "level": "ro" }),
    )
    .await;
    let blocked = lab.good(alice, "GET", &path, NONE).await["blocked_by"].clone();
    let rules: Vec<_> = blocked
        .as_array()
        .unwrap()
        .iter()
        .map(|b| (&b["stage"], &b["rule"]))
        .collect();
    assert!(
        rules.contains(&(&json!("identity"), &json!("access"))),
        "{blocked}"
    );
    lab.good(
        "",
        "PATCH",
        &format!("/access-rules/{queue}"),
        json!({ "level": "rw" }),
    )
    .await;
    let blocked = lab.good(alice, "GET", &path, NONE).await["blocked_by"].clone();
    assert!(
        blocked
            .as_array()
            .unwrap()
            .iter()
            .all(|b| b["stage"] != "identity"),
        "{blocked}"
    );
}

#[tokio::test]
async fn a_closed_group_names_only_queues_that_may_be_used() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let draft = json!({
        "pools": [{ "name": "P", "group": "default", "counts": "cpu", "count": "4" }],
        "profiles": [{ "name": "4x", "slots": { "cpu": "1" }, "allotment": "1",
            "pools": ["P"], "policies": ["Own", "Secret"] }],
        "allocation_policies": [
            { "name": "Own", "profiles": [{ "profile": "4x" }] },
            { "name": "Secret", "profiles": [{ "profile": "4x" }] },
        ],
    });
    lab.good("", "PUT", "/resource-config/draft", draft).await;
    let go = json!({ "expected_version": 0 });
    lab.good("", "POST", "/resource-config/provision", go).await;
    let closed = json!({ "direct_submits": "closed" });
    lab.good("", "PATCH", "/resource-groups/default", closed)
        .await;
    lab.without_factory_rule().await;
    lab.rule("rw", "project", "default", "alice").await;
    for queue in ["default", "Own/4x"] {
        lab.rule("rw", "queue", queue, "alice").await;
    }
    let mut body = work();
    body["group"] = json!("default");
    let refused = lab.ask(&alice, "POST", "/sessions", &body).await;
    assert_eq!(refused.code(), "LS-GROUP-CLOSED");
    assert_eq!(refused.json()["hint"], "Your queues: Own/4x.");
}

#[tokio::test]
async fn what_lost_its_right_starts_when_it_is_back() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    // The whole machine is taken, so that what follows waits.
    let all = json!({ "command": ["true"], "slots": { "cpu": "8", "mem": "64m" } });
    let holds = lab.good("", "POST", "/sessions", all).await;
    assert_eq!(holds["state"], "SCHEDULED", "{holds}");
    let small = json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" } });
    let waits = lab.good(&alice, "POST", "/sessions", small).await;
    assert_eq!(waits["state"], "PENDING");
    lab.without_factory_rule().await;
    let end = format!("/sessions/{}/terminate", holds["id"].as_str().unwrap());
    lab.good("", "POST", &end, json!({ "force": true })).await;
    let path = format!("/sessions/{}", waits["id"].as_str().unwrap());
    let still = lab.good(&alice, "GET", &path, NONE).await;
    assert_eq!(
        (&still["state"], &still["class"]),
        (&json!("PENDING"), &json!("not-ready"))
    );
    assert_eq!(still["blocked_by"][0]["rule"], "access");
    lab.rule("rw", "*", "", "users").await;
    let back = lab.good(&alice, "GET", &path, NONE).await;
    assert!(back["blocked_by"][0]["rule"] != "access", "{back}");
}

#[tokio::test]
async fn rows_17_and_18_an_account_acts_for_users() {
    let two = Two::new(false).await;
    let lab = &two.lab;
    for id in ["default"] {
        lab.rule("rw", "project", id, "alice").await;
        lab.rule("rw", "queue", id, "alice").await;
    }
    let made = lab
        .good("", "POST", "/service-accounts", json!({ "name": "ci" }))
        .await;
    let ci = bearer(&made);
    let as_ = |whom: &'static str, method: &'static str, path: &'static str| {
        let more = [("longshore-on-behalf-of", whom)];
        let ci = ci.clone();
        async move { lab.with(&ci, method, path, &work(), &more).await }
    };
    let refused = as_("alice", "POST", "/sessions").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (403, "LS-IMPERSONATION".to_owned())
    );
    assert_eq!(
        refused.json()["detail"],
        "Service account ci may not act for other users."
    );
    lab.good(
        "",
        "PATCH",
        "/service-accounts/ci",
        json!({ "allow_impersonation": true }),
    )
    .await;
    let made = as_("alice", "POST", "/sessions").await;
    assert_eq!(made.status, 201, "{}", made.text());
    let session = made.json();
    assert_eq!(session["owner_name"], "alice");
    assert!(
        session["submitted_by"]
            .as_str()
            .unwrap()
            .starts_with("svc_")
    );
    // By itself it has nothing; for alice it has what she has.
    assert_eq!(
        lab.get(&ci, &format!("/sessions/{}", two.t1)).await.status,
        404
    );
    let path: &'static str = Box::leak(format!("/sessions/{}", two.t1).into_boxed_str());
    let more = [("longshore-on-behalf-of", "alice@lab.example")];
    assert_eq!(lab.with(&ci, "GET", path, &NONE, &more).await.status, 200);
    // No office is borrowed, nobody else may send the header, and it is for sessions only.
    let root = lab
        .with(
            &ci,
            "GET",
            path,
            &NONE,
            &[("longshore-on-behalf-of", "dana@lab.example")],
        )
        .await;
    assert!([403, 404].contains(&root.status.as_u16()));
    for (who, method, path) in [
        (&ci, "POST", "/users"),
        (&ci, "GET", "/me"),
        (&two.alice, "GET", "/sessions"),
        (&String::new(), "POST", "/resource-groups"),
    ] {
        let more = [("longshore-on-behalf-of", "bob")];
        let answer = lab.with(who, method, path, &json!({}), &more).await;
        if answer.status != 404 {
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (403, "LS-IMPERSONATION".to_owned()),
                "{path}"
            );
        }
    }
    let nobody = as_("nobody", "POST", "/sessions").await;
    assert_eq!(nobody.code(), "LS-IMPERSONATION");
    let log = lab
        .good("", "GET", "/audit?operation=session.create&limit=1", NONE)
        .await;
    let actor = log["items"][0]["actor"].clone();
    assert_eq!(
        (&actor["kind"], &actor["name"]),
        (&json!("service_account"), &json!("ci"))
    );
    assert!(actor["on_behalf_of"].as_str().unwrap().starts_with("usr_"));
}

#[tokio::test]
async fn row_16_and_what_serves_a_queue() {
    let two = Two::new(false).await;
    let lab = &two.lab;
    lab.good(
        "",
        "POST",
        "/service-accounts",
        json!({ "name": "ci", "projects": ["default"] }),
    )
    .await;
    lab.rule("rw", "project", "default", "ci").await;
    let path = "/resource-groups/default";
    let serve = json!({ "service_account": "ci" });
    let queue = lab.refused("", "PATCH", path, serve.clone()).await;
    assert_eq!(queue, (422, "LS-QUEUE-ACCESS".to_owned()));
    let rule = lab.rule("rw", "queue", "default", "ci").await;
    let owner = lab.ask("", "PATCH", path, &serve).await;
    assert_eq!(
        (owner.code(), &owner.json()["errors"][0]["pointer"]),
        ("LS-INVALID".to_owned(), &json!("/use_owner"))
    );
    let powers = json!({ "allow_impersonation": true });
    lab.good("", "PATCH", "/service-accounts/ci", powers).await;
    let served = lab.good("", "PATCH", path, serve).await;
    assert_eq!(served["service_account"], "ci");
    // What stops holding keeps sessions of the group waiting.
    lab.rule("rw", "*", "", "bob").await;
    let rules = |session: Value| -> Vec<String> {
        let all = session["blocked_by"].as_array().unwrap().iter();
        all.map(|b| {
            format!(
                "{} {}",
                b["stage"].as_str().unwrap(),
                b["rule"].as_str().unwrap()
            )
        })
        .collect()
    };
    let session = format!("/sessions/{}", two.t2);
    let identity = |rules: Vec<String>| rules.into_iter().find(|r| r.starts_with("identity"));
    assert_eq!(
        identity(rules(lab.good("", "GET", &session, NONE).await)),
        None
    );
    lab.good(
        "",
        "PATCH",
        "/service-accounts/ci",
        json!({ "allow_impersonation": false }),
    )
    .await;
    let why = identity(rules(lab.good("", "GET", &session, NONE).await));
    assert_eq!(why.as_deref(), Some("identity impersonation-not-allowed"));
    lab.good("", "DELETE", &format!("/access-rules/{rule}"), NONE)
        .await;
    let why = identity(rules(lab.good("", "GET", &session, NONE).await));
    assert_eq!(why.as_deref(), Some("identity queue-access"));
}

#[tokio::test]
async fn row_20_who_left_the_project_has_lost_it() {
    let two = Two::new(false).await;
    two.lab.rule("rw", "project", "default", "bob").await;
    assert_eq!(two.level(&two.bob, &two.t1).await, "rw");
    two.lab
        .good("", "PATCH", "/users/bob", json!({ "projects": [] }))
        .await;
    assert_eq!(two.level(&two.bob, &two.t1).await, "none");
    assert_eq!(two.level(&two.bob, &two.t2).await, "none");
}
