//! Which GPUs are kept back after a sign of sickness, and until when.
//!
//! Pure: instants come in, and the book is text for whoever keeps it. A cordon belongs to the GPU
//! itself, so that one divided anew into instances does not lose it.
//!
//! | A cordon ends | when |
//! |---|---|
//! | by itself | the GPU was reset, its driver loaded anew or the machine started anew since; it answers, shows no defect, and there was no sign for 60 s |
//! | by a person | at any time; a defect that is still there sets it again |
//!
//! The third one within seven days ends by a person alone.

use longshore_common::ids::DeviceId;
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// So many cordons within [`WITHIN_MS`] are too many to come back from alone.
const TOO_MANY: usize = 3;
const WITHIN_MS: i64 = 7 * 86_400_000;
/// Uncorrectable errors that rose twice within this time are a defect.
const RISES_WITHIN_MS: i64 = 86_400_000;
const RISES: usize = 2;

/// The book of all GPUs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cordons {
    /// The boot it was written in.
    boot_id: String,
    gpus: BTreeMap<DeviceId, Page>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Page {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cordon: Option<Cordon>,
    /// When it was cordoned within the last seven days, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<Timestamp>,
    /// Uncorrectable errors of its memory in all its life, as last counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncorrectable: Option<u64>,
    /// When they rose within the last day, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rises: Vec<Timestamp>,
}

/// Why a GPU is kept back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cordon {
    /// The sign, in words.
    sign: String,
    /// When it was seen.
    at: Timestamp,
    /// The GPU was reset since, or what stands for that.
    #[serde(default)]
    reset: bool,
}

impl Cordons {
    /// The book as it was written, read in the boot `boot_id`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(text: &str, boot_id: &str) -> Result<Self, String> {
        let mut book: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if book.boot_id != boot_id {
            boot_id.clone_into(&mut book.boot_id);
            book.driver_is_back();
        }
        Ok(book)
    }

    /// An empty book.
    #[must_use]
    pub fn new(boot_id: &str) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            gpus: BTreeMap::new(),
        }
    }

    /// The book as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Why a GPU is kept back, with what ends it; none = it is not.
    #[must_use]
    pub fn why(&self, gpu: &DeviceId) -> Option<String> {
        let page = self.gpus.get(gpu)?;
        let cordon = page.cordon.as_ref()?;
        let sign = &cordon.sign;
        Some(match (page.waits(), cordon.reset) {
            (true, _) => format!("{sign}; the third time in seven days: release it by hand"),
            (false, false) => format!("{sign}; reset it, or restart the machine"),
            (false, true) => format!("{sign}; it comes back after a minute without a sign"),
        })
    }

    /// Whether a GPU is kept back.
    #[must_use]
    pub fn is_kept(&self, gpu: &DeviceId) -> bool {
        self.gpus.get(gpu).is_some_and(|page| page.cordon.is_some())
    }

    /// Keeps a GPU back. The first sign says most; later ones follow from it.
    pub fn put(&mut self, gpu: &DeviceId, sign: &str, now: Timestamp) {
        let page = self.gpus.entry(gpu.clone()).or_default();
        match &mut page.cordon {
            // It is sick again after all.
            Some(cordon) => cordon.reset = false,
            None => {
                page.past.retain(|at| now.0 - at.0 < WITHIN_MS);
                page.past.push(now);
                page.cordon = Some(Cordon {
                    sign: sign.to_owned(),
                    at: now,
                    reset: false,
                });
            }
        }
    }

    /// Takes up how many uncorrectable errors a GPU counts. True if that is a defect: they rose
    /// twice within a day.
    pub fn count(&mut self, gpu: &DeviceId, errors: u64, now: Timestamp) -> bool {
        let page = self.gpus.entry(gpu.clone()).or_default();
        let rose = page.uncorrectable.is_some_and(|before| errors > before);
        page.uncorrectable = Some(errors);
        if !rose {
            return false;
        }
        page.rises.retain(|at| now.0 - at.0 < RISES_WITHIN_MS);
        page.rises.push(now);
        page.rises.len() >= RISES
    }

    /// A GPU answers again that was gone: it was reset.
    pub fn is_back(&mut self, gpu: &DeviceId) {
        if let Some(cordon) = self.gpus.get_mut(gpu).and_then(|p| p.cordon.as_mut()) {
            cordon.reset = true;
        }
    }

    /// All of them were begun anew, with their driver or their machine.
    pub fn driver_is_back(&mut self) {
        for page in self.gpus.values_mut() {
            if let Some(cordon) = &mut page.cordon {
                cordon.reset = true;
            }
        }
    }

    /// Offers a GPU again that is well and has been quiet for `quiet_ms`, if that may be without a
    /// person and was so for `needed_ms` at least. True if it was kept back until now.
    pub fn lift(&mut self, gpu: &DeviceId, quiet_ms: i64, needed_ms: i64) -> bool {
        let Some(page) = self.gpus.get_mut(gpu) else {
            return false;
        };
        let may = page.cordon.as_ref().is_some_and(|c| c.reset) && !page.waits();
        let lifted = may && quiet_ms >= needed_ms;
        if lifted {
            page.cordon = None;
        }
        lifted
    }

    /// A person vouches for a GPU: what it had before counts no longer.
    pub fn release(&mut self, gpu: &DeviceId) {
        if let Some(page) = self.gpus.get_mut(gpu) {
            page.cordon = None;
            page.past.clear();
            page.rises.clear();
        }
    }
}

