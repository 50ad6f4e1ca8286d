//! Links that work once: drawn here, shown in the answer that made them, mailed if mail is set
//! up. Their token stands in the fragment, so that it reaches no log of a server.

use crate::identity::new_id;
use crate::mail::{Mail, Mailer};
use crate::pki::fill_random;
use crate::settings::Held;
use longshore_common::admin::InvitationView;
use longshore_common::ids::InvitationId;
use longshore_core::model::admin::DrawnLink;
use longshore_identity::{Secret, token};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests for a link to choose a password that are looked at at a time; those beyond are
/// answered like the others.
const RESETS: usize = 32;
/// For how long an invitation is good, in seconds, when nothing is set.
const VALID_S: u32 = 604_800;

/// See the module.
#[derive(Debug)]
pub struct Links {
    /// Who mails them.
    mail: Held<Mailer>,
    /// For how long invitations and proofs of addresses are good, in seconds:
    /// `daemon.auth.invitations.expires_s`.
    valid_s: Held<u32>,
    resets: Arc<Semaphore>,
}

impl Default for Links {
    fn default() -> Self {
        Self::new(Mailer::default(), VALID_S)
    }
}

impl Links {
    /// Links that are good for `valid_s` seconds.
    #[must_use]
    pub fn new(mail: Mailer, valid_s: u32) -> Self {
        Self {
            mail: Held::new(mail),
            valid_s: Held::new(valid_s),
            resets: Arc::new(Semaphore::new(RESETS)),
        }
    }

    /// The settings are others from now on; without a mailer that one stays.
    pub(super) fn set(&self, valid_s: u32, mail: Option<Mailer>) {
        self.valid_s.set(valid_s);
        if let Some(mail) = mail {
            self.mail.set(mail);
        }
    }

    /// Whether mail is set up.
    pub(super) fn is_mailed(&self) -> bool {
        self.mail.look(Mailer::is_on)
    }

    /// Who mails.
    pub(super) fn mailer(&self) -> Mailer {
        self.mail.get()
    }

    /// Leave to look at one more request for a link to choose a password.
    pub(super) fn room(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.resets).try_acquire_owned().ok()
    }

    /// Draws a link: its token, and what is stored of it.
    pub(super) fn draw(&self) -> (Secret, DrawnLink) {
        let token = token::link(&mut fill_random);
        let link = DrawnLink {
            id: InvitationId::new(new_id()),
            token_sha256: *token.sha256().as_bytes(),
            valid_s: self.valid_s.get(),
        };
        (token, link)
    }

    /// A link that accepts an invitation or proves an address.
    pub(super) fn invite(&self, address: &str, token: &Secret) -> String {
        format!("{address}/invite#{}", token.expose())
    }

    /// A link to choose a password.
    pub(super) fn reset(&self, address: &str, token: &Secret) -> String {
        format!("{address}/reset#{}", token.expose())
    }

    pub(super) fn mail_invitation(&self, address: &str, invitation: &InvitationView, link: &str) {
        let projects = match invitation.projects.as_slice() {
            [] => String::new(),
            names => format!(" (projects: {})", names.join(", ")),
        };
        let how = match invitation.user {
            Some(_) => "You have an account there already; log in with it to accept",
            None => "To make your account",
        };
        let text = format!(
            "{} invites you to {address}{projects}.\n\n{how}:\n\n    {link}\n\n\
             On a command line: longshore accept-invitation LINK\n\n\
             The link is good once, until {}. If you do not know what this is about, do nothing.\n",
            invitation.invited_by, invitation.expires_at,
        );
        self.mail.get().post(Mail {
            to: invitation.email.clone(),
            subject: format!("Invitation to {}", host(address)),
            text,
        });
    }

    pub(super) fn mail_proof(&self, address: &str, to: &str, link: &str) {
        let text = format!(
            "There is an account with this address at {address}. To prove that the address is \
             yours:\n\n    {link}\n\nOn a command line: longshore accept-invitation LINK\n\n\
             The link is good once. If you do not know what this is about, do nothing.\n"
        );
        self.mail.get().post(Mail {
            to: to.to_owned(),
            subject: format!("Your account at {}", host(address)),
            text,
        });
    }

    pub(super) fn mail_reset(&self, address: &str, to: &str, link: &str) {
        let text = format!(
            "Somebody asked for a new password of the account with this address at {address}. \
             To choose one:\n\n    {link}\n\nOn a command line: longshore passwd --link LINK\n\n\
             The link is good for an hour, once. If it was not you, do nothing: the password \
             stays as it is.\n"
        );
        self.mail.get().post(Mail {
            to: to.to_owned(),
            subject: format!("New password at {}", host(address)),
            text,
        });
    }
}

/// The address without its scheme, for a line.
fn host(address: &str) -> &str {
    address.strip_prefix("https://").unwrap_or(address)
}
