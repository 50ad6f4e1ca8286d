//! Names of variables whose values nobody is shown, and how they are hidden in environments,
//! arguments and sentences. What a program prints itself is not searched.

use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// Every mask looks so, whatever is behind it.
pub const MASK: &str = "********";

/// The names that are hidden where nobody says otherwise.
pub const DEFAULT_NAMES: [&str; 12] = [
    "LONGSHORE_SECRET_KEY",
    "CLEARML_API_SECRET_KEY",
    "CLEARML_AGENT_GIT_PASS",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_CLIENT_SECRET",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "GITHUB_TOKEN",
    "*_PASSWORD",
];

/// Most names of one list: each is compared with each name that is shown.
pub const MAX_NAMES: usize = 256;
/// Longest name, in bytes, stars included.
pub const MAX_NAME: usize = 128;

/// What is wrong with a name of a list: letters, digits and `_`, with `*` at either end for
/// anything.
#[must_use]
pub fn fault(name: &str) -> Option<String> {
    let inner = name.strip_prefix('*').unwrap_or(name);
    let inner = inner.strip_suffix('*').unwrap_or(inner);
    let good = !inner.is_empty() && name.len() <= MAX_NAME && inner.bytes().all(is_of_name);
    let shown: String = name.chars().take(64).collect();
    (!good).then(|| {
        format!(
            "{shown:?} must be a name of letters, digits and _, with * at either end for anything."
        )
    })
}

/// What is wrong with a list of names, by its place in it.
#[must_use]
pub fn faults(names: &[String]) -> Vec<(usize, String)> {
    if names.len() > MAX_NAMES {
        return vec![(
            MAX_NAMES,
            format!("At most {MAX_NAMES} names may be hidden."),
        )];
    }
    let one = |(at, name): (usize, &String)| Some((at, fault(name)?));
    names.iter().enumerate().filter_map(one).collect()
}

const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a name of a list means this variable. Letters count as they are.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (None, None) => pattern == name,
        (Some(end), None) => name.ends_with(end),
        (None, Some(beginning)) => name.starts_with(beginning),
        (Some(rest), Some(_)) => match rest.strip_suffix('*') {
            Some(inner) => name.contains(inner),
            None => true, // the star alone
        },
    }
}

/// Lists of names that hold together: that of the installation, those of a session, those of
/// who looks. None takes anything away from another.
#[derive(Debug, Clone, Copy)]
pub struct Redaction<'a> {
    lists: [&'a [String]; 3],
}

impl<'a> Redaction<'a> {
    /// What these lists hide.
    #[must_use]
    pub const fn new(
        installation: &'a [String],
        session: &'a [String],
        viewer: &'a [String],
    ) -> Self {
        Self {
            lists: [installation, session, viewer],
        }
    }

    /// Whether the value of this variable is hidden.
    #[must_use]
    pub fn hides(&self, name: &str) -> bool {
        let mut names = self.lists.iter().copied().flatten();
        names.any(|pattern| matches(pattern, name))
    }

    /// An environment as it is shown.
    #[must_use]
    pub fn environment(&self, variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let shown = |(name, value): (&String, &String)| {
            let value = match self.hides(name) {
                true => MASK,
                false => value,
            };
            (name.clone(), value.to_owned())
        };
        variables.iter().map(shown).collect()
    }

    /// A program and its arguments as they are shown: what follows the name in `NAME=value`,
    /// also behind `-e` and `--env`, is hidden to the end of that argument. In what a shell is
    /// given with `-c` it is hidden to the end of the word.
    #[must_use]
    pub fn arguments(&self, arguments: &[String]) -> Vec<String> {
        let mut is_script = false;
        let shown = |argument: &String| {
            let whole = match is_script {
                true => None,
                false => self.whole(argument),
            };
            is_script =
                argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c');
            whole.unwrap_or_else(|| self.text(argument).into_owned())
        };
        arguments.iter().map(shown).collect()
    }

    /// An argument that is `NAME=value` and nothing else.
    fn whole(&self, argument: &str) -> Option<String> {
        let body = argument
            .strip_prefix("--env=")
            .or_else(|| argument.strip_prefix("-e="))
            .or_else(|| argument.strip_prefix("-e"))
            .unwrap_or(argument);
        let (name, value) = body.split_once('=')?;
        let flag = &argument[..argument.len() - body.len()];
        let is_name = !name.is_empty() && name.bytes().all(is_of_name);
        let hidden = is_name && !value.is_empty() && self.hides(name);
        hidden.then(|| format!("{flag}{name}={MASK}"))
    }

