//! Logins: who is let in by a password and a code, what people change of their own, and how
//! logins come to their end.
//!
//! Passwords are hashed and compared at the rim, where that may take time. What was compared
//! comes here with the hash it was compared with, so that a password that was changed in
//! between lets nobody in. Instants are those of the wall clock: codes and counters go by it,
//! and so do logins, which outlive the process.
//!
//! | module | decides about |
//! |---|---|
//! | `enter` | a login by password and code |
//! | `own` | profile, password, second factor and logins of the caller |
//! | `links` | links to choose a new password, and the way back in of the last administrator |
//! | `record` | what the audit log has to say about it |

mod enter;
mod links;
mod own;
mod record;

#[cfg(test)]
mod tests;

pub use enter::{counted_as, notices};
pub(super) use own::end_logins;
pub(super) use record::{person_shown, recorded};

use super::admin::{Accept, accept};
use super::change::Change;
use super::event::{Caller, Outcome, Refusal};
use super::people::{LinkPurpose, Login};
use super::state::State;
use longshore_common::ids::{InvitationId, LoginId, UserId};
use longshore_common::time::Timestamp;
use longshore_identity::throttle::Prefix;
use longshore_identity::{Secret, Sha256};

/// Logins of one person at most: more places than anybody is at. The one that was not used
/// for the longest time makes room.
pub(super) const MOST_LOGINS: usize = 64;

/// How long logins last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginLimits {
    /// Seconds after which a login ends however much it is used.
    pub max_age_s: u32,
    /// Seconds without a request after which it ends.
    pub idle_s: u32,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            max_age_s: 604_800,
            idle_s: 86_400,
        }
    }
}

impl LoginLimits {
    /// When a login ends if it is used no more.
    #[must_use]
    pub fn end(&self, created: Timestamp, last_used: Timestamp) -> Timestamp {
        let whole = created.plus_ms(i64::from(self.max_age_s) * 1000);
        let idle = last_used.plus_ms(i64::from(self.idle_s) * 1000);
        whole.min(idle)
    }
}

/// Something about logins is asked for or happened.
#[derive(Debug, Clone)]
pub enum LoginEvent {
    /// Somebody wants in by a password.
    Enter(PasswordTry),
    /// Somebody changes what is their own.
    Own(OwnOrder),
    /// A new password is chosen by a link.
    Reset(ResetByLink),
    /// A link to choose a new password is asked for.
    WantReset {
        /// Address of the account, as it was typed.
        email: String,
        /// The link, if there is to be one.
        link: NewLink,
    },
    /// Somebody brings the token of an invitation, or of a proof of an address.
    Accept(Box<Accept>),
    /// The way back in for an administrator, from the machine itself.
    Recover {
        /// Address of the administrator.
        email: String,
        /// The link to choose a password.
        link: NewLink,
    },
    /// Time passed: what was used lately, and what is over.
    Minute {
        /// When.
        at: Timestamp,
        /// Logins with the instant of their last use.
        used: Vec<(LoginId, Timestamp)>,
        /// How long logins last.
        limits: LoginLimits,
    },
}

/// A login by password. The throttle was asked before the password was compared.
#[derive(Debug, Clone)]
pub struct PasswordTry {
    /// The login name as it was typed.
    pub name: String,
    /// From where.
    pub prefix: Prefix,
    /// The address itself.
    pub from: String,
    /// `console` or `cli`.
    pub client: String,
    /// What the comparison came to.
    pub compared: Compared,
    /// The code of the second factor, if one was given.
    pub code: Option<Secret>,
    /// Id of the login it may become.
    pub id: LoginId,
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// Days after which a new password is wanted; 0 = never.
    pub max_password_days: u32,
    /// When.
    pub at: Timestamp,
}

/// What the comparison of a password came to.
#[derive(Debug, Clone)]
pub enum Compared {
    /// Another password, or nothing to compare it with.
    Wrong,
    /// The right one.
    Right {
        /// Of whom.
        user: UserId,
        /// The stored hash it was compared with.
        hash: String,
        /// Its hash with the parameters of today, if the stored one has others.
        rehash: Option<String>,
    },
    /// The one that stands in the configuration.
    Fixed(UserId),
}

/// Stands for the hash of a password that is in the configuration. No hash is like it.
pub const FIXED_PASSWORD: &str = "configuration";

/// What became of a login.
#[derive(Debug, Clone)]
pub enum LoginAnswer {
    /// In.
    In(Box<Login>),
    /// The password is right; a code is asked for.
    CodeWanted(UserId),
    /// No.
    No {
        /// What is told.
        refusal: Refusal,
        /// Of whom, if the name is known: for the audit log.
        user: Option<UserId>,
        /// What it was exactly: for the audit log.
        why: String,
        /// Seconds after which a try makes sense.
        retry_after_s: Option<u32>,
    },
}

