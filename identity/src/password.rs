//! Passwords: Argon2id for people, plain or bcrypt for fixed users, and drawn ones.
//!
//! Each check takes 10 to 20 ms and the memory of [`Params`]; call it where blocking is
//! allowed, behind a permit that bounds how many run at a time.

use crate::fields::nfc;
use crate::{Fill, Secret, Sha256, draw};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{self, CustomizedPasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A longer try is wrong without being hashed as given: no password that may be set is
/// longer (128 characters of at most 4 bytes), and plain text of a file hardly ever is.
const LONGEST_TRY: usize = 4096;
/// Bytes of salt of a new hash.
const SALT: usize = 16;
/// Bytes of output of a new hash.
const OUTPUT: usize = 32;

/// What an Argon2id hash costs (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The parameters are outside of what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Less or more memory.
    #[error("memory_kib must be between 19456 and 4194304")]
    Memory,
    /// Fewer or more passes.
    #[error("passes must be between 2 and 64")]
    Passes,
    /// Fewer or more lanes.
    #[error("lanes must be between 1 and 16")]
    Lanes,
}

impl Params {
    /// Parameters for new hashes.
    ///
    /// `memory_kib` 19456-4194304, `passes` 2-64, `lanes` 1-16. The lower bounds are the
    /// specified minimum; the upper ones keep a typing error from stopping every login.
    ///
    /// # Errors
    /// The first value outside of its range.
    pub const fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, ParamsError> {
        if memory_kib < 19_456 || memory_kib > 4_194_304 {
            return Err(ParamsError::Memory);
        }
        if passes < 2 || passes > 64 {
            return Err(ParamsError::Passes);
        }
        if lanes < 1 || lanes > 16 {
            return Err(ParamsError::Lanes);
        }
        Ok(Self {
            memory_kib,
            passes,
            lanes,
        })
    }

    fn for_argon2(self) -> Result<argon2::Params, HashError> {
        argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(OUTPUT))
            .map_err(|_| HashError::Failed)
    }
}

impl Default for Params {
    /// 19456 KiB, 2 passes, 1 lane.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
        }
    }
}

/// A password could not be hashed or checked. Neither tells right from wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The stored text is no PHC string of Argon2.
    #[error("the stored password hash is not readable")]
    Stored,
    /// No memory, or parameters that the algorithm refuses.
    #[error("the password could not be hashed")]
    Failed,
}

/// What a login with a password came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Another password, or there is none to compare with.
    Wrong,
    /// The right one.
    Right {
        /// It was hashed with other parameters: store a new hash of it.
        rehash: bool,
    },
}

/// Hashes a password that keeps the rules: Argon2id, version 0x13, 16 bytes of random
/// salt, 32 bytes of output, as a PHC string of at most 128 bytes.
///
/// # Errors
/// [`HashError::Failed`].
pub fn hash(password: &str, params: Params, fill: &mut Fill<'_>) -> Result<String, HashError> {
    let salt: [u8; SALT] = draw(fill);
    let hashed: PasswordHash = Argon2::default()
        .hash_password_customized(
            nfc(password).as_bytes(),
            &salt,
            Some(Algorithm::Argon2id.ident().as_str()),
            Some(Version::V0x13.into()),
            params.for_argon2()?,
        )
        .map_err(|_| HashError::Failed)?;
    Ok(hashed.to_string())
}

/// Whether `password` is the one that `stored` was made from. The parameters are those of
/// the stored hash.
///
/// # Errors
/// [`HashError`]; a wrong password is none.
pub fn verify(password: &str, stored: &str) -> Result<bool, HashError> {
    let parsed = PasswordHash::new(stored).map_err(|_| HashError::Stored)?;
    if parsed.salt.is_none() || parsed.hash.is_none() {
        return Err(HashError::Stored); // the library would call any password wrong
    }
    // What is too long cannot match, but costs the same work as any other.
    let fits = password.len() <= LONGEST_TRY;
    let text = if fits { nfc(password) } else { String::new() };
    let matched = match Argon2::default().verify_password(text.as_bytes(), &parsed) {
        Ok(()) => true,
        Err(password_hash::Error::PasswordInvalid) => false,
        Err(password_hash::Error::OutOfMemory | password_hash::Error::Internal) => {
            return Err(HashError::Failed);
        }
        Err(_) => return Err(HashError::Stored),
    };
    Ok(matched && fits)
}

