//! `admin pool|profile|allocation …`: parts of the draft; `admin config provision` makes
//! it live.

use super::{Kind, Members, list, put, say, send, tag};
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
    columns: &[
        ("NAME", "name"),
        ("RESERVATION", "reservation"),
        ("LIMIT", "limit"),
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
        /// Of a pool: the resource group behind it
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Of a pool: how much there is; absent: what the agents have
        #[arg(long, value_name = "N")]
        count: Option<String>,
        /// Of a profile: pools in the order in which they are tried
        #[arg(long, value_name = "POOL,POOL", value_delimiter = ',')]
        pools: Vec<String>,
        /// Of an allocation policy: the profiles it may use
        #[arg(long, value_name = "PROFILE,PROFILE", value_delimiter = ',')]
        profiles: Vec<String>,
        /// Of an allocation policy: what is kept for it
        #[arg(long, value_name = "N")]
        reservation: Option<String>,
        /// Of an allocation policy: the most it may use
        #[arg(long, value_name = "N")]
        limit: Option<String>,
        /// Of an allocation policy: who may use it; absent: everybody
        #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
        users: Vec<String>,
        #[command(flatten)]
        members: Members,
    },
    /// Change one
    Edit {
        /// Its name
        name: String,
        #[command(flatten)]
        members: Members,
    },
    /// Take one out, with every mention of it
    Rm {
        /// Its name
        name: String,
    },
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
        Verb::Create {
            name,
            group,
            count,
            pools,
            profiles,
            reservation,
            limit,
            users,
            members,
        } => {
            let mut made = members.object("slots")?;
            made["name"] = json!(name);
            let texts = [
                ("group", group),
                ("count", count),
                ("reservation", reservation),
                ("limit", limit),
            ];
            for (key, text) in texts {
                if let Some(text) = text {
                    made[key] = json!(text);
                }
            }
            if !pools.is_empty() {
                made["pools"] = json!(pools);
            }
            if !users.is_empty() {
                made["users"] = json!(users);
            }
            if !profiles.is_empty() {
                made["profiles"] = match part {
                    Part::Allocation => profiles.iter().map(|p| json!({ "profile": p })).collect(),
                    Part::Pool | Part::Profile => json!(profiles),
                };
            }
            change(app, &client, |document| {
                if document[part.section()].is_null() {
                    document[part.section()] = json!([]);
                }
                section(document, part)?.push(made);
                Ok(())
            })
            .await?;
        }
        Verb::Edit { name, members } => {
            if members.is_empty() {
                return Err(Failure::usage("say what to change: --set KEY=VALUE")
                    .hint("the whole draft in an editor: longshore admin config edit"));
            }
            let patch = members.object("slots")?;
            change(app, &client, |document| {
                let found = section(document, part)?
                    .iter_mut()
                    .find(|item| item["name"] == json!(name))
                    .ok_or_else(|| missing(part, &name))?;
                let counted_anew = patch.get("slots").is_some() && patch.get("allotment").is_none();
                if counted_anew
                    && is_counted(found)
                    && let Some(members) = found.as_object_mut()
                {
                    // It followed from the slots and follows from the new ones.
                    members.remove("allotment");
                }
                merge(found, &patch)
            })
            .await?;
        }
        Verb::Rm { name } => {
            change(app, &client, |document| remove(document, part, &name)).await?;
        }
        Verb::Order { of, names } => {
            change(app, &client, |document| {
                order(document, part, of.as_deref(), &names)
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

/// Changes the draft as it is now and saves it.
pub(super) async fn change(
    app: &App,
    client: &Client,
    work: impl FnOnce(&mut Value) -> Result<(), Failure>,
) -> Result<Value, Failure> {
    let mut document = client.get(DRAFT).await?;
    let version = tag(&document);
    only_written(&mut document);
    work(&mut document)?;
    send(
        app,
        client,
        Method::PUT,
        DRAFT,
        version.as_deref(),
        Some(&document),
    )
    .await
}

/// Leaves out what is only told.
pub(super) fn only_written(document: &mut Value) {
    if let Some(members) = document.as_object_mut() {
        members.retain(|name, _| ["pools", "profiles", "allocation_policies"].contains(&&**name));
    }
    for pool in document["pools"].as_array_mut().into_iter().flatten() {
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
                .hint("the pools of a profile: longshore admin profile edit NAME --set 'pools=[\"A\",\"B\"]'"));
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
