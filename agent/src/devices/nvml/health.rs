//! The health of each device, decided from what the calling thread told. Pure.
//!
//! Rules: an XID of the list cordons a device for this life of the agent. A device that
//! is lost comes back after two clean answers in a row, and then still has its cordon.
//! A device once seen stays in the list, so that what was granted can be named.

use super::super::Snapshot;
use longshore_common::agent::{Device, DeviceSample, Health};
use longshore_common::amount::{SlotName, UNIT};
use longshore_common::ids::DeviceId;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The GPU fell off the bus: it is lost, not only cordoned.
const XID_OFF_THE_BUS: u32 = 79;

/// Clean answers in a row after which a lost device is there again. One may be luck in
/// the middle of a reset.
const ANSWERS_TO_RETURN: u8 = 2;

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
}

/// Figures of one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Live {
    pub(super) sample: DeviceSample,
    /// None = the driver does not tell.
    pub(super) processes: Option<Vec<(u32, Option<i64>)>>,
    /// A defect the device itself admits.
    pub(super) fault: Option<&'static str>,
}

/// All devices of this life of the agent.
#[derive(Debug)]
pub(super) struct Tracker {
    cordon_xids: Vec<u32>,
    known: Vec<Known>,
    looked: bool,
    unresponsive: bool,
    driver_version: String,
    note: String,
}

#[derive(Debug)]
struct Known {
    facts: Arc<Facts>,
    live: Option<Live>,
    cordon: Option<String>,
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Lost {
    detail: String,
    answers: u8,
}

impl Tracker {
    pub(super) fn new(cordon_xids: Vec<u32>) -> Self {
        Self {
            cordon_xids,
            known: Vec::new(),
            looked: false,
            unresponsive: false,
            driver_version: String::new(),
            note: String::new(),
        }
    }

    pub(super) fn apply(&mut self, message: Message) {
        // Whoever speaks is not stuck.
        self.unresponsive = false;
        match message {
            Message::Looked(reading) => self.on_looked(reading),
            Message::Xid { gpu, xid, at } => self.on_xid(&gpu, xid, at),
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
            ..Snapshot::default()
        };
        for (index, known) in (0_u32..).zip(&self.known) {
            let id = &known.facts.id;
            snapshot
                .devices
                .push(known.device(index, self.unresponsive));
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

    fn on_looked(&mut self, reading: Reading) {
        self.looked = true;
        if !reading.driver_version.is_empty() {
            self.driver_version = reading.driver_version;
        }
        let mut found: BTreeMap<DeviceId, Found> = reading
            .found
            .into_iter()
            .map(|found| (found.facts.id.clone(), found))
            .collect();
        for known in &mut self.known {
            match found.remove(&known.facts.id) {
                Some(found) => {
                    known.facts = found.facts;
                    known.on_answer(found.live);
                }
                None if reading.divided.contains(&known.facts.id) => {
                    known.on_gone("it is divided into instances");
                }
                None if reading.note.is_empty() => known.on_gone("gone from the driver's list"),
                None => known.on_gone(&reading.note),
            }
        }
        for found in found.into_values() {
            let mut known = Known {
                facts: found.facts,
                live: None,
                cordon: None,
                lost: None,
            };
            known.on_answer(found.live);
            self.known.push(known);
        }
        self.note = reading.note;
    }

    fn on_xid(&mut self, gpu: &DeviceId, xid: u32, at: Timestamp) {
        let sign = sign(xid, at);
        for known in self.known.iter_mut().filter(|k| k.facts.gpu == *gpu) {
            if xid == XID_OFF_THE_BUS {
                known.on_gone(&sign);
            }
            if self.cordon_xids.contains(&xid) {
                known.cordon.get_or_insert_with(|| sign.clone());
            }
        }
    }
}

impl Known {
    fn on_answer(&mut self, live: Result<Live, String>) {
        let live = match live {
            Ok(live) => live,
            Err(words) => return self.on_gone(&words),
        };
        if let Some(fault) = live.fault {
            self.cordon.get_or_insert_with(|| fault.to_owned());
        }
        self.live = Some(live);
        if let Some(lost) = &mut self.lost {
            lost.answers += 1;
            if lost.answers >= ANSWERS_TO_RETURN {
                self.lost = None;
            }
        }
    }

    fn on_gone(&mut self, detail: &str) {
        self.live = None;
        // The first sign says most; later ones follow from it.
        let lost = self.lost.get_or_insert_with(|| Lost {
            detail: detail.to_owned(),
            answers: 0,
        });
        lost.answers = 0;
    }

    fn device(&self, index: u32, unresponsive: bool) -> Device {
        let (health, detail) = match (&self.lost, &self.cordon) {
            (Some(lost), _) => (Health::Lost, lost.detail.clone()),
            (None, Some(cordon)) => (Health::Cordoned, cordon.clone()),
            (None, None) if unresponsive => (
                Health::Unresponsive,
                "a call of the driver's library does not return".to_owned(),
            ),
            (None, None) => (Health::Healthy, String::new()),
        };
        let facts = &*self.facts;
        Device {
            id: facts.id.clone(),
            index,
            slot: facts.slot.clone(),
            capacity: UNIT,
            model: facts.model.as_str().into(),
            memory_bytes: facts.memory_bytes,
            pci: facts.pci.clone(),
            minor: facts.minor,
            numa: facts.numa,
            links: facts.links.iter().cloned().collect(),
            health,
            health_detail: detail,
        }
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
            }),
            live: Ok(Live::default()),
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
            .map(|d| (d.health, d.health_detail))
            .collect()
    }

    /// Applies messages and returns the health of the first device after each.
    fn story(messages: impl IntoIterator<Item = Message>) -> Vec<Health> {
        let mut tracker = Tracker::new(super::super::CORDON_XIDS.to_vec());
        messages
            .into_iter()
            .map(|message| {
                tracker.apply(message);
                health(&tracker)[0].0
            })
            .collect()
    }

    #[test]
    fn a_driver_that_hangs_at_once_says_nothing_of_what_is_there() {
        let mut tracker = Tracker::new(Vec::new());
        tracker.set_unresponsive();
        assert!(!tracker.snapshot().looked);
        tracker.apply(looked(&[]));
        assert!(tracker.snapshot().looked, "none is an answer");
    }

    #[test]
    fn a_lost_device_returns_after_two_answers_in_a_row() {
        use Health::{Healthy, Lost};
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
            [Healthy, Lost, Lost, Lost, Lost, Healthy]
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
        let mut tracker = Tracker::new(vec![48]);
        tracker.apply(looked(&["GPU-a", "GPU-b"]));
        tracker.apply(xid(48));
        let sign = "XID 48 at 21:05 UTC on 2026-11-20".to_owned();
        assert_eq!(
            health(&tracker),
            [(Health::Cordoned, sign), (Health::Healthy, String::new())]
        );
    }

    #[test]
    fn unresponsive_devices_have_no_figures_and_recover() {
        let mut tracker = Tracker::new(Vec::new());
        tracker.apply(looked(&["GPU-a"]));
        assert!(tracker.set_unresponsive());
        assert!(!tracker.set_unresponsive());
        let snapshot = tracker.snapshot();
        assert_eq!(snapshot.devices[0].health, Health::Unresponsive);
        assert!(snapshot.samples.is_empty());
        tracker.apply(looked(&["GPU-a"]));
        assert_eq!(health(&tracker)[0].0, Health::Healthy);
        assert_eq!(tracker.snapshot().samples.len(), 1);
    }
}
