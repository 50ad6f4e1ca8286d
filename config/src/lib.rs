//! Configuration texts and what is made of them: readers of JSON, YAML, TOML and HOCON that give
//! every value its place, and the merge of layers that remembers where each value came from.
//!
//! Pure: no files, environment, clocks or network; whoever calls hands in what was read.

pub mod merge;
pub mod read;
pub mod tree;
