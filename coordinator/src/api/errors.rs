//! Failures: every code with its status, its title and its page, and the one way an
//! answer that is no success is written.

use crate::engine::EngineError;
use crate::secrets::Locked;
use crate::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::admin::InUse;
use longshore_common::api::{LimitMet, MemberError, Problem};
use longshore_core::model::Refusal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One code: what it is called, what it means, what helps.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// `LS-…`, never renamed.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Fixed.
    pub title: &'static str,
    /// The page of `GET /help/{code}`.
    pub help: &'static str,
}

const fn code(code: &'static str, status: u16, title: &'static str, help: &'static str) -> Code {
    Code {
        code,
        status,
        title,
        help,
    }
}

/// Every code an answer can have. The only place where a code gets its status.
pub const CODES: &[Code] = &[
    code(
        "LS-SYNTAX",
        400,
        "The body is not valid JSON",
        "The body could not be read as JSON: a bracket or quote is missing, a member stands there twice, or the text is not UTF-8. The detail names line and column.",
    ),
    code(
        "LS-PARAMETER",
        400,
        "A parameter is not accepted",
        "The part of the address behind the question mark holds a parameter this route does not know, or one whose value is out of range. The detail names it, and the nearest known one.",
    ),
    code(
        "LS-HEADER",
        400,
        "A header is not accepted",
        "A request says once by which name it asks: Host of HTTP/1.1, :authority of HTTP/2, a name or address with or without a port. The detail says what is wrong. Behind proxies the same holds for X-Forwarded-Host.",
    ),
    code(
        "LS-CURSOR",
        400,
        "The cursor is not valid",
        "Cursors are made by the server, signed, and good only with the filters they came with. Ask for the first page again, without a cursor.",
    ),
    code(
        "LS-CREDENTIALS-IN-URL",
        400,
        "Credentials do not belong into an address",
        "Addresses are written to logs. Send the keypair in the Authorization header instead, and replace it if the address was kept anywhere.",
    ),
    code(
        "LS-AUTH-REQUIRED",
        401,
        "Credentials are needed",
        "This route is open to known callers only. Send \"Authorization: Bearer ACCESS.SECRET\". With the command line: longshore login, or longshore context show to see which keypair is used.",
    ),
    code(
        "LS-AUTH-FAILED",
        401,
        "The credentials are not valid",
        "The access key is not known, or the secret does not belong to it. Secrets are shown once, when a keypair is made; a lost one cannot be shown again.",
    ),
    code(
        "LS-KEYPAIR-INACTIVE",
        401,
        "The keypair is inactive",
        "The keypair was switched off. Its owner or an administrator can make another one.",
    ),
    code(
        "LS-KEYPAIR-EXPIRED",
        401,
        "The keypair has expired",
        "The keypair was made for a time, which is over. Its owner or an administrator can make another one.",
    ),
    code(
        "LS-LOGIN-FAILED",
        401,
        "Login name or password is wrong",
        "Nobody was let in: the login name is not known, the password is another, or the account has none. An administrator can give a new password: longshore admin user reset-password NAME.",
    ),
    code(
        "LS-TOTP-REQUIRED",
        401,
        "A code is needed too",
        "The password is right. The account has two-factor codes: send the member challenge of this answer with the code to POST /api/v1/auth/login/totp within five minutes, or log in again with the member totp.",
    ),
    code(
        "LS-TOTP-INVALID",
        401,
        "The code is not valid",
        "The code is wrong, too old, or was used before. Each code is good once and for about a minute; a clock that is wrong gives wrong codes. A recovery code is accepted in its place.",
    ),
    code(
        "LS-FORBIDDEN",
        403,
        "Not permitted",
        "You are known, but this operation needs a role you do not have. The detail names it.",
    ),
    code(
        "LS-READ-ONLY",
        403,
        "Only reading is granted",
        "You may look at this and not change it: an access rule gives you ro where rw is needed. longshore admin access test shows through which rules.",
    ),
    code(
        "LS-IMPERSONATION",
        403,
        "Not on behalf of somebody else",
        "Only service accounts that may impersonate act for others, for active users of their own domain, and only on sessions. A superadmin gives the right: longshore admin service-account edit NAME --set allow_impersonation=true.",
    ),
    code(
        "LS-USER-INACTIVE",
        403,
        "The account is inactive",
        "The keypair is right, but the person it belongs to was switched off. A superadmin can switch the account on again: longshore admin user status NAME active.",
    ),
    code(
        "LS-USER-UNVERIFIED",
        403,
        "The account is not verified yet",
        "The address of this account is not proven. The link that was sent proves it; a superadmin can set the status to active too.",
    ),
    code(
        "LS-DOMAIN-INACTIVE",
        403,
        "The domain is inactive",
        "The domain of this account was switched off, and with it everybody in it. A superadmin can switch it on again.",
    ),
    code(
        "LS-RATE-LIMIT",
        429,
        "Too many requests",
        "In any 900 seconds a keypair, all logins of a person together, and an address of somebody unknown may each make so many requests. Retry-After says when the next one is served; X-RateLimit-Limit and X-RateLimit-Remaining stand in every answer. A superadmin can give a keypair another limit: longshore admin key rate-limit.",
    ),
    code(
        "LS-CSRF",
        403,
        "The request does not come from the console",
        "A request that changes something by the cookie of the console needs the header X-Longshore-CSRF with the value of GET /api/v1/auth/csrf, and must be sent by a page of the console itself. Programs use a keypair or a token in the Authorization header.",
    ),
    code(
        "LS-REAUTH",
        403,
        "Prove once more who you are",
        "What was asked for needs the present password once more, and the one given is another: each wrong one counts like a failed login. Or it needs a login of the last 15 minutes: log out, and in again.",
    ),
    code(
        "LS-PASSWORD-CHANGE-REQUIRED",
        403,
        "A new password is wanted first",
        "The account has to choose a new password before it may do anything else: longshore passwd. Keypairs go on working.",
    ),
    code(
        "LS-TOTP-ENROL",
        403,
        "Two-factor codes are wanted first",
        "People of this role need two-factor codes: longshore totp on. Until then a login by password may do nothing else. Keypairs go on working.",
    ),
    code(
        "LS-NOT-FOUND",
        404,
        "Not found",
        "There is no such object, or you may not see it. Ids never change; names are those shown by the lists.",
    ),
    code(
        "LS-ROUTE",
        404,
        "No such route",
        "The address is not one of this API. The document of all routes is /api/v1/openapi.json.",
    ),
    code(
        "LS-METHOD",
        405,
        "The route does not have this method",
        "The address exists, but not with this method. The header Allow of the answer names those it has.",
    ),
    code(
        "LS-USER-PERMANENT",
        405,
        "Users are never deleted",
        "Records, folders and sessions name the person for ever. Switch the account off instead: longshore admin user status NAME inactive.",
    ),
    code(
        "LS-TIMEOUT",
        408,
        "The request did not arrive in time",
        "No part of the body came for 30 seconds, or not all of it within daemon.http.request_timeout_s. Send it again.",
    ),
    code(
        "LS-TOO-LARGE",
        413,
        "The request is too large",
        "A body may have 1 MiB unless daemon.http.max_body says otherwise, an archive of files 64 GiB, the part of an address behind the question mark 8 KiB.",
    ),
    code(
        "LS-MEDIA-TYPE",
        415,
        "The media type is not accepted",
        "Bodies are JSON in UTF-8, sent with \"Content-Type: application/json\" and without Content-Encoding. Tables of people are text/csv, archives of files application/x-tar.",
    ),
    code(
        "LS-HOST",
        421,
        "This part is not served here",
        "Console, API and files have names or ports of their own on this installation, and each serves its part only. The hint names where this one is. Administrators set daemon.hosts and daemon.listen.",
    ),
    code(
        "LS-TLS",
        426,
        "Encryption is needed",
        "The request came over plain HTTP, as the proxy in front of the coordinator says, or without one. Send it to the address of https; what only reads is redirected there.",
    ),
    code(
        "LS-EXISTS",
        409,
        "The name is taken",
        "Names are unique in their scope without regard to case. The detail says who has it.",
    ),
    code(
        "LS-IN-USE",
        409,
        "The object is in use",
        "Other objects refer to this one; the answer names them. Remove or change those first.",
    ),
    code(
        "LS-BUILTIN",
        409,
        "The object belongs to every installation",
        "What every installation has, such as the domain, the project and the policies named default, cannot be removed. It can be changed.",
    ),
    code(
        "LS-GROUP-BUILTIN",
        409,
        "The group belongs to every installation",
        "The groups users, admins and queue-admins are always there under their names. Everybody is in users; the members of the others can be changed.",
    ),
    code(
        "LS-AMBIGUOUS",
        409,
        "The name stands for several objects",
        "More than one object has this name, in different places. Use the id of the one you mean; the lists show it.",
    ),
    code(
        "LS-TOTP-ENABLED",
        409,
        "Two-factor codes are on already",
        "To use another device, switch the codes off first (longshore totp off) and on again.",
    ),
    code(
        "LS-FIXED-USER",
        409,
        "The account stands in the configuration",
        "Passwords of such accounts are changed in the configuration of the coordinator.",
    ),
    code(
        "LS-LAST-SUPERADMIN",
        409,
        "The last superadmin cannot go",
        "Somebody must be able to administer the installation. Make another superadmin first.",
    ),
    code(
        "LS-USER-SELF",
        409,
        "Not with your own account",
        "Nobody can switch the account off with which this is asked. Another superadmin can.",
    ),
    code(
        "LS-USER-LIVE-SESSIONS",
        409,
        "The person has live sessions",
        "Sessions belong to the domain in which they were started, so somebody who has some cannot be moved to another one. Wait until they have ended, or stop them.",
    ),
    code(
        "LS-LAST-ADMIN",
        409,
        "The last administrator of a project cannot go",
        "Somebody has to be able to take people into the project. Make another member its administrator first: longshore admin project add PROJECT NAME --admin.",
    ),
    code(
        "LS-KEYPAIR-EXISTS",
        409,
        "The access key is taken",
        "Access keys are unique in the whole installation for ever, those of inactive and revoked keypairs included.",
    ),
    code(
        "LS-KEYPAIR-STATE",
        409,
        "Not possible in the state of the keypair",
        "The keypair is active, inactive or revoked already, or has to be active for this. The detail says which. What is revoked stays so.",
    ),
    code(
        "LS-KEYPAIR-MAIN",
        409,
        "The main keypair cannot go",
        "The policy of the main keypair limits its user as a whole. Choose another main keypair first: longshore admin key main ACCESS_KEY.",
    ),
    code(
        "LS-KEYPAIR-ACTIVE",
        409,
        "The keypair is still active",
        "Only a keypair that is switched off can be deleted, so that whoever uses it notices first. Deactivate it, or revoke it at once.",
    ),
    code(
        "LS-KEYPAIR-IN-USE",
        409,
        "The keypair owns live sessions",
        "The detail names the sessions. Wait until they have ended, or revoke the keypair: the sessions belong to the user and go on.",
    ),
    code(
        "LS-STATE",
        409,
        "Not possible in this state",
        "The object is in a state in which this cannot be done. The detail names the state.",
    ),
    code(
        "LS-EXTEND",
        409,
        "The life of the session cannot be extended",
        "It has no lifetime, has had all its extensions, or would live longer than its keypair policy allows. The detail names which, with the numbers.",
    ),
    code(
        "LS-KEEP",
        409,
        "The session cannot be kept",
        "It is not stopped for being idle, or it was kept as often in a row as its rules allow. Its work, or use by people, begins the count anew.",
    ),
    code(
        "LS-IDEMPOTENCY-BUSY",
        409,
        "The same request still runs",
        "A request with this idempotency key has not been answered yet. Ask again in a second; it is not carried out twice.",
    ),
    code(
        "LS-IDEMPOTENCY-LOST",
        409,
        "What became of the same request is not known",
        "The coordinator was started again since the first request with this idempotency key, before the answer was stored. Look whether it was carried out; another key carries it out anew.",
    ),
    code(
        "LS-AGENT-STATE",
        409,
        "Not possible in the state of the agent",
        "The agent has left the cluster. It can join again with a new token: longshore token create.",
    ),
    code(
        "LS-SYSTEM-SESSION",
        409,
        "There is no room for the session now",
        "System sessions do not wait: they start at once or are refused. Try again in a while, or end another one of yours.",
    ),
    code(
        "LS-CONFIG-STALE",
        409,
        "The draft was made from an older version",
        "Pools and queues were provisioned after the draft was begun. Compare the draft with what is live, then save it anew on that version.",
    ),
    code(
        "LS-INVITATION-OTHER",
        403,
        "The invitation is for another account",
        "An invitation of somebody who has an account is accepted with that account, and one of a new person without any. Log in with the account that was invited, or log out first.",
    ),
    code(
        "LS-INVITATION-GONE",
        410,
        "The invitation is no longer valid",
        "An invitation is good once and for a time, and can be taken back; the newest one to an address is the one that counts. Ask whoever invited you for another: longshore admin invitation create EMAIL.",
    ),
    code(
        "LS-LINK-GONE",
        410,
        "The link is no longer valid",
        "Links to choose a password are good for one hour and once; ask for another one, or an administrator for a password. So are set-up links: as long as there is no administrator, each start of the coordinator and longshore-coordinator setup-token make a new one.",
    ),
    code(
        "LS-VERSION-STALE",
        412,
        "The object has changed meanwhile",
        "Somebody changed the object after you read it. The member current holds it as it is now; look at it, then send your change with its version in If-Match.",
    ),
    code(
        "LS-VERSION-MISSING",
        428,
        "The version is needed",
        "So that nobody's change is lost, this route wants the header If-Match with the ETag of the object as you saw it, or * to overwrite on purpose.",
    ),
    code(
        "LS-INVALID",
        422,
        "Members are not valid",
        "One or more members of the body are not accepted; errors names each with what would be.",
    ),
    code(
        "LS-UNKNOWN-FIELD",
        422,
        "The body has an unknown member",
        "Members the operation does not have are refused, so that a mistyped one is not lost in silence. The detail names the nearest known one.",
    ),
    code(
        "LS-FIELD-FIXED",
        422,
        "The member never changes",
        "Names and places in the tree stay what they were when the object was made. Make another object instead.",
    ),
    code(
        "LS-ROLE-SELF",
        422,
        "Not with your own role",
        "Nobody can change the own role. Another superadmin can.",
    ),
    code(
        "LS-IDEMPOTENCY-BODY",
        422,
        "The idempotency key was used for another request",
        "A key stands for one request for a day. Use a new key for a new request.",
    ),
    code(
        "LS-SLOT-UNKNOWN",
        422,
        "The slot is not known",
        "No agent offers a resource of this name. longshore node ls shows what there is; cpu and mem are always there.",
    ),
    code(
        "LS-SLOT-AMOUNT",
        422,
        "The amount is not accepted",
        "Amounts are text: whole numbers for devices and cores, 0.5 or 1/7 for shares, 512m or 16g for memory.",
    ),
    code(
        "LS-SLOT-EXCLUSIVE",
        422,
        "The slots exclude each other",
        "One container cannot have two kinds of the same accelerator, such as whole GPUs and shares of GPUs.",
    ),
    code(
        "LS-GROUP-UNKNOWN",
        422,
        "The resource group is not known",
        "There is no resource group of this name. The hint names those that take sessions.",
    ),
    code(
        "LS-GROUP-DENIED",
        422,
        "No resource group takes the session",
        "There is no resource group that would take your sessions. An administrator can open one.",
    ),
    code(
        "LS-GROUP-INACTIVE",
        422,
        "The resource group is not active",
        "The group takes no sessions at present.",
    ),
    code(
        "LS-GROUP-TYPE",
        422,
        "The resource group does not take this type",
        "Resource groups say which types of session they take. The hint names the types; another group may take yours.",
    ),
    code(
        "LS-GROUP-CLOSED",
        422,
        "The resource group is entered through queues only",
        "The group takes no sessions that name it. The hint names the queues you may use.",
    ),
    code(
        "LS-QUEUE-UNKNOWN",
        422,
        "The queue is not known",
        "There is no queue of this name. The hint names those you may use.",
    ),
    code(
        "LS-QUEUE-DENIED",
        422,
        "The queue is not for you",
        "The allocation policy behind the queue does not include you. An administrator of queues can take you in.",
    ),
    code(
        "LS-QUEUE-ACCESS",
        422,
        "The service account may not use the queue",
        "A service account that serves a resource group needs rw on it by an access rule: longshore admin access grant rw queue/NAME ACCOUNT.",
    ),
    code(
        "LS-CLUSTER-SIZE",
        422,
        "Too many containers",
        "The session asks for more containers than a keypair policy allows. The answer names the policy and its limit.",
    ),
    code(
        "LS-PRIORITY",
        422,
        "The priority is too high",
        "A keypair policy says how high a priority you may ask for. The answer names the policy and its limit.",
    ),
    code(
        "LS-DEPENDENCY",
        422,
        "A session that is waited for is not good",
        "The session waits for one that is not there, is not yours, or has ended otherwise than it was to. The answer names each and why.",
    ),
    code(
        "LS-SHM",
        422,
        "Shared memory is too large",
        "/dev/shm lies in the memory of the session, so it has to be smaller than mem.",
    ),
    code(
        "LS-ENVIRONMENT",
        422,
        "An environment variable is not accepted",
        "Names that steer the start of programs, the choice of GPUs or Longshore itself are reserved.",
    ),
    code(
        "LS-PORT",
        422,
        "The port is not one of the session's",
        "A session declares the ports that may be reached inside when it is submitted, each with a name of its own, and no others are reached.",
    ),
    code(
        "LS-PATH",
        422,
        "This cannot be done with the path",
        "A command in the session, as its user, reads and writes its files. The detail has its last words: there is no such path, it may not be read or written, no space is left, or the image lacks a program that is needed (sh, stat, tar, find).",
    ),
    code(
        "LS-FIT-NEVER",
        422,
        "No agent could ever hold this",
        "Even an empty agent of the group has less than was asked. Waiting would not help. The hint says what would fit.",
    ),
    code(
        "LS-LIMIT-PENDING",
        422,
        "Too much waits already",
        "A keypair policy limits how many sessions may wait, or what they may ask for together. Wait until some have started, or cancel them.",
    ),
    code(
        "LS-LIMIT-NEVER",
        422,
        "The request is above a limit",
        "The session alone asks for more than a policy, project or domain allows in all, so waiting would not help. The answer names the limit and whose it is.",
    ),
    code(
        "LS-SETTING",
        422,
        "The configuration is not accepted",
        "A key is not known, its value is not of its type, or it cannot be changed here; errors names each, and where it stands. What was in force stays so. longshore admin settings ls lists the keys.",
    ),
    code(
        "LS-CONFIG-INVALID",
        422,
        "Pools and queues are not consistent",
        "The document of pools, profiles and policies has faults; errors names each with its place.",
    ),
    code(
        "LS-LOGIN-THROTTLED",
        429,
        "Too many failed logins",
        "Logins of this name or from this network failed too often. Wait the seconds of Retry-After; an administrator can clear the count: longshore admin user unblock NAME.",
    ),
    code(
        "LS-INTERNAL",
        500,
        "Internal error",
        "The coordinator failed in a way it does not know. Nothing was half done. Its log holds the request id of the answer; please report both.",
    ),
    code(
        "LS-SETUP-REQUIRED",
        503,
        "There is no administrator yet",
        "A new installation does nothing before its first administrator is made. The file setup-token in the data directory holds the link; longshore up does it for you.",
    ),
    code(
        "LS-STARTING",
        503,
        "The coordinator is starting or stopping",
        "Try again in a few seconds.",
    ),
    code(
        "LS-BUSY",
        503,
        "The coordinator has too much to do",
        "More requests wait than the coordinator takes. Try again after the seconds in Retry-After.",
    ),
    code(
        "LS-UPSTREAM",
        502,
        "Another server could not be asked",
        "What was called did not take the connection, or may not be called from here. daemon.egress.allow names hosts and networks that may.",
    ),
    code(
        "LS-UPSTREAM-TIMEOUT",
        504,
        "Another server did not answer in time",
        "What was called gave no whole answer within 10 seconds.",
    ),
    code(
        "LS-AUDIT",
        503,
        "The audit log cannot be written",
        "What cannot be recorded does not happen: the change was taken back. The log of the coordinator says what stands in the way; longshore-coordinator audit verify says whether the audit log is whole.",
    ),
    code(
        "LS-SECRETS-LOCKED",
        503,
        "The master key is not loaded",
        "What was asked for needs a secret that is stored encrypted, and the coordinator does not have the key. The detail names the key by its id. An administrator of the machine puts it where the configuration says, /etc/longshore/master.key unless told otherwise, and starts the coordinator again; longshore-coordinator secrets status lists which keys are needed.",
    ),
    code(
        "LS-APP-NOT-READY",
        409,
        "The app cannot be reached yet",
        "The session runs, but nothing takes the connection: no program listens on the port, or it could not be started. The detail says which. A program that has just begun may need a moment.",
    ),
    code(
        "LS-STREAMS",
        429,
        "Too many streams are open",
        "So many commands, terminals and connections may be open in one session, of one caller, and in all. Close one, or wait as long as Retry-After says.",
    ),
    code(
        "LS-WEBSOCKET",
        426,
        "A WebSocket is wanted",
        "This address is no page: it is opened as a WebSocket over HTTP/1.1, with the sub-protocol longshore.v1. longshore exec, longshore terminal and longshore forward do so.",
    ),
    code(
        "LS-AGENT-UNREACHABLE",
        503,
        "The agent cannot be reached",
        "The node on which the session runs is not connected now. The session goes on there; its output can be read once the node is back.",
    ),
    code(
        "LS-READER-SLOW",
        503,
        "Output was not taken fast enough",
        "Whoever follows output has to take it: one that takes nothing for a while holds back others. The stream was cut and nothing is lost; ask again from the position behind the last piece.",
    ),
    code(
        "LS-VAULT-SIZE",
        422,
        "The vault is too long",
        "A vault is a text of at most 256 KiB. Put large files into a folder and name it in the request.",
    ),
    code(
        "LS-VAULT-SYNTAX",
        422,
        "The vault cannot be read",
        "The text is not what its format allows: line and column say where. The format is the one that was given, never guessed. A vault is a map at the top level, at most 32 levels deep and of at most 10,000 values; each key stands in it once, but in HOCON; nothing outside of the text is looked at.",
    ),
    code(
        "LS-VAULT-MASKED",
        422,
        "The vault holds a mask",
        "Somewhere ******** stands in place of a value: the text was read without reveal=true. Nothing was saved, so the value is still there. Reveal the vault and edit that.",
    ),
    code(
        "LS-VAULT-FORBIDDEN-KEY",
        422,
        "The vault sets what no vault can set",
        "What belongs to a machine or to the coordinator stands in their own files. Such keys are refused in any spelling and whatever their value is. GET /help/LS-VAULT-TYPE and docs/vaults.md say what a vault can set.",
    ),
    code(
        "LS-VAULT-TYPE",
        422,
        "A key of the vault has the wrong type",
        "Known keys have a type: environment and files are maps, agent.apply_files is true or false, agent.registries is a list of maps. null takes away what a lower layer has set. docs/vaults.md has the list.",
    ),
    code(
        "LS-VAULT-ENV",
        422,
        "A variable of the vault is not accepted",
        "Names are of A-Z a-z 0-9 _ and do not begin with a digit. Names that steer the start, the choice of GPUs or Longshore itself are reserved. A value is a single one of at most 32 KiB; PATH and LD_LIBRARY_PATH hold absolute directories.",
    ),
    code(
        "LS-VAULT-FILE",
        422,
        "A file of the vault is not accepted",
        "A file has a path below /home/work, /work, /tmp or /run/longshore/secrets, contents of at most 64 KiB, and a mode in octal digits; all files together have at most 1 MiB, and no two the same path.",
    ),
    code(
        "LS-DISK-LOW",
        507,
        "The disk of the coordinator is full",
        "Less than a tenth of it is free, and no new sessions are taken; or nothing is left and what was asked could not be stored. What runs goes on and can be stopped: room is kept for that. An administrator has to free some; the check disk of /readyz says how much there is.",
    ),
];

