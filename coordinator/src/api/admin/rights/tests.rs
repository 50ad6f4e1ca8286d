//! Rights as their callers meet them.

use super::super::super::tests::{Answer, Fixture, ready, ready_with_admin_exec};
use axum::body::Body;
use longshore_common::ids::{DomainId, GroupId, PolicyId, ProjectId};
use longshore_core::model::{Beginning, Event, Group, SchedulerSettings};
use serde_json::{Value, json};

mod leaks;
mod open;
mod people;
mod removal;
mod sessions;

/// An installation with a superadmin, and what is asked of it.
struct Lab(Fixture);

impl Lab {
    async fn new() -> Self {
        Self::of(ready().await).await
    }

    /// One whose administrators may reach into sessions of others.
    async fn with_admin_exec() -> Self {
        Self::of(ready_with_admin_exec().await).await
    }

    async fn of(fixture: Fixture) -> Self {
        let lab = Self(fixture);
        lab.start(false).await;
        lab
    }

    /// A start with this setting.
    async fn start(&self, service_account_admins: bool) {
        let beginning = Beginning {
            group: Group::new(GroupId::new(9), "default"),
            domain: DomainId::new(10),
            project: ProjectId::new(11),
            keypair_policy: PolicyId::new(12),
            user_policy: PolicyId::new(13),
            project_policy: PolicyId::new(14),
            scheduler: SchedulerSettings::default(),
            service_account_admins,
            throttle: longshore_identity::throttle::Limits::default(),
        };
        let told = self
            .0
            .app
            .engine
            .ask(Event::Started(Box::new(beginning)))
            .await;
        assert!(told.unwrap().is_ok());
    }

    /// Asks as somebody; as the superadmin where `bearer` is empty. `If-Match: *`.
    async fn ask(&self, bearer: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.with(bearer, method, path, body, &[("if-match", "*")])
            .await
    }

    async fn with(
        &self,
        bearer: &str,
        method: &str,
        path: &str,
        body: &Value,
        more: &[(&str, &str)],
    ) -> Answer {
        let path = format!("/api/v1{path}");
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut headers = vec![("content-type", kind)];
        if !bearer.is_empty() {
            headers.push(("authorization", bearer));
        }
        headers.extend(more);
        let body = match body.is_null() {
            true => Body::empty(),
            false => Body::from(body.to_string()),
        };
        self.0.send(method, &path, &headers, body).await
    }

    async fn get(&self, bearer: &str, path: &str) -> Answer {
        self.ask(bearer, "GET", path, &Value::Null).await
    }

    /// What an answer that is well says.
    async fn good(&self, bearer: &str, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(bearer, method, path, &body).await;
        let text = answer.text();
        assert!(answer.status.is_success(), "{method} {path}: {text}");
        match text.is_empty() {
            true => Value::Null,
            false => answer.json(),
        }
    }

    /// Makes somebody; the value of the Authorization header.
    async fn person(&self, name: &str, more: Value) -> String {
        let mut body = json!({ "email": format!("{name}@lab.example"), "username": name,
            "projects": ["default"] });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        bearer(&self.good("", "POST", "/users", body).await)
    }

    /// Takes the rule away with which every installation begins.
    async fn without_factory_rule(&self) {
        let rules = self.good("", "GET", "/access-rules", Value::Null).await;
        let id = rules["items"][0]["id"].as_str().unwrap().to_owned();
        self.good("", "DELETE", &format!("/access-rules/{id}"), Value::Null)
            .await;
    }

    /// Makes a rule and returns its id.
    async fn rule(&self, level: &str, kind: &str, id: &str, subject: &str) -> String {
        let resource = match id {
            "" => json!({ "type": kind }),
            id => json!({ "type": kind, "id": id }),
        };
        let body = json!({ "resource": resource, "level": level, "subjects": [subject] });
        let made = self.good("", "POST", "/access-rules", body).await;
        made["id"].as_str().unwrap().to_owned()
    }

    async fn refused(&self, bearer: &str, method: &str, path: &str, body: Value) -> (u16, String) {
        let answer = self.ask(bearer, method, path, &body).await;
        (answer.status.as_u16(), answer.code())
    }
}

/// The Authorization header of a keypair that was just made.
fn bearer(made: &Value) -> String {
    let part = |name: &str| made[name].as_str().unwrap().to_owned();
    format!("Bearer {}.{}", part("access_key"), part("secret_key"))
}

fn texts(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item.as_str().unwrap()).collect()
}

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}
