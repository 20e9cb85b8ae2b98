//! What the suites share: the lab of real hosts.

pub mod lab;
