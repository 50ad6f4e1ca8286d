//! What will stop a session, what it leaves, and who used what, through the router.

mod retention;

use super::{AGENT, Fixture, batch, ready};
use crate::live::IdleLive;
use longshore_common::ids::ContainerKey;
use longshore_common::limits::Metric;
use longshore_common::session::{End, Exit};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    self, CheckReport, DeviceUse, IdleCheckName, MetricFigures, OutcomeNumber, Totals, UseReport,
};
use longshore_core::model::Event;
use serde_json::{Value, json};

async fn key(f: &Fixture, id: &str) -> ContainerKey {
    let id = id.parse().unwrap();
    let look = f
        .app
        .engine
        .read(move |s, _| s.sessions[&id].containers[0].key);
    look.await.unwrap()
}

/// An interactive session that is stopped after ten minutes without use.
async fn unused() -> Fixture {
    let f = ready().await;
    let idle = crate::config::Idle {
        timeout_s: 600,
        ..crate::config::Idle::default()
    };
    f.start(idle.policy()).await;
    let mut body = batch();
    body["type"] = json!("interactive");
    body["lifetime_s"] = json!(7200);
    assert_eq!(f.submit(body).await.status, 201);
    f.runs("s-1").await;
    f
}

#[tokio::test]
async fn what_is_judged_is_what_every_view_shows() {
    let f = unused().await;
    let path = "/api/v1/sessions/s-1/idle";
    let silent = f.get(path).await.json();
    assert_eq!(silent["kind"], "none", "its node has not said: {silent}");
    assert!(silent["lifetime"]["remaining_s"].as_i64().unwrap() > 7000);
    let key = key(&f, "s-1").await;
    let live = &f.app.engine.live;
    live.keep_idle(AGENT);
    let deadline = Some(Timestamp(4_000_000_000_000));
    let said = IdleLive {
        deadline,
        frozen: false,
        idle: false,
        used_at: None,
    };
    live.set_idle(AGENT, key, said);
    let check = CheckReport {
        deadline,
        last_activity: Some(Timestamp(1_000)),
        connections: 2,
    };
    let report = UseReport {
        key,
        in_grace: false,
        deadline,
        decided_by: Some(IdleCheckName::Interaction),
        interaction: Some(check),
        utilization: Some(CheckReport::default()),
        metrics: vec![MetricFigures {
            metric: Metric::Gpu,
            mean_tenths: Some(35),
            threshold: 5,
            share_of_data: 80,
        }],
        lifetime: None,
    };
    live.set_use(AGENT, report);
    let told = f.get(path).await.json();
    assert_eq!(told["kind"], "expire_after");
    assert_eq!(told["decided_by"], "interaction");
    assert_eq!(told["interaction"]["connections"], 2);
    let metric = json!({ "metric": "gpu", "mean_ratio": 0.035, "threshold_ratio": 0.05,
        "data_ratio": 0.8 });
    assert_eq!(told["utilization"]["metrics"][0], metric);
    assert!(told["utilization"].get("deadline").is_none());
    // The lifetime comes first, and that is what the session shows.
    let session = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(session["stop_at"], told["lifetime"]["deadline"]);
    assert_eq!(session["stop_cause"], "lifetime");
    let kept = f.post("/api/v1/sessions/s-1/keep", &json!({})).await.json();
    let told = f.get(path).await.json();
    assert_eq!(told["kept_until"], kept["kept_until"]);
    // Its agent is gone: nothing is known any more.
    live.forget_idle(AGENT);
    assert_eq!(f.get(path).await.json()["kind"], "none");
    assert_eq!(
        f.get("/api/v1/sessions/s-9/idle").await.code(),
        "LS-NOT-FOUND"
    );
}

