//! Shapes of logging in, and of what people see and change of their own.

use crate::api::Me;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person should know: shown with every login and by `GET /me`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    /// `LS-PASSWORD-CHANGE`, `LS-RECOVERY-CODES`, …
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// Something by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameId {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

closed! {
    LoginRequest TotpLoginRequest LoginAnswer PasswordChange PasswordProof TotpOffer CodeRequest
    RecoveryCodes TotpOffRequest ResetRequest NewPassword Csrf
}

/// A login by password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Address or login name.
    #[schema(max_length = 256)]
    pub login: String,
    /// The password.
    #[schema(max_length = 4096)]
    pub password: String,
    /// The code of the second factor, or a recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub totp: Option<String>,
    /// `console` (the token comes as a cookie too) or `cli`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 16)]
    pub client: Option<String>,
}

/// The second step of a login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpLoginRequest {
    /// From the answer `LS-TOTP-REQUIRED`; good for 5 minutes, from the same network.
    #[schema(max_length = 64)]
    pub challenge: String,
    /// The code, or a recovery code.
    #[schema(max_length = 64)]
    pub code: String,
}

/// A login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginAnswer {
    /// For `Authorization: Bearer`; shown this once.
    pub token: String,
    /// When it ends at the latest; without requests it ends earlier.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Who logged in.
    pub user: Me,
    /// What the person should know.
    pub notices: Vec<Notice>,
}

/// How one can log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginMethods {
    /// Whose installation it is: `services.organization.name`.
    pub organization: String,
    /// Whether people log in with a password.
    pub password: bool,
    /// Whether only the people of the configuration do.
    pub fixed_users_only: bool,
    /// Identity providers that are switched on.
    pub connections: Vec<NameId>,
}

/// The value of the header `X-Longshore-CSRF`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Csrf {
    /// Good as long as the login.
    pub token: String,
}

/// What people change of themselves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MePatch {
    /// At most 64 characters; null takes it away.
    #[serde(default, skip_serializing_if = "crate::admin::Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub full_name: crate::admin::Member<String>,
    /// At most 500 characters; null takes it away.
    #[serde(default, skip_serializing_if = "crate::admin::Member::is_absent")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: crate::admin::Member<String>,
    /// Variables whose values one does not want to be shown, beside those nobody is: at most
    /// 256 names of letters, digits and `_`, with `*` at either end for anything. The whole
    /// list; absent = as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 256)]
    pub redaction_names: Option<Vec<String>>,
}

/// Something the caller may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Right {
    /// A row of the operation table.
    pub operation: String,
    /// How far it reaches: a cell of the table, such as `own`, `dom`, `all`.
    pub reach: String,
}

/// What the caller may do, for menus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rights {
    /// In the order of the table.
    pub rights: Vec<Right>,
}

/// Another password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one; absent only while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub current: Option<String>,
    /// The new one: 8 to 128 characters with a letter, a digit and a special character.
    #[schema(max_length = 4096)]
    pub new: String,
    /// Keypairs open nothing any more.
    #[serde(default)]
    pub revoke_keypairs: bool,
}

/// The password, to prove who it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordProof {
    /// The present one.
    #[schema(max_length = 4096)]
    pub password: String,
}

/// A second factor that waits for its first code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TotpOffer {
    /// Base32 without padding, for apps in which it is typed.
    pub secret: String,
    /// The address behind the picture.
    pub uri: String,
    /// The picture to scan.
    pub qr_svg: String,
    /// Until when the first code is waited for.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A code of the second factor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// Six digits; blanks do not matter.
    #[schema(max_length = 64)]
    pub code: String,
}

/// Codes for the day on which the other device is lost; shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// Ten, each good once.
    pub recovery_codes: Vec<String>,
}

/// Switches the second factor off.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpOffRequest {
    /// The present password.
    #[schema(max_length = 4096)]
    pub password: String,
    /// A code, or a recovery code.
    #[schema(max_length = 64)]
    pub code: String,
}

/// A login of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// `log_…`
    pub id: String,
    /// `password`, or the name of a connection.
    pub via: String,
    /// `console` or `cli`.
    pub client: String,
    /// From which address it was made.
    pub from: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used.
    #[schema(value_type = String, format = DateTime)]
    pub last_used_at: Timestamp,
    /// When it ends if it is used no more.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Whether this request came by it.
    pub current: bool,
}

/// Asks for a link to choose a new password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetWanted {
    /// Address of the account.
    #[schema(max_length = 256)]
    pub email: String,
}

/// Chooses a new password by a link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// From the fragment of the link.
    #[schema(max_length = 128)]
    pub token: String,
    /// The new password.
    #[schema(max_length = 4096)]
    pub password: String,
}

/// A password that was drawn; shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewPassword {
    /// 16 characters; absent in a rehearsal. The person is asked to change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}
