//! What people change of their own: profile, password, second factor, logins.

use super::super::admin::{stands_in_file, void_links};
use super::super::change::Change;
use super::super::event::{Outcome, Refusal};
use super::super::people::{FactorKey, Keypair, KeypairState, LinkPurpose, Totp, User};
use super::super::state::State;
use super::enter::{accepted, wrong_code};
use super::{FIXED_PASSWORD, OwnOrder, OwnVerb, done};
use longshore_common::ids::{LoginId, UserId};
use longshore_common::redact;
use longshore_common::time::Timestamp;
use longshore_identity::fields;
use longshore_identity::throttle::NameKey;
use longshore_identity::totp::PENDING_MS;

pub(super) fn own(state: &State, order: &OwnOrder) -> Outcome {
    let user = state.users.get(&order.caller.user);
    let Some(user) = user.filter(|user| user.is_active() && user.service.is_none()) else {
        return Outcome::refuse(Refusal::new(
            "LS-AUTH-FAILED",
            "The credentials are not valid.",
        ));
    };
    if let OwnVerb::WrongPassword(prefix) = &order.verb {
        let name = NameKey::of(&user.username);
        let counted = state.throttle.failed(name, *prefix, order.at);
        return done(counted.into_iter().map(Change::Throttle).collect());
    }
    match decide(state, user, order) {
        Ok(_) if order.dry_run => done(Vec::new()),
        Ok(changes) => done(changes),
        Err(no) => {
            let (counted, refusal) = *no;
            Outcome {
                changes: counted,
                effects: Vec::new(),
                answer: Err(refusal),
            }
        }
    }
}

/// A refusal, and the failure it may count.
type No = Box<(Vec<Change>, Refusal)>;
type Decided = Result<Vec<Change>, No>;

fn refuse(refusal: Refusal) -> Decided {
    Err(Box::new((Vec::new(), refusal)))
}

/// The second factor cannot be read; nobody guessed anything.
fn shut(refusal: Refusal) -> No {
    Box::new((Vec::new(), refusal))
}

fn decide(state: &State, user: &User, order: &OwnOrder) -> Decided {
    let mut after = user.clone();
    after.version += 1;
    after.updated_at = order.at;
    match &order.verb {
        OwnVerb::WrongPassword(_) => Ok(Vec::new()), // answered above
        OwnVerb::Profile {
            full_name,
            description,
            redaction_names,
        } => {
            let full_name = full_name.as_deref().map(fields::clean);
            let description = description.as_deref().map(fields::clean);
            let wrong = [
                (
                    "/full_name",
                    full_name.as_deref().and_then(fields::full_name),
                ),
                (
                    "/description",
                    description.as_deref().and_then(fields::description),
                ),
            ];
            let names = redaction_names.as_deref().unwrap_or_default();
            let names = redact::faults(names).into_iter();
            let names = names.map(|(at, text)| (format!("/redaction_names/{at}"), text));
            let wrong: Vec<_> = wrong
                .into_iter()
                .filter_map(|(at, text)| Some((at.to_owned(), text?.to_owned())))
                .chain(names)
                .collect();
            if let Some((_, first)) = wrong.first() {
                let refusal = Refusal::new("LS-INVALID", first.clone());
                let all = wrong.into_iter();
                return refuse(all.fold(refusal, |r, (at, text)| r.at(at, text)));
            }
            if let Some(name) = full_name {
                after.full_name = name;
            }
            if let Some(text) = description {
                after.description = text;
            }
            if let Some(names) = redaction_names {
                after.redaction_names.clone_from(names);
            }
            let shown = |of: &User| {
                let texts = (of.full_name.clone(), of.description.clone());
                (texts, of.redaction_names.clone())
            };
            if shown(&after) == shown(user) {
                return Ok(Vec::new());
            }
            Ok(vec![Change::User(Box::new(after))])
        }
        OwnVerb::Password {
            compared,
            hash,
            revoke_keypairs,
        } => {
            if state.is_fixed(user.id) {
                return refuse(stands_in_file(user));
            }
            still(state, user, compared.as_ref())?;
            after.password = Some(hash.clone());
            after.password_set_at = Some(order.at);
            after.need_password_change = false;
            let mut changes = vec![Change::User(Box::new(after))];
            changes.extend(end_logins(state, user.id, order.login));
            // Nobody sets another one with a mail from before.
            changes.extend(void_links(state, user, &[LinkPurpose::Reset], order.at));
            if *revoke_keypairs {
                changes.extend(close_keypairs(state, user.id));
            }
            Ok(changes)
        }
        OwnVerb::OfferTotp { compared, secret } => {
            still(state, user, Some(compared))?;
            if user.second_factor().is_some() {
                return refuse(totp_enabled());
            }
            after.totp = Some(Totp {
                secret: FactorKey::open(*secret),
                active: false,
                offered_until: order.at.plus_ms(PENDING_MS),
                last_step: 0,
                recovery: Vec::new(),
            });
            after.version = user.version; // nobody can see an offer
            Ok(vec![Change::User(Box::new(after))])
        }
        OwnVerb::ActivateTotp { code, recovery } => {
            if user.second_factor().is_some() {
                return refuse(totp_enabled());
            }
            let offer = user.totp.as_ref();
            let Some(offer) = offer.filter(|offer| order.at < offer.offered_until) else {
                let text = "No enrolment waits for its first code; begin a new one.";
                return refuse(Refusal::new("LS-STATE", text));
            };
            may_try(state, user.id, order.at)?;
            let secret = offer.secret.secret().map_err(shut)?;
            match secret.accept(order.at, code.expose(), None) {
                Ok(step) => {
                    after.totp = Some(Totp {
                        active: true,
                        last_step: u64::try_from(step).unwrap_or_default(),
                        recovery: recovery.clone(),
                        ..offer.clone()
                    });
                    Ok(vec![Change::User(Box::new(after))])
                }
                Err(_) => Err(Box::new((
                    count_code(state, user.id, order.at),
                    wrong_code(),
                ))),
            }
        }
        OwnVerb::TotpOff { compared, code } => {
            still(state, user, Some(compared))?;
            let Some(totp) = user.second_factor() else {
                let text = "Two-factor codes are not switched on.";
                return refuse(Refusal::new("LS-STATE", text));
            };
            may_try(state, user.id, order.at)?;
            let secret = totp.secret.secret().map_err(shut)?;
            if accepted(totp, secret, code.expose(), order.at).is_err() {
                let counted = count_code(state, user.id, order.at);
                return Err(Box::new((counted, wrong_code())));
            }
            after.totp = None;
            Ok(vec![Change::User(Box::new(after))])
        }
        OwnVerb::EndLogin(id) => match state.logins.get(id) {
            Some(login) if login.user == user.id => Ok(vec![Change::LoginEnded(*id)]),
            // One of somebody else answers as one that never was, as one that is over does.
            _ => {
                let refusal = Refusal::new("LS-NOT-FOUND", format!("There is no login {id}."));
                Err(Box::new((Vec::new(), refusal)))
            }
        },
    }
}

