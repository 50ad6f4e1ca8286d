//! `top`: GPUs, sessions, queue and nodes, drawn again and again.
//!
//! What is drawn is a function of what was fetched and of the keys so far; it needs no more
//! rights than the lists it shows. Without a terminal each list is printed once.

use super::{gpus, nodes, ps};
use crate::app::App;
use crate::client::{Client, encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, clean, clean_lines};
use longshore_common::api::{Explanation, TerminateRequest};
use longshore_common::time::Timestamp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;
use std::io::{IsTerminal, Read as _, Write as _};
use std::time::Duration;
use tokio::sync::mpsc;

/// The lists are fetched again this often.
const FETCH: Duration = Duration::from_secs(2);
/// What is older than this is shown with its age.
const STALE_MS: i64 = 6_000;

/// One of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tab {
    Gpus,
    Sessions,
    Queue,
    Agents,
}

impl Tab {
    const ALL: [Self; 4] = [Self::Gpus, Self::Sessions, Self::Queue, Self::Agents];

    const fn name(self) -> &'static str {
        match self {
            Self::Gpus => "GPUs",
            Self::Sessions => "sessions",
            Self::Queue => "queue",
            Self::Agents => "agents",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Gpus => "/devices",
            Self::Sessions => "/sessions?scope=all&ended=false",
            Self::Queue => "/sessions?scope=all&ended=false&state=PENDING",
            Self::Agents => "/agents",
        }
    }

    fn table(self, items: &[Value]) -> Result<Table, Failure> {
        match self {
            Self::Gpus => gpus::table(items),
            Self::Sessions | Self::Queue => ps::table(items, false),
            Self::Agents => nodes::table(items, false),
        }
    }
}

/// What the person in front of it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Look,
    /// Types what rows have to hold.
    Filter,
    /// Is asked whether this session is to be stopped.
    Stop(String),
    /// Reads this.
    Read(String),
}

/// Everything that is drawn.
#[derive(Debug)]
struct View {
    tab: Tab,
    mode: Mode,
    filter: String,
    /// The row that is marked, of those that are shown.
    row: usize,
    rows: Vec<Vec<String>>,
    headers: Vec<String>,
    fetched: Option<Timestamp>,
    /// What went wrong last.
    trouble: Option<String>,
}

/// What a key asks for that drawing alone cannot do.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Leave,
    Fetch,
    Stop(String),
    Explain(String),
}

const HELP: &str = "Tab or 1 2 3 4  another list\n\
    Up Down j k     mark a row\n\
    /               only rows with a text; Enter keeps it, Esc forgets it\n\
    e               why the marked session is where it is\n\
    x               stop the marked session (asks)\n\
    r               fetch now\n\
    q, Ctrl-C       leave; nothing is touched";

impl View {
    const fn new() -> Self {
        Self {
            tab: Tab::Gpus,
            mode: Mode::Look,
            filter: String::new(),
            row: 0,
            rows: Vec::new(),
            headers: Vec::new(),
            fetched: None,
            trouble: None,
        }
    }

    /// The rows that the filter lets through.
    fn shown(&self) -> Vec<&Vec<String>> {
        let wanted = self.filter.to_lowercase();
        let holds = |row: &&Vec<String>| {
            wanted.is_empty() || row.iter().any(|cell| cell.to_lowercase().contains(&wanted))
        };
        self.rows.iter().filter(holds).collect()
    }

    fn take(&mut self, table: &Table, now: Timestamp) {
        self.headers = table.headers().to_vec();
        self.rows = table.rows().to_vec();
        self.fetched = Some(now);
        self.trouble = None;
        self.row = self.row.min(self.shown().len().saturating_sub(1));
    }

    fn turn(&mut self, tab: Tab) -> Option<Wish> {
        self.tab = tab;
        self.row = 0;
        self.rows.clear();
        self.headers.clear();
        Some(Wish::Fetch)
    }

    /// The session of the marked row, in lists of sessions.
    fn session(&self) -> Option<String> {
        match self.tab {
            Tab::Sessions | Tab::Queue => self.shown().get(self.row)?.first().cloned(),
            Tab::Gpus | Tab::Agents => None,
        }
    }

    fn press(&mut self, key: &[u8]) -> Option<Wish> {
        if key == b"\x03" {
            return Some(Wish::Leave);
        }
        match std::mem::replace(&mut self.mode, Mode::Look) {
            Mode::Filter => {
                match key {
                    b"\r" | b"\n" => (),
                    b"\x1b" => self.filter.clear(),
                    b"\x7f" | b"\x08" => {
                        self.filter.pop();
                        self.mode = Mode::Filter;
                    }
                    text => {
                        self.filter.push_str(&clean(&String::from_utf8_lossy(text)));
                        self.mode = Mode::Filter;
                    }
                }
                self.row = 0;
                None
            }
            Mode::Stop(id) => matches!(key, b"y" | b"Y").then_some(Wish::Stop(id)),
            Mode::Read(_) => None, // any key closes it
            Mode::Look => self.look(key),
        }
    }