    /// A text in which `NAME=value` may stand anywhere: the value is hidden to the end of the
    /// word, as a shell reads one, or to the quote that closes the one before the name.
    #[must_use]
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = String::new();
        let (mut done, mut from) = (0, 0);
        while let Some(found) = text[from..].find('=') {
            let equals = from + found;
            from = equals + 1;
            let name_of = text[done..equals]
                .bytes()
                .rev()
                .take_while(|b| is_of_name(*b));
            let begins = equals - name_of.count();
            if begins == equals || !self.hides(&text[begins..equals]) {
                continue;
            }
            let before = text[..begins].chars().next_back();
            let quote = before.filter(|c| matches!(c, '"' | '\''));
            let length = word(&text[from..], quote);
            if length == 0 {
                continue;
            }
            out.push_str(&text[done..from]);
            out.push_str(MASK);
            from += length;
            done = from;
        }
        match done {
            0 => Cow::Borrowed(text),
            _ => {
                out.push_str(&text[done..]);
                Cow::Owned(out)
            }
        }
    }
}

impl Redaction<'_> {
    /// A line of a log as it is written, a text or an object of JSON. What is an object stays
    /// one.
    #[must_use]
    pub fn line<'t>(&self, line: &'t str) -> Cow<'t, str> {
        let hidden = self.text(line);
        if matches!(hidden, Cow::Borrowed(_)) || !line.starts_with('{') {
            return hidden;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(line) else {
            return hidden;
        };
        self.texts_of(&mut value);
        let end = if line.ends_with('\n') { "\n" } else { "" };
        Cow::Owned(format!("{value}{end}"))
    }

    fn texts_of(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.texts_of(item)),
            Value::Object(members) => members.values_mut().for_each(|item| self.texts_of(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }
}

/// The list of an installation, which may become another one while it runs.
#[derive(Debug, Clone)]
pub struct Names(Arc<RwLock<Arc<[String]>>>);

impl Default for Names {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(default_names().into())))
    }
}

/// [`DEFAULT_NAMES`] as a list.
#[must_use]
pub fn default_names() -> Vec<String> {
    DEFAULT_NAMES.map(str::to_owned).to_vec()
}

impl Names {
    /// The list as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<[String]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another one from now on.
    pub fn set(&self, names: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names.into();
    }
}

/// Lines of a log on their way out. A log hands over each line whole.
#[derive(Debug)]
pub struct Hiding<W> {
    to: W,
    names: Names,
}

impl<W> Hiding<W> {
    /// Hides in what goes to `to`.
    pub const fn new(to: W, names: Names) -> Self {
        Self { to, names }
    }
}

impl<W: io::Write> io::Write for Hiding<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let names = self.names.get();
        let shown = Redaction::new(&names, &[], &[]).line(&line).into_owned();
        self.to.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Bytes of the word at the beginning of a text. With a quote that is open already it ends
