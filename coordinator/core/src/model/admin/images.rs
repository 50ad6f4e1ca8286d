//! What administrators say of images.

use super::super::change::Change;
use super::super::event::Refusal;
use super::super::images::{Image, canonical};
use super::super::state::State;
use super::super::submit::{amounts, is_image_reference};
use super::groups::texts;
use super::members::{DESCRIPTION, Reader, fixed, missing, put};
use super::named::{Named, made, patched, seen};
use super::presets::split;
use super::{AdminObject, Decision};
use longshore_common::admin::{ImageRequest, ImageView, Member};
use longshore_common::amount::{MAX_BYTES, SlotName, Slots};
use longshore_common::ids::ImageId;
use longshore_common::time::Timestamp;

/// What is said of an image, as it is shown.
#[must_use]
pub fn image_view(image: &Image) -> ImageView {
    ImageView {
        id: image.id.to_string(),
        version: image.version,
        reference: image.reference.clone(),
        description: image.description.clone(),
        min_slots: texts(&image.min_slots),
        shm: image.shm_bytes.map(|bytes| bytes.to_string()),
        created_at: image.created_at,
    }
}

impl Named for Image {
    const WHAT: &'static str = "image";

    fn head(&self) -> (&str, u64) {
        (&self.reference, self.version)
    }

    fn count(&mut self, _: Timestamp) {
        self.version += 1;
    }

    fn object(&self, _: &State) -> AdminObject {
        AdminObject::Image(Box::new(image_view(self)))
    }

    fn change(self) -> Change {
        Change::Image(self)
    }
}

pub(super) fn create(
    state: &State,
    id: ImageId,
    request: &ImageRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let reference = reader.text("reference", &request.reference, 512).flatten();
    let reference = reference.filter(|text| is_image_reference(text));
    if reference.is_none() {
        let text = "An image reference is [host[:port]/]path[:tag][@sha256:digest] in lower case.";
        reader.wrong("/reference", text.to_owned());
    }
    let mut image = Image {
        id,
        version: 1,
        reference: reference.map_or_else(String::new, |text| canonical(&text)),
        description: String::new(),
        min_slots: Slots::new(),
        shm_bytes: None,
        created_at: now,
    };
    fill(state, &mut image, request, reader)?;
    let is_taken = state.image(&image.reference).is_some();
    made(state, image, is_taken)
}

pub(super) fn patch(
    state: &State,
    text: &str,
    expected: Option<u64>,
    request: &ImageRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = state.image_by_ref(text);
    let present = present.ok_or_else(|| missing("image", text))?;
    let same = match &request.reference {
        Member::Value(text) => canonical(text) == present.reference,
        _ => false,
    };
    if !same {
        fixed("reference", &request.reference, &present.reference)?;
    }
    let unnamed = Member::Absent;
    patched(state, present, expected, &unnamed, now, |image| {
        fill(state, image, request, Reader::default())
    })
}

pub(super) fn forget(
    state: &State,
    text: &str,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let Some(image) = state.image_by_ref(text) else {
        return Ok(Decision::new(AdminObject::Gone, Vec::new()));
    };
    seen(image, expected)?;
    let change = Change::ImageForgotten(image.reference.clone());
    Ok(Decision::new(AdminObject::Gone, vec![change]))
}

fn fill(
    state: &State,
    image: &mut Image,
    request: &ImageRequest,
    mut reader: Reader,
) -> Result<(), Refusal> {
    put(
        &mut image.description,
        reader.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    if let Some(shm) = reader.size("shm", &request.shm, MAX_BYTES) {
        image.shm_bytes = shm;
    }
    let said = reader.object("min_slots", &request.min_slots);
    let given = said
        .flatten()
        .map(|slots| split("/min_slots", slots, &mut reader));
    reader.done()?;
    if said == Some(None) {
        image.min_slots = Slots::new();
    }
    if let Some((given, gone)) = given {
        // An image may need what no agent has yet.
        let named: Vec<SlotName> = given.keys().filter_map(|slot| slot.parse().ok()).collect();
        let read = amounts(state, &given, "/min_slots", &named)?;
        for slot in gone.iter().chain(given.keys()) {
            if let Ok(slot) = slot.parse::<SlotName>() {
                image.min_slots.set(slot, 0);
            }
        }
        image.min_slots.add(&read);
    }
    Ok(())
}
