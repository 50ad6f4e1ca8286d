//! What opens a door: login tokens, links, keypairs. They are drawn here, shown once, and
//! stored as SHA-256 only.

use crate::fields::at;
use crate::{Fill, Secret, Sha256, draw};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::api::MemberError;
use url::{Host, Url};

/// What a login token starts with.
pub const LOGIN_PREFIX: &str = "lss_";
/// Characters of 256 bits in base64url without padding.
const RANDOM_CHARS: usize = 43;

fn random_text(fill: &mut Fill<'_>) -> String {
    URL_SAFE_NO_PAD.encode(draw::<32>(fill))
}

fn is_base64url(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A new login token: `lss_` and 43 base64url characters, 256 random bits.
#[must_use]
pub fn login(fill: &mut Fill<'_>) -> Secret {
    Secret::new(format!("{LOGIN_PREFIX}{}", random_text(fill)))
}

/// The stored form of a login token that a request brought; `None` for what is none.
#[must_use]
pub fn login_sha256(given: &str) -> Option<Sha256> {
    let random = given.strip_prefix(LOGIN_PREFIX)?;
    (random.len() == RANDOM_CHARS && is_base64url(random)).then(|| Sha256::of(given.as_bytes()))
}

/// A new token for a link that is good once (set-up, invitation, reset): 43 base64url
/// characters, 256 random bits. It stands in the fragment of the link.
#[must_use]
pub fn link(fill: &mut Fill<'_>) -> Secret {
    Secret::new(random_text(fill))
}

/// The stored form of a link's token that a request brought; `None` for what is none.
#[must_use]
pub fn link_sha256(given: &str) -> Option<Sha256> {
    (given.len() == RANDOM_CHARS && is_base64url(given)).then(|| Sha256::of(given.as_bytes()))
}

/// A keypair as it was drawn. The secret is shown once; store its digest.
#[derive(Debug, Clone)]
pub struct NewKeypair {
    /// `LS` and 18 of `A-Z2-7`, 90 random bits. Unique for ever: the caller draws another
    /// if it is taken.
    pub access_key: String,
    /// 43 base64url characters, the first a letter or digit.
    pub secret_key: Secret,
}

/// Draws a keypair.
#[must_use]
pub fn keypair(fill: &mut Fill<'_>) -> NewKeypair {
    let mut access_key = data_encoding::BASE32_NOPAD.encode(&draw::<12>(fill));
    access_key.truncate(18);
    access_key.insert_str(0, "LS");
    NewKeypair {
        access_key,
        secret_key: secret_key(fill),
    }
}

/// Draws a secret key: 43 base64url characters, the first a letter or digit (so that it is
/// never taken for an option on a command line). 256 bits, less 0.05 for that rule.
#[must_use]
pub fn secret_key(fill: &mut Fill<'_>) -> Secret {
    let mut bytes = draw::<32>(fill);
    // The first character is the top six bits of the first byte; 62 and 63 are `-` and `_`.
    // The bound is for a source that repeats itself: 64 misses in a row are no chance.
    for _ in 0..64 {
        if bytes[0] >> 2 < 62 {
            break;
        }
        bytes[0] = draw::<1>(fill)[0];
    }
    if bytes[0] >> 2 >= 62 {
        bytes[0] &= 0x7f;
    }
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is wrong with a keypair that is to be imported; empty when nothing is.
#[must_use]
pub fn import(access_key: &str, secret_key: &str) -> Vec<MemberError> {
    let mut errors = Vec::new();
    if !(8..=64).contains(&access_key.len()) || !is_base64url(access_key) {
        errors.extend(at(
            "/access_key",
            ["Access key must have 8 to 64 letters, digits, _ or -."],
        ));
    }
    let printable = secret_key.bytes().all(|b| b.is_ascii_graphic());
    if !(32..=256).contains(&secret_key.len()) || !printable {
        errors.extend(at(
            "/secret_key",
            ["Secret key must have 32 to 256 printable characters without spaces."],
        ));
    }
    let mut seen = [false; 256];
    for byte in secret_key.bytes() {
        seen[usize::from(byte)] = true;
    }
    if seen.iter().filter(|seen| **seen).count() < 10 {
        errors.extend(at("/secret_key", ["Secret key is too uniform."]));
    }
    errors
}

/// 409 `LS-KEYPAIR-EXISTS`.
#[must_use]
pub fn access_key_exists(access_key: &str) -> String {
    format!("Access key {access_key} is already in use.")
}

/// Lines ready to paste into `~/.config/longshore/config.toml`.
///
/// The context is named after the first label of the host in `public_url`; after the whole
/// address, with `-` for what is no letter or digit, if the host is a number; `longshore`
/// if there is none.
#[must_use]
pub fn snippet(public_url: &str, access_key: &str, secret_key: &Secret) -> String {
    let parsed = Url::parse(public_url).ok();
    let name = match parsed.as_ref().and_then(Url::host) {
        Some(Host::Domain(host)) => host.split('.').next().unwrap_or_default().to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = name
        .chars()
        .map(|c| if bare(c) { c } else { '-' })
        .collect();
    let name = if name.is_empty() { "longshore" } else { &name };
    format!(
        "[context.{name}]\nurl = {}\naccess_key = {}\nsecret_key = {}\n",
        toml_text(public_url.trim_end_matches('/')),
        toml_text(access_key),
        toml_text(secret_key.expose()),
    )
}

/// A basic string of TOML 1.0.
fn toml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The bits of the id of a fixed user, the same on every installation: the first 128 of
/// SHA-256(`longshore-fixed-user:` + lower-case name).
///
/// Ids have 128 bits and an alphabet of their own (RFC 4648), so what is printed is not the
/// first 26 characters of the digest in Crockford's base32, which would be 130 bits.
#[must_use]
pub fn fixed_user_id(username: &str) -> u128 {
    let name = crate::fields::clean(username).to_lowercase();
    let digest = Sha256::of(format!("longshore-fixed-user:{name}").as_bytes());
    let first = digest.as_bytes().iter().take(16);
    first.fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded;
    use proptest::prelude::*;

    #[test]
    fn tokens_have_their_form_and_come_back() {
        let mut fill = seeded(1);
        let token = login(&mut fill);
        assert_eq!(token.expose().len(), 47);
        assert_eq!(login_sha256(token.expose()), Some(token.sha256()));
        let token = link(&mut fill);
        assert_eq!(link_sha256(token.expose()), Some(token.sha256()));
        for bad in [
            "",
            "lss_",
            "lss_x",
            &format!("lss_{}", "=".repeat(43)),
            &"ä".repeat(22),
        ] {
            assert_eq!(login_sha256(bad), None);
            assert_eq!(link_sha256(bad), None);
        }
    }

    #[test]
    fn keypairs_have_their_form() {
        let mut fill = seeded(2);
        for _ in 0..2000 {
            let NewKeypair {
                access_key,
                secret_key,
            } = keypair(&mut fill);
            assert_eq!(access_key.len(), 20);
            let rest = access_key.strip_prefix("LS").unwrap();
            assert!(
                rest.bytes()
                    .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
            );
            let secret = secret_key.expose();
            assert_eq!(secret.len(), 43);
            assert!(secret.starts_with(|c: char| c.is_ascii_alphanumeric()));
            assert!(is_base64url(secret));
            assert!(import(&access_key, secret).is_empty());
        }
        let stuck = secret_key(&mut |bytes: &mut [u8]| bytes.fill(0xff));
        assert!(
            stuck
                .expose()
                .starts_with(|c: char| c.is_ascii_alphanumeric())
        );
    }

    #[test]
    fn imported_keypairs_are_checked() {
        let messages = |access: &str, secret: &str| -> Vec<String> {
            let errors = import(access, secret);
            errors
                .into_iter()
                .map(|e| format!("{} {}", e.pointer, e.message))
                .collect()
        };
        let good = "0123456789".repeat(4);
        assert!(messages("AKIA_old-1", &good).is_empty());
        assert_eq!(
            messages("short", &good),
            ["/access_key Access key must have 8 to 64 letters, digits, _ or -."]
        );
        let form =
            "/secret_key Secret key must have 32 to 256 printable characters without spaces.";
        assert_eq!(messages("AKIA_old-1", &good[..31]), [form]);
        assert_eq!(messages("AKIA_old-1", &good.repeat(7)), [form]);
        assert_eq!(messages("AKIA_old-1", &format!("{good} ")), [form]);
        assert_eq!(messages("AKIA_old-1", &format!("{good}é")), [form]);
        assert_eq!(
            messages("AKIA_old-1", &"012345678".repeat(4)),
            ["/secret_key Secret key is too uniform."]
        );
        assert_eq!(messages("a.b/c d e", "").len(), 3);
    }

    #[test]
    fn the_snippet_is_that_of_the_specification() {
        let secret = Secret::new("u7Wm0sKq".to_owned());
        assert_eq!(
            snippet("https://gpu01.lab:7420", "LSQ5K2Z7M4T6XBVN3ADE", &secret),
            "[context.gpu01]\nurl = \"https://gpu01.lab:7420\"\naccess_key = \"LSQ5K2Z7M4T6XBVN3ADE\"\nsecret_key = \"u7Wm0sKq\"\n"
        );
        for (url, name) in [
            ("https://localhost:7420/", "localhost"),
            ("https://10.0.0.5:7420", "10-0-0-5"),
            ("https://[2001:db8::1]:7420", "2001-db8--1"),
            ("nonsense", "longshore"),
        ] {
            let text = snippet(url, "A", &secret);
            assert!(text.starts_with(&format!("[context.{name}]\n")), "{text}");
        }
    }

    #[test]
    fn fixed_users_have_the_same_id_everywhere() {
        let id = fixed_user_id("jane");
        assert_eq!(id, 0xd7e6_ff43_fbc8_ca10_2a07_c491_b632_ab3f);
        assert_eq!(fixed_user_id(" Jane "), id);
        assert_ne!(fixed_user_id("june"), id);
    }

    proptest! {
        #[test]
        fn nothing_panics(a in any::<String>(), b in any::<String>()) {
            let _ = (login_sha256(&a), link_sha256(&a), import(&a, &b), fixed_user_id(&a));
            let text = snippet(&a, &b, &Secret::new(a.clone()));
            prop_assert_eq!(text.lines().count(), 4);
        }
    }
}
