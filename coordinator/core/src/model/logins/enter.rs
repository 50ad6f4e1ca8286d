//! A login by password and code.

use super::super::change::Change;
use super::super::event::{Answer, Outcome, Refusal};
use super::super::people::{Login, Totp, User, UserStatus};
use super::super::state::State;
use super::{Compared, LoginAnswer, MOST_LOGINS, PasswordTry};
use longshore_common::ids::UserId;
use longshore_common::logins::Notice;
use longshore_common::time::Timestamp;
use longshore_identity::Sha256;
use longshore_identity::throttle::NameKey;
use longshore_identity::totp::{RECOVERY_LOW, TotpSecret, recover};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// By what somebody logged in who gave a password.
const VIA_PASSWORD: &str = "password";

/// The one answer to an unknown name, a wrong password, an account without one and a service
/// account.
fn no_password() -> Refusal {
    Refusal::new("LS-LOGIN-FAILED", "Login name or password is wrong.")
}

fn answer(changes: Vec<Change>, answer: LoginAnswer) -> Outcome {
    Outcome {
        changes,
        effects: Vec::new(),
        answer: Ok(Answer::Login(Box::new(answer))),
    }
}

fn no(changes: Vec<Change>, refusal: Refusal, user: Option<UserId>, why: &str) -> Outcome {
    let no = LoginAnswer::No {
        refusal,
        user,
        why: why.to_owned(),
        retry_after_s: None,
    };
    answer(changes, no)
}

/// What failed logins are counted under: somebody has two login names, and as many tries for
/// both together as for one.
#[must_use]
pub fn counted_as(state: &State, name: &str) -> NameKey {
    let user = state.user_of_name(name.trim());
    NameKey::of(user.map_or(name, |user| &user.username))
}

fn failed(state: &State, order: &PasswordTry, user: Option<UserId>, why: &str) -> Outcome {
    let name = counted_as(state, &order.name);
    let counted = state.throttle.failed(name, order.prefix, order.at);
    let changes = counted.into_iter().map(Change::Throttle).collect();
    no(changes, no_password(), user, why)
}

/// A password that is not the one, or nothing to compare it with.
fn unproven(state: &State, order: &PasswordTry) -> Outcome {
    let known = state.user_of_name(order.name.trim());
    let others = state.people_settings.fixed_users_only;
    let why = match known {
        None => "unknown login name",
        Some(user) if user.service.is_some() => "a service account has no login",
        Some(user) if others && !state.is_fixed(user.id) => "only fixed users have a login",
        Some(user) if user.password.is_none() && !state.is_fixed(user.id) => "no password is set",
        Some(_) => "wrong password",
    };
    failed(state, order, known.map(|user| user.id), why)
}

pub(super) fn enter(state: &State, order: &PasswordTry) -> Outcome {
    let (user, stored) = match &order.compared {
        Compared::Wrong => return unproven(state, order),
        Compared::Right { user, hash, rehash } => (user, Some((hash, rehash))),
        Compared::Fixed(user) => (user, None),
    };
    let found = state.users.get(user).filter(|u| u.service.is_none());
    let still = |user: &&User| match stored {
        Some((hash, _)) => {
            user.password.as_ref() == Some(hash) && !state.people_settings.fixed_users_only
        }
        None => state.is_fixed(user.id),
    };
    let Some(user) = found.filter(still) else {
        // It was right a moment ago: nobody guessed it.
        let why = "the password was changed meanwhile";
        return no(Vec::new(), no_password(), Some(*user), why);
    };
    if let Some(refusal) = switched_off(state, user) {
        let code = refusal.code;
        return no(Vec::new(), refusal, Some(user.id), code);
    }
    let mut user = user.clone();
    if let Some(totp) = user.second_factor() {
        let Some(code) = &order.code else {
            return answer(Vec::new(), LoginAnswer::CodeWanted(user.id));
        };
        if let Err(refused) = state.throttle.try_code(user.id, order.at) {
            let no = LoginAnswer::No {
                refusal: Refusal::new(
                    "LS-LOGIN-THROTTLED",
                    "Too many wrong codes; codes are not accepted for a while.",
                ),
                user: Some(user.id),
                why: "too many wrong codes".to_owned(),
                retry_after_s: Some(refused.retry_after_s),
            };
            return answer(Vec::new(), no);
        }
        let secret = match totp.secret.secret() {
            Ok(secret) => secret,
            // No code was wrong: nothing is counted.
            Err(refusal) => {
                let why = "the master key is missing";
                return no(Vec::new(), refusal, Some(user.id), why);
            }
        };
        match accepted(totp, secret, code.expose(), order.at) {
            Ok(after) => user.totp = Some(after),
            Err(why) => {
                let counted = state.throttle.code_failed(user.id, order.at);
                let changes = counted.into_iter().map(Change::Throttle).collect();
                return no(changes, wrong_code(), Some(user.id), &why);
            }
        }
    }
    if let Some((_, Some(rehash))) = stored {
        user.password = Some(rehash.clone());
    }
    // Nobody can be asked to change what stands in the configuration.
    let days = stored.map_or(0, |_| i64::from(order.max_password_days));
    let chosen = user.password_set_at.unwrap_or(user.created_at);
    if days > 0 && order.at.since(chosen) >= days * DAY_MS {
        user.need_password_change = true;
    }
    user.last_login = Some((order.at, VIA_PASSWORD.to_owned()));
    let login = Login {
        id: order.id,
        token_sha256: order.token_sha256,
        user: user.id,
        via: VIA_PASSWORD.to_owned(),
        client: order.client.clone(),
        from: order.from.clone(),
        created_at: order.at,
        last_used_at: order.at,
    };
    let name = counted_as(state, &order.name);
    let counted = state.throttle.succeeded(name, order.prefix, order.at);
    let mut changes: Vec<Change> = counted.into_iter().map(Change::Throttle).collect();
    changes.extend(make_room(state, user.id));
    changes.push(Change::User(Box::new(user)));
    changes.push(Change::Login(login.clone()));
    answer(changes, LoginAnswer::In(Box::new(login)))
}

