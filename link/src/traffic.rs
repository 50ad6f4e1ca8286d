//! What went over all links of this process, for its figures.

use longshore_common::wire::KINDS;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds, and behind them all that have no name here.
const SLOTS: usize = KINDS.len() + 1;
/// What frames without a name are counted as.
const OTHER: &str = "other";

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

struct Counted {
    frames: [[AtomicU64; SLOTS]; 2],
    bytes: [AtomicU64; 2],
}

static COUNTED: Counted = Counted {
    frames: [const { [const { AtomicU64::new(0) }; SLOTS] }; 2],
    bytes: [const { AtomicU64::new(0) }; 2],
};

/// Counts a frame with the bytes it has on its stream.
pub(crate) fn count(way: Way, kind: u16, bytes: usize) {
    let slot = KINDS.iter().position(|(known, _)| *known == kind);
    let frames = &COUNTED.frames[way as usize][slot.unwrap_or(KINDS.len())];
    frames.fetch_add(1, Ordering::Relaxed);
    COUNTED.bytes[way as usize].fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Frames of each kind that went one way since the process began; those of which there were none
/// are left out.
pub fn frames(way: Way) -> impl Iterator<Item = (&'static str, u64)> {
    let names = KINDS.iter().map(|(_, name)| *name).chain([OTHER]);
    let counts = COUNTED.frames[way as usize].iter();
    let all = names.zip(counts.map(|count| count.load(Ordering::Relaxed)));
    all.filter(|(_, count)| *count > 0)
}

/// Bytes of all frames that went one way since the process began.
#[must_use]
pub fn bytes(way: Way) -> u64 {
    COUNTED.bytes[way as usize].load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::wire::{Goodbye, Message as _};

    #[test]
    fn frames_are_counted_by_kind_and_way() {
        count(Way::Out, Goodbye::KIND, 9);
        count(Way::Out, Goodbye::KIND, 9);
        count(Way::Out, 999, 100);
        let out: Vec<_> = frames(Way::Out).collect();
        assert_eq!(out, [("goodbye", 2), (OTHER, 1)]);
        assert_eq!(frames(Way::In).next(), None);
        assert_eq!((bytes(Way::Out), bytes(Way::In)), (118, 0));
    }
}
