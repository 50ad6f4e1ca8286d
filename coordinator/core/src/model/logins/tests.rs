use super::*;
use crate::model::{
    Answer, Event, FactorKey, Membership, Meta, Role, Totp, User, UserStatus, react,
};
use longshore_common::ids::{ClusterId, CoordinatorGeneration, DomainId, ProjectId};
use longshore_identity::totp::{TotpSecret, step};

const HERE: Prefix = Prefix::V4([192, 0, 2]);
const DANA: UserId = UserId::new(1);

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_800_000_000_000 + seconds * 1000)
}

struct World(State);

impl World {
    fn new(change: impl FnOnce(&mut User)) -> Self {
        let mut state = State::new(Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_000,
        });
        let mut dana = User::new(DANA, at(0));
        dana.username = "dana".to_owned();
        dana.email = "dana@lab.example".to_owned();
        dana.password = Some("hash".to_owned());
        dana.domain = DomainId::new(1);
        dana.projects = vec![Membership::manual(ProjectId::new(1))];
        change(&mut dana);
        state.apply(&Change::User(Box::new(dana)));
        Self(state)
    }

    fn happen(&mut self, event: LoginEvent) -> Outcome {
        let outcome = react(&self.0, &Event::Login(Box::new(event)), at(0));
        outcome.changes.iter().for_each(|c| self.0.apply(c));
        outcome
    }

    fn enter(&mut self, order: PasswordTry) -> LoginAnswer {
        match self.happen(LoginEvent::Enter(order)).answer {
            Ok(Answer::Login(answer)) => *answer,
            other => panic!("{other:?}"),
        }
    }

    fn dana(&self) -> &User {
        &self.0.users[&DANA]
    }
}

fn right() -> Compared {
    Compared::Right {
        user: DANA,
        hash: "hash".to_owned(),
        rehash: None,
    }
}

fn order(n: u128, compared: Compared, at: Timestamp) -> PasswordTry {
    PasswordTry {
        name: "Dana".to_owned(),
        prefix: HERE,
        from: "192.0.2.1".to_owned(),
        client: "cli".to_owned(),
        compared,
        code: None,
        id: LoginId::new(n),
        token_sha256: [u8::try_from(n).unwrap(); 32],
        max_password_days: 0,
        at,
    }
}

fn code_of(answer: &LoginAnswer) -> &'static str {
    match answer {
        LoginAnswer::In(_) => "in",
        LoginAnswer::CodeWanted(_) => "code",
        LoginAnswer::No { refusal, .. } => refusal.code,
    }
}

#[test]
fn a_password_that_was_changed_meanwhile_opens_nothing() {
    let mut w = World::new(|_| ());
    let rehash = Compared::Right {
        user: DANA,
        hash: "hash".to_owned(),
        rehash: Some("dearer".to_owned()),
    };
    assert_eq!(code_of(&w.enter(order(1, rehash, at(1)))), "in");
    assert_eq!(w.dana().password.as_deref(), Some("dearer"));
    let late = w.enter(order(2, right(), at(2)));
    assert_eq!(code_of(&late), "LS-LOGIN-FAILED");
    assert!(
        w.0.throttle
            .try_login(
                longshore_identity::throttle::NameKey::of("dana"),
                HERE,
                at(2)
            )
            .is_ok()
    );
    assert_eq!(w.0.logins.len(), 1);
}

#[test]
fn status_is_told_behind_the_password_only() {
    for (status, code) in [
        (UserStatus::Inactive, "LS-USER-INACTIVE"),
        (UserStatus::BeforeVerification, "LS-USER-UNVERIFIED"),
    ] {
        let mut w = World::new(|dana| dana.status = status);
        let wrong = w.enter(order(1, Compared::Wrong, at(1)));
        assert_eq!(code_of(&wrong), "LS-LOGIN-FAILED");
        assert_eq!(code_of(&w.enter(order(1, right(), at(1)))), code);
    }
}

#[test]
fn a_factor_that_cannot_be_read_lets_nobody_in_and_counts_nothing() {
    let totp = Totp {
        secret: FactorKey::Shut("The master key 0a1b2c3d is not loaded.".to_owned()),
        active: true,
        offered_until: at(0),
        last_step: 0,
        recovery: Vec::new(),
    };
    let mut w = World::new(|dana| dana.totp = Some(totp));
    for _ in 0..20 {
        let mut order = order(1, right(), at(0));
        order.code = Some(Secret::new("123456".to_owned()));
        assert_eq!(code_of(&w.enter(order)), "LS-SECRETS-LOCKED");
    }
    let dana = *w.0.users.keys().next().unwrap();
    assert!(w.0.throttle.try_code(dana, at(0)).is_ok());
}

