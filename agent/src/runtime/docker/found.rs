//! Reads what the engine tells about a container of ours. Pure.

use super::request::LABEL;
use crate::runtime::{Found, FoundStatus};
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
};
use longshore_common::ids::{Attempt, ClusterId, ContainerKey, Fence};
use longshore_common::session::Exit;
use longshore_common::time::Timestamp;
use std::collections::HashMap;

/// The key that the labels name; none = not one of our sessions' containers.
#[must_use]
pub(crate) fn key_of(labels: &HashMap<String, String>) -> Option<ContainerKey> {
    let label = |name: &str| labels.get(&format!("{LABEL}{name}"));
    Some(ContainerKey {
        session: label("session")?.parse().ok()?,
        rank: label("rank")?.parse().ok()?,
        attempt: Attempt(label("attempt")?.parse().ok()?),
    })
}

/// The key of a listed container that was made for it. An image may bring labels of its own
/// along: only the name says who made the container.
#[must_use]
pub(super) fn listed_key(summary: &ContainerSummary, cluster: ClusterId) -> Option<ContainerKey> {
    let key = key_of(summary.labels.as_ref()?)?;
    let name = key.docker_name(cluster);
    let names = summary.names.iter().flatten();
    let mut names = names.map(|given| given.strip_prefix('/').unwrap_or(given));
    names.any(|given| given == name).then_some(key)
}

/// A container from the engine's full description; none = not one of ours.
#[must_use]
pub(super) fn found(inspect: &ContainerInspectResponse) -> Option<Found> {
    let labels = inspect.config.as_ref()?.labels.as_ref()?;
    let label = |name: &str| {
        labels
            .get(&format!("{LABEL}{name}"))
            .cloned()
            .unwrap_or_default()
    };
    let state = inspect.state.as_ref()?;
    let started_at = state.started_at.as_deref().and_then(instant);
    let status = status(state, started_at);
    let runs = matches!(status, FoundStatus::Running | FoundStatus::Paused);
    Some(Found {
        key: key_of(labels)?,
        docker_id: inspect.id.clone()?,
        fence: Fence(label("fence").parse().unwrap_or(0)),
        spec_hash: label("spec"),
        image: label("image"),
        record: label("record").into(),
        claim: serde_json::from_str(&label("claim")).unwrap_or_default(),
        pid: state
            .pid
            .filter(|pid| runs && *pid > 0)
            .and_then(|pid| u32::try_from(pid).ok()),
        status,
        started_at,
    })
}

fn status(state: &ContainerState, started_at: Option<Timestamp>) -> FoundStatus {
    use ContainerStateStatusEnum as S;
    match state.status {
        Some(S::RUNNING | S::RESTARTING | S::STOPPING) => FoundStatus::Running,
        Some(S::PAUSED) => FoundStatus::Paused,
        Some(S::EXITED | S::DEAD | S::REMOVING) if started_at.is_some() => {
            FoundStatus::Exited(exit(state, started_at))
        }
        Some(S::CREATED | S::EXITED | S::DEAD | S::REMOVING | S::EMPTY) | None => {
            FoundStatus::Created
        }
    }
}

fn exit(state: &ContainerState, started_at: Option<Timestamp>) -> Exit {
    let code = i32::try_from(state.exit_code.unwrap_or(0)).unwrap_or(i32::MAX);
    Exit {
        code,
        // 64 is the highest signal; above it the code was the program's own choice.
        signal: (code > 128 && code <= 128 + 64).then_some(code - 128),
        oom: state.oom_killed.unwrap_or(false),
        at: state
            .finished_at
            .as_deref()
            .and_then(instant)
            .or(started_at)
            .unwrap_or_default(),
    }
}

/// An instant of the engine; none for its "never" (the year 1).
#[must_use]
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|at: &Timestamp| at.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerConfig;

    fn inspected(state: ContainerState) -> ContainerInspectResponse {
        let labels = [
            ("session", "s-7"),
            ("rank", "sub2"),
            ("attempt", "3"),
            ("fence", "5"),
            ("spec", "00ff"),
        ]
        .map(|(name, value)| (format!("{LABEL}{name}"), value.to_owned()));
        ContainerInspectResponse {
            id: Some("abc".to_owned()),
            state: Some(state),
            config: Some(ContainerConfig {
                labels: Some(labels.into()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn state(status: ContainerStateStatusEnum, code: i64) -> ContainerState {
        ContainerState {
            status: Some(status),
            exit_code: Some(code),
            pid: Some(17),
            started_at: Some("2026-11-20T21:05:03.123456789Z".to_owned()),
            finished_at: Some("2026-11-20T21:05:04.5Z".to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn labels_name_the_key() {
        let found = found(&inspected(state(ContainerStateStatusEnum::RUNNING, 0))).unwrap();
        assert_eq!(found.key.to_string(), "s-7-sub2-a3");
        assert_eq!(
            (found.fence, found.spec_hash.as_str(), found.pid),
            (Fence(5), "00ff", Some(17))
        );
        assert_eq!(found.started_at, Some(Timestamp(1_795_208_703_123)));
        assert_eq!(found.status, FoundStatus::Running);
    }

    #[test]
    fn labels_of_an_image_make_no_container_ours() {
        let labels = inspected(state(ContainerStateStatusEnum::CREATED, 0));
        let labels = labels.config.and_then(|config| config.labels);
        let cluster = ClusterId::new(1);
        let with = |name: String| ContainerSummary {
            labels: labels.clone(),
            names: Some(vec![name]),
            ..Default::default()
        };
        let short = cluster.short();
        let own = with(format!("/longshore-{short}-s-7-sub2-a3"));
        assert!(listed_key(&own, cluster).is_some());
        let probe = with(format!("/longshore-{short}-probe-00000000-abc"));
        assert_eq!(listed_key(&probe, cluster), None);
        assert_eq!(listed_key(&own, ClusterId::new(1 << 100)), None);
    }

    #[test]
    fn exits_carry_code_signal_and_time() {
        for (code, signal) in [
            (0, None),
            (3, None),
            (128, None),
            (137, Some(9)),
            (143, Some(15)),
            (192, Some(64)),
            (255, None),
        ] {
            let found = found(&inspected(state(ContainerStateStatusEnum::EXITED, code))).unwrap();
            let FoundStatus::Exited(exit) = found.status else {
                panic!("{:?}", found.status)
            };
            assert_eq!((i64::from(exit.code), exit.signal), (code, signal));
            assert_eq!(exit.at, Timestamp(1_795_208_704_500));
            assert_eq!(found.pid, None);
        }
    }

    #[test]
    fn never_started_is_created() {
        let mut never = state(ContainerStateStatusEnum::CREATED, 127);
        never.started_at = Some("0001-01-01T00:00:00Z".to_owned());
        let found = found(&inspected(never)).unwrap();
        assert_eq!(
            (found.status, found.started_at),
            (FoundStatus::Created, None)
        );
    }

    #[test]
    fn strangers_are_none_of_ours() {
        let mut other = inspected(state(ContainerStateStatusEnum::RUNNING, 0));
        other.config = Some(ContainerConfig::default());
        assert_eq!(found(&other), None);
    }
}
