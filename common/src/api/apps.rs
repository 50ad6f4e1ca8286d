//! Apps: ports of a session that its people may reach.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A port that is to be reachable in a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPort {
    /// How it is called, once in a session; `terminal` and `ssh` are built in.
    #[schema(max_length = 32, pattern = "^[a-z0-9][a-z0-9._-]{0,31}$")]
    pub name: String,
    /// `tcp` (default) or `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 16)]
    pub protocol: Option<String>,
    /// Inside the container; once in a session.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: i64,
    /// Starts it at its first use when nothing listens there; `{port}` stands for the port.
    /// Absent: `jupyter`, `jupyterlab`, `code` and `tensorboard` have one of their own, others
    /// are started by the session. At most 4 KiB in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub command: Vec<String>,
}

/// An app of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionApp {
    /// Its name; `terminal` and `ssh` are built in.
    pub name: String,
    /// `http` or `tcp`.
    pub protocol: String,
    /// Inside the container; absent for what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Starts it at its first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Whether its container runs, so that it can be tried.
    pub ready: bool,
    /// Opens it in a browser that is logged in, where the coordinator shows apps to browsers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The apps of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionApps {
    /// Declared ones in the order of the request, then what is built in.
    pub items: Vec<SessionApp>,
}

/// How an app is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppAccess {
    /// Where: a WebSocket that carries one connection to it.
    pub url: String,
    /// By way of whom: `coordinator`.
    pub via: String,
    /// `http` or `tcp`.
    pub protocol: String,
    /// Inside the container; absent for what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Opens it in any browser: good once, for 30 seconds. Only for HTTP, where the coordinator
    /// shows apps to browsers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<String>,
}
