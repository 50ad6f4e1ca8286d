use super::*;
use std::fs;

fn order(target: Target, path: PathBuf) -> Order {
    Order {
        filters: "info".to_owned(),
        form: Form::Text,
        target,
        file: LogFile {
            path,
            max_size: LEAST_SIZE,
            keep: 1,
        },
    }
}

/// A log that only what runs inside of `within` writes to.
fn with_log(fixed: Option<&str>, within: impl FnOnce(&Log)) {
    let (log, lines, filter) = Log::made("longshore-test", Names::default(), fixed);
    let all = tracing_subscriber::registry().with(filter).with(lines);
    tracing::subscriber::with_default(all, || within(&log));
}

#[test]
fn lines_follow_the_target_and_stay_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.log"), dir.path().join("b.log"));
    with_log(None, |log| {
        let take = |order: &Order| log.take(log.prepare(order).unwrap()).unwrap();
        take(&order(Target::File, first.clone()));
        tracing::info!("one HF_TOKEN=hf_x");
        tracing::debug!("too little");
        let mut debug = order(Target::File, first.clone());
        debug.filters = "debug".to_owned();
        take(&debug);
        tracing::debug!("two");
        // Moved away by somebody: the next reload makes another.
        fs::rename(&first, dir.path().join("moved.log")).unwrap();
        take(&debug);
        tracing::info!("three");
        take(&order(Target::File, second.clone()));
        tracing::info!("four");
        take(&order(Target::Stderr, second.clone()));
        tracing::info!("elsewhere");
    });
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let moved = read(dir.path().join("moved.log"));
    assert_eq!(moved.lines().count(), 2, "{moved}");
    assert!(moved.contains("one HF_TOKEN=********") && moved.contains("two"));
    assert!(!moved.contains('\u{1b}'), "no colours in files");
    let (first, second) = (read(first), read(second));
    assert!(first.contains("three") && first.lines().count() == 1);
    assert!(second.contains("four") && second.lines().count() == 1);
}

/// What may be over when it is tried again.
fn failed(error: Error) -> String {
    match error {
        Error::Failed(text) => text,
        Error::Wrong(text) => panic!("nothing is wrong with the configuration: {text}"),
    }
}

#[test]
fn what_cannot_be_opened_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    with_log(None, |log| {
        let begun = log.prepare(&order(Target::File, path.clone())).unwrap();
        log.take(begun).unwrap();
        let wrong = log.prepare(&order(Target::File, dir.path().to_owned()));
        let wrong = failed(wrong.unwrap_err());
        let begin = format!("logging.file.path: {}: ", dir.path().display());
        assert!(wrong.starts_with(&begin), "{wrong}");
        let wrong = log.prepare(&order(Target::File, "a.log".into()));
        let text = "logging.file.path: must be the absolute path of a file";
        assert_eq!(wrong.unwrap_err(), Error::Wrong(text.to_owned()));
        // Another process has that one.
        let other = order(Target::File, dir.path().join("b.log"));
        let _held = Turning::open(&other.file, Duration::ZERO).unwrap();
        let wrong = failed(log.prepare(&other).unwrap_err());
        assert!(
            wrong.ends_with("b.log: another process writes to it"),
            "{wrong}"
        );
        if !std::path::Path::new(SOCKET).exists() {
            let wrong = log.prepare(&order(Target::Journal, path.clone()));
            let wrong = failed(wrong.unwrap_err());
            assert!(wrong.starts_with("logging.target: journal: "), "{wrong}");
        }
        let mut loud = order(Target::Stderr, path.clone());
        loud.filters = "longshore=loud".to_owned();
        let Err(Error::Wrong(wrong)) = log.prepare(&loud) else {
            panic!("taken, or said to pass by itself");
        };
        assert!(wrong.starts_with("logging.level: "), "{wrong}");
        tracing::info!("still here");
    });
    assert!(fs::read_to_string(&path).unwrap().contains("still here"));
}

/// Each form finds in a span what it wants, whichever was in force when it was opened, and also
/// what was recorded in it later.
#[test]
fn how_lines_look_may_change_under_open_spans() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    with_log(None, |log| {
        let take = |form| {
            let order = Order {
                form,
                ..order(Target::File, path.clone())
            };
            log.take(log.prepare(&order).unwrap()).unwrap();
        };
        take(Form::Text);
        let outer = tracing::info_span!("outer", n = 1, late = tracing::field::Empty);
        let _outer = outer.enter();
        tracing::info!("one");
        take(Form::Json);
        outer.record("late", "yes");
        let inner = tracing::info_span!("inner", m = "x");
        let _inner = inner.enter();
        tracing::info!("two");
        take(Form::Text);
        tracing::info!("three");
        take(Form::Auto);
        tracing::info!("four");
    });
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [one, two, three, four] = lines.as_slice() else {
        panic!("{text}");
    };
    assert!(
        one.contains("outer{n=1}: ") && one.ends_with("one"),
        "{one}"
    );
    for (line, said) in [(two, "two"), (four, "four")] {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["fields"]["message"], said);
        let spans = &line["spans"];
        assert_eq!(
            (&spans[0]["n"], &spans[0]["late"]),
            (&1.into(), &"yes".into())
        );
        assert_eq!(
            (&spans[1]["name"], &spans[1]["m"]),
            (&"inner".into(), &"x".into())
        );
    }
    let spans = "outer{n=1 late=\"yes\"}:inner{m=\"x\"}: ";
    assert!(three.contains(spans) && three.ends_with("three"), "{three}");
}

#[test]
fn programs_read_files_and_people_the_rest() {
    assert!(is_json(Form::Auto, true) && !is_json(Form::Auto, false));
    for file in [false, true] {
        assert!(is_json(Form::Json, file) && !is_json(Form::Text, file));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let auto = |target: Target, name: &str| Order {
        form: Form::Auto,
        ..order(target, path(name))
    };
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    with_log(None, |log| {
        let take = |order: &Order| log.take(log.prepare(order).unwrap()).unwrap();
        take(&auto(Target::File, "a.log"));
        tracing::info!("one");
    });
    assert!(read("a.log").starts_with('{'));
    // It follows where lines go, also in a span that is open.
    with_log(None, |log| {
        let take = |order: &Order| log.take(log.prepare(order).unwrap()).unwrap();
        take(&auto(Target::Stderr, "b.log"));
        let span = tracing::info_span!("work", n = 1);
        let _open = span.enter();
        take(&auto(Target::File, "b.log"));
        tracing::info!("two");
    });
    let line: serde_json::Value = serde_json::from_str(&read("b.log")).unwrap();
    assert_eq!(
        (&line["span"]["n"], &line["fields"]["message"]),
        (&1.into(), &"two".into())
    );
}

#[test]
fn what_stands_over_the_configuration_stays() {
    with_log(Some("warn"), |log| {
        log.set_filters("trace").unwrap();
        assert!(log.set_filters("longshore=loud").is_err());
        assert!(!tracing::enabled!(Level::INFO));
    });
    // What does not read stands over nothing.
    with_log(Some("longshore=loud"), |log| {
        assert!(tracing::enabled!(Level::INFO) && !tracing::enabled!(Level::DEBUG));
        log.set_filters("trace").unwrap();
        assert!(tracing::enabled!(Level::TRACE));
        log.set_filters("error").unwrap();
        assert!(!tracing::enabled!(Level::INFO));
    });
}
