//! From what is wanted and what is there to the next step of a key, and its beginning.

use super::accept::{Acceptance, Circumstances};
use super::watching::Watching;
use super::{Busy, Check, Doing, Done, Event, NOTE_USE_MS, Supervisor, accept, outcome, steps};
use crate::delivery::Delivered;
use crate::devices::Snapshot;
use crate::host;
use crate::host::wall_clock;
use crate::journal::{JournalError, Record, Seen};
use crate::policy::{self, Node};
use crate::reconcile::{Known, Step, is_stray, next_step};
use crate::runtime::docker::{self, is_of_order};
use crate::runtime::{
    Containers, CreateRequest, DeviceNode, Found, FoundStatus, ImageFacts, RuntimeError,
};
use longshore_common::agent::{Device, GpuWay};
use longshore_common::amount::SlotName;
use longshore_common::ids::ContainerKey;
use longshore_common::network::SessionNetwork;
use longshore_common::session::{Cause, End, Entry, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

impl<C: Containers> Supervisor<C> {
    pub(super) fn reconcile_all(&mut self) -> Result<(), JournalError> {
        let keys: BTreeSet<ContainerKey> = self
            .desired
            .keys()
            .chain(self.journal.contents().keys.keys())
            .chain(self.found.keys())
            .copied()
            .collect();
        for key in &keys {
            self.decide(*key)?;
        }
        self.release()?;
        keys.into_iter().for_each(|key| self.report(key));
        Ok(())
    }

    pub(super) fn reconcile(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        self.decide(key)?;
        self.release()?;
        self.report(key);
        Ok(())
    }

    /// Lets steps begin that were held until what they stand on is on the disk. However
    /// many they are, and with the set that ordered them, the disk is waited for once.
    pub(super) fn release(&mut self) -> Result<(), JournalError> {
        self.journal.settle()?;
        for go in self.held.drain(..) {
            let _ = go.send(()); // one that was given up meanwhile
        }
        Ok(())
    }

    /// Takes the next step of a key. What is decided is released and reported by the caller.
    pub(super) fn decide(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let stopping = self.desired.get(&key).is_some_and(|e| e.want == Want::Stop);
        let grace = self
            .desired
            .get(&key)
            .and_then(|e| e.stop.as_ref())
            .map(|s| s.grace_s);
        if let Some(busy) = self.busy.get_mut(&key) {
            let shorter = busy.doing == Doing::Stopping && grace.is_some_and(|g| g < busy.grace_s);
            if shorter {
                // The engine goes on with the longer grace and is overtaken by the shorter.
                busy.task.abort();
                self.busy.remove(&key);
            } else {
                if stopping {
                    busy.cancel = None; // nobody waits for the image any more
                }
                return Ok(());
            }
        }
        let waiting = self
            .retry_at
            .get(&key)
            .is_some_and(|at| *at > host::boot_clock_ms());
        if self.listed && !waiting {
            let step = next_step(Known {
                desired: self.desired.get(&key),
                record: self.journal.key(key),
                found: self.found.get(&key).map(|f| &f.status),
                stray: self.found.contains_key(&key) && self.own(key).is_none(),
                synced: self.synced && !self.lease_over(),
                may_start: (self.synced || self.set_is_fresh) && !self.lease_over(),
                boot_id: &self.boot_id,
                booted_at: Timestamp(wall_clock().0.saturating_sub(host::boot_clock_ms())),
                fence: self.journal.contents().fence,
                lease_over: self.lease_over() && !self.is_frozen(key),
            });
            self.perform(key, step)?;
        }
        Ok(())
    }

    /// The container of a key, if what bears its name and labels is the one that it was ordered
    /// as. What no order names is told apart by its id alone.
    pub(super) fn own(&self, key: ContainerKey) -> Option<&Found> {
        let ours = |found: &&Found| {
            let record = self.journal.key(key);
            let entry = self.desired.get(&key);
            let order = entry.filter(|entry| entry.want != Want::Stop);
            let same = || order.is_none_or(|order| is_of_order(&found.spec_hash, &order.spec));
            !is_stray(record, &found.docker_id, same)
        };
        self.found.get(&key).filter(ours)
    }

    pub(super) fn perform(&mut self, key: ContainerKey, step: Step) -> Result<(), JournalError> {
        if matches!(step, Step::Thaw | Step::Stop { .. } | Step::Remove) {
            self.journal.settle()?; // the set that orders it; the others write something themselves
        }
        match step {
            Step::Wait => (),
            Step::Prepare { accepted } => self.prepare(key, accepted)?,
            Step::NoteCreated => self.note_created(key)?,
            Step::Start => self.start_container(key)?,
            Step::Adopt => self.adopt(key)?,
            Step::Thaw => {
                let Some(found) = self.found.get(&key).cloned() else {
                    return Ok(());
                };
                let runtime = Arc::clone(&self.runtime);
                let step = steps::thaw(runtime, key, found, self.freezer.clone());
                self.spawn(key, Doing::Freezing, step);
            }
            Step::Freeze => {
                let Some(found) = self.found.get(&key).cloned() else {
                    return Ok(());
                };
                warn!(%key, "cut off for too long: frozen until the coordinator is back");
                let runtime = Arc::clone(&self.runtime);
                self.spawn(key, Doing::Freezing, steps::freeze(runtime, key, found));
            }
            Step::End(ending) => self.end(key, ending),
            Step::Refuse => {
                let found = self.found.get(&key);
                let error = steps::name_taken(found.map_or("", |f| &f.docker_id));
                self.failed_start(key, error)?;
            }
            Step::Stop { grace_s, kill } => {
                let Some(found) = self.found.get(&key) else {
                    return Ok(());
                };
                let kill = self.end_frozen(found) || kill;
                let left_ms = if kill { 0 } else { i64::from(grace_s) * 1000 };
                let dead_ms = host::boot_clock_ms().saturating_add(left_ms);
                self.stuck.killed(key, dead_ms);
                let (runtime, id) = (Arc::clone(&self.runtime), found.docker_id.clone());
                self.spawn(
                    key,
                    Doing::Stopping,
                    steps::stop(runtime, key, id, grace_s, kill),
                );
                if let Some(busy) = self.busy.get_mut(&key) {
                    busy.grace_s = grace_s;
                }
            }
            Step::Remove => {
                let id = self.found.get(&key).map(|f| f.docker_id.clone());
                let (runtime, logs) = (Arc::clone(&self.runtime), Arc::clone(&self.logs));
                self.spawn(key, Doing::Removing, steps::remove(runtime, logs, key, id));
            }
        }
        Ok(())
    }

    pub(super) fn spawn(
        &mut self,
        key: ContainerKey,
        doing: Doing,
        step: impl Future<Output = Done> + Send + 'static,
    ) {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let done = step.await;
            let _ = events.send(Event::Step(key, done)).await; // without supervisor nobody asks
        });
        self.busy.insert(
            key,
            Busy {
                doing,
                task: task.abort_handle(),
                again: false,
                grace_s: 0,
                cancel: None,
            },
        );
    }

    pub(super) fn prepare(
        &mut self,
        key: ContainerKey,
        accepted: bool,
    ) -> Result<(), JournalError> {
        let Some(entry) = self.desired.get(&key).cloned() else {
            return Ok(());
        };
        if self.waits_for_gpus(&entry) {
            return Ok(());
        }
        // Asked before each create: what was accepted before may have been by another policy.
        let allowed = |node: &Node| policy::check(&entry.spec, &self.config.policy, node);
        if let Err(detail) = allowed(&self.node(key, |_| true)) {
            if allowed(&self.node(key, |other| other.want != Want::Stop)).is_ok() {
                return Ok(()); // without what is being stopped it fits: asked again when that is gone
            }
            warn!(%key, %detail, "order refused");
            let cause = Cause::LocalPolicy;
            let end = End::StartFailed { cause, detail };
            return self.store_ended(outcome(key, OutcomeNumber::Ended, Some(end)));
        }
        if !accepted {
            match self.judge(&entry) {
                Acceptance::Taken => (),
                Acceptance::Wait => return Ok(()),
                Acceptance::Refused(cause, detail) => {
                    warn!(%key, %cause, %detail, "order refused");
                    let end = End::StartFailed { cause, detail };
                    return self.store_ended(outcome(key, OutcomeNumber::Ended, Some(end)));
                }
            }
        }
        let lifetime_boot_ms = entry
            .limits
            .lifetime
            .map(|d| host::boot_clock_ms().saturating_add(d.remaining_ms));
        self.journal.put(vec![Record::Intent {
            key,
            fence: entry.fence,
            boot_id: self.boot_id.clone(),
            lifetime_boot_ms,
        }])?;
        info!(%key, image = %entry.spec.image, "preparing");
        let request = self.request(&entry);
        let (cancel, cancelled) = oneshot::channel();
        let step = steps::prepare(
            Arc::clone(&self.runtime),
            Arc::clone(&self.shared),
            self.events.clone(),
            request,
            cancelled,
        );
        let (go, gate) = oneshot::channel();
        self.held.push(go);
        self.spawn(key, Doing::Pulling, async move {
            match gate.await {
                Ok(()) => step.await,
                Err(_) => Done::Found(Err(RuntimeError::Unreachable(
                    "the agent is stopping".to_owned(), // nobody hears it
                ))),
            }
        });
        if let Some(busy) = self.busy.get_mut(&key) {
            busy.cancel = Some(cancel);
        }
        Ok(())
    }

    /// What the node has besides one container, of those that count.
    fn node(&self, key: ContainerKey, counts: impl Fn(&Entry) -> bool) -> Node {
        let others = self.desired.values().filter(|other| {
            let record = self.journal.key(other.key);
            let here = record.is_some_and(|r| r.stage.is_some() && r.closed.is_none());
            other.key != key && here && counts(other)
        });
        let mem = SlotName::mem();
        let amounts: Vec<i64> = others.map(|o| o.spec.slots.amount(&mem)).collect();
        let root = match self.engine.root.as_os_str().is_empty() {
            true => std::path::Path::new("/"),
            false => &self.engine.root,
        };
        // What takes the place of another try of its session gives back as much as it takes.
        let mut known = self.journal.contents().keys.keys();
        let replaces = known.any(|other| {
            let same = (other.session, other.rank) == (key.session, key.rank);
            same && other.attempt != key.attempt
        });
        let disk = (!replaces).then(|| host::disk(root).ok()).flatten();
        Node {
            containers: amounts.len(),
            mem: amounts.into_iter().fold(0, i64::saturating_add),
            disk: disk.map(|disk| (disk.free, disk.total)),
        }
    }

    /// Whether it has devices while nobody has looked at them yet: what it gets and should get
    /// cannot be told. Each look comes as an event, after which all are asked again.
    pub(super) fn waits_for_gpus(&self, entry: &Entry) -> bool {
        !entry.spec.devices.is_empty() && !self.gpus.borrow().looked
    }

    pub(super) fn judge(&self, entry: &Entry) -> Acceptance {
        let outbox = self.shared.outbox();
        let Some(inventory) = outbox.inventory.1.clone() else {
            return Acceptance::Wait;
        };
        drop(outbox);
        let strangers = self.held_by_strangers(entry);
        let others: Vec<&Entry> = self
            .desired
            .values()
            .filter(|e| e.key != entry.key)
            .filter(|e| {
                let record = self.journal.key(e.key);
                record.is_some_and(|r| r.stage.is_some() && r.closed.is_none())
            })
            .chain(&strangers)
            .collect();
        accept::judge(
            entry,
            &Circumstances {
                schedulable: self.set.as_ref().is_some_and(|s| s.schedulable),
                local_cordon: self.config.local_cordon,
                fence: self.journal.contents().fence,
                inventory: &inventory,
                others: &others,
            },
        )
    }

    pub(super) fn request(&self, entry: &Entry) -> CreateRequest {
        let snapshot = self.gpus.borrow();
        let has_gpu = !entry.spec.devices.is_empty();
        let gpu_way = if has_gpu {
            self.gpu_way(&snapshot.devices)
        } else {
            None
        };
        CreateRequest {
            key: entry.key,
            cluster: self.config.cluster,
            agent: self.config.agent,
            fence: entry.fence,
            spec: entry.spec.clone(),
            image: ImageFacts::default(),
            grace_s: entry.limits.grace_s,
            not_after: entry.limits.lifetime.map(|d| d.at),
            device_nodes: match gpu_way {
                Some(way) => self.device_nodes(entry, &snapshot, way),
                None => Vec::new(),
            },
            gpu_way,
            delivered: Delivered::default(),
            network: self.network_of(entry.key),
        }
    }

    /// The nodes of the granted GPUs, and of what parts of GPUs are used by where nobody else adds
    /// that. With one of them unknown all are: a part of them would look like the whole.
    pub(super) fn device_nodes(
        &self,
        entry: &Entry,
        snapshot: &Snapshot,
        way: GpuWay,
    ) -> Vec<DeviceNode> {
        let (mut minors, mut parts) = (BTreeSet::new(), BTreeSet::new());
        let mut known = true;
        for grant in &entry.spec.devices {
            let device = snapshot.devices.iter().find(|d| d.id == grant.device);
            let Some(minor) = device.and_then(|device| device.minor) else {
                known = false;
                continue;
            };
            minors.insert(minor);
            if grant.slot.as_str().starts_with("cuda.mig-") {
                match snapshot.instances.get(&grant.device) {
                    Some(part) => drop(parts.insert((minor, *part))),
                    None => known = known && way != GpuWay::Nodes,
                }
            }
        }
        let parts: Vec<_> = parts.into_iter().collect();
        let (devices, capabilities) = (&self.config.device_dir, &self.config.capabilities);
        let of_parts = docker::capability_nodes(devices, capabilities, &parts);
        // The other ways add them by themselves; there they only say what is compared.
        known &= of_parts.is_some() || way != GpuWay::Nodes;
        let minors: Vec<u32> = minors.into_iter().filter(|_| known).collect();
        let mut nodes = docker::device_nodes(devices, &minors);
        nodes.extend(of_parts.unwrap_or_default().into_iter().filter(|_| known));
        nodes
    }

    /// How a container and the others of its session reach each other.
    fn network_of(&self, key: ContainerKey) -> Option<SessionNetwork> {
        let mut networks = self.set.iter().flat_map(|set| &set.networks);
        let of = networks.find(|of| (of.session, of.attempt) == (key.session, key.attempt));
        of.cloned()
    }

    /// The first way that passed its self-test and knows every GPU of this node.
    pub(super) fn gpu_way(&self, devices: &[Device]) -> Option<GpuWay> {
        let mut ways = self.gpu_ways(devices).into_iter();
        ways.find_map(|(way, test)| test.is_ok().then_some(way))
    }

    /// What the self-test of each way says, for the GPUs that are here.
    pub(super) fn gpu_ways(&self, devices: &[Device]) -> Vec<(GpuWay, Result<(), String>)> {
        let mut ids = devices.iter().map(|device| device.id.as_str());
        let unnamed = ids.find(|id| !self.engine.cdi_names.contains(*id));
        let mut ways = self.engine.gpu_ways.clone();
        for (way, test) in &mut ways {
            if let (GpuWay::Cdi, Ok(()), Some(id)) = (*way, &test, unnamed) {
                *test = Err(format!("no CDI spec names {id}"));
            }
        }
        ways
    }

    /// Docker has it as created; before, we may have been killed between the two.
    pub(super) fn note_created(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let Some(found) = self.found.get(&key).cloned() else {
            return Ok(());
        };
        let mut records = Vec::new();
        if self.journal.key(key).and_then(|r| r.stage).is_none() {
            records.push(self.intent(key, &found));
        }
        records.push(Record::Created {
            key,
            docker_id: found.docker_id,
        });
        self.journal.write(records)?;
        self.decide(key)
    }

    pub(super) fn intent(&self, key: ContainerKey, found: &Found) -> Record {
        let lifetime = self.desired.get(&key).and_then(|e| e.limits.lifetime);
        Record::Intent {
            key,
            fence: found.fence,
            boot_id: self.boot_id.clone(),
            lifetime_boot_ms: lifetime
                .map(|d| host::boot_clock_ms().saturating_add(d.remaining_ms)),
        }
    }

    pub(super) fn start_container(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let (Some(entry), Some(found)) = (self.desired.get(&key), self.found.get(&key)) else {
            return Ok(());
        };
        if self.waits_for_gpus(entry) {
            return Ok(());
        }
        let (request, docker_id) = (self.request(entry), found.docker_id.clone());
        let shared = Arc::clone(&self.shared);
        let start = Record::Start {
            key,
            boot_id: self.boot_id.clone(),
        };
        let seen = Seen {
            boot_id: self.boot_id.clone(),
            ..Seen::default()
        };
        self.journal.write(vec![start, Record::Seen(key, seen)])?;
        // From now on it may run, whatever becomes of the step.
        self.checks.insert(key, Check::new(true));
        let step = steps::start(Arc::clone(&self.runtime), shared, docker_id, request);
        self.spawn(key, Doing::Starting, step);
        Ok(())
    }

    /// A container that ran without a word in the journal: the labels say it is ours.
    pub(super) fn adopt(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let Some(found) = self.found.get(&key).cloned() else {
            return Ok(());
        };
        info!(%key, docker_id = %found.docker_id, "adopted");
        let mut records = Vec::new();
        if self.journal.key(key).and_then(|r| r.stage).is_none() {
            records.push(self.intent(key, &found));
        }
        records.push(Record::Created {
            key,
            docker_id: found.docker_id.clone(),
        });
        records.push(Record::Start {
            key,
            boot_id: self.boot_id.clone(),
        });
        self.journal.write(records)?;
        self.follow(key, &found);
        self.decide(key)
    }

    /// Output and limits of a container that runs, or ran while we did not look.
    pub(super) fn follow(&mut self, key: ContainerKey, found: &Found) {
        if self.watching.contains_key(&key) {
            return;
        }
        if let Err(error) = self.logs.begin(key) {
            warn!(%key, %error, "output cannot be kept");
        }
        let (done, output) = watch::channel(false);
        let now = host::boot_clock_ms();
        let age = found
            .started_at
            .map_or(0, |at| wall_clock().since(at).max(0));
        let lifetime = self.journal.key(key).and_then(|r| r.lifetime_boot_ms);
        let by_kernel = found.pid.and_then(host::started_boot_ms);
        let started = by_kernel.unwrap_or(now.saturating_sub(age)).min(now);
        let mut watching = Watching::new(found.pid, started, lifetime, output);
        if let Some(sums) = self.journal.contents().sums.get(&key) {
            watching.take_up(sums, now);
        }
        let idle = self.journal.contents().idle.get(&key);
        let idle = idle.filter(|idle| idle.boot_id == self.boot_id).cloned();
        // Of one that was warned each use was noted, with the tick after it.
        let exact = idle.is_some_and(|idle| watching.recall(idle));
        if let Some(entry) = self.desired.get(&key) {
            watching.take_limits(&entry.limits, self.set_boot_ms);
        }
        watching.sample(None, &Snapshot::default(), now);
        let seen = self.journal.contents().seen.get(&key);
        match seen.map(|seen| (&seen.boot_id, seen.used_boot_ms)) {
            Some((boot_id, Some(at))) if exact && *boot_id == self.boot_id => {
                watching.was_used(at.min(now));
            }
            // Noted now and then: it may have been used a little later than that.
            Some((boot_id, Some(at))) if *boot_id == self.boot_id => {
                watching.was_used(at.saturating_add(NOTE_USE_MS).min(now));
            }
            Some(_) => (),
            None => watching.was_used(now), // nobody knows, and nobody is to suffer for it
        }
        if let Some((boot_id, end_ms)) = self.journal.contents().signalled.get(&key)
            && *boot_id == self.boot_id
        {
            watching.was_signalled(*end_ms);
        }
        // A process that was killed between start and check, or before there was a word of it.
        let runs = matches!(found.status, FoundStatus::Running | FoundStatus::Paused);
        let ended = self.journal.key(key).is_none_or(|r| r.ended.is_some());
        if runs && !ended && seen.is_none_or(|seen| !seen.checked) {
            let check = Check::new(seen.is_some());
            self.checks.entry(key).or_insert(check);
        }
        self.watching.insert(key, watching);
        if let Some(entry) = self.desired.get(&key).filter(|_| runs && !ended) {
            tokio::spawn(steps::deliver_again(
                Arc::clone(&self.runtime),
                Arc::clone(&self.shared),
                self.request(entry),
                self.events.clone(),
            ));
        }
        tokio::spawn(steps::pump(
            Arc::clone(&self.runtime),
            Arc::clone(&self.logs),
            key,
            found.docker_id.clone(),
            done,
            self.pings.subscribe(),
            self.events.clone(),
        ));
    }
}
