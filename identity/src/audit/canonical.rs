//! Canonical JSON (RFC 8785) of integers, text and booleans.
//!
//! Numbers with a fraction are refused: hashed records hold none, and the shortest form of
//! a floating-point number is the one part of the RFC on which programs disagree.

use serde_json::Value;

/// The largest integer that every JSON program reads exactly (RFC 8785, 3.2.2.3).
const EXACT: u64 = (1 << 53) - 1;
/// Deeper values are refused; ours are a few levels deep.
const DEEPEST: usize = 64;

/// The value has no canonical form here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number with a fraction, or an integer beyond ±(2^53 - 1).
    #[error("a hashed record holds whole numbers up to 2^53 - 1 only")]
    Number,
    /// More than 64 levels.
    #[error("a hashed record is at most 64 levels deep")]
    Depth,
    /// Not representable as JSON.
    #[error("a hashed record must be JSON")]
    Json,
}

/// The canonical form of a value: no white space, members sorted by UTF-16 code units,
/// the shortest escapes.
///
/// # Errors
/// [`CanonicalError`].
pub fn canonical(value: &Value) -> Result<String, CanonicalError> {
    let mut out = String::new();
    write(value, 0, &mut out)?;
    Ok(out)
}

fn write(value: &Value, depth: usize, out: &mut String) -> Result<(), CanonicalError> {
    if depth > DEEPEST {
        return Err(CanonicalError::Depth);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let size = number
                .as_u64()
                .or_else(|| number.as_i64().map(i64::unsigned_abs));
            if size.is_none_or(|size| size > EXACT) {
                return Err(CanonicalError::Number);
            }
            out.push_str(&number.to_string());
        }
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, depth + 1, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write(member, depth + 1, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_rfc() {
        // 3.2.2, without its floating-point numbers.
        let value: Value = serde_json::from_str(
            r#"{ "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false], "n": -0 }"#,
        )
        .unwrap();
        // serde_json reads -0 as a floating-point number, which is refused; 0 is meant.
        assert_eq!(canonical(&value), Err(CanonicalError::Number));
        let value: Value = serde_json::from_str(
            r#"{ "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false] }"#,
        )
        .unwrap();
        assert_eq!(
            canonical(&value).unwrap(),
            r#"{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        // 3.2.3: sorted by UTF-16 code units, so the emoji comes before U+FB33.
        let value = json!({"\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh", "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis"});
        assert_eq!(
            canonical(&value).unwrap(),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        );
    }

    #[test]
    fn only_exact_integers() {
        for good in [
            json!(0),
            json!(-7),
            json!(EXACT),
            json!(-9_007_199_254_740_991_i64),
        ] {
            assert_eq!(canonical(&good), Ok(good.to_string()));
        }
        for bad in [
            json!(0.5),
            json!(1.0),
            json!(EXACT + 1),
            json!(i64::MIN),
            json!(u64::MAX),
        ] {
            assert_eq!(canonical(&bad), Err(CanonicalError::Number));
        }
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(canonical(&deep), Err(CanonicalError::Depth));
    }

    proptest! {
        #[test]
        fn text_reads_back(text in any::<String>()) {
            let written = canonical(&json!({ text.clone(): text })).unwrap();
            let read: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(&read, &json!({ text.clone(): text }));
            prop_assert_eq!(canonical(&read).unwrap(), written);
        }
    }
}
