//! Fixtures, load and measurement shared by the end-to-end tests.

pub mod fixture;
pub mod hostile;
pub mod load;
