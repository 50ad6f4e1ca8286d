//! What the commands that list and take files say. Pure: it comes out of a session, so nothing
//! of it is believed to be well formed.

use longshore_common::api::{FileEntry, FileList, FilePut, FilesPut};
use longshore_common::time::Timestamp;

/// Most characters of what went wrong that are passed on.
const MOST: usize = 400;

/// The records of an output, each with a zero byte at its end; a last one that was cut off is
/// left out.
fn records(output: &[u8]) -> impl Iterator<Item = String> {
    let whole = output.iter().rposition(|byte| *byte == 0);
    let whole = &output[..whole.unwrap_or(0)];
    whole
        .split(|byte| *byte == 0)
        .filter(|record| !record.is_empty())
        .map(|record| String::from_utf8_lossy(record).into_owned())
}

fn sha256(text: &str) -> Option<String> {
    let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| text.to_owned())
}

/// A list; `cut` says that there was more of it.
pub(super) fn list(output: &[u8], cut: bool) -> Option<FileList> {
    let mut records = records(output);
    let folder = match records.next()?.as_str() {
        "dir" => true,
        "one" => false,
        _ => return None,
    };
    let mut items: Vec<FileEntry> = records
        .map(|record| entry(&record))
        .collect::<Option<_>>()?;
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Some(FileList {
        folder,
        items,
        truncated: cut,
    })
}

fn entry(record: &str) -> Option<FileEntry> {
    let mut words = record.splitn(5, ' ');
    let mode = u32::from_str_radix(words.next()?, 16).ok()?;
    let size_bytes = words.next()?.parse().ok()?;
    let seconds: i64 = words.next()?.parse().ok()?;
    let sha256 = sha256(words.next()?);
    let kind = match mode & 0o170_000 {
        0o100_000 => "file",
        0o040_000 => "folder",
        0o120_000 => "link",
        _ => "other",
    };
    Some(FileEntry {
        name: words.next()?.to_owned(),
        kind: kind.to_owned(),
        size_bytes,
        mode: format!("{:04o}", mode & 0o7777),
        modified_at: Timestamp(seconds.checked_mul(1000)?),
        sha256,
    })
}

/// What became of an archive; `cut` says that there was more of it.
pub(super) fn put(output: &[u8], cut: bool) -> Option<FilesPut> {
    let one = |record: String| {
        let mut words = record.splitn(4, ' ');
        let outcome = words.next()?.to_owned();
        let size_bytes = words.next()?.parse().ok();
        let sha256 = sha256(words.next()?);
        let path = words.next()?;
        let known = ["copied", "same", "left"].contains(&outcome.as_str());
        known.then(|| FilePut {
            path: path.trim_start_matches("./").to_owned(),
            outcome,
            size_bytes,
            sha256,
        })
    };
    let mut items: Vec<FilePut> = records(output).map(one).collect::<Option<_>>()?;
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Some(FilesPut {
        items,
        truncated: cut,
    })
}

/// Why a command did not end well, in its own last words.
pub(super) fn reason(code: i32, errors: &str) -> String {
    let line = errors.lines().rfind(|line| !line.trim().is_empty());
    let line = line.map(|line| line.chars().filter(|c| !c.is_control()).take(MOST));
    match line {
        Some(line) => format!("In the session: {}.", line.collect::<String>().trim()),
        None => format!("In the session: ended with exit code {code}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";

    #[test]
    fn a_list_is_read_by_kind_and_name() {
        let text = format!(
            "dir\0a1ff 1 1795358363 - l\041ed 4096 1795358363 - sub\081ed 3 1795358363 {HASH} a b\n\0"
        );
        let list = list(text.as_bytes(), false).unwrap();
        assert!(list.folder && !list.truncated);
        let short: Vec<(&str, &str, &str)> = list
            .items
            .iter()
            .map(|i| (i.name.as_str(), i.kind.as_str(), i.mode.as_str()))
            .collect();
        let wanted = [
            ("a b\n", "file", "0755"),
            ("l", "link", "0777"),
            ("sub", "folder", "0755"),
        ];
        assert_eq!(short, wanted);
        assert_eq!(list.items[0].sha256.as_deref(), Some(HASH));
        assert_eq!(list.items[0].modified_at, Timestamp(1_795_358_363_000));
    }

    #[test]
    fn what_is_cut_off_or_makes_no_sense_is_not_believed() {
        let cut = list(b"one\081ed 3 1 - a\081ed 3", true).unwrap();
        assert_eq!(
            (cut.items.len(), cut.truncated, cut.folder),
            (1, true, false)
        );
        for bad in [
            &b""[..],
            b"dir",
            b"x\0",
            b"dir\0zz 1 1 - a\0",
            b"dir\081ed -1 1 - a\0",
            b"dir\081ed 1\0",
        ] {
            assert_eq!(list(bad, false), None, "{bad:?}");
        }
        assert_eq!(list(b"dir\0", false).unwrap().items, []);
    }

    #[test]
    fn what_became_of_an_archive() {
        let text = format!("same 3 {HASH} b/c d\0copied 0 - a\0left - - ./l\0");
        let put = put(text.as_bytes(), false).unwrap();
        let short: Vec<(&str, &str, Option<u64>)> = put
            .items
            .iter()
            .map(|i| (i.path.as_str(), i.outcome.as_str(), i.size_bytes))
            .collect();
        assert_eq!(
            short,
            [
                ("a", "copied", Some(0)),
                ("b/c d", "same", Some(3)),
                ("l", "left", None)
            ]
        );
        assert_eq!(super::put(b"moved 3 - a\0", false), None);
        assert!(super::put(b"", false).unwrap().items.is_empty());
    }

    #[test]
    fn the_last_words_are_passed_on() {
        let said = reason(1, "tar: x\n/nope: No such file or directory\n\n");
        assert_eq!(said, "In the session: /nope: No such file or directory.");
        assert_eq!(reason(127, ""), "In the session: ended with exit code 127.");
        assert!(reason(1, &"x".repeat(9000)).len() < 500);
    }
}
