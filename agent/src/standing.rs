//! How the agent stands towards its coordinator, for whoever started it: systemd shows it in
//! `systemctl status`, and `longshore join` waits for it.

use longshore_common::agent::Inventory;
use std::fmt;

/// What is said beside the words for people when the coordinator knows what this node offers.
/// A name of ours: the manager passes over what begins with `X_`.
pub const OFFERS: &str = "X_LONGSHORE=offers";

/// The link and what went over it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nothing was tried yet.
    #[default]
    New,
    /// There is no link.
    Away {
        /// Where it was tried.
        address: String,
        /// Why there is none.
        why: String,
    },
    /// The coordinator took this agent in.
    Linked {
        /// Where it is.
        address: String,
        /// This node's name there.
        name: String,
        /// Its resource group.
        group: String,
        /// This machine's clock less the coordinator's, in milliseconds; it holds the time that
        /// the answer took on its way.
        ahead_ms: i64,
        /// What it was told this node offers; none = nothing yet.
        offers: Option<String>,
    },
}

/// Clocks that differ more are said, in milliseconds: certificates and times in logs go by them.
const SKEW_MS: i64 = 30_000;

impl Standing {
    /// The coordinator was told what this node is. Without a link nothing changes.
    pub fn told(&mut self, inventory: &Inventory) {
        if let Self::Linked { offers, .. } = self {
            let kept_back = inventory.devices.iter().filter(|d| !d.is_offered()).count();
            let mut text = inventory.capacity().to_string();
            if kept_back > 0 {
                text.push_str(&format!(" ({kept_back} devices kept back)"));
            }
            *offers = Some(text);
        }
    }

    /// Lines for the manager (`sd_notify`): `STATUS=` and, once it is so, [`OFFERS`].
    #[must_use]
    pub fn notice(&self) -> String {
        let text = self.to_string().replace(char::is_control, " ");
        match self {
            Self::Linked {
                offers: Some(_), ..
            } => format!("STATUS={text}\n{OFFERS}"),
            _ => format!("STATUS={text}"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => write!(f, "looks at this machine"),
            Self::Away { address, why } => write!(f, "no link to {address}: {why}"),
            Self::Linked {
                address,
                name,
                group,
                ahead_ms,
                offers,
            } => {
                write!(f, "linked to {address} as {name}, group {group}")?;
                if let Some(offers) = offers {
                    write!(f, "; offers {offers}")?;
                }
                match ahead_ms / 1000 {
                    _ if ahead_ms.abs() <= SKEW_MS => Ok(()),
                    s if s > 0 => write!(f, "; this clock is {s} s ahead of the coordinator's"),
                    s => write!(f, "; this clock is {} s behind the coordinator's", -s),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::amount::{SlotName, Slots, UNIT};

    fn linked(ahead_ms: i64) -> Standing {
        Standing::Linked {
            address: "gpu01:7420".to_owned(),
            name: "gpu02".to_owned(),
            group: "default".to_owned(),
            ahead_ms,
            offers: None,
        }
    }

    #[test]
    fn what_is_offered_is_said_once_the_coordinator_knows() {
        let mut standing = linked(-400);
        let bare = "STATUS=linked to gpu01:7420 as gpu02, group default";
        assert_eq!(standing.notice(), bare);
        let offered = Slots::new().with(SlotName::cpu(), 3 * UNIT);
        let inventory = Inventory {
            offered,
            ..Inventory::default()
        };
        standing.told(&inventory);
        assert_eq!(
            standing.notice(),
            format!("{bare}; offers cpu 3\nX_LONGSHORE=offers")
        );
        let mut away = Standing::New;
        away.told(&inventory);
        assert_eq!(away, Standing::New);
    }

    #[test]
    fn clocks_that_differ_are_said() {
        let ends = |ahead_ms| linked(ahead_ms).to_string();
        assert!(ends(30_000).ends_with("group default"));
        assert!(ends(30_999).ends_with("; this clock is 30 s ahead of the coordinator's"));
        assert!(ends(-61_000).ends_with("; this clock is 61 s behind the coordinator's"));
    }

    #[test]
    fn the_words_of_a_peer_make_no_lines_of_their_own() {
        let away = Standing::Away {
            address: "gpu01:7420".to_owned(),
            why: "refused\nREADY=1".to_owned(),
        };
        assert_eq!(
            away.notice(),
            "STATUS=no link to gpu01:7420: refused READY=1"
        );
    }
}
