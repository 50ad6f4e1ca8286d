//! What is known of images, and what that makes of a request.

use super::entities::{Adjusted, Group};
use super::event::Refusal;
use super::pools::{Pool, Queue};
use super::rules;
use super::state::State;
use super::submit::pointer;
use crate::access::Caller as Rights;
use crate::scheduler::limits::Requester;
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotKind, SlotName, Slots, UNIT};
use longshore_common::ids::ImageId;
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What an administrator says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Counts changes from 1.
    pub version: u64,
    /// See [`canonical`]; unique, never changes.
    pub reference: String,
    /// For people.
    pub description: String,
    /// The least of each slot that a session gets.
    pub min_slots: Slots,
    /// Size of `/dev/shm` in bytes where a session names none.
    pub shm_bytes: Option<i64>,
    /// When it was said first.
    pub created_at: Timestamp,
}

/// Names of the registry that an image without a host comes from.
const OF_DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// An image by the one name that all its spellings have: host and path, with the digest where
/// there is one, otherwise with the tag.
#[must_use]
pub fn canonical(reference: &str) -> String {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host.to_ascii_lowercase(), path),
        _ => (OF_DOCKER[0].to_owned(), name),
    };
    let (host, path) = match OF_DOCKER.contains(&host.as_str()) {
        true if path.contains('/') => (OF_DOCKER[0].to_owned(), path.to_owned()),
        true => (OF_DOCKER[0].to_owned(), format!("library/{path}")),
        false => (host, path.to_owned()),
    };
    let last = path.rfind('/').map_or(0, |at| at + 1);
    let tag = path[last..].find(':').map(|at| last + at);
    match (digest, tag) {
        // The digest says which it is, whatever the tag was.
        (Some(digest), tag) => format!("{host}/{}@{digest}", &path[..tag.unwrap_or(path.len())]),
        (None, Some(_)) => format!("{host}/{path}"),
        (None, None) => format!("{host}/{path}:latest"),
    }
}

/// The name with its tag of a reference that has a tag and a digest.
fn tagged(reference: &str) -> Option<&str> {
    let (name, _) = reference.split_once('@')?;
    let last = name.rfind('/').map_or(0, |at| at + 1);
    name[last..].contains(':').then_some(name)
}

impl State {
    /// What is said of an image, by any spelling of its name. What is said of a tag holds for
    /// a digest that is named with it, too, if nothing is said of the digest.
    #[must_use]
    pub fn image(&self, reference: &str) -> Option<&Image> {
        let exact = self.images.get(&canonical(reference));
        exact.or_else(|| self.images.get(&canonical(tagged(reference)?)))
    }

    /// The same by the id of what is said, too.
    #[must_use]
    pub fn image_by_ref(&self, text: &str) -> Option<&Image> {
        match text.parse::<ImageId>() {
            Ok(id) => self.images.values().find(|image| image.id == id),
            Err(_) => self.images.get(&canonical(text)),
        }
    }

    /// Slots that some agent of a group has.
    pub(super) fn offered_in(&self, group: &Group) -> BTreeSet<&SlotName> {
        let agents = self.agents.values();
        agents
            .filter(|a| a.group == group.id && a.state != AgentState::Terminated)
            .filter_map(|a| a.inventory.as_deref())
            .flat_map(|inventory| {
                let plain = inventory.offered.iter().map(|(slot, _)| slot);
                plain.chain(inventory.devices.iter().map(|device| &device.slot))
            })
            .collect()
    }
}

/// Rule 9 of submit: what an image needs at least is given, never refused. `offered` are the
/// slots of the group, `shm_asked` what the request or its preset says.
pub(super) fn raise(
    mut slots: Slots,
    image: Option<&Image>,
    offered: &BTreeSet<&SlotName>,
    shm_asked: Option<i64>,
    path: &str,
    adjusted: &mut Vec<Adjusted>,
) -> Slots {
    let Some(image) = image else { return slots };
    for (slot, least) in least(&image.min_slots, &slots, offered) {
        // Shared memory is part of mem: the image's own need comes on top of it.
        let least = match slot.kind() {
            SlotKind::Bytes => least.saturating_add(shm_asked.or(image.shm_bytes).unwrap_or(0)),
            _ => least,
        };
        let asked = slots.amount(&slot);
        if asked >= least {
            continue;
        }
        adjusted.push(Adjusted {
            path: pointer(path, slot.as_str()),
            from: (asked > 0).then(|| slot.format_amount(asked)),
            to: slot.format_amount(least),
            reason: "image-minimum".to_owned(),
            source: Some(image.reference.clone()),
        });
        slots.set(slot, least);
    }
    slots
}

