//! Every key of the coordinator's configuration: its type, its default and what it does. The
//! reference in the documentation is made from here, and a test holds the defaults against
//! those the program uses.

use super::tables;
use longshore_config::manual::{self, Page};
use longshore_config::schema::Acts::{Live, Reload, Restart};
use longshore_config::schema::{self, Key, Kind, Schema};
use longshore_logging::{FORMS, LEVELS, TARGETS};

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        acts: Restart,
        help,
    }
}

/// A key that may be stored and acts at once.
const fn live(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        acts: Live,
        ..key(path, kind, default, help)
    }
}

/// A key that acts when the configuration is read again.
const fn reload(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        acts: Reload,
        ..key(path, kind, default, help)
    }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const U32: i64 = 4_294_967_295;
const YEARS: i64 = 315_360_000;

/// The coordinator's keys. Ranges here are those of the type; the program checks narrower ones
/// where several keys belong together.
pub const SCHEMA: Schema = Schema {
    roots: &["daemon", "secure", "services", "logging", "work"],
    foreign: &["agent", "environment", "files", "client"],
    renamed: &[
        (
            "daemon.listen",
            "is a map now; the address of the API is daemon.listen.api, a list: [\"[::]:7420\"]",
        ),
        (
            "daemon.hosts",
            "is a map of the names of console, API and files now; further names of the certificate are daemon.names",
        ),
    ],
    keys: &[
        key(
            "daemon.data_dir",
            Kind::Path,
            "\"/var/lib/longshore\"",
            "Where the database and keys lie.",
        ),
        key(
            "daemon.database.path",
            Kind::Path,
            "",
            "File of the database, whole from /; empty = longshore.db in the data directory.",
        ),
        key(
            "daemon.database.busy_timeout_s",
            Kind::Duration(1, 60),
            "5",
            "It is waited so long when somebody else holds that file.",
        ),
        key(
            "daemon.local_socket",
            Kind::Path,
            "",
            "Socket for commands of root (admin, secrets, setup-token), whole from /; empty = local.sock in the data directory.",
        ),
        key(
            "daemon.listen.api",
            TEXTS,
            "[\"[::]:7420\"]",
            "TCP addresses of the API, and of all that has no addresses of its own; [::] takes IPv4 as well.",
        ),
        key(
            "daemon.listen.app",
            TEXTS,
            "[]",
            "TCP addresses of the console and of links to apps; [] = those of the API.",
        ),
        key(
            "daemon.listen.files",
            TEXTS,
            "[]",
            "TCP addresses of files; [] = those of the API.",
        ),
        key(
            "daemon.listen.metrics",
            TEXTS,
            "[]",
            "TCP addresses of metrics alone, without a login; [] = only GET /metrics of the API, for monitors and above. Addresses that other machines reach want services.metrics.allow, and are encrypted.",
        ),
        key(
            "daemon.hosts.app",
            Kind::Text,
            "",
            "Name of the console and of links to apps, such as app.gpu.lab; other parts with a name are not served by it. Empty = by every name.",
        ),
        key(
            "daemon.hosts.api",
            Kind::Text,
            "",
            "Name of the API; empty = by every name.",
        ),
        key(
            "daemon.hosts.files",
            Kind::Text,
            "",
            "Name of files; empty = by every name.",
        ),
        key(
            "daemon.name",
            Kind::Text,
            "",
            "Name of this coordinator; empty = the machine's.",
        ),
        reload(
            "daemon.public_url",
            Kind::Url,
            "",
            "The address people reach it by, in links and snippets; empty = https, daemon.hosts.app or the machine's name, and the port of the console.",
        ),
        key(
            "daemon.tls.mode",
            Kind::OneOf(&["auto", "files", "off"]),
            "\"auto\"",
            "auto: a certificate of the installation's own authority. files: that of the two keys below. off: plain HTTP, for a proxy that ends TLS; wants daemon.trusted_proxies, or addresses of this machine alone.",
        ),
        reload(
            "daemon.tls.certificate",
            Kind::Path,
            "",
            "File (PEM) of the certificate, and of those between it and its authority; read again with the configuration.",
        ),
        reload(
            "daemon.tls.private_key",
            Kind::Path,
            "",
            "File (PEM) of its key, which not everybody may read.",
        ),
        key(
            "daemon.tls.min_version",
            Kind::OneOf(&["1.2", "1.3"]),
            "\"1.2\"",
            "The oldest version of TLS that is spoken.",
        ),
        key(
            "daemon.tls.hsts_s",
            Kind::Duration(0, YEARS),
            "0",
            "For so long browsers shall use TLS only (Strict-Transport-Security); 0 = nothing is said.",
        ),
        key(
            "daemon.names",
            TEXTS,
            "[]",
            "Names and addresses by which it is reached, besides the machine's name and those of daemon.hosts: they stand in its certificate.",
        ),
        reload(
            "daemon.trusted_proxies",
            Kind::List(&Kind::Network),
            "[]",
            "Proxies in front of it, as addresses or networks: what they say about the client's address counts.",
        ),
        key(
            "daemon.apps.domain",
            Kind::Text,
            "",
            "Each app that a browser opens gets a name of its own below it (a wildcard in DNS leads here); outside of daemon.auth.cookies.domain. Empty: apps are served on daemon.apps.listen.",
        ),
        key(
            "daemon.apps.listen",
            TEXTS,
            "[\"[::]:7422\"]",
            "TCP addresses for apps in browsers where there is no domain for them; [] switches that off. Browsers share cookies between ports: a domain is the better choice.",
        ),
        key(
            "daemon.agents.listen",
            Kind::Text,
            "",
            "UDP address agents connect to; empty = the first of daemon.listen.api.",
        ),
        key(
            "daemon.agents.addresses",
            TEXTS,
            "[]",
            "Addresses agents may use besides the one they have.",
        ),
        reload(
            "daemon.agents.heartbeat_s",
            Kind::Duration(1, 60),
            "2",
            "Seconds between heartbeats.",
        ),
        reload(
            "daemon.agents.lost_after_s",
            Kind::Duration(1, 3600),
            "15",
            "T1: seconds of silence after which an agent is LOST; at least five heartbeats.",
        ),
        reload(
            "daemon.agents.declare_lost_s",
            Kind::Duration(0, U32),
            "600",
            "T2: seconds of silence after which its sessions are given up, of groups that are made from then on without one; 0 = never, else at least 120.",
        ),
        live(
            "daemon.agents.certificate_days",
            Kind::Integer(1, 3650),
            "30",
            "Days for which certificates of agents are issued; they are renewed after two thirds of that.",
        ),
        live(
            "daemon.agents.join_token_ttl_s",
            Kind::Duration(1, 2_592_000),
            "86400",
            "A join token is good for so long whose maker does not say.",
        ),
        key(
            "daemon.agents.gso",
            Kind::Bool,
            "true",
            "Segmentation offload; off where a network card gets it wrong.",
        ),
        live(
            "daemon.rate_limit.keypair",
            Kind::Integer(1, 1_000_000),
            "10000",
            "Requests in any 900 s of a keypair that has no limit of its own, and of all logins of a person.",
        ),
        live(
            "daemon.rate_limit.anonymous",
            Kind::Integer(1, 1_000_000),
            "1000",
            "Requests in any 900 s of a client that is not known, by its address.",
        ),
        reload(
            "daemon.http.max_body",
            Kind::Size(1024, 64 << 20),
            "1048576",
            "Largest body that is read as a whole; what streams has bounds of its own.",
        ),
        reload(
            "daemon.http.header_timeout_s",
            Kind::Duration(1, 600),
            "10",
            "The headers of a request have to come within this time, on connections from then on.",
        ),
        reload(
            "daemon.http.request_timeout_s",
            Kind::Duration(1, 3600),
            "60",
            "A body that is read as a whole has to come within this time. Answers, streams and connections that stay open are not cut by it.",
        ),
        reload(
            "daemon.http.connections_per_ip",
            Kind::Integer(1, 4096),
            "100",
            "Connections of one address; what is open stays so.",
        ),
        reload(
            "daemon.cors.origins",
            Kind::List(&Kind::Text),
            "[]",
            "Pages of these origins may read answers, as https://HOST or https://HOST:PORT; \"*\" alone = all.",
        ),
        reload(
            "daemon.cors.credentials",
            Kind::Bool,
            "false",
            "Cookies of those pages count, for WebSockets too.",
        ),
        reload(
            "daemon.cors.max_age_s",
            Kind::Duration(0, 86_400),
            "600",
            "How long a browser may keep what it was told of them.",
        ),
        reload(
            "daemon.egress.allow",
            Kind::List(&Kind::Text),
            "[]",
            "Hosts, addresses and networks the coordinator may call although they are its own machine's, loopback, link-local or private.",
        ),
        reload(
            "daemon.egress.proxy",
            Kind::Secret,
            "",
            "HTTP proxy by which it calls, as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, or { file = \"/path\" }; empty = none.",
        ),
        live(
            "daemon.auth.logins.max_age_s",
            Kind::Duration(60, YEARS),
            "604800",
            "A login ends so long after it began.",
        ),
        live(
            "daemon.auth.logins.idle_s",
            Kind::Duration(60, YEARS),
            "86400",
            "A login ends so long after its last use.",
        ),
        reload(
            "daemon.auth.cookies.httponly",
            Kind::Bool,
            "true",
            "Scripts of pages cannot read the cookie of a login.",
        ),
        reload(
            "daemon.auth.cookies.secure",
            Kind::Bool,
            "true",
            "The cookie is sent over TLS only.",
        ),
        reload(
            "daemon.auth.cookies.domain",
            Kind::Text,
            "",
            "Domain of the cookie, for a console and an API under names of their own; empty = this host alone.",
        ),
        reload(
            "daemon.auth.cookies.max_age_s",
            Kind::Duration(0, YEARS),
            "604800",
            "How long a browser keeps it.",
        ),
        reload(
            "daemon.auth.cookies.same_site",
            Kind::OneOf(&["lax", "strict"]),
            "\"lax\"",
            "Whether links from other sites bring it.",
        ),
        reload(
            "daemon.auth.throttle.failures",
            Kind::Integer(1, 1000),
            "10",
            "So many failed logins of a name from one part of the network (/24, of IPv6 /64) within the window are too many.",
        ),
        reload(
            "daemon.auth.throttle.window_s",
            Kind::Duration(1, 86_400),
            "900",
            "A failed login counts for so long; a name with too many from anywhere is refused for so long.",
        ),
        reload(
            "daemon.auth.throttle.block_s",
            Kind::Duration(1, 86_400),
            "1200",
            "A name with too many from one part of the network is refused from there for so long.",
        ),
        reload(
            "daemon.auth.throttle.account_failures",
            Kind::Integer(1, 1000),
            "100",
            "So many failed logins of a name from anywhere are too many; who logged in from a place before is let through from there.",
        ),
        reload(
            "daemon.auth.throttle.source_failures",
            Kind::Integer(1, 1000),
            "100",
            "So many failed logins of any name from one part of the network are too many.",
        ),
        live(
            "daemon.auth.invitations.expires_s",
            Kind::Duration(60, YEARS),
            "604800",
            "How long an invitation can be accepted.",
        ),
        reload(
            "daemon.auth.fixed_users.enabled",
            Kind::Bool,
            "false",
            "People of this file exist, with the passwords that stand here.",
        ),
        reload(
            "daemon.auth.fixed_users.pass_hashed",
            Kind::Bool,
            "false",
            "The passwords are hashes (argon2id, bcrypt).",
        ),
        reload(
            "daemon.auth.fixed_users.deactivate_missing",
            Kind::Bool,
            "true",
            "Fixed users who no longer stand here are made inactive.",
        ),
        reload(
            "daemon.auth.fixed_users.users",
            tables::FIXED_USERS,
            "[]",
            "The people: username, password, name, email, role, domain, projects.",
        ),
        key(
            "secure.master_key_file",
            Kind::Path,
            "\"/etc/longshore/master.key\"",
            "File of the key that protects stored secrets: 32 random bytes in base64, for its owner alone. The credential longshore.master-key of systemd comes before it.",
        ),
        key(
            "secure.master_key",
            Kind::Secret,
            "",
            "That key itself, where there is no such file.",
        ),
        key(
            "secure.previous_keys",
            Kind::List(&Kind::Path),
            "[]",
            "Files of the keys before it: what they protect is brought under the present one.",
        ),
        reload(
            "secure.password.argon2.memory_kib",
            Kind::Integer(1, U32),
            "19456",
            "Memory of one hash; at least 19456.",
        ),
        reload(
            "secure.password.argon2.passes",
            Kind::Integer(1, U32),
            "2",
            "Passes of one hash; at least 2.",
        ),
        reload(
            "secure.password.argon2.lanes",
            Kind::Integer(1, U32),
            "1",
            "Lanes of one hash; at least 1.",
        ),
        live(
            "secure.password.parallel",
            Kind::Integer(1, 64),
            "2",
            "Hashes computed at once.",
        ),
        live(
            "secure.password.queue",
            Kind::Integer(0, 4096),
            "32",
            "Hashes that may wait; more are answered with 429.",
        ),
        live(
            "secure.password.enforce_change",
            Kind::Bool,
            "false",
            "Passwords that somebody else chose must be changed at the first login.",
        ),
        live(
            "secure.password.max_age_days",
            Kind::Integer(0, 3650),
            "0",
            "Passwords must be changed after so many days; 0 = never.",
        ),
        live(
            "secure.totp.required_roles",
            TEXTS,
            "[]",
            "Roles that need a second factor: superadmin, domain-admin, monitor, user.",
        ),
        live(
            "secure.totp.issuer",
            Kind::Text,
            "\"Longshore\"",
            "What an authenticator shows beside the name.",
        ),
        live(
            "secure.redaction.names",
            TEXTS,
            r#"["LONGSHORE_SECRET_KEY", "CLEARML_API_SECRET_KEY", "CLEARML_AGENT_GIT_PASS", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "AZURE_CLIENT_SECRET", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN", "*_PASSWORD"]"#,
            "Variables whose values are shown as a mask wherever environments and arguments of containers are shown; * at either end of a name stands for anything.",
        ),
        live(
            "services.scheduler.scheduler",
            Kind::OneOf(&["fifo", "lifo", "drf"]),
            "\"fifo\"",
            "Order of groups that do not say.",
        ),
        live(
            "services.scheduler.agent_selection",
            Kind::OneOf(&["concentrated", "dispersed", "round-robin"]),
            "\"concentrated\"",
            "Which agent is taken in groups that do not say.",
        ),
        live(
            "services.scheduler.retries_to_skip",
            Kind::Integer(0, 1_000_000),
            "3",
            "How often the head of a queue is tried before others pass it; 0 = they never do.",
        ),
        live(
            "services.scheduler.interval_s",
            Kind::Duration(1, 86_400),
            "10",
            "A head is charged at most one try in this time.",
        ),
        live(
            "services.scheduler.creation_retries",
            Kind::Integer(0, 100),
            "3",
            "How often a session whose start failed goes back to PENDING; 0 = never.",
        ),
        live(
            "services.scheduler.pending_timeout_s",
            Kind::Duration(0, YEARS),
            "0",
            "A session PENDING for longer is cancelled; 0 = never.",
        ),
        live(
            "services.images.auto_update",
            Kind::OneOf(&["digest", "tag", "none"]),
            "\"digest\"",
            "When a node pulls an image: if it lacks what the session was resolved to, if it lacks the name, or never. What waits takes it at its start.",
        ),
        live(
            "services.network.overlay_mtu",
            Kind::Integer(576, 9000),
            "1450",
            "Largest packet between containers of one session on several nodes; at most that of the network between the nodes less 50.",
        ),
        live(
            "services.network.overlay_pool",
            Kind::Network,
            "\"10.214.0.0/16\"",
            "Where ranges of addresses for sessions of several containers are cut from.",
        ),
        live(
            "services.sessions.default_image",
            Kind::Text,
            "",
            "Image of a session that names none; empty = there is none.",
        ),
        live(
            "services.sessions.system_image",
            Kind::Text,
            "",
            "Image of system sessions, which bring files in and out; empty = there are no such sessions.",
        ),
        live(
            "services.sessions.default_cpu",
            Kind::Text,
            "\"1\"",
            "Cores of a session that names none.",
        ),
        live(
            "services.sessions.default_mem",
            Kind::Text,
            "\"2g\"",
            "Memory of a session that names none.",
        ),
        live(
            "services.sessions.default_priority",
            Kind::Integer(0, 100),
            "10",
            "Priority of a session that names none.",
        ),
        live(
            "services.sessions.array_tasks",
            Kind::Integer(1, 1_000_000),
            "10000",
            "Tasks an array may have.",
        ),
        live(
            "services.sessions.admin_exec",
            Kind::Bool,
            "false",
            "Administrators may reach into sessions of others; each use is recorded.",
        ),
        live(
            "services.sessions.extend_max",
            Kind::Integer(0, 100),
            "3",
            "How often a lifetime may be extended whose policy does not say.",
        ),
        live(
            "services.sessions.extend_step_s",
            Kind::Duration(1, 604_800),
            "14400",
            "By how much at once.",
        ),
        live(
            "services.sessions.stop_grace_s",
            Kind::Duration(0, 600),
            "30",
            "Time between the stop signal and the kill where nobody says another one.",
        ),
        live(
            "services.sessions.warn_before_s",
            Kind::List(&Kind::Duration(1, 15_552_000)),
            "[3600, 900, 300]",
            "How long before the end of a lifetime, or of a drain of its node, the user of a session is warned; where rules of idleness hold, their own list counts for the lifetime too.",
        ),
        live(
            "services.sessions.idle.timeout_s",
            Kind::Duration(0, 15_552_000),
            "0",
            "Sessions nobody has used for so long count as idle where no policy says; 0 = none do.",
        ),
        live(
            "services.sessions.idle.initial_grace_s",
            Kind::Duration(0, 15_552_000),
            "300",
            "No session is judged idle before it has run so long.",
        ),
        live(
            "services.sessions.idle.window_s",
            Kind::Duration(0, 15_552_000),
            "900",
            "Work is averaged over this time; 0 = only use counts, not work.",
        ),
        live(
            "services.sessions.idle.cpu_pct",
            Kind::Integer(0, 100),
            "5",
            "Below this mean share of the granted cores a session does no work.",
        ),
        live(
            "services.sessions.idle.gpu_pct",
            Kind::Integer(0, 100),
            "5",
            "The same for its GPUs.",
        ),
        live(
            "services.sessions.idle.combine",
            Kind::OneOf(&["all", "any"]),
            "\"all\"",
            "all: stopped when nobody uses it and it does no work; any: when one of them holds.",
        ),
        live(
            "services.sessions.idle.warn_s",
            Kind::List(&Kind::Duration(0, U32)),
            "[3600, 900, 300]",
            "How long before the stop its user is warned.",
        ),
        live(
            "services.sessions.idle.new_user_grace_s",
            Kind::Duration(0, 15_552_000),
            "0",
            "So long after a person was made no lifetime and no rule of idleness counts for its sessions.",
        ),
        live(
            "services.sessions.watchdog.enabled",
            Kind::Bool,
            "true",
            "Sessions without a sign of life are looked for.",
        ),
        live(
            "services.sessions.watchdog.threshold_sec",
            Kind::Duration(60, 31_536_000),
            "7200",
            "Without a sign of life for longer a RUNNING session is stopped.",
        ),
        live(
            "services.sessions.watchdog.watch_interval_sec",
            Kind::Duration(60, 86_400),
            "900",
            "Time between two looks; the first comes so long after the start.",
        ),
        live(
            "services.sessions.watchdog.stalled_after_sec",
            Kind::Duration(0, 31_536_000),
            "7200",
            "Without output, use and work for so long a RUNNING session counts as stalled; at least 60, 0 = none does.",
        ),
        live(
            "services.organization.name",
            Kind::Text,
            "\"Longshore\"",
            "Whose installation it is: stands in the subject of mails and in what a login page asks for.",
        ),
        live(
            "services.organization.hide_owners",
            Kind::Bool,
            "false",
            "Users are not shown whose the sessions of others are that wait or hold a device.",
        ),
        live(
            "services.organization.allow_service_account_admins",
            Kind::Bool,
            "false",
            "Service accounts may act as administrators of their domain.",
        ),
        reload(
            "services.organization.ui_actions",
            tables::UI_ACTIONS,
            "{}",
            "Calls that people may have made about an object: per type (project, session, model, folder, agent, queue) a list of name, tooltip, level and action with method, url, payload, headers, secret. ${id} is the object's id.",
        ),
        live(
            "services.notify.mail.enabled",
            Kind::Bool,
            "false",
            "Mail is sent.",
        ),
        live(
            "services.notify.mail.host",
            Kind::Text,
            "",
            "Name or address of the mail server.",
        ),
        live(
            "services.notify.mail.port",
            Kind::Integer(0, 65_535),
            "587",
            "Its port.",
        ),
        live(
            "services.notify.mail.tls",
            Kind::OneOf(&["starttls", "tls", "none"]),
            "\"starttls\"",
            "How the connection is kept private.",
        ),
        live(
            "services.notify.mail.username",
            Kind::Text,
            "",
            "Login at the server; empty = none.",
        ),
        live(
            "services.notify.mail.password",
            Kind::Secret,
            "",
            "Password of that login, or { file = \"/path\" }.",
        ),
        live(
            "services.notify.mail.from",
            Kind::Text,
            "",
            "Sender, such as Longshore <gpu@lab.example>.",
        ),
        live(
            "services.notify.webhooks",
            tables::WEBHOOKS,
            "[]",
            "What is called when something happens: a list of name, url, events, secret, headers, timeout_s (10), retries (5). docs/notifications.md names the events.",
        ),
        live(
            "services.retention.sessions_days",
            Kind::Integer(0, 36_500),
            "0",
            "Sessions are removed so many days after their end, arrays with their tasks; 0 = never. What others wait for stays.",
        ),
        live(
            "services.retention.usage_days",
            Kind::Integer(0, 36_500),
            "0",
            "Usage is removed so many days after its end, whether its session is there or not; 0 = never.",
        ),
        live(
            "services.retention.events_days",
            Kind::Integer(0, 36_500),
            "90",
            "The histories of sessions are removed so many days after their end; 0 = with the session.",
        ),
        live(
            "services.retention.logs_days",
            Kind::Integer(0, 36_500),
            "30",
            "The last output that the coordinator keeps of each session is removed so many days after its end; 0 = with the session. What nodes keep goes by agent.logs.retention_days.",
        ),
        live(
            "services.retention.audit_days",
            Kind::Integer(0, 36_500),
            "0",
            "The audit log is cut off behind so many days, logins with the rest; 0 = never.",
        ),
        live(
            "services.backup.enabled",
            Kind::Bool,
            "true",
            "The coordinator copies its database, as longshore-coordinator backup does. Where it cannot, /readyz says so, and administrators are told.",
        ),
        reload(
            "services.backup.dir",
            Kind::Text,
            "\"/var/backups/longshore\"",
            "Where copies lie; it is made, for nobody else's eyes. Installations may share it.",
        ),
        live(
            "services.backup.interval_s",
            Kind::Duration(60, 2_592_000),
            "3600",
            "From one copy to the next.",
        ),
        live(
            "services.backup.keep",
            Kind::Integer(1, 100_000),
            "48",
            "So many copies are kept; an older one goes after a new one was made.",
        ),
        reload(
            "services.metrics.enabled",
            Kind::Bool,
            "true",
            "There are metrics for Prometheus: GET /metrics. docs/metrics.md names them.",
        ),
        reload(
            "services.metrics.session_info",
            Kind::Bool,
            "true",
            "Which sessions hold which GPUs is among them, with the names of their owners and projects.",
        ),
        reload(
            "services.metrics.allow",
            TEXTS,
            "[]",
            "Addresses and networks (10.0.0.0/24) that are answered at daemon.listen.metrics, besides this machine.",
        ),
        live(
            "logging.level",
            Kind::Text,
            "\"info\"",
            "error, warn, info, debug, trace, or filters per module. LONGSHORE_LOG wins over it.",
        ),
        live(
            "logging.levels",
            Kind::MapOf(&Kind::OneOf(LEVELS)),
            "{}",
            "Levels by module, over logging.level: { longshore_core = \"debug\" }. The lines of requests are the module access.",
        ),
        live(
            "logging.access_log",
            Kind::Bool,
            "true",
            "A line for each request, at info: its id, method, path without the query, status, milliseconds, and who asked.",
        ),
        live(
            "logging.audit_head_interval_s",
            Kind::Duration(60, 604_800),
            "3600",
            "So often the end of the audit log is logged: whoever keeps the log can tell when records were cut off.",
        ),
        reload(
            "logging.format",
            Kind::OneOf(FORMS),
            "\"auto\"",
            "json: one object a line. auto: json into a file, text to standard error and to the journal.",
        ),
        reload(
            "logging.target",
            Kind::OneOf(TARGETS),
            "\"stderr\"",
            "Where lines go; journal: that of systemd, by its own socket. What cannot be written there goes to standard error.",
        ),
        reload(
            "logging.file.path",
            Kind::Path,
            "\"/var/log/longshore/coordinator.log\"",
            "The file of the target file; its directory is made. Turned files lie beside it, with .1 (the newest) and so on. Reading the configuration again opens it again.",
        ),
        reload(
            "logging.file.max_size",
            Kind::Size(64 << 10, 1 << 40),
            "\"100M\"",
            "The line that would go beyond it begins another file.",
        ),
        reload(
            "logging.file.keep",
            Kind::Integer(0, 1000),
            "10",
            "So many turned files are kept.",
        ),
    ],
};

/// All keys as a commented file.
#[must_use]
pub fn reference() -> String {
    let heading = "Configuration of the coordinator. Every key stands here with its default; take the\n\
        hash away to set it. A file daemon.toml in /etc/longshore holds the keys that begin with\n\
        daemon, without that part, and so on; this file as a whole is given with --config.";
    schema::reference(&SCHEMA, heading)
}

/// All keys as a page of the manual.
#[must_use]
pub fn manual() -> String {
    let page = Page {
        name: "longshore-coordinator.toml",
        program: "longshore-coordinator",
        version: env!("CARGO_PKG_VERSION"),
        example: ("services.sessions.extend_max", "5"),
    };
    manual::page(&SCHEMA, &page)
}

#[cfg(test)]
mod tests;
