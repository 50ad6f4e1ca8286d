//! Who may do what: decided with values, no I/O.
//!
//! Two questions, asked one after the other:
//!
//! 1. [`decide`]: does the operation table let this caller do this at all? One row per
//!    operation, one column per kind of caller; what no cell allows is refused.
//! 2. [`RuleBook::effective`]: where the table says *rules*, which level do roles, ownership
//!    and access rules give on this object? Its level goes into the [`Target`] of the first.
//!
//! Nothing here knows routes, the store or the state: who calls draws up a [`Caller`] and a
//! [`Target`] or [`Object`]. Both default to what gives the least.

mod caller;
mod decide;
pub mod operation;
pub mod rules;

pub use caller::{
    AccountFacts, BuiltinGroups, Caller, Membership, Role, Subject, SubjectSet, UserFacts, Who,
};
pub use decide::{
    Decision, Grant, Intent, Target, View, Why, at_the_door, decide, missing, rights,
};
pub use operation::{Case, Column, Effect, Operation, Reach};
pub use rules::{
    Effective, Impact, Lack, Level, Object, Reason, Resource, Rule, RuleBook, RuleLevel, Sight,
    Source, Via,
};
