//! Limits are written, refused and shown alike, whatever they are a limit of.

use super::super::super::tests::{Answer, Fixture, ready};
use serde_json::{Value, json};

/// How a limit is written.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// A whole number up to so many; what has no value has no limit.
    Limit(i64),
    /// The same where no value means something else.
    Whole(i64),
    /// Bytes up to so many.
    LimitBytes(i64),
    /// Bytes where no value means something else.
    Bytes,
    /// The most per slot.
    SlotLimits,
    /// What is given or asked for, per slot.
    Slots,
    /// Text of counted units; what has no value has no limit.
    LimitUnits,
    /// Text of counted units where no value means something else.
    Units,
}

/// A member that holds a limit: what makes something with it, and where it stands there.
struct Place {
    path: &'static str,
    /// A body without the member, with a name of its own.
    body: fn(usize) -> Value,
    /// A pointer into the body.
    member: &'static str,
    kind: Kind,
}

const fn place(
    path: &'static str,
    body: fn(usize) -> Value,
    member: &'static str,
    kind: Kind,
) -> Place {
    Place {
        path,
        body,
        member,
        kind,
    }
}

fn named(number: usize) -> Value {
    json!({ "name": format!("n-{number}") })
}

fn project(number: usize) -> Value {
    json!({ "name": format!("n-{number}"), "domain": "lab" })
}

