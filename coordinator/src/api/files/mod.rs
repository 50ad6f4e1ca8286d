//! Files of a session: lists, and archives out of it and into it.
//!
//! Each is a command in the session: so it is its user who reads and writes, inside its
//! container, and no link leads out of it. Archives go through piece by piece; a client that
//! takes nothing holds the command up, a command that takes nothing the client.

mod read;

use super::audit::origin;
use super::errors::Failure;
use super::exec::{self, Begun};
use super::extract::{Query, Ref};
use super::held::{self, LetIn, Rests, Shows};
use super::operations::OPERATIONS;
use super::{App, json, person, sessions};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use longshore_common::ids::{Rank, SessionId};
use longshore_common::wire::{FromExec, MAX_PIECE, ToExec};
use longshore_core::access::Operation;
use longshore_core::model::SessionUse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIST: &str = include_str!("list.sh");
const GET: &str = include_str!("get.sh");
const PUT: &str = include_str!("put.sh");
/// Media type of archives.
const TAR: &str = "application/x-tar";
/// Largest archive that is taken in one request, in bytes: what is larger is better a folder.
const MOST: u64 = 64 << 30;
/// Most bytes of a list that are read: for some ten thousand entries.
const LISTED: usize = 4 << 20;
/// So much of what a command says of its failure is read.
const WORDS: usize = 8 * 1024;
/// The next piece of an archive may take so long to come.
const IDLE: Duration = Duration::from_secs(60);
/// What the command that takes an archive in asks when its input has ended, and the signal that
/// says yes: an input that ends may have broken off.
const WHOLE: &[u8] = b"whole?\0";
const YES: &str = "USR1";
/// The row of the operation table that an upload rests on.
const PUT_ROW: &str = "session_files_put";

/// What is asked for.
struct Wanted {
    path: String,
    rank: Rank,
    archive: bool,
    hash: bool,
}

fn wanted(query: Option<&str>, known: &'static [&'static str]) -> Result<Wanted, Failure> {
    let query = Query::read(query, known)?;
    let wrong = |text: &str| Failure::new("LS-PARAMETER", text.to_owned());
    let path = query.one("path")?.unwrap_or_default();
    if path.is_empty() || path.len() > 4096 || path.contains('\0') {
        return Err(wrong(
            "path is wanted: at most 4096 bytes, none of them zero.",
        ));
    }
    let rank = match query.one("rank")?.map(str::parse) {
        None => Rank::MAIN,
        Some(Ok(rank)) => rank,
        Some(Err(error)) => return Err(wrong(&format!("rank: {error}."))),
    };
    let archive = match query.one("format")? {
        None | Some("list") => false,
        Some("tar") => true,
        Some(_) => return Err(wrong("format is list or tar.")),
    };
    // A path is never taken for a flag.
    let path = match path.starts_with('-') {
        true => format!("./{path}"),
        false => path.to_owned(),
    };
    Ok(Wanted {
        path,
        rank,
        archive,
        hash: query.flag("hash")?,
    })
}

/// Begins a script in a session that the caller of a request may reach into.
async fn begin(
    app: &App,
    extensions: &Extensions,
    session: &str,
    (rank, script, words): (Rank, &str, &[&str]),
) -> Result<(SessionId, Begun), Failure> {
    let caller = person(extensions)?;
    let origin = origin(extensions)?;
    let id = sessions::resolve(app, &caller, session).await?;
    let session = sessions::allowed(app, &caller, id, Operation::SessionReach).await?;
    let fixed = ["/bin/sh", "-c", script, "files"];
    let command = fixed.iter().chain(words);
    let command = command.map(|word| (*word).to_owned()).collect();
    // What cannot be recorded must not reach the session: first the record.
    let engine = app.engine.asked_by(origin);
    exec::room(app, (id, caller.caller.user)).await?;
    let what = SessionUse::Reach("files".to_owned());
    sessions::used(app, &engine, &caller, id, what).await?;
    let begun = exec::begin_command(app, &session, (rank, command), caller.caller.user).await?;
    Ok((id, begun))
}

/// What a command says, up to a bound.
#[derive(Default)]
struct Said {
    output: Vec<u8>,
    errors: Vec<u8>,
    /// There was more output.
    more: bool,
}

