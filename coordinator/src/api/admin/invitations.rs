//! Who is asked to join.

use super::super::App;
use super::super::errors::Failure;
use super::super::extract::Ref;
use super::{Match, Nothing, list as listed, other_kind, value_of, write};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::admin::{InvitationRequest, NewInvitationAnswer};
use longshore_core::model::admin::{AdminObject, AdminVerb, invitation_view};

const FILTERS: &[&str] = &["email", "state", "domain"];

pub(in crate::api) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let now = crate::engine::wall_clock();
    listed(
        &app,
        request,
        "invitations",
        FILTERS,
        move |state, viewer, wanted| {
            let views = viewer
                .invitations(state)
                .map(|link| invitation_view(state, link, now));
            let views = views.filter(|view| {
                wanted.finds("email", &view.email)
                    && wanted.takes("state", &[&view.state])
                    && wanted.takes("domain", &[&view.domain, &view.domain_name])
            });
            views
                .map(|view| {
                    let key = format!("{}\u{1}{}", view.email.to_ascii_lowercase(), view.id);
                    (key, view)
                })
                .collect()
        },
    )
    .await
}

pub(in crate::api) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<InvitationRequest>(request, &[], Match::Optional).await?;
    write.version = None; // what is made has none
    let (token, drawn) = app.links.draw();
    let verb = AdminVerb::Invite(Box::new(write.body.clone()), drawn);
    let answer = write.order(&app, verb, |_| None).await?;
    let AdminObject::Invitation(view) = &answer.object else {
        return Err(other_kind(&answer.object));
    };
    let link = (!write.dry_run).then(|| app.links.invite(&app.address(), &token));
    if let Some(link) = &link {
        app.links.mail_invitation(&app.address(), view, link);
    }
    let made = NewInvitationAnswer {
        invitation: (**view).clone(),
        link,
    };
    let value = value_of(&made).ok_or_else(Failure::internal)?;
    write.respond_value(StatusCode::CREATED, value, &answer, Some("invitations"))
}

pub(in crate::api) async fn withdraw(
    State(app): State<App>,
    Ref(id): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let mut write = write::<Nothing>(request, &[], Match::Optional).await?;
    write.version = None; // invitations have none
    write
        .order(&app, AdminVerb::WithdrawInvitation(id), |_| None)
        .await?;
    Ok(write.gone())
}
