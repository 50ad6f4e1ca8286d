//! The two idle checks and how they go together.

use super::history::{IdleHistory, Shape, Source};
use super::{Check, SessionClock};
use crate::limits::{Combine, IdlePolicy, Metric, Operator, UtilizationPolicy, used_by_people};
use crate::session::SessionType;

/// What one check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) check: Check,
    /// None = never.
    pub(super) deadline_ms: Option<i64>,
    /// Its timeout or window; warnings are measured by it.
    pub(super) length_ms: i64,
    /// Whether nothing is going on right now that may move the deadline.
    pub(super) quiet: bool,
}

/// Everything both checks look at.
pub(super) struct Question<'a> {
    pub(super) policy: &'a IdlePolicy,
    pub(super) kind: SessionType,
    pub(super) clock: &'a SessionClock,
    pub(super) now_ms: i64,
}

impl Question<'_> {
    /// Where the grace ends.
    pub(super) fn grace_end_ms(&self) -> i64 {
        let from = self.clock.started_at_ms.max(self.clock.grace_from_ms());
        from.saturating_add(i64::from(self.policy.initial_grace_s) * 1000)
    }

    /// The cut of the utilisation window, if that check applies.
    pub(super) fn shape(&self) -> Option<Shape> {
        let policy = self.utilization()?;
        Some(Shape::new(self.grace_end_ms(), policy.window_s))
    }

    fn utilization(&self) -> Option<&UtilizationPolicy> {
        let policy = self.policy.utilization.as_ref()?;
        policy.judges(self.kind).then_some(policy)
    }

    /// What each check says that applies: that for use by people, that for work.
    pub(super) fn opinions(&self, history: &mut IdleHistory) -> [Option<Opinion>; 2] {
        [self.by_people(history), self.by_work(history)]
    }

    /// The check that decides, or none if no check applies.
    pub(super) fn decide(&self, opinions: [Option<Opinion>; 2]) -> Option<Opinion> {
        let (one, other) = match opinions {
            [Some(one), Some(other)] => (one, other),
            [one, other] => return one.or(other),
        };
        // On a tie the first one decides.
        let other_decides = match (self.policy.combine, one.deadline_ms, other.deadline_ms) {
            (Combine::All, None, _) | (Combine::Any, Some(_) | None, None) => false,
            (Combine::All, Some(_), None) | (Combine::Any, None, Some(_)) => true,
            (Combine::All, Some(one), Some(other)) => other > one,
            (Combine::Any, Some(one), Some(other)) => other < one,
        };
        Some(if other_decides { other } else { one })
    }

    fn by_people(&self, history: &IdleHistory) -> Option<Opinion> {
        let timeout_s = self.policy.interaction_timeout_s.filter(|s| *s > 0)?;
        if !used_by_people(self.kind) {
            return None;
        }
        let length_ms = i64::from(timeout_s) * 1000;
        let open = history.open_connections() > 0;
        let last = if open {
            self.now_ms
        } else {
            history.last_activity_ms().unwrap_or(i64::MIN)
        };
        let from = self.grace_end_ms().max(last);
        Some(Opinion {
            check: Check::Interaction,
            deadline_ms: Some(from.saturating_add(length_ms)),
            length_ms,
            quiet: !open,
        })
    }

    fn by_work(&self, history: &mut IdleHistory) -> Option<Opinion> {
        let policy = self.utilization()?;
        let shape = self.shape()?;
        history.fold(shape, policy, self.now_ms);
        let never = Opinion {
            check: Check::Utilization(Metric::Cpu),
            deadline_ms: None,
            length_ms: shape.window_ms(),
            quiet: false,
        };
        let mut decides: Option<Opinion> = None;
        for (metric, threshold) in &policy.thresholds {
            let deadline_ms = match history.source(*metric) {
                Source::NotGranted => continue,
                Source::Absent => None,
                Source::Measured => history.metric_deadline(*metric, *threshold),
            };
            let Some(deadline_ms) = deadline_ms else {
                match policy.operator {
                    Operator::And => return Some(never),
                    Operator::Or => continue,
                }
            };
            let better =
                decides
                    .and_then(|d| d.deadline_ms)
                    .is_none_or(|best| match policy.operator {
                        Operator::And => deadline_ms > best,
                        Operator::Or => deadline_ms < best,
                    });
            if better {
                decides = Some(Opinion {
                    check: Check::Utilization(*metric),
                    deadline_ms: Some(deadline_ms),
                    quiet: history.is_quiet(*metric, *threshold),
                    ..never
                });
            }
        }
        Some(decides.unwrap_or(never))
    }
}
