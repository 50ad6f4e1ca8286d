//! People that stand in the configuration, with their passwords.

use super::ConfigError;
use super::hidden::Hidden;
use super::told::Told;
use crate::identity::new_keypair;
use longshore_common::ids::UserId;
use longshore_core::model::State;
use longshore_core::model::admin::{FixedOrder, FixedUser as Wanted};
use longshore_identity::fields::{self, clean};
use longshore_identity::password::{FixedError, FixedPassword};
use longshore_identity::token::fixed_user_id;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where they stand.
const KEY: &str = "daemon.auth.fixed_users";

/// `daemon.auth.fixed_users`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct FixedUsers {
    /// Nobody else logs in by a password.
    pub enabled: bool,
    /// Passwords are base64 of bcrypt strings, not plain text.
    pub pass_hashed: bool,
    /// Who left the list is switched off at the next start.
    pub deactivate_missing: bool,
    /// Who they are.
    pub users: Vec<FixedUser>,
}

impl Default for FixedUsers {
    fn default() -> Self {
        Self {
            enabled: false,
            pass_hashed: false,
            deactivate_missing: true,
            users: Vec::new(),
        }
    }
}

/// One of `daemon.auth.fixed_users.users`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct FixedUser {
    /// Login name.
    pub username: String,
    /// As `pass_hashed` says.
    pub password: Hidden,
    /// Full name of one who is made.
    pub name: String,
    /// Address of one who is made; absent: `NAME@fixed.invalid`.
    pub email: Option<String>,
    /// Applied at each start; absent: as it is.
    pub role: Option<String>,
    /// Applied at each start, by name or id; absent: as it is.
    pub domain: Option<String>,
    /// Applied at each start, all of them; absent: as they are.
    pub projects: Option<Vec<String>>,
}

impl FixedUser {
    fn username(&self) -> String {
        clean(&self.username)
    }

    fn email(&self) -> String {
        match &self.email {
            Some(email) => clean(email),
            None => format!("{}@fixed.invalid", self.username()),
        }
    }

    /// What is wrong with it, by field.
    fn check(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let name = fields::username(&self.username());
        let wrong = [
            ("username", name.first().map(|text| (*text).to_owned())),
            (
                "email",
                // One that is made of a wrong name is no fault of its own.
                (name.is_empty() || self.email.is_some())
                    .then(|| {
                        fields::email(&self.email())
                            .first()
                            .map(|t| (*t).to_owned())
                    })
                    .flatten(),
            ),
            (
                "name",
                fields::full_name(&clean(&self.name)).map(str::to_owned),
            ),
            (
                "role",
                self.role
                    .as_deref()
                    .and_then(fields::role)
                    .map(str::to_owned),
            ),
        ];
        let told = |(field, text): (_, Option<String>)| Some((field, text?));
        wrong.into_iter().filter_map(told)
    }
}

impl FixedUsers {
    /// Checks the list alone; who is there already is seen at the start. A list that is
    /// switched off is not looked at.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("daemon.auth.fixed_users.");
        let mut seen = BTreeSet::new();
        for (at, user) in self.listed() {
            let mut wrong =
                |field: &str, text: &str| told.wrong(&format!("users[{at}].{field}"), text);
            for (field, text) in user.check() {
                wrong(field, &text);
            }
            let name = user.username();
            if !seen.insert(name.to_ascii_lowercase()) {
                wrong("username", &format!("duplicate username \"{name}\""));
            }
            if let Err(error) = self.password(user) {
                wrong("password", &error.to_string());
            }
        }
        told.end()
    }

    fn listed(&self) -> impl Iterator<Item = (usize, &FixedUser)> {
        let users = self.users.iter().filter(|_| self.enabled);
        users.enumerate()
    }

    fn password(&self, user: &FixedUser) -> Result<FixedPassword, FixedError> {
        match self.pass_hashed {
            true => FixedPassword::bcrypt(user.password.expose()),
            false => FixedPassword::plain(user.password.expose()),
        }
    }

    /// What is accepted and should not be: plain passwords that break the rules, those that
    /// stand in every example, and hashes whose check takes unequal times.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut said = Vec::new();
        for (at, user) in self.listed().filter(|_| !self.pass_hashed) {
            let key = format!("{KEY}.users[{at}].password");
            let text = user.password.expose();
            if user.password.is_sample() {
                said.push(format!("{key}: it is a sample value that everybody knows"));
            }
            let rules = fields::password(text, &user.email(), &user.username());
            said.extend(rules.iter().map(|rule| format!("{key}: {rule}")));
        }
        let passwords = self
            .listed()
            .filter_map(|(_, user)| self.password(user).ok());
        let costs: BTreeSet<u32> = passwords.filter_map(|p| p.bcrypt_cost()).collect();
        if let (Some(least), Some(most)) = (costs.first(), costs.last())
            && least < most
        {
            said.push(format!(
                "{KEY}.users: bcrypt costs go from {least} to {most}; a name with less than the \
                 highest is refused sooner than one nobody has, which tells that it is in the list"
            ));
        }
        said
    }

    /// The list as the core takes it.
    #[must_use]
    pub fn order(&self) -> FixedOrder {
        let users = self.listed().map(|(_, user)| Wanted {
            id: UserId::new(fixed_user_id(&user.username)),
            username: user.username(),
            full_name: clean(&user.name),
            email: user.email(),
            role: user.role.clone(),
            domain: user.domain.clone(),
            projects: user.projects.clone(),
            access_key: new_keypair().0,
        });
        FixedOrder {
            enabled: self.enabled,
            deactivate_missing: self.deactivate_missing,
            users: users.collect(),
        }
    }

    /// Passwords by whose they are, once the list was applied to the state. None while others
    /// log in by passwords.
    #[must_use]
    pub fn passwords(&self, state: &State) -> Option<FixedPasswords> {
        let known = self.listed().filter_map(|(_, user)| {
            let id = state.user_of_name(&user.username())?.id;
            Some((id, self.password(user).ok()?))
        });
        let known: BTreeMap<UserId, FixedPassword> = known.collect();
        self.enabled.then(|| FixedPasswords {
            nobody: FixedPassword::dummy(known.values()),
            known,
        })
    }
}

