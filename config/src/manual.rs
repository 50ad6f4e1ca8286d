//! The keys of a program as a page of the manual, in the language of `man(7)`.

use crate::load::PREFIX;
use crate::schema::{Acts, Schema};

/// What a page says beside the keys.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Name of the page, such as `longshore-agent.toml`.
    pub name: &'a str,
    /// The program whose configuration it is.
    pub program: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// A key and a value of it, for the examples.
    pub example: (&'a str, &'a str),
}

/// The page.
#[must_use]
pub fn page(schema: &Schema, page: &Page<'_>) -> String {
    let mut text = format!(
        ".TH {} 5 \"\" \"Longshore {}\" \"Longshore\"\n",
        escaped(&page.name.to_uppercase()),
        escaped(page.version)
    );
    let mut section = |title: &str, paragraphs: &[String]| {
        text.push_str(&format!(".SH {title}\n"));
        for (at, paragraph) in paragraphs.iter().enumerate() {
            if at > 0 {
                text.push_str(".PP\n");
            }
            text.push_str(&line(paragraph));
        }
    };
    let program = page.program;
    let (key, value) = page.example;
    let variable = format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"));
    section(
        "NAME",
        &[format!("{} - configuration of {program}", page.name)],
    );
    section(
        "DESCRIPTION",
        &[
            format!(
                "Files that end in .toml, .yaml, .yml, .json, .conf or .hocon below /etc/longshore, \
                 or below the directories that LONGSHORE_CONFIG_DIR names, hold the keys of this \
                 page. The name of a file is the beginning of its keys: {}.toml holds those that \
                 begin with {}, without that part.",
                schema.roots.first().copied().unwrap_or_default(),
                schema.roots.first().copied().unwrap_or_default(),
            ),
            format!(
                "Over the files stand variables such as {variable}={value}, and over these \
                 arguments such as --set {key}={value}."
            ),
            format!(
                "{program} config check says what is wrong without starting, and {program} config \
                 show --origin what holds and where it came from."
            ),
        ],
    );
    text.push_str(".SH KEYS\n");
    for key in schema.keys {
        text.push_str(&format!(".TP\n.B {}\n", escaped(key.path)));
        text.push_str(&line(key.help));
        let acts = match key.acts {
            Acts::Live => "may be stored, and acts at once",
            Acts::Reload => "acts on reload",
            Acts::Restart => "acts on restart",
        };
        let default = match key.default {
            "" => "not set".to_owned(),
            default => default.to_owned(),
        };
        text.push_str(".br\n");
        text.push_str(&line(&format!(
            "Type: {}; default: {default}; {acts}.",
            key.kind.wanted()
        )));
    }
    text.push_str(".SH SEE ALSO\n");
    text.push_str(&line(&format!("{program}(1)")));
    text
}

/// A line of text: at its beginning a dot or a quote would be a command.
fn line(text: &str) -> String {
    let text = escaped(text);
    let guard = if text.starts_with(['.', '\'']) {
        "\\&"
    } else {
        ""
    };
    format!("{guard}{text}\n")
}

/// Letters that mean something to the formatter, as those that print.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '`' => out.push_str("\\(ga"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Key, Kind};

    const KEYS: [Key; 2] = [
        Key {
            path: "x.file_dir",
            kind: Kind::Text,
            default: "\"~/a\\b\"",
            acts: Acts::Reload,
            help: ".hidden files - where they lie.",
        },
        Key {
            path: "x.n",
            kind: Kind::Integer(0, 9),
            default: "",
            acts: Acts::Restart,
            help: "A number.",
        },
    ];

    #[test]
    fn a_page_has_every_key_and_no_stray_commands() {
        let schema = Schema {
            roots: &["x"],
            foreign: &[],
            keys: &KEYS,
            renamed: &[],
        };
        let made = page(
            &schema,
            &Page {
                name: "x.toml",
                program: "x-daemon",
                version: "1.2",
                example: ("x.n", "3"),
            },
        );
        for wanted in [
            ".TH X.TOML 5 \"\" \"Longshore 1.2\" \"Longshore\"\n",
            "LONGSHORE__X__N=3",
            "\\-\\-set x.n=3",
            ".TP\n.B x.file_dir\n\\&.hidden files \\- where they lie.\n.br\nType: text; default: \"\\(ti/a\\eb\"; acts on reload.\n",
            ".TP\n.B x.n\nA number.\n.br\n",
            "default: not set; acts on restart.\n",
        ] {
            assert!(made.contains(wanted), "{wanted}: {made}");
        }
        let commands = made.lines().filter(|line| line.starts_with('.'));
        let known = [".TH", ".SH", ".PP", ".TP", ".B", ".br"];
        for command in commands {
            let word = command.split(' ').next().unwrap();
            assert!(known.contains(&word), "{command}");
        }
    }
}
