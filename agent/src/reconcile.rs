//! Pure: what is wanted, what the journal says, what the engine has - what to do next.
//!
//! One step per key at a time; the supervisor runs it and asks again. Two rules hold in
//! every branch: a process is started only if its key stands as *run* in the applied
//! set and journal and engine agree that it never ran; and absence is never a verdict.

use crate::journal::{KeyRecord, Stage};
use crate::runtime::FoundStatus;
use longshore_common::ids::Fence;
use longshore_common::session::{End, Entry, Exit, Reason, Want};
use longshore_common::time::Timestamp;

/// Everything known about one key.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its entry in the applied set.
    pub desired: Option<&'a Entry>,
    /// What the journal says.
    pub record: Option<&'a KeyRecord>,
    /// What the engine has; none = no container of this name.
    pub found: Option<&'a FoundStatus>,
    /// What the engine has was made by somebody else or of another order: it only bears the
    /// name and the labels.
    pub stray: bool,
    /// The link is up and its set is applied: what had not been started before a
    /// restart may be started, what was frozen may be thawed.
    pub synced: bool,
    /// Its order to run came to this process, and the lease under which it came holds: it may
    /// be started, link or not. Always so while `synced`.
    pub may_start: bool,
    /// The present boot.
    pub boot_id: &'a str,
    /// When it began, by the wall clock.
    pub booted_at: Timestamp,
    /// The fence of the applied set.
    pub fence: Fence,
    /// Cut off for longer than restartable containers may go on.
    pub lease_over: bool,
}

/// What to do next about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Judge whether to take it; then note the intent, pull, create.
    Prepare {
        /// It was accepted before: it is not judged again.
        accepted: bool,
    },
    /// Note that the engine has it as created.
    NoteCreated,
    /// Note the start, then start.
    Start,
    /// Take a running container over: limits, output.
    Adopt,
    /// Freeze.
    Freeze,
    /// Thaw.
    Thaw,
    /// Note how it ended.
    End(Ending),
    /// Note that it cannot start: another container has its name.
    Refuse,
    /// Stop its process.
    Stop {
        /// Seconds before the kill.
        grace_s: u32,
        /// Frozen: killed without being thawed.
        kill: bool,
    },
    /// Remove the container, its network and files; note that nothing is left.
    Remove,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(Exit),
    /// By order or by a limit.
    Stopped(Reason, Option<Exit>),
    /// Gone without us.
    Vanished {
        /// With the machine.
        rebooted: bool,
    },
}

/// The next step for one key.
#[must_use]
pub fn next_step(known: Known<'_>) -> Step {
    if known.record.is_some_and(|r| r.closed.is_some()) {
        return Step::Wait; // its outcome is on the way
    }
    let local = known.record.and_then(|r| r.local_stop);
    match known.desired {
        Some(entry) if entry.want == Want::Stop => stop(known, entry),
        Some(entry) => match local {
            Some(reason) => stop_locally(known, entry, reason),
            None => keep(known, entry),
        },
        // Ordered by nobody: a container of ours is reported and left alone, but a
        // limit that ended it, or its end, is still noted.
        None => match (known.record, known.found) {
            (Some(record), Some(FoundStatus::Exited(exit)))
                if record.ended.is_none() && !known.stray =>
            {
                Step::End(exit_ending(record, exit))
            }
            _ => Step::Wait,
        },
    }
}

/// Whether a container that has the name and the labels of a key is not the one of its order.
/// One whose id the journal has is; any other has to be made of the same order.
#[must_use]
pub fn is_stray(
    record: Option<&KeyRecord>,
    docker_id: &str,
    of_order: impl FnOnce() -> bool,
) -> bool {
    match record {
        Some(record) if record.docker_id == docker_id => false,
        // A process runs once: what was started is this id or none.
        Some(record) if record.stage == Some(Stage::Start) && !record.docker_id.is_empty() => true,
        _ => !of_order(),
    }
}

/// With a container in the way that is not the one of the order: it is neither started nor told
/// as this one's run, and nothing can be made under its name.
fn beside_stray(known: Known<'_>) -> Step {
    match known.record {
        Some(record) if record.ended.is_some() => Step::Wait,
        Some(record) if record.stage == Some(Stage::Start) => Step::End(Ending::Vanished {
            rebooted: record.boot_id != known.boot_id,
        }),
        Some(_) => Step::Refuse,
        None if known.synced => Step::Refuse,
        None => Step::Wait,
    }
}

