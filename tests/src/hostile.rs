//! Texts that are meant to cost a reader of configuration more than they should.

use longshore_config::read::{Format, MAX_BYTES};

/// The formats, in the order of their names.
pub const FORMATS: [Format; 4] = [Format::Hocon, Format::Json, Format::Toml, Format::Yaml];

/// A text of at most [`MAX_BYTES`] bytes: a beginning, a part as often as there is room for it,
/// and an end.
fn filled(begin: &str, part: impl Fn(usize) -> String, end: &str) -> String {
    let mut text = begin.to_owned();
    for n in 0.. {
        let part = part(n);
        if text.len() + part.len() + end.len() > MAX_BYTES {
            break;
        }
        text.push_str(&part);
    }
    text.push_str(end);
    text
}

fn same(part: &'static str) -> impl Fn(usize) -> String {
    move |_| part.to_owned()
}

/// Members of a map of HOCON.
fn wide(members: usize) -> String {
    let members: Vec<String> = (0..members).map(|n| format!("k{n}=1")).collect();
    members.join(",")
}

/// A large map, and a map in one, beside a part as often as said.
fn beside(part: &str, times: usize) -> String {
    let wide = wide(3000);
    format!("a={{{wide},m={{{wide}}}}}\nb=${{a}}{}", part.repeat(times))
}

/// A path of as many and as long parts as one may have.
fn long_path(n: usize) -> String {
    let part = "p".repeat(500);
    let mut parts = vec![part; 31];
    parts.push(format!("q{n}"));
    parts.join(".")
}

/// Lists with anchors inside of each other, around as many values as there may be.
fn nested_anchors() -> String {
    let begin: String = (0..30).map(|n| format!("&a{n} [")).collect();
    format!("a: {begin}{}1{}\n", "1,".repeat(9_900), "]".repeat(30))
}

/// As many masks as there is room for, below keys of this name.
fn masks_below(name: &str, depth: usize) -> String {
    let begin = format!("{{\"{name}\":").repeat(depth);
    let end = "}".repeat(depth + 1);
    let masks: Vec<String> = (0..9_900)
        .map(|n| format!("\"{n}\":\"********\""))
        .collect();
    format!("{begin}{{{}{end}", masks.join(","))
}

/// A map with so many members below a key.
fn wide_json(members: usize, root: &str) -> String {
    let members: Vec<String> = (0..members).map(|n| format!("\"k{n}\":0")).collect();
    format!("{{\"{root}\":{{{}}}}}", members.join(","))
}