/// What jobs of a queue count for is their profile's to say: an image that needs more of what
/// is counted would get that uncounted.
///
/// # Errors
/// The queue gives less than the image needs of an accelerator, or of what a pool counts.
pub(super) fn within_profile(
    state: &State,
    queue: &Queue<'_>,
    image: Option<&Image>,
    given: &Slots,
    raised: &Slots,
) -> Result<(), Refusal> {
    let Some(image) = image else { return Ok(()) };
    let pools = queue.profile.pools.iter();
    let pools: Vec<&Pool> = pools
        .filter_map(|name| state.config.config.pool(name))
        .collect();
    let counted = |slot: &SlotName, amount: i64| {
        let only = Slots::new().with(slot.clone(), amount);
        slot.is_accelerator() || pools.iter().any(|pool| pool.counted(&only) > 0)
    };
    let more = raised.iter().find(|(slot, amount)| {
        let has = given.amount(slot);
        *amount > has && counted(slot, amount - has)
    });
    let Some((slot, amount)) = more else {
        return Ok(());
    };
    let text = format!(
        "The image {} needs {slot} {}, and a job of queue {} has {}.",
        image.reference,
        slot.format_amount(amount),
        queue.name,
        slot.format_amount(given.amount(slot))
    );
    Err(Refusal::new("LS-INVALID", &text)
        .at("/image", text)
        .hint("Choose a queue whose jobs have as much, or another image."))
}

/// A request that fits nowhere because of what its image needs is told where that is offered.
pub(super) fn elsewhere(
    state: &State,
    refusal: Refusal,
    image: Option<&Image>,
    group: &Group,
    asker: (&Requester, &Rights),
) -> Refusal {
    let Some(image) = image.filter(|_| refusal.code == "LS-FIT-NEVER") else {
        return refusal;
    };
    let needs = |slot: &SlotName| {
        slot.is_accelerator()
            && image
                .min_slots
                .iter()
                .any(|(s, _)| s.family() == slot.family())
    };
    let offers = |group: &Group| state.offered_in(group).into_iter().any(needs);
    if offers(group) || !image.min_slots.iter().any(|(slot, _)| needs(slot)) {
        return refusal;
    }
    let groups = state.groups.values();
    let mut names: Vec<&str> = groups
        .filter(|g| g.active && rules::usable(state, g, asker) && offers(g))
        .map(|g| g.name.as_str())
        .collect();
    names.sort_unstable();
    if names.is_empty() {
        return refusal;
    }
    refusal.hint(format!(
        "Groups that offer what the image needs: {}.",
        names.join(", ")
    ))
}

