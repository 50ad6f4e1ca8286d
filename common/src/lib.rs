//! What all Longshore programs must agree on: ids, exact amounts, session and
//! agent data, the device allocator, the wire protocol and the JSON shapes of
//! the API.
//!
//! Nothing here opens a socket, reads a clock, draws a random number or looks at
//! the environment: values go in, values come out.

/// Secrets must not reach a log by way of `{:?}`.
macro_rules! closed {
    ($($shape:ident)*) => { $(
        impl std::fmt::Debug for $shape {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($shape)).finish_non_exhaustive()
            }
        }
    )* };
}

pub mod admin;
pub mod agent;
pub mod amount;
pub mod announcements;
pub mod api;
pub mod audit;
pub mod devices;
pub mod ids;
pub mod judge;
pub mod limits;
pub mod logins;
pub mod metrics;
pub mod network;
pub mod notify;
pub mod redact;
pub mod session;
pub mod settings;
pub mod time;
pub mod wire;
