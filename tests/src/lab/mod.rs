//! The lab: a fleet of real hosts on one machine. `Lab` is what is prepared once, `Fleet` what is booted.

mod artifact;
mod command;
mod configure;
mod fleet;
mod interrupt;
mod manifest;
mod mounts;
mod network;
mod node;
mod prepare;
mod process;
mod progress;
mod repository;
mod requirements;
mod room;
mod spec;
mod state;
mod teardown;
pub mod wait;

pub(crate) use artifact::{Artifact, Inputs};
pub(crate) use command::run;
pub use fleet::Fleet;
pub use manifest::{Archive, Manifest, Versions};
pub use node::{Dnsmasq, Node, Process, UnitState};
pub use prepare::Lab;
pub(crate) use prepare::{directory, lock, sources};
pub use process::ProcessId;
pub use requirements::{require, requirements};
pub use spec::{Family, FleetSpec, Front, NodeSpec, Role, System};
pub use state::FleetState;
pub use wait::wait_until;