fn keep(known: Known<'_>, entry: &Entry) -> Step {
    if known.stray {
        return beside_stray(known);
    }
    let Some(record) = known.record else {
        return match known.found {
            // The order to run follows a report that it was created: then it was here and is gone.
            None if known.synced && entry.want == Want::Run => {
                Step::End(Ending::Vanished { rebooted: false })
            }
            None if known.synced => Step::Prepare { accepted: false },
            // The journal was lost: the label says it is ours.
            Some(FoundStatus::Created) if known.synced => Step::NoteCreated,
            Some(FoundStatus::Running | FoundStatus::Paused | FoundStatus::Exited(_)) => {
                Step::Adopt
            }
            _ => Step::Wait,
        };
    };
    if record.ended.is_some() {
        return match known.found {
            // What it got is wrong or not known: it may not run on, link or not.
            Some(FoundStatus::Running | FoundStatus::Paused) if failed_its_start(record) => {
                Step::Stop {
                    grace_s: 0,
                    kill: true,
                }
            }
            _ => Step::Wait, // the coordinator says what follows
        };
    }
    match (record.stage, known.found) {
        (None, None) => Step::Prepare { accepted: false },
        (None, Some(_)) => Step::NoteCreated,
        (Some(Stage::Intent | Stage::Created), None) => Step::Prepare { accepted: true },
        (Some(Stage::Intent), Some(FoundStatus::Created)) => Step::NoteCreated,
        (Some(Stage::Created | Stage::Start), Some(FoundStatus::Created)) => {
            if entry.want == Want::Run && known.may_start && entry.fence == known.fence {
                Step::Start
            } else {
                Step::Wait
            }
        }
        (Some(Stage::Intent | Stage::Created), Some(_)) => Step::Adopt,
        (Some(Stage::Start), Some(FoundStatus::Running)) => {
            if known.lease_over && entry.restartable {
                Step::Freeze
            } else {
                Step::Wait
            }
        }
        (Some(Stage::Start), Some(FoundStatus::Paused)) => {
            if known.synced && entry.want == Want::Run && entry.fence == known.fence {
                Step::Thaw
            } else {
                Step::Wait
            }
        }
        (Some(Stage::Start), Some(FoundStatus::Exited(exit))) => {
            let rebooted = record.boot_id != known.boot_id;
            Step::End(if rebooted && !ended_before(known.booted_at, exit) {
                Ending::Vanished { rebooted }
            } else {
                Ending::Exited(exit.clone())
            })
        }
        (Some(Stage::Start), None) => Step::End(Ending::Vanished {
            rebooted: record.boot_id != known.boot_id,
        }),
    }
}

/// Whether it was started, and its start counts as failed.
fn failed_its_start(record: &KeyRecord) -> bool {
    let end = record
        .ended
        .as_ref()
        .and_then(|outcome| outcome.end.as_ref());
    record.stage == Some(Stage::Start) && matches!(end, Some(End::StartFailed { .. }))
}

/// Whether it ended by itself before the machine went down. What the engine says of those that
/// went down with the machine has a time in this boot, or the signals of a shutdown.
fn ended_before(boot: Timestamp, exit: &Exit) -> bool {
    let shut_down = matches!(exit.code, 137 | 143) && !exit.oom; // SIGKILL, SIGTERM
    exit.at < boot && !shut_down
}

/// What bears the name of a key goes with the order that ends the key, whoever made it.
fn stop(known: Known<'_>, entry: &Entry) -> Step {
    let order = entry.stop.as_ref();
    let grace_s = order.map_or(0, |s| s.grace_s);
    let reason = order.map_or(Reason::UserRequested, |s| s.reason);
    let ended = known
        .record
        .is_none_or(|r| r.ended.is_some() || r.stage.is_none());
    match known.found {
        Some(FoundStatus::Running) => Step::Stop {
            grace_s,
            kill: false,
        },
        Some(FoundStatus::Paused) => Step::Stop {
            grace_s: 0,
            kill: true,
        },
        Some(FoundStatus::Exited(exit)) if !ended && !known.stray => {
            let reason = known.record.and_then(|r| r.local_stop).unwrap_or(reason);
            Step::End(Ending::Stopped(reason, Some(exit.clone())))
        }
        Some(FoundStatus::Created | FoundStatus::Exited(_)) | None => Step::Remove,
    }
}

fn stop_locally(known: Known<'_>, entry: &Entry, reason: Reason) -> Step {
    let ended = known.record.is_none_or(|r| r.ended.is_some());
    match known.found.filter(|_| !known.stray) {
        Some(FoundStatus::Running) => Step::Stop {
            grace_s: entry.limits.grace_s,
            kill: false,
        },
        Some(FoundStatus::Paused) => Step::Stop {
            grace_s: 0,
            kill: true,
        },
        _ if ended => Step::Wait, // removed when the coordinator says stop
        Some(FoundStatus::Exited(exit)) => Step::End(Ending::Stopped(reason, Some(exit.clone()))),
        Some(FoundStatus::Created) | None => Step::End(Ending::Stopped(reason, None)),
    }
}