/// Whether a stored hash was made with other parameters than those wanted now.
/// What cannot be read needs one too.
#[must_use]
pub fn needs_rehash(stored: &str, params: Params) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else {
        return true;
    };
    let number = |name: &str| parsed.params.get_decimal(name);
    let same = parsed.algorithm == Algorithm::Argon2id.ident()
        && parsed.version == Some(Version::V0x13.into())
        && number("m") == Some(params.memory_kib)
        && number("t") == Some(params.passes)
        && number("p") == Some(params.lanes)
        && parsed.salt.as_ref().is_some_and(|s| s.len() == SALT)
        && parsed.hash.as_ref().is_some_and(|h| h.len() == OUTPUT);
    !same
}

/// A hash that no known password has and that costs as much as a real one. It is checked
/// for unknown names, so that they take as long as known ones.
#[must_use]
pub fn dummy(params: Params) -> String {
    // The text, not its hash, is fixed: nothing needs to be computed for it, and finding
    // a password for it means finding a preimage.
    format!(
        "$argon2id$v=19$m={},t={},p={}$bG9uZ3Nob3JlLWR1bW15IQ${}",
        params.memory_kib,
        params.passes,
        params.lanes,
        "bm9ib2R5IGhhcyB0aGlzIHBhc3N3b3JkLCBldmVyLi4"
    )
}

/// Checks a login. `stored` is absent for an unknown name, a person without a password
/// and a service account: these cost the same as a wrong password.
///
/// # Errors
/// [`HashError`].
pub fn check(password: &str, stored: Option<&str>, params: Params) -> Result<Checked, HashError> {
    let Some(stored) = stored else {
        verify(password, &dummy(params))?;
        return Ok(Checked::Wrong);
    };
    if verify(password, stored)? {
        Ok(Checked::Right {
            rehash: needs_rehash(stored, params),
        })
    } else {
        Ok(Checked::Wrong)
    }
}

/// A password of the file of fixed users.
#[derive(Debug, Clone)]
pub struct FixedPassword(Fixed);

#[derive(Debug, Clone)]
enum Fixed {
    Plain(Sha256),
    Bcrypt { cost: u32, text: Secret },
    Nobody,
}

/// A password in the file of fixed users cannot be used. Texts are for the start-up
/// message, behind the path of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FixedError {
    /// Empty.
    #[error("password is missing")]
    Missing,
    /// Not standard base64 with padding.
    #[error("password is not base64")]
    NotBase64,
    /// Not `$2a$`, `$2b$` or `$2y$` with cost, salt and hash.
    #[error("password is not base64 of a bcrypt string ($2a$, $2b$ or $2y$)")]
    NotBcrypt,
    /// Too cheap to be safe or too dear to be checked.
    #[error("bcrypt cost {0} is outside 4-14")]
    Cost(u32),
}

/// Most bytes bcrypt looks at; what is longer would match its own beginning.
const BCRYPT_LONGEST: usize = 72;

impl FixedPassword {
    /// `pass_hashed: false`: plain text. Composition rules are not asked here; see
    /// [`crate::fields::password`] for the warning.
    ///
    /// # Errors
    /// [`FixedError::Missing`].
    pub fn plain(password: &str) -> Result<Self, FixedError> {
        if password.is_empty() {
            return Err(FixedError::Missing);
        }
        Ok(Self(Fixed::Plain(Sha256::of(nfc(password).as_bytes()))))
    }

