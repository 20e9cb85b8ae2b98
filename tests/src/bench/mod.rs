//! `make bench`: what is measured, against which target, and the one table that says so. Who measures is beside this:
//! a swarm of agents in one process, and the lab.

mod lab;
mod median;
mod merge;
mod row;
mod table;

pub use lab::{Settings as LabSettings, run as lab};
pub use median::median;
pub use merge::{growth, merged};
pub use row::{Limit, Row, Value};
pub use table::{all_met, table};
