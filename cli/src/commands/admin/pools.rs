//! `admin pool|profile|allocation …`: parts of the draft; `admin config provision` makes
//! it live.

use super::{Kind, Members, One, Write, in_editor, list, merge_patch, put, say, send, tag, texts};
use crate::app::App;
use crate::client::Client;
use crate::error::{Failure, code};
use longshore_common::amount::parse_milli;
use reqwest::Method;
use serde_json::{Value, json};

/// Where the draft is.
pub(super) const DRAFT: &str = "/resource-config/draft";

/// The parts of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Numbers of resources that queues share.
    Pool,
    /// Kinds of jobs.
    Profile,
    /// What people may have of the pools.
    Allocation,
}

const POOL: Kind = Kind {
    path: "",
    what: "pool",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("GROUP", "group"),
        ("COUNTS", "counts"),
        ("COUNT", "count"),
        ("NOW", "count_now"),
        ("USED", "used"),
        ("PROFILES", "profiles"),
    ],
};
const PROFILE: Kind = Kind {
    path: "",
    what: "profile",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("SLOTS", "slots"),
        ("ALLOTMENT", "allotment"),
        ("POOLS", "pools"),
        ("POLICIES", "policies"),
    ],
};
const ALLOCATION: Kind = Kind {
    path: "",
    what: "allocation policy",
    key: "name",
    slots: "slots",
    columns: &[
        ("NAME", "name"),
        ("RESERVATION", "reservation"),
        ("LIMIT", "limit"),
        ("USER_GROUP", "user_group"),
        ("USERS", "users"),
        ("PROFILES", "profiles"),
        ("TIMEOUT_S", "pending_timeout_s"),
    ],
};

impl Part {
    const fn kind(self) -> &'static Kind {
        match self {
            Self::Pool => &POOL,
            Self::Profile => &PROFILE,
            Self::Allocation => &ALLOCATION,
        }
    }

    const fn section(self) -> &'static str {
        match self {
            Self::Pool => "pools",
            Self::Profile => "profiles",
            Self::Allocation => "allocation_policies",
        }
    }
}

/// Flags that give members of a part. Each is of one kind of part only.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// Of a pool: the resource group behind it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Of a pool: how much there is; absent or null: what the agents have
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<String>,
    /// Of a profile: pools in the order in which they are tried
    #[arg(long, value_name = "POOL,POOL", value_delimiter = ',')]
    pub(crate) pools: Vec<String>,
    /// Of an allocation policy: the profiles it may use; of a pool: their order
    #[arg(long, value_name = "PROFILE,PROFILE", value_delimiter = ',')]
    pub(crate) profiles: Vec<String>,
    /// Of an allocation policy: what is kept for it
    #[arg(long, value_name = "N")]
    pub(crate) reservation: Option<String>,
    /// Of an allocation policy: the most it may use; null: no limit
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<String>,
    /// Of an allocation policy: the group of users who may use it, in place of --users
    #[arg(long, value_name = "GROUP", conflicts_with = "users")]
    pub(crate) user_group: Option<String>,
    /// Of an allocation policy: who may use it; absent or null: everybody
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) users: Vec<String>,
    #[command(flatten)]
    pub(crate) members: Members,
}

impl Flags {
    /// What was given, over a part as it is now; null takes a member away.
    fn patch(&self, part: Part, present: &Value) -> Result<Value, Failure> {
        use Part::{Allocation, Pool, Profile};
        let mut patch = self.members.object("slots")?;
        let text = |text: &Option<String>| text.as_deref().map(or_null);
        let names = |names: &[String]| match names {
            [] => None,
            [one] if one == "null" => Some(Value::Null),
            names => {
                let named = names.iter().filter(|name| !name.is_empty());
                Some(named.map(String::as_str).collect())
            }
        };
        let profiles = match part {
            Pool | Profile => names(&self.profiles),
            Allocation => names(&self.profiles).map(|named| with_queues(&named, present)),
        };
        let given: [(&str, Option<Value>, &[Part]); 8] = [
            ("group", text(&self.group), &[Pool]),
            ("count", text(&self.count), &[Pool]),
            ("pools", names(&self.pools), &[Profile]),
            ("profiles", profiles, &[Pool, Allocation]),
            ("reservation", text(&self.reservation), &[Allocation]),
            ("limit", text(&self.limit), &[Allocation]),
            ("user_group", text(&self.user_group), &[Allocation]),
            ("users", names(&self.users), &[Allocation]),
        ];
        for (name, value, of) in given {
            let Some(value) = value else { continue };
            if !of.contains(&part) {
                let several = |part: &Part| part.section().replace('_', " ");
                let of: Vec<String> = of.iter().map(several).collect();
                return Err(Failure::usage(format!(
                    "--{name} is for {}, not for {}",
                    of.join(" and "),
                    several(&part)
                )));
            }
            patch[name] = value;
        }
        // A policy is for a group or for people: one takes the place of the other.
        for (name, other) in [("user_group", "users"), ("users", "user_group")] {
            if patch.get(name).is_some_and(|v| !v.is_null())
                && present.get(other).is_some_and(|v| !v.is_null())
                && patch.get(other).is_none()
            {
                patch[other] = Value::Null;
            }
        }
        Ok(patch)
    }
}

