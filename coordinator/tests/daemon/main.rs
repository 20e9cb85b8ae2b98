//! The coordinator as a whole, in this process: real store, real gRPC with mutual TLS on loopback, scripted agents.
// A test's support may fail the test.
#![allow(clippy::expect_used)]

mod approvals;
mod clock;
mod doors;
mod etcd;
mod fencing;
#[path = "../../benches/fleet/mod.rs"]
mod fleet;
mod inventory;
mod large;
mod nodes;
mod operators;
mod plans;
mod pressure;
mod reports;
mod restarts;
mod returning;
mod rollouts;
mod room;
mod service;
mod sessions;
mod skew;
mod slow_disk;
mod support;
mod tokens;
mod trouble;
mod turns;
mod verbs;
mod waivers;