    /// `pass_hashed: true`: standard base64 of a bcrypt string, cost 4-14.
    ///
    /// # Errors
    /// [`FixedError`].
    pub fn bcrypt(base64: &str) -> Result<Self, FixedError> {
        let base64 = base64.trim();
        if base64.is_empty() {
            return Err(FixedError::Missing);
        }
        let bytes = STANDARD.decode(base64).map_err(|_| FixedError::NotBase64)?;
        let text = String::from_utf8(bytes).map_err(|_| FixedError::NotBcrypt)?;
        let text = text.trim_end_matches(['\n', '\r']).to_owned(); // `echo … | base64`
        // `$2x$` marks hashes of an implementation with an error; we cannot check those.
        let known = ["$2a$", "$2b$", "$2y$"].iter().any(|p| text.starts_with(p));
        let digits = text.get(4..6).unwrap_or_default();
        if !known || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(FixedError::NotBcrypt);
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| FixedError::NotBcrypt)?;
        let cost = parts.get_cost();
        if !(4..=14).contains(&cost) {
            return Err(FixedError::Cost(cost));
        }
        Ok(Self(Fixed::Bcrypt {
            cost,
            text: Secret::new(text),
        }))
    }

    /// The cost of its hash, 4-14; plain text has none.
    #[must_use]
    pub const fn bcrypt_cost(&self) -> Option<u32> {
        match self.0 {
            Fixed::Bcrypt { cost, .. } => Some(cost),
            Fixed::Plain(_) | Fixed::Nobody => None,
        }
    }

    /// Matches nobody and costs what the dearest of `others` costs; for unknown names.
    #[must_use]
    pub fn dummy<'a>(others: impl IntoIterator<Item = &'a Self>) -> Self {
        let cost = others.into_iter().filter_map(Self::bcrypt_cost);
        match cost.max() {
            Some(cost) => {
                let dots = ".".repeat(53);
                let text = Secret::new(format!("$2b${cost:02}${dots}"));
                Self(Fixed::Bcrypt { cost, text })
            }
            None => Self(Fixed::Nobody),
        }
    }

    /// Whether `password` is this one. For bcrypt 1 ms at cost 4, 1 s at cost 14.
    ///
    /// With bcrypt, passwords over 72 bytes and passwords with a NUL never match: it would
    /// take the first for its beginning and the second for its part before the NUL.
    #[must_use]
    pub fn matches(&self, password: &str) -> bool {
        let fits = password.len() <= LONGEST_TRY;
        let text = if fits { nfc(password) } else { String::new() };
        let matched = match &self.0 {
            Fixed::Plain(stored) => stored.is_of(text.as_bytes()),
            Fixed::Bcrypt { text: stored, .. } => {
                let whole = text.len() <= BCRYPT_LONGEST && !text.contains('\0');
                let same = bcrypt::verify(text.as_bytes(), stored.expose());
                whole && same.unwrap_or(false)
            }
            Fixed::Nobody => {
                // The work of a plain comparison, for nothing.
                let _ = Sha256::ZERO.is_of(text.as_bytes());
                false
            }
        };
        matched && fits
    }
}

/// Characters of a drawn password.
const DRAWN: usize = 16;
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz";
const DIGITS: &[u8] = b"23456789";
const SPECIALS: &[u8] = b"!#%+:=?@";

