//! Vaults: who may save which, and what stands beside what they hold.
//!
//! The content was looked at and encrypted at the rim; what was found wrong with it is told here,
//! to those who may save it.

use super::super::change::Change;
use super::super::event::{Caller, Refusal};
use super::super::people::User;
use super::super::state::{BUILTIN, State};
use super::super::vaults::{Vault, VaultContent};
use super::impact::Scope;
use super::members::{DESCRIPTION, Reader, fresh, missing, put, taken};
use super::permit::{judge, person};
use super::{AdminObject, Decision};
use crate::access::{Case, Intent, Operation, Target};
use longshore_common::admin::{Member, VaultRequest, VaultSummary, VaultView};
use longshore_common::ids::{UserGroupId, VaultId};
use longshore_common::time::Timestamp;
use longshore_identity::fields;
use std::collections::BTreeSet;

/// An order about a vault.
#[derive(Debug, Clone)]
pub enum VaultVerb {
    /// Saves or switches somebody's personal vault.
    Own {
        /// Whose.
        whose: Whose,
        /// What is said beside the content.
        request: VaultRequest,
        /// The content, if it says one.
        content: Option<NewContent>,
    },
    /// Makes a vault of administrators.
    Create(VaultId, VaultRequest, Option<NewContent>),
    /// Changes a vault of administrators.
    Patch(String, VaultRequest, Option<NewContent>),
    /// Deletes a vault of administrators.
    Delete(String),
}

/// Whose personal vault is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// The caller's.
    Mine,
    /// That of a service account, by id or name.
    Account(String),
    /// That of somebody, which is to be switched off or emptied.
    Person(String),
}

/// A content that is to be saved.
#[derive(Clone, PartialEq, Eq)]
pub struct NewContent {
    /// `hocon`, `json`, `yaml` or `toml`.
    pub format: String,
    /// Which save it is of.
    pub version: u64,
    /// Encrypted.
    pub sealed: Vec<u8>,
    /// Bytes of the text.
    pub size: u64,
    /// Top-level keys.
    pub keys: Vec<String>,
    /// How many values.
    pub values: u64,
    /// The paths in which it differs from what was there.
    pub changed: Vec<String>,
    /// Why it cannot be saved.
    pub refused: Option<Box<Refusal>>,
}

impl std::fmt::Debug for NewContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewContent")
            .field("format", &self.format)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl VaultVerb {
    /// The row of the table that says who may give it.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Own { whose, .. } => match whose {
                Whose::Mine => Operation::MeVault,
                Whose::Account(_) => Operation::ServiceAccountWrite,
                Whose::Person(_) => Operation::UserVault,
            },
            Self::Create(..) | Self::Patch(..) | Self::Delete(_) => Operation::VaultWrite,
        }
    }

    /// The paths of the content that it changes; for the audit log.
    #[must_use]
    pub fn changed(&self) -> Option<&[String]> {
        let content = match self {
            Self::Own { content, .. }
            | Self::Create(_, _, content)
            | Self::Patch(_, _, content) => content.as_ref()?,
            Self::Delete(_) => return None,
        };
        Some(&content.changed)
    }

    /// What it is done to, with the noun and the words by which it was named.
    pub(super) fn target(&self, state: &State) -> (Option<Target>, (&'static str, &str)) {
        match self {
            Self::Own { whose, .. } => match whose {
                Whose::Mine => (Some(Target::collection()), ("vault", "")),
                Whose::Account(name) => {
                    let account = state.user_by_ref(name).filter(|u| u.service.is_some());
                    (account.map(person), ("service account", name))
                }
                Whose::Person(name) => (state.user_by_ref(name).map(person), ("user", name)),
            },
            Self::Create(..) => (None, ("vault", "")),
            Self::Patch(name, ..) | Self::Delete(name) => {
                let found = state.vault_by_ref(name);
                (
                    found.map(|vault| vault_target(state, vault)),
                    ("vault", name),
                )
            }
        }
    }
}