/// Status is told only to one who knows the password.
fn switched_off(state: &State, user: &User) -> Option<Refusal> {
    match user.status {
        UserStatus::Inactive => {
            return Some(Refusal::new(
                "LS-USER-INACTIVE",
                "This account is inactive.",
            ));
        }
        UserStatus::BeforeVerification => {
            return Some(Refusal::new(
                "LS-USER-UNVERIFIED",
                "This account is not verified yet.",
            ));
        }
        UserStatus::Active => (),
    }
    let domain = state.domains.get(&user.domain);
    let off = domain.is_some_and(|domain| !domain.active);
    off.then(|| Refusal::new("LS-DOMAIN-INACTIVE", "This domain is inactive."))
}

pub(super) fn wrong_code() -> Refusal {
    Refusal::new("LS-TOTP-INVALID", "The code is not valid.")
}

/// The second factor after a code or recovery code was used up; else what was wrong with it.
pub(super) fn accepted(
    totp: &Totp,
    secret: &TotpSecret,
    code: &str,
    at: Timestamp,
) -> Result<Totp, String> {
    let last = i64::try_from(totp.last_step).ok();
    let mut after = totp.clone();
    match secret.accept(at, code, last) {
        Ok(step) => after.last_step = u64::try_from(step).unwrap_or_default(),
        Err(why) => {
            let left: Vec<Sha256> = totp
                .recovery
                .iter()
                .map(|h| Sha256::from_bytes(*h))
                .collect();
            match recover(code, &left) {
                Some(index) => drop(after.recovery.remove(index)),
                None => return Err(why.to_string()),
            }
        }
    }
    Ok(after)
}

/// So that there is room for one more login: the longest unused one goes.
fn make_room(state: &State, user: UserId) -> Vec<Change> {
    let mut logins: Vec<_> = state
        .logins_of(user)
        .map(|login| (login.last_used_at, login.id))
        .collect();
    logins.sort_unstable();
    let over = (logins.len() + 1).saturating_sub(MOST_LOGINS);
    let gone = logins.into_iter().take(over);
    gone.map(|(_, id)| Change::LoginEnded(id)).collect()
}

/// What a person is told at each login and by `GET /me`.
#[must_use]
pub fn notices(user: &User) -> Vec<Notice> {
    let notice = |code: &str, message: String| Notice {
        code: code.to_owned(),
        message,
    };
    let mut notices = Vec::new();
    if user.need_password_change {
        let text = "Your administrator asks you to change your password.";
        notices.push(notice("LS-PASSWORD-CHANGE", text.to_owned()));
    }
    if let Some(totp) = user.second_factor()
        && totp.recovery.len() <= RECOVERY_LOW
    {
        let left = totp.recovery.len();
        let text = format!(
            "You have {left} recovery codes left; switch two-factor codes off and on again for new ones."
        );
        notices.push(notice("LS-RECOVERY-CODES", text));
    }
    notices
}
