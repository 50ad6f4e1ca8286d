//! `cp`: files into a session and out of it.
//!
//! Each file is a command in the session that reads or writes it: so it is its user who does
//! that, inside its container, and no link can lead out of it. The scripts need a shell, `cat`
//! and `wc`; folders need `find`, and without `sha256sum` only sizes are compared.

use crate::app::App;
use crate::client::Client;
use crate::error::{Failure, code};
use crate::output::clean;
use crate::reach::{self, Input};
use crate::values::SessionRef;
use futures_util::StreamExt as _;
use longshore_common::api::NewExec;
use longshore_common::ids::Rank;
use ring::digest::{Context, SHA256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Files on their way at once: a session takes 32 commands, others want some too.
const AT_ONCE: usize = 4;
/// Folders that are made by one command: their names have to fit into it.
const FOLDERS: usize = 100;
/// Most bytes of a list of files, for about a million of them.
const LIST: usize = 128 << 20;

/// What stands at a path: `dir`, `other`, `none`, or `file SIZE HASH x`.
const STAT: &str = r#"p=$1
if [ -d "$p" ]; then echo dir
elif [ -f "$p" ]; then
  s=$(wc -c <"$p") || exit 1
  h=$(sha256sum <"$p" 2>/dev/null) || h=-
  x=-; [ -x "$p" ] && x=x
  echo "file" $s "${h%% *}" $x
elif [ -e "$p" ]; then echo other
else echo none; fi"#;
/// All below a folder, each behind its letter and with a zero byte at its end.
const TREE: &str = r#"cd "$1" || exit 1
find . -type d -exec printf 'd %s\0' {} + || exit 1
find . -type f -exec sh -c 'for f; do
  s=$(wc -c <"$f") || exit 1
  h=$(sha256sum <"$f" 2>/dev/null) || h=-
  x=-; [ -x "$f" ] && x=x
  printf "f %s %s %s %s\0" $s "${h%% *}" $x "$f"
done' sh {} + || exit 1
find . ! -type f ! -type d -exec printf 'o %s\0' {} +"#;
/// Writes a file aside, compares what arrived, and puts it in its place.
const PUT: &str = r#"p=$1
case $p in */*) t=${p%/*}/.longshore-cp.$$ ;; *) t=.longshore-cp.$$ ;; esac
trap 'rm -f "$t"' EXIT
trap 'exit 1' HUP INT TERM
umask 077
cat >"$t" || exit 1
s=$(wc -c <"$t") || exit 1
[ "$s" -eq "$2" ] || { echo "$p: only $s of $2 bytes could be written" >&2; exit 1; }
h=$(sha256sum <"$t" 2>/dev/null) || h=
h=${h%% *}
[ -z "$h" ] || [ "$h" = "$3" ] || { echo "$p: what arrived differs" >&2; exit 1; }
chmod "$4" "$t" && mv -f "$t" "$p""#;
const MAKE: &str = r#"mkdir -p -- "$@""#;
const GET: &str = r#"cat <"$1""#;

/// Flags of `cp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What: a path here, or ID:PATH in a session; relative ones begin where its program did
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Where to: the other way round; into it where it is a folder
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// A folder with all that is in it
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// In which container: main1, sub1
    #[arg(short, long, value_name = "RANK")]
    pub(crate) container: Option<Rank>,
}

/// One of the two ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Here(PathBuf),
    There(String, String),
}

/// A word before a colon is a session; `./a:b` is a path here.
fn end(text: &str) -> End {
    match text.split_once(':') {
        Some((id, path)) if !id.is_empty() && !id.contains('/') => {
            let path = if path.is_empty() { "." } else { path };
            End::There(id.to_owned(), path.to_owned())
        }
        _ => End::Here(PathBuf::from(text)),
    }
}

/// A file as it stands at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    bytes: u64,
    /// SHA-256 in hex; empty where the image cannot say it.
    hash: String,
    executable: bool,
}

impl Facts {
    fn is_same(&self, other: &Self) -> bool {
        self.bytes == other.bytes && !self.hash.is_empty() && self.hash == other.hash
    }
}

/// What stands at a path in the session.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Folder,
    File(Facts),
    Other,
}

fn facts(words: &[&str]) -> Option<Facts> {
    let [bytes, hash, executable] = words else {
        return None;
    };
    let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    Some(Facts {
        bytes: bytes.parse().ok()?,
        hash: if hex {
            (*hash).to_owned()
        } else {
            String::new()
        },
        executable: *executable == "x",
    })
}

fn there(text: &str) -> Option<There> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["none"] => Some(There::Nothing),
        ["dir"] => Some(There::Folder),
        ["other"] => Some(There::Other),
        ["file", rest @ ..] => facts(rest).map(There::File),
        _ => None,
    }
}

/// A folder's content, by paths relative to it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tree {
    folders: Vec<PathBuf>,
    files: Vec<(PathBuf, Facts)>,
    /// Links, sockets and the like: not copied.
    others: usize,
}

/// A path that stays below where it is put, whoever wrote the list.
fn below(text: &str) -> Option<PathBuf> {
    let path: PathBuf = Path::new(text)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    path.components().all(plain).then_some(path)
}

fn tree(list: &[u8]) -> Option<Tree> {
    let mut tree = Tree::default();
    for entry in list.split(|byte| *byte == 0).filter(|e| !e.is_empty()) {
        let entry = std::str::from_utf8(entry).ok()?;
        match entry.split_once(' ')? {
            ("d", path) => tree.folders.push(below(path)?),
            ("f", rest) => {
                let mut words = rest.splitn(4, ' ');
                let head = [words.next()?, words.next()?, words.next()?];
                tree.files.push((below(words.next()?)?, facts(&head)?));
            }
            ("o", _) => tree.others += 1,
            _ => return None,
        }
    }
    Some(tree)
}

/// Reads a file of this machine once.
fn facts_here(path: &Path) -> std::io::Result<Facts> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(Facts {
        bytes,
        hash: hex(hash),
        executable: meta.permissions().mode() & 0o100 != 0,
    })
}

fn hex(hash: Context) -> String {
    let digest = hash.finish();
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// All below a folder of this machine.
fn tree_here(root: &Path) -> std::io::Result<Tree> {
    let mut tree = Tree::default();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let facts = facts_here(&root.join(&path))?;
                tree.files.push((path, facts));
            } else {
                tree.others += 1;
            }
        }
        tree.folders.push(folder);
    }
    Ok(tree)
}

/// A file that is written here: aside, and put in its place once it is known to be whole.
struct Aside {
    file: File,
    at: PathBuf,
    hash: Context,
    bytes: u64,
}

impl Aside {
    fn new(target: &Path, number: usize) -> std::io::Result<Self> {
        let name = format!(".longshore-cp.{}.{number}", std::process::id());
        let at = target.with_file_name(name);
        Ok(Self {
            file: File::create_new(&at)?,
            at,
            hash: Context::new(&SHA256),
            bytes: 0,
        })
    }

    fn keep(&mut self, target: &Path, wanted: &Facts) -> Result<(), Failure> {
        let hash = hex(self.hash.clone());
        if self.bytes != wanted.bytes || (!wanted.hash.is_empty() && hash != wanted.hash) {
            let text = format!("{} changed while it was copied", target.display());
            return Err(Failure::failed(text).hint("copy it again"));
        }
        if wanted.executable {
            let mut mode = self.file.metadata()?.permissions();
            mode.set_mode(mode.mode() | 0o100);
            self.file.set_permissions(mode)?;
        }
        std::fs::rename(&self.at, target)?;
        Ok(())
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.at); // it is in its place already
    }
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    copied: usize,
    bytes: u64,
    same: usize,
    failed: usize,
}

/// One container, and the commands that copy.
struct Side<'a> {
    client: &'a Client,
    id: SessionRef,
    rank: Option<String>,
}

impl Side<'_> {
    async fn run(
        &self,
        script: &str,
        arguments: &[&str],
        input: Input,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Failure> {
        let words = ["/bin/sh", "-c", script, "cp"];
        let words = words.iter().chain(arguments);
        let wish = NewExec {
            command: words.map(|word| (*word).to_owned()).collect(),
            rank: self.rank.clone(),
            // What goes wrong is told by the words for it.
            environment: [("LC_ALL".to_owned(), "C".to_owned())].into(),
            ..NewExec::default()
        };
        let opened = super::exec::open(self.client, &self.id, &wish).await?;
        let socket = reach::connect(self.client, &opened).await?;
        let (code, said) = reach::exchange(socket, input, out).await?;
        if code == 0 {
            return Ok(());
        }
        Err(went_wrong(code, &said))
    }

    async fn stat(&self, path: &str) -> Result<There, Failure> {
        let mut said = Vec::new();
        self.run(STAT, &[path], Input::none(), &mut said).await?;
        let found = there(&String::from_utf8_lossy(&said));
        found.ok_or_else(|| Failure::failed("the session's image said what makes no sense"))
    }

    async fn put(&self, from: &Path, facts: &Facts, to: &str) -> Result<(), Failure> {
        let file = File::open(from).map_err(|error| at_path(from, &error))?;
        let bytes = facts.bytes.to_string();
        let mode = if facts.executable { "755" } else { "644" };
        let words = [to, bytes.as_str(), facts.hash.as_str(), mode];
        self.run(PUT, &words, Input::of(file), &mut std::io::sink())
            .await
    }

    async fn get(&self, from: &str, facts: &Facts, to: &Path, n: usize) -> Result<(), Failure> {
        let mut aside = Aside::new(to, n).map_err(|error| at_path(to, &error))?;
        self.run(GET, &[from], Input::none(), &mut aside).await?;
        aside.keep(to, facts)
    }
}

fn at_path(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => code::NOT_FOUND,
        std::io::ErrorKind::PermissionDenied => code::DENIED,
        std::io::ErrorKind::StorageFull => code::REFUSED,
        _ => code::FAILED,
    };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

/// The last line of what a command said, and the exit code that goes with it.
fn went_wrong(exit: i32, said: &str) -> Failure {
    let line = said.lines().rfind(|line| !line.trim().is_empty());
    let text = match line {
        Some(line) => format!("in the session: {}", clean(line.trim())),
        None => format!("in the session: ended with exit code {exit}"),
    };
    // A write that broke off was told of by an earlier line.
    let has = |words: &str| said.contains(words);
    let exit = match () {
        () if has("No space left") || has("quota") => code::REFUSED,
        () if has("Permission denied") || has("Read-only file system") => code::DENIED,
        () if has("No such file") || has("nonexistent directory") => code::NOT_FOUND,
        () => code::FAILED,
    };
    let full = exit == code::REFUSED && !text.contains("No space left");
    let text = if full {
        format!("{text} (no space left)")
    } else {
        text
    };
    Failure::new(exit, text)
}

/// Copies.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let rank = args.container.map(|rank| rank.to_string());
    let side = |id: &str| {
        let id = id.parse::<SessionRef>().map_err(Failure::usage)?;
        let (client, rank) = (&client, rank.clone());
        Ok::<_, Failure>(Side { client, id, rank })
    };
    let done = match (end(&args.from), end(&args.to)) {
        (End::Here(from), End::There(id, to)) => {
            put_all(&side(&id)?, &from, &to, args.recursive).await?
        }
        (End::There(id, from), End::Here(to)) => {
            get_all(&side(&id)?, &from, &to, args.recursive).await?
        }
        _ => {
            let failure = Failure::usage("one of the two is in a session, as ID:PATH");
            return Err(failure.hint("longshore cp s-42:/home/work/out.txt ."));
        }
    };
    if !app.global.quiet {
        let Done {
            copied,
            bytes,
            same,
            ..
        } = done;
        eprintln!("{copied} copied ({bytes} bytes), {same} the same already");
    }
    Ok(if done.failed > 0 { code::PARTLY } else { 0 })
}

fn name_of(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let failure = || Failure::usage(format!("{} has no name to be called by", path.display()));
    name.map(str::to_owned).ok_or_else(failure)
}

/// Whether a folder's content is meant, and not the folder.
fn is_content(path: &str) -> bool {
    matches!(path, "." | "/") || path.ends_with("/.") || path.ends_with("..")
}

fn wants_recursive(path: &str) -> Failure {
    Failure::usage(format!("{path} is a folder")).hint("longshore cp -r copies folders")
}

fn joined(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

fn text_of(path: &Path) -> Result<&str, Failure> {
    let failure = || Failure::usage(format!("{} is no UTF-8", path.display()));
    path.to_str().ok_or_else(failure)
}

async fn put_all(side: &Side<'_>, from: &Path, to: &str, recursive: bool) -> Result<Done, Failure> {
    let meta = std::fs::metadata(from).map_err(|error| at_path(from, &error))?;
    if meta.is_dir() && !recursive {
        return Err(wants_recursive(&from.display().to_string()));
    }
    let found = side.stat(to).await?;
    // Into a folder that is there, under its own name.
    let into = found == There::Folder;
    let target = match into && !is_content(&from.to_string_lossy()) {
        true => joined(to, &name_of(from)?),
        false => to.to_owned(),
    };
    if !meta.is_dir() {
        let facts = facts_here(from).map_err(|error| at_path(from, &error))?;
        let before = if into {
            side.stat(&target).await?
        } else {
            found
        };
        return match before {
            There::File(before) if before.is_same(&facts) => Ok(Done {
                same: 1,
                ..Done::default()
            }),
            There::Folder | There::Other => {
                Err(Failure::new(code::CONFLICT, format!("{target} is no file")))
            }
            There::File(_) | There::Nothing => {
                side.put(from, &facts, &target).await?;
                Ok(Done {
                    copied: 1,
                    bytes: facts.bytes,
                    ..Done::default()
                })
            }
        };
    }
    let own = tree_here(from).map_err(|error| at_path(from, &error))?;
    let mut folders = Vec::new();
    for folder in &own.folders {
        folders.push(match folder.as_os_str().is_empty() {
            true => target.clone(),
            false => joined(&target, text_of(folder)?),
        });
    }
    for some in folders.chunks(FOLDERS) {
        let words: Vec<&str> = some.iter().map(String::as_str).collect();
        side.run(MAKE, &words, Input::none(), &mut std::io::sink())
            .await?;
    }
    let before = tree_there(side, &target).await?;
    left_out(own.others);
    let before: BTreeMap<PathBuf, Facts> = before.files.into_iter().collect();
    let mut wanted = Vec::new();
    let mut done = Done::default();
    for (path, facts) in own.files {
        if before.get(&path).is_some_and(|known| known.is_same(&facts)) {
            done.same += 1;
        } else {
            let there = joined(&target, text_of(&path)?);
            wanted.push((from.join(&path), facts, there));
        }
    }
    let work = wanted.into_iter().map(|(here, facts, there)| async move {
        let put = side.put(&here, &facts, &there).await;
        (there, facts.bytes, put)
    });
    gather(done, work).await
}

async fn get_all(side: &Side<'_>, from: &str, to: &Path, recursive: bool) -> Result<Done, Failure> {
    let found = side.stat(from).await?;
    let here = std::fs::metadata(to).ok();
    let target = match here.is_some_and(|meta| meta.is_dir()) {
        true if !is_content(from) => to.join(name_of(Path::new(from))?),
        true => to.to_owned(),
        false => to.to_owned(),
    };
    match found {
        There::Nothing => {
            let text = format!("{from}: No such file or directory");
            Err(Failure::new(code::NOT_FOUND, text))
        }
        There::Other => Err(Failure::new(code::CONFLICT, format!("{from} is no file"))),
        There::Folder if !recursive => Err(wants_recursive(from)),
        There::File(facts) => {
            let same = facts_here(&target).is_ok_and(|own| own.is_same(&facts));
            if same {
                return Ok(Done {
                    same: 1,
                    ..Done::default()
                });
            }
            side.get(from, &facts, &target, 0).await?;
            Ok(Done {
                copied: 1,
                bytes: facts.bytes,
                ..Done::default()
            })
        }
        There::Folder => {
            let tree = tree_there(side, from).await?;
            for folder in &tree.folders {
                let folder = target.join(folder);
                std::fs::create_dir_all(&folder).map_err(|error| at_path(&folder, &error))?;
            }
            left_out(tree.others);
            let mut done = Done::default();
            let mut wanted = Vec::new();
            for (number, (path, facts)) in tree.files.into_iter().enumerate() {
                let here = target.join(&path);
                if facts_here(&here).is_ok_and(|own| own.is_same(&facts)) {
                    done.same += 1;
                } else {
                    wanted.push((joined(from, text_of(&path)?), facts, here, number));
                }
            }
            let work = wanted
                .into_iter()
                .map(|(there, facts, here, number)| async move {
                    let got = side.get(&there, &facts, &here, number).await;
                    (there, facts.bytes, got)
                });
            gather(done, work).await
        }
    }
}

fn left_out(others: usize) {
    if others > 0 {
        eprintln!("{others} left out: links, sockets and the like are not copied");
    }
}

async fn tree_there(side: &Side<'_>, path: &str) -> Result<Tree, Failure> {
    let mut list = Bounded(Vec::new());
    side.run(TREE, &[path], Input::none(), &mut list).await?;
    let found = tree(&list.0);
    found.ok_or_else(|| Failure::failed("a name in the session is no UTF-8, or makes no sense"))
}

/// What a session says is held only so far.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LIST {
            return Err(std::io::Error::other("the list of files is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A few at once. One that fails is said, and the others go on, unless none could.
async fn gather<F>(mut done: Done, work: impl Iterator<Item = F>) -> Result<Done, Failure>
where
    F: Future<Output = (String, u64, Result<(), Failure>)>,
{
    let mut results = futures_util::stream::iter(work).buffer_unordered(AT_ONCE);
    while let Some((name, bytes, result)) = results.next().await {
        match result {
            Ok(()) => {
                done.copied += 1;
                done.bytes += bytes;
            }
            Err(failure) if failure.problem.is_some() => return Err(failure),
            Err(failure) => {
                done.failed += 1;
                eprintln!("longshore: {}: {}", clean(&name), failure.text);
            }
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_before_a_colon_is_a_session() {
        let there = |id: &str, path: &str| End::There(id.to_owned(), path.to_owned());
        assert_eq!(end("s-1:/a:b"), there("s-1", "/a:b"));
        assert_eq!(end("train:"), there("train", "."));
        assert_eq!(end("./a:b"), End::Here("./a:b".into()));
        assert_eq!(end("a"), End::Here("a".into()));
    }

    #[test]
    fn what_a_session_says_is_read_with_care() {
        let hash = "a".repeat(64);
        let file = Facts {
            bytes: 3,
            hash: hash.clone(),
            executable: true,
        };
        assert_eq!(
            there(&format!("file 3 {hash} x\n")),
            Some(There::File(file.clone()))
        );
        let plain = there("file 3 - -").unwrap();
        assert!(matches!(plain, There::File(Facts { hash, .. }) if hash.is_empty()));
        assert_eq!(there("none\n"), Some(There::Nothing));
        assert_eq!(there("file x - -"), None);
        let list = format!("d .\0d ./a b\0f 3 {hash} x ./a b/c\nd\0o ./link\0");
        let wanted = Tree {
            folders: vec![PathBuf::new(), "a b".into()],
            files: vec![("a b/c\nd".into(), file)],
            others: 1,
        };
        assert_eq!(tree(list.as_bytes()), Some(wanted));
    }

    #[test]
    fn no_list_leads_out_of_where_it_is_put() {
        for bad in ["../x", "./a/../../x", "/etc/passwd"] {
            assert_eq!(below(bad), None, "{bad}");
            assert_eq!(tree(format!("d {bad}\0").as_bytes()), None);
        }
        assert_eq!(below("./a/./b"), Some("a/b".into()));
        assert!(is_content("a/.") && is_content(".") && !is_content("a") && !is_content("a/"));
    }

    #[test]
    fn files_without_a_hash_are_never_taken_for_the_same() {
        let facts = |hash: &str| Facts {
            bytes: 3,
            hash: hash.to_owned(),
            executable: false,
        };
        assert!(!facts("").is_same(&facts("")));
        assert!(facts("ab").is_same(&facts("ab")) && !facts("ab").is_same(&facts("cd")));
    }

    #[test]
    fn what_went_wrong_has_its_exit_code() {
        let exit = |text: &str| went_wrong(1, text).exit;
        assert_eq!(
            exit("sh: can't create /x/.l: nonexistent directory"),
            code::NOT_FOUND
        );
        assert_eq!(
            exit("cat: can't open '/x': Permission denied"),
            code::DENIED
        );
        let full =
            "cat: write error: No space left on device\n/x: only 1 of 2 bytes could be written\n";
        assert_eq!(exit(full), code::REFUSED);
        assert_eq!(exit(""), code::FAILED);
    }

    #[test]
    fn a_file_is_put_in_its_place_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let wanted = |bytes, text: &[u8]| {
            let mut hash = Context::new(&SHA256);
            hash.update(text);
            Facts {
                bytes,
                hash: hex(hash),
                executable: true,
            }
        };
        let mut aside = Aside::new(&target, 1).unwrap();
        aside.write_all(b"ab").unwrap();
        assert!(aside.keep(&target, &wanted(2, b"xy")).is_err());
        assert!(!target.exists());
        aside.keep(&target, &wanted(2, b"ab")).unwrap();
        drop(aside);
        assert_eq!(facts_here(&target).unwrap(), wanted(2, b"ab"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