fn or_null(text: &str) -> Value {
    match text {
        "null" => Value::Null,
        text => json!(text),
    }
}

/// Profiles of a policy by name, each with the queue it has: a queue that lost its name
/// would be another one, and who waits in it would be cancelled.
fn with_queues(named: &Value, present: &Value) -> Value {
    let Some(named) = named.as_array() else {
        return named.clone();
    };
    let has = |name: &Value| {
        let entries = present["profiles"].as_array().into_iter().flatten();
        entries.into_iter().find(|entry| entry["profile"] == *name)
    };
    let entries = named.iter().map(|name| match has(name) {
        Some(entry) => entry.clone(),
        None => json!({ "profile": name }),
    });
    entries.collect()
}

/// What can be done with parts of the draft.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List those of the draft; --live: those in force
    Ls {
        /// Those in force
        #[arg(long)]
        live: bool,
    },
    /// Make one
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Change one: only what is named, and null takes a value away; without flags in $EDITOR
    Edit {
        /// Its name
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Take one out, with every mention of it
    Rm(One),
    /// Put them into an order; those not named come after
    Order {
        /// Profiles: their order in this pool; allocations: in this profile
        #[arg(long = "in", value_name = "NAME")]
        of: Option<String>,
        /// Names, the first first
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// Does it.
pub(crate) async fn run(app: &App, part: Part, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        Verb::Ls { live } => {
            let path = if live { "/resource-config" } else { DRAFT };
            let document = client.get(path).await?;
            return list(app, part.kind(), &entries(&document, part.section()));
        }
        Verb::Create { name, flags } => {
            let patch = flags.patch(part, &Value::Null)?;
            let mut made = json!({ "name": name });
            merge(&mut made, &patch)?;
            let what = format!("{} {name} is created in the draft", part.kind().what);
            change(app, &client, &what, |document| {
                if document[part.section()].is_null() {
                    document[part.section()] = json!([]);
                }
                section(document, part)?.push(made);
                Ok(true)
            })
            .await?;
        }
        Verb::Edit { name, flags } => {
            let what = format!("{} {name} is changed in the draft", part.kind().what);
            let saved = change(app, &client, &what, |document| {
                let found = section(document, part)?
                    .iter_mut()
                    .find(|item| item["name"] == json!(name))
                    .ok_or_else(|| missing(part, &name))?;
                let patch = flags.patch(part, found)?;
                let patch = match patch == json!({}) {
                    true => merge_patch(found, &in_editor(found)?),
                    false => patch,
                };
                let differs = patch != json!({});
                edit(found, &patch)?;
                Ok(differs)
            });
            if saved.await?.is_none() {
                return Ok(0);
            }
        }
        Verb::Rm(One { name }) => {
            let what = format!(
                "{} {name} is taken out of the draft, with every mention of it",
                part.kind().what
            );
            change(app, &client, &what, |document| {
                remove(document, part, &name).map(|()| true)
            })
            .await?;
        }
        Verb::Order { of, names } => {
            let what = format!("the draft has another order: {}", names.join(", "));
            change(app, &client, &what, |document| {
                order(document, part, of.as_deref(), &names).map(|()| true)
            })
            .await?;
        }
    }
    say(
        app,
        "saved in the draft; longshore admin config validate, then longshore admin config provision",
    );
    Ok(0)
}

/// Changes one part.
fn edit(found: &mut Value, patch: &Value) -> Result<(), Failure> {
    let counted_anew = patch.get("slots").is_some() && patch.get("allotment").is_none();
    if counted_anew
        && is_counted(found)
        && let Some(members) = found.as_object_mut()
    {
        // It followed from the slots and follows from the new ones.
        members.remove("allotment");
    }
    merge(found, patch)
}

/// Whether a profile's allotment is what its slots count for, rather than a figure of its own.
fn is_counted(profile: &Value) -> bool {
    let slots = profile["slots"].as_object().into_iter().flatten();
    let sum: i64 = slots
        .filter(|(slot, _)| !matches!(slot.as_str(), "cpu" | "mem"))
        .filter_map(|(_, amount)| parse_milli(amount.as_str()?).ok())
        .sum();
    let allotment = profile["allotment"].as_str();
    allotment.and_then(|text| parse_milli(text).ok()) == Some(sum)
}

fn missing(part: Part, name: &str) -> Failure {
    Failure::new(
        code::NOT_FOUND,
        format!("the draft has no {} {name}", part.kind().what),
    )
}

fn entries(document: &Value, name: &str) -> Vec<Value> {
    document[name].as_array().cloned().unwrap_or_default()
}

fn section(document: &mut Value, part: Part) -> Result<&mut Vec<Value>, Failure> {
    document[part.section()]
        .as_array_mut()
        .ok_or_else(|| Failure::failed("the coordinator's answer is not understood"))
}

/// Changes the draft as it is now and saves it; `what` says what that does. Nothing is
/// saved, and that is said, when `work` answers that nothing differs.
pub(super) async fn change(
    app: &App,
    client: &Client,
    what: &str,
    work: impl FnOnce(&mut Value) -> Result<bool, Failure>,
) -> Result<Option<Value>, Failure> {
    let mut document = client.get(DRAFT).await?;
    let version = tag(&document);
    only_written(&mut document);
    if !work(&mut document)? {
        say(app, "nothing differs");
        return Ok(None);
    }
    texts::of_config(&mut document);
    let write = Write::new(Method::PUT, DRAFT, what).version(version);
    send(app, client, write.body(&document)).await.map(Some)
}

/// Leaves out what is only told.
pub(super) fn only_written(document: &mut Value) {
    if let Some(members) = document.as_object_mut() {
        members.retain(|name, _| ["pools", "profiles", "allocation_policies"].contains(&&**name));
    }
    for pool in texts::list(document, "pools") {
        if let Some(members) = pool.as_object_mut() {
            members.retain(|name, _| name != "used" && name != "count_now");
        }
    }
}

fn merge(item: &mut Value, patch: &Value) -> Result<(), Failure> {
    for (name, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Null => {
                if let Some(members) = item.as_object_mut() {
                    members.remove(name);
                }
            }
            Value::Object(_) if item[name].is_object() => merge(&mut item[name], value)?,
            value => put(item, &[name], value.clone())?,
        }
    }
    Ok(())
}

