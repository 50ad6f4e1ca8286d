//! Groups, rules and service accounts.

use super::{Lab, bearer, names, texts};
use serde_json::{Value, json};

const NONE: Value = Value::Null;

#[tokio::test]
async fn a_group_from_creation_to_deletion() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    let body = json!({ "name": " Team ", "domain": "default", "members": ["alice"] });
    let made = lab.good("", "POST", "/groups", body.clone()).await;
    assert_eq!(
        (&made["name"], &made["version"]),
        (&json!("Team"), &json!(1))
    );
    assert_eq!(made["members"][0]["name"], "alice");
    assert_eq!(made["members"][0]["source"], json!(["manual"]));
    let taken = lab
        .refused("", "POST", "/groups", json!({ "name": "TEAM" }))
        .await;
    assert_eq!(taken, (409, "LS-EXISTS".to_owned()));
    // A member sees the own groups; who is no member sees nothing.
    let seen = lab.good(&alice, "GET", "/groups", NONE).await;
    assert_eq!(names(&seen), ["Team", "users"]);
    let bob = lab.person("bob", json!({})).await;
    assert_eq!(lab.refused(&bob, "GET", "/groups/team", NONE).await.0, 404);
    let write = lab
        .refused(&bob, "POST", "/groups", json!({ "name": "x" }))
        .await;
    assert_eq!(write, (403, "LS-FORBIDDEN".to_owned()));
    // Versions.
    let path = "/groups/team/members/bob";
    let without = lab.with("", "PUT", path, &NONE, &[]).await;
    assert_eq!(
        (without.status.as_u16(), without.code()),
        (428, "LS-VERSION-MISSING".to_owned())
    );
    let stale = lab
        .with("", "PUT", path, &NONE, &[("if-match", "\"9\"")])
        .await;
    assert_eq!(stale.status, 412);
    assert_eq!(stale.json()["current"]["version"], 1);
    let added = lab
        .with("", "PUT", path, &NONE, &[("if-match", "\"1\"")])
        .await;
    assert_eq!(
        (added.status.as_u16(), added.header("etag")),
        (200, "\"2\"")
    );
    assert_eq!(added.json()["member_count"], 2);
    // Again changes nothing; a name that is not there is 404.
    let again = lab.good("", "PUT", path, NONE).await;
    assert_eq!(again["version"], 2);
    let nobody = lab
        .refused("", "PUT", "/groups/team/members/nobody", NONE)
        .await;
    assert_eq!(nobody, (404, "LS-NOT-FOUND".to_owned()));
    let left = lab.good("", "DELETE", path, NONE).await;
    assert_eq!(left["member_count"], 1);
    let renamed = lab
        .good(
            "",
            "PATCH",
            "/groups/team",
            json!({ "name": "Crew", "members": ["bob"] }),
        )
        .await;
    assert_eq!(
        (&renamed["name"], &renamed["members"][0]["name"]),
        (&json!("Crew"), &json!("bob"))
    );
    let moved = lab
        .refused("", "PATCH", "/groups/crew", json!({ "domain": "other" }))
        .await;
    assert_eq!(moved, (422, "LS-FIELD-FIXED".to_owned()));
    lab.good("", "DELETE", "/groups/crew", NONE).await;
    assert_eq!(lab.get("", "/groups/crew").await.status, 404);
    // Each change left a record, the deletion one of what was there.
    let log = lab
        .good("", "GET", "/audit?operation=group.write&outcome=ok", NONE)
        .await;
    let records = log["items"].as_array().unwrap();
    assert_eq!(records.len(), 5, "{log}");
    assert_eq!(records[0]["target"]["type"], "user_group");
    assert_eq!(records[0]["target"]["name"], "Crew");
    assert_eq!(records[0]["before"]["name"], "Crew");
    assert_eq!(records[4]["after"]["name"], "Team");
}

