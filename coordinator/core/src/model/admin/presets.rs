//! Presets: amounts under a name.

use super::super::change::Change;
use super::super::event::Refusal;
use super::super::policies::Preset;
use super::super::state::State;
use super::super::submit::{amounts, families, pointer};
use super::groups::texts;
use super::members::{DESCRIPTION, Reader, missing, put, unknown};
use super::named::{Named, made, patched, seen};
use super::{AdminObject, Decision};
use longshore_common::admin::{Member, PresetRequest, PresetView, SlotTexts};
use longshore_common::amount::{MAX_BYTES, SlotName, Slots};
use longshore_common::ids::PresetId;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// A preset as it is shown.
#[must_use]
pub fn preset_view(preset: &Preset) -> PresetView {
    PresetView {
        id: preset.id.to_string(),
        version: preset.version,
        name: preset.name.clone(),
        description: preset.description.clone(),
        group: preset.group.clone(),
        slots: texts(&preset.slots),
        shm: preset.shm_bytes.map(|bytes| bytes.to_string()),
        created_at: preset.created_at,
    }
}

impl Named for Preset {
    const WHAT: &'static str = "preset";

    fn head(&self) -> (&str, u64) {
        (&self.name, self.version)
    }

    fn count(&mut self, _: Timestamp) {
        self.version += 1;
    }

    fn object(&self, _: &State) -> AdminObject {
        AdminObject::Preset(Box::new(preset_view(self)))
    }

    fn change(self) -> Change {
        Change::Preset(self)
    }
}

pub(super) fn create(
    state: &State,
    id: PresetId,
    request: &PresetRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name).unwrap_or_default();
    let mut preset = Preset {
        id,
        version: 1,
        name,
        description: String::new(),
        group: None,
        slots: Slots::new(),
        shm_bytes: None,
        created_at: now,
    };
    fill(state, &mut preset, request, reader)?;
    let is_taken = state.preset_by_ref(&preset.name).is_some();
    made(state, preset, is_taken)
}

pub(super) fn patch(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &PresetRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = state
        .preset_by_ref(name)
        .ok_or_else(|| missing("preset", name))?;
    patched(state, present, expected, &request.name, now, |preset| {
        fill(state, preset, request, Reader::default())
    })
}

pub(super) fn delete(
    state: &State,
    name: &str,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let Some(preset) = state.preset_by_ref(name) else {
        return Ok(Decision::new(AdminObject::Gone, Vec::new()));
    };
    seen(preset, expected)?;
    Ok(Decision::new(
        AdminObject::Gone,
        vec![Change::PresetDeleted(preset.id)],
    ))
}

/// Members first, then the slots by the rules of submit, as it does with a session.
fn fill(
    state: &State,
    preset: &mut Preset,
    request: &PresetRequest,
    mut reader: Reader,
) -> Result<(), Refusal> {
    put(
        &mut preset.description,
        reader.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    match reader.text("group", &request.group, 64) {
        None => (),
        Some(None) => preset.group = None,
        Some(Some(name)) if name.is_empty() => preset.group = None,
        Some(Some(name)) => match state.group_by_ref(&name) {
            Some(group) => preset.group = Some(group.name.clone()),
            None => {
                let known = state.groups.values().map(|g| g.name.as_str());
                reader.wrong("/group", unknown("resource group", &name, known));
            }
        },
    }
    if let Some(shm) = reader.size("shm", &request.shm, MAX_BYTES) {
        preset.shm_bytes = shm;
    }
    let said = reader.object("slots", &request.slots);
    let given = said
        .flatten()
        .map(|slots| split("/slots", slots, &mut reader));
    reader.done()?;
    if said == Some(None) {
        preset.slots = Slots::new();
    }
    if let Some((given, gone)) = given {
        let read = amounts(state, &given, "/slots", &[])?;
        for slot in gone.iter().chain(given.keys()) {
            if let Ok(slot) = slot.parse::<SlotName>() {
                preset.slots.set(slot, 0);
            }
        }
        preset.slots.add(&read);
        families(&preset.slots, "/slots")?;
    }
    Ok(())
}

/// What is given, and what is taken away, of the map at `path`.
pub(super) fn split(
    path: &str,
    slots: &SlotTexts,
    reader: &mut Reader,
) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut given, mut gone) = (BTreeMap::new(), Vec::new());
    for (name, member) in slots {
        match member {
            Member::Absent | Member::Null => gone.push(name.clone()),
            Member::Value(text) => drop(given.insert(name.clone(), text.trim().to_owned())),
            Member::Wrong(_) => {
                reader.wrong(&pointer(path, name), "Amounts are text, such as \"4\".")
            }
        }
    }
    (given, gone)
}
