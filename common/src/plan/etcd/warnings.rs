//! What an operator must know and say so before members of etcd are restarted.

use crate::etcd::fleet;
use crate::facts::Facts;
use crate::id::NodeId;
use crate::plan::Warning;
use crate::platform::Stage;
use std::collections::BTreeMap;

/// The data directory of a member is lost with the next reboot.
pub const DATA_IN_MEMORY: &str = "etcd-data-in-memory";
/// The cluster has no member to spare.
pub const NO_SPARE_MEMBER: &str = "etcd-no-spare-member";

pub(super) fn warnings(nodes: &BTreeMap<NodeId, Facts>) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = no_spare(nodes).into_iter().collect();
    for (node, etcd) in fleet::members(nodes) {
        let Some(kind) = etcd.data_filesystem.as_deref().filter(|kind| matches!(*kind, "tmpfs" | "ramfs"))
        else {
            continue;
        };
        let place = etcd.data_dir.as_deref().unwrap_or("its data directory");
        warnings.push(Warning {
            id: DATA_IN_MEMORY.to_owned(),
            node: Some(node.clone()),
            stage: Some(Stage::Etcd),
            what: format!("etcd's data on {node} are in memory ({place} is {kind}): a reboot or an unmount loses them"),
            next: format!(
                "keep a backup on another host (the rollout's own stays on {node}), and let nobody reboot it meanwhile; \
                 wavegate reboots nothing"
            ),
        });
    }
    warnings
}

fn no_spare(nodes: &BTreeMap<NodeId, Facts>) -> Option<Warning> {
    let voters = fleet::best_view(nodes)?.members.iter().filter(|member| !member.learner).count();
    let members = match voters {
        1 => "the etcd cluster has one member",
        2 => "the etcd cluster has two members and needs both",
        _ => return None,
    };
    Some(Warning {
        id: NO_SPARE_MEMBER.to_owned(),
        node: None,
        stage: Some(Stage::Etcd),
        what: format!(
            "{members}: each time one restarts, etcd answers nobody until it is back. Calico's Felix leaves what it has programmed \
             as it is; VMs and rules that are new wait, agents may be shown as down after 90 s, and Neutron's driver takes up \
             to 60 s to elect its master again"
        ),
        next: "do it in a window in which nobody creates or moves VMs, or bring the cluster to three members before".to_owned(),
    })
}