#[tokio::test]
async fn built_in_groups_stay() {
    let lab = Lab::new().await;
    lab.person("alice", json!({})).await;
    let builtin = (409, "LS-GROUP-BUILTIN".to_owned());
    for name in ["users", "admins", "queue-admins"] {
        let path = format!("/groups/{name}");
        assert_eq!(lab.refused("", "DELETE", &path, NONE).await, builtin);
        let rename = lab
            .refused("", "PATCH", &path, json!({ "name": "x" }))
            .await;
        assert_eq!(rename, builtin);
    }
    let answer = lab
        .ask("", "PUT", "/groups/users/members/alice", &NONE)
        .await;
    assert_eq!(answer.json()["detail"], "Group users cannot be modified.");
    let answer = lab.ask("", "DELETE", "/groups/admins", &NONE).await;
    assert_eq!(answer.json()["detail"], "Group admins is built in.");
    // Everybody is in users by rule; admins takes members.
    let users = lab.good("", "GET", "/groups/users", NONE).await;
    assert_eq!(users["members"][1]["source"], json!(["rule"]));
    let admins = lab
        .good("", "PUT", "/groups/admins/members/alice", NONE)
        .await;
    assert_eq!(admins["member_count"], 1);
}

#[tokio::test]
async fn a_group_of_a_domain_has_its_people_only() {
    let lab = Lab::new().await;
    lab.good("", "POST", "/domains", json!({ "name": "away" }))
        .await;
    lab.person("carol", json!({ "domain": "away", "projects": [] }))
        .await;
    let body = json!({ "name": "team", "domain": "default", "members": ["carol", "nobody"] });
    let refused = lab.ask("", "POST", "/groups", &body).await;
    assert_eq!(refused.code(), "LS-INVALID");
    let errors = &refused.json()["errors"];
    assert_eq!(errors[0]["pointer"], "/members/0");
    assert_eq!(errors[0]["message"], "carol is not in domain default.");
    assert_eq!(errors[1]["pointer"], "/members/1");
    lab.good(
        "",
        "POST",
        "/groups",
        json!({ "name": "team", "domain": "default" }),
    )
    .await;
    // Who is elsewhere answers as who is nowhere.
    for who in ["carol", "nobody"] {
        let path = format!("/groups/team/members/{who}");
        let put = lab.refused("", "PUT", &path, NONE).await;
        assert_eq!(put, (404, "LS-NOT-FOUND".to_owned()));
    }
    // A domain admin writes groups of the own domain, and no other.
    let boss = lab.person("boss", json!({ "role": "domain-admin" })).await;
    lab.good(&boss, "PUT", "/groups/team/members/boss", NONE)
        .await;
    for body in [
        json!({ "name": "x", "domain": null }),
        json!({ "name": "x", "domain": "away" }),
    ] {
        let refused = lab.ask(&boss, "POST", "/groups", &body).await;
        assert!(
            [403, 404].contains(&refused.status.as_u16()),
            "{}",
            refused.text()
        );
    }
    let admins = lab
        .refused(&boss, "PUT", "/groups/admins/members/boss", NONE)
        .await;
    assert_eq!(admins, (403, "LS-FORBIDDEN".to_owned()));
}