/// The least of each slot for one request: of the variants of an accelerator only one is given.
fn least(minimum: &Slots, asked: &Slots, offered: &BTreeSet<&SlotName>) -> Vec<(SlotName, i64)> {
    let mut least = Vec::new();
    let mut families: BTreeSet<&str> = BTreeSet::new();
    for (slot, amount) in minimum.iter().filter(|(_, amount)| *amount > 0) {
        if !slot.is_accelerator() {
            least.push((slot.clone(), amount));
            continue;
        }
        if !families.insert(slot.family()) {
            continue;
        }
        let of_family = |other: &SlotName| other.family() == slot.family();
        let wanted = asked.iter().find(|(s, n)| of_family(s) && *n > 0);
        if let Some((wanted, _)) = wanted {
            least.push((wanted.clone(), minimum.amount(wanted)));
            continue;
        }
        // Resource order has whole devices before shares of them. Instances are never chosen:
        // which of them would be meant is the asker's to say.
        let variant = offered
            .iter()
            .find(|s| of_family(s) && s.kind() != SlotKind::Unique);
        let Some(variant) = variant else {
            least.push((slot.clone(), amount));
            continue;
        };
        let own = minimum.amount(variant);
        let carried = match (own, variant.kind()) {
            (0, SlotKind::Count) => {
                amount.div_euclid(UNIT) * UNIT + i64::from(amount.rem_euclid(UNIT) > 0) * UNIT
            }
            (0, _) => amount,
            (own, _) => own,
        };
        least.push(((*variant).clone(), carried));
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(amounts: &[(&str, &str)]) -> Slots {
        let mut slots = Slots::new();
        for (name, text) in amounts {
            let slot: SlotName = name.parse().unwrap();
            let amount = slot.parse_amount(text).unwrap();
            slots.set(slot, amount);
        }
        slots
    }

    fn image(min: &[(&str, &str)], shm: Option<i64>) -> Image {
        Image {
            id: ImageId::new(1),
            version: 1,
            reference: "docker.io/library/base:latest".to_owned(),
            description: String::new(),
            min_slots: slots(min),
            shm_bytes: shm,
            created_at: Timestamp(0),
        }
    }

    /// What becomes of a request, and what is said of that.
    fn raised(
        image: &Image,
        offered: &[&str],
        asked: &[(&str, &str)],
        shm: Option<i64>,
    ) -> (Slots, Vec<String>) {
        let offered: Vec<SlotName> = offered.iter().map(|name| name.parse().unwrap()).collect();
        let offered = offered.iter().collect();
        let mut adjusted = Vec::new();
        let slots = raise(
            slots(asked),
            Some(image),
            &offered,
            shm,
            "/slots",
            &mut adjusted,
        );
        let said = |a: Adjusted| {
            assert_eq!(a.reason, "image-minimum");
            assert_eq!(a.source.as_deref(), Some("docker.io/library/base:latest"));
            format!("{} {} -> {}", a.path, a.from.unwrap_or_default(), a.to)
        };
        (slots, adjusted.into_iter().map(said).collect())
    }

    #[test]
    fn e2() {
        let image = image(&[("cpu", "2"), ("mem", "1g")], Some(64 << 20));
        let with_shm = ((1 << 30) + (64 << 20)).to_string();
        for (asked, cpu, mem) in [
            (vec![], "2", &*with_shm),
            (vec![("cpu", "1")], "2", &*with_shm),
            (vec![("cpu", "8"), ("mem", "256m")], "8", &*with_shm),
            (vec![("cpu", "8"), ("mem", "2g")], "8", "2g"),
        ] {
            let (got, said) = raised(&image, &[], &asked, None);
            assert_eq!(got, slots(&[("cpu", cpu), ("mem", mem)]), "{asked:?}");
            assert_eq!(said.is_empty(), mem == "2g", "{said:?}");
        }
        let (_, said) = raised(&image, &[], &[("cpu", "1")], None);
        assert_eq!(said, ["/slots/cpu 1 -> 2", "/slots/mem  -> 1140850688"]);
        // What the request says of shared memory counts, and the image's own does not.
        let (got, _) = raised(&image, &[], &[], Some(1 << 30));
        assert_eq!(got.mem_bytes(), 2 << 30);
    }

    #[test]
    fn of_several_variants_one_is_given() {
        let both: &[_] = &[("cuda.device", "1"), ("cuda.shares", "0.1")];
        let shares: &[_] = &[("cuda.shares", "0.1")];
        type Row<'a> = (
            &'a [(&'a str, &'a str)],
            &'a [&'a str],
            &'a [(&'a str, &'a str)],
            &'a [(&'a str, &'a str)],
        );
        let table: [Row<'_>; 7] = [
            (both, &["cuda.shares"], &[], &[("cuda.shares", "0.1")]),
            (
                both,
                &["cuda.shares"],
                &[("cuda.shares", "0.05")],
                &[("cuda.shares", "0.1")],
            ),
            (
                both,
                &["cuda.device", "cuda.mig-1g.10gb"],
                &[("cuda.mig-1g.10gb", "1")],
                &[("cuda.mig-1g.10gb", "1")],
            ),
            (shares, &["cuda.device"], &[], &[("cuda.device", "1")]),
            (
                &[("cuda.device", "2")],
                &["cuda.shares"],
                &[],
                &[("cuda.shares", "2")],
            ),
            (both, &["cuda.mig-1g.10gb"], &[], &[("cuda.device", "1")]),
            (&[("cuda.device", "1")], &[], &[], &[("cuda.device", "1")]),
        ];
        for (minimum, offered, asked, given) in table {
            let (got, _) = raised(&image(minimum, None), offered, asked, None);
            assert_eq!(
                got,
                slots(given),
                "{minimum:?} in {offered:?}, asked {asked:?}"
            );
        }
    }

    #[test]
    fn spellings_of_one_image() {
        for (text, name) in [
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            (
                "docker.io/library/ubuntu:24.04",
                "docker.io/library/ubuntu:24.04",
            ),
            ("lab/tool:1", "docker.io/lab/tool:1"),
            (
                "Reg.Lab:5000/vision/cuda:12.6",
                "reg.lab:5000/vision/cuda:12.6",
            ),
            ("reg.lab:5000/cuda", "reg.lab:5000/cuda:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            ("Index.docker.io/ubuntu:1", "docker.io/library/ubuntu:1"),
            ("registry-1.docker.io/lab/tool", "docker.io/lab/tool:latest"),
            ("reg.lab:5000/a:1@sha256:00", "reg.lab:5000/a@sha256:00"),
            ("a:1@sha256:00", "docker.io/library/a@sha256:00"),
            ("a@sha256:00", "docker.io/library/a@sha256:00"),
        ] {
            assert_eq!(canonical(text), name);
            assert_eq!(canonical(name), name, "it is its own");
        }
    }
}