/// there; one that is never closed goes on to the end.
fn word(text: &str, open: Option<char>) -> usize {
    let outer = open;
    let mut open = open;
    let mut skip = false;
    for (at, c) in text.char_indices() {
        if skip {
            skip = false;
            continue;
        }
        match (open, c) {
            (Some('\''), '\'') | (Some('"'), '"') if open == outer => return at,
            (Some('\''), '\'') | (Some('"'), '"') => open = None,
            (None | Some('"'), '\\') => skip = true,
            (None, '\'' | '"') => open = Some(c),
            (None, ';' | '&' | '|' | '(' | ')' | '<' | '>') => return at,
            (None, c) if c.is_whitespace() => return at,
            _ => (),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn with(look: impl FnOnce(Redaction<'_>)) {
        let (all, session, own) = (list(&DEFAULT_NAMES), list(&["X_*"]), list(&["*MID*"]));
        look(Redaction::new(&all, &session, &own));
    }

    #[test]
    fn names_are_whole_or_have_a_star_at_an_end() {
        with(|redaction| {
            for name in [
                "HF_TOKEN",
                "DB_PASSWORD",
                "_PASSWORD",
                "X_",
                "X_1",
                "AMIDB",
                "MID",
            ] {
                assert!(redaction.hides(name), "{name}");
            }
            for name in [
                "hf_token",
                "HF_TOKEN2",
                "MY_HF_TOKEN",
                "PASSWORD",
                "PASSWORDS",
                "AX_",
                "",
            ] {
                assert!(!redaction.hides(name), "{name}");
            }
        });
        let star = list(&["*"]);
        assert!(Redaction::new(&[], &star, &[]).hides("ANY"));
        assert!(!Redaction::new(&[], &[], &[]).hides("HF_TOKEN"));
    }

    #[test]
    fn a_name_of_a_list_is_looked_at() {
        assert!(DEFAULT_NAMES.iter().all(|name| fault(name).is_none()));
        assert!(fault("*a_1*").is_none());
        for bad in [
            "",
            "*",
            "**",
            "a*b",
            "a-b",
            "a b",
            "***a",
            "é",
            &"a".repeat(129),
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
        assert_eq!(faults(&list(&["A", "-"]))[0].0, 1);
        assert_eq!(faults(&vec!["A".to_owned(); MAX_NAMES + 1]).len(), 1);
    }

    #[test]
    fn an_environment_keeps_its_names() {
        with(|redaction| {
            let given = [("A", "1"), ("HF_TOKEN", "hf_x"), ("X_1", "")];
            let given = given.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let shown = redaction.environment(&given);
            let values: Vec<_> = shown.values().map(String::as_str).collect();
            assert_eq!(values, ["1", MASK, MASK]);
        });
    }

    #[test]
    fn arguments_are_searched() {
        with(|redaction| {
            for (given, shown) in [
                (
                    &["HF_TOKEN=a b", "python"][..],
                    &["HF_TOKEN=********", "python"][..],
                ),
                (&["-e", "HF_TOKEN=a b"], &["-e", "HF_TOKEN=********"]),
                (&["--env", "HF_TOKEN=a"], &["--env", "HF_TOKEN=********"]),
                (&["--env=HF_TOKEN=a;b"], &["--env=HF_TOKEN=********"]),
                (&["-eHF_TOKEN=a=b"], &["-eHF_TOKEN=********"]),
                (&["-e=HF_TOKEN=a"], &["-e=HF_TOKEN=********"]),
                (
                    &["A=1", "--rate=3", "=", "x="],
                    &["A=1", "--rate=3", "=", "x="],
                ),
                (
                    &["sh", "-lc", "HF_TOKEN='a b'x python t.py; echo"],
                    &["sh", "-lc", "HF_TOKEN=******** python t.py; echo"],
                ),
                (
                    &["docker", "run -e DB_PASSWORD=p@ss=1 img"],
                    &["docker", "run -e DB_PASSWORD=******** img"],
                ),
            ] {
                assert_eq!(redaction.arguments(&list(given)), shown, "{given:?}");
            }
        });
    }

    #[test]
    fn a_log_hides_and_stays_what_it_is() {
        use std::io::Write as _;
        let names = Names::default();
        let mut log = Hiding::new(Vec::new(), names.clone());
        writeln!(log, "start failed: HF_TOKEN=x y").unwrap();
        let json = "{\"a\":[{\"b\":\"exec \\\"HF_TOKEN=x y\\\" and HF_TOKEN=z\"}],\"n\":1}\n";
        log.write_all(json.as_bytes()).unwrap();
        names.set(list(&["OTHER"]));
        writeln!(log, "HF_TOKEN=x OTHER=y").unwrap();
        let written = String::from_utf8(log.to).unwrap();
        assert_eq!(
            written,
            "start failed: HF_TOKEN=******** y\n\
             {\"a\":[{\"b\":\"exec \\\"HF_TOKEN=********\\\" and HF_TOKEN=********\"}],\"n\":1}\n\
             HF_TOKEN=x OTHER=********\n"
        );
    }

    #[test]
    fn sentences_are_searched_word_by_word() {
        with(|redaction| {
            for (given, shown) in [
                (
                    "exec: \"HF_TOKEN=a b\": not found",
                    "exec: \"HF_TOKEN=********\": not found",
                ),
                ("'HF_TOKEN=it\\' x", "'HF_TOKEN=********' x"),
                (
                    "HF_TOKEN=a HF_TOKEN=b",
                    "HF_TOKEN=******** HF_TOKEN=********",
                ),
                ("HF_TOKEN=HF_TOKEN=b c", "HF_TOKEN=******** c"),
                ("HF_TOKEN=\"never closed; x", "HF_TOKEN=********"),
                ("HF_TOKEN=a\\ b c", "HF_TOKEN=******** c"),
                ("HF_TOKEN=é|é", "HF_TOKEN=********|é"),
                ("HF_TOKEN= HF_TOKEN", "HF_TOKEN= HF_TOKEN"),
                ("éHF_TOKEN=x", "éHF_TOKEN=********"),
                ("nothing = here", "nothing = here"),
            ] {
                assert_eq!(redaction.text(given), shown, "{given}");
            }
        });
    }
}
