use super::*;
use std::collections::HashMap;

fn json(format: Format, text: &str) -> String {
    match read(format, text.as_bytes()) {
        Ok(node) => node.to_json().to_string(),
        Err(problem) => format!("{problem}"),
    }
}

/// Compares all rows of a table and shows all that differ.
fn table(rows: &[(&str, &str)], read: impl Fn(&str) -> String) {
    let differ = |(text, expected): &&(&str, &str)| read(text) != *expected;
    let wrong: Vec<_> = rows
        .iter()
        .filter(differ)
        .map(|(t, e)| (t, read(t), e))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn hocon(text: &str) -> String {
    json(Format::Hocon, text)
}

#[test]
fn one_document_in_four_formats() {
    let expected = r#"{"a":{"b":[1,"x",true]},"c":1.5,"d":"é"}"#;
    for (format, text) in [
        (
            Format::Json,
            "{\"a\": {\"b\": [1, \"x\", true]},\n \"c\":1.5,\"d\":\"\\u00e9\"}",
        ),
        (Format::Yaml, "a:\n  b: [1, x, true]\nc: 1.5\nd: é\n"),
        (
            Format::Toml,
            "c = 1.5\nd = \"é\"\n[a]\nb = [1, \"x\", true]\n",
        ),
        (
            Format::Hocon,
            "a.b = [1, x, true], c : 1.5\nd = é // a word\n",
        ),
    ] {
        assert_eq!(json(format, text), expected, "{format}");
    }
}

#[test]
fn places_are_those_of_the_text() {
    for (format, text) in [
        (Format::Json, "{\n \"é\": 1, \"b\": {\"c\": 3}}"),
        (Format::Yaml, "\n{é:   1, b:   {c:   3}}"),
        (Format::Hocon, "\n é =   1, b =   {c =   3}"),
    ] {
        let node = read(format, text.as_bytes()).unwrap();
        let c = node.get("b").and_then(|b| b.get("c")).unwrap();
        assert_eq!(c.at.line, 2, "{format}");
        assert!((20..=24).contains(&c.at.column), "{format} {}", c.at);
    }
    let node = read(Format::Toml, b"a = 1\n[b.c]\nd = 2").unwrap();
    let d = &node.get("b").unwrap().get("c").unwrap().entries().unwrap()[0];
    assert_eq!((d.at, d.node.at.column), (Mark { line: 3, column: 1 }, 5));
}

#[test]
fn keys_are_given_once() {
    for (format, text, expected) in [
        (
            Format::Json,
            "{\"a\": {\"b\": 1,\n\"b\": 2}}",
            "2:1: Key a.b is given twice.",
        ),
        (
            Format::Yaml,
            "a:\n  b: 1\n  b: 2",
            "3:3: Key a.b is given twice.",
        ),
        (Format::Toml, "b = 1\nb = 2", "2:1: Key b is given twice."),
    ] {
        assert_eq!(json(format, text), expected);
    }
}

#[test]
fn scalars_keep_their_letters() {
    for (format, text) in [
        (Format::Yaml, "x: 1.10"),
        (Format::Hocon, "x = 1.10"),
        (Format::Json, "{\"x\": 1.10}"),
        (Format::Toml, "x = 1.10"),
    ] {
        let node = read(format, text.as_bytes()).unwrap();
        assert_eq!(node.get("x").unwrap().text(), Some("1.10"), "{format}");
    }
    let node = read(Format::Json, b"{\"RATE\": 5e-4}").unwrap();
    assert_eq!(node.get("RATE").unwrap().text(), Some("5e-4"));
}

#[test]
fn yaml_is_strict() {
    let rows = [
        (
            "{a: yes, b: no, c: on, d: y}",
            r#"{"a":"yes","b":"no","c":"on","d":"y"}"#,
        ),
        (
            "{a: ~, b: Null, c: TRUE, d: 0o17}",
            r#"{"a":null,"b":null,"c":true,"d":15}"#,
        ),
        ("a: &x {b: 1}\nc: *x", r#"{"a":{"b":1},"c":{"b":1}}"#),
        ("a: !!str 1", "1:4: Tags are not allowed."),
        (
            "a: {b: 1}\n<<: {c: 2}",
            "2:1: Merge keys (<<) are not allowed.",
        ),
        (
            "a: 1\n---\nb: 2",
            "2:1: There is more than one document in the text.",
        ),
        ("? [a]\n: 1", "1:3: A key must be a scalar."),
        (
            "a: &x [*x]",
            "1:8: An alias stands inside of what it names.",
        ),
        ("a: .inf", "1:4: Infinity is not a number that can be kept."),
        ("", "1:1: The text is empty."),
        ("a: 'x'\nb: \"1\"", r#"{"a":"x","b":"1"}"#),
        (
            "a: 1.2.3\nb: -.5e3\nc: +",
            r#"{"a":"1.2.3","b":-500.0,"c":"+"}"#,
        ),
    ];
    table(&rows, |text| json(Format::Yaml, text));
}

#[test]
fn hocon_joins_and_replaces() {
    let rows = [
        ("{a: 1, a: 2}", r#"{"a":2}"#),
        (
            "a { b = 1 }\na.c = 2\na { b = 3 }",
            r#"{"a":{"b":3,"c":2}}"#,
        ),
        ("a { b = 1 }, a = 2, a { c = 3 }", r#"{"a":{"c":3}}"#),
        (
            "a { b { c = 1 } }\na { b = 2, b.d = 3 }",
            r#"{"a":{"b":{"d":3}}}"#,
        ),
        ("a = 1 b  c", r#"{"a":"1 b  c"}"#),
        ("a = [1, 2] [3]", r#"{"a":[1,2,3]}"#),
        ("a = [1\n2,\n3,]", r#"{"a":[1,2,3]}"#),
        ("a = { b = 1 } { c = 2 }", r#"{"a":{"b":1,"c":2}}"#),
        ("a += 1\na += 2", r#"{"a":[1,2]}"#),
        (
            "a = http://x:1/y // no\nb = \"# no\" # yes",
            r##"{"a":"http://x:1/y","b":"# no"}"##,
        ),
        (
            "a = 10.0foo\n\"b.c\".d = 1",
            r#"{"a":"10.0foo","b.c":{"d":1}}"#,
        ),
        ("a = \"\"\"x\n\"y\"\"\"\"", "{\"a\":\"x\\n\\\"y\\\"\"}"),
        (
            "a = null\nb = true\nc = truely",
            r#"{"a":null,"b":true,"c":"truely"}"#,
        ),
        ("a b = 1", r#"{"a b":1}"#),
        ("", "{}"),
        ("a = 1e+5, b = -2", r#"{"a":100000.0,"b":-2}"#),
        ("include = 1", r#"{"include":1}"#),
    ];
    table(&rows, hocon);
}

#[test]
fn hocon_substitutes_within_the_document() {
    let rows = [
        ("a = 1, b = ${a}", r#"{"a":1,"b":1}"#),
        ("b = ${a}, a = 1, a = 2", r#"{"a":2,"b":2}"#),
        ("a = x, b = pre-${a}-post", r#"{"a":"x","b":"pre-x-post"}"#),
        ("a = ${?no}, b = x${?no}", r#"{"b":"x"}"#),
        ("a = 1, a = ${?no}", r#"{"a":1}"#),
        ("a = [1], a = ${a} [2]", r#"{"a":[1,2]}"#),
        ("a { b = 1, c = ${a.b} }", r#"{"a":{"b":1,"c":1}}"#),
        (
            "base { x = 1 }, a = ${base} { y = 2 }",
            r#"{"a":{"x":1,"y":2},"base":{"x":1}}"#,
        ),
        (
            "base { x = 1 }, a = ${base} { x = 2 }, b = ${a.x}",
            r#"{"a":{"x":2},"b":2,"base":{"x":1}}"#,
        ),
        (
            "path = /bin, path = ${path}\":/usr\"",
            r#"{"path":"/bin:/usr"}"#,
        ),
        (
            "a = ${b}",
            "1:5: Substitution ${b} names nothing in this document.",
        ),
        (
            "a = ${b}, b = ${a}",
            "1:15: Substitution ${a} names nothing in this document.",
        ),
        (
            "a = ${a}",
            "1:5: Substitution ${a} names nothing in this document.",
        ),
        (
            "a { b = ${a} }",
            "1:9: Substitutions lead through more than 64 others.",
        ),
        (
            "l = [1], a = x${l}",
            "1:14: A list cannot stand beside something else in one value.",
        ),
    ];
    table(&rows, hocon);
}

#[test]
fn hocon_says_what_is_wrong_and_where() {
    let rows = [
        ("a = ", "1:5: The text ends where a value belongs."),
        ("a", "1:2: The text ends after key a."),
        ("a = {", "1:6: The text ends inside of braces."),
        ("a = [1", "1:7: The text ends inside of a list."),
        ("a = 1,,b = 2", "1:7: Unexpected ',' between members."),
        (
            "a = \"x",
            "1:5: The text in quotes that begins here has no end.",
        ),
        ("a = \"\\q\"", "1:5: The text in quotes has a wrong escape."),
        ("a..b = 1", "1:3: A key has an empty part."),
        (".a = 1", "1:1: A key has an empty part."),
        ("a. = 1", "1:4: A key has an empty part."),
        ("a = $x", "1:6: A $ without { needs quotes."),
        (
            "a = b:c",
            "1:6: Unexpected ':' where a value belongs; text with it needs quotes.",
        ),
        (
            "{a = 1} b",
            "1:9: Unexpected 'b' after the end of the document.",
        ),
        ("include \"x\"", "1:1: include is not allowed here."),
        (
            "include file(\"x\")",
            "1:1: The one form of an include is: include \"name\".",
        ),
    ];
    table(&rows, hocon);
}

struct Files(HashMap<&'static str, &'static str>);

impl Surroundings for Files {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    fn include(&mut self, name: &str) -> Result<String, String> {
        let text = self.0.get(name).copied().map(str::to_owned);
        text.ok_or_else(|| format!("there is no {name}"))
    }
}

#[test]
fn includes_and_variables_come_from_around() {
    let files = HashMap::from([
        ("b", "x = 1, y = ${?HOME}"),
        ("self", "include \"self\""),
        ("bad", "x ="),
    ]);
    let mut around = Files(files);
    let mut read = |text: &str| match read_hocon(text, &mut around) {
        Ok(node) => node.to_json().to_string(),
        Err(problem) => problem.to_string(),
    };
    assert_eq!(
        read("a { include \"b\", x = 2 }"),
        r#"{"a":{"x":2,"y":"/root"}}"#
    );
    assert_eq!(read("include \"c\""), "1:1: there is no c.");
    assert!(read("include \"self\"").ends_with("There are more than 64 includes."));
    assert_eq!(
        read("\ninclude \"bad\""),
        "2:1: In included bad, 1:4: The text ends where a value belongs."
    );
}

#[test]
fn bounds_hold_in_every_format() {
    let deep = |open: &str, close: &str, n| format!("{}{}", open.repeat(n), close.repeat(n));
    for (format, text) in [
        (Format::Json, format!("{{\"a\":{}}}", deep("[", "]", 40))),
        (Format::Yaml, format!("a: {}", deep("[", "]", 33))),
        (Format::Toml, format!("a = {}", deep("[", "]", 40))),
        (Format::Hocon, format!("a = {}", deep("[", "]", 40))),
        (Format::Hocon, format!("{} = 1", ["a"; 40].join("."))),
    ] {
        let text = json(format, &text);
        assert!(
            text.contains("deep") || text.contains("nest"),
            "{format}: {text}"
        );
    }
    for (format, text) in [
        (Format::Json, format!("[{}]", vec!["1"; 20_000].join(","))),
        (Format::Yaml, format!("[{}]", vec!["1"; 20_000].join(","))),
        (
            Format::Toml,
            format!("a = [{}]", vec!["1"; 20_000].join(",")),
        ),
        (
            Format::Hocon,
            format!("a = [{}]", vec!["1"; 20_000].join(",")),
        ),
    ] {
        assert!(
            json(format, &text).contains("more than 10000 values"),
            "{format}"
        );
    }
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
        c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
    assert!(json(Format::Yaml, laughs).contains("more than 10000 values"));
    // Names take room as well.
    let name = "n".repeat(500);
    let names: Vec<String> = (0..50).map(|n| format!("{name}{n}: 1")).collect();
    let names = names.join(", ");
    let aliases = format!("a: &a {{{names}}}\nb: [{}]", vec!["*a"; 100].join(", "));
    assert!(json(Format::Yaml, &aliases).contains("holds more than 1024 KiB"));
    let references = format!("a {{ {names} }}\nb: [{}]", vec!["${a}"; 100].join(", "));
    assert!(json(Format::Hocon, &references).contains("holds more than 1024 KiB"));
    let growing = (1..40).map(|n| format!("a{n} = ${{a{}}}${{a{}}}\n", n - 1, n - 1));
    let growing: String = std::iter::once("a0 = xx\n".to_owned())
        .chain(growing)
        .collect();
    assert!(
        hocon(&growing).contains("more than 200000 steps"),
        "{}",
        hocon(&growing)
    );
    let long = vec![b'a'; MAX_BYTES + 1];
    assert_eq!(read(Format::Hocon, &long).unwrap_err().rule, Rule::Size);
    assert_eq!(
        json(Format::Hocon, "a = \0"),
        "1:5: The content is not valid UTF-8 text."
    );
    assert!(read(Format::Json, b"{\"a\": \"\xff\"}").is_err());
}

#[test]
fn what_maps_and_names_cost_counts_as_steps() {
    let wide: Vec<String> = (0..2000).map(|n| format!("k{n}=1")).collect();
    let wide = wide.join(",");
    let beside = |part: &str, times: usize| {
        let text = format!("a={{{wide},m={{{wide}}}}}\nb=${{a}}{}", part.repeat(times));
        read(Format::Hocon, text.as_bytes()).map_err(|problem| problem.message)
    };
    let long = vec!["p".repeat(500); 31].join(".");
    let again = format!("a=${{?{long}}}\n{}", "b=${?a}\n".repeat(10_000));
    let again = read(Format::Hocon, again.as_bytes());
    for told in [
        beside("{k1=2}", 3000),
        beside("{m={z=1}}", 3000),
        again.map_err(|problem| problem.message),
    ] {
        let expected = "The substitutions take more than 200000 steps.";
        assert_eq!(told.unwrap_err(), expected);
    }
    // As many as anybody writes are joined; nothing is gone through for what is empty.
    let few = beside("{k1=2}{m={z=1}}", 20).unwrap();
    let b = few.get("b").unwrap();
    assert_eq!(b.get("k1").unwrap().text(), Some("2"));
    assert_eq!(b.get("m").unwrap().entries().unwrap().len(), 2001);
    assert!(beside("{}", 25_000).is_ok());
}

#[test]
fn aliases_find_what_has_come_to_its_end_meanwhile() {
    let text = "a: {b: &x [1, &z {c: 2}], d: [*x, &y {e: *x, g: *z}]}\nf: *y\nh: [[*z], *y]\n";
    assert_eq!(
        json(Format::Yaml, text),
        r#"{"a":{"b":[1,{"c":2}],"d":[[1,{"c":2}],{"e":[1,{"c":2}],"g":{"c":2}}]},"f":{"e":[1,{"c":2}],"g":{"c":2}},"h":[[{"c":2}],{"e":[1,{"c":2}],"g":{"c":2}}]}"#
    );
    assert!(json(Format::Yaml, "a: &a [*a]").contains("stands inside of what it names"));
}
