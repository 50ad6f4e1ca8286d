//! The work keys: what a vault can set, and what files, variables and requests set beside it.
//!
//! | module | decides about |
//! |---|---|
//! | `keys` | which keys there are, of which type, and which no vault can set |
//! | `environment` | names and values of variables of sessions |
//! | `files` | files that sessions get |
//! | `check` | whether a text can be a vault |
//! | `few` | how much of what is found is told |
//! | `mask` | what is hidden where values are shown |
//! | `layers` | who wins, and what is told about it |
//! | `flat` | a document as it is kept and sent |
//! | `delivery` | what a container gets of the outcome |

mod check;
pub mod delivery;
pub mod environment;
mod few;
pub mod files;
pub mod flat;
pub mod keys;
pub mod layers;
pub mod mask;

#[cfg(test)]
mod tests;

pub use few::MAX_TOLD;

pub use check::{Checked, Code, Finding, asked, changed, check, findings, parse};