#[tokio::test]
async fn a_rule_from_creation_to_deletion() {
    let lab = Lab::new().await;
    let alice = lab.person("alice", json!({})).await;
    lab.without_factory_rule().await;
    let bad = json!({ "resource": { "type": "project", "id": "nothing" }, "level": "no", "subjects": ["nobody"] });
    let refused = lab.ask("", "POST", "/access-rules", &bad).await;
    let errors = refused.json()["errors"].clone();
    let pointers: Vec<&str> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/resource/id", "/level", "/subjects/0"]);
    let body = json!({ "resource": { "type": "project", "id": "default" }, "level": "ro", "subjects": ["alice"] });
    let dry = lab
        .good("", "POST", "/access-rules?dry_run=true", body.clone())
        .await;
    let gain = &dry["impact"]["gains"][0];
    assert_eq!(
        (&gain["subject_name"], &gain["name"]),
        (&json!("alice"), &json!("default"))
    );
    assert_eq!((&gain["from"], &gain["to"]), (&json!("none"), &json!("ro")));
    assert_eq!(dry["impact"]["counts"]["loses"], 0);
    let made = lab.good("", "POST", "/access-rules", body).await;
    assert_eq!(made["resource"]["name"], "default");
    assert_eq!(made["subject_names"], json!(["alice"]));
    assert!(made.get("warnings").is_none());
    let id = made["id"].as_str().unwrap();
    let path = format!("/access-rules/{id}");
    for (query, many) in [
        ("type=project", 1),
        ("type=queue", 0),
        ("subject=alice", 1),
        ("subject=dana@lab.example", 0),
        ("resource=default", 1),
    ] {
        let found = lab
            .good("", "GET", &format!("/access-rules?{query}"), NONE)
            .await;
        assert_eq!(found["items"].as_array().unwrap().len(), many, "{query}");
    }
    // One sees the rules that name one, and writes none.
    assert_eq!(lab.get(&alice, &path).await.status, 200);
    let write = lab
        .refused(&alice, "PATCH", &path, json!({ "level": "rw" }))
        .await;
    assert_eq!(write, (403, "LS-FORBIDDEN".to_owned()));
    let stale = lab
        .with(
            "",
            "PATCH",
            &path,
            &json!({ "level": "rw" }),
            &[("if-match", "\"7\"")],
        )
        .await;
    assert_eq!(stale.status, 412);
    let changed = lab.good("", "PATCH", &path, json!({ "level": "rw" })).await;
    assert_eq!(
        (&changed["level"], &changed["version"]),
        (&json!("rw"), &json!(2))
    );
    let asked = "/access/effective?subject=alice&type=project&id=default";
    let has = lab.good("", "GET", asked, NONE).await;
    assert_eq!(
        (&has["level"], &has["via"][0]["rule"]),
        (&json!("rw"), &json!(id))
    );
    let may = lab
        .good(
            &alice,
            "GET",
            "/access/effective?type=project&id=default&action=session.read",
            NONE,
        )
        .await;
    assert_eq!(may["allowed"], true);
    let dry = lab
        .good("", "DELETE", &format!("{path}?dry_run=true"), NONE)
        .await;
    assert_eq!(dry["impact"]["loses"][0]["to"], "none");
    lab.good("", "DELETE", &path, NONE).await;
    let has = lab.good("", "GET", asked, NONE).await;
    assert_eq!((&has["level"], &has["via"]), (&json!("none"), &json!([])));
    let root = lab
        .good("", "GET", "/access/effective?type=project&id=default", NONE)
        .await;
    assert_eq!(root["via"][0]["reason"], "role");
}

