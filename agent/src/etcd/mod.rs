//! etcd as this node has it: how it is run here, where Calico's software asks one, who asks, and what a whole cluster looks
//! like when its members are asked one by one. One server is asked through `host::etcd`; nothing here decides or changes.

mod access;
mod calico;
mod given;
mod here;
pub mod reach;
pub mod v2;
mod view;

pub use access::EtcdSettings;
pub use calico::{Asked, calico};
pub use here::{Here, configured, here, of_every_process, of_service};
pub use view::{member, view};
