//! The pure core of wavegate: what a procedure, a plan, a rollout and a journal are, and how they move.
//!
//! No async, files, sockets, processes or clock live here: time and whatever was observed come in as
//! arguments, and what should happen goes out as values. The agent and the coordinator are the shells around it.

pub mod action;
pub mod etcd;
pub mod facts;
pub mod id;
pub mod ini;
pub mod inventory;
pub mod journal;
pub mod leader;
pub mod order;
pub mod outcome;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod procedure;
pub mod rollout;
pub mod spelling;
pub mod version;
pub mod waves;