/// Where projects can be made.
async fn with_a_domain() -> Fixture {
    let f = ready().await;
    let made = f.post("/api/v1/domains", &json!({ "name": "lab" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    f
}

fn keypair(number: usize) -> Value {
    json!({ "label": format!("n-{number}") })
}

fn image(number: usize) -> Value {
    json!({ "reference": format!("lab/n{number}:1") })
}

fn session(_: usize) -> Value {
    json!({ "image": "longshore/base:latest", "command": ["true"], "slots": {} })
}

/// A document of one pool, one profile and one allocation policy.
fn document(_: usize) -> Value {
    json!({
        "pools": [{ "name": "P", "group": "default" }],
        "profiles": [{ "name": "2x", "slots": { "cuda.device": "2" }, "pools": ["P"] }],
        "allocation_policies": [{ "name": "A", "profiles": [{ "profile": "2x" }] }],
    })
}

const KEYPAIR_POLICY: &str = "/api/v1/keypair-policies";
const USER_POLICY: &str = "/api/v1/user-policies";
const PROJECT_POLICY: &str = "/api/v1/project-policies";
const GROUP: &str = "/api/v1/resource-groups";
const DRAFT: &str = "/api/v1/resource-config/draft";
const YEAR: i64 = 31_536_000;

/// Every member of every route that writes a limit or an amount.
const PLACES: [Place; 38] = [
    place(KEYPAIR_POLICY, named, "/total_slots", Kind::SlotLimits),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_pending_session_slots",
        Kind::SlotLimits,
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_concurrent_sessions",
        Kind::Limit(100),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_concurrent_sftp_sessions",
        Kind::Limit(100),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_containers_per_session",
        Kind::Limit(100),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_pending_session_count",
        Kind::Limit(100_000),
    ),
    place(KEYPAIR_POLICY, named, "/max_priority", Kind::Limit(100)),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_session_lifetime_s",
        Kind::Limit(YEAR),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/max_total_lifetime_s",
        Kind::Limit(YEAR),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/extension_max_count",
        Kind::Whole(100),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/extension_max_s",
        Kind::Whole(604_800),
    ),
    place(
        KEYPAIR_POLICY,
        named,
        "/idle_timeout_s",
        Kind::Whole(15_552_000),
    ),
    place(KEYPAIR_POLICY, named, "/idle/keep_max", Kind::Whole(100)),
    place(KEYPAIR_POLICY, named, "/max_pids", Kind::Whole(1_048_576)),
    place(KEYPAIR_POLICY, named, "/max_shm", Kind::LimitBytes(1 << 40)),
    place(
        USER_POLICY,
        named,
        "/max_folder_count",
        Kind::Limit(100_000),
    ),
    place(
        USER_POLICY,
        named,
        "/max_folder_size",
        Kind::LimitBytes(1 << 50),
    ),
    place(
        USER_POLICY,
        named,
        "/max_session_count_per_model_service",
        Kind::Limit(1000),
    ),
    place(
        USER_POLICY,
        named,
        "/max_customized_image_count",
        Kind::Limit(1000),
    ),
    place(
        PROJECT_POLICY,
        named,
        "/max_folder_count",
        Kind::Limit(100_000),
    ),
    place(
        PROJECT_POLICY,
        named,
        "/max_folder_size",
        Kind::LimitBytes(1 << 50),
    ),
    place(
        PROJECT_POLICY,
        named,
        "/max_network_count",
        Kind::Limit(1000),
    ),
    place("/api/v1/domains", named, "/total_slots", Kind::SlotLimits),
    place(
        "/api/v1/projects",
        project,
        "/total_slots",
        Kind::SlotLimits,
    ),
    place(
        "/api/v1/keypairs",
        keypair,
        "/rate_limit",
        Kind::Whole(1_000_000),
    ),
    place(GROUP, named, "/retries_to_skip", Kind::Whole(1_000_000)),
    place(GROUP, named, "/creation_retries", Kind::Whole(1000)),
    place(GROUP, named, "/pending_timeout_s", Kind::Whole(YEAR)),
    place(GROUP, named, "/declare_lost_s", Kind::Whole(YEAR)),
    place("/api/v1/presets", named, "/slots", Kind::Slots),
    place("/api/v1/presets", named, "/shm", Kind::Bytes),
    place("/api/v1/images", image, "/min_slots", Kind::Slots),
    place("/api/v1/images", image, "/shm", Kind::Bytes),
    place("/api/v1/sessions", session, "/slots", Kind::Slots),
    place(DRAFT, document, "/pools/0/count", Kind::Units),
    place(DRAFT, document, "/profiles/0/slots", Kind::Slots),
    place(
        DRAFT,
        document,
        "/allocation_policies/0/reservation",
        Kind::Units,
    ),
    place(
        DRAFT,
        document,
        "/allocation_policies/0/limit",
        Kind::LimitUnits,
    ),
];

impl Place {
    /// The body with this value, or of a map with this entry.
    fn with(&self, number: usize, entry: Option<&str>, value: &Value) -> Value {
        let mut body = (self.body)(number);
        let mut at = &mut body;
        for step in self.member.split('/').skip(1) {
            at = match step.parse::<usize>() {
                Ok(index) if at.is_array() => &mut at[index],
                _ => &mut at[step],
            };
        }
        match entry {
            Some(entry) => at[entry] = value.clone(),
            None => *at = value.clone(),
        }
        body
    }

    async fn write(&self, f: &Fixture, body: &Value) -> Answer {
        match self.path {
            DRAFT => f.put(self.path, "*", body).await,
            _ => f.post(self.path, body).await,
        }
    }

    /// Values that are refused wherever such a thing is written, each with its entry of a map.
    fn bad(&self) -> Vec<(Option<&'static str>, Value)> {
        let alone = |values: Vec<Value>| values.into_iter().map(|v| (None, v)).collect();
        let texts = [
            "-1", "-0.5", "nan", "NaN", "", " ", "1e3", "4x", "infinity", "+1",
        ];
        let texts = || texts.map(Value::from).into_iter();
        let wrong = [json!(true), json!([]), json!("null")];
        match self.kind {
            Kind::Limit(max) | Kind::Whole(max) => {
                let mut values = vec![
                    json!(-1),
                    json!(max + 1),
                    json!(1.5),
                    json!(1e300),
                    json!({}),
                ];
                values.extend(wrong);
                values.extend(texts());
                alone(values)
            }
            Kind::LimitBytes(max) => {
                let mut values = vec![
                    json!(-1),
                    json!(max + 1),
                    json!(1.5),
                    json!({}),
                    json!("9e"),
                ];
                values.extend(wrong);
                values.extend(texts());
                alone(values)
            }
            Kind::Bytes => {
                let mut values = vec![json!(-1), json!(1.5), json!({}), json!("9e")];
                values.extend(wrong);
                values.extend(texts());
                alone(values)
            }
            Kind::LimitUnits | Kind::Units => {
                let mut values = vec![json!("1000001"), json!("0.0001"), json!({}), json!(4)];
                values.extend(wrong);
                values.extend(texts());
                alone(values)
            }
            Kind::SlotLimits | Kind::Slots => {
                let mut values: Vec<(Option<&str>, Value)> = Vec::new();
                for slot in ["cpu", "mem", "cuda.device"] {
                    values.extend(texts().map(|text| (Some(slot), text)));
                    values.extend([json!(true), json!([]), json!(4)].map(|v| (Some(slot), v)));
                }
                values.extend([
                    (Some("cpu"), json!("1000001")),
                    (Some("cpu"), json!("1.5")),
                    (Some("mem"), json!("9e")),
                    (Some("cuda.device"), json!("0.5")),
                    (Some("CPU"), json!("1")),
                    (Some(""), json!("1")),
                    (Some("cuda.device.a b"), json!("1")),
                ]);
                if self.kind == Kind::Slots {
                    // Of an amount there is none without an end.
                    values.extend(["unlimited", "inf"].map(|text| (Some("cpu"), json!(text))));
                }
                values
            }
        }
    }
}

fn escaped(entry: &str) -> String {
    entry.replace('~', "~0").replace('/', "~1")
}

/// Whether the refusal names the place.
fn names(answer: &Answer, pointer: &str) -> bool {
    let problem = answer.json();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().any(|error| {
        error["pointer"] == pointer && error["message"].as_str().is_some_and(|m| !m.is_empty())
    })
}

#[tokio::test]
async fn what_is_no_limit_is_refused_alike_everywhere() {
    let f = with_a_domain().await;
    let mut wrong = Vec::new();
    for (at, place) in PLACES.iter().enumerate() {
        for (entry, value) in place.bad() {
            let answer = place.write(&f, &place.with(at, entry, &value)).await;
            let pointer = match entry {
                Some(entry) => format!("{}/{}", place.member, escaped(entry)),
                None => place.member.to_owned(),
            };
            if answer.status != 422 || !names(&answer, &pointer) {
                let (path, text) = (place.path, answer.text());
                wrong.push(format!(
                    "{path} {pointer} = {value}: {} {text}",
                    answer.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Shown after it was written: a map shows what it was told of a slot, all else leaves it out.
fn shown(seen: &Value, place: &Place) -> Value {
    seen.pointer(place.member).cloned().unwrap_or(Value::Null)
}

#[tokio::test]
async fn no_limit_is_written_and_shown_alike_everywhere() {
    let f = with_a_domain().await;
    let mut number = 1000;
    for place in &PLACES {
        let (entry, first) = match place.kind {
            Kind::Limit(_) => (None, json!(7)),
            Kind::LimitBytes(_) => (None, json!("7g")),
            Kind::LimitUnits => (None, json!("7")),
            Kind::SlotLimits => (Some("cpu"), json!("7")),
            _ => continue,
        };
        for word in [
            json!(null),
            json!("unlimited"),
            json!("inf"),
            json!("Unlimited"),
        ] {
            number += 1;
            let what = format!("{} {} = {word}", place.path, place.member);
            let body = place.with(number, entry, &first);
            let made = place.write(&f, &body).await;
            assert!(made.status.is_success(), "{what}: {}", made.text());
            let seen = shown(&made.json(), place);
            let limited = match place.kind {
                Kind::Limit(_) => json!(7),
                Kind::LimitBytes(_) => json!((7_u64 << 30).to_string()),
                Kind::SlotLimits => json!({ "cpu": "7" }),
                _ => json!("7"),
            };
            assert_eq!(seen, limited, "{what}");
            let lifted = match place.path {
                DRAFT => place.write(&f, &place.with(number, entry, &word)).await,
                _ => {
                    let name = body["name"].as_str().unwrap();
                    let mut patch = place.with(number, entry, &word);
                    let members = patch.as_object_mut().unwrap();
                    members.retain(|member, _| member != "name" && member != "domain");
                    f.patch(&format!("{}/{name}", place.path), "*", &patch)
                        .await
                }
            };
            assert!(lifted.status.is_success(), "{what}: {}", lifted.text());
            let seen = shown(&lifted.json(), place);
            let none = match place.kind {
                Kind::SlotLimits => json!({ "cpu": "unlimited" }),
                _ => Value::Null,
            };
            assert_eq!(seen, none, "{what}");
        }
    }
}
