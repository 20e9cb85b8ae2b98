//! Rollouts of the production `Rollout`, on nodes with the production `Journal`; only the world between them is made up.

#![allow(clippy::expect_used)] // the way a test fails

mod invariants;
mod members;
mod read;
mod recount;
mod scenarios;
mod waivers;
mod waves;
mod world;