    fn look(&mut self, key: &[u8]) -> Option<Wish> {
        let place = Tab::ALL
            .iter()
            .position(|tab| *tab == self.tab)
            .unwrap_or(0);
        match key {
            b"q" => return Some(Wish::Leave),
            b"r" => return Some(Wish::Fetch),
            b"\t" => return self.turn(Tab::ALL[(place + 1) % Tab::ALL.len()]),
            [digit @ b'1'..=b'4'] => return self.turn(Tab::ALL[usize::from(digit - b'1')]),
            b"\x1b[A" | b"k" => self.row = self.row.saturating_sub(1),
            b"\x1b[B" | b"j" => {
                self.row = (self.row + 1).min(self.shown().len().saturating_sub(1));
            }
            b"/" => self.mode = Mode::Filter,
            b"?" => self.mode = Mode::Read(HELP.to_owned()),
            b"e" => return self.session().map(Wish::Explain),
            b"x" => {
                if let Some(id) = self.session() {
                    self.mode = Mode::Stop(id);
                }
            }
            _ => (),
        }
        None
    }

    /// The lines of a screen of this size.
    fn lines(&self, width: usize, height: usize, now: Timestamp) -> Vec<String> {
        let tabs: Vec<String> = (1..)
            .zip(Tab::ALL)
            .map(|(n, tab)| match tab == self.tab {
                true => format!("[{n} {}]", tab.name()),
                false => format!(" {n} {} ", tab.name()),
            })
            .collect();
        let age = self.fetched.map(|at| now.since(at));
        let state = match (&self.trouble, age) {
            (Some(text), Some(ms)) => format!("stale {}: {text}", clock::span(ms)),
            (Some(text), None) => text.clone(),
            (None, Some(ms)) if ms > STALE_MS => format!("stale {}", clock::span(ms)),
            (None, Some(_)) => "live".to_owned(),
            (None, None) => "…".to_owned(),
        };
        let mut lines = vec![format!("{}  {state}", tabs.join(" "))];
        let room = height.saturating_sub(2);
        if let Mode::Read(text) = &self.mode {
            lines.extend(clean_lines(text).lines().take(room).map(str::to_owned));
        } else {
            let mut table = Table::titled(self.headers.clone());
            let shown = self.shown();
            // The marked row stays on the screen.
            let first = self.row.saturating_sub(room.saturating_sub(2));
            for row in shown.iter().skip(first) {
                table.row((*row).clone());
            }
            let text = table.render(true, Some(width.saturating_sub(2)));
            let mark = self.row - first;
            let rows = text.lines().take(room).enumerate();
            // The first line is the heading.
            lines.extend(
                rows.map(|(n, line)| match n == mark + 1 && !shown.is_empty() {
                    true => format!("> {line}"),
                    false => format!("  {line}"),
                }),
            );
        }
        let foot = match &self.mode {
            Mode::Filter => format!("/{}", self.filter),
            Mode::Stop(id) => format!("Stop {id}? [y/N]"),
            Mode::Read(_) => "any key goes back".to_owned(),
            Mode::Look if self.filter.is_empty() => {
                "Tab list  / filter  e explain  x stop  ? keys  q leave".to_owned()
            }
            Mode::Look => format!(
                "only rows with \"{}\"   / filter  ? keys  q leave",
                self.filter
            ),
        };
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), String::new());
        lines.push(foot);
        let cut = |line: String| line.chars().take(width).collect();
        lines.into_iter().map(cut).collect()
    }
}

/// The terminal in front of us, with keys of its own as long as this lives.
struct Screen {
    before: Termios,
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        let broken = |error: rustix::io::Errno| Failure::failed(format!("the terminal: {error}"));
        let before = tcgetattr(&stdin).map_err(broken)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(broken)?;
        // A screen of its own, and no cursor.
        print(b"\x1b[?1049h\x1b[?25l");
        Ok(Self { before })
    }

    fn draw(lines: &[String]) {
        let mut text = String::from("\x1b[H");
        for (n, line) in lines.iter().enumerate() {
            if n > 0 {
                text.push_str("\r\n");
            }
            text.push_str(&clean(line));
            text.push_str("\x1b[K");
        }
        print(text.as_bytes());
    }

    fn size() -> (usize, usize) {
        match tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 2 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print(b"\x1b[?25h\x1b[?1049l");
        // A terminal that is gone needs none.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn print(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush()); // nobody may be there
}

