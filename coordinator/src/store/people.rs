//! People in the file: users, keypairs, logins, links, groups, access rules, failed logins.

use super::load::bodies;
use super::write::{body, execute};
use super::{StoreError, sealed};
use crate::secrets::Keyring;
use longshore_common::ids::UserId;
use longshore_core::model::{Change, Keypair, User};
use longshore_identity::throttle;
use rusqlite::{Transaction, params};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is to become of rows about people: of each the last word.
#[derive(Default)]
pub(super) struct People<'a> {
    users: BTreeMap<UserId, &'a User>,
    keypairs: BTreeMap<&'a str, &'a Keypair>,
    kept: BTreeMap<(Table, String), Option<Kept<'a>>>,
}

/// Tables whose rows are an id and a body, and what else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Logins,
    Invitations,
    UserGroups,
    AccessRules,
    Throttle,
}

/// A row: what stands beside its body, and the object the body is made of.
struct Kept<'a> {
    beside: Option<String>,
    object: Object<'a>,
}

enum Object<'a> {
    Login(&'a longshore_core::model::Login),
    Invitation(&'a longshore_core::model::Invitation),
    UserGroup(&'a longshore_core::model::UserGroup),
    AccessRule(&'a longshore_core::model::AccessRule),
    Throttle(&'a throttle::Row),
}

impl Table {
    const fn put(self) -> &'static str {
        match self {
            Self::Logins => {
                "INSERT INTO logins (id, owner, body) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET owner = ?2, body = ?3"
            }
            Self::UserGroups => {
                "INSERT INTO user_groups (id, name, body) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET name = ?2, body = ?3"
            }
            Self::Invitations => {
                "INSERT INTO invitations (id, body) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET body = ?2"
            }
            Self::AccessRules => {
                "INSERT INTO access_rules (id, body) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET body = ?2"
            }
            Self::Throttle => {
                "INSERT INTO throttle (key, body) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET body = ?2"
            }
        }
    }

    const fn delete(self) -> &'static str {
        match self {
            Self::Logins => "DELETE FROM logins WHERE id = ?1",
            Self::Invitations => "DELETE FROM invitations WHERE id = ?1",
            Self::UserGroups => "DELETE FROM user_groups WHERE id = ?1",
            Self::AccessRules => "DELETE FROM access_rules WHERE id = ?1",
            Self::Throttle => "DELETE FROM throttle WHERE key = ?1",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Logins => "login",
            Self::Invitations => "invitation",
            Self::UserGroups => "user group",
            Self::AccessRules => "access rule",
            Self::Throttle => "counter of failed logins",
        }
    }
}

impl<'a> People<'a> {
    /// Takes in a change; what is about something else is left alone.
    pub(super) fn take(&mut self, change: &'a Change) {
        let (table, id, object, beside) = match change {
            Change::User(user) => {
                self.users.insert(user.id, user);
                return;
            }
            Change::Keypair(pair) => {
                self.keypairs.insert(&pair.access_key, pair);
                return;
            }
            Change::Login(login) => {
                let owner = Some(login.user.to_string());
                let object = Some(Object::Login(login));
                (Table::Logins, login.id.to_string(), object, owner)
            }
            Change::LoginEnded(id) => (Table::Logins, id.to_string(), None, None),
            Change::Invitation(one) => {
                let object = Some(Object::Invitation(one));
                (Table::Invitations, one.id.to_string(), object, None)
            }
            Change::InvitationForgotten(id) => (Table::Invitations, id.to_string(), None, None),
            Change::UserGroup(group) => {
                let name = Some(group.name.clone());
                let object = Some(Object::UserGroup(group));
                (Table::UserGroups, group.id.to_string(), object, name)
            }
            Change::UserGroupDeleted(id) => (Table::UserGroups, id.to_string(), None, None),
            Change::AccessRule(rule) => {
                let object = Some(Object::AccessRule(rule));
                (Table::AccessRules, rule.rule.id.to_string(), object, None)
            }
            Change::AccessRuleDeleted(id) => (Table::AccessRules, id.to_string(), None, None),
            Change::Throttle(throttle::Change::Put(row)) => {
                let object = Some(Object::Throttle(row));
                (Table::Throttle, row.key.to_string(), object, None)
            }
            Change::Throttle(throttle::Change::Delete(key)) => {
                (Table::Throttle, key.to_string(), None, None)
            }
            _ => return,
        };
        let kept = object.map(|object| Kept { beside, object });
        self.kept.insert((table, id), kept);
    }

    pub(super) fn write(&self, to: &Transaction<'_>, keyring: &Keyring) -> Result<(), StoreError> {
        if self.users.len() > 1 {
            // One may get the name that another one of this batch has just given up.
            for id in self.users.keys() {
                execute(to, USER_UNNAMED, [id.to_string()], "store a user")?;
            }
        }
        for user in self.users.values() {
            // No two may have the same address; a service account has none.
            let email = match &user.service {
                None => user.email.clone(),
                Some(_) => user.printed_id(),
            };
            let json = body("user", user.id, user)?;
            let id = user.id.to_string();
            let values = params![id, user.username, email, user.created_at.0, json];
            execute(to, USER, values, "store a user")?;
            let factor = user.totp.as_ref().map(|totp| &totp.secret);
            sealed::keep_factor(to, keyring, user.id, factor)?;
        }
        for pair in self.keypairs.values() {
            let json = body("keypair", &pair.access_key, pair)?;
            let owner = pair.user.to_string();
            let values = params![pair.access_key, owner, pair.is_active(), json];
            execute(to, KEYPAIR, values, "store a keypair")?;
        }
        for ((table, id), kept) in &self.kept {
            let Some(kept) = kept else {
                execute(to, table.delete(), [id], "delete a row about people")?;
                continue;
            };
            let json = kept.object.body(*table, id)?;
            match &kept.beside {
                Some(beside) => execute(to, table.put(), params![id, beside, json], STORING)?,
                None => execute(to, table.put(), params![id, json], STORING)?,
            }
        }
        Ok(())
    }
}

const STORING: &str = "store a row about people";

impl Object<'_> {
    fn body(&self, table: Table, id: &str) -> Result<String, StoreError> {
        fn json(
            what: &'static str,
            id: &str,
            object: &impl Serialize,
        ) -> Result<String, StoreError> {
            body(what, id, object)
        }
        let what = table.what();
        match self {
            Self::Login(object) => json(what, id, object),
            Self::Invitation(object) => json(what, id, object),
            Self::UserGroup(object) => json(what, id, object),
            Self::AccessRule(object) => json(what, id, object),
            Self::Throttle(object) => json(what, id, object),
        }
    }
}

/// Everything about people, users first.
pub(super) fn load(
    from: &Transaction<'_>,
    keyring: &Keyring,
    apply: &mut impl FnMut(Change),
) -> Result<(), StoreError> {
    let mut factors = sealed::factors(from, keyring)?;
    let sql = "SELECT id, body FROM users";
    bodies(from, "user", sql, |mut user: Box<User>| {
        if let Some(totp) = &mut user.totp {
            totp.secret = factors.remove(&user.id.to_string()).unwrap_or_default();
        }
        apply(Change::User(user));
    })?;
    let sql = "SELECT access_key, body FROM keypairs";
    bodies(from, "keypair", sql, |pair| apply(Change::Keypair(pair)))?;
    let sql = "SELECT id, body FROM logins";
    bodies(from, "login", sql, |login| apply(Change::Login(login)))?;
    let sql = "SELECT id, body FROM invitations";
    bodies(from, "invitation", sql, |one| {
        apply(Change::Invitation(one))
    })?;
    let sql = "SELECT id, body FROM user_groups";
    bodies(from, "user group", sql, |group| {
        apply(Change::UserGroup(group))
    })?;
    let sql = "SELECT id, body FROM access_rules";
    bodies(from, "access rule", sql, |rule| {
        apply(Change::AccessRule(rule))
    })?;
    let sql = "SELECT key, body FROM throttle";
    bodies(from, "counter of failed logins", sql, |row| {
        apply(Change::Throttle(throttle::Change::Put(row)));
    })
}

const USER: &str = "INSERT INTO users (id, username, email, created_at, body)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET username = ?2, email = ?3, created_at = ?4, body = ?5";
/// No name has the form of an id.
const USER_UNNAMED: &str = "UPDATE users SET username = id WHERE id = ?1";
const KEYPAIR: &str = "INSERT INTO keypairs (access_key, owner, active, body)
    VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (access_key) DO UPDATE SET owner = ?2, active = ?3, body = ?4";
