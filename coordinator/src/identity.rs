//! Who calls: keypairs, the first administrator, secrets that are drawn here.
//!
//! | input | output |
//! |---|---|
//! | the Authorization header of a request | [`Person`], or which check failed |
//! | a set-up token and an address | the first administrator with one keypair |

use crate::pki::{fill_random, random, sha256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use longshore_common::ids::UserId;
use longshore_core::model::{Caller, Keypair, Role, State, User};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;

/// How long a set-up token is good.
const SETUP_VALID: Duration = Duration::from_secs(3600);
/// Its file in the data directory.
pub const SETUP_FILE: &str = "setup-token";
/// The secret that signs cursors, in the data directory.
const CURSOR_FILE: &str = "cursor.key";

/// A caller who proved the secret of a keypair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Id and keypair, for the engine.
    pub caller: Caller,
    /// Name.
    pub username: String,
    /// Address.
    pub email: String,
    /// What it may.
    pub role: Role,
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It brought no credential.
    Missing,
    /// Not known, or the secret is another.
    Failed,
    /// Right, but switched off.
    Inactive,
    /// Right, but the person is switched off.
    UserInactive,
}

#[derive(Debug, Clone)]
struct Known {
    secret_sha256: [u8; 32],
    active: bool,
    user_active: bool,
    person: Person,
}

struct SetupToken {
    sha256: [u8; 32],
    made: Instant,
}

/// What the API needs to know about people, in memory: no request waits for the engine
/// to learn who calls. Whoever changes users or keypairs calls [`Identity::refresh`], on the
/// engine's task: what is stored has to count although nobody waits for the answer any more.
pub struct Identity {
    known: RwLock<Everybody>,
    setup: Mutex<Option<SetupToken>>,
    data_dir: PathBuf,
}

#[derive(Default)]
struct Everybody {
    keypairs: HashMap<String, Known>,
    users: HashMap<UserId, (String, String)>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// What the stored state says.
    #[must_use]
    pub fn new(state: &State, data_dir: &Path) -> Self {
        let identity = Self {
            known: RwLock::new(Everybody::default()),
            setup: Mutex::new(None),
            data_dir: data_dir.to_owned(),
        };
        identity.refresh(state);
        identity
    }

    /// Takes over users and keypairs as they are now.
    pub fn refresh(&self, state: &State) {
        let people = || {
            state
                .keypairs
                .values()
                .filter_map(|k| Some((k, state.users.get(&k.user)?)))
        };
        let known = Everybody {
            keypairs: people()
                .map(|(k, u)| (k.access_key.clone(), know(k, u)))
                .collect(),
            users: state
                .users
                .values()
                .map(|u| (u.id, (u.username.clone(), u.email.clone())))
                .collect(),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Takes a person with a keypair in that the state does not know.
    #[cfg(test)]
    pub(crate) fn add(&self, user: &User, keypair: &Keypair) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known
            .users
            .insert(user.id, (user.username.clone(), user.email.clone()));
        known
            .keypairs
            .insert(keypair.access_key.clone(), know(keypair, user));
    }

    /// Whether there is an administrator: before, nothing but set-up works.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        !self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .users
            .is_empty()
    }

