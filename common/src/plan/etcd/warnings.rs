//! What an operator must know and say so before members of etcd are restarted.

use crate::etcd::{ClusterView, EtcdVersion, fleet, leaves_v2_keys};
use crate::facts::Facts;
use crate::id::NodeId;
use crate::plan::Warning;
use crate::platform::Stage;
use std::collections::BTreeMap;

/// The data directory of a member is lost with the next reboot.
pub const DATA_IN_MEMORY: &str = "etcd-data-in-memory";
/// The cluster has no member to spare.
pub const NO_SPARE_MEMBER: &str = "etcd-no-spare-member";

/// Keys of the version 2 API are left where nothing reads them any more.
pub const V2_KEYS: &str = "etcd-version-2-keys";
/// Whether a version 2 store is empty can't be seen from outside.
pub const V2_STORE: &str = "etcd-version-2-store";

/// `to` is the version that the members go to, where that is known.
pub(super) fn warnings(nodes: &BTreeMap<NodeId, Facts>, to: Option<EtcdVersion>) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = no_spare(nodes).into_iter().collect();
    if let Some((to, view)) = to.zip(fleet::best_view(nodes)) {
        warnings.extend(v2_keys(view, to, nodes));
        warnings.extend(v2_store(view, to));
    }
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

fn v2_keys(view: &ClusterView, to: EtcdVersion, nodes: &BTreeMap<NodeId, Facts>) -> Option<Warning> {
    leaves_v2_keys(view, to, nodes).then(|| Warning {
        id: V2_KEYS.to_owned(),
        node: None,
        stage: Some(Stage::Etcd),
        what: format!(
            "the cluster holds keys of the version 2 API, which {to} does not serve unless told to. No Calico of the fleet asks for \
             them, and whether anybody else does is not seen from here"
        ),
        next: "see that nothing reads them any more and delete them (before 3.6 they must be gone), or set ETCD_ENABLE_V2=true for \
               every member first"
            .to_owned(),
    })
}

/// From 3.4 on the API is off by default; what it has written before is still in the store.
fn v2_store(view: &ClusterView, to: EtcdVersion) -> Option<Warning> {
    let older =
        view.members.iter().any(|member| member.status().is_some_and(|it| it.version.line() < (3, 6)));
    (older && to.line() >= (3, 6) && view.v2_keys.is_none()).then(|| Warning {
        id: V2_STORE.to_owned(),
        node: None,
        stage: Some(Stage::Etcd),
        what: format!(
            "whether keys of the version 2 API are left in the members' stores is not seen from here, since that API is off: {to} \
             does not start on them"
        ),
        next: "run etcdutl check v2store on every member: it must find no custom data. A cluster that never served that API has none"
            .to_owned(),
    })
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
