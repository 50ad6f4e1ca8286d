//! The parts of identity that decide by values alone.
//!
//! | module | decides |
//! |---|---|
//! | [`fields`] | whether what somebody wrote about a person may be stored |
//! | [`password`] | Argon2id, imported bcrypt, drawn passwords |
//! | [`totp`] | six-digit codes (RFC 6238), recovery codes, the picture to scan |
//! | [`throttle`] | whether a login may be tried at all |
//! | [`bucket`] | whether a request fits into the rate limit |
//! | [`token`] | login tokens, links, keypairs: drawn, checked, shown once |
//! | [`mod@csv`] | people from a table; cells that no spreadsheet runs |
//! | [`audit`] | the record, what it must not show, and its hash chain |
//!
//! Nothing here opens a socket or a file, reads a clock or draws a random number: time,
//! ids and randomness are arguments. Hashing is the only thing that takes time; callers
//! bound it (a permit around [`password::check`]).

pub mod audit;
pub mod bucket;
pub mod csv;
pub mod fields;
pub mod password;
mod secret;
pub mod throttle;
pub mod token;
pub mod totp;

pub use secret::{Secret, Sha256};

/// Fills the whole slice with random bytes. Must be a source fit for keys, such as the
/// operating system's; a failing source ends the process before it returns.
pub type Fill<'a> = dyn FnMut(&mut [u8]) + 'a;

/// `N` random bytes.
fn draw<const N: usize>(fill: &mut Fill<'_>) -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A source for tests: the same bytes for the same seed (splitmix64).
#[cfg(test)]
fn seeded(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)).to_le_bytes()[0];
        }
    }
}
