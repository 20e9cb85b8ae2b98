//! What operators are shown of a rollout and of the fleet.

pub mod brief;
pub mod history;
pub mod nodes;
pub mod plan;
pub mod tokens;
pub mod view;