fn totp_enabled() -> Refusal {
    Refusal::new(
        "LS-TOTP-ENABLED",
        "Two-factor codes are switched on already; switch them off first.",
    )
}

/// The password that was compared must still be the present one.
fn still(state: &State, user: &User, compared: Option<&String>) -> Result<(), No> {
    let same = match state.is_fixed(user.id) {
        true => compared.is_some_and(|compared| compared == FIXED_PASSWORD),
        false => user.password.as_ref() == compared,
    };
    if same {
        return Ok(());
    }
    let text = "The password was changed meanwhile; give the new one.";
    refuse(Refusal::new("LS-REAUTH", text)).map(drop)
}

fn may_try(state: &State, user: UserId, at: Timestamp) -> Result<(), No> {
    state.throttle.try_code(user, at).map_err(|refused| {
        let text = format!(
            "Too many wrong codes; codes are accepted again in {} s.",
            refused.retry_after_s
        );
        let refusal = Refusal::new("LS-LOGIN-THROTTLED", text);
        Box::new((Vec::new(), refusal.retry_after(refused.retry_after_s)))
    })
}

fn count_code(state: &State, user: UserId, at: Timestamp) -> Vec<Change> {
    let counted = state.throttle.code_failed(user, at);
    counted.into_iter().map(Change::Throttle).collect()
}

/// Ends all logins of somebody but one.
pub(in super::super) fn end_logins(
    state: &State,
    user: UserId,
    keep: Option<LoginId>,
) -> impl Iterator<Item = Change> {
    let logins = state.logins_of(user).map(|login| login.id);
    logins
        .filter(move |id| Some(*id) != keep)
        .map(Change::LoginEnded)
}

/// Keypairs that may have come into other hands open nothing any more. The main one stays as
/// a row, because its policy limits the person, but without a secret and switched off: it
/// works again once it was activated and its secret replaced.
fn close_keypairs(state: &State, user: UserId) -> Vec<Change> {
    let main = state.main_keypair(user).map(|k| k.access_key.clone());
    state
        .keypairs_of(user)
        .filter(|k| k.state != KeypairState::Revoked)
        .map(|keypair| {
            let is_main = Some(&keypair.access_key) == main.as_ref();
            Change::Keypair(Keypair {
                secret_sha256: None,
                previous: None,
                state: match is_main {
                    true => KeypairState::Inactive,
                    false => KeypairState::Revoked,
                },
                ..keypair.clone()
            })
        })
        .collect()
}
