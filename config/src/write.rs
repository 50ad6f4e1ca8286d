//! Trees become texts again. Comments are not among what a tree knows.

use crate::read::Format;
use crate::tree::{Entry, Node, Value};
use serde_json::Value as Json;

/// A tree in one of the formats. HOCON is written as JSON, which it is a superset of. Members
/// that are null are left out of TOML, which has none.
#[must_use]
pub fn write(format: Format, node: &Node) -> String {
    let mut text = String::new();
    match format {
        Format::Json | Format::Hocon => {
            text = format!("{:#}\n", node.to_json());
        }
        Format::Yaml => match &node.value {
            Value::Map(entries) if !entries.is_empty() => yaml_map(entries, 0, &mut text),
            Value::List(items) if !items.is_empty() => yaml_list(items, 0, &mut text),
            _ => {
                text.push_str(&yaml_scalar(node));
                text.push('\n');
            }
        },
        Format::Toml => toml_table(
            node.entries().unwrap_or_default(),
            &mut Vec::new(),
            &mut text,
        ),
    }
    text
}

fn quoted(text: &str) -> String {
    // DEL is the one letter that JSON takes and TOML does not.
    Json::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn is_word(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn yaml_key(name: &str) -> String {
    let special = ["null", "true", "false", "nan", "inf"];
    match is_word(name) && !special.contains(&name.to_ascii_lowercase().as_str()) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

fn yaml_scalar(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => text.clone(),
        Value::Text(text) => quoted(text),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
    }
}

/// What stands behind a key or a dash.
fn yaml_value(node: &Node, depth: usize, text: &mut String) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            text.push('\n');
            yaml_map(entries, depth + 1, text);
        }
        Value::List(items) if !items.is_empty() => {
            text.push('\n');
            yaml_list(items, depth + 1, text);
        }
        _ => {
            text.push(' ');
            text.push_str(&yaml_scalar(node));
            text.push('\n');
        }
    }
}

fn yaml_map(entries: &[Entry], depth: usize, text: &mut String) {
    for entry in entries {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&yaml_key(&entry.name));
        text.push(':');
        yaml_value(&entry.node, depth, text);
    }
}

fn yaml_list(items: &[Node], depth: usize, text: &mut String) {
    for item in items {
        text.push_str(&"  ".repeat(depth));
        text.push('-');
        yaml_value(item, depth, text);
    }
}

fn toml_key(name: &str) -> String {
    match is_word(name) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

fn toml_number(text: &str) -> String {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let leading = |part: &str| part.len() > 1 && part.starts_with('0');
    let number = match digits.split_once('.') {
        None => {
            (good(digits) && !leading(digits) && text.parse::<i64>().is_ok())
                || crate::tree::based(text).is_some_and(|n| i64::try_from(n).is_ok())
        }
        Some((whole, part)) => good(whole) && !leading(whole) && good(part),
    };
    match number {
        true => text.to_owned(),
        false => quoted(text),
    }
}

fn toml_inline(node: &Node) -> String {
    match &node.value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => toml_number(text),
        Value::Text(text) => quoted(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(toml_inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let members: Vec<String> = entries
                .iter()
                .filter(|entry| entry.node.value != Value::Null)
                .map(|entry| format!("{} = {}", toml_key(&entry.name), toml_inline(&entry.node)))
                .collect();
            match members.is_empty() {
                true => "{}".to_owned(),
                false => format!("{{ {} }}", members.join(", ")),
            }
        }
    }
}

fn toml_table(entries: &[Entry], path: &mut Vec<String>, text: &mut String) {
    let is_table = |entry: &&Entry| matches!(entry.node.value, Value::Map(_));
    for entry in entries.iter().filter(|entry| !is_table(entry)) {
        if entry.node.value != Value::Null {
            let line = format!("{} = {}\n", toml_key(&entry.name), toml_inline(&entry.node));
            text.push_str(&line);
        }
    }
    for entry in entries.iter().filter(is_table) {
        path.push(toml_key(&entry.name));
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("[{}]\n", path.join(".")));
        toml_table(entry.node.entries().unwrap_or_default(), path, text);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read;

    #[test]
    fn what_is_written_reads_the_same() {
        let texts = [
            r#"{"a":{"b c":[1,"x",true,{"d":"é\n\"q\""},[],{}],"e":{}},"f":1.5,"g":"on","true":"~","n":"007"}"#,
            r#"{"environment":{"A":"********"},"files":{"k":{"path":"/tmp/x","contents":"a: b # c\n"}}}"#,
        ];
        for text in texts {
            let node = read(Format::Json, text.as_bytes()).unwrap();
            for format in [Format::Json, Format::Yaml, Format::Toml, Format::Hocon] {
                let written = write(format, &node);
                let back = read(format, written.as_bytes());
                let back = back.unwrap_or_else(|e| panic!("{format}: {e}\n{written}"));
                assert_eq!(back.to_json(), node.to_json(), "{format}\n{written}");
            }
        }
    }

    #[test]
    fn what_a_format_does_not_have_is_not_written() {
        let node = read(Format::Yaml, b"{a: null, b: 0o17, c: 007, d: [~]}").unwrap();
        assert_eq!(
            write(Format::Toml, &node),
            "b = 0o17\nc = \"007\"\nd = [\"\"]\n"
        );
        assert_eq!(
            write(Format::Yaml, &read(Format::Yaml, b"~").unwrap()),
            "null\n"
        );
    }
}