/// A vault of administrators as something is done to it: of the domain that all its groups are
/// of.
#[must_use]
pub fn vault_target(state: &State, vault: &Vault) -> Target {
    let mut domains = vault
        .groups
        .iter()
        .filter_map(|id| state.user_groups.get(id))
        .map(|group| group.domain);
    let first = domains.next().flatten();
    let target = match first {
        Some(domain) if domains.all(|other| other == Some(domain)) => {
            Target::object().in_domain(domain)
        }
        _ => Target::shared(),
    };
    match vault.locked {
        true => target.case(Case::LockedVault),
        false => target,
    }
}

/// A vault as it is shown, without what it holds.
#[must_use]
pub fn vault_view(state: &State, vault: &Vault) -> VaultView {
    let shared = vault.owner.is_none();
    let groups = vault.groups.iter();
    let named = |id: &UserGroupId| state.user_groups.get(id).map(|group| group.name.clone());
    VaultView {
        id: vault.id.to_string(),
        version: vault.version,
        name: shared.then(|| vault.name.clone()),
        description: shared.then(|| vault.description.clone()),
        groups: shared.then(|| groups.clone().map(ToString::to_string).collect()),
        group_names: shared.then(|| groups.filter_map(named).collect()),
        priority: shared.then_some(vault.priority),
        locked: shared.then_some(vault.locked),
        required: vault.required,
        enabled: vault.enabled,
        format: vault.format.clone(),
        content: None,
        size: vault.size,
        summary: VaultSummary {
            keys: vault.keys.clone(),
            values: vault.values,
        },
        available: !vault.unreadable,
        applying: None,
        warnings: Vec::new(),
        updated_at: vault.updated_at,
        updated_by: vault.updated_by.clone(),
    }
}

fn object(state: &State, vault: &Vault) -> AdminObject {
    AdminObject::Vault(Box::new(vault_view(state, vault)))
}

pub(super) fn decide(
    state: &State,
    caller: &Caller,
    verb: &VaultVerb,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let user = state.users.get(&caller.user);
    let user =
        user.ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."))?;
    let saving = Saving { state, user, now };
    match verb {
        VaultVerb::Own {
            whose,
            request,
            content,
        } => saving.own(whose, request, content.as_ref(), expected),
        VaultVerb::Create(id, request, content) => saving.create(*id, request, content.as_ref()),
        VaultVerb::Patch(name, request, content) => {
            saving.patch(name, request, content.as_ref(), expected)
        }
        VaultVerb::Delete(name) => {
            let Some(vault) = state.vault_by_ref(name) else {
                return Ok(Decision::new(AdminObject::Gone, Vec::new()));
            };
            fresh(expected, &format!("Vault {}", vault.name), vault.version)?;
            let gone = vec![Change::VaultDeleted(vault.id)];
            let decision = Decision::new(AdminObject::Gone, gone);
            Ok(decision.touching(scope(state, vault)))
        }
    }
}

/// Whom a change of a vault concerns.
fn scope(state: &State, vault: &Vault) -> Scope {
    let everybody = vault.groups.contains(&BUILTIN.users);
    let groups = vault.groups.iter();
    let members = groups.filter_map(|id| state.user_groups.get(id));
    let members = members.flat_map(|group| group.members.keys().copied());
    Scope {
        users: match everybody {
            true => state.users.keys().copied().collect(),
            false => members.chain(vault.owner).collect(),
        },
        ..Scope::default()
    }
}

struct Saving<'a> {
    state: &'a State,
    user: &'a User,
    now: Timestamp,
}

