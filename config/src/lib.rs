//! Configuration texts and what is made of them: readers of JSON, YAML, TOML and HOCON that give
//! every value its place, and the merge of layers that remembers where each value came from.
//!
//! Pure but for [`sources`]: no files, environment, clocks or network; whoever calls hands in

pub mod fields;
pub mod load;
pub mod manual;
pub mod merge;
pub mod read;
pub mod schema;
pub mod show;
pub mod sources;
pub mod tree;
pub mod work;
pub mod write;
