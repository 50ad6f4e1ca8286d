//! The link that makes the first administrator.

use super::{Identity, SETUP_FILE, SETUP_VALID, write_secret};
use crate::pki::{fill_random, sha256};
use longshore_identity::token;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;
use subtle::ConstantTimeEq as _;

pub(super) struct SetupToken {
    sha256: [u8; 32],
    made: Instant,
}

impl Identity {
    /// Draws a set-up token and writes its link into the data directory. The one before is
    /// void.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn offer_setup(&self, address: &str) -> std::io::Result<PathBuf> {
        let token = token::link(&mut fill_random);
        let path = self.data_dir.join(SETUP_FILE);
        let link = format!("{address}/setup#{}\n", token.expose());
        write_secret(&path, link.as_bytes())?;
        *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = Some(SetupToken {
            sha256: *token.sha256().as_bytes(),
            made: Instant::now(),
        });
        Ok(path)
    }

    /// Whether a set-up token is the one that was offered, and not too old.
    #[must_use]
    pub fn setup_token_is_good(&self, token: &str) -> bool {
        let setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        setup.as_ref().is_some_and(|s| {
            bool::from(s.sha256.ct_eq(&sha256(token.as_bytes()))) && s.made.elapsed() < SETUP_VALID
        })
    }

    /// The token was used: it is good no longer, and its file goes.
    pub fn setup_done(&self) {
        *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.remove_setup_file();
    }

    /// Removes a file that an earlier start left.
    pub fn remove_setup_file(&self) {
        match std::fs::remove_file(self.data_dir.join(SETUP_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the file setup-token could not be removed; it is of no use any more");
            }
            _ => (),
        }
    }
}
