//! What is the same for everything that has a name of its own and a version.

use super::super::change::Change;
use super::super::event::Refusal;
use super::super::state::State;
use super::impact::Scope;
use super::members::{capital, fixed, fresh, taken};
use super::{AdminObject, Decision};
use longshore_common::admin::Member;
use longshore_common::time::Timestamp;

/// An object whose name never changes and whose version counts its changes.
pub(super) trait Named: Clone + PartialEq {
    /// What it is called inside a sentence.
    const WHAT: &'static str;

    /// Its name and version.
    fn head(&self) -> (&str, u64);

    /// It was changed once more.
    fn count(&mut self, now: Timestamp);

    /// As it is shown.
    fn object(&self, state: &State) -> AdminObject;

    /// What stores it.
    fn change(self) -> Change;

    /// Whom a change of it concerns.
    fn scope(&self, _: &State) -> Scope {
        Scope::default()
    }
}

/// The version the caller saw is the one there is.
pub(super) fn seen<T: Named>(present: &T, expected: Option<u64>) -> Result<(), Refusal> {
    let (name, version) = present.head();
    fresh(expected, &format!("{} {name}", capital(T::WHAT)), version)
}

/// The decision that there is something new, unless its name is taken.
pub(super) fn made<T: Named>(state: &State, new: T, is_taken: bool) -> Result<Decision, Refusal> {
    if is_taken {
        return Err(taken(T::WHAT, new.head().0));
    }
    let object = new.object(state);
    Ok(Decision::new(object, vec![new.change()]))
}

/// The decision that something becomes what `fill` makes of it; none of it when that is
/// the same.
pub(super) fn patched<T: Named>(
    state: &State,
    present: &T,
    expected: Option<u64>,
    name: &Member<String>,
    now: Timestamp,
    fill: impl FnOnce(&mut T) -> Result<(), Refusal>,
) -> Result<Decision, Refusal> {
    seen(present, expected)?;
    fixed("name", name, present.head().0)?;
    let mut changed = present.clone();
    fill(&mut changed)?;
    let before = present.object(state);
    if changed == *present {
        return Ok(Decision::new(before, Vec::new()));
    }
    changed.count(now);
    let (object, scope) = (changed.object(state), changed.scope(state));
    Ok(Decision {
        before: before.value(),
        ..Decision::new(object, vec![changed.change()]).touching(scope)
    })
}