    /// The person of a name, address or id.
    #[must_use]
    pub fn user_by_ref(&self, text: &str) -> Option<UserId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let id = text.parse::<UserId>().ok();
        known
            .users
            .iter()
            .find(|(user, (name, email))| {
                Some(**user) == id
                    || name.eq_ignore_ascii_case(text)
                    || email.eq_ignore_ascii_case(text)
            })
            .map(|(user, _)| *user)
    }

    /// The name of a person.
    #[must_use]
    pub fn username(&self, user: UserId) -> Option<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.users.get(&user).map(|(name, _)| name.clone())
    }

    /// Checks the value of an Authorization header. Steps come in the order in which a
    /// caller may learn of them: nothing is told about a keypair to one without its secret.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, header: Option<&str>) -> Result<Person, Denied> {
        let (access, secret) = credentials(header.ok_or(Denied::Missing)?)?;
        let given = sha256(secret.as_bytes());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // An unknown key costs the same comparison as a known one.
        let row = known.keypairs.get(&access);
        let stored = row.map_or([0; 32], |k| k.secret_sha256);
        let same = bool::from(stored.ct_eq(&given));
        match row {
            Some(row) if same && row.active && row.user_active => Ok(row.person.clone()),
            Some(row) if same && row.active => Err(Denied::UserInactive),
            Some(_) if same => Err(Denied::Inactive),
            _ => Err(Denied::Failed),
        }
    }

    /// The person whose keypair an Authorization header names, whether its secret is right or
    /// not: for records of refusals, and for nothing that lets anybody in.
    #[must_use]
    pub fn account(&self, header: Option<&str>) -> Option<Person> {
        let (access, _) = credentials(header?).ok()?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keypairs.get(&access).map(|row| row.person.clone())
    }

    /// Draws a set-up token and writes its link into the data directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn offer_setup(&self, address: &str) -> std::io::Result<PathBuf> {
        let token = URL_SAFE_NO_PAD.encode(random::<32>());
        let path = self.data_dir.join(SETUP_FILE);
        write_secret(&path, format!("{address}/setup#{token}\n").as_bytes())?;
        *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = Some(SetupToken {
            sha256: sha256(token.as_bytes()),
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

fn know(keypair: &Keypair, user: &User) -> Known {
    Known {
        secret_sha256: keypair.secret_sha256,
        active: keypair.active,
        user_active: user.active,
        person: Person {
            caller: Caller {
                user: user.id,
                access_key: keypair.access_key.clone(),
            },
            username: user.username.clone(),
            email: user.email.clone(),
            role: user.role,
        },
    }
}

/// `Bearer access.secret` or `Basic base64(access:secret)`.
fn credentials(header: &str) -> Result<(String, String), Denied> {
    let (scheme, rest) = header.split_once(' ').ok_or(Denied::Failed)?;
    let rest = rest.trim();
    let (text, sign) = if scheme.eq_ignore_ascii_case("bearer") {
        (rest.to_owned(), '.')
    } else if scheme.eq_ignore_ascii_case("basic") {
        let bytes = STANDARD.decode(rest).map_err(|_| Denied::Failed)?;
        (String::from_utf8(bytes).map_err(|_| Denied::Failed)?, ':')
    } else {
        return Err(Denied::Failed);
    };
    let (access, secret) = text.split_once(sign).ok_or(Denied::Failed)?;
    if access.is_empty() || secret.is_empty() {
        return Err(Denied::Failed); // an access key alone opens nothing
    }
    Ok((access.to_owned(), secret.to_owned()))
}

/// A new keypair: access key and secret.
#[must_use]
pub fn new_keypair() -> (String, String) {
    let new = longshore_identity::token::keypair(&mut fill_random);
    (new.access_key, new.secret_key.expose().to_owned())
}

/// 128 bits for an id, ordered by time.
#[must_use]
pub fn new_id() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

/// The secret that signs cursors; made at the first start.
///
/// # Errors
/// The file cannot be read or written.
pub fn cursor_secret(data_dir: &Path) -> std::io::Result<[u8; 32]> {
    let path = data_dir.join(CURSOR_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(secret) => return Ok(secret),
            Err(_) => tracing::warn!("the file cursor.key is damaged and is made anew"),
        },
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Err(_) => (),
    }
    let secret = random::<32>();
    write_secret(&path, &secret)?;
    Ok(secret)
}

/// Writes a file only its owner can read, whole or not at all.
fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft); // left by a crash; its mode may be another
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keypairs_have_their_form() {
        for _ in 0..200 {
            let (access, secret) = new_keypair();
            assert_eq!((access.len(), secret.len()), (20, 43));
            assert!(
                access.starts_with("LS")
                    && access
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
            );
            assert!(secret.as_bytes()[0].is_ascii_alphanumeric());
        }
    }

    #[test]
    fn credentials_are_read_in_two_ways() {
        let basic = format!("Basic {}", STANDARD.encode("A:b:c"));
        assert_eq!(
            credentials("Bearer A.b.c"),
            Ok(("A".to_owned(), "b.c".to_owned()))
        );
        assert_eq!(credentials(&basic), Ok(("A".to_owned(), "b:c".to_owned())));
        for bad in [
            "Bearer",
            "Bearer A",
            "Bearer A.",
            "Bearer .b",
            "Digest A.b",
            "Basic !!",
        ] {
            assert_eq!(credentials(bad), Err(Denied::Failed), "{bad}");
        }
    }

    #[test]
    fn the_cursor_secret_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            cursor_secret(dir.path()).unwrap(),
            cursor_secret(dir.path()).unwrap()
        );
    }
}
