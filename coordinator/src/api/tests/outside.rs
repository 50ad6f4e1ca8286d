//! What reaches out of the installation and into it: custom actions, pages of other origins, and
//! the net below all deadlines.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

/// A server that answers every call with 201, and what it was sent.
fn desk() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (calls, taken) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            // Head and body of two bytes.
            while !text.ends_with(b"\r\n\r\n{}") {
                let count = socket.read(&mut piece).unwrap();
                text.extend_from_slice(&piece[..count]);
            }
            let _ = calls.send(String::from_utf8(text).unwrap());
            let answer = "HTTP/1.1 201 Created\r\ncontent-length: 6\r\n\r\nsecret";
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    (port, taken)
}

async fn run(f: &Fixture, kind: &str, id: &str, name: &str) -> Answer {
    let order = json!({"type": kind, "id": id, "name": name});
    f.post("/api/v1/actions/run", &order).await
}

#[tokio::test]
async fn an_action_is_called_about_one_object_and_its_answer_stays_here() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
    let (port, calls) = desk();
    ACTION_PORT.set(port);
    let f = ready().await;
    let listed = f.get("/api/v1/actions?type=session").await.json();
    let names: Vec<&str> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Open ticket", "Look"]);
    assert_eq!(listed["items"][1]["level"], "ro");
    let wrong = f.get("/api/v1/actions?type=node").await;
    assert_eq!(wrong.code(), "LS-PARAMETER");

    let unknown = run(&f, "session", "s-77", "Look").await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.code()),
        (404, "LS-NOT-FOUND".into())
    );
    let made = f.submit(json!({"command": ["true"]})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let none = run(&f, "session", "s-1", "Nothing").await;
    assert_eq!(none.code(), "LS-NOT-FOUND");
    let body = json!({"type": "session", "id": "s-1", "name": "Open ticket"});
    let rehearsed = f.post("/api/v1/actions/run?dry_run=true", &body).await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    assert!(calls.try_recv().is_err(), "a rehearsal calls nobody");

    let done = run(&f, "session", "s-1", "Open ticket").await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(
        (&done.json()["ok"], &done.json()["status"]),
        (&json!(true), &json!(201))
    );
    assert!(!done.text().contains("secret"), "{}", done.text());
    let call = calls.recv().unwrap().to_ascii_lowercase();
    assert!(call.starts_with("post /new?s=s-1 http/1.1\r\n"), "{call}");
    for part in [
        "longshore-user: ",
        "longshore-request-id: ",
        "longshore-signature: t=",
    ] {
        assert!(call.contains(part), "{part} in {call}");
    }
    assert!(!call.contains("authorization"), "{call}");
    let log = f.get("/api/v1/audit?operation=action.run").await.json();
    let records = log["items"].as_array().unwrap();
    assert_eq!(records.len(), 1, "{log}");
    assert_eq!(records[0]["target"]["id"], "s-1");
    assert!(!log.to_string().contains("sign-secret"));
}

#[tokio::test]
async fn a_desk_that_is_not_there_is_named_by_its_kind() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // once is enough
    let f = ready().await;
    f.submit(json!({"command": ["true"]})).await;
    let failed = run(&f, "session", "s-1", "Look").await;
    assert_eq!(
        (failed.status.as_u16(), failed.code()),
        (502, "LS-UPSTREAM".into())
    );
    assert!(!failed.text().contains("127.0.0.1"), "{}", failed.text());
    // These may be configured, and there are none of which one could have anything called.
    for (kind, text) in [
        ("folder", "There are no folders yet."),
        ("model", "There are no models yet."),
    ] {
        let nobody = run(&f, kind, "x", "Look").await;
        assert_eq!(nobody.code(), "LS-NOT-FOUND");
        assert_eq!(nobody.json()["detail"], text);
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_answers_and_others_may_not() {
    let f = ready().await;
    let ask = |origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("authorization", ""),
        ];
        let f = &f;
        async move {
            f.send("OPTIONS", "/api/v1/sessions", &headers, Body::empty())
                .await
        }
    };
    let let_in = ask("https://pages.lab").await;
    assert_eq!(let_in.status, 204);
    let allow = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    assert_eq!(allow(&let_in), "https://pages.lab");
    assert_eq!(let_in.header("access-control-max-age"), "600");
    assert_eq!(let_in.header("access-control-allow-credentials"), "true");
    assert!(
        let_in
            .header("access-control-allow-methods")
            .contains("PATCH")
    );
    for origin in ["https://pages.lab.evil", "http://pages.lab", "null"] {
        let refused = ask(origin).await;
        assert_eq!(allow(&refused), "", "{origin}");
        assert_eq!(refused.status, 405, "{origin}");
    }
    let page = [("origin", "https://pages.lab")];
    let read = f
        .send("GET", "/api/v1/sessions", &page, Body::empty())
        .await;
    assert_eq!(
        (read.status.as_u16(), allow(&read)),
        (200, page[0].1.into())
    );
    assert_eq!(read.header("vary"), "Origin");
    assert!(
        read.header("access-control-expose-headers")
            .contains("ETag")
    );
    let failed = f.send("GET", "/api/v1/sessions/s-9", &page, Body::empty());
    assert_eq!(allow(&failed.await), "https://pages.lab", "failures, too");
    let strange = [("origin", "https://evil")];
    let read = f.send("GET", "/api/v1/sessions", &strange, Body::empty());
    assert_eq!(allow(&read.await), "");
}

