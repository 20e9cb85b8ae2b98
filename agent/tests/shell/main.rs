//! Suites of the agent's shell: whole tasks cut at everything that is written or done, and agents against a coordinator on loopback.

// All of this is test code, also where it is not in a #[test] itself.
#![allow(clippy::expect_used)]

mod admission;
mod coordinator;
mod cut;
mod enrolment;
mod fencing;
mod formats;
mod hand_back;
mod journal_cuts;
mod link;
mod pki;
mod program;
mod support;
mod switch_over;
mod task;
