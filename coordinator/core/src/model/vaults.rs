//! Vaults: documents with what sessions get. What they hold is encrypted at the rim; here stands
//! what is around it, and whose it is.

use super::change::Change;
use super::draft::Draft;
use super::entities::Session;
use super::given::GivenText;
use super::people::User;
use super::state::{BUILTIN, State};
use longshore_common::ids::{Attempt, GroupId, SessionId, UserGroupId, UserId, VaultId};
use longshore_common::time::Timestamp;
use longshore_config::work::layers::Layer;
use longshore_identity::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A vault without what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Its id.
    pub id: VaultId,
    /// Counts changes from 1.
    pub version: u64,
    /// Whose it is; none = administrators'.
    pub owner: Option<UserId>,
    /// Unique without regard to case; of a personal one it is empty.
    pub name: String,
    /// At most 500 characters.
    pub description: String,
    /// Whose sessions it reaches, by groups of users; of a personal one there are none.
    pub groups: BTreeSet<UserGroupId>,
    /// 0 to 1000; greater wins.
    pub priority: i64,
    /// Stands above everything else.
    pub locked: bool,
    /// No session that it reaches starts without it.
    pub required: bool,
    /// Whether it reaches sessions at all.
    pub enabled: bool,
    /// `hocon`, `json`, `yaml` or `toml`.
    pub format: String,
    /// Bytes of the content.
    pub size: u64,
    /// Top-level keys of the content.
    pub keys: Vec<String>,
    /// How many values it has.
    pub values: u64,
    /// It could not be opened when that was last tried.
    #[serde(default)]
    pub unreadable: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// By whom: a login name.
    pub updated_by: String,
}

/// What a vault holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultContent {
    /// Whose.
    pub vault: VaultId,
    /// Which save it is of; part of what the encryption is bound to.
    pub version: u64,
    /// Encrypted.
    pub sealed: Vec<u8>,
}

/// A personal vault: everybody has one, stored or not.
pub type OwnVault = Vault;

/// The id of somebody's personal vault: that of its owner, so that there can be only one.
#[must_use]
pub const fn personal_vault(owner: UserId) -> VaultId {
    VaultId::new(owner.bits())
}

/// A vault as it stands among the layers of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultStanding<'a> {
    /// The layer.
    pub layer: Layer,
    /// The vault.
    pub vault: &'a Vault,
}

impl Vault {
    /// An empty one that is switched off.
    #[must_use]
    pub fn new(id: VaultId, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            owner: None,
            name: String::new(),
            description: String::new(),
            groups: BTreeSet::new(),
            priority: 100,
            locked: false,
            required: false,
            enabled: false,
            format: "hocon".to_owned(),
            size: 0,
            keys: Vec::new(),
            values: 0,
            unreadable: false,
            created_at: now,
            updated_at: now,
            updated_by: String::new(),
        }
    }

    /// The layer it stands in.
    #[must_use]
    pub const fn layer(&self) -> Layer {
        match (self.owner, self.locked) {
            (Some(_), _) => Layer::PersonalVault,
            (None, false) => Layer::GroupVault,
            (None, true) => Layer::LockedVault,
        }
    }
}

/// What follows from a look at the vaults. It is no change that a person made: versions stay.
pub(super) fn checked(
    state: &State,
    looked_at: &BTreeSet<VaultId>,
    unusable: &BTreeSet<VaultId>,
) -> Vec<Change> {
    let all = looked_at.iter().filter_map(|id| state.vaults.get(id));
    all.filter(|vault| vault.unreadable != unusable.contains(&vault.id))
        .map(|vault| {
            Change::Vault(Box::new(Vault {
                unreadable: !vault.unreadable,
                ..vault.clone()
            }))
        })
        .collect()
}

/// What an attempt of a session got.
#[derive(Clone, Copy)]
pub(super) struct Got<'a> {
    pub(super) hash: &'a str,
    pub(super) vaults: &'a [(VaultId, u64)],
    pub(super) skipped: &'a [VaultId],
    pub(super) redact: &'a [String],
    pub(super) left_out: &'a [String],
    pub(super) keep: Option<&'a Secret>,
}

