//! What the actions need to know of the operating system: packages and services, asked in one way whatever the
//! family. The command lines are made in `debian`, `redhat`, `systemd` and `upstart`; nothing here runs without a `Host`.

pub mod debian;
pub mod locks;
pub mod os_release;
pub mod packages;
pub mod redhat;
pub mod service;
pub mod systemd;
pub mod upstart;

use wavegate_common::platform::Platform;

/// The conventions of one node's operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Os {
    /// What the node runs on.
    pub platform: Platform,
}