async fn watched_session(f: &Fixture) -> model::Watched {
    let look = |state: &model::State, _| {
        let session = &state.sessions[&longshore_common::ids::SessionId(1)];
        model::Watched {
            session: session.id,
            version: session.version,
            last_update: Timestamp(0),
            last_activity: Timestamp(0),
            stalled_since: session.stalled_since,
        }
    };
    f.app.engine.read(look).await.unwrap()
}

async fn verdict(f: &Fixture, seen: model::Watched, verdict: model::WatchdogVerdict) {
    let event = Event::Watchdog { seen, verdict };
    f.app.engine.ask(event).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_watchdog_stops_what_it_saw_and_nothing_that_moved_since() {
    let f = ready().await;
    let made = f.submit(json!({"command": ["true"], "slots": {"cpu": "1", "mem": "1g"}}));
    assert_eq!(made.await.status, 201);
    f.runs("s-1").await;
    let show = || async { f.get("/api/v1/sessions/s-1").await.json() };
    assert_eq!(show().await["state"], "RUNNING");

    let seen = watched_session(&f).await;
    verdict(&f, seen, model::WatchdogVerdict::Stalled(7200)).await;
    assert_eq!(show().await["conditions"], json!(["stalled"]));
    assert_eq!(show().await["state"], "RUNNING");
    assert!(show().await["stalled_since"].is_string());
    // It was looked at before that: another form of it is not touched.
    verdict(&f, seen, model::WatchdogVerdict::Stop(7201)).await;
    assert_eq!(show().await["state"], "RUNNING");
    let seen = watched_session(&f).await;
    verdict(&f, seen, model::WatchdogVerdict::Moves).await;
    assert!(show().await.get("stalled_since").is_none());

    let seen = watched_session(&f).await;
    verdict(&f, seen, model::WatchdogVerdict::Stop(7201)).await;
    let ended = show().await;
    assert_eq!(ended["state"], "TERMINATED");
    assert_eq!(ended["reason"], "non-responsive");
    assert_eq!(ended["detail"], "Stopped: no sign of life for 7201 s.");
    let told = f.get("/api/v1/watchdog").await.json();
    assert_eq!(
        (&told["enabled"], &told["threshold_s"]),
        (&json!(true), &json!(7200))
    );
}

/// Two sessions, each without output and without anybody who uses it: one computes.
#[tokio::test]
async fn who_computes_is_not_stalled_and_who_does_nothing_is() {
    let f = ready().await;
    for _ in 0..2 {
        let made = f.submit(json!({"command": ["true"], "slots": {"cpu": "1", "mem": "1g"}}));
        assert_eq!(made.await.status, 201);
    }
    f.runs("s-1").await;
    f.runs("s-2").await;
    let live = Arc::clone(&f.app.engine.live);
    live.keep_idle(AGENT);
    let now = wall_clock();
    // Three looks, an hour apart: s-1 was at work half a minute before each.
    let mut known = crate::watchdog::Known::new();
    let mut verdicts = Vec::new();
    for hours in 1..=3 {
        let at = now.plus_s(hours * 3600);
        let (live, before) = (Arc::clone(&live), known);
        let look = move |state: &model::State, _| {
            for session in state.sessions.values() {
                let key = session.containers[0].key;
                let works = key.session == longshore_common::ids::SessionId(1);
                let figures = wire::Figures {
                    key,
                    totals: Totals::default(),
                    devices: Vec::new(),
                    worked_at: works.then(|| at.plus_s(-30)),
                };
                live.set_figures(AGENT, figures);
            }
            crate::watchdog::look(state, &live, &before, now, at)
        };
        let (all, after) = f.app.engine.read(look).await.unwrap();
        known = after;
        let said = all.into_iter().map(|one| {
            // Its agent is there all the time: only the program stands still.
            let one = model::Watched {
                last_update: at,
                ..one
            };
            let settings = model::WatchdogSettings::default();
            model::watchdog_verdict(&one, settings, at)
        });
        verdicts.push(said.collect::<Vec<_>>());
    }
    let stalled = |s| Some(model::WatchdogVerdict::Stalled(s));
    assert_eq!(verdicts[0], [None, None]);
    assert_eq!(verdicts[1], [None, stalled(7200)]);
    assert_eq!(verdicts[2], [None, stalled(10_800)]);
}

#[tokio::test]
async fn the_first_cycle_comes_after_a_whole_interval() {
    let f = ready().await;
    f.submit(json!({"command": ["true"], "slots": {"cpu": "1", "mem": "1g"}}))
        .await;
    f.runs("s-1").await;
    let settings = model::WatchdogSettings {
        threshold_s: 60,
        interval_s: 60,
        ..model::WatchdogSettings::default()
    };
    tokio::time::pause();
    let (stop, stopping) = watch::channel(false);
    let engine = f.app.engine.clone();
    let keep = tokio::spawn(crate::watchdog::keep(engine, move || settings, stopping));
    let cycles = || f.app.engine.live.watchdog.shown();
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(cycles().last_cycle_at, None);
    assert!(cycles().next_cycle_at.is_some());
    let began = async {
        while cycles().last_cycle_at.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await; // virtual: it costs nothing
        }
    };
    tokio::time::timeout(Duration::from_secs(30), began)
        .await
        .expect("a cycle");
    assert!(
        cycles().stopped.is_empty(),
        "signs of life count from the start"
    );
    stop.send_replace(true);
    keep.await.unwrap();
}