/// Lets the container of a session end with figures.
async fn ends(f: &Fixture, id: &str, devices: Vec<DeviceUse>) {
    let key = key(f, id).await;
    for number in [OutcomeNumber::Ended, OutcomeNumber::Closed] {
        let outcome = wire::Outcome {
            key,
            number,
            end: Some(End::Exited(Exit {
                code: 137,
                signal: Some(9),
                oom: true,
                at: Timestamp(5),
            })),
            started_at: None,
            at: Timestamp(5),
            tail: Vec::new(),
            totals: Totals {
                memory_peak: Some(1 << 20),
                memory_peak_sampled: true,
                cpu_ms: Some(17),
                sent_bytes: Some(3),
                ..Totals::default()
            },
            devices: devices.clone(),
        };
        let event = Event::Outcome {
            agent: AGENT,
            outcome: Box::new(outcome),
        };
        f.app.engine.ask(event).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_ended_session_leaves_a_report_and_rows_of_usage() {
    let mut f = ready().await;
    f.start(None).await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    body["name"] = json!("train");
    assert_eq!(f.submit(body).await.status, 201);
    f.runs("s-1").await;
    let before = f.get("/api/v1/sessions/s-1").await.json();
    assert!(before.get("report").is_none(), "it goes on");
    let used = DeviceUse {
        device: before["containers"][0]["devices"][0]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
        busy_ms: i64::MAX,
        measured_ms: i64::MAX,
        memory_peak: Some(5),
    };
    ends(&f, "s-1", vec![used]).await;
    let after = f.get("/api/v1/sessions/s-1").await.json();
    let report = &after["report"];
    assert_eq!(
        (&after["reason"], &report["oom"]),
        (&json!("out-of-memory"), &json!(true))
    );
    assert_eq!(report["by"], "agent gpu01", "{report}");
    let container = &report["containers"][0];
    assert_eq!(container["memory_peak_bytes"], 1 << 20);
    assert_eq!(container["memory_peak_sampled"], true);
    assert_eq!(container["memory_limit_bytes"], 1 << 30);
    assert_eq!(container["gpu_memory_peak_bytes"], 5);
    assert_eq!(container["sent_bytes"], 3);
    assert!(container.get("read_bytes").is_none(), "nobody measured it");
    for phase in ["pending", "scheduled", "running", "terminating"] {
        assert!(report["phases_ms"][phase].is_i64(), "{phase}: {report}");
    }
    let list = f.get("/api/v1/sessions?scope=all").await.json();
    assert!(list["items"][0].get("report").is_none(), "lists are short");

    let usage = f.get("/api/v1/usage?by=project").await;
    assert_eq!(usage.status, 200, "{}", usage.text());
    let usage = usage.json();
    assert_eq!(usage["items"][0]["name"], "default", "{usage}");
    assert_eq!(usage["total"]["sessions"], 1);
    let text = f.get("/api/v1/exports/usage").await.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("\"session\",\"rank\",\"attempt\",\"slot\""),
        "{text}"
    );
    assert_eq!(lines.len(), 4, "cpu, cuda.device, mem: {text}");
    assert!(
        lines[2].starts_with("\"s-1\",\"main1\",\"1\",\"cuda.device\""),
        "{text}"
    );
    let text = f
        .get("/api/v1/exports/sessions?columns=id,name,state,cuda.device")
        .await
        .text();
    let expected = "\"id\",\"name\",\"state\",\"cuda.device\"\r\n\
        \"s-1\",\"train\",\"TERMINATED\",\"1\"\r\n";
    assert_eq!(text, expected);
    assert_eq!(
        f.get("/api/v1/usage?since=soon").await.code(),
        "LS-PARAMETER"
    );
    assert_eq!(
        f.get("/api/v1/usage?by=colour").await.code(),
        "LS-PARAMETER"
    );
    assert_eq!(
        f.get("/api/v1/exports/colours").await.code(),
        "LS-NOT-FOUND"
    );

    // Somebody else sees nothing of it.
    let eve = json!({ "email": "eve@lab.example" });
    let pair: Value = f.post("/api/v1/users", &eve).await.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer(&format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    let usage = f.get("/api/v1/usage").await.json();
    assert_eq!(
        (&usage["items"], &usage["total"]["sessions"]),
        (&json!([]), &json!(0))
    );
    assert_eq!(
        f.get("/api/v1/exports/usage").await.text().lines().count(),
        1
    );
    assert_eq!(
        f.get("/api/v1/exports/sessions")
            .await
            .text()
            .lines()
            .count(),
        1
    );
}