#[test]
fn a_code_is_good_once_and_never_an_older_one() {
    let secret = *b"12345678901234567890";
    let totp = Totp {
        secret: FactorKey::open(secret),
        active: true,
        offered_until: at(0),
        last_step: 0,
        recovery: Vec::new(),
    };
    let mut w = World::new(|dana| dana.totp = Some(totp));
    assert_eq!(code_of(&w.enter(order(1, right(), at(0)))), "code");
    let secret = TotpSecret::from_bytes(secret);
    let now = step(at(0));
    let mut enter = |code: &str| {
        let mut order = order(1, right(), at(0));
        order.code = Some(Secret::new(code.to_owned()));
        w.enter(order)
    };
    assert_eq!(code_of(&enter(&secret.code_at(now))), "in");
    for (step, text) in [
        (now, "code used before"),
        (now - 1, "code used before"),
        (now - 5, "code too old"),
    ] {
        match enter(&secret.code_at(step)) {
            LoginAnswer::No { refusal, why, .. } => {
                assert_eq!((refusal.code, why.as_str()), ("LS-TOTP-INVALID", text));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(code_of(&enter(&secret.code_at(now + 1))), "in");
}

#[test]
fn the_longest_unused_login_makes_room() {
    let mut w = World::new(|_| ());
    for n in 0..MOST_LOGINS + 5 {
        let n = u128::try_from(n).unwrap();
        let when = at(i64::try_from(n).unwrap());
        assert_eq!(code_of(&w.enter(order(n, right(), when))), "in");
    }
    assert_eq!(w.0.logins.len(), MOST_LOGINS);
    assert!(!w.0.logins.contains_key(&LoginId::new(4)));
    assert!(w.0.logins.contains_key(&LoginId::new(5)));
}

#[test]
fn age_asks_for_a_new_password() {
    let mut w = World::new(|_| ());
    let enter = |w: &mut World, days: i64| {
        let mut order = order(1, right(), at(days * 86_400));
        order.max_password_days = 30;
        assert_eq!(code_of(&w.enter(order)), "in");
        notices(w.dana())
            .iter()
            .map(|n| n.code.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(enter(&mut w, 29), [""; 0]);
    assert_eq!(enter(&mut w, 30), ["LS-PASSWORD-CHANGE"]);
}

#[test]
fn time_ends_logins_and_links() {
    let mut w = World::new(|_| ());
    w.enter(order(1, right(), at(0)));
    w.enter(order(2, right(), at(0)));
    let link = NewLink {
        id: InvitationId::new(1),
        token_sha256: [1; 32],
        at: at(0),
        expires_at: at(3600),
    };
    let email = "dana@lab.example".to_owned();
    w.happen(LoginEvent::Recover { email, link });
    assert_eq!(w.dana().role, Role::Superadmin);
    assert!(open_link(&w.0, &[1; 32], LinkPurpose::Reset, at(3599)).is_some());
    assert!(open_link(&w.0, &[1; 32], LinkPurpose::Reset, at(3600)).is_none());
    assert!(open_link(&w.0, &[1; 32], LinkPurpose::Invitation, at(0)).is_none());
    let limits = LoginLimits {
        max_age_s: 10_000,
        idle_s: 100,
    };
    let minute = |w: &mut World, second: i64, used: Vec<(LoginId, Timestamp)>| {
        w.happen(LoginEvent::Minute {
            at: at(second),
            used,
            limits,
        });
        let left: Vec<LoginId> = w.0.logins.keys().copied().collect();
        (left, w.0.invitations.len())
    };
    let used = vec![(LoginId::new(2), at(60))];
    assert_eq!(
        minute(&mut w, 99, used),
        (vec![LoginId::new(1), LoginId::new(2)], 1)
    );
    assert_eq!(minute(&mut w, 100, vec![]), (vec![LoginId::new(2)], 1));
    assert_eq!(minute(&mut w, 4000, vec![]), (vec![], 0));
}

#[test]
fn only_ones_own_login_is_ended() {
    let mut w = World::new(|_| ());
    w.enter(order(1, right(), at(0)));
    let mut other = User::new(UserId::new(2), at(0));
    other.username = "erin".to_owned();
    w.0.apply(&Change::User(Box::new(other)));
    let end = |user: UserId| {
        LoginEvent::Own(OwnOrder {
            caller: Caller {
                user,
                access_key: String::new(),
            },
            login: None,
            dry_run: false,
            at: at(0),
            verb: OwnVerb::EndLogin(LoginId::new(1)),
        })
    };
    let outcome = w.happen(end(UserId::new(2)));
    assert_eq!(outcome.answer.unwrap_err().code, "LS-NOT-FOUND");
    assert!(outcome.changes.is_empty());
    assert_eq!(w.happen(end(DANA)).changes.len(), 1);
    assert!(w.0.logins.is_empty());
}