/// The row of a code. One that is missing is a fault of ours and answers 500.
#[must_use]
pub fn find(code: &str) -> &'static Code {
    let known = CODES.iter().find(|c| c.code == code);
    let internal = || CODES.iter().find(|c| c.code == "LS-INTERNAL");
    known.or_else(internal).unwrap_or(&CODES[0])
}

/// An answer that is no success. Path and request id are filled in on the way out.
#[derive(Debug, Clone)]
pub struct Failure {
    /// One of [`CODES`].
    pub code: &'static str,
    /// What happened.
    pub detail: String,
    /// Every bad member.
    pub errors: Vec<MemberError>,
    /// The limit that was met.
    pub limit: Option<Box<LimitMet>>,
    /// What would pass.
    pub hint: Option<String>,
    /// What is in the way.
    pub in_use: Option<Box<InUse>>,
    /// What else stands in the answer, such as `current`: the object as it is.
    pub members: Option<Box<Map<String, Value>>>,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// A failure with a code and a sentence.
    #[must_use]
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            limit: None,
            hint: None,
            in_use: None,
            members: None,
            retry_after: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same about one member.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(MemberError {
            pointer: pointer.into(),
            message: message.into(),
            ..MemberError::default()
        });
        self
    }

    /// The same with the object as it is now.
    #[must_use]
    pub fn current(self, object: Value) -> Self {
        self.member("current", object)
    }

    /// The same with a further member.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: Value) -> Self {
        let members = self.members.get_or_insert_default();
        members.insert(name.to_owned(), value);
        self
    }

    /// The same with the seconds to wait.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// There is no such thing, or the caller may not see it.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new("LS-NOT-FOUND", format!("There is no {what}."))
    }

    /// A fault of ours. What happened stands in the log, not in the answer.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            "LS-INTERNAL",
            "The request failed for a reason that is not yours; the log of the coordinator has it.",
        )
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        find(self.code).status
    }

    /// The body of the answer.
    #[must_use]
    pub fn problem(&self, base: &str, instance: &str, request_id: &str) -> Problem {
        let row = find(self.code);
        Problem {
            kind: format!("{base}/help/{}", row.code),
            title: row.title.to_owned(),
            status: row.status,
            code: row.code.to_owned(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
            limit: self.limit.as_deref().cloned(),
            hint: self.hint.clone(),
            blockers: self
                .in_use
                .as_ref()
                .map_or_else(Vec::new, |in_use| in_use.blockers.clone()),
            counts: self
                .in_use
                .as_ref()
                .map_or_else(BTreeMap::new, |in_use| in_use.counts.clone()),
            instance: instance.to_owned(),
            request_id: request_id.to_owned(),
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn response(&self, base: &str, instance: &str, request_id: &str) -> Response {
        let problem = self.problem(base, instance, request_id);
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut value = serde_json::to_value(&problem).unwrap_or_default();
        if let (Some(members), Some(object)) = (&self.members, value.as_object_mut()) {
            object.extend((**members).clone());
        }
        let mut response = (status, value.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"longshore\""),
            );
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

// Handlers and extractors know neither the path nor the request id: the failure travels
// in the extensions, and the outermost layer writes it.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut failure = Self::new(refusal.code, refusal.detail);
        failure.errors = refusal.errors;
        failure.limit = refusal.limit;
        failure.hint = refusal.hint;
        failure.in_use = refusal.in_use;
        failure.retry_after = refusal.retry_after_s;
        failure
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Busy => {
                Self::new("LS-BUSY", "The coordinator has too much to do.").retry_after(1)
            }
            EngineError::Stopped => {
                Self::new("LS-STARTING", "The coordinator is stopping.").retry_after(5)
            }
            EngineError::DiskFull => Self::new(
                "LS-DISK-LOW",
                "The disk of the coordinator is full; nothing was changed.",
            ),
            EngineError::Audit => Self::new(
                "LS-AUDIT",
                "The audit log could not be written; nothing was changed.",
            ),
            EngineError::Store => Self::internal(),
        }
    }
}

