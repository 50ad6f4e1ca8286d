//! A stand-in for NVIDIA's management library, so that the agent can be tested without a GPU.
//!
//! It exports the C interface of `libnvidia-ml.so.1` and answers from a scenario file, which may be
//! replaced while a program runs:
//!
//! - `scenario`: what such a file may say; knows nothing of C.
//! - `state`: the scenario in force, handles, event sets, faults to act out; knows nothing of C.
//! - `layout`: the C structures. They are written here by hand and taken from no binding, so that
//!   the Rust and the Python client each check them.
//! - `exports`: the C functions, the only place that touches a caller's memory.
//!
//! `README.md` says how to point a program at it.

mod exports;
mod layout;
mod scenario;
mod state;
