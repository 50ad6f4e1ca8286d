//! The readers against texts that nobody wrote on purpose: a corpus that is replayed, and what
//! becomes of it when parts are changed by chance. The numbers of a run follow from a seed.
//!
//! `LONGSHORE_FUZZ_S=600` goes on for so many seconds from `LONGSHORE_FUZZ_SEED`; what fails is
//! printed with its seed. A text that failed once belongs into the corpus.

#![allow(clippy::unwrap_used)]

use longshore_config::read::{Format, MAX_BYTES, MAX_DEPTH, MAX_OUTPUT, MAX_VALUES, Problem, read};
use longshore_config::tree::{Node, Value};
use longshore_config::work;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FORMATS: [Format; 4] = [Format::Hocon, Format::Json, Format::Toml, Format::Yaml];
/// Changed texts per format in a run of all tests.
const ROUNDS: u64 = 3000;
/// Words that mean something in one of the formats.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    ":",
    "=",
    ",",
    "\n",
    "\r\n",
    "\t",
    " ",
    "#",
    "//",
    "${",
    "${?",
    "}",
    "+=",
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "- ",
    "? ",
    "---\n",
    "...\n",
    "|\n",
    ">-\n",
    "%YAML 1.2\n",
    "[[a]]",
    "include \"x\"",
    "null",
    "\\u00e9",
    "\\ud800",
    "1e999",
    "\u{0}",
    "\u{feff}",
];

/// xorshift64*
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `most`, which is not 0.
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % most
    }
}

fn corpus(format: Format) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(format.to_string());
    let files = std::fs::read_dir(&dir).unwrap();
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Another text, made of one or two of the corpus.
fn changed(chance: &mut Chance, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut text = corpus[chance.below(corpus.len())].1.clone();
    for _ in 0..=chance.below(6) {
        let at = chance.below(text.len() + 1);
        let end = at + chance.below(text.len() - at + 1);
        match chance.below(7) {
            0 => drop(text.drain(at..end)),
            1 => {
                let word = WORDS[chance.below(WORDS.len())];
                text.splice(at..at, word.bytes());
            }
            2 => {
                let part = text[at..end].to_vec();
                let times = 1 + chance.below(64);
                let many = part.repeat(times);
                if text.len() + many.len() <= MAX_BYTES {
                    text.splice(at..at, many);
                }
            }
            3 => {
                let other = &corpus[chance.below(corpus.len())].1;
                let from = chance.below(other.len() + 1);
                text.splice(at..end, other[from..].iter().copied());
            }
            4 if at < text.len() => text[at] ^= 1 << chance.below(8),
            5 => text.truncate(end),
            _ => {
                let word = WORDS[chance.below(WORDS.len())];
                let times = 1 + chance.below(200);
                text.splice(at..end, word.repeat(times).bytes());
            }
        }
    }
    text
}

fn bounds(node: &Node, depth: usize, values: &mut usize, output: &mut usize) {
    *values += 1;
    assert!(depth <= MAX_DEPTH + 1, "deeper than it may be");
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                bounds(&entry.node, depth + 1, values, output);
            }
        }
        Value::List(items) => {
            for item in items {
                bounds(item, depth + 1, values, output);
            }
        }
        _ => *output += node.text().map_or(0, str::len),
    }
}

/// The longest part of a text that stands in a message.
fn echoed(problem: &Problem, text: &str) -> usize {
    let message = &problem.message;
    let mut longest = 0;
    // Of words of ours nothing is as long as what is looked for.
    for (from, _) in message.char_indices() {
        while let Some(part) = message.get(from..from + longest + 1) {
            if !text.contains(part) {
                break;
            }
            longest += 1;
        }
    }
    longest
}

/// What holds for every text.
fn hold(format: Format, bytes: &[u8]) {
    match read(format, bytes) {
        Ok(tree) => {
            let (mut values, mut output) = (0, 0);
            bounds(&tree, 1, &mut values, &mut output);
            assert!(values <= MAX_VALUES + 1, "{values} values");
            assert!(output <= MAX_OUTPUT, "{output} bytes");
        }
        Err(problem) => {
            assert!(!problem.message.is_empty());
            assert!(problem.message.len() <= 1024, "{}", problem.message);
            let text = String::from_utf8_lossy(bytes);
            assert!(echoed(&problem, &text) <= 96, "{}", problem.message);
            let lines = text.split('\n').count();
            let line = usize::try_from(problem.at.line).unwrap();
            assert!(line <= lines + 1, "line {line} of {lines}");
        }
    }
    // A vault is the same text under more rules.
    if let Err(found) = work::check(format, bytes) {
        assert!(!found.is_empty(), "refused without a word");
    }
}

/// The same with the text in front of what failed.
fn tried(format: Format, bytes: &[u8], what: &str) {
    let held = catch_unwind(AssertUnwindSafe(|| hold(format, bytes)));
    assert!(
        held.is_ok(),
        "{format}, {what}: {:?}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn the_corpus_is_read_or_refused() {
    for format in FORMATS {
        let all = corpus(format);
        assert!(all.len() >= 10);
        for (path, text) in &all {
            tried(format, text, &path.display().to_string());
        }
        let good = all.iter().filter(|(_, text)| read(format, text).is_ok());
        let good = good.count();
        assert!(0 < good && good < all.len(), "{format}: {good} are good");
        // What one format writes, the others meet too.
        for other in FORMATS {
            for (path, text) in &all {
                tried(other, text, &path.display().to_string());
            }
        }
    }
}

#[test]
fn what_chance_makes_of_it_is_read_or_refused() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 = number("LONGSHORE_FUZZ_SEED").unwrap_or(20_261_122);
    let time = number("LONGSHORE_FUZZ_S").map(Duration::from_secs);
    let began = Instant::now();
    let corpora = FORMATS.map(corpus);
    for round in 0.. {
        let over = match time {
            Some(time) => began.elapsed() >= time,
            None => round >= ROUNDS,
        };
        if over {
            break;
        }
        let mut chance = Chance((seed + round) | 1 << 63);
        for (format, corpus) in FORMATS.iter().zip(&corpora) {
            let text = changed(&mut chance, corpus);
            tried(*format, &text, &format!("seed {}", seed + round));
        }
    }
}
