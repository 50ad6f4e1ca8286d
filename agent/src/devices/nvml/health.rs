//! The health of each device, decided from what the calling thread told. Pure.
//!
//! Rules: an XID of the list, or a defect that a GPU admits, cordons it as [`Cordons`] says. A
//! device that is lost comes back after two clean answers in a row, and then still has its
//! cordon. A device once seen stays in the list, so that what was granted can be named.

use super::super::cordons::Cordons;
use super::super::{Instance, Sign, Snapshot};
use longshore_common::agent::{Device, DeviceSample, Health};
use longshore_common::amount::{SlotName, UNIT};
use longshore_common::ids::DeviceId;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The GPU fell off the bus: it is lost, not only cordoned.
const XID_OFF_THE_BUS: u32 = 79;

/// A GPU that is too hot for so long is worth a warning, in milliseconds.
const HOT_MS: i64 = 600_000;

/// Clean answers in a row after which a lost device is there again. One may be luck in
/// the middle of a reset.
const ANSWERS_TO_RETURN: u8 = 2;

/// Numbers of XIDs, of all GPUs together, that are counted: a driver has fewer than two hundred
/// for each, and a sick one must not fill memory.
const MOST_XIDS: usize = 1024;

/// What the calling thread tells.
#[derive(Debug)]
pub(super) enum Message {
    /// It looked at everything.
    Looked(Reading),
    /// The driver told an XID.
    Xid {
        /// UUID of the GPU, also when it is divided.
        gpu: DeviceId,
        xid: u32,
        at: Timestamp,
    },
}

/// One look at all devices.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) driver_version: String,
    /// Why there is nothing, or not everything.
    pub(super) note: String,
    pub(super) found: Vec<Found>,
    /// GPUs that exist only as instances now.
    pub(super) divided: Vec<DeviceId>,
}

/// A device that stood in the driver's list.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) facts: Arc<Facts>,
    /// Its figures, or in which words it refused.
    pub(super) live: Result<Live, String>,
    /// The configuration keeps it back.
    pub(super) masked: bool,
}

/// What does not change while the driver is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) id: DeviceId,
    /// The GPU it is, or is a part of.
    pub(super) gpu: DeviceId,
    pub(super) slot: SlotName,
    pub(super) model: String,
    pub(super) memory_bytes: i64,
    pub(super) pci: String,
    pub(super) minor: Option<u32>,
    pub(super) numa: Option<u32>,
    pub(super) links: Vec<DeviceId>,
    /// Of a part of a GPU, which one.
    pub(super) instance: Option<Instance>,
}

/// Figures of one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Live {
    pub(super) sample: DeviceSample,
    /// None = the driver does not tell.
    pub(super) processes: Option<Vec<(u32, Option<i64>)>>,
    /// What the GPU admits of itself.
    pub(super) signs: Signs,
    /// When it was taken up.
    pub(super) at: Timestamp,
}

/// What a GPU admits of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Signs {
    /// A defect after which it is given out no more.
    pub(super) fault: Option<&'static str>,
    /// Something that is worth a word.
    pub(super) warning: Option<&'static str>,
    /// Only a restart of the machine helps, and its other GPUs need it, too.
    pub(super) reboot: bool,
    /// It is slowed down because of its heat.
    pub(super) hot: bool,
    /// Uncorrectable errors of its memory in all its life; none = not counted.
    pub(super) uncorrectable: Option<u64>,
}

/// All devices of this life of the agent.
#[derive(Debug)]
pub(super) struct Tracker {
    cordon_xids: Vec<u32>,
    warn_xids: Vec<u32>,
    /// Without a sign for so long a GPU that was reset is well.
    quiet_ms: i64,
    cordons: Cordons,
    known: Vec<Known>,
    /// Of each GPU: when there was the last sign of sickness.
    quiet_since: BTreeMap<DeviceId, Timestamp>,
    /// Of each device: the newest XID of its GPU.
    signs: BTreeMap<DeviceId, Sign>,
    /// By GPU and number: how many there were.
    xids: BTreeMap<(DeviceId, u32), u64>,
    /// The library did not answer as a whole.
    driver_away: bool,
    looked: bool,
    unresponsive: bool,
    driver_version: String,
    note: String,
}

