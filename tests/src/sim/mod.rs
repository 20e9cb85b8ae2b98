//! A simulator of whole fleets: the production engine and store, the production agents with their runner and journal, and the
//! production conversions between them and the wire, on one thread, in a time of its own and with everything that can go
//! wrong decided by one seed. Only the world between is made up: the network, the disks, the machines, the operators.
//!
//! `world` is what happens next; `coordinator`, `node`, `network`, `faults` and `operators` are what each part does then;
//! `check` judges from the outside. The same seed does the same to the last byte: `trace` has a digest of all of it.

pub mod chance;
pub mod check;
pub mod coordinator;
pub mod cuts;
pub mod disk;
pub mod faults;
pub mod fleet;
pub mod forged;
pub mod looks;
pub mod network;
pub mod node;
pub mod operators;
pub mod plants;
pub mod report;
pub mod scheduler;
pub mod session;
pub mod settings;
pub mod site;
pub mod trace;
pub mod world;

pub use report::Figures;
pub use settings::{Plant, Settings};
pub use site::Site;
pub use world::{Failure, Outcome, run};
