//! Output of programs and signals to them, through the agent.

use super::*;

#[tokio::test]
async fn output_comes_from_the_agent() {
    let pieces = vec![
        piece(0, OutputKind::Stdout, b"one\n"),
        piece(4, OutputKind::Stderr, b"bad\n"),
        piece(8, OutputKind::Gap, b""),
        piece(20, OutputKind::Stdout, &[0xff]),
    ];
    let mut f = fixture(Some(pieces), true).await;
    f.set_up().await;
    f.submit(batch()).await;
    assert_eq!(
        f.get("/api/v1/sessions/s-1/logs").await.body,
        b"",
        "nothing before it runs"
    );
    f.runs("s-1").await;
    assert_eq!(
        f.get("/api/v1/sessions/s-1/logs").await.body,
        b"one\nbad\n\xff"
    );
    assert_eq!(
        f.get("/api/v1/sessions/s-1/logs?stream=stderr").await.body,
        b"bad\n"
    );
    let answer = f
        .get("/api/v1/sessions/s-1/logs/stream?follow=true&position=4")
        .await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let text = answer.text();
    let events: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("event: "))
        .collect();
    assert_eq!(events, ["line", "gap", "line", "end"]);
    assert!(
        text.contains("\"stream\":\"stderr\"")
            && text.contains("\"text\":\"bad\\n\"")
            && text.contains("\"bytes\":\"/w==\""),
        "{text}"
    );
    for bad in [
        "rank=x",
        "attempt=0",
        "stream=x",
        "position=0&tail=1",
        "follow=maybe",
    ] {
        assert_eq!(
            f.get(&format!("/api/v1/sessions/s-1/logs?{bad}"))
                .await
                .code(),
            "LS-PARAMETER",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn signals_reach_running_programs_only() {
    let mut f = fixture(Some(Vec::new()), true).await;
    f.set_up().await;
    f.submit(batch()).await;
    let path = "/api/v1/sessions/s-1/signal";
    let int = json!({ "signal": "INT" });
    assert_eq!(f.post(path, &int).await.code(), "LS-STATE");
    f.runs("s-1").await;
    assert_eq!(f.post(path, &int).await.status.as_u16(), 204);
    assert_eq!(
        f.post(path, &json!({ "signal": "KILL" })).await.code(),
        "LS-INVALID"
    );
    assert_eq!(
        f.post("/api/v1/sessions/s-9/signal", &int).await.code(),
        "LS-NOT-FOUND"
    );
    assert_eq!(
        f.post(path, &json!({ "signal": "USR1" })).await.code(),
        "LS-AGENT-UNREACHABLE"
    );
}

#[tokio::test]
async fn a_signal_reaches_each_container_that_runs_the_command() {
    let mut f = fixture(Some(Vec::new()), true).await;
    f.set_up().await;
    let mut body = batch();
    body["cluster"] = json!({ "size": 2, "run": "all" });
    let made = f.submit(body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    f.runs("s-1").await;
    let path = "/api/v1/sessions/s-1/signal";
    let int = f.post(path, &json!({ "signal": "INT" })).await;
    assert_eq!(int.status, 204, "{}", int.text());
    let refused = || async {
        let answer = f.post(path, &json!({ "signal": "USR1" })).await;
        assert_eq!(answer.code(), "LS-AGENT-UNREACHABLE");
        answer.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        refused().await,
        "The signal was not delivered to main1, sub1: the agent is not connected."
    );
    // What has finished has no program any more.
    f.ends("s-1", 0).await;
    assert_eq!(
        refused().await,
        "The signal was not delivered: the agent is not connected."
    );
}

#[tokio::test]
async fn output_of_an_agent_that_is_away() {
    let f = ready().await;
    f.submit(batch()).await;
    f.runs("s-1").await;
    let answer = f.get("/api/v1/sessions/s-1/logs").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "LS-AGENT-UNREACHABLE")
    );
    f.ends("s-1", 0).await;
    let logs = "/api/v1/sessions/s-1/logs";
    let answer = f.get(logs).await;
    assert_eq!(answer.header("longshore-output"), "kept");
    assert_eq!(answer.text(), "last words\n");
    let events = |text: &str| -> Vec<String> {
        let names = text.lines().filter_map(|l| l.strip_prefix("event: "));
        names.map(str::to_owned).collect()
    };
    let text = f.get(&format!("{logs}/stream")).await.text();
    assert_eq!(events(&text), ["kept", "gap", "line", "end"], "{text}");
    assert!(text.contains("100 bytes of output are on its node only"));
    assert!(
        text.contains("\"position\":100,\"text\":\"last words\\n\""),
        "{text}"
    );
    // Who has read some already gets the rest, once.
    for (asked, rest) in [
        ("position=105", "words\n"),
        ("position=111", ""),
        ("tail=1", "last words\n"),
    ] {
        let text = f.get(&format!("{logs}?{asked}")).await.text();
        assert_eq!(text, rest, "{asked}");
    }
    let text = f.get(&format!("{logs}/stream?position=105")).await.text();
    assert_eq!(events(&text), ["kept", "line", "end"], "{text}");
    // Only the main container's is kept: no other answers with it.
    let other = f.get(&format!("{logs}?rank=sub1")).await;
    assert_eq!((other.status.as_u16(), other.text().as_str()), (200, ""));
}

#[tokio::test]
async fn a_stream_waits_for_the_start() {
    let mut f = fixture(Some(vec![piece(0, OutputKind::Stdout, b"hi\n")]), true).await;
    f.set_up().await;
    f.submit(batch()).await;
    let waits = f.app.engine.waits();
    let (answer, ()) = tokio::join!(f.get("/api/v1/sessions/s-1/logs?follow=1"), async {
        f.somebody_waits(waits).await;
        f.runs("s-1").await;
    });
    assert_eq!(answer.text(), "hi\n");
}