impl Saving<'_> {
    fn own(
        &self,
        whose: &Whose,
        request: &VaultRequest,
        content: Option<&NewContent>,
        expected: Option<u64>,
    ) -> Result<Decision, Refusal> {
        let owner = match whose {
            Whose::Mine => Some(self.user),
            Whose::Account(name) => {
                let found = self.state.user_by_ref(name);
                found.filter(|user| user.service.is_some())
            }
            Whose::Person(name) => self.state.user_by_ref(name),
        };
        let owner = owner.ok_or_else(|| missing("vault", ""))?;
        let present = self.state.vault_of(owner);
        let what = match whose {
            Whose::Mine => "Your vault".to_owned(),
            Whose::Account(_) | Whose::Person(_) => format!("The vault of {}", owner.username),
        };
        fresh(expected, &what, present.version)?;
        let mut r = Reader::default();
        for (field, is_absent) in [
            ("name", request.name.is_absent()),
            ("description", request.description.is_absent()),
            ("groups", request.groups.is_absent()),
            ("priority", request.priority.is_absent()),
            ("locked", request.locked.is_absent()),
        ] {
            if !is_absent {
                let text = format!("A personal vault has no {field}.");
                r.wrong(&format!("/{field}"), text);
            }
        }
        if let Whose::Person(_) = whose {
            // What others hold is theirs: an administrator can take it away, not change it.
            let nothing = |content: &NewContent| content.size == 0 && content.refused.is_none();
            let empties = content.is_none_or(nothing);
            let off = matches!(request.enabled, Member::Absent | Member::Value(false));
            if !empties {
                r.wrong("/content", "content can only be emptied here.");
            }
            if !off {
                r.wrong("/enabled", "enabled can only become false here.");
            }
            if !request.required.is_absent() {
                r.wrong("/required", "required is its owner's to change.");
            }
        }
        let mut vault = present.clone();
        switches(&mut r, &mut vault, request);
        r.done()?;
        self.saved(Some(&present), vault, content)
    }

    fn create(
        &self,
        id: VaultId,
        request: &VaultRequest,
        content: Option<&NewContent>,
    ) -> Result<Decision, Refusal> {
        let mut vault = Vault::new(id, self.now);
        let mut r = Reader::default();
        self.groups(&mut r, &mut vault, request, true);
        put(&mut vault.locked, r.flag("locked", &request.locked), false);
        // Whether it may be made comes before what else is wrong with it.
        self.may(&vault, Intent::Create)?;
        self.head(&mut r, &mut vault, request, true);
        switches(&mut r, &mut vault, request);
        r.done()?;
        self.is_free(&vault)?;
        self.saved(None, vault, content)
    }

    fn patch(
        &self,
        name: &str,
        request: &VaultRequest,
        content: Option<&NewContent>,
        expected: Option<u64>,
    ) -> Result<Decision, Refusal> {
        let present = self.state.vault_by_ref(name);
        let present = present.ok_or_else(|| missing("vault", name))?;
        fresh(
            expected,
            &format!("Vault {}", present.name),
            present.version,
        )?;
        let mut vault = present.clone();
        let mut r = Reader::default();
        self.groups(&mut r, &mut vault, request, false);
        put(&mut vault.locked, r.flag("locked", &request.locked), false);
        if let Err(refusal) = self.may(&vault, Intent::Change) {
            // What it is now they see: only what it would be is not theirs to make.
            return Err(match refusal.code {
                "LS-NOT-FOUND" => Refusal::new(
                    "LS-FORBIDDEN",
                    "Locked vaults, and those for groups of several domains, are for superadmins.",
                ),
                _ => refusal,
            });
        }
        self.head(&mut r, &mut vault, request, false);
        switches(&mut r, &mut vault, request);
        r.done()?;
        self.is_free(&vault)?;
        self.saved(Some(present), vault, content)
    }

    /// Whether the caller may have made it what it is to be.
    fn may(&self, vault: &Vault, intent: Intent) -> Result<(), Refusal> {
        let rights = self.state.rights_of(self.user);
        let target = vault_target(self.state, vault).intent(intent);
        judge(
            &rights,
            Operation::VaultWrite,
            &target,
            ("vault", &vault.name),
        )
    }

    fn is_free(&self, vault: &Vault) -> Result<(), Refusal> {
        let folded = fields::fold(&vault.name);
        let mut others = self.state.vaults.values();
        let is_taken = others.any(|other| {
            other.owner.is_none() && other.id != vault.id && fields::fold(&other.name) == folded
        });
        match is_taken {
            true => Err(taken("vault", &vault.name)),
            false => Ok(()),
        }
    }

    fn groups(&self, r: &mut Reader, vault: &mut Vault, request: &VaultRequest, wanted: bool) {
        if request.groups.is_absent() && !wanted {
            return;
        }
        let Some(names) = r.list("groups", &request.groups).unwrap_or(Some(&[])) else {
            return r.wrong("/groups", "A vault needs at least one group.");
        };
        let rights = self.state.rights_of(self.user);
        let mut groups = BTreeSet::new();
        for (at, name) in names.iter().enumerate() {
            let found = self.state.user_group_by_ref(name.trim());
            let seen = found.filter(|group| {
                let target = super::rights::group_target(group).intent(Intent::Read);
                crate::access::decide(Operation::GroupRead, &rights, &target).is_allowed()
            });
            match seen {
                Some(group) => drop(groups.insert(group.id)),
                None => {
                    let name = super::super::submit::cut(name);
                    r.wrong(
                        &format!("/groups/{at}"),
                        format!("There is no user group {name}."),
                    );
                }
            }
        }
        if names.is_empty() {
            r.wrong("/groups", "A vault needs at least one group.");
        }
        vault.groups = groups;
    }

    fn head(&self, r: &mut Reader, vault: &mut Vault, request: &VaultRequest, wanted: bool) {
        let text = match &request.name {
            Member::Absent if !wanted => None,
            Member::Absent | Member::Null => Some(String::new()),
            Member::Value(text) => Some(fields::clean(text)),
            Member::Wrong(_) => {
                r.wrong("/name", "name must be text.");
                None
            }
        };
        if let Some(text) = text {
            for message in fields::group_name(&text) {
                r.wrong("/name", message);
            }
            vault.name = text;
        }
        put(
            &mut vault.description,
            r.text("description", &request.description, DESCRIPTION),
            String::new(),
        );
        put(
            &mut vault.priority,
            r.whole("priority", &request.priority, 0, 1000),
            100,
        );
    }

    /// The decision that a vault is new, or other than it was. What is wrong with its content
    /// comes last.
    fn saved(
        &self,
        present: Option<&Vault>,
        mut vault: Vault,
        content: Option<&NewContent>,
    ) -> Result<Decision, Refusal> {
        let mut changes = Vec::new();
        if let Some(content) = content {
            if let Some(refused) = &content.refused {
                return Err((**refused).clone());
            }
            vault.format.clone_from(&content.format);
            vault.size = content.size;
            vault.keys.clone_from(&content.keys);
            vault.values = content.values;
            vault.unreadable = false;
            changes.push(Change::VaultContent(VaultContent {
                vault: vault.id,
                version: content.version,
                sealed: content.sealed.clone(),
            }));
        }
        if present.is_some_and(|present| *present == vault) && content.is_none() {
            let same = object(self.state, &vault);
            return Ok(Decision::new(same, Vec::new()));
        }
        vault.version = present.map_or(1, |present| present.version + 1);
        vault.updated_at = self.now;
        vault.updated_by.clone_from(&self.user.username);
        let shown = object(self.state, &vault);
        let mut touched = scope(self.state, &vault);
        if let Some(present) = present {
            touched.users.extend(scope(self.state, present).users);
        }
        // The row first: its content is a part of it.
        changes.insert(0, Change::Vault(Box::new(vault)));
        let decision = Decision::new(shown, changes).touching(touched);
        Ok(match present {
            Some(present) => decision.was(&vault_view(self.state, present)),
            None => decision,
        })
    }
}

fn switches(r: &mut Reader, vault: &mut Vault, request: &VaultRequest) {
    put(
        &mut vault.enabled,
        r.flag("enabled", &request.enabled),
        false,
    );
    put(
        &mut vault.required,
        r.flag("required", &request.required),
        false,
    );
}

/// What follows for vaults when groups of users go: they reach those no more.
pub(super) fn unbound(state: &State, changes: &mut Vec<Change>) {
    let gone: BTreeSet<UserGroupId> = changes
        .iter()
        .filter_map(|change| match change {
            Change::UserGroupDeleted(id) => Some(*id),
            _ => None,
        })
        .collect();
    for vault in state.vaults.values() {
        if !vault.groups.is_disjoint(&gone) {
            let mut vault = vault.clone();
            vault.groups.retain(|id| !gone.contains(id));
            vault.version += 1;
            changes.push(Change::Vault(Box::new(vault)));
        }
    }
}
