//! One connection with a program at the end of a pipe. Time is virtual.

use super::*;
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

#[test]
fn one_of_many_starts_a_program() {
    let all = Mutex::new(BTreeSet::new());
    let key = ContainerKey {
        session: longshore_common::ids::SessionId(1),
        rank: longshore_common::ids::Rank::MAIN,
        attempt: longshore_common::ids::Attempt::FIRST,
    };
    let first = Starting::begin(&all, (key, 7000));
    assert!(first.is_some());
    assert!(Starting::begin(&all, (key, 7000)).is_none());
    assert!(Starting::begin(&all, (key, 7001)).is_some());
    drop(first);
    assert!(Starting::begin(&all, (key, 7000)).is_some());
}
