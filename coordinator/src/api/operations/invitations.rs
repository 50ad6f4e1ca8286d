//! Invitations, and what the links that come with them open.

use super::Access;
use super::parts::{ACT, CREATE, CURSOR, DELETE, LIMIT, LIST, ORDER, REHEARSED, query, shape};
use super::{Gives, Holds, Operation};
use crate::api::admin::invitations;
use crate::api::logins::links;
use axum::routing::{delete, get, post};
use longshore_common::admin;

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "invitations_list",
        path: "/api/v1/invitations",
        row: Some(Access::InvitationRead),
        summary: "Invitations by address: those of new people for superadmins, those of users for who administers their projects",
        parameters: &[
            query(
                "email",
                Holds::Texts,
                "Only those to an address that holds this text.",
            ),
            query(
                "state",
                Holds::Texts,
                "pending, accepted, withdrawn or expired.",
            ),
            query("domain", Holds::Texts, "Only into this domain."),
            LIMIT,
            CURSOR,
        ],
        gives: Gives::Page(shape::<admin::InvitationView>),
        handler: || get(invitations::list),
        ..LIST
    },
    Operation {
        id: "invitations_create",
        path: "/api/v1/invitations",
        row: Some(Access::InvitationWrite),
        summary: "Invite a new person, or a user to projects; the link is shown this once, and mailed if mail is set up",
        takes: Some(shape::<admin::InvitationRequest>),
        gives: Gives::Json(shape::<admin::NewInvitationAnswer>),
        handler: || post(invitations::create),
        ..CREATE
    },
    Operation {
        id: "invitation_withdraw",
        path: "/api/v1/invitations/{id}",
        row: Some(Access::InvitationWrite),
        summary: "Take an invitation back",
        parameters: REHEARSED,
        codes: &["LS-NOT-FOUND", "LS-STATE"],
        handler: || delete(invitations::withdraw),
        ..DELETE
    },
    Operation {
        id: "invitations_lookup",
        path: "/api/v1/invitations/lookup",
        row: Some(Access::InvitationAccept),
        summary: "Who invites to what, by the token of a link",
        takes: Some(shape::<admin::InvitationLookup>),
        gives: Gives::Json(shape::<admin::InvitedTo>),
        codes: &["LS-INVITATION-GONE"],
        handler: || post(links::lookup),
        ..ORDER
    },
    Operation {
        id: "invitations_accept",
        path: "/api/v1/invitations/accept",
        row: Some(Access::InvitationAccept),
        summary: "Make the account, join the projects (logged in) or prove the address that a link is for",
        takes: Some(shape::<admin::AcceptRequest>),
        gives: Gives::Json(shape::<admin::AcceptedAnswer>),
        codes: &[
            "LS-INVITATION-GONE",
            "LS-INVITATION-OTHER",
            "LS-AUTH-REQUIRED",
            "LS-AUTH-FAILED",
            "LS-DOMAIN-INACTIVE",
            "LS-EXISTS",
            "LS-KEYPAIR-EXISTS",
        ],
        handler: || post(links::accept),
        ..ACT
    },
];
