//! What the suites share: the lab of real hosts, wavegate on it, the demo, and what is measured.

pub mod bench;
pub mod demo;
pub mod deploy;
pub mod elf;
pub mod etcd;
pub mod evidence;
pub mod in_process;
pub mod lab;
pub mod members;
pub mod sim;
pub mod storm;
pub mod swarm;
pub mod writer;