impl Said {
    fn take(&mut self, frame: FromExec) -> Option<Result<i32, String>> {
        match frame {
            FromExec::Output(bytes) => {
                let room = LISTED.saturating_sub(self.output.len());
                self.more |= bytes.len() > room;
                self.output
                    .extend_from_slice(&bytes[..bytes.len().min(room)]);
                None
            }
            FromExec::ErrorOutput(bytes) => {
                let room = WORDS.saturating_sub(self.errors.len());
                self.errors
                    .extend_from_slice(&bytes[..bytes.len().min(room)]);
                None
            }
            FromExec::Exited(code) => Some(Ok(code)),
            FromExec::Failed(text) => Some(Err(text)),
        }
    }
}

fn lost(text: &str) -> Failure {
    let text = format!("What became of it is not known: {text}.");
    Failure::new("LS-AGENT-UNREACHABLE", text).retry_after(2)
}

/// Why a command did not end well.
fn went_wrong(code: i32, errors: &[u8]) -> Failure {
    Failure::new(
        "LS-PATH",
        read::reason(code, &String::from_utf8_lossy(errors)),
    )
}

/// Hears a command to its end.
async fn heard(begun: &mut Begun) -> Result<Said, Failure> {
    heard_on(begun, Said::default()).await
}

/// Hears the command that takes an archive in to its end, and says that the archive is whole
/// when it is asked, if `sent` says so.
async fn heard_taking(begun: &mut Begun, sent: &AtomicBool) -> Result<Said, Failure> {
    let mut said = Said::default();
    while said.output.len() < WHOLE.len() {
        let frame = begun.ends.from.recv().await;
        let frame = frame.ok_or_else(|| lost("the way to its agent broke"))?;
        if let Some(end) = said.take(frame) {
            let code = end.map_err(|text| lost(&text))?;
            begun.ended(Some(code));
            return Err(went_wrong(code, &said.errors));
        }
    }
    if !said.output.starts_with(WHOLE) {
        return Err(lost("its image said what makes no sense"));
    }
    if !sent.load(Ordering::Relaxed) {
        return Err(lost("its input broke off"));
    }
    said.output.drain(..WHOLE.len());
    // It may have ended: then it says so.
    let _ = begun.ends.to.send(ToExec::Signal(YES.to_owned())).await;
    heard_on(begun, said).await
}

async fn heard_on(begun: &mut Begun, mut said: Said) -> Result<Said, Failure> {
    while let Some(frame) = begun.ends.from.recv().await {
        match said.take(frame) {
            None => (),
            Some(Ok(0)) => {
                begun.ended(Some(0));
                return Ok(said);
            }
            Some(Ok(code)) => {
                begun.ended(Some(code));
                return Err(went_wrong(code, &said.errors));
            }
            Some(Err(text)) => return Err(lost(&text)),
        }
    }
    Err(lost("the way to its agent broke"))
}

/// `GET /files/v1/sessions/ID?path=`: a list, or an archive.
pub(super) async fn get(
    State(app): State<App>,
    Ref(session): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let known = &["path", "rank", "format", "hash"];
    let wanted = wanted(request.uri().query(), known)?;
    let Wanted { path, rank, .. } = &wanted;
    let hash = if wanted.hash { "y" } else { "n" };
    let (script, words) = match wanted.archive {
        true => (GET, &[path.as_str()][..]),
        false => (LIST, &[path.as_str(), hash][..]),
    };
    let order = (*rank, script, words);
    let (id, mut begun) = begin(&app, request.extensions(), &session, order).await?;
    held::shows(request.extensions(), id, Operation::SessionReach);
    if !wanted.archive {
        let said = heard(&mut begun).await?;
        let list = read::list(&said.output, said.more);
        let list = list.ok_or_else(|| lost("its image said what makes no sense"))?;
        return Ok(json(&list)?.into_response());
    }
    // What goes wrong at once is an answer of its own; later the archive breaks off.
    let mut said = Said::default();
    let first = loop {
        let frame = begun.ends.from.recv().await;
        match frame {
            Some(FromExec::Output(bytes)) => break bytes,
            Some(frame) => match said.take(frame) {
                None => (),
                Some(Ok(code)) => {
                    begun.ended(Some(code));
                    return Err(went_wrong(code, &said.errors));
                }
                Some(Err(text)) => return Err(lost(&text)),
            },
            None => return Err(lost("the way to its agent broke")),
        }
    };
    let rest = stream::unfold(Some(begun), |begun| async move {
        let mut begun = begun?;
        loop {
            let broken = |why: &str| Err(std::io::Error::other(why.to_owned()));
            match begun.ends.from.recv().await {
                Some(FromExec::Output(bytes)) => {
                    return Some((Ok(Bytes::from(bytes)), Some(begun)));
                }
                Some(FromExec::ErrorOutput(_)) => (),
                Some(FromExec::Exited(code)) => {
                    begun.ended(Some(code));
                    return (code != 0).then(|| (broken("it did not end well"), None));
                }
                Some(FromExec::Failed(_)) | None => return Some((broken("it is lost"), None)),
            }
        }
    });
    let first = stream::iter([Ok(Bytes::from(first))]);
    let mut response = Response::new(Body::from_stream(first.chain(rest)));
    // Content of somebody is never shown as a page of ours.
    let fixed: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, TAR),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"files.tar\"",
        ),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn is_tar(request: &Request) -> bool {
    let headers = request.headers();
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or("").trim());
    kind == Some(TAR) && !headers.contains_key(header::CONTENT_ENCODING)
}

