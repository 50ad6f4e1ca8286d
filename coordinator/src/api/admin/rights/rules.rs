//! Access rules, and what somebody has on an object.

use super::super::super::errors::Failure;
use super::super::super::extract::{Query, Ref};
use super::super::super::{App, json, person};
use super::super::{Viewer, Wanted, list as listed, missing, value_of, verbs};
use super::{delete, rights, shows, verb};
use crate::identity::new_id;
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{AccessRuleRequest, RuleResource};
use longshore_common::ids::AccessRuleId;
use longshore_core::access::{Decision, Intent, Operation, Subject, Target, decide};
use longshore_core::model::admin::{
    RightsVerb, access_rule_view, effective, resource_of, rule_target, subject_for, subject_of,
};
use longshore_core::model::{self, AccessRule};
use serde_json::Value;

fn by_id<'a>(state: &'a model::State, text: &str) -> Option<&'a AccessRule> {
    state.access_rules.get(&text.parse::<AccessRuleId>().ok()?)
}

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&access_rule_view(state, by_id(state, text)?))
}

pub(in super::super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let Some(rights) = rights(state, viewer) else {
            return Vec::new();
        };
        // A name stands for the id of whom it names.
        let subjects: Vec<String> = wanted
            .values("subject")
            .map(|text| {
                let known = subject_of(state, text);
                known.map_or_else(|_| text.to_owned(), |subject| subject.to_string())
            })
            .collect();
        let rules = state.access_rules.values();
        rules
            .filter(|rule| {
                shows(
                    &rights,
                    Operation::AccessRead,
                    rule_target(state, &rule.rule),
                )
            })
            .map(|rule| access_rule_view(state, rule))
            .filter(|view| {
                let id = view.resource.id.as_deref().unwrap_or_default();
                let name = view.resource.name.as_deref().unwrap_or_default();
                wanted.takes("type", &[&view.resource.kind])
                    && wanted.takes("resource", &[id, name])
                    && (subjects.is_empty() || view.subjects.iter().any(|s| subjects.contains(s)))
            })
            .map(|view| (view.id.clone(), view))
            .collect()
    };
    let filters = &["type", "resource", "subject"];
    listed(&app, request, "access-rules", filters, look).await
}

pub(in super::super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, text: &str| {
        let rule = by_id(state, text)?;
        let seen = shows(
            &rights(state, viewer)?,
            Operation::AccessRead,
            rule_target(state, &rule.rule),
        );
        seen.then(|| access_rule_view(state, rule))
    };
    verbs::read(&app, text, request, "access rule", look).await
}

pub(in super::super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let make = |body: Box<AccessRuleRequest>| {
        verb(RightsVerb::CreateRule(AccessRuleId::new(new_id()), *body))
    };
    verbs::create(&app, request, "access-rules", make).await
}

pub(in super::super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let change = |id, body: Box<AccessRuleRequest>| verb(RightsVerb::PatchRule(id, *body));
    verbs::update(&app, text, request, change, current).await
}

pub(in super::super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |_: &_, id| Ok(RightsVerb::DeleteRule(id));
    delete(&app, text, request, &[], verb, current).await
}

/// What somebody has on an object and through what; with `action`, whether that operation of
/// the table may be done.
pub(in super::super::super) async fn test(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["subject", "type", "id", "action"])?;
    let wanted = |name: &str| -> Result<String, Failure> {
        let missing = || Failure::new("LS-PARAMETER", format!("{name} is required."));
        Ok(query.one(name)?.ok_or_else(missing)?.to_owned())
    };
    let resource = RuleResource {
        kind: wanted("type")?,
        id: Some(wanted("id")?),
        name: None,
    };
    let operation = match query.one("action")? {
        None => None,
        Some(text) => Some(text.parse::<Operation>().map_err(|_| {
            Failure::new(
                "LS-PARAMETER",
                "action must be an operation, such as session.read.",
            )
        })?),
    };
    // Without a subject it is about oneself.
    let whom = query.one("subject")?.map(str::to_owned);
    let rights = caller.rights.clone();
    let user = caller.caller.user;
    let found = app
        .engine
        .read(move |state, _| {
            let text = whom.as_deref().unwrap_or_default();
            let nobody = || missing("user or service account", text);
            let asked = match &whom {
                None => state.users.get(&user),
                Some(text) => match subject_for(state, &rights, text) {
                    Ok(Subject::Group(_)) | Err(_) => None,
                    Ok(subject) => state.user_of_subject(subject),
                },
            };
            let asked = asked.ok_or_else(nobody)?;
            let target = Target::object()
                .in_domain(asked.domain)
                .owned_by(asked.subject())
                .intent(Intent::Read);
            let target = asked.project_ids().fold(target, Target::in_project);
            match decide(Operation::AccessTest, &rights, &target) {
                Decision::Allowed(_) => (),
                Decision::Forbidden(why) => {
                    return Err(Failure::new(why.code(), why.to_string()));
                }
                Decision::Hidden(_) => return Err(nobody()),
            }
            let id = resource.id.as_deref().unwrap_or_default();
            let nothing = || missing(&resource.kind, id);
            let thing = resource_of(state, &rights, &resource, Some(asked.domain)).map_err(
                |(at, text)| match at {
                    "/type" => Failure::new("LS-PARAMETER", text),
                    _ => nothing(),
                },
            )?;
            effective(state, asked, &thing, operation).ok_or_else(nothing)
        })
        .await?;
    json(&found?)
}
