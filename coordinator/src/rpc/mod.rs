//! The services that agents and operators call. Wire types stop here: what is done is `engine`'s.

mod agent;
pub mod auth;
mod budget;
mod code;
mod editions;
mod enrolment;
pub mod handshakes;
pub mod listen;
mod operator;
pub mod peer;
pub mod places;
pub mod serve;
pub mod services;
pub mod session;
pub mod socket;
mod watch;
