//! Which devices a device is joined to, in little memory.

use crate::ids::DeviceId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Ids of devices joined by a fast link, in the order in which they were told.
///
/// Where all are joined to all, as in most machines, each has the same list but for itself.
/// Those can share one: of eight devices the lists would else be the larger part of all that
/// is kept of a machine.
#[derive(Clone, Default)]
pub struct Links {
    all: Arc<[DeviceId]>,
    /// The place in the list that is left out.
    own: Option<u32>,
}

impl Links {
    /// The devices in order.
    pub fn iter(&self) -> impl Iterator<Item = &DeviceId> {
        let own = self.own.and_then(|own| usize::try_from(own).ok());
        let all = self.all.iter().enumerate();
        all.filter(move |(at, _)| Some(*at) != own)
            .map(|(_, id)| id)
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len() - usize::from(self.own.is_some())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more.
    pub fn push(&mut self, id: DeviceId) {
        *self = self.iter().cloned().chain([id]).collect();
    }

    /// The list of all that are linked to each other, and the place of the device itself in it,
    /// where the links are kept so.
    pub(crate) fn shared(&self) -> Option<(&Arc<[DeviceId]>, usize)> {
        Some((&self.all, usize::try_from(self.own?).ok()?))
    }

    /// The same devices, kept in a list that is there already, if that holds them in the same
    /// order and nothing more but, at one place, something else.
    pub(super) fn kept_in(&self, all: &Arc<[DeviceId]>) -> Option<Self> {
        if all.len() != self.len() + 1 {
            return None;
        }
        let own = (self.iter().zip(all.iter()))
            .position(|(link, id)| link != id)
            .unwrap_or(self.len());
        let kept = Self {
            all: Arc::clone(all),
            own: u32::try_from(own).ok(),
        };
        (kept == *self).then_some(kept)
    }
}

impl FromIterator<DeviceId> for Links {
    fn from_iter<I: IntoIterator<Item = DeviceId>>(ids: I) -> Self {
        Self {
            all: ids.into_iter().collect(),
            own: None,
        }
    }
}

impl From<Vec<DeviceId>> for Links {
    fn from(ids: Vec<DeviceId>) -> Self {
        ids.into_iter().collect()
    }
}

impl PartialEq for Links {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Links {}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Links {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for id in self.iter() {
            list.serialize_element(id)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Links {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<DeviceId>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<DeviceId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_list_that_is_shared_reads_like_one_of_its_own() {
        let all: Arc<[DeviceId]> = ids(&["a", "b", "c"]).into();
        for names in [["b", "c"], ["a", "c"], ["a", "b"]] {
            let own = Links::from(ids(&names));
            let kept = own.kept_in(&all).unwrap();
            assert!(Arc::ptr_eq(&kept.all, &all));
            assert_eq!(kept, own);
            assert_eq!((kept.len(), kept.is_empty()), (2, false));
            let text = serde_json::to_string(&kept).unwrap();
            assert_eq!(text, serde_json::to_string(&names).unwrap());
            assert_eq!(
                postcard::to_stdvec(&kept).unwrap(),
                postcard::to_stdvec(&ids(&names)).unwrap()
            );
            assert_eq!(serde_json::from_str::<Links>(&text).unwrap(), own);
        }
    }

    #[test]
    fn other_lists_are_not_shared() {
        let all: Arc<[DeviceId]> = ids(&["a", "b", "c"]).into();
        for names in [&["c", "b"][..], &["a"], &["a", "b", "c"], &["a", "d"], &[]] {
            assert!(Links::from(ids(names)).kept_in(&all).is_none(), "{names:?}");
        }
    }

    #[test]
    fn one_is_added_to_a_shared_list() {
        let all: Arc<[DeviceId]> = ids(&["a", "b", "c"]).into();
        let mut links = Links::from(ids(&["a", "c"])).kept_in(&all).unwrap();
        links.push("d".parse().unwrap());
        assert_eq!(links, Links::from(ids(&["a", "c", "d"])));
        assert_eq!(all.len(), 3);
    }
}
