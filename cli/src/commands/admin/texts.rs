//! Documents as people write them: the API takes amounts and names as text, and a queue of
//! a policy as an object, so `cpu: 4` and `profiles: [4x]` are put into that form here.

use serde_json::{Value, json};

/// Members whose values are always text, however they look; in a map or a list of them each.
const TEXTS: &[&str] = &[
    "total_slots",
    "max_pending_session_slots",
    "slots",
    "min_slots",
    "reference",
    "reservation",
    "limit",
    "count",
    "allotment",
    "weight",
    "max_shm",
    "shm",
    "max_folder_size",
    "name",
    "description",
];

/// Members that hold names, which may look like numbers too.
const NAMES: &[&str] = &[
    "group", "policy", "pools", "profiles", "policies", "users", "profile", "queue",
];

/// Whether the value of a member is text, however it looks.
pub(super) fn is_text(name: &str) -> bool {
    TEXTS.contains(&name)
}

/// Makes text of the numbers of an object that are amounts or names.
pub(super) fn of_object(object: &mut Value) {
    for (name, value) in object.as_object_mut().into_iter().flatten() {
        if is_text(name) || NAMES.contains(&name.as_str()) {
            texts(value);
        }
    }
}

/// Makes text of the numbers of all pools, profiles and policies, and objects of the
/// profiles that a policy names without a queue.
pub(super) fn of_config(document: &mut Value) {
    for section in ["pools", "profiles", "allocation_policies"] {
        for item in list(document, section) {
            of_object(item);
        }
    }
    for policy in list(document, "allocation_policies") {
        for profile in list(policy, "profiles") {
            if profile.is_string() {
                *profile = json!({ "profile": profile.take() });
            }
        }
    }
}

/// The entries of a member; none where there is no such list. Never makes one.
pub(super) fn list<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = object.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten()
}

fn texts(value: &mut Value) {
    match value {
        // As it was written, as far as JSON keeps that: 2.0 is 2, 0.1 is 0.1.
        Value::Number(number) => {
            let text = match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => float.to_string(),
                None => number.to_string(),
            };
            *value = json!(text);
        }
        Value::Array(items) => items.iter_mut().for_each(texts),
        Value::Object(members) => members.values_mut().for_each(texts),
        Value::Null | Value::Bool(_) | Value::String(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn numbers_are_amounts_where_amounts_belong() {
        let yaml = "name: 7\ntotal_slots: {cpu: 4, cuda.shares: 0.5, mem: 16g, tpu: null}\nmax_priority: 20\nweight: 1.5\nidle: {warn_s: [600]}\n";
        let mut object = parse(yaml, "test").unwrap();
        of_object(&mut object);
        assert_eq!(
            object,
            json!({ "name": "7", "weight": "1.5", "max_priority": 20, "idle": { "warn_s": [600] },
                "total_slots": { "cpu": "4", "cuda.shares": "0.5", "mem": "16g", "tpu": null } })
        );
    }

    #[test]
    fn pools_and_queues_in_short() {
        let yaml = "pools: [{name: A, group: a, count: 8, profiles: [4x]}]\n\
            profiles: [{name: 4x, slots: {cuda.device: 4}, allotment: 2.0, pools: [A]}]\n\
            allocation_policies:\n- {name: Dev, reservation: 8, limit: 16, pending_timeout_s: 60, profiles: [4x, 2, {profile: 1x, queue: fast}]}\n";
        let mut document = parse(yaml, "test").unwrap();
        of_config(&mut document);
        assert_eq!(
            document,
            json!({
                "pools": [{ "name": "A", "group": "a", "count": "8", "profiles": ["4x"] }],
                "profiles": [{ "name": "4x", "slots": { "cuda.device": "4" }, "allotment": "2", "pools": ["A"] }],
                "allocation_policies": [{ "name": "Dev", "reservation": "8", "limit": "16",
                    "pending_timeout_s": 60, "profiles": [{ "profile": "4x" }, { "profile": "2" },
                        { "profile": "1x", "queue": "fast" }] }],
            })
        );
        let same = document.clone();
        of_config(&mut document);
        assert_eq!(document, same);
        // What is no document is left as it is, for the coordinator to refuse.
        for wrong in [json!([4]), json!({ "name": "x" }), json!(null)] {
            let mut same = wrong.clone();
            of_config(&mut same);
            assert_eq!(same, wrong);
        }
    }
}
