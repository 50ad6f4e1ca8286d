//! User and project policies: limits on what is kept.

use super::super::super::change::Change;
use super::super::super::people::User;
use super::super::super::policies::{ProjectPolicy, UserPolicy};
use super::super::super::state::State;
use super::super::AdminObject;
use super::super::impact::Scope;
use super::super::members::{DESCRIPTION, Reader, Said, Zero, put, put_limit};
use super::super::named::Named;
use super::{Policy, used_by};
use longshore_common::admin::{
    Member, ProjectPolicyRequest, ProjectPolicyView, Size, UserPolicyRequest, UserPolicyView,
};
use longshore_common::ids::PolicyId;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// 1 PiB.
const FOLDERS_BYTES: i64 = 1 << 50;

/// A user policy as it is shown.
#[must_use]
pub fn user_policy_view(state: &State, policy: &UserPolicy) -> UserPolicyView {
    UserPolicyView {
        id: policy.id.to_string(),
        version: policy.version,
        name: policy.name.clone(),
        description: policy.description.clone(),
        max_folder_count: policy.max_folder_count,
        max_folder_size: policy.max_folder_size.map(|bytes| bytes.to_string()),
        max_session_count_per_model_service: policy.max_session_count_per_model_service,
        max_customized_image_count: policy.max_customized_image_count,
        used_by: used_by(
            state
                .users
                .values()
                .filter(|u| u.user_policy.eq_ignore_ascii_case(&policy.name))
                .map(User::is_active),
        ),
        created_at: policy.created_at,
        updated_at: policy.updated_at,
    }
}

/// A project policy as it is shown.
#[must_use]
pub fn project_policy_view(state: &State, policy: &ProjectPolicy) -> ProjectPolicyView {
    ProjectPolicyView {
        id: policy.id.to_string(),
        version: policy.version,
        name: policy.name.clone(),
        description: policy.description.clone(),
        max_folder_count: policy.max_folder_count,
        max_folder_size: policy.max_folder_size.map(|bytes| bytes.to_string()),
        max_network_count: policy.max_network_count,
        used_by: used_by(
            state
                .projects
                .values()
                .filter(|p| p.policy.eq_ignore_ascii_case(&policy.name))
                .map(|p| p.active),
        ),
        created_at: policy.created_at,
        updated_at: policy.updated_at,
    }
}

/// How many folders.
fn folder_count(member: &Member<i64>, r: &mut Reader) -> Said<i64> {
    r.limit("max_folder_count", member, 100_000, Zero::Lifts)
}

/// How many bytes in folders.
fn folder_size(member: &Member<Size>, r: &mut Reader) -> Said<i64> {
    r.limit_size("max_folder_size", member, FOLDERS_BYTES)
}

impl Named for UserPolicy {
    const WHAT: &'static str = "user policy";

    fn head(&self) -> (&str, u64) {
        (&self.name, self.version)
    }

    fn count(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated_at = now;
    }

    fn object(&self, state: &State) -> AdminObject {
        AdminObject::UserPolicy(Box::new(user_policy_view(state, self)))
    }

    fn change(self) -> Change {
        Change::UserPolicy(self)
    }

    fn scope(&self, state: &State) -> Scope {
        let users = state.users.values();
        Scope {
            users: users
                .filter(|u| u.user_policy.eq_ignore_ascii_case(&self.name))
                .map(|u| u.id)
                .collect(),
            ..Scope::default()
        }
    }
}

impl Policy for UserPolicy {
    type Request = UserPolicyRequest;

    fn all(state: &State) -> &BTreeMap<String, Self> {
        &state.user_policies
    }

    fn id(&self) -> PolicyId {
        self.id
    }

    fn renewed(self, id: PolicyId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            created_at: now,
            updated_at: now,
            ..self
        }
    }

    fn names(request: &UserPolicyRequest) -> (&Member<String>, &Member<String>) {
        (&request.name, &request.clone)
    }

    fn fill(&mut self, request: &UserPolicyRequest, r: &mut Reader) {
        put(
            &mut self.description,
            r.text("description", &request.description, DESCRIPTION),
            String::new(),
        );
        put_limit(
            &mut self.max_folder_count,
            folder_count(&request.max_folder_count, r),
        );
        if let Some(bytes) = folder_size(&request.max_folder_size, r) {
            self.max_folder_size = bytes;
        }
        let replicas = r.limit(
            "max_session_count_per_model_service",
            &request.max_session_count_per_model_service,
            1000,
            Zero::Lifts,
        );
        put_limit(&mut self.max_session_count_per_model_service, replicas);
        let images = r.limit(
            "max_customized_image_count",
            &request.max_customized_image_count,
            1000,
            Zero::Counts,
        );
        put_limit(&mut self.max_customized_image_count, images);
    }
}

impl Named for ProjectPolicy {
    const WHAT: &'static str = "project policy";

    fn head(&self) -> (&str, u64) {
        (&self.name, self.version)
    }

    fn count(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated_at = now;
    }

    fn object(&self, state: &State) -> AdminObject {
        AdminObject::ProjectPolicy(Box::new(project_policy_view(state, self)))
    }

    fn change(self) -> Change {
        Change::ProjectPolicy(self)
    }
}

impl Policy for ProjectPolicy {
    type Request = ProjectPolicyRequest;

    fn all(state: &State) -> &BTreeMap<String, Self> {
        &state.project_policies
    }

    fn id(&self) -> PolicyId {
        self.id
    }

    fn renewed(self, id: PolicyId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            created_at: now,
            updated_at: now,
            ..self
        }
    }

    fn names(request: &ProjectPolicyRequest) -> (&Member<String>, &Member<String>) {
        (&request.name, &request.clone)
    }

    fn fill(&mut self, request: &ProjectPolicyRequest, r: &mut Reader) {
        put(
            &mut self.description,
            r.text("description", &request.description, DESCRIPTION),
            String::new(),
        );
        put_limit(
            &mut self.max_folder_count,
            folder_count(&request.max_folder_count, r),
        );
        if let Some(bytes) = folder_size(&request.max_folder_size, r) {
            self.max_folder_size = bytes;
        }
        let networks = r.limit(
            "max_network_count",
            &request.max_network_count,
            1000,
            Zero::Counts,
        );
        put_limit(&mut self.max_network_count, networks);
    }
}