/// A random password of 16 characters out of 64: letters and digits without `I l O o 0 1`,
/// and `!#%+:=?@`; at least one letter, digit and special character. About 95 bits.
#[must_use]
pub fn random(fill: &mut Fill<'_>) -> Secret {
    let alphabet = [LETTERS, DIGITS, SPECIALS].concat();
    let drawn = |fill: &mut Fill<'_>| -> [u8; DRAWN] {
        // 64 characters: six bits choose one, each with the same chance.
        draw::<DRAWN>(fill).map(|byte| {
            alphabet
                .get(usize::from(byte & 63))
                .copied()
                .unwrap_or(b'a')
        })
    };
    let has = |text: &[u8], kind: &[u8]| text.iter().any(|c| kind.contains(c));
    let good = |text: &[u8]| {
        [LETTERS, DIGITS, SPECIALS]
            .iter()
            .all(|kind| has(text, kind))
    };
    let mut text = drawn(fill);
    // One in four lacks a kind and is drawn anew, so that all good ones stay equally likely.
    // The bound is for a source that repeats itself: 64 misses in a row are no chance.
    for _ in 0..64 {
        if good(&text) {
            break;
        }
        text = drawn(fill);
    }
    if !good(&text) {
        text[..3].copy_from_slice(b"a2!");
    }
    Secret::new(text.iter().map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fields, seeded};
    use proptest::prelude::*;

    #[test]
    fn the_alphabet_is_that_of_the_specification() {
        let all = [LETTERS, DIGITS, SPECIALS].concat();
        assert_eq!(all.len(), 64);
        let wanted: Vec<u8> = (b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .chain(b'2'..=b'9')
            .filter(|c| !b"IlOo01".contains(c))
            .chain(*b"!#%+:=?@")
            .collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_hash_is_a_phc_string_and_matches_its_password_only() {
        let params = Params::default();
        let stored = hash("abcdef1!", params, &mut seeded(1)).unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        assert!(stored.len() <= 128);
        assert_eq!(
            check("abcdef1!", Some(&stored), params),
            Ok(Checked::Right { rehash: false })
        );
        assert_eq!(check("abcdef1?", Some(&stored), params), Ok(Checked::Wrong));
        assert_eq!(check("abcdef1!", None, params), Ok(Checked::Wrong));
        assert!(!verify(&"x".repeat(LONGEST_TRY + 1), &stored).unwrap());
        // Another salt, another hash.
        let again = hash("abcdef1!", params, &mut seeded(2)).unwrap();
        assert_ne!(again, stored);
    }

    #[test]
    fn a_password_is_the_same_however_it_was_typed() {
        let stored = hash("Gru\u{308}ße 12", Params::default(), &mut seeded(1)).unwrap();
        assert!(verify("Grüße 12", &stored).unwrap());
        assert!(!verify("Grüße 12 ", &stored).unwrap()); // white space counts
    }

    #[test]
    fn other_parameters_ask_for_a_new_hash() {
        let old = hash("abcdef1!", Params::default(), &mut seeded(1)).unwrap();
        let now = Params::new(19_456, 3, 1).unwrap();
        assert_eq!(
            check("abcdef1!", Some(&old), now),
            Ok(Checked::Right { rehash: true })
        );
        assert!(needs_rehash(
            "$argon2i$v=19$m=19456,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA",
            now
        ));
        assert!(needs_rehash("", now));
        assert!(!needs_rehash(&dummy(now), now));
        // RFC 9106's id in another implementation's text (argon2-cffi, 8 byte salt).
        let foreign = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(verify("password", foreign), Ok(true));
        assert!(needs_rehash(foreign, Params::default()));
    }

    #[test]
    fn unreadable_hashes_and_parameters_are_errors() {
        for bad in [
            "",
            "x",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$2b$12$abc",
            "$argon2id$v=19$m=1,t=0,p=0$c2FsdHNhbHRzYWx0c2FsdA$bm9ib2R5IGhhcyB0aGlzIHBhc3N3b3JkLCBldmVyLi4",
        ] {
            assert_eq!(verify("x", bad), Err(HashError::Stored), "{bad}");
        }
        assert_eq!(Params::new(19_455, 2, 1), Err(ParamsError::Memory));
        assert_eq!(Params::new(19_456, 1, 1), Err(ParamsError::Passes));
        assert_eq!(Params::new(19_456, 2, 17), Err(ParamsError::Lanes));
    }

    fn imported(bcrypt: &str) -> Result<FixedPassword, FixedError> {
        FixedPassword::bcrypt(&STANDARD.encode(bcrypt))
    }

    #[test]
    fn bcrypt_of_fixed_users() {
        // Test vectors of jBCrypt, and strings made by libxcrypt.
        let vector = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";
        for version in ["$2a$", "$2b$", "$2y$"] {
            let fixed = imported(&vector.replace("$2a$", version)).unwrap();
            assert!(fixed.matches("") && !fixed.matches("a"));
            assert!(!fixed.matches("\0")); // would be the same to bcrypt
        }
        let vector = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe\n";
        let fixed = imported(vector).unwrap();
        assert!(fixed.matches("a") && !fixed.matches("b") && !fixed.matches("a\0a"));
        assert!(format!("{fixed:?}").contains("********"));
        let vector = "$2y$04$abcdefghijklmnopqrstuutiIRdZ97MbJEixhfOAUmUZWRNVyPCvC";
        assert!(imported(vector).unwrap().matches("Gru\u{308}ße 1!"));
    }

    #[test]
    fn over_72_bytes_never_match() {
        let base = "0123456789".repeat(7);
        let hashed = |text: &str| {
            let parts = bcrypt::hash_with_salt(text, 4, [7; 16]).unwrap();
            imported(&parts.to_string()).unwrap()
        };
        assert!(hashed(&format!("{base}ab")).matches(&format!("{base}ab")));
        assert!(!hashed(&format!("{base}ab")).matches(&format!("{base}abc")));
        assert!(!hashed(&format!("{base}abc")).matches(&format!("{base}abc")));
    }

    #[test]
    fn bad_values_of_fixed_users() {
        assert_eq!(FixedPassword::bcrypt(" ").unwrap_err(), FixedError::Missing);
        assert_eq!(FixedPassword::plain("").unwrap_err(), FixedError::Missing);
        assert_eq!(
            FixedPassword::bcrypt("$2a$06$x").unwrap_err(),
            FixedError::NotBase64
        );
        let rest = ".".repeat(53);
        for (text, error) in [
            (format!("$2x$06${rest}"), FixedError::NotBcrypt),
            (format!("$2b$+4${rest}"), FixedError::NotBcrypt),
            (format!("$2b$06${rest}."), FixedError::NotBcrypt),
            (format!("$2b$06${}é", &rest[1..]), FixedError::NotBcrypt),
            ("secret".to_owned(), FixedError::NotBcrypt),
            (format!("$2b$03${rest}"), FixedError::Cost(3)),
            (format!("$2b$15${rest}"), FixedError::Cost(15)),
        ] {
            assert_eq!(imported(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn plain_passwords_and_dummies_of_fixed_users() {
        let plain = FixedPassword::plain("Gru\u{308}ße").unwrap();
        assert!(plain.matches("Grüße") && !plain.matches("Grüsse") && !plain.matches(""));
        let nobody = FixedPassword::dummy([&plain]);
        assert!(!nobody.matches("") && matches!(nobody.0, Fixed::Nobody));
        let hashed = imported(&format!("$2b$05${}", ".".repeat(53))).unwrap();
        let nobody = FixedPassword::dummy([&plain, &hashed]);
        assert!(!nobody.matches("") && matches!(nobody.0, Fixed::Bcrypt { cost: 5, .. }));
    }

    #[test]
    fn drawn_passwords_keep_the_rules() {
        let mut fill = seeded(3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let text = random(&mut fill);
            assert_eq!(text.expose().len(), 16);
            assert_eq!(
                fields::password(text.expose(), "a@b", "a"),
                Vec::<&str>::new()
            );
            seen.insert(text.expose().to_owned());
        }
        assert_eq!(seen.len(), 500);
        // A broken source gives a bad password, but gives one.
        let stuck = random(&mut |bytes: &mut [u8]| bytes.fill(0xff));
        assert!(fields::password(stuck.expose(), "", "").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_panics(a in any::<String>(), b in any::<String>()) {
            let _ = FixedPassword::bcrypt(&a);
            let _ = imported(&a);
            let _ = FixedPassword::plain(&a).map(|p| p.matches(&b));
            let _ = needs_rehash(&a, Params::default());
            let _ = verify(&b, &a);
        }
    }
}
