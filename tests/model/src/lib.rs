//! Model checking of the pure core: every world that a small fleet can come to, with production code on both sides.
//!
//! `shape` says which fleets, `node` and `coordinator` are the two sides, `world` is what can happen between them, `willing`
//! is the one question that is not about a single world, `run` explores. Large fleets, files and real time are other suites'.

pub mod check;
pub mod coordinator;
pub mod entry;
pub mod fleet;
pub mod invariant;
pub mod mutants;
pub mod node;
pub mod reading;
pub mod run;
pub mod shape;
pub mod shapes;
pub mod table;
pub mod willing;
pub mod world;