/// `PUT /files/v1/sessions/ID?path=`: an archive into a folder.
pub(super) async fn put(
    State(app): State<App>,
    Ref(session): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let wanted = wanted(request.uri().query(), &["path", "rank"])?;
    if !is_tar(&request) {
        let text = format!("An archive comes as {TAR}, without Content-Encoding.");
        return Err(Failure::new("LS-MEDIA-TYPE", text));
    }
    let caller = person(request.extensions())?;
    let row = OPERATIONS.iter().find(|row| row.id == PUT_ROW);
    let row = row.ok_or_else(Failure::internal)?;
    let let_in = LetIn::new(row, &caller, app.identity.generation());
    let order = (wanted.rank, PUT, &[wanted.path.as_str()][..]);
    let (id, mut begun) = begin(&app, request.extensions(), &session, order).await?;
    let mut rests = Rests::new(&app, let_in, Shows::of(id, Operation::SessionReach));
    let to = begun.ends.to.clone();
    let body = request.into_body();
    let sent = AtomicBool::new(false);
    let sending = async {
        match send(body, &to).await {
            // What became of it is said by the command.
            Ok(()) => {
                sent.store(true, Ordering::Relaxed);
                std::future::pending().await
            }
            Err(failure) => failure,
        }
    };
    let said = tokio::select! {
        said = heard_taking(&mut begun, &sent) => said?,
        // A command whose client goes is ended, and takes away what it wrote aside.
        failure = sending => return Err(failure),
        lost = rests.lost() => return Err(lost),
    };
    let put = read::put(&said.output, said.more);
    let put = put.ok_or_else(|| lost("its image said what makes no sense"))?;
    Ok(json(&put)?.into_response())
}

/// Hands a body on. Ends well also when the command takes no more of it.
async fn send(body: Body, to: &tokio::sync::mpsc::Sender<ToExec>) -> Result<(), Failure> {
    let mut pieces = body.into_data_stream();
    let mut sent: u64 = 0;
    loop {
        let piece = match tokio::time::timeout(IDLE, pieces.next()).await {
            Err(_) => {
                return Err(Failure::new(
                    "LS-TIMEOUT",
                    "The archive did not come in time.",
                ));
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Failure::new("LS-SYNTAX", "The archive broke off.")),
            Ok(Some(Ok(piece))) => piece,
        };
        sent += piece.len() as u64;
        if sent > MOST {
            return Err(Failure::new("LS-TOO-LARGE", "An archive may have 64 GiB."));
        }
        for part in piece.chunks(MAX_PIECE) {
            if to.send(ToExec::Input(part.to_vec())).await.is_err() {
                return Ok(());
            }
        }
    }
    let _ = to.send(ToExec::EndOfInput).await; // it may have ended
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_checked() {
        let known = &["path", "rank", "format", "hash"];
        let good = wanted(Some("path=-rf&format=tar&rank=sub1"), known)
            .ok()
            .unwrap();
        assert_eq!((good.path.as_str(), good.archive), ("./-rf", true));
        for bad in [
            "",
            "path=",
            "path=/a&rank=x",
            "path=/a&format=zip",
            "path=/%00",
        ] {
            let failure = wanted(Some(bad), known).err().unwrap();
            assert_eq!(failure.code, "LS-PARAMETER", "{bad}");
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut said = Said::default();
        for _ in 0..100 {
            said.take(FromExec::Output(vec![0; 60_000]));
            said.take(FromExec::ErrorOutput(vec![0; 60_000]));
        }
        assert_eq!((said.output.len(), said.errors.len()), (LISTED, WORDS));
        assert!(said.more);
        assert_eq!(said.take(FromExec::Exited(3)), Some(Ok(3)));
    }
}
