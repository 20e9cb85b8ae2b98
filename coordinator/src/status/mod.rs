//! What operators are shown of a rollout and of the fleet.

pub mod nodes;
pub mod view;
