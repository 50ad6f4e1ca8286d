//! What the end of a container means for its session: which of several commands decide, why the
//! session ends then, and with what code.

use super::entities::{Container, Session};
use longshore_common::ids::Rank;
use longshore_common::session::{ClusterRun, End, Exit, Reason, SessionType};

impl Session {
    /// Whether this container runs the session's command, and does not only wait for the one
    /// that does.
    #[must_use]
    pub fn runs_command(&self, rank: Rank) -> bool {
        rank == Rank::MAIN || self.cluster.run == ClusterRun::All
    }

    /// Whether a container has done its part of a session in which each runs the command: it is
    /// over, and the session is not.
    #[must_use]
    pub fn is_finished(&self, container: &Container) -> bool {
        container.end.as_ref().is_some_and(|end| self.finishes(end))
    }

    /// Containers of the present attempt that still have something to do.
    pub fn unfinished(&self) -> impl Iterator<Item = &Container> {
        self.present().filter(|c| !self.is_finished(c))
    }

    /// Whether an end of one container leaves the others alone.
    pub(super) fn finishes(&self, end: &End) -> bool {
        let well = matches!(end, End::Exited(exit) if exit.code == 0);
        well && self.cluster.run == ClusterRun::All
    }

    /// The code and signal with which the main container ended while others went on: that of a
    /// session that is then stopped.
    pub(super) fn finished_before(&self) -> Option<&Exit> {
        let main = self.present().find(|c| c.key.rank == Rank::MAIN)?;
        match main.end.as_ref()? {
            End::Exited(exit) if self.cluster.run == ClusterRun::All => Some(exit),
            _ => None,
        }
    }

    /// Whether the code of this container's process is that of the session, as of now.
    pub(super) fn code_counts(&self, rank: Rank) -> bool {
        match self.cluster.run {
            ClusterRun::Main => rank == Rank::MAIN,
            // The one that decides; what is stopped because of that does not.
            ClusterRun::All => {
                self.stop.is_none() || (rank == Rank::MAIN && self.exit_code.is_none())
            }
        }
    }
}

/// Every command ended with 0.
pub(super) fn all_finished(session: &Session) -> (Reason, String) {
    let detail = match session.cluster.size {
        1 => "the command ended with 0".to_owned(),
        n => format!("the commands of all {n} containers ended with 0"),
    };
    match session.kind {
        SessionType::Batch => (Reason::TaskFinished, detail),
        _ => (Reason::SelfTerminated, detail),
    }
}

/// One of several containers that run the command ended otherwise than with 0.
fn exit_of_one(session: &Session, rank: Rank, exit: &Exit, memory: &str) -> (Reason, String) {
    if exit.oom {
        let detail = format!(
            "{rank} ran out of memory: it had {memory} (exit {})",
            exit.code
        );
        return (Reason::OutOfMemory, detail);
    }
    let detail = match exit.signal {
        Some(signal) => format!("the command of {rank} was ended by signal {signal}"),
        None => format!("the command of {rank} ended with {}", exit.code),
    };
    match session.kind {
        SessionType::Batch => (Reason::TaskFailed, detail),
        _ => (Reason::SelfTerminated, detail),
    }
}

/// What the end of a process by itself means for its session.
pub(super) fn exit_reason(session: &Session, rank: Rank, exit: &Exit) -> (Reason, String) {
    let memory = session.rank_slots(rank.0).mem_bytes();
    let memory = longshore_common::amount::format_bytes_short(memory);
    if session.cluster.run == ClusterRun::All {
        return exit_of_one(session, rank, exit, &memory);
    }
    if rank != Rank::MAIN {
        let detail = match exit {
            Exit {
                oom: true, code, ..
            } if *code != 0 => {
                let detail = format!("{rank} ran out of memory: it had {memory} (exit {code})");
                return (Reason::OutOfMemory, detail);
            }
            Exit {
                signal: Some(signal),
                ..
            } => format!("{rank} was ended by signal {signal}"),
            Exit { code, .. } => format!("{rank} ended with {code}"),
        };
        return (Reason::ContainerDied, detail);
    }
    match (session.kind, exit) {
        (
            _,
            // One of its processes was ended for that; the command got on without it if this is 0.
            Exit {
                oom: true, code, ..
            },
        ) if *code != 0 => (
            Reason::OutOfMemory,
            format!("out of memory: it had {memory} (exit {code})"),
        ),
        (SessionType::Batch, Exit { code: 0, .. }) => {
            (Reason::TaskFinished, "the command ended with 0".to_owned())
        }
        (
            SessionType::Batch,
            Exit {
                signal: Some(signal),
                ..
            },
        ) => (
            Reason::TaskFailed,
            format!("the command was ended by signal {signal}"),
        ),
        (SessionType::Batch, Exit { code, .. }) => {
            (Reason::TaskFailed, format!("the command ended with {code}"))
        }
        (_, Exit { code, .. }) => (
            Reason::SelfTerminated,
            format!("its main process ended with {code}"),
        ),
    }
}

/// A stop that an agent carried out, as a sentence.
pub(super) fn stop_detail(session: &Session, reason: Reason) -> String {
    match reason {
        Reason::LifetimeExceeded => match session.whole_life_s() {
            Some(s) => format!("its lifetime of {s} s is over"),
            None => "its lifetime is over".to_owned(),
        },
        Reason::TaskTimeout => match session.batch_timeout_s {
            Some(s) => format!("the command ran longer than its limit of {s} s"),
            None => "the command ran longer than its limit".to_owned(),
        },
        Reason::IdleTimeout => "nobody used it for longer than its policy allows".to_owned(),
        Reason::IdleUtilization => {
            "it did too little work for longer than its policy allows".to_owned()
        }
        other => format!("stopped on its node: {other}"),
    }
}
