//! `make bench`: what is measured, against which target, and the one table that says so. Who measures is beside this:
//! a swarm of agents in one process, and the lab.

mod row;
mod table;

pub use row::{Limit, Row, Value};
pub use table::{all_met, table};