impl From<Locked> for Failure {
    fn from(locked: Locked) -> Self {
        Self::new("LS-SECRETS-LOCKED", locked.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database could not be read for a request");
        Self::internal()
    }
}

/// The known word that comes nearest to `text`, if one comes near.
#[must_use]
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text: String = text
        .chars()
        .take(64)
        .collect::<String>()
        .to_ascii_lowercase();
    known
        .into_iter()
        .map(|word| (distance(&text, word), word))
        .min()
        .filter(|(far, word)| *far <= 1 + word.len().max(text.len()) / 3)
        .map(|(_, word)| word)
}

/// How many letters have to change, come or go.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// At most 64 bytes of what a caller sent, without control characters.
#[must_use]
pub fn cut(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > 64 {
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        for (index, row) in CODES.iter().enumerate() {
            assert!(
                CODES[..index].iter().all(|other| other.code != row.code),
                "{} stands twice",
                row.code
            );
            assert!(
                row.code.starts_with("LS-") && row.help.len() > 20 && !row.title.ends_with('.'),
                "{}",
                row.code
            );
            assert!((400..600).contains(&row.status), "{}", row.code);
        }
    }

    #[test]
    fn near_words() {
        assert_eq!(nearest("commnd", ["command", "name"]), Some("command"));
        assert_eq!(nearest("stat", ["state", "type"]), Some("state"));
        assert_eq!(nearest("zzzzzzzz", ["state", "type"]), None);
    }
}
