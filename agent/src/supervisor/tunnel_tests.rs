//! One connection with a program at the end of a pipe. Time is virtual.

use super::super::tests::{Scripted, key};
use super::*;
use longshore_common::session::Protocol;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

struct Scene {
    client: TunnelEnds,
    program: DuplexStream,
    counted: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

fn begun(buffer: usize) -> Scene {
    let (program, inside) = duplex(buffer);
    let (client, own) = ends();
    let counted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&counted);
    let task = tokio::spawn(async move {
        let halves = tokio::io::split(inside);
        let begins = async { seen.store(true, Ordering::Relaxed) };
        carry(halves, own, begins).await;
    });
    Scene {
        client,
        program,
        counted,
        task,
    }
}

#[tokio::test(start_paused = true)]
async fn each_way_ends_by_itself() {
    let mut scene = begun(64);
    let data = |text: &str| text.as_bytes().to_vec();
    scene.program.write_all(b"hello").await.unwrap();
    let came = scene.client.from.recv().await;
    assert_eq!(came, Some(FromTunnel::Data(data("hello"))));
    assert!(
        !scene.counted.load(Ordering::Relaxed),
        "the client said nothing"
    );
    scene
        .client
        .to
        .send(ToTunnel::Data(data("ask")))
        .await
        .unwrap();
    scene.client.to.send(ToTunnel::End).await.unwrap();
    let mut asked = String::new();
    scene.program.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "ask", "and its end");
    assert!(scene.counted.load(Ordering::Relaxed));
    scene.program.write_all(b"answer").await.unwrap();
    let came = scene.client.from.recv().await;
    assert_eq!(came, Some(FromTunnel::Data(data("answer"))));
    drop(scene.program);
    assert_eq!(scene.client.from.recv().await, Some(FromTunnel::End));
    assert_eq!(scene.client.from.recv().await, None);
    scene.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_program_may_end_first_and_still_read() {
    let mut scene = begun(64);
    scene.program.shutdown().await.unwrap();
    assert_eq!(scene.client.from.recv().await, Some(FromTunnel::End));
    let more = ToTunnel::Data(b"more".to_vec());
    scene.client.to.send(more).await.unwrap();
    scene.client.to.send(ToTunnel::End).await.unwrap();
    let mut read = String::new();
    scene.program.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "more");
    scene.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_ends_it_and_one_that_takes_nothing_holds_the_program_up() {
    let mut scene = begun(8);
    let writing = tokio::time::timeout(
        Duration::from_secs(60),
        scene.program.write_all(&[7; MAX_PIECE * (BETWEEN + 2)]),
    );
    assert!(writing.await.is_err(), "nobody takes it");
    drop(scene.client);
    scene.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_is_silent_for_an_hour_is_closed_and_not_before() {
    let mut scene = begun(64);
    let began = Instant::now();
    sleep(SILENT - Duration::from_secs(1)).await;
    scene.program.write_all(b"x").await.unwrap();
    assert!(scene.client.from.recv().await.is_some());
    assert_eq!(scene.client.from.recv().await, None);
    let for_s = began.elapsed().as_secs();
    assert_eq!(for_s, 2 * SILENT.as_secs() - 1);
    scene.task.await.unwrap();
}

fn app(engine: &Arc<Scripted>, programs: &Programs) -> Inside<Scripted> {
    Inside {
        runtime: Arc::clone(engine),
        key: key(1),
        docker_id: "d".to_owned(),
        pid: 1,
        app: AppPort {
            name: "web".to_owned(),
            protocol: Protocol::Http,
            port: 7000,
            command: vec!["serve".to_owned(), "{port}".to_owned()],
        },
        programs: Arc::clone(programs),
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_is_begun_once_until_it_has_ended() {
    let (engine, programs) = (Arc::new(Scripted::new()), Programs::default());
    let began = |times| assert_eq!(engine.count("begin d serve 7000"), times);
    let one = || async { app(&engine, &programs).connect().await.unwrap_err() };
    // Two at once wait for one, and in vain.
    let late = "web did not listen on port 7000 within 30 s";
    let (first, second) = tokio::join!(one(), one());
    assert_eq!((first.as_str(), second.as_str()), (late, late));
    began(1);
    // It is slow, and goes on: whoever comes later waits for the same.
    assert_eq!(one().await, late);
    began(1);
    // It ends: told, and begun anew by the next.
    *lock(&engine.begun_exit) = Some(3);
    assert_eq!(one().await, "web ended with exit code 3 before it listened");
    began(2);
    // One that ends well has left another behind, which gets its time.
    *lock(&engine.begun_exit) = Some(0);
    let (first, second) = tokio::join!(one(), one());
    assert_eq!((first.as_str(), second.as_str()), (late, late));
    began(2);
    assert_eq!(one().await, late);
    began(3);
    // What was started in a container is forgotten with it.
    let mut tunnels = Tunnels {
        programs,
        ..Tunnels::default()
    };
    tunnels.forget(key(1));
    assert!(lock(&tunnels.programs).is_empty());
}