/// Somebody changes what is their own.
#[derive(Debug, Clone)]
pub struct OwnOrder {
    /// Who.
    pub caller: Caller,
    /// The login by which the caller came, if it was one.
    pub login: Option<LoginId>,
    /// Decide, and change nothing; what counts failures is counted all the same.
    pub dry_run: bool,
    /// When.
    pub at: Timestamp,
    /// What.
    pub verb: OwnVerb,
}

/// What people change of their own.
#[derive(Debug, Clone)]
pub enum OwnVerb {
    /// Name, description, what is hidden; none = as it is.
    Profile {
        /// At most 64 characters.
        full_name: Option<String>,
        /// At most 500 characters.
        description: Option<String>,
        /// Names as [`longshore_common::redact`] takes them.
        redaction_names: Option<Vec<String>>,
    },
    /// The password given to prove who it is was another: counted like a failed login.
    WrongPassword(Prefix),
    /// Another password.
    Password {
        /// The hash the present one was compared with; none if there is none.
        compared: Option<String>,
        /// Hash of the new one.
        hash: String,
        /// Keypairs go too.
        revoke_keypairs: bool,
    },
    /// A second factor is offered.
    OfferTotp {
        /// The hash the password was compared with.
        compared: String,
        /// 160 random bits.
        secret: [u8; 20],
    },
    /// It is switched on by its first code.
    ActivateTotp {
        /// The code.
        code: Secret,
        /// SHA-256 of the recovery codes.
        recovery: Vec<[u8; 32]>,
    },
    /// It is switched off.
    TotpOff {
        /// The hash the password was compared with.
        compared: String,
        /// A code, or a recovery code.
        code: Secret,
    },
    /// A login is ended: this one or another.
    EndLogin(LoginId),
}

/// A new password by a link.
#[derive(Debug, Clone)]
pub struct ResetByLink {
    /// SHA-256 of the link's token.
    pub token_sha256: [u8; 32],
    /// Hash of the new password.
    pub hash: String,
    /// When.
    pub at: Timestamp,
}

/// A link that was drawn.
#[derive(Debug, Clone, Copy)]
pub struct NewLink {
    /// Its id.
    pub id: InvitationId,
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// Says what follows.
pub(super) fn react(state: &State, event: &LoginEvent) -> Outcome {
    match event {
        LoginEvent::Enter(order) => enter::enter(state, order),
        LoginEvent::Own(order) => own::own(state, order),
        LoginEvent::Reset(order) => links::reset(state, order),
        LoginEvent::WantReset { email, link } => links::want_reset(state, email, *link),
        LoginEvent::Accept(order) => accept(state, order),
        LoginEvent::Recover { email, link } => links::recover(state, email, *link),
        LoginEvent::Minute { at, used, limits } => minute(state, *at, used, *limits),
    }
}

fn done(changes: Vec<Change>) -> Outcome {
    Outcome {
        changes,
        effects: Vec::new(),
        answer: Ok(super::event::Answer::Done),
    }
}

fn minute(
    state: &State,
    at: Timestamp,
    used: &[(LoginId, Timestamp)],
    limits: LoginLimits,
) -> Outcome {
    let mut changes = Vec::new();
    let used: std::collections::BTreeMap<_, _> = used.iter().copied().collect();
    for login in state.logins.values() {
        let last = used
            .get(&login.id)
            .map_or(login.last_used_at, |at| login.last_used_at.max(*at));
        if limits.end(login.created_at, last) <= at {
            changes.push(Change::LoginEnded(login.id));
        } else if last != login.last_used_at {
            changes.push(Change::Login(Login {
                last_used_at: last,
                ..login.clone()
            }));
        }
    }
    // Invitations are history. Other links leave nothing behind; those to choose a password
    // stay for their time even when they are void, because they are counted.
    let over = state
        .invitations
        .values()
        .filter(|link| match link.purpose {
            LinkPurpose::Invitation => false,
            LinkPurpose::Verification => !link.is_open(at),
            LinkPurpose::Reset => link.expires_at <= at,
        });
    changes.extend(over.map(|link| Change::InvitationForgotten(link.id)));
    let idle = state.throttle.expired(at);
    changes.extend(idle.into_iter().map(Change::Throttle));
    done(changes)
}

/// Finds the link that a token opens, if it still opens anything.
#[must_use]
pub fn open_link<'a>(
    state: &'a State,
    token_sha256: &[u8; 32],
    purpose: LinkPurpose,
    at: Timestamp,
) -> Option<&'a super::people::Invitation> {
    let given = Sha256::from_bytes(*token_sha256);
    let mut links = state.invitations.values();
    links.find(|link| {
        link.purpose == purpose
            && link.is_open(at)
            && Sha256::from_bytes(link.token_sha256).same(&given)
    })
}
