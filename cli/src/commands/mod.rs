//! One file per command.

pub(crate) mod api;
pub(crate) mod attach;
pub(crate) mod context;
pub(crate) mod down;
pub(crate) mod explain;
pub(crate) mod gpus;
pub(crate) mod history;
pub(crate) mod join;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod ps;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod whoami;