/// Keys as they are pressed. The thread ends with the program.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (keys, pressed) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut piece = [0; 32];
        while let Ok(n @ 1..) = std::io::stdin().read(&mut piece) {
            if keys.blocking_send(piece[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    pressed
}

/// Shows them.
pub(crate) async fn run(app: &App) -> Result<u8, Failure> {
    let client = app.client()?;
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        for tab in Tab::ALL {
            let table = tab.table(&client.list(tab.path()).await?)?;
            crate::output::print(&format!("{}\n{}\n", tab.name(), table.render(true, None)))?;
        }
        return Ok(0);
    }
    let screen = Screen::open()?;
    let done = watch(&client).await;
    drop(screen);
    done.map(|()| 0)
}

async fn watch(client: &Client) -> Result<(), Failure> {
    let mut view = View::new();
    let mut keys = keys();
    let mut turn = tokio::time::interval(FETCH);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (width, height) = Screen::size();
        Screen::draw(&view.lines(width, height, clock::now()));
        let wish = tokio::select! {
            key = keys.recv() => match key {
                Some(key) => view.press(&key),
                None => return Ok(()),
            },
            _ = turn.tick() => Some(Wish::Fetch),
        };
        let done = match wish {
            None => Ok(()),
            Some(Wish::Leave) => return Ok(()),
            Some(Wish::Fetch) => fetch(client, &mut view).await,
            Some(Wish::Stop(id)) => stop(client, &id).await,
            Some(Wish::Explain(id)) => explain(client, &id, &mut view).await,
        };
        if let Err(failure) = done {
            view.trouble = Some(clean(&failure.to_string()));
        }
    }
}

async fn fetch(client: &Client, view: &mut View) -> Result<(), Failure> {
    let items = client.first(view.tab.path(), 500).await?;
    view.take(&view.tab.table(&items)?, clock::now());
    Ok(())
}

async fn stop(client: &Client, id: &str) -> Result<(), Failure> {
    let path = format!("/sessions/{}/terminate", encode(id));
    client.post(&path, &TerminateRequest::default()).await?;
    Ok(())
}

async fn explain(client: &Client, id: &str, view: &mut View) -> Result<(), Failure> {
    let path = format!("/sessions/{}/explain", encode(id));
    let explanation: Explanation = typed(client.get(&path).await?)?;
    view.mode = Mode::Read(super::explain::text(&explanation));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut table = Table::new(&["ID", "NAME"]);
        for (id, name) in [("s-1", "train"), ("s-2", "note"), ("s-3", "train-b")] {
            table.row(vec![id.to_owned(), name.to_owned()]);
        }
        let mut view = View::new();
        view.tab = Tab::Sessions;
        view.take(&table, Timestamp(1_000));
        view
    }

    fn press(view: &mut View, keys: &[&[u8]]) -> Option<Wish> {
        keys.iter().map(|key| view.press(key)).last().flatten()
    }

    #[test]
    fn a_screen() {
        let mut view = view();
        press(&mut view, &[b"\x1b[B"]);
        let lines = view.lines(30, 6, Timestamp(2_000));
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], " 1 GPUs  [2 sessions]  3 queue");
        assert_eq!(&lines[1..4], ["  ID   NAME", "  s-1  train", "> s-2  note"]);
        let old = view.lines(80, 6, Timestamp(20_000));
        assert!(old[0].ends_with("stale 19 s"), "{}", old[0]);
    }

    #[test]
    fn the_marked_row_stays_on_a_small_screen() {
        let mut view = view();
        press(&mut view, &[b"j", b"j", b"j"]);
        let lines = view.lines(40, 5, Timestamp(2_000));
        assert!(
            lines.iter().any(|line| line.starts_with("> s-3")),
            "{lines:?}"
        );
    }

    #[test]
    fn filters_and_questions() {
        let mut view = view();
        assert_eq!(press(&mut view, &[b"/", b"t", b"r", b"\r"]), None);
        assert_eq!(view.shown().len(), 2);
        press(&mut view, &[b"j"]);
        assert_eq!(
            press(&mut view, &[b"e"]),
            Some(Wish::Explain("s-3".to_owned()))
        );
        assert_eq!(press(&mut view, &[b"x", b"n"]), None);
        assert_eq!(
            press(&mut view, &[b"x", b"y"]),
            Some(Wish::Stop("s-3".to_owned()))
        );
        assert_eq!(press(&mut view, &[b"1"]), Some(Wish::Fetch));
        assert_eq!(
            press(&mut view, &[b"x"]),
            None,
            "no session is marked there"
        );
        assert_eq!(press(&mut view, &[b"q"]), Some(Wish::Leave));
    }
}
