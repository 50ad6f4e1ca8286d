//! Files that a container is given, with a real engine and a real tmpfs.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "others use the rest of it")]
mod support;

use longshore_agent::delivery::store;
use longshore_agent::runtime::Containers;
use longshore_common::session::Cause;
use longshore_common::wire::{DeliveredFile, Delivery, NoticeKind, OutputKind, Owner};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::Bench;

/// The tmpfs of one test, taken away however the test ends.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn on(bench: &Bench) -> Self {
        let root = bench.config.run_dir.join("sessions");
        let kept = store::mount_root(&root).unwrap();
        assert_ne!(kept, store::Kept::Directory, "this test needs root");
        Self(root)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn file(path: &str, mode: u32) -> DeliveredFile {
    DeliveredFile {
        label: path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        contents: b"hunter2".to_vec(),
        mode,
        owner: Owner::User,
        overwrite: true,
        required: false,
        vault: None,
    }
}

fn delivery() -> Delivery {
    let of_root = DeliveredFile {
        owner: Owner::Root,
        ..file("/tmp/conf/shared", 0o644)
    };
    let polite = DeliveredFile {
        overwrite: false,
        ..file("/bin/busybox", 0o400)
    };
    Delivery {
        environment: vec![
            ("TOKEN".to_owned(), "in-the-environment".to_owned()),
            ("NVIDIA_VISIBLE_DEVICES".to_owned(), "all".to_owned()),
        ],
        files: vec![
            file("~/.ssh/id", 0o400),
            of_root,
            file("/tmp/mine", 0o600),
            file("/run/longshore/secrets/deep/token", 0o400),
            polite,
            file("/sbin/x", 0o400),
            file("/etc/x", 0o400),
        ],
        config_json: br#"{"agent":{"git":{"user":"a","password":"hunter2","host":"git.lab"}}}"#
            .to_vec(),
        registries: Vec::new(),
        cluster_key: None,
        record: String::new(),
    }
}

const LOOK: &str = r#"
for path in .ssh .ssh/id /tmp/conf/shared /tmp/mine /run/longshore/secrets \
    /run/longshore/secrets/deep/token /run/longshore/secrets/config.json \
    /run/longshore/secrets/git-credentials; do
  stat -c '%n %a %u' $path
done
cat .ssh/id /tmp/conf/shared /run/longshore/secrets/deep/token; echo
cat /run/longshore/secrets/git-credentials
echo "$TOKEN $NVIDIA_VISIBLE_DEVICES $GIT_CONFIG_KEY_0"
(echo x > .ssh/id) 2>/dev/null || echo read-only
echo more >> /tmp/mine && cat /tmp/mine
(echo x > /run/longshore/secrets/y) 2>/dev/null || echo closed
"#;

#[tokio::test]
async fn files_are_there_as_they_were_given_and_gone_afterwards() {
    let bench = Bench::with(|config| {
        config.file_roots.push("/bin".to_owned());
        config.file_roots.push("/sbin".to_owned());
    })
    .await;
    let tmpfs = Tmpfs::on(&bench);
    let mut request = bench.shell(1, LOOK);
    let given = delivery();
    request.delivered = bench.docker.deliver(&request, &given).await.unwrap();
    let notes: Vec<(NoticeKind, &str)> = request
        .delivered
        .notes
        .iter()
        .map(|note| (note.kind, note.text.as_str()))
        .collect();
    let (kept, skipped) = (NoticeKind::FileKept, NoticeKind::FileSkipped);
    assert_eq!(
        notes,
        [
            (
                skipped,
                "x was not delivered to /etc/x: Path /etc/x is not under an allowed directory."
            ),
            (
                kept,
                "busybox was not delivered: the image has /bin/busybox"
            ),
            (
                skipped,
                "x was not delivered to /sbin/x: a link of the image is in its path"
            ),
        ]
    );
    let id = bench.run(&request).await;
    let exit = bench.exit(&request).await;
    let said: Vec<u8> = bench
        .output(&id)
        .await
        .into_iter()
        .filter(|chunk| chunk.kind == OutputKind::Stdout)
        .flat_map(|chunk| chunk.bytes)
        .collect();
    let expected = "\
.ssh 700 20000
.ssh/id 400 20000
/tmp/conf/shared 644 0
/tmp/mine 600 20000
/run/longshore/secrets 500 20000
/run/longshore/secrets/deep/token 400 20000
/run/longshore/secrets/config.json 400 20000
/run/longshore/secrets/git-credentials 400 20000
hunter2hunter2hunter2
https://a:hunter2@git.lab
in-the-environment void credential.helper
read-only
hunter2more
closed
";
    assert_eq!(String::from_utf8_lossy(&said), expected, "{exit:?}");

    // The engine knows where files lie, and nothing of what they hold.
    let inspected = Command::new("docker")
        .args(["inspect", &id])
        .output()
        .unwrap();
    let inspected = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(inspected.contains("/home/work/.ssh/id"), "{inspected}");
    assert!(!inspected.contains("hunter2"), "{inspected}");
    assert!(!holds(&bench.config.state_dir, b"hunter2"), "on a disk");
    assert!(!bench.docker.lacks_files(request.key).await);

    // Its end takes the files, although the container is still there.
    bench.docker.forget_files(request.key).await;
    assert!(bench.docker.lacks_files(request.key).await);
    assert_eq!(std::fs::read_dir(&tmpfs.0).unwrap().count(), 0);
    bench.docker.remove(request.key, Some(&id)).await.unwrap();
    store::unmount_if_empty(&tmpfs.0);
    let (outer, inner) = (
        std::fs::metadata(&bench.config.run_dir).unwrap(),
        std::fs::metadata(&tmpfs.0).unwrap(),
    );
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(outer.dev(), inner.dev(), "the tmpfs is gone");
    bench.docker.dispose().await.unwrap();
}

#[tokio::test]
async fn a_required_file_that_cannot_be_delivered_fails_the_start() {
    let bench = Bench::new().await;
    let _tmpfs = Tmpfs::on(&bench);
    let request = bench.shell(1, "true");
    let mut given = Delivery {
        files: vec![file("/etc/x", 0o400)],
        ..Delivery::default()
    };
    assert!(bench.docker.deliver(&request, &given).await.is_ok());
    given.files[0].required = true;
    let refused = bench.docker.deliver(&request, &given).await.unwrap_err();
    let longshore_agent::runtime::RuntimeError::Failed { cause, detail } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(cause, Cause::VaultUnavailable);
    assert!(!detail.contains("hunter2"), "{detail}");
    bench.docker.remove(request.key, None).await.unwrap();
    bench.docker.dispose().await.unwrap();
}

/// Whether a file below a directory holds these bytes.
fn holds(dir: &Path, needle: &[u8]) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holds(&path, needle),
            Ok(kind) if kind.is_file() => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                bytes.windows(needle.len()).any(|part| part == needle)
            }
            _ => false,
        }
    })
}