/// Keeps with a session what its present attempt got. Of two who ask at the same time the first
/// one says it, and the other finds what was kept: no vault that is saved between them makes
/// their containers differ.
pub(super) fn configured(draft: &mut Draft<'_>, id: SessionId, attempt: Attempt, got: Got<'_>) {
    let first = |session: &Session| {
        session.attempt == attempt
            && !session.state.is_final()
            && session.configured != Some(attempt)
    };
    if !draft.session(id).is_some_and(first) {
        return;
    }
    if let Some(session) = draft.session_mut(id) {
        session.configured = Some(attempt);
        session.config_hash = Some(got.hash.to_owned());
        session.vaults = got.vaults.to_vec();
        session.vaults_skipped = got.skipped.to_vec();
        session.redact = got.redact.to_vec();
        if got.keep.is_some() {
            session.delivered = Some(attempt);
        }
    }
    if let Some(text) = got.keep {
        draft.push(Change::Delivered(GivenText {
            session: id,
            text: text.clone(),
        }));
    }
    for text in got.left_out {
        super::delivery::not_given(draft, id, text, "coordinator");
    }
}

impl State {
    /// Somebody's personal vault; one that was never saved is empty and switched off.
    #[must_use]
    pub fn vault_of(&self, user: &User) -> OwnVault {
        let id = personal_vault(user.id);
        let stored = self.vaults.get(&id).cloned();
        stored.unwrap_or_else(|| Vault {
            owner: Some(user.id),
            updated_by: user.username.clone(),
            ..Vault::new(id, user.created_at)
        })
    }

    /// A vault of administrators by id or name (any case).
    #[must_use]
    pub fn vault_by_ref(&self, text: &str) -> Option<&Vault> {
        let shared = |vault: &&Vault| vault.owner.is_none();
        match text.parse::<VaultId>() {
            Ok(id) => self.vaults.get(&id).filter(shared),
            Err(_) => {
                let name = text.to_lowercase();
                let mut all = self.vaults.values().filter(shared);
                all.find(|vault| vault.name.to_lowercase() == name)
            }
        }
    }

    /// The vaults that are switched on and reach somebody's sessions, in the order in which they
    /// fold: by layer, priority and id.
    #[must_use]
    pub fn vaults_for(&self, user: &User) -> Vec<VaultStanding<'_>> {
        let groups: BTreeSet<UserGroupId> = self
            .groups_of(user.id)
            .map(|group| group.id)
            .chain([BUILTIN.users])
            .collect();
        let reaches = |vault: &&Vault| {
            vault.enabled
                && match vault.owner {
                    Some(owner) => owner == user.id,
                    None => !vault.groups.is_disjoint(&groups),
                }
        };
        let mut all: Vec<_> = self
            .vaults
            .values()
            .filter(reaches)
            .map(|vault| VaultStanding {
                layer: vault.layer(),
                vault,
            })
            .collect();
        all.sort_by_key(|one| (one.layer, one.vault.priority, one.vault.id));
        all
    }

    /// The vaults of a configuration as they stand now; none where one of them is not what it
    /// was: changed, or gone.
    #[must_use]
    pub fn vaults_at(&self, versions: &[(VaultId, u64)]) -> Option<Vec<&Vault>> {
        let one = |(id, version): &(VaultId, u64)| {
            let vault = self.vaults.get(id)?;
            (vault.version == *version).then_some(vault)
        };
        versions.iter().map(one).collect()
    }

    /// As whom a session runs: its owner, or the service account of its resource group where that
    /// does not act for owners.
    #[must_use]
    pub fn identity_of(&self, session: &Session) -> Option<&User> {
        self.identity_in(session.group, session.owner)
    }

    /// As whom a session of somebody runs in a resource group.
    #[must_use]
    pub fn identity_in(&self, group: GroupId, owner: UserId) -> Option<&User> {
        let group = self.groups.get(&group);
        let group = group.filter(|group| !group.use_owner && !group.service_account.is_empty());
        let account = group.and_then(|group| self.user_by_ref(&group.service_account));
        account.or_else(|| self.users.get(&owner))
    }

    /// A required vault of a session that cannot be opened.
    #[must_use]
    pub fn vault_in_the_way(&self, session: &Session) -> Option<VaultId> {
        let blocking = |vault: &Vault| vault.enabled && vault.required && vault.unreadable;
        if !self.vaults.values().any(blocking) {
            return None; // as nearly always
        }
        let all = self.vaults_for(self.identity_of(session)?);
        let found = all.into_iter().find(|one| blocking(one.vault));
        found.map(|one| one.vault.id)
    }
}
