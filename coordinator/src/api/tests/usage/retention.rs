//! Sessions, histories and usage that grew old.

use super::*;
use crate::api::retention::forget;
use crate::config::Retention;
use crate::engine::wall_clock;

#[tokio::test]
async fn what_grew_old_is_found_no_more() {
    let f = ready().await;
    for id in ["s-1", "s-2"] {
        f.submit(json!({ "command": ["true"] })).await;
        f.runs(id).await;
    }
    f.ends("s-1", 0).await;
    let days = Retention {
        sessions_days: 5,
        usage_days: 50,
        events_days: 1,
        logs_days: 3,
        audit_days: 0,
    };
    let after = |days: i64| wall_clock().plus_ms(days * 86_400_000);
    let lines = async |id: &str| {
        let path = format!("/api/v1/sessions/{id}/history");
        let told = f.get(&path).await.json();
        told["items"].as_array().map_or(0, Vec::len)
    };
    let is_there = async |id: &str| f.get(&format!("/api/v1/sessions/{id}")).await.status;
    let rows = async |id: &str| {
        let told = f.get("/api/v1/exports/usage").await;
        assert_eq!(told.status, 200, "{}", told.text());
        let begin = format!("\"{id}\",");
        let text = told.text();
        text.lines().filter(|line| line.starts_with(&begin)).count()
    };
    forget(&f.app, days, after(0)).await;
    assert!(lines("s-1").await > 0);
    forget(&f.app, days, after(2)).await;
    assert_eq!(
        (lines("s-1").await, is_there("s-1").await.as_u16()),
        (0, 200)
    );
    let output = async |id: &str| {
        let told = f.get(&format!("/api/v1/sessions/{id}")).await.json();
        told["output_tail"].as_str().map(str::to_owned)
    };
    assert_eq!(output("s-1").await.as_deref(), Some("last words\n"));
    forget(&f.app, days, after(4)).await;
    assert_eq!(output("s-1").await, None);
    let told = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(told["exit_code"], 0, "the rest of it stays: {told}");
    // Its node is asked for output, and nobody else has any.
    let logs = f.get("/api/v1/sessions/s-1/logs").await;
    assert_eq!(logs.code(), "LS-AGENT-UNREACHABLE");
    forget(&f.app, days, after(6)).await;
    assert_eq!(is_there("s-1").await, 404);
    let listed = f.get("/api/v1/sessions?scope=all").await.json();
    let listed: Vec<_> = listed["items"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["id"], "s-2");
    assert!(rows("s-1").await > 0, "usage goes by days of its own");
    forget(&f.app, days, after(51)).await;
    assert_eq!(rows("s-1").await, 0);
    // What goes on is none of it, however long.
    assert_eq!(is_there("s-2").await, 200);
    assert!(lines("s-2").await > 0 && rows("s-2").await > 0);
    // Nothing is old that is kept for ever.
    let ever = Retention {
        sessions_days: 0,
        usage_days: 0,
        events_days: 0,
        logs_days: 0,
        audit_days: 0,
    };
    f.ends("s-2", 0).await;
    forget(&f.app, ever, after(36_000)).await;
    assert!(output("s-2").await.is_some());
    assert!(lines("s-2").await > 0 && rows("s-2").await > 0);
}