#[derive(Debug)]
struct Known {
    facts: Arc<Facts>,
    /// The configuration keeps it back.
    masked: bool,
    live: Option<Live>,
    /// Since when it is too hot.
    hot_since: Option<Timestamp>,
    /// The driver's word of warning, until the GPU was reset.
    warned: Option<String>,
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Lost {
    detail: String,
    answers: u8,
    /// A look had no answer: it was gone for real.
    seen: bool,
}

impl Tracker {
    pub(super) fn new(
        cordon_xids: Vec<u32>,
        warn_xids: Vec<u32>,
        quiet: Duration,
        cordons: Cordons,
    ) -> Self {
        Self {
            cordon_xids,
            warn_xids,
            quiet_ms: i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX),
            cordons,
            known: Vec::new(),
            quiet_since: BTreeMap::new(),
            signs: BTreeMap::new(),
            xids: BTreeMap::new(),
            driver_away: false,
            looked: false,
            unresponsive: false,
            driver_version: String::new(),
            note: String::new(),
        }
    }

    pub(super) fn apply(&mut self, message: Message, now: Timestamp) {
        // Whoever speaks is not stuck.
        self.unresponsive = false;
        match message {
            Message::Looked(reading) => self.on_looked(reading, now),
            Message::Xid { gpu, xid, at } => self.on_xid(&gpu, xid, at),
        }
    }

    /// What has to outlive the agent.
    pub(super) fn cordons(&self) -> &Cordons {
        &self.cordons
    }

    /// A person vouches for a device.
    pub(super) fn release(&mut self, device: &DeviceId) {
        if let Some(known) = self.known.iter().find(|k| k.facts.id == *device) {
            self.cordons.release(&known.facts.gpu);
        }
    }

