//! Clusters of real etcd on loopback: processes of the programs that Debian's suites have, without hosts around them. For what
//! needs no service manager; the lab has hosts.

mod authority;
mod cluster;
mod process;
mod programs;

pub use authority::Authority;
pub use cluster::{Cluster, Layout};
pub use process::Server;
pub use programs::{LINES, Programs};
