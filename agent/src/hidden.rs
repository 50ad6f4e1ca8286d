//! Names of variables whose values this agent's log hides: the usual ones, those of its own
//! configuration, those the coordinator tells. None takes anything away from another.

use longshore_common::redact::{Names, default_names};
use std::sync::{Arc, Mutex, PoisonError};

/// The lists, and what they come to.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    names: Names,
    lists: Arc<Mutex<Lists>>,
}

#[derive(Debug, Default)]
struct Lists {
    own: Vec<String>,
    told: Vec<String>,
}

impl Lists {
    fn together(&self) -> Vec<String> {
        let mut all = default_names();
        for name in self.own.iter().chain(&self.told) {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        all
    }
}

impl Hidden {
    /// What is hidden, for a log that follows it.
    #[must_use]
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// Those of the agent's configuration from now on.
    pub fn set_own(&self, names: Vec<String>) {
        self.set(|lists| &mut lists.own, names);
    }

    /// Those of the coordinator from now on; false: it is what was told before.
    pub fn set_told(&self, names: Vec<String>) -> bool {
        self.set(|lists| &mut lists.told, names)
    }

    fn set(&self, list: impl FnOnce(&mut Lists) -> &mut Vec<String>, names: Vec<String>) -> bool {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let list = list(&mut lists);
        if *list == names {
            return false;
        }
        *list = names;
        self.names.set(lists.together());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::redact::Redaction;

    #[test]
    fn no_list_takes_anything_away_from_another() {
        let hidden = Hidden::default();
        let names = hidden.names();
        let hides = |name: &str| Redaction::new(&names.get(), &[], &[]).hides(name);
        let list = |name: &str| vec![name.to_owned()];
        assert!(hides("HF_TOKEN"));
        hidden.set_own(list("OWN_*"));
        assert!(hidden.set_told(list("TOLD")));
        assert!(!hidden.set_told(list("TOLD")), "no news");
        assert!(hides("HF_TOKEN") && hides("OWN_1") && hides("TOLD"));
        hidden.set_own(Vec::new());
        assert!(hides("HF_TOKEN") && !hides("OWN_1") && hides("TOLD"));
        hidden.set_told(list("OTHER"));
        assert!(hides("HF_TOKEN") && !hides("TOLD") && hides("OTHER"));
    }
}