    /// Notes that a call does not return; true if that is news.
    pub(super) fn set_unresponsive(&mut self) -> bool {
        !std::mem::replace(&mut self.unresponsive, true)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            looked: self.looked,
            driver_version: self.driver_version.clone(),
            note: if self.unresponsive {
                "the NVIDIA driver does not answer".to_owned()
            } else {
                self.note.clone()
            },
            signs: self.signs.clone(),
            xids: self.xids.clone(),
            ..Snapshot::default()
        };
        for (index, known) in (0_u32..).zip(&self.known) {
            let id = &known.facts.id;
            snapshot.devices.push(self.device(known, index));
            if known.masked {
                snapshot.masked.insert(id.clone());
            }
            if let Some(part) = known.facts.instance {
                snapshot.instances.insert(id.clone(), part);
            }
            let Some(live) = known.live.as_ref().filter(|_| !self.unresponsive) else {
                continue;
            };
            snapshot.samples.insert(id.clone(), live.sample.clone());
            if let Some(processes) = &live.processes {
                snapshot.processes.insert(id.clone(), processes.clone());
            }
        }
        snapshot
    }

    fn on_looked(&mut self, reading: Reading, now: Timestamp) {
        self.looked = true;
        if !reading.driver_version.is_empty() {
            self.driver_version = reading.driver_version;
        }
        // The whole list gone with a reason is the driver itself; one that is back was loaded anew.
        if reading.found.is_empty() && reading.divided.is_empty() && !reading.note.is_empty() {
            self.driver_away = true;
        } else if std::mem::take(&mut self.driver_away) {
            self.cordons.driver_is_back();
        }
        let away = self.driver_away;
        let mut found: BTreeMap<DeviceId, Found> = reading
            .found
            .into_iter()
            .map(|found| (found.facts.id.clone(), found))
            .collect();
        for known in &mut self.known {
            let back = match found.remove(&known.facts.id) {
                Some(found) => {
                    known.facts = found.facts;
                    known.masked = found.masked;
                    known.on_answer(found.live, now)
                }
                None => {
                    let divided = reading.divided.contains(&known.facts.id);
                    let why = match reading.note.as_str() {
                        _ if divided => "it is divided into instances",
                        "" => "gone from the driver's list",
                        note => note,
                    };
                    // An instance that is no more was taken away; that resets nothing.
                    let whole = known.facts.id == known.facts.gpu;
                    known.on_gone(why, whole && !divided);
                    false
                }
            };
            // One that is gone by itself has to prove that it stays; with its driver it went for
            // no reason of its own.
            if let Some(lost) = known.lost.as_ref().filter(|lost| lost.seen && !away)
                && known.live.is_none()
                && !self.cordons.is_kept(&known.facts.gpu)
            {
                self.cordons.put(&known.facts.gpu, &lost.detail, now);
            }
            if back {
                self.cordons.is_back(&known.facts.gpu);
                self.quiet_since.insert(known.facts.gpu.clone(), now);
            }
        }
        for found in found.into_values() {
            let mut known = Known {
                facts: found.facts,
                masked: found.masked,
                live: None,
                hot_since: None,
                warned: None,
                lost: None,
            };
            known.on_answer(found.live, now);
            self.known.push(known);
        }
        self.note = reading.note;
        self.judge(now);
    }

    /// What follows from what the GPUs admit.
    fn judge(&mut self, now: Timestamp) {
        let reboot = self.known.iter().any(|k| k.signs().reboot);
        for known in &self.known {
            let (gpu, signs) = (&known.facts.gpu, known.signs());
            let rose = signs
                .uncorrectable
                .is_some_and(|errors| self.cordons.count(gpu, errors, now));
            let fault = signs
                .fault
                .or_else(|| reboot.then_some("the driver asks for a restart of the machine"))
                .or_else(|| rose.then_some("uncorrectable memory errors rose twice in a day"));
            let quiet = *self.quiet_since.entry(gpu.clone()).or_insert(now);
            if let Some(fault) = fault {
                self.cordons.put(gpu, fault, now);
                self.quiet_since.insert(gpu.clone(), now);
            } else if known.lost.is_some() {
                self.quiet_since.insert(gpu.clone(), now);
            } else if signs.warning.is_none()
                && self.cordons.lift(gpu, now.since(quiet), self.quiet_ms)
            {
                tracing::info!(%gpu, "a GPU is well again and is offered");
            }
        }
    }

    fn on_xid(&mut self, gpu: &DeviceId, xid: u32, at: Timestamp) {
        let text = sign(xid, at);
        let counted = (gpu.clone(), xid);
        if self.xids.len() < MOST_XIDS || self.xids.contains_key(&counted) {
            *self.xids.entry(counted).or_default() += 1;
        }
        let mut sick = false;
        for known in self.known.iter_mut().filter(|k| k.facts.gpu == *gpu) {
            if xid == XID_OFF_THE_BUS {
                known.on_gone(&text, false);
            }
            if self.warn_xids.contains(&xid) {
                known.warned = Some(format!("{text}; a reset is advised"));
            }
            sick |= self.cordon_xids.contains(&xid);
        }
        if sick {
            self.cordons.put(gpu, &text, at);
        }
        self.quiet_since.insert(gpu.clone(), at);
        for known in self.known.iter().filter(|k| k.facts.gpu == *gpu) {
            let id = &known.facts.id;
            let number = self.signs.get(id).map_or(1, |sign| sign.number + 1);
            let text = text.clone();
            self.signs.insert(id.clone(), Sign { number, xid, text });
        }
    }

    fn device(&self, known: &Known, index: u32) -> Device {
        let (health, detail) = match (&known.lost, self.cordons.why(&known.facts.gpu)) {
            (Some(lost), _) => (Health::Lost, lost.detail.clone()),
            (None, Some(cordon)) => (Health::Cordoned, cordon),
            (None, None) if self.unresponsive => (
                Health::Unresponsive,
                "a call of the driver's library does not return".to_owned(),
            ),
            (None, None) => (Health::Healthy, known.warning()),
        };
        let facts = &*known.facts;
        Device {
            id: facts.id.clone(),
            index,
            slot: facts.slot.clone(),
            capacity: UNIT,
            model: facts.model.as_str().into(),
            memory_bytes: facts.memory_bytes,
            pci: facts.pci.clone().into(),
            minor: facts.minor,
            numa: facts.numa,
            links: facts.links.iter().cloned().collect(),
            health,
            health_detail: detail.into(),
        }
    }
}

impl Known {
    fn signs(&self) -> Signs {
        self.live.as_ref().map_or_else(Signs::default, |l| l.signs)
    }

    /// What is worth a word although it is given out; empty = nothing.
    fn warning(&self) -> String {
        let hot = self.hot_since.filter(|since| {
            let newest = self.live.as_ref().map(|live| live.at);
            newest.is_some_and(|newest| newest.0 - since.0 > HOT_MS)
        });
        let words = self.signs().warning.map(str::to_owned);
        words
            .or_else(|| self.warned.clone())
            .or_else(|| hot.map(|_| "slowed down by its heat for more than 10 minutes".to_owned()))
            .unwrap_or_default()
    }

    /// True if it was gone for real and is back.
    fn on_answer(&mut self, live: Result<Live, String>, now: Timestamp) -> bool {
        let mut live = match live {
            Ok(live) => live,
            Err(words) => {
                self.on_gone(&words, true);
                return false;
            }
        };
        live.at = now;
        self.hot_since = live.signs.hot.then(|| self.hot_since.unwrap_or(now));
        self.live = Some(live);
        let Some(lost) = &mut self.lost else {
            return false;
        };
        lost.answers += 1;
        if lost.answers < ANSWERS_TO_RETURN {
            return false;
        }
        let seen = lost.seen;
        self.lost = None;
        if seen {
            self.warned = None; // of the time before
        }
        seen
    }

