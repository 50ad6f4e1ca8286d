//! Domains and projects.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::policies::{Domain, Project};
use super::super::super::state::{Account, State};
use super::super::groups::texts;
use super::super::impact::Scope;
use super::super::members::{Caps, DESCRIPTION, Reader, fixed, merge, missing, put};
use super::super::named::{Named, made, patched};
use super::super::permit::project_of;
use super::super::policies::DEFAULT;
use super::super::{AdminObject, Decision};
use super::{domain_name, domain_of, home, policy_of, superadmin_remains};
use longshore_common::admin::{DomainRequest, DomainView, Member, ProjectRequest, ProjectView};
use longshore_common::amount::SlotLimits;
use longshore_common::ids::{DomainId, ProjectId};
use longshore_common::time::Timestamp;

/// A domain as it is shown.
#[must_use]
pub fn domain_view(state: &State, domain: &Domain) -> DomainView {
    DomainView {
        id: domain.id.to_string(),
        version: domain.version,
        name: domain.name.clone(),
        description: domain.description.clone(),
        active: domain.active,
        total_slots: domain.total_slots.to_texts(),
        used_slots: texts(&state.usage(&Account::Domain(domain.id)).slots),
        users: state
            .users
            .values()
            .filter(|u| u.domain == domain.id)
            .count() as u64,
        projects: state
            .projects
            .values()
            .filter(|p| p.domain == domain.id)
            .count() as u64,
        created_at: domain.created_at,
    }
}

/// A project as it is shown.
#[must_use]
pub fn project_view(state: &State, project: &Project) -> ProjectView {
    ProjectView {
        id: project.id.to_string(),
        version: project.version,
        name: project.name.clone(),
        domain: project.domain.to_string(),
        domain_name: domain_name(state, project.domain),
        description: project.description.clone(),
        active: project.active,
        policy: project.policy.clone(),
        total_slots: project.total_slots.to_texts(),
        used_slots: texts(&state.usage(&Account::Project(project.id)).slots),
        members: state
            .users
            .values()
            .filter(|u| u.is_member(project.id))
            .count() as u64,
        created_at: project.created_at,
    }
}

impl Named for Domain {
    const WHAT: &'static str = "domain";

    fn head(&self) -> (&str, u64) {
        (&self.name, self.version)
    }

    fn count(&mut self, _: Timestamp) {
        self.version += 1;
    }

    fn object(&self, state: &State) -> AdminObject {
        AdminObject::Domain(Box::new(domain_view(state, self)))
    }

    fn change(self) -> Change {
        Change::Domain(self)
    }

    fn scope(&self, state: &State) -> Scope {
        let users = state.users.values();
        Scope {
            users: users
                .filter(|u| u.domain == self.id)
                .map(|u| u.id)
                .collect(),
            ..Scope::sessions(state, |s| s.domain == self.id)
        }
    }
}

impl Named for Project {
    const WHAT: &'static str = "project";

    fn head(&self) -> (&str, u64) {
        (&self.name, self.version)
    }

    fn count(&mut self, _: Timestamp) {
        self.version += 1;
    }

    fn object(&self, state: &State) -> AdminObject {
        AdminObject::Project(Box::new(project_view(state, self)))
    }

    fn change(self) -> Change {
        Change::Project(self)
    }

    fn scope(&self, state: &State) -> Scope {
        let users = state.users.values();
        Scope {
            users: users
                .filter(|u| u.is_member(self.id))
                .map(|u| u.id)
                .collect(),
            ..Scope::sessions(state, |s| s.project == self.id)
        }
    }
}

pub(in super::super) fn create_domain(
    state: &State,
    id: DomainId,
    request: &DomainRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let mut domain = Domain {
        id,
        version: 1,
        name: reader.handle(&request.name).unwrap_or_default(),
        description: String::new(),
        active: true,
        total_slots: SlotLimits::new(),
        created_at: now,
    };
    fill_domain(&mut domain, request, &mut reader);
    reader.done()?;
    let is_taken = state.domain_by_ref(&domain.name).is_some();
    made(state, domain, is_taken)
}

pub(in super::super) fn patch_domain(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &DomainRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = state
        .domain_by_ref(name)
        .ok_or_else(|| missing("domain", name))?;
    patched(state, present, expected, &request.name, now, |domain| {
        let mut reader = Reader::default();
        fill_domain(domain, request, &mut reader);
        reader.done()?;
        if present.active && !domain.active {
            superadmin_remains(state, |user| user.domain != domain.id)?;
        }
        Ok(())
    })
}

fn fill_domain(domain: &mut Domain, request: &DomainRequest, r: &mut Reader) {
    put(
        &mut domain.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    put(&mut domain.active, r.flag("active", &request.active), true);
    merge(
        &mut domain.total_slots,
        r.limits("total_slots", &request.total_slots, Caps::Total),
    );
}

pub(in super::super) fn create_project(
    state: &State,
    caller: &Caller,
    id: ProjectId,
    request: &ProjectRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name).unwrap_or_default();
    // The same domain that the permit was asked for.
    let domain = match &request.domain {
        Member::Absent | Member::Null => {
            let home = home(state, caller).to_owned();
            domain_of(state, &mut reader, &home.into())
        }
        named => domain_of(state, &mut reader, named),
    };
    let mut project = Project {
        id,
        version: 1,
        name,
        domain: domain.map_or(DomainId::new(0), |d| d.id),
        description: String::new(),
        active: true,
        policy: DEFAULT.to_owned(),
        total_slots: SlotLimits::new(),
        created_at: now,
    };
    fill_project(state, &mut project, request, &mut reader);
    reader.done()?;
    let others = state.projects.values();
    let is_taken = others
        .filter(|p| p.domain == project.domain)
        .any(|p| p.name.eq_ignore_ascii_case(&project.name));
    made(state, project, is_taken)
}

pub(in super::super) fn patch_project(
    state: &State,
    caller: &Caller,
    name: &str,
    expected: Option<u64>,
    request: &ProjectRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find_project(state, caller, name)?;
    patched(state, present, expected, &request.name, now, |project| {
        if request.domain.value() != Some(&present.domain.to_string()) {
            let domain = domain_name(state, present.domain);
            fixed("domain", &request.domain, &domain)?;
        }
        let mut reader = Reader::default();
        fill_project(state, project, request, &mut reader);
        reader.done()
    })
}

/// The project that a caller means.
pub(super) fn find_project<'a>(
    state: &'a State,
    caller: &Caller,
    name: &str,
) -> Result<&'a Project, Refusal> {
    let user = state.users.get(&caller.user);
    let rights = user.map(|user| state.rights_of(user));
    let found = match &rights {
        Some(rights) => project_of(state, rights, name)?,
        None => None,
    };
    found.ok_or_else(|| missing("project", name))
}

fn fill_project(state: &State, project: &mut Project, request: &ProjectRequest, r: &mut Reader) {
    put(
        &mut project.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    put(&mut project.active, r.flag("active", &request.active), true);
    let policy = policy_of(state, r, "policy", PolicyKind::Project, &request.policy);
    put(&mut project.policy, policy, DEFAULT.to_owned());
    merge(
        &mut project.total_slots,
        r.limits("total_slots", &request.total_slots, Caps::Total),
    );
}