impl Page {
    fn waits(&self) -> bool {
        let Some(cordon) = &self.cordon else {
            return false;
        };
        let recent = |at: &&Timestamp| cordon.at.0 - at.0 < WITHIN_MS;
        self.past.iter().filter(recent).count() >= TOO_MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    const QUIET_MS: i64 = 60_000;

    fn gpu() -> DeviceId {
        "GPU-a".parse().unwrap()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    #[test]
    fn it_comes_back_a_minute_after_its_reset() {
        let mut book = Cordons::new("one");
        book.put(&gpu(), "XID 48", at(0));
        assert!(!book.lift(&gpu(), DAY, QUIET_MS), "it was not reset");
        assert!(book.why(&gpu()).unwrap().contains("reset it"));
        book.is_back(&gpu());
        assert!(!book.lift(&gpu(), QUIET_MS - 1, QUIET_MS));
        assert!(book.lift(&gpu(), QUIET_MS, QUIET_MS));
        assert!(!book.lift(&gpu(), DAY, QUIET_MS), "it is not kept back");
        assert_eq!(book.why(&gpu()), None);
    }

    #[test]
    fn another_sign_takes_the_reset_back() {
        let mut book = Cordons::new("one");
        book.put(&gpu(), "XID 48", at(0));
        book.driver_is_back();
        book.put(&gpu(), "XID 64", at(5));
        assert!(!book.lift(&gpu(), DAY, QUIET_MS));
        assert!(book.why(&gpu()).unwrap().starts_with("XID 48"));
    }

    #[test]
    fn the_third_time_in_a_week_waits_for_a_person() {
        let mut book = Cordons::new("one");
        for (day, back) in [(0, true), (3, true), (6, false), (30, false)] {
            book.put(&gpu(), "XID 48", at(day * DAY));
            book.is_back(&gpu());
            let lifted = book.lift(&gpu(), QUIET_MS, QUIET_MS);
            assert_eq!(lifted, back, "day {day}");
        }
        assert!(book.why(&gpu()).unwrap().contains("by hand"));
        book.release(&gpu());
        assert_eq!(book.why(&gpu()), None);
        book.put(&gpu(), "XID 48", at(31 * DAY));
        book.is_back(&gpu());
        assert!(book.lift(&gpu(), QUIET_MS, QUIET_MS));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let mut book = Cordons::new("one");
        for day in [0, 5, 10, 15] {
            book.put(&gpu(), "XID 48", at(day * DAY));
            book.is_back(&gpu());
            assert!(book.lift(&gpu(), QUIET_MS, QUIET_MS), "{day}");
        }
    }

    #[test]
    fn it_outlives_the_agent_and_another_boot_is_a_reset() {
        let mut book = Cordons::new("one");
        book.put(&gpu(), "XID 48", at(0));
        let text = book.to_text();
        assert_eq!(Cordons::read(&text, "one"), Ok(book));
        let mut later = Cordons::read(&text, "two").unwrap();
        assert!(later.why(&gpu()).is_some());
        assert!(later.lift(&gpu(), QUIET_MS, QUIET_MS));
        assert!(Cordons::read("{", "one").is_err());
    }

    #[test]
    fn errors_that_rise_twice_in_a_day_are_a_defect() {
        let mut book = Cordons::new("one");
        let counted = [
            (0, 5, false), // what it had before us
            (1, 5, false),
            (2, 6, false),
            (2 + DAY, 7, false), // the first rise is a day old
            (3 + DAY, 6, false), // counted anew after a repair
            (4 + DAY, 9, true),
        ];
        for (ms, errors, defect) in counted {
            assert_eq!(book.count(&gpu(), errors, at(ms)), defect, "{ms}");
        }
    }
}
