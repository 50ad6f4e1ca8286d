//! Vaults in the file.

use super::load::{bodies, each, parse};
use super::write::{body, execute, number};
use super::{Doing, StoreError};
use crate::pki::fill_random;
use crate::secrets::{Keyring, Sealed};
use longshore_common::ids::VaultId;
use longshore_core::model::{Change, Vault, VaultContent};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;

/// What is to become of rows about vaults: of each the last word.
#[derive(Default)]
pub(super) struct Vaults<'a> {
    rows: BTreeMap<VaultId, Option<&'a Vault>>,
    contents: BTreeMap<VaultId, &'a VaultContent>,
}

impl<'a> Vaults<'a> {
    /// Takes in a change; what is about something else is left alone.
    pub(super) fn take(&mut self, change: &'a Change) {
        match change {
            Change::Vault(vault) => drop(self.rows.insert(vault.id, Some(vault))),
            Change::VaultContent(content) => drop(self.contents.insert(content.vault, content)),
            Change::VaultDeleted(id) => {
                self.rows.insert(*id, None);
                self.contents.remove(id);
            }
            _ => (),
        }
    }

    /// The content is written by itself, and only when it was saved: another master key may have
    /// wrapped it anew since it was loaded.
    pub(super) fn write(&self, to: &Transaction<'_>, keyring: &Keyring) -> Result<(), StoreError> {
        for (id, vault) in &self.rows {
            match vault {
                Some(vault) => {
                    let values = params![id.to_string(), body("vault", id, vault)?];
                    execute(to, VAULT, values, "store a vault")?;
                }
                None => execute(to, DELETED, [id.to_string()], "delete a vault")?,
            }
        }
        for (id, content) in &self.contents {
            let version = number("vault", id, content.version)?;
            // Another master key may have come between the sealing and now.
            let sealed = Sealed::from_bytes(&content.sealed).ok();
            let anew = sealed.and_then(|sealed| keyring.rewrap(&sealed, &mut fill_random).ok());
            let anew = anew.flatten().map(|sealed| sealed.to_bytes());
            let bytes = anew.as_ref().unwrap_or(&content.sealed);
            let values = params![id.to_string(), bytes, version];
            execute(to, CONTENT, values, "store what a vault holds")?;
        }
        Ok(())
    }
}

/// Every vault, and what they hold.
pub(super) fn load(
    from: &Transaction<'_>,
    apply: &mut impl FnMut(Change),
) -> Result<(), StoreError> {
    bodies(from, "vault", "SELECT id, body FROM vaults", |vault| {
        apply(Change::Vault(vault));
    })?;
    let sql = "SELECT id, content_version, content FROM vaults WHERE content IS NOT NULL";
    each(from, sql, |row| {
        let doing = "read what a vault holds";
        let id: String = row.get(0).doing(doing)?;
        let version: i64 = row.get(1).doing(doing)?;
        apply(Change::VaultContent(VaultContent {
            vault: parse("vault", &id, &id)?,
            version: u64::try_from(version).unwrap_or(0),
            sealed: row.get(2).doing(doing)?,
        }));
        Ok(())
    })
}

const VAULT: &str = "INSERT INTO vaults (id, body) VALUES (?1, ?2)
    ON CONFLICT (id) DO UPDATE SET body = ?2";
const CONTENT: &str = "UPDATE vaults SET content = ?2, content_version = ?3 WHERE id = ?1";
const DELETED: &str = "DELETE FROM vaults WHERE id = ?1";
