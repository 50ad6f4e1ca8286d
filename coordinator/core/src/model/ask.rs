//! What is asked of one session, by whom, and whether it may be.

use super::entities::Session;
use super::event::{Called, Caller, Refusal};
use super::state::State;
use super::verbs::no_session;
use crate::access::{Decision, Operation};
use longshore_common::ids::SessionId;

/// Something is asked of a session.
#[derive(Debug, Clone)]
pub struct Ask<W> {
    /// By whom.
    pub caller: Caller,
    /// How it calls; none = it was not asked by anybody but made up (a scenario, a test), and
    /// whether it may is not judged.
    pub called: Option<Called>,
    /// Which session.
    pub session: SessionId,
    /// The session as it is stored, where memory may have forgotten it.
    pub past: Option<Box<Session>>,
    /// The version the person saw; none = whatever it is.
    pub version: Option<u64>,
    /// Say what would become of it, and change nothing.
    pub dry_run: bool,
    /// What.
    pub what: W,
}

impl<W> Ask<W> {
    /// The session, if the caller may change it and has seen it as it is.
    pub(super) fn session<'a>(&'a self, state: &'a State) -> Result<&'a Session, Refusal> {
        let past = self.past.as_deref().filter(|s| s.id == self.session);
        let session = state.sessions.get(&self.session).or(past);
        let session = session.ok_or_else(|| no_session(self.session))?;
        if let Some(called) = &self.called {
            let rights = state.rights_as(&self.caller, called)?;
            let operation = Operation::SessionUpdate;
            match state.judged_session(&rights, session, operation, false) {
                Decision::Allowed(_) => (),
                Decision::Forbidden(why) => return Err(Refusal::new(why.code(), why.to_string())),
                Decision::Hidden(_) => return Err(no_session(self.session)),
            }
        }
        if self.version.is_some_and(|seen| seen != session.version) {
            let text = format!("Session {} has been changed since it was read.", session.id);
            return Err(Refusal::new("LS-VERSION-STALE", text));
        }
        Ok(session)
    }
}
