//! Tables for people and spreadsheets.

use super::super::people::{Keypair, User};
use super::super::policies::KeypairPolicy;
use super::super::state::State;
use super::policies::keypair_policy_view;
use super::policies::{project_policy_view, user_policy_view};
use super::tenants::{project_name, user_views};
use longshore_common::amount::{SlotLimits, SlotName};
use longshore_common::session::UnknownWord;
use longshore_identity::csv;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// People.
    Users,
    /// Keypairs, without their secrets.
    Keypairs,
    /// Keypair policies.
    KeypairPolicies,
    /// User policies.
    UserPolicies,
    /// Project policies.
    ProjectPolicies,
}

impl ExportKind {
    /// Every kind there is now.
    pub const ALL: [Self; 5] = [
        Self::Users,
        Self::Keypairs,
        Self::KeypairPolicies,
        Self::UserPolicies,
        Self::ProjectPolicies,
    ];

    /// The word of the route.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Keypairs => "keypairs",
            Self::KeypairPolicies => "keypair-policies",
            Self::UserPolicies => "user-policies",
            Self::ProjectPolicies => "project-policies",
        }
    }
}

impl FromStr for ExportKind {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownWord {
            text: super::super::submit::cut(text),
            known: Self::ALL.map(Self::as_str).join(", "),
        })
    }
}

/// Rows of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns, in their fixed order.
    pub header: Vec<String>,
    /// One per object, sorted by name. What is not known and what is not limited is empty.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The text by RFC 4180: every cell quoted, lines ended by CR LF.
    ///
    /// A cell that a spreadsheet would take for a formula gets an apostrophe in front, which
    /// the import takes off again.
    #[must_use]
    pub fn csv(&self) -> String {
        std::iter::once(&self.header)
            .chain(&self.rows)
            .map(|row| csv::line(row.iter().map(String::as_str)))
            .collect()
    }

    fn new(header: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self {
            header: header.iter().map(|h| (*h).to_owned()).collect(),
            rows,
        }
    }
}

/// The first cells of the rows of a kind, in their order.
#[must_use]
pub fn export_keys(state: &State, kind: ExportKind) -> Vec<String> {
    match kind {
        ExportKind::Users => {
            let people = state.users_behind(None).filter(|u| u.service.is_none());
            people.map(User::printed_id).collect()
        }
        ExportKind::Keypairs => state.keypairs.keys().cloned().collect(),
        ExportKind::KeypairPolicies => {
            let policies = state.keypair_policies.values();
            policies.map(|policy| policy.name.clone()).collect()
        }
        ExportKind::UserPolicies => {
            let policies = state.user_policies.values();
            policies.map(|policy| policy.name.clone()).collect()
        }
        ExportKind::ProjectPolicies => {
            let policies = state.project_policies.values();
            policies.map(|policy| policy.name.clone()).collect()
        }
    }
}

/// The rows of a kind that have these first cells, some of those of [`export_keys`] and in their
/// order. What is gone meanwhile has none. Of people and keypairs it costs as much as there
/// are keys.
#[must_use]
pub fn export(state: &State, kind: ExportKind, keys: &[String]) -> Table {
    let mut table = match kind {
        ExportKind::Users => return users(state, keys),
        ExportKind::Keypairs => return keypairs(state, keys),
        ExportKind::KeypairPolicies => keypair_policies(state),
        ExportKind::UserPolicies => user_policies(state),
        ExportKind::ProjectPolicies => project_policies(state),
    };
    let wanted: BTreeSet<&String> = keys.iter().collect();
    let rows = &mut table.rows;
    rows.retain(|row| row.first().is_some_and(|key| wanted.contains(key)));
    table
}

fn text(value: impl Display) -> String {
    value.to_string()
}

fn limit<T: Display>(value: Option<T>) -> String {
    value.map_or_else(String::new, text)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn users(state: &State, keys: &[String]) -> Table {
    let people = keys.iter().filter_map(|key| state.user_by_ref(key));
    let rows = user_views(state, people).into_iter().map(|view| {
        vec![
            view.id,
            view.email,
            view.username,
            view.full_name,
            view.role,
            view.status,
            view.domain_name,
            json(&view.projects),
            view.user_policy,
            limit(view.main_keypair),
            text(view.sudo_enabled),
            text(view.totp_enabled),
            text(view.need_password_change),
            text(view.created_at),
            limit(view.last_login_at),
            view.description,
        ]
    });
    let header = [
        "id",
        "email",
        "username",
        "full_name",
        "role",
        "status",
        "domain",
        "projects",
        "user_policy",
        "main_keypair",
        "sudo_enabled",
        "totp_enabled",
        "need_password_change",
        "created_at",
        "last_login_at",
        "description",
    ];
    Table::new(&header, rows.collect())
}

fn keypairs(state: &State, keys: &[String]) -> Table {
    let pairs = keys.iter().filter_map(|key| state.keypairs.get(key));
    let rows = pairs.map(|keypair: &Keypair| {
        let email = state.users.get(&keypair.user).map(|u| u.email.clone());
        vec![
            keypair.access_key.clone(),
            limit(email),
            keypair.label.clone(),
            keypair.state.as_str().to_owned(),
            text(keypair.main),
            keypair.policy.clone(),
            limit(keypair.project.map(|id| project_name(state, id))),
            limit(keypair.rate_limit),
            String::new(), // counted at the rim
            text(keypair.created_at),
            limit(keypair.expires_at),
            limit(keypair.last_used.as_ref().map(|(at, _)| *at)),
        ]
    });
    let header = [
        "access_key",
        "user_email",
        "label",
        "state",
        "main",
        "policy",
        "project",
        "rate_limit",
        "requests_in_window",
        "created_at",
        "expires_at",
        "last_used_at",
    ];
    Table::new(&header, rows.collect())
}

/// cpu and mem first, then the others in resource order.
fn slot_columns<'a>(policies: impl Iterator<Item = &'a KeypairPolicy>) -> Vec<SlotName> {
    let named: BTreeSet<SlotName> = policies
        .flat_map(|p| p.total_slots.iter())
        .map(|(slot, _)| slot.clone())
        .collect();
    let (mut columns, others): (Vec<SlotName>, Vec<SlotName>) =
        named.into_iter().partition(|slot| !slot.is_accelerator());
    columns.extend(others);
    columns
}

