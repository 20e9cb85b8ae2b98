//! Suites of the agent's shell: a whole task cut at every record, and agents against a coordinator on loopback.

mod coordinator;
mod cut;
mod enrolment;
mod link;
mod pki;
mod support;
