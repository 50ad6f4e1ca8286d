//! What people see of themselves, as it was last written out.
//!
//! `GET /me` is what consoles and programs ask most. It differs only when something about
//! people does, and that is counted: until then the same bytes are the answer.
//!
//! | input | output |
//! |---|---|
//! | who asks by which keypair, how often anything about people has changed | the answer made since, if there is one |

use bytes::Bytes;
use longshore_common::ids::UserId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Answers that are kept; with one more all are made anew.
const MOST: usize = 10_000;

/// By whom and the keypair it was asked with; a login is none.
type By = (UserId, Option<String>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shown {
    held: Mutex<HashMap<By, (u64, Bytes)>>,
}

impl Shown {
    /// The answer that was made when so much had changed as `edition` says.
    pub(super) fn get(&self, by: &By, edition: u64) -> Option<Bytes> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, body) = held.get(by)?;
        (*made == edition).then(|| body.clone())
    }

    /// Keeps an answer. `edition` was read before the state was: what changed meanwhile
    /// makes the answer an old one.
    pub(super) fn put(&self, by: By, edition: u64, body: Bytes) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MOST {
            held.clear();
        }
        held.insert(by, (edition, body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_until_something_changes() {
        let (shown, by) = (Shown::default(), (UserId::new(1), Some("LSA".to_owned())));
        shown.put(by.clone(), 3, Bytes::from_static(b"{}"));
        assert_eq!(shown.get(&by, 3).as_deref(), Some(&b"{}"[..]));
        assert_eq!(shown.get(&by, 4), None);
        assert_eq!(shown.get(&(by.0, None), 3), None);
        for n in 0..MOST {
            shown.put((UserId::new(n as u128), None), 3, Bytes::new());
        }
        assert!(shown.held.lock().unwrap().len() <= MOST);
    }
}