/// Hostile texts of a format, each with a word for what it does.
#[must_use]
pub fn texts(format: Format) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("nothing but brackets", filled("", same("["), "")),
        ("nothing but braces", filled("", same("{"), "")),
        ("one long quoted text", filled("\"", same("\\n"), "\"")),
        ("nothing but quotes", filled("", same("\""), "")),
        ("nothing but line ends", filled("", same("\n"), "x")),
        ("letters of four bytes", filled("", same("\u{1f980}"), "")),
        ("a number without an end", filled("", same("9"), "")),
    ];
    let own = match format {
        Format::Json => vec![
            ("a flat list", filled("{\"a\":[0", same(",0"), "]}")),
            (
                "many keys",
                filled("{\"z\":0", |n| format!(",\"k{n}\":{n}"), "}"),
            ),
            (
                "one key again and again",
                filled("{\"a\":0", same(",\"a\":0"), "}"),
            ),
            ("a long key", filled("{\"", same("k"), "\":0}")),
            (
                "values below a long key",
                filled(
                    &format!("{{\"{}\":{{\"z\":0", "k".repeat(100_000)),
                    |n| format!(",\"k{n}\":0"),
                    "}}",
                ),
            ),
            ("masks below long keys", masks_below(&"k".repeat(330), 3)),
            ("masks below many keys", masks_below(&"k".repeat(32), 30)),
            (
                "unknown keys that are nearly known",
                filled("{\"z\":0", |n| format!(",\"agent.git.usr{n:04}\":0"), "}"),
            ),
            (
                "members that are none of a file",
                filled(
                    &format!("{{\"files\":{{\"{}\":{{\"z\":0", "k".repeat(400)),
                    |n| format!(",\"k{n}\":0"),
                    "}}}",
                ),
            ),
            (
                "keys of a machine",
                filled(
                    &format!(
                        "{{\"agent\":{{\"docker\":{{\"{}\":{{\"z\":0",
                        "k".repeat(500)
                    ),
                    |n| format!(",\"k{n}\":0"),
                    "}}}}",
                ),
            ),
            ("as many keys as there may be", wide_json(9_990, "k")),
            (
                "as many variables as there may be",
                wide_json(9_900, "environment"),
            ),
            (
                "brackets that close",
                format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            ),
            ("escapes", filled("{\"a\":\"", same("\\u00e9"), "\"}")),
        ],
        Format::Yaml => vec![
            ("a flat list", filled("a: [0", same(",0"), "]")),
            ("many keys", filled("", |n| format!("k{n}: {n}\n"), "")),
            (
                "many anchors",
                filled("", |n| format!("k{n}: &a{n} 1\n"), ""),
            ),
            (
                "aliases of aliases",
                filled(
                    "a0: &a0 [x,x,x,x,x,x,x,x,x]\n",
                    |n| {
                        let before = format!("*a{n}");
                        let next = n + 1;
                        format!("a{next}: &a{next} [{}]\n", vec![before; 9].join(","))
                    },
                    "",
                ),
            ),
            (
                "one alias again and again",
                filled("a: &a [1,2,3]\nb: [*a", same(",*a"), "]"),
            ),
            ("lists in lists by dashes", filled("", same("- "), "x")),
            ("anchors inside of anchors", nested_anchors()),
            (
                "values below a long key",
                filled(
                    &format!("? {}\n:\n", "k".repeat(100_000)),
                    |n| format!("  k{n}: 1\n"),
                    "",
                ),
            ),
            ("questions", filled("", same("? "), "x")),
            ("a folded text", filled("a: >\n", same("  x\n\n"), "")),
            ("comments", filled("", same("# x\n"), "")),
            ("tabs and colons", filled("", same("\t:"), "")),
        ],
        Format::Toml => vec![
            ("a flat list", filled("a=[0", same(",0"), "]")),
            ("many keys", filled("", |n| format!("k{n}={n}\n"), "")),
            ("many tables", filled("", |n| format!("[t{n}]\n"), "")),
            (
                "one table of a list again and again",
                filled("", same("[[a]]\n"), ""),
            ),
            ("a key of many parts", filled("a", same(".a"), "=1")),
            (
                "many keys below one key",
                filled("", |n| format!("a.b.c.k{n}=1\n"), ""),
            ),
            (
                "tables in a row",
                filled("a={", |n| format!("k{n}={{}},"), "z=1}"),
            ),
            (
                "texts of many lines",
                filled("a=\"\"\"", same("\\\n"), "\"\"\""),
            ),
        ],
        Format::Hocon => vec![
            ("a flat list", filled("a=[0", same(",0"), "]")),
            ("many keys", filled("", |n| format!("k{n}={n}\n"), "")),
            ("a key of many parts", filled("a", same(".a"), "=1")),
            ("one key again and again", filled("", same("a=1\n"), "")),
            (
                "doubled again and again",
                filled("a=x\n", same("a=${a}${a}\n"), ""),
            ),
            (
                "a chain of references",
                filled("k0=x\n", |n| format!("k{}=${{k{n}}}\n", n + 1), ""),
            ),
            (
                "a chain that doubles",
                filled("k0=x\n", |n| format!("k{}=${{k{n}}}${{k{n}}}\n", n + 1), ""),
            ),
            (
                "lists that double",
                filled(
                    "k0=[x]\n",
                    |n| format!("k{}=${{k{n}}} ${{k{n}}}\n", n + 1),
                    "",
                ),
            ),
            (
                "maps that join",
                filled("m={a=1}\n", |n| format!("m=${{m}}{{k{n}=1}}\n"), ""),
            ),
            ("lists that grow", filled("a=[]\n", same("a+=1\n"), "")),
            (
                "references in a circle",
                filled("a=${z}\nz=${a}\n", same("b=${?a}\n"), ""),
            ),
            ("one line without quotes", filled("a=", same("x "), "")),
            ("maps side by side", filled("a={x=1}", same("{x=1}"), "")),
            ("a large map beside empty ones", beside("{}", 25_000)),
            ("a large map beside small ones", beside("{k1=2}", 3_000)),
            (
                "a large map in a map beside small ones",
                beside("{m={z=1}}", 3_000),
            ),
            (
                "a large map said again and again",
                format!(
                    "a={{{}}}\n{}",
                    wide(4000),
                    "b=${a}\nb={k1=1}\n".repeat(4_000)
                ),
            ),
            (
                "references to long keys that are not there",
                (0..16)
                    .map(|n| format!("k{n}=${{?{}}}\n", long_path(n)))
                    .collect(),
            ),
            (
                "a reference with a long name again and again",
                format!("a=${{?{}}}\n{}", long_path(0), "b=${?a}\n".repeat(15_000)),
            ),
            (
                "references that are not there",
                filled("", |n| format!("k{n}=${{?q{n}}}\n"), ""),
            ),
        ],
    };
    all.extend(
        own.into_iter()
            .map(|(what, text)| (what, whole(format, text))),
    );
    all
}

/// A text of as much work as there may be is not always as large as it may be: the rest is nothing
/// but room.
fn whole(format: Format, text: String) -> String {
    if text.len() >= MAX_BYTES * 3 / 4 {
        return text;
    }
    let rest = MAX_BYTES - text.len() - 2;
    match format {
        Format::Json => format!("{text}\n{}", " ".repeat(rest)),
        _ => format!("{text}\n#{}", "x".repeat(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_large_as_a_text_may_be() {
        for format in FORMATS {
            for (what, text) in texts(format) {
                let size = text.len();
                assert!(
                    (MAX_BYTES * 3 / 4..=MAX_BYTES).contains(&size),
                    "{format}, {what}: {size}"
                );
            }
        }
    }
}