/// Passwords of the people of the configuration.
#[derive(Debug)]
pub struct FixedPasswords {
    known: BTreeMap<UserId, FixedPassword>,
    /// Costs what the dearest of them costs, and is nobody's.
    nobody: FixedPassword,
}

impl FixedPasswords {
    /// The one of somebody; of others one that no text matches.
    #[must_use]
    pub fn of(&self, user: Option<UserId>) -> FixedPassword {
        let found = user.and_then(|user| self.known.get(&user));
        found.unwrap_or(&self.nobody).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A known hash of the letter a, of cost 6.
    const HASHED: &str =
        "JDJhJDA2JG0wQ3JoSG0xMHFKM2xYUlkuNXpER08zclMyS2RlZVdMdUdtc2ZHbE1mT3hpaDU4VllWZnhl";

    /// The same of cost 5.
    const CHEAPER: &str =
        "JDJ5JDA1JGlTTjZyQm0vUHR5QVVLZkY3Ni8xNi5hRUk4YWVkN21mZXFEUERDc1FmSWJwYVZySVhWVFNL";

    fn list(passwords: &[(&str, &str)], pass_hashed: bool) -> FixedUsers {
        FixedUsers {
            enabled: true,
            pass_hashed,
            users: passwords
                .iter()
                .map(|(name, password)| FixedUser {
                    username: (*name).to_owned(),
                    password: Hidden::new(password),
                    ..FixedUser::default()
                })
                .collect(),
            ..FixedUsers::default()
        }
    }

    fn error(list: &FixedUsers) -> String {
        list.check().unwrap_err().to_string()
    }

    #[test]
    fn the_start_says_what_is_wrong_and_where() {
        let key = "daemon.auth.fixed_users.users";
        let good = list(&[("jane", "abcdef1!"), ("joe", "x")], false);
        assert_eq!(good.check(), Ok(()));
        let twice = list(&[("jane", "abcdef1!"), ("Jane", "abcdef1!")], false);
        assert_eq!(
            error(&twice),
            format!("{key}[1].username: duplicate username \"Jane\"")
        );
        let off = FixedUsers {
            enabled: false,
            ..twice
        };
        assert_eq!(off.check(), Ok(()));
        for (password, hashed, text) in [
            ("", false, "password is missing"),
            ("", true, "password is missing"),
            ("abcdef1!", true, "password is not base64"),
            (
                "YWJj",
                true,
                "password is not base64 of a bcrypt string ($2a$, $2b$ or $2y$)",
            ),
        ] {
            let list = list(&[("jane", password)], hashed);
            assert_eq!(error(&list), format!("{key}[0].password: {text}"));
        }
        for (change, field) in [
            (
                FixedUser {
                    username: "a b".to_owned(),
                    ..FixedUser::default()
                },
                "username",
            ),
            (
                FixedUser {
                    username: "a@b".to_owned(),
                    ..FixedUser::default()
                },
                "email",
            ),
            (
                FixedUser {
                    username: "a".to_owned(),
                    role: Some("king".to_owned()),
                    ..FixedUser::default()
                },
                "role",
            ),
        ] {
            let mut list = list(&[], false);
            list.users.push(FixedUser {
                password: Hidden::new("x"),
                ..change
            });
            assert!(
                error(&list).starts_with(&format!("{key}[0].{field}: ")),
                "{field}"
            );
        }
    }

    #[test]
    fn weak_passwords_are_warned_of_and_taken() {
        let weak = list(&[("jane", "changeme")], false);
        assert_eq!(weak.check(), Ok(()));
        let said = weak.warnings();
        assert!(
            said[0].contains("users[0].password: it is a sample value"),
            "{said:?}"
        );
        assert!(
            said.iter()
                .any(|text| text.ends_with("must contain a digit.")),
            "{said:?}"
        );
        assert!(!said.iter().any(|text| text.contains("changeme")));
        assert!(!format!("{weak:?}").contains("changeme"));
        assert!(list(&[("jane", "abcdef1!")], false).warnings().is_empty());
    }

    #[test]
    fn hashes_are_those_of_bcrypt() {
        let hashed = list(&[("jane", HASHED)], true);
        assert_eq!(hashed.check(), Ok(()));
        let jane = hashed.password(&hashed.users[0]).unwrap();
        assert!(jane.matches("a") && !jane.matches("b"));
        // What a hash is of is not known, so it is not warned of.
        assert!(hashed.warnings().is_empty());
        let unequal = list(&[("jane", HASHED), ("joe", CHEAPER)], true);
        let said = unequal.warnings();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("bcrypt costs go from 5 to 6"), "{said:?}");
    }
}