#[tokio::test]
async fn rules_go_with_what_they_name() {
    let lab = Lab::new().await;
    lab.person("alice", json!({})).await;
    lab.without_factory_rule().await;
    lab.good(
        "",
        "POST",
        "/groups",
        json!({ "name": "team", "members": ["alice"] }),
    )
    .await;
    lab.good("", "POST", "/resource-groups", json!({ "name": "gpu" }))
        .await;
    let both = lab
        .good(
            "",
            "POST",
            "/access-rules",
            json!({ "resource": { "type": "project", "id": "default" },
        "level": "rw", "subjects": ["team", "alice"] }),
        )
        .await;
    lab.rule("rw", "queue", "gpu", "team").await;
    lab.rule("rw", "queue", "gpu", "alice").await;
    let dry = lab
        .good("", "DELETE", "/groups/team?dry_run=true", NONE)
        .await;
    // What alice has by herself she keeps.
    assert_eq!(dry["impact"]["counts"]["loses"], 0);
    lab.good("", "DELETE", "/groups/team", NONE).await;
    let rules = lab.good("", "GET", "/access-rules", NONE).await;
    let rules = rules["items"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "{rules:?}");
    let kept = rules.iter().find(|r| r["id"] == both["id"]).unwrap();
    assert_eq!(
        (texts(&kept["subject_names"]), &kept["version"]),
        (vec!["alice"], &json!(2))
    );
    lab.good("", "DELETE", "/resource-groups/gpu", NONE).await;
    let rules = lab.good("", "GET", "/access-rules", NONE).await;
    assert_eq!(rules["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn members_of_admins_write_rules_of_their_domain() {
    let lab = Lab::new().await;
    lab.person("alice", json!({})).await;
    let boss = lab.person("boss", json!({})).await;
    let on = |subject: &str| json!({ "resource": { "type": "project", "id": "default" }, "level": "ro", "subjects": [subject] });
    assert_eq!(
        lab.refused(&boss, "POST", "/access-rules", on("alice"))
            .await
            .0,
        403
    );
    lab.good("", "PUT", "/groups/admins/members/boss", NONE)
        .await;
    lab.good(&boss, "POST", "/access-rules", on("alice")).await;
    // The group users is of every domain.
    let everybody = lab
        .refused(&boss, "POST", "/access-rules", on("users"))
        .await;
    assert_eq!(everybody, (403, "LS-FORBIDDEN".to_owned()));
    lab.good("", "POST", "/domains", json!({ "name": "away" }))
        .await;
    lab.person("carol", json!({ "domain": "away", "projects": [] }))
        .await;
    assert_ne!(
        lab.refused(&boss, "POST", "/access-rules", on("carol"))
            .await
            .0,
        201
    );
}

#[tokio::test]
async fn a_rule_without_membership_sleeps() {
    let lab = Lab::new().await;
    lab.person("alice", json!({})).await;
    lab.good("", "POST", "/projects", json!({ "name": "vision" }))
        .await;
    lab.without_factory_rule().await;
    let body = json!({ "resource": { "type": "project", "id": "vision" }, "level": "rw", "subjects": ["alice"] });
    let made = lab.good("", "POST", "/access-rules", body).await;
    assert_eq!(
        texts(&made["warnings"]),
        ["alice is no member of project vision; until then the rule has no effect."]
    );
    let asked = "/access/effective?subject=alice&type=project&id=vision";
    assert_eq!(lab.good("", "GET", asked, NONE).await["level"], "none");
    lab.good(
        "",
        "PATCH",
        "/users/alice",
        json!({ "projects": ["default", "vision"] }),
    )
    .await;
    assert_eq!(lab.good("", "GET", asked, NONE).await["level"], "rw");
}

#[tokio::test]
async fn a_service_account_from_creation_to_deletion() {
    let lab = Lab::new().await;
    lab.person("alice", json!({})).await;
    let taken = lab
        .ask("", "POST", "/service-accounts", &json!({ "name": "ALICE" }))
        .await;
    assert_eq!(taken.code(), "LS-EXISTS");
    let bad = lab
        .ask("", "POST", "/service-accounts", &json!({ "name": "-x" }))
        .await;
    assert_eq!(bad.json()["errors"][0]["pointer"], "/name");
    let body = json!({ "name": "ci", "projects": ["default"], "description": "builds" });
    let made = lab.good("", "POST", "/service-accounts", body).await;
    assert!(made["id"].as_str().unwrap().starts_with("svc_"));
    assert!(made["snippet"].as_str().unwrap().contains("secret_key = "));
    assert_eq!(
        (&made["groups"], &made["credentials"]),
        (&json!(["users"]), &json!(1))
    );
    let ci = bearer(&made);
    // It works, it is no user, and its name is taken for users.
    assert_eq!(lab.get(&ci, "/sessions").await.status, 200);
    let users = lab.good("", "GET", "/users", NONE).await;
    let found = users["items"]
        .as_array()
        .unwrap()
        .iter()
        .any(|u| u["username"] == "ci");
    assert!(!found);
    let user = json!({ "email": "ci@lab.example", "username": "CI" });
    assert_eq!(lab.refused("", "POST", "/users", user).await.1, "LS-EXISTS");
    let admin = lab
        .refused(
            "",
            "PATCH",
            "/service-accounts/ci",
            json!({ "admin": true }),
        )
        .await;
    assert_eq!(admin, (403, "LS-FORBIDDEN".to_owned()));
    let powers = json!({ "allow_impersonation": true });
    let changed = lab.good("", "PATCH", "/service-accounts/ci", powers).await;
    assert_eq!(
        (&changed["allow_impersonation"], &changed["version"]),
        (&json!(true), &json!(2))
    );
    lab.good("", "PUT", "/groups/queue-admins/members/ci", NONE)
        .await;
    // Deleting stops its sessions, revokes its keypairs, and keeps its record.
    let body = json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" } });
    let session = lab.good(&ci, "POST", "/sessions", body).await;
    assert_eq!(session["owner_name"], "ci");
    let dry = lab
        .good("", "DELETE", "/service-accounts/ci?dry_run=true", NONE)
        .await;
    assert_eq!(dry["impact"]["counts"]["keypairs"], 1);
    lab.good("", "DELETE", "/service-accounts/ci", NONE).await;
    assert_eq!(
        lab.refused(&ci, "GET", "/sessions", NONE).await,
        (401, "LS-AUTH-FAILED".to_owned())
    );
    let path = format!("/sessions/{}", session["id"].as_str().unwrap());
    let ended = lab.good("", "GET", &path, NONE).await;
    assert_eq!(ended["reason"], "owner-deleted", "{ended}");
    assert_eq!(
        names(&lab.good("", "GET", "/service-accounts", NONE).await),
        Vec::<&str>::new()
    );
    let kept = lab.good("", "GET", "/service-accounts/ci", NONE).await;
    assert_eq!(
        (&kept["status"], &kept["credentials"], &kept["groups"]),
        (&json!("deleted"), &json!(0), &json!([]))
    );
    assert_eq!(
        lab.refused("", "DELETE", "/service-accounts/ci", NONE)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn switching_the_setting_off_takes_administration_away() {
    let lab = Lab::new().await;
    let body = json!({ "name": "ops", "admin": true });
    let refused = lab
        .refused("", "POST", "/service-accounts", body.clone())
        .await;
    assert_eq!(refused, (403, "LS-FORBIDDEN".to_owned()));
    lab.start(true).await;
    let made = lab.good("", "POST", "/service-accounts", body).await;
    let ops = bearer(&made);
    let project = json!({ "name": "vision" });
    lab.good(&ops, "POST", "/projects", project).await;
    lab.start(false).await;
    let project = json!({ "name": "speech" });
    let refused = lab.refused(&ops, "POST", "/projects", project).await;
    assert_eq!(refused, (403, "LS-FORBIDDEN".to_owned()));
    // It keeps its mark, and with the setting its powers come back.
    let kept = lab.good("", "GET", "/service-accounts/ops", NONE).await;
    assert_eq!(kept["admin"], true);
    lab.start(true).await;
    lab.good(&ops, "POST", "/projects", json!({ "name": "speech" }))
        .await;
}

#[tokio::test]
async fn a_group_of_a_domain_admin_is_of_the_own_domain() {
    let lab = Lab::new().await;
    let ada = lab.person("ada", json!({ "role": "domain-admin" })).await;
    let made = lab
        .good(&ada, "POST", "/groups", json!({ "name": "crew" }))
        .await;
    assert_eq!(made["domain_name"], "default", "{made}");
    // Of everybody it is where that is said, and that is not for her.
    let everybody = json!({ "name": "all", "domain": null });
    let refused = lab.refused(&ada, "POST", "/groups", everybody).await;
    assert_eq!(refused, (403, "LS-FORBIDDEN".to_owned()));
    let made = lab
        .good("", "POST", "/groups", json!({ "name": "all" }))
        .await;
    assert!(made.get("domain_name").is_none(), "{made}");
}
