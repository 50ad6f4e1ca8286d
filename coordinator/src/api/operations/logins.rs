//! Logging in, what people see and change of their own, and what administrators do about the
//! logins of others.

use super::Access;
use super::parts::{ACT, LIST, OPEN, ORDER, READ, REHEARSED, shape};
use super::{Gives, Operation, Verb};
use crate::api::admin::accounts;
use crate::api::logins::{enter, own, reset, totp};
use axum::routing::{delete, get, patch, post};
use longshore_common::api;
use longshore_common::logins as shapes;

const LOGIN: Operation = Operation {
    row: Some(Access::AuthLogin),
    gives: Gives::Json(shape::<shapes::LoginAnswer>),
    ..ORDER
};
/// About the logins of somebody else.
const ACCOUNT: Operation = Operation { status: 204, ..ACT };

pub(super) const ROWS: &[Operation] = &[
    Operation {
        id: "auth_methods",
        path: "/api/v1/auth/methods",
        row: Some(Access::AuthLogin),
        summary: "How one can log in",
        gives: Gives::Json(shape::<shapes::LoginMethods>),
        handler: || get(enter::methods),
        ..OPEN
    },
    Operation {
        id: "auth_login",
        path: "/api/v1/auth/login",
        summary: "Log in with a password; the console gets a cookie too",
        takes: Some(shape::<shapes::LoginRequest>),
        codes: &[
            "LS-LOGIN-FAILED",
            "LS-LOGIN-THROTTLED",
            "LS-TOTP-REQUIRED",
            "LS-TOTP-INVALID",
            "LS-USER-INACTIVE",
            "LS-USER-UNVERIFIED",
            "LS-DOMAIN-INACTIVE",
            "LS-SECRETS-LOCKED",
        ],
        handler: || post(enter::login),
        ..LOGIN
    },
    Operation {
        id: "auth_login_totp",
        path: "/api/v1/auth/login/totp",
        summary: "Give the code that a login waits for",
        takes: Some(shape::<shapes::TotpLoginRequest>),
        codes: &[
            "LS-LOGIN-FAILED",
            "LS-LOGIN-THROTTLED",
            "LS-TOTP-INVALID",
            "LS-USER-INACTIVE",
            "LS-USER-UNVERIFIED",
            "LS-DOMAIN-INACTIVE",
            "LS-SECRETS-LOCKED",
        ],
        handler: || post(enter::login_totp),
        ..LOGIN
    },
    Operation {
        id: "auth_logout",
        path: "/api/v1/auth/logout",
        row: Some(Access::MeLogins),
        summary: "End the login by which this request came",
        status: 204,
        codes: &["LS-STATE"],
        handler: || post(enter::logout),
        ..ORDER
    },
    Operation {
        id: "auth_csrf",
        path: "/api/v1/auth/csrf",
        row: Some(Access::MeRead),
        summary: "The value of X-Longshore-CSRF for requests by cookie",
        gives: Gives::Json(shape::<shapes::Csrf>),
        codes: &["LS-STATE"],
        handler: || get(enter::csrf),
        ..READ
    },
    Operation {
        id: "auth_reset_request",
        path: "/api/v1/auth/reset-request",
        row: Some(Access::AuthReset),
        summary: "Ask for a link to choose a new password; the answer is always the same",
        takes: Some(shape::<shapes::ResetWanted>),
        status: 202,
        codes: &[],
        handler: || post(reset::request),
        ..ORDER
    },
    Operation {
        id: "auth_reset",
        path: "/api/v1/auth/reset",
        row: Some(Access::AuthReset),
        summary: "Choose a new password by a link",
        takes: Some(shape::<shapes::ResetRequest>),
        status: 204,
        codes: &["LS-LINK-GONE", "LS-FIXED-USER"],
        handler: || post(reset::choose),
        ..ORDER
    },
    Operation {
        id: "me_read",
        path: "/api/v1/me",
        row: Some(Access::MeRead),
        summary: "Who calls: domain, projects, groups, notices",
        gives: Gives::Json(shape::<api::Me>),
        codes: &[],
        handler: || get(own::read),
        ..READ
    },
    Operation {
        id: "me_update",
        method: Verb::Patch,
        path: "/api/v1/me",
        row: Some(Access::MeUpdate),
        summary: "Change one's own full name and description",
        takes: Some(shape::<shapes::MePatch>),
        gives: Gives::Json(shape::<api::Me>),
        codes: &[],
        handler: || patch(own::update),
        ..ACT
    },
    Operation {
        id: "me_rights",
        path: "/api/v1/me/rights",
        row: Some(Access::MeRights),
        summary: "What the caller may do at all, for menus",
        gives: Gives::Json(shape::<shapes::Rights>),
        codes: &[],
        handler: || get(own::my_rights),
        ..READ
    },
    Operation {
        id: "me_password_write",
        path: "/api/v1/me/password",
        row: Some(Access::MeUpdate),
        summary: "Choose another password; all other logins end",
        takes: Some(shape::<shapes::PasswordChange>),
        status: 204,
        codes: &["LS-REAUTH", "LS-LOGIN-THROTTLED", "LS-FIXED-USER"],
        handler: || post(own::password),
        ..ACT
    },
    Operation {
        id: "me_logins",
        path: "/api/v1/me/logins",
        row: Some(Access::MeLogins),
        summary: "One's own logins, the newest first",
        parameters: &[],
        gives: Gives::Page(shape::<shapes::LoginView>),
        codes: &[],
        handler: || get(own::logins),
        ..LIST
    },
    Operation {
        id: "me_login_end",
        method: Verb::Delete,
        path: "/api/v1/me/logins/{id}",
        row: Some(Access::MeLogins),
        summary: "End one of one's own logins",
        parameters: REHEARSED,
        status: 204,
        codes: &["LS-NOT-FOUND"],
        handler: || delete(own::end_login),
        ..ACT
    },
    Operation {
        id: "me_totp_offer",
        path: "/api/v1/me/totp",
        row: Some(Access::MeUpdate),
        summary: "Begin to switch two-factor codes on; the first code is waited for 10 minutes",
        takes: Some(shape::<shapes::PasswordProof>),
        gives: Gives::Json(shape::<shapes::TotpOffer>),
        codes: &[
            "LS-REAUTH",
            "LS-LOGIN-THROTTLED",
            "LS-TOTP-ENABLED",
            "LS-STATE",
            "LS-SECRETS-LOCKED",
        ],
        handler: || post(totp::offer),
        ..ACT
    },
    Operation {
        id: "me_totp_activate",
        path: "/api/v1/me/totp/activate",
        row: Some(Access::MeUpdate),
        summary: "Switch two-factor codes on by the first code; shows recovery codes once",
        takes: Some(shape::<shapes::CodeRequest>),
        gives: Gives::Json(shape::<shapes::RecoveryCodes>),
        codes: &[
            "LS-TOTP-INVALID",
            "LS-LOGIN-THROTTLED",
            "LS-TOTP-ENABLED",
            "LS-STATE",
            "LS-SECRETS-LOCKED",
        ],
        handler: || post(totp::activate),
        ..ACT
    },
    Operation {
        id: "me_totp_off",
        method: Verb::Delete,
        path: "/api/v1/me/totp",
        row: Some(Access::MeUpdate),
        summary: "Switch one's own two-factor codes off",
        takes: Some(shape::<shapes::TotpOffRequest>),
        status: 204,
        codes: &[
            "LS-REAUTH",
            "LS-TOTP-INVALID",
            "LS-LOGIN-THROTTLED",
            "LS-STATE",
            "LS-SECRETS-LOCKED",
        ],
        handler: || delete(totp::off),
        ..ACT
    },
    Operation {
        id: "user_password_reset",
        path: "/api/v1/users/{id}/reset-password",
        row: Some(Access::UserResetPassword),
        summary: "Give somebody a password that is shown this once; their logins end",
        status: 200,
        gives: Gives::Json(shape::<shapes::NewPassword>),
        codes: &["LS-NOT-FOUND", "LS-FIXED-USER"],
        handler: || post(accounts::reset_password),
        ..ACCOUNT
    },
    Operation {
        id: "user_unblock",
        path: "/api/v1/users/{id}/unblock",
        row: Some(Access::UserUnblock),
        summary: "Forget the failed logins of somebody",
        handler: || post(accounts::unblock),
        ..ACCOUNT
    },
    Operation {
        id: "user_totp_off",
        method: Verb::Delete,
        path: "/api/v1/users/{id}/totp",
        row: Some(Access::UserTotpOff),
        summary: "Switch the two-factor codes of somebody off; their logins end",
        handler: || delete(accounts::totp_off),
        ..ACCOUNT
    },
    Operation {
        id: "user_logins_end",
        method: Verb::Delete,
        path: "/api/v1/users/{id}/logins",
        row: Some(Access::UserEndLogins),
        summary: "End all logins of somebody",
        handler: || delete(accounts::end_logins),
        ..ACCOUNT
    },
];
