//! The agent: finds out what machine it is on, runs the steps of its task there, and keeps the journal of them.
//!
//! `runner` decides by the journal alone and acts through `action` and `host`; `agent` is the one loop around it.

pub mod action;
pub mod admission;
pub mod agent;
mod causes;
pub mod command_line;
pub mod config;
pub mod credentials;
pub mod enrol;
pub mod etcd;
pub mod facts;
pub mod hand_back;
pub mod host;
pub mod journal;
pub mod link;
pub mod os;
pub mod output;
mod ownership;
pub mod policy;
pub mod preview;
pub mod runner;
pub mod service_manager;
mod sha256;
pub mod show;
pub mod worker;