    fn on_gone(&mut self, detail: &str, seen: bool) {
        self.live = None;
        // The first sign says most; later ones follow from it.
        let lost = self.lost.get_or_insert_with(|| Lost {
            detail: detail.to_owned(),
            answers: 0,
            seen,
        });
        lost.answers = 0;
        lost.seen |= seen;
    }
}

/// `XID 79 at 12:04 UTC on 2026-11-20`.
fn sign(xid: u32, at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(11..16), text.get(..10)) {
        (Some(time), Some(date)) if text.contains('T') => {
            format!("XID {xid} at {time} UTC on {date}")
        }
        _ => format!("XID {xid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_795_208_703_120);

    fn found(id: &str) -> Found {
        let id: DeviceId = id.parse().unwrap();
        Found {
            facts: Arc::new(Facts {
                id: id.clone(),
                gpu: id,
                slot: SlotName::cuda_device(),
                model: "Test".to_owned(),
                memory_bytes: 0,
                pci: String::new(),
                minor: None,
                numa: None,
                links: Vec::new(),
                instance: None,
            }),
            live: Ok(Live::default()),
            masked: false,
        }
    }

    fn looked(ids: &[&str]) -> Message {
        Message::Looked(Reading {
            found: ids.iter().map(|id| found(id)).collect(),
            ..Reading::default()
        })
    }

    fn xid(xid: u32) -> Message {
        let gpu = "GPU-a".parse().unwrap();
        Message::Xid { gpu, xid, at: AT }
    }

    fn health(tracker: &Tracker) -> Vec<(Health, String)> {
        let devices = tracker.snapshot().devices;
        devices
            .into_iter()
            .map(|d| (d.health, d.health_detail.into()))
            .collect()
    }

    fn tracker() -> Tracker {
        let (cordon, warn) = (super::super::CORDON_XIDS, super::super::WARN_XIDS);
        let quiet = Duration::from_secs(60);
        Tracker::new(cordon.to_vec(), warn.to_vec(), quiet, Cordons::new("boot"))
    }

    /// Applies messages and returns the health of the first device after each.
    fn story(messages: impl IntoIterator<Item = Message>) -> Vec<Health> {
        let mut tracker = tracker();
        messages
            .into_iter()
            .map(|message| {
                tracker.apply(message, AT);
                health(&tracker)[0].0
            })
            .collect()
    }

    #[test]
    fn a_driver_that_hangs_at_once_says_nothing_of_what_is_there() {
        let mut tracker = tracker();
        tracker.set_unresponsive();
        assert!(!tracker.snapshot().looked);
        tracker.apply(looked(&[]), AT);
        assert!(tracker.snapshot().looked, "none is an answer");
    }

    #[test]
    fn a_lost_device_answers_twice_in_a_row_before_it_may_return() {
        use Health::{Cordoned, Healthy, Lost};
        let sick = Message::Looked(Reading {
            found: vec![Found {
                live: Err("no".to_owned()),
                ..found("GPU-a")
            }],
            ..Reading::default()
        });
        assert_eq!(
            story([
                looked(&["GPU-a"]),
                looked(&[]),
                looked(&["GPU-a"]),
                sick,
                looked(&["GPU-a"]),
                looked(&["GPU-a"]),
            ]),
            [Healthy, Lost, Lost, Lost, Lost, Cordoned]
        );
    }

    #[test]
    fn xids_cordon_inform_or_lose() {
        use Health::{Cordoned, Healthy, Lost};
        let all = || looked(&["GPU-a"]);
        assert_eq!(
            story([all(), xid(31), xid(48), all(), all(), all()]),
            [Healthy, Healthy, Cordoned, Cordoned, Cordoned, Cordoned]
        );
        assert_eq!(
            story([all(), xid(79), all(), all()]),
            [Healthy, Lost, Lost, Cordoned]
        );
    }

    #[test]
    fn the_sign_is_told() {
        let mut tracker = tracker();
        tracker.apply(looked(&["GPU-a", "GPU-b"]), AT);
        tracker.apply(xid(48), AT);
        let sign = "XID 48 at 21:05 UTC on 2026-11-20; reset it, or restart the machine".to_owned();
        assert_eq!(
            health(&tracker),
            [(Health::Cordoned, sign), (Health::Healthy, String::new())]
        );
    }

    #[test]
    fn unresponsive_devices_have_no_figures_and_recover() {
        let mut tracker = tracker();
        tracker.apply(looked(&["GPU-a"]), AT);
        assert!(tracker.set_unresponsive());
        assert!(!tracker.set_unresponsive());
        let snapshot = tracker.snapshot();
        assert_eq!(snapshot.devices[0].health, Health::Unresponsive);
        assert!(snapshot.samples.is_empty());
        tracker.apply(looked(&["GPU-a"]), AT);
        assert_eq!(health(&tracker)[0].0, Health::Healthy);
        assert_eq!(tracker.snapshot().samples.len(), 1);
    }

    fn with(signs: Signs) -> Message {
        let live = Ok(Live {
            signs,
            ..Live::default()
        });
        Message::Looked(Reading {
            found: vec![Found {
                live,
                ..found("GPU-a")
            }],
            ..Reading::default()
        })
    }

    fn away() -> Message {
        Message::Looked(Reading {
            note: "the NVIDIA driver is not loaded".to_owned(),
            ..Reading::default()
        })
    }

    #[test]
    fn after_a_reset_and_a_quiet_minute_it_is_offered_again() {
        use Health::{Cordoned, Healthy, Lost};
        for gone in [looked(&[]), away()] {
            let mut tracker = tracker();
            let mut seen = Vec::new();
            let all = || looked(&["GPU-a"]);
            let story = [
                (0, all()),
                (1, xid(48)),
                (300, all()), // quiet, but it was not reset
                (301, gone),
                (302, all()),
                (303, all()),
                (362, all()),
                (363, all()),
            ];
            for (second, message) in story {
                tracker.apply(message, AT.plus_s(second));
                seen.push(health(&tracker)[0].0);
            }
            assert_eq!(
                seen,
                [
                    Healthy, Cordoned, Cordoned, Lost, Lost, Cordoned, Cordoned, Healthy
                ]
            );
        }
    }

    #[test]
    fn what_a_gpu_admits_cordons_warns_or_takes_the_others_along() {
        let mut tracker = tracker();
        tracker.apply(looked(&["GPU-a", "GPU-b"]), AT);
        let warns = Signs {
            warning: Some("pending"),
            ..Signs::default()
        };
        tracker.apply(with(warns), AT);
        assert_eq!(health(&tracker)[0], (Health::Healthy, "pending".to_owned()));
        let fault = Signs {
            fault: Some("broken"),
            ..Signs::default()
        };
        tracker.apply(with(fault), AT);
        assert_eq!(health(&tracker)[0].0, Health::Cordoned);
        tracker.apply(looked(&["GPU-a", "GPU-b"]), AT.plus_s(500));
        assert_eq!(health(&tracker)[0].0, Health::Cordoned, "it stays");
        tracker.release(&"GPU-a".parse().unwrap());
        assert_eq!(health(&tracker)[0], (Health::Healthy, String::new()));
        let mut both = looked(&["GPU-a", "GPU-b"]);
        if let Message::Looked(reading) = &mut both {
            reading.found[0].live = Ok(Live {
                signs: Signs {
                    reboot: true,
                    ..Signs::default()
                },
                ..Live::default()
            });
        }
        tracker.apply(both, AT.plus_s(600));
        let now = health(&tracker);
        assert!(now.iter().all(|(h, _)| *h == Health::Cordoned), "{now:?}");
    }

    #[test]
    fn heat_is_worth_a_word_after_ten_minutes() {
        let mut tracker = tracker();
        let hot = Signs {
            hot: true,
            ..Signs::default()
        };
        for (second, words) in [(0, false), (600, false), (601, true)] {
            tracker.apply(with(hot), AT.plus_s(second));
            let (health, detail) = health(&tracker).remove(0);
            assert_eq!((health, !detail.is_empty()), (Health::Healthy, words));
        }
        tracker.apply(looked(&["GPU-a"]), AT.plus_s(700));
        assert_eq!(health(&tracker)[0].1, "");
    }

    #[test]
    fn each_xid_is_told_once_with_its_number() {
        let mut tracker = tracker();
        tracker.apply(looked(&["GPU-a"]), AT);
        for number in 1..3 {
            tracker.apply(xid(31), AT);
            let sign = &tracker.snapshot().signs[&"GPU-a".parse().unwrap()];
            assert_eq!((sign.number, sign.xid), (number, 31));
        }
        tracker.apply(xid(63), AT);
        let (health, detail) = health(&tracker).remove(0);
        assert_eq!(health, Health::Healthy);
        assert!(detail.contains("a reset is advised"), "{detail}");
    }
}
