//! The coordinator: holds the barrier between the stages, keeps the event log, serves agents and operators.
//! The `wavegate` command line lives here too; it uses the operator service alone.

pub mod by_hand;
pub mod cli;
pub mod clock;
pub mod command_line;
pub mod config;
pub mod daemon;
pub mod engine;
mod files;
pub mod init;
pub mod open_files;
pub mod owner;
pub mod pki;
pub mod rpc;
mod skew;
pub mod status;
pub mod store;
pub mod token;
pub mod watchdog;
