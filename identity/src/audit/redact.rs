//! What a record must not show: secrets, and text that does more than be read.

use crate::secret::MASK;
use serde_json::{Map, Value};

/// Most characters of a text in a record.
pub(super) const LONGEST: usize = 256;
/// Levels of a value that are kept; what lies deeper is masked.
const DEEPEST: usize = 16;

/// What kind of field changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// May be read by who reads the audit log.
    Plain,
    /// Secret, password, token, code, or content of a vault: only that it changed.
    Secret,
}

/// Characters that change how the rest is shown, besides control characters: line and
/// paragraph separators, and marks that turn the direction of writing.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text of at most 256 characters on one line: control characters are escaped (`\n`,
/// `\u001b`), and what does not fit is cut off, never within an escape. Passwords in
/// addresses (`https://user:password@host`) are masked.
pub(super) fn short(text: &str) -> String {
    // Nearly every text is short and plain, and each submission writes a dozen of them.
    let plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.len() <= LONGEST && text.bytes().all(plain) && !text.contains("://") {
        return text.to_owned();
    }
    // Before anything is cut: the sign behind a password may lie behind the cut.
    let text = without_passwords(text);
    let (mut out, mut length) = (String::new(), 0);
    for c in text.chars() {
        let piece = match c {
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            c if c.is_control() || turns(c) => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        length += piece.chars().count();
        if length > LONGEST {
            break;
        }
        out.push_str(&piece);
    }
    out
}

/// Masks what stands between `:` and `@` behind `://` (RFC 3986, userinfo).
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (head, tail) = rest.split_at(start + 3);
        out.push_str(head);
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '<' | '>');
        let end = tail.find(ends).unwrap_or(tail.len());
        let (authority, behind) = tail.split_at(end);
        match authority.rfind('@').map(|sign| authority.split_at(sign)) {
            Some((user, host)) => match user.split_once(':') {
                Some((name, _)) => out.extend([name, ":", MASK, host]),
                None => out.push_str(authority),
            },
            None => out.push_str(authority),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Whether a field of this name holds a secret, whatever it was declared as: a word of it
/// (split at `_`, `-`, `.` and at changes of case) is one of those that name secrets.
pub(super) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "secrets",
        "token",
        "tokens",
        "credential",
        "credentials",
    ];
    let mut word = String::new();
    let mut lower = false;
    let mut found = false;
    for c in name.chars().chain(['_']) {
        let splits = !c.is_alphanumeric();
        if splits || (c.is_uppercase() && lower) {
            found |= WORDS.contains(&word.as_str());
            word.clear();
        }
        if !splits {
            word.extend(c.to_lowercase());
        }
        lower = c.is_lowercase();
    }
    found
}

/// A value of a field that is secret by its name: yes, no and nothing tell no secret
/// (`need_password_change`), everything else does.
pub(super) fn masked(value: Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value,
        _ => MASK.into(),
    }
}

/// A value fit for a record: texts are cut and escaped, members with secret names masked,
/// and numbers that have no canonical form become text.
pub(super) fn short_value(value: Value) -> Value {
    cleaned(value, 0)
}

fn cleaned(value: Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return MASK.into();
    }
    match value {
        Value::String(text) => short(&text).into(),
        Value::Number(number) if super::canonical(&Value::Number(number.clone())).is_err() => {
            number.to_string().into()
        }
        Value::Array(items) => items
            .into_iter()
            .map(|item| cleaned(item, depth + 1))
            .collect(),
        Value::Object(members) => {
            let members: Map<String, Value> = members
                .into_iter()
                .map(|(name, member)| {
                    let member = if is_secret_name(&name) {
                        masked(member)
                    } else {
                        cleaned(member, depth + 1)
                    };
                    (short(&name), member)
                })
                .collect();
            Value::Object(members)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn text_is_cut_and_stays_on_its_line() {
        assert_eq!(
            short("a\nb\r\t\u{1b}[2J\u{9b}x"),
            "a\\nb\\r\\t\\u001b[2J\\u009bx"
        );
        assert_eq!(short("\u{202e}evil\u{2028}"), "\\u202eevil\\u2028");
        assert_eq!(short(&"é".repeat(300)), "é".repeat(256));
        // An escape that does not fit whole is left out.
        assert_eq!(
            short(&format!("{}\u{1b}", "a".repeat(251))),
            "a".repeat(251)
        );
    }

    #[test]
    fn passwords_in_addresses_are_masked() {
        for (text, wanted) in [
            (
                "git https://dana:p@ss@host/x?y",
                "git https://dana:********@host/x?y",
            ),
            ("https://host:8080/a@b:c", "https://host:8080/a@b:c"),
            ("a://b:c@d e://:f@g", "a://b:********@d e://:********@g"),
            ("https://dana@host", "https://dana@host"),
            ("://", "://"),
        ] {
            assert_eq!(short(text), wanted);
        }
        let long = format!("https://u:{}@h", "p".repeat(300));
        assert_eq!(short(&long), "https://u:********@h");
    }

    #[test]
    fn names_that_hold_secrets() {
        for name in [
            "password",
            "secret_key",
            "apiToken",
            "AWS-SECRET",
            "x.credentials",
            "Passwd",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "tokenizer",
            "secretary",
            "keypair",
            "exit_code",
            "username",
            "",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn values_are_cleaned_all_the_way_down() {
        let value = json!({
            "list": ["a\nb", {"client_secret": "x", "has_password": true, "ratio": 0.5, "big": u64::MAX, "n": -3}],
            "password": {"nested": 1},
            "token": null,
        });
        assert_eq!(
            short_value(value),
            json!({
                "list": ["a\\nb", {"client_secret": "********", "has_password": true, "ratio": "0.5", "big": "18446744073709551615", "n": -3}],
                "password": "********",
                "token": null,
            })
        );
        let deep = (0..100).fold(json!("x"), |inner, _| json!([inner]));
        assert!(super::super::canonical(&short_value(deep)).is_ok());
    }

    proptest! {
        #[test]
        fn text_is_short_and_quiet(text in any::<String>(), pad in 0_usize..300) {
            let out = short(&format!("{}{text}", "x".repeat(pad)));
            prop_assert!(out.chars().count() <= LONGEST);
            prop_assert!(!out.chars().any(|c| c.is_control() || turns(c)));
            let _ = is_secret_name(&text);
        }

        #[test]
        fn addresses_never_panic(text in "([a:/@? é]|://){0,40}") {
            let _ = short(&text);
        }
    }
}
