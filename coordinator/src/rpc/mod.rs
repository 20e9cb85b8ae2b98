//! The services that agents and operators call. Wire types stop here: what is done is `engine`'s.

mod agent;
pub mod auth;
mod code;
mod editions;
mod enrolment;
pub mod listen;
mod operator;
pub mod peer;
pub mod services;
pub mod session;
mod watch;
