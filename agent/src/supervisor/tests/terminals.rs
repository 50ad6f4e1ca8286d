//! Commands and terminals in containers.

use super::lives::interactive;
use super::*;

pub(super) fn terminal(session: u64, exec: u128, resume: bool) -> ExecRequest {
    ExecRequest {
        key: key(session),
        exec: ExecId::new(exec),
        kind: ExecKind::Terminal,
        command: Vec::new(),
        environment: BTreeMap::new(),
        workdir: None,
        tty: true,
        size: TerminalSize::default(),
        resume,
    }
}

impl Driven {
    /// Opens one, and hands on what comes until that was answered.
    pub(super) async fn opens(&mut self, request: ExecRequest) -> Result<ClientEnds, String> {
        let (reply, answer) = oneshot::channel();
        let heard = Heard::Exec(Box::new(request), reply);
        self.supervisor.take(Event::Heard(heard)).unwrap();
        self.rest().await;
        answer.await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_terminal_is_use_for_as_long_as_somebody_is_connected() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.order(vec![interactive()]);
    let client = driven.opens(terminal(1, 5, false)).await.unwrap();
    let mut now = host::boot_clock_ms();
    for _ in 0..3 {
        driven.minute(&mut now).await;
    }
    assert_eq!(driven.stopped(), None);
    drop(client);
    driven.rest().await;
    for _ in 0..3 {
        driven.minute(&mut now).await;
    }
    assert_eq!(driven.stopped(), Some(Reason::IdleTimeout));
}

#[tokio::test(start_paused = true)]
async fn commands_open_where_a_container_runs_and_so_many_at_once() {
    let mut driven = Driven::new().await;
    let refused = driven.opens(terminal(1, 1, false)).await.unwrap_err();
    assert!(refused.contains("does not run"), "{refused}");
    driven.running(1).await;
    let mut clients = Vec::new();
    for exec in 0..32 {
        clients.push(driven.opens(terminal(1, exec, false)).await.unwrap());
    }
    let refused = driven.opens(terminal(1, 99, false)).await.unwrap_err();
    assert!(refused.contains("32"), "{refused}");
    assert!(
        driven.opens(terminal(1, 7, true)).await.is_ok(),
        "it is there"
    );
    assert!(driven.opens(terminal(1, 99, true)).await.is_err());
    assert!(driven.opens(terminal(2, 7, true)).await.is_err());
    // One that is over makes room.
    clients[3].to.try_send(ToExec::Leave).unwrap();
    driven.rest().await;
    assert!(driven.opens(terminal(1, 99, false)).await.is_ok());
}

#[tokio::test]
async fn it_ends_with_the_link_and_leaves_no_task_behind() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::new();
    let engine = Arc::new(Scripted::new());
    let parts = parts(dir.path(), &coordinator);
    let mut handles = start(
        parts.config,
        Arc::clone(&engine),
        parts.journal,
        Arc::new(Shared::new()),
        parts.logs,
        parts.gpus,
    );
    let listed = handles.listed.wait_for(|listed| *listed);
    let _ = tokio::time::timeout(LIMIT, listed).await.unwrap().unwrap();
    drop(handles);
    tokio::time::timeout(LIMIT, async {
        while Arc::strong_count(&engine) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("somebody still holds the engine");
}