fn keypair_policies(state: &State) -> Table {
    let slots = slot_columns(state.keypair_policies.values());
    let mut header = vec!["name".to_owned(), "description".to_owned()];
    header.extend(slots.iter().map(text));
    header.extend(
        [
            "default_for_unspecified",
            "max_concurrent_sessions",
            "max_concurrent_sftp_sessions",
            "max_containers_per_session",
            "max_pending_session_count",
            "max_pending_session_slots",
            "max_priority",
            "max_session_lifetime_s",
            "lifetime_base",
            "extension_max_count",
            "extension_max_s",
            "max_total_lifetime_s",
            "idle_timeout_s",
            "idle",
            "max_shm",
            "max_pids",
            "root_in_container",
            "allowed_hosts",
            "keypairs_active",
            "keypairs_inactive",
            "created_at",
            "updated_at",
        ]
        .map(str::to_owned),
    );
    let rows = state.keypair_policies.values().map(|policy| {
        let view = keypair_policy_view(state, policy);
        let mut row = vec![view.name, view.description];
        row.extend(slots.iter().map(|slot| cell(&policy.total_slots, slot)));
        row.extend([
            view.default_for_unspecified,
            limit(view.max_concurrent_sessions),
            limit(view.max_concurrent_sftp_sessions),
            limit(view.max_containers_per_session),
            limit(view.max_pending_session_count),
            if view.max_pending_session_slots.is_empty() {
                String::new()
            } else {
                json(&view.max_pending_session_slots)
            },
            limit(view.max_priority),
            limit(view.max_session_lifetime_s),
            view.lifetime_base,
            limit(view.extension_max_count),
            limit(view.extension_max_s),
            limit(view.max_total_lifetime_s),
            limit(view.idle_timeout_s),
            view.idle.as_ref().map_or_else(String::new, json),
            limit(view.max_shm),
            limit(view.max_pids),
            text(view.root_in_container),
            json(&view.allowed_hosts),
            text(view.used_by.active),
            text(view.used_by.inactive),
            text(view.created_at),
            text(view.updated_at),
        ]);
        row
    });
    let rows = rows.collect();
    Table { header, rows }
}

/// A limit on one slot; empty = none.
fn cell(limits: &SlotLimits, slot: &SlotName) -> String {
    let value = limits.get(slot).flatten();
    value.map_or_else(String::new, |v| slot.format_amount(v))
}

fn user_policies(state: &State) -> Table {
    let rows = state.user_policies.values().map(|policy| {
        let view = user_policy_view(state, policy);
        vec![
            view.name,
            view.description,
            limit(view.max_folder_count),
            limit(view.max_folder_size),
            limit(view.max_session_count_per_model_service),
            limit(view.max_customized_image_count),
            text(view.used_by.active),
            text(view.used_by.inactive),
            text(view.created_at),
            text(view.updated_at),
        ]
    });
    let header = [
        "name",
        "description",
        "max_folder_count",
        "max_folder_size",
        "max_session_count_per_model_service",
        "max_customized_image_count",
        "users_active",
        "users_inactive",
        "created_at",
        "updated_at",
    ];
    Table::new(&header, rows.collect())
}

fn project_policies(state: &State) -> Table {
    let rows = state.project_policies.values().map(|policy| {
        let view = project_policy_view(state, policy);
        vec![
            view.name,
            view.description,
            limit(view.max_folder_count),
            limit(view.max_folder_size),
            limit(view.max_network_count),
            text(view.used_by.active),
            text(view.used_by.inactive),
            text(view.created_at),
            text(view.updated_at),
        ]
    });
    let header = [
        "name",
        "description",
        "max_folder_count",
        "max_folder_size",
        "max_network_count",
        "projects_active",
        "projects_inactive",
        "created_at",
        "updated_at",
    ];
    Table::new(&header, rows.collect())
}