fn remove(document: &mut Value, part: Part, name: &str) -> Result<(), Failure> {
    let items = section(document, part)?;
    let before = items.len();
    items.retain(|item| item["name"] != json!(name));
    if items.len() == before {
        return Err(missing(part, name));
    }
    // What is gone cannot be mentioned any more.
    let mentions: &[(&str, &str)] = match part {
        Part::Pool => &[("profiles", "pools")],
        Part::Profile => &[("pools", "profiles"), ("allocation_policies", "profiles")],
        Part::Allocation => &[("profiles", "policies")],
    };
    for (section, member) in mentions {
        for item in document[*section].as_array_mut().into_iter().flatten() {
            if let Some(list) = item[*member].as_array_mut() {
                list.retain(|entry| *entry != json!(name) && entry["profile"] != json!(name));
            }
        }
    }
    Ok(())
}

fn order(
    document: &mut Value,
    part: Part,
    of: Option<&str>,
    names: &[String],
) -> Result<(), Failure> {
    let (above, member) = match (part, of) {
        (_, None) => {
            let items = section(document, part)?;
            for name in names {
                if !items.iter().any(|item| item["name"] == json!(name)) {
                    return Err(missing(part, name));
                }
            }
            let place = |item: &Value| names.iter().position(|name| item["name"] == json!(name));
            items.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
            return Ok(());
        }
        (Part::Pool, Some(_)) => {
            return Err(Failure::usage("pools have one order, without --in")
                .hint("the pools of a profile: longshore admin profile edit NAME --pools A,B"));
        }
        (Part::Profile, Some(of)) => ((Part::Pool, of), "profiles"),
        (Part::Allocation, Some(of)) => ((Part::Profile, of), "policies"),
    };
    let item = section(document, above.0)?
        .iter_mut()
        .find(|item| item["name"] == json!(above.1))
        .ok_or_else(|| missing(above.0, above.1))?;
    item[member] = json!(names);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(part: &str, line: &[&str]) -> Flags {
        use crate::cli::{Admin, Cli, Command};
        let words = ["longshore", "admin", part, "edit", "x"];
        let words = words.iter().chain(line).copied();
        let cli = <Cli as clap::Parser>::try_parse_from(words).unwrap();
        let Command::Admin(Admin::Pool(verb) | Admin::Profile(verb) | Admin::Allocation(verb)) =
            cli.command
        else {
            panic!("a part")
        };
        let Verb::Edit { flags, .. } = verb else {
            panic!("edit")
        };
        flags
    }

    #[test]
    fn parts_are_edited_with_the_flags_of_create() {
        let given = flags("pool", &["--group", "h100", "--count", "null"]);
        assert_eq!(
            given.patch(Part::Pool, &json!({})).unwrap(),
            json!({ "group": "h100", "count": null })
        );
        let mut pool = json!({ "name": "x", "group": "a", "count": "8" });
        let patch = given.patch(Part::Pool, &pool).unwrap();
        edit(&mut pool, &patch).unwrap();
        assert_eq!(pool, json!({ "name": "x", "group": "h100" }));

        let policy = json!({ "profiles": [{ "profile": "4x", "queue": "fast" }, { "profile": "1x" }],
            "users": ["ann"] });
        let line = [
            "--profiles",
            "2x,4x",
            "--limit",
            "8",
            "--users",
            "null",
            "--set",
            "pending_timeout_s=60",
        ];
        assert_eq!(
            flags("allocation", &line)
                .patch(Part::Allocation, &policy)
                .unwrap(),
            json!({ "profiles": [{ "profile": "2x" }, { "profile": "4x", "queue": "fast" }],
                "limit": "8", "users": null, "pending_timeout_s": 60 }),
            "a queue keeps its name"
        );
        let profile = json!({ "slots": { "cuda.device": "4" }, "allotment": "4" });
        let given = flags("profile", &["--pools", "A,B", "--slot", "cuda.device=2"]);
        let mut changed = profile.clone();
        edit(&mut changed, &given.patch(Part::Profile, &profile).unwrap()).unwrap();
        assert_eq!(
            changed,
            json!({ "slots": { "cuda.device": "2" }, "pools": ["A", "B"] })
        );
    }

    #[test]
    fn a_part_is_edited_by_hand_as_by_flags() {
        let mut profile = json!({ "name": "x", "slots": { "cuda.device": "4" }, "allotment": "4",
            "pools": ["A"], "description": "old" });
        let left = json!({ "name": "x", "slots": { "cuda.device": "2" }, "allotment": "4",
            "pools": ["A", "B"] });
        let patch = merge_patch(&profile, &left);
        edit(&mut profile, &patch).unwrap();
        assert_eq!(
            profile,
            json!({ "name": "x", "slots": { "cuda.device": "2" }, "pools": ["A", "B"] }),
            "the allotment follows from the slots"
        );
    }

    #[test]
    fn a_flag_of_another_part_is_refused() {
        let failure = flags("pool", &["--limit", "4"]).patch(Part::Pool, &json!({}));
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit, code::USAGE);
        assert_eq!(
            failure.text,
            "--limit is for allocation policies, not for pools"
        );
    }

    #[test]
    fn an_allotment_that_follows_from_the_slots_is_told_apart() {
        let profile = |allotment: &str| json!({ "slots": { "cuda.device": "4", "cpu": "8" }, "allotment": allotment });
        assert!(is_counted(&profile("4")));
        assert!(!is_counted(&profile("3")));
    }

    #[test]
    fn parts_are_ordered_and_removed_with_their_mentions() {
        let mut document = json!({
            "version": 3, "links": [],
            "pools": [{ "name": "A", "group": "a", "used": "4", "count_now": "8", "profiles": ["x"] },
                      { "name": "B", "group": "b", "profiles": ["x"] }],
            "profiles": [{ "name": "x", "slots": { "cpu": "1" }, "pools": ["A", "B"], "policies": ["p"] }],
            "allocation_policies": [{ "name": "p", "profiles": [{ "profile": "x", "queue": "p/x" }] }],
        });
        only_written(&mut document);
        only_written(&mut json!(["no document"]));
        assert!(document.get("links").is_none() && document["pools"][0].get("used").is_none());
        order(&mut document, Part::Pool, None, &["B".to_owned()]).unwrap();
        assert_eq!(document["pools"][0]["name"], "B");
        remove(&mut document, Part::Pool, "A").unwrap();
        assert_eq!(document["profiles"][0]["pools"], json!(["B"]));
        remove(&mut document, Part::Profile, "x").unwrap();
        assert_eq!(document["allocation_policies"][0]["profiles"], json!([]));
        assert_eq!(document["pools"][0]["profiles"], json!([]));
        assert!(remove(&mut document, Part::Profile, "x").is_err());
        let mut item = json!({ "name": "p", "limit": "4", "slots": { "cpu": "1" } });
        merge(
            &mut item,
            &json!({ "limit": null, "slots": { "mem": "1g" } }),
        )
        .unwrap();
        assert_eq!(
            item,
            json!({ "name": "p", "slots": { "cpu": "1", "mem": "1g" } })
        );
    }
}
