//! What a container was placed as, signed here: made for those who create it, read again when
//! nobody else knows it any more.

use super::{EngineError, Shared};
use crate::pki::Pki;
use longshore_common::wire::{SignedRecord, SigningInput, UnclaimedItem};
use longshore_core::model::{Placement, Stray};
use std::collections::{BTreeMap, BTreeSet};
use tracing::warn;

/// The signed text of a record.
#[must_use]
pub(crate) fn signed(pki: &Pki, placement: &Placement) -> String {
    let Ok(text) = serde_json::to_string(placement) else {
        return String::new(); // plain data always has a form
    };
    let signature = pki.sign(&SigningInput::placement(&text));
    SignedRecord::text(&signature, &text)
}

/// The record of such a text, if it was signed here and reads.
#[must_use]
fn opened(pki: &Pki, text: &str) -> Option<Box<Placement>> {
    let signed = SignedRecord::read(text)?;
    let input = SigningInput::placement(signed.record);
    let good = pki.signed(&input, &signed.signature);
    good.then(|| serde_json::from_str(signed.record).ok())?
}

/// What a node tells of containers that no order names, with what can be known of each beside
/// the state: whether its record is ours, and whether the store has its session.
pub(super) async fn strays(
    shared: &Shared,
    items: Vec<UnclaimedItem>,
) -> Result<Vec<Stray>, EngineError> {
    let ids: BTreeSet<_> = items.iter().map(|item| item.key.session).collect();
    let (mut stored, mut unread) = (BTreeMap::new(), BTreeSet::new());
    // Also of those that memory knows: they may have ended before this is judged.
    for id in ids {
        match shared.config.reader.session(id).await {
            Ok(Some(session)) => drop(stored.insert(id, session.attempt)),
            Ok(None) => (),
            // It is left alone then, which ends nothing.
            Err(error) => {
                warn!(session = %id, %error, "whether it is over is not known");
                unread.insert(id);
            }
        }
    }
    let with = |mut item: UnclaimedItem| {
        let id = item.key.session;
        let text = std::mem::take(&mut item.record);
        let read = !unread.contains(&id);
        Stray {
            record: read.then(|| opened(&shared.pki, &text)).flatten(),
            stored: stored.get(&id).copied(),
            item,
        }
    };
    Ok(items.into_iter().map(with).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::ClusterId;

    #[test]
    fn only_what_was_signed_here_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let pki = |name: &str| {
            let dir = dir.path().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            Pki::open(&dir, ClusterId::new(1), &[]).unwrap()
        };
        let (ours, theirs) = (pki("ours"), pki("theirs"));
        let input = SigningInput::placement("{}");
        assert!(ours.signed(&input, &ours.sign(&input)));
        assert!(!ours.signed(&input, &theirs.sign(&input)));
        let set = SigningInput::desired_set(b"{}");
        assert!(
            !ours.signed(&input, &ours.sign(&set)),
            "for another purpose"
        );
        let text = SignedRecord::text(&ours.sign(&input), "{}");
        assert_eq!(opened(&ours, &text), None, "it is no record");
        assert_eq!(opened(&ours, "no record at all"), None);
    }
}