fn exit_ending(record: &KeyRecord, exit: &Exit) -> Ending {
    match record.local_stop {
        Some(reason) => Ending::Stopped(reason, Some(exit.clone())),
        None => Ending::Exited(exit.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::amount::Slots;
    use longshore_common::ids::{Attempt, ContainerKey, Generation, Rank, SessionId};
    use longshore_common::limits::SessionLimits;
    use longshore_common::session::{ContainerSpec, PullRule, SessionType, StopOrder};
    use longshore_common::wire::{Outcome, OutcomeNumber, Totals};
    use std::collections::BTreeMap;

    fn key() -> ContainerKey {
        ContainerKey {
            session: SessionId(1),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        }
    }

    fn entry(want: Want) -> Entry {
        Entry {
            key: key(),
            want,
            spec: ContainerSpec {
                image: "i".into(),
                digest: None,
                pull: PullRule::Digest,
                command: vec![],
                workdir: None,
                tty: false,
                environment: BTreeMap::new(),
                uid: 20000,
                gid: 20000,
                slots: Slots::new(),
                shm_bytes: 0,
                pids_max: 1,
                devices: vec![],
                hostname: "h".into(),
                owner: "o".into(),
                kind: SessionType::Batch,
                root: false,
                sudo: false,
                ports: Vec::new(),
            },
            limits: SessionLimits {
                grace_s: 30,
                ..SessionLimits::default()
            },
            stop: (want == Want::Stop).then_some(StopOrder {
                reason: Reason::UserRequested,
                grace_s: 7,
                forced: false,
            }),
            fence: Fence(1),
            first_generation: Generation(1),
            restartable: false,
            designated: false,
        }
    }

    fn record(stage: Stage) -> KeyRecord {
        KeyRecord {
            stage: Some(stage),
            boot_id: "b".into(),
            fence: Fence(1),
            docker_id: "d".into(),
            local_stop: None,
            lifetime_boot_ms: None,
            ended: None,
            closed: None,
            ended_acked: false,
        }
    }

    fn exit(code: i32) -> FoundStatus {
        FoundStatus::Exited(Exit {
            code,
            signal: None,
            oom: false,
            at: Timestamp(5),
        })
    }

    fn ask(
        want: Option<Want>,
        record: Option<KeyRecord>,
        found: Option<FoundStatus>,
        synced: bool,
    ) -> Step {
        step_of(want, record.as_ref(), found.as_ref(), synced, false)
    }

    fn step_of(
        want: Option<Want>,
        record: Option<&KeyRecord>,
        found: Option<&FoundStatus>,
        synced: bool,
        stray: bool,
    ) -> Step {
        let desired = want.map(entry);
        next_step(Known {
            desired: desired.as_ref(),
            record,
            found,
            stray,
            synced,
            may_start: synced,
            boot_id: "b",
            booted_at: Timestamp(100),
            fence: Fence(1),
            lease_over: false,
        })
    }

    #[test]
    fn the_lease_freezes_what_is_restartable_and_only_the_present_fence_thaws() {
        let step = |restartable, found, synced, lease_over, fence| {
            let entry = Entry {
                restartable,
                ..entry(Want::Run)
            };
            next_step(Known {
                desired: Some(&entry),
                record: Some(&record(Stage::Start)),
                found: Some(&found),
                stray: false,
                synced,
                may_start: synced,
                boot_id: "b",
                booted_at: Timestamp(100),
                fence,
                lease_over,
            })
        };
        use FoundStatus::{Created, Paused, Running};
        let (held, next) = (Fence(1), Fence(2));
        assert_eq!(step(true, Running, false, true, held), Step::Freeze);
        assert_eq!(step(true, Running, false, false, held), Step::Wait);
        assert_eq!(
            step(false, Running, false, true, held),
            Step::Wait,
            "it runs on"
        );
        assert_eq!(step(true, Paused, false, true, held), Step::Wait);
        assert_eq!(step(true, Paused, true, false, held), Step::Thaw);
        assert_eq!(
            step(true, Paused, true, false, next),
            Step::Wait,
            "it was given up"
        );
        assert_eq!(step(true, Created, true, false, next), Step::Wait);
    }

    #[test]
    fn the_table() {
        use FoundStatus::{Created, Paused, Running};
        use Want::{Prepare, Run, Stop as StopIt};
        let cases = [
            (Some(Prepare), None, None, Step::Prepare { accepted: false }),
            (
                Some(Prepare),
                Some(Stage::Intent),
                None,
                Step::Prepare { accepted: true },
            ),
            (
                Some(Run),
                Some(Stage::Intent),
                Some(Created),
                Step::NoteCreated,
            ),
            (
                Some(Prepare),
                Some(Stage::Created),
                Some(Created),
                Step::Wait,
            ),
            (Some(Run), Some(Stage::Created), Some(Created), Step::Start),
            (Some(Run), Some(Stage::Start), Some(Created), Step::Start),
            (Some(Run), Some(Stage::Start), Some(Running), Step::Wait),
            (Some(Run), Some(Stage::Start), Some(Paused), Step::Thaw),
            (
                Some(Run),
                Some(Stage::Start),
                None,
                Step::End(Ending::Vanished { rebooted: false }),
            ),
            (
                Some(StopIt),
                Some(Stage::Start),
                Some(Running),
                Step::Stop {
                    grace_s: 7,
                    kill: false,
                },
            ),
            (
                Some(StopIt),
                Some(Stage::Start),
                Some(Paused),
                Step::Stop {
                    grace_s: 0,
                    kill: true,
                },
            ),
            (
                Some(StopIt),
                Some(Stage::Created),
                Some(Created),
                Step::Remove,
            ),
            (Some(StopIt), Some(Stage::Intent), None, Step::Remove),
            (Some(StopIt), None, None, Step::Remove),
            (None, Some(Stage::Start), Some(Running), Step::Wait),
            (None, None, Some(Running), Step::Wait),
        ];
        for (want, stage, found, expected) in cases {
            let got = ask(want, stage.map(record), found.clone(), true);
            assert_eq!(got, expected, "{want:?} {stage:?} {found:?}");
        }
    }

    #[test]
    fn an_end_is_noted_with_the_engines_own_code() {
        let got = ask(
            Some(Want::Run),
            Some(record(Stage::Start)),
            Some(exit(3)),
            true,
        );
        assert!(matches!(
            got,
            Step::End(Ending::Exited(Exit { code: 3, .. }))
        ));
        let mut rebooted = record(Stage::Start);
        rebooted.boot_id = "earlier".into();
        let got = ask(Some(Want::Run), Some(rebooted), Some(exit(137)), true);
        assert_eq!(got, Step::End(Ending::Vanished { rebooted: true }));
    }

    #[test]
    fn an_end_from_before_a_reboot_keeps_its_code() {
        let ended = |code, signal, at| {
            let mut rebooted = record(Stage::Start);
            rebooted.boot_id = "earlier".into();
            let exit = Exit {
                code,
                signal,
                oom: false,
                at: Timestamp(at),
            };
            let found = Some(FoundStatus::Exited(exit));
            ask(Some(Want::Run), Some(rebooted), found, true)
        };
        let own = |step: Step, code| matches!(step, Step::End(Ending::Exited(e)) if e.code == code);
        assert!(own(ended(0, None, 99), 0));
        assert!(own(ended(139, Some(11), 99), 139));
        let gone = Step::End(Ending::Vanished { rebooted: true });
        assert_eq!(
            ended(0, None, 101),
            gone,
            "noted by the engine as it came back"
        );
        assert_eq!(ended(143, Some(15), 99), gone, "shut down with the machine");
    }

    #[test]
    fn what_failed_its_start_does_not_run_on() {
        use FoundStatus::{Created, Paused, Running};
        let failed = |stage| {
            let mut failed = record(Stage::Start);
            failed.stage = stage;
            failed.ended = Some(Outcome {
                key: key(),
                number: OutcomeNumber::Ended,
                end: Some(End::StartFailed {
                    cause: longshore_common::session::Cause::LocalPolicy,
                    detail: String::new(),
                }),
                started_at: None,
                at: Timestamp(0),
                tail: vec![],
                totals: Totals::default(),
                devices: Vec::new(),
            });
            Some(failed)
        };
        let kill = Step::Stop {
            grace_s: 0,
            kill: true,
        };
        for (found, expected) in [
            (Running, kill.clone()),
            (Paused, kill),
            (Created, Step::Wait),
            (exit(137), Step::Wait),
        ] {
            let started = failed(Some(Stage::Start));
            let got = ask(Some(Want::Run), started, Some(found.clone()), false);
            assert_eq!(got, expected, "{found:?}");
        }
        // An order that was refused has nothing to do with a container of that name.
        let got = ask(Some(Want::Run), failed(None), Some(Running), true);
        assert_eq!(got, Step::Wait);
    }

    #[test]
    fn alone_it_begins_nothing_and_ends_what_it_must() {
        assert_eq!(ask(Some(Want::Run), None, None, false), Step::Wait);
        let gone = Step::End(Ending::Vanished { rebooted: false });
        assert_eq!(
            ask(Some(Want::Run), None, None, true),
            gone,
            "never made a second time"
        );
        let created = Some(record(Stage::Created));
        assert_eq!(
            ask(Some(Want::Run), created, Some(FoundStatus::Created), false),
            Step::Wait
        );
        let mut over = record(Stage::Start);
        over.local_stop = Some(Reason::LifetimeExceeded);
        let got = ask(
            Some(Want::Run),
            Some(over.clone()),
            Some(FoundStatus::Running),
            false,
        );
        assert_eq!(
            got,
            Step::Stop {
                grace_s: 30,
                kill: false
            }
        );
        let got = ask(Some(Want::Run), Some(over), Some(exit(143)), false);
        assert!(matches!(
            got,
            Step::End(Ending::Stopped(Reason::LifetimeExceeded, Some(_)))
        ));
    }

    #[test]
    fn cut_off_it_starts_what_was_ordered_to_run_and_nothing_else() {
        let step = |want, stage: Option<Stage>, found: Option<&FoundStatus>, may_start| {
            let (entry, record) = (entry(want), stage.map(record));
            next_step(Known {
                desired: Some(&entry),
                record: record.as_ref(),
                found,
                stray: false,
                synced: false,
                may_start,
                boot_id: "b",
                booted_at: Timestamp(100),
                fence: Fence(1),
                lease_over: false,
            })
        };
        use FoundStatus::{Created, Paused};
        let (created, started) = (Some(Stage::Created), Some(Stage::Start));
        let there = Some(&Created);
        assert_eq!(step(Want::Run, created, there, true), Step::Start);
        assert_eq!(step(Want::Run, started, there, true), Step::Start);
        assert_eq!(step(Want::Run, created, there, false), Step::Wait);
        assert_eq!(step(Want::Prepare, created, there, true), Step::Wait);
        assert_eq!(step(Want::Run, None, None, true), Step::Wait);
        assert_eq!(step(Want::Run, started, Some(&Paused), true), Step::Wait);
    }

    #[test]
    fn a_container_of_another_order_is_neither_started_nor_told_as_its_run() {
        use FoundStatus::{Created, Paused, Running};
        let step = |want, stage: Option<Stage>, found: &FoundStatus, synced| {
            let record = stage.map(record);
            step_of(Some(want), record.as_ref(), Some(found), synced, true)
        };
        let vanished = Step::End(Ending::Vanished { rebooted: false });
        for found in [Created, Running, Paused, exit(0)] {
            for want in [Want::Prepare, Want::Run] {
                for (stage, synced, expected) in [
                    (None, true, Step::Refuse),
                    (None, false, Step::Wait),
                    (Some(Stage::Intent), false, Step::Refuse),
                    (Some(Stage::Created), true, Step::Refuse),
                    (Some(Stage::Start), true, vanished.clone()),
                ] {
                    let got = step(want, stage, &found, synced);
                    assert_eq!(got, expected, "{want:?} {stage:?} {found:?}");
                }
            }
        }
        let started = Some(Stage::Start);
        assert_eq!(step(Want::Stop, started, &exit(0), true), Step::Remove);
        assert!(matches!(
            step(Want::Stop, started, &Running, true),
            Step::Stop { .. }
        ));
    }

    #[test]
    fn the_journal_knows_a_container_by_its_id_and_an_order_by_its_label() {
        let started = record(Stage::Start);
        assert!(!is_stray(Some(&started), "d", || false), "it is known");
        assert!(is_stray(Some(&started), "another", || true), "it ran once");
        let mut intent = record(Stage::Intent);
        intent.docker_id.clear();
        for unknown in [None, Some(&intent)] {
            assert!(!is_stray(unknown, "d", || true));
            assert!(is_stray(unknown, "d", || false));
        }
    }

    #[test]
    fn what_is_closed_is_never_touched_again() {
        let mut closed = record(Stage::Start);
        closed.closed = Some(Outcome {
            key: key(),
            number: OutcomeNumber::Closed,
            end: None,
            started_at: None,
            at: Timestamp(0),
            tail: vec![],
            totals: Totals::default(),
            devices: Vec::new(),
        });
        for want in [Want::Prepare, Want::Run, Want::Stop] {
            assert_eq!(
                ask(Some(want), Some(closed.clone()), None, true),
                Step::Wait
            );
        }
    }
}
