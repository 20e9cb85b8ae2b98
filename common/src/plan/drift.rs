//! Whether a node is still as the plan saw it: a plan is right for the fleet that it was made from, and for no other.

use super::{PlannedEtcd, PlannedNode};
use crate::etcd::{ClusterId, EtcdFacts, MemberId};
use crate::facts::{Component, Facts};
use crate::platform::Platform;
use std::collections::BTreeSet;
use std::fmt;

/// Something about a node that is no longer as the plan saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What, e.g. `roles` or `felix`.
    pub what: &'static str,
    /// What the plan saw.
    pub planned: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.what, self.planned, self.found)
    }
}

/// What is otherwise than planned: operating system, roles, the member and cluster of etcd, and, where `versions` asks for them, installed versions. The
/// wavegate that works on a node changes its versions itself; then they are no reason to wonder.
#[must_use]
pub fn differences(planned: &PlannedNode, facts: &Facts, versions: bool) -> Vec<Difference> {
    let differ = |what, planned: String, found: String| {
        (planned != found).then_some(Difference { what, planned, found })
    };
    let roles = |roles: &BTreeSet<_>| {
        let words: Vec<String> = roles.iter().map(ToString::to_string).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let mut all = Vec::new();
    all.extend(etcd(planned.etcd.as_ref(), facts.etcd.as_ref()));
    all.extend(differ("platform", platform(&planned.platform), platform(&facts.platform)));
    all.extend(differ("roles", roles(&planned.roles), roles(&facts.roles)));
    if versions {
        all.extend(Component::ALL.iter().filter_map(|component| {
            let version =
                |known: Option<&String>| known.cloned().unwrap_or_else(|| "not installed".to_owned());
            let (planned, found) = (planned.versions.get(component), facts.versions.get(component));
            differ(component.as_str(), version(planned), version(found))
        }));
    }
    all
}

/// Another cluster or member than the planned one. An etcd that could not be asked is not another one.
fn etcd(planned: Option<&PlannedEtcd>, facts: Option<&EtcdFacts>) -> Option<Difference> {
    let (planned, facts) = (planned?, facts?);
    let cluster = facts.cluster_id.unwrap_or(planned.cluster);
    let member = facts.member.or(planned.member);
    let same = cluster == planned.cluster && (planned.member.is_none() || member == planned.member);
    let named = |member: Option<MemberId>, cluster: ClusterId| match member {
        Some(member) => format!("member {member} of cluster {cluster}"),
        None => format!("cluster {cluster}"),
    };
    let (planned, found) = (named(planned.member, planned.cluster), named(member, cluster));
    (!same).then_some(Difference { what: "etcd", planned, found })
}

/// What decides which steps a node has; how the operating system calls itself does not.
fn platform(platform: &Platform) -> String {
    let Platform { family, id, version_id, package_manager, service_manager, .. } = platform;
    format!("{id} {version_id} ({family}, {package_manager}, {service_manager})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::Part;
    use crate::facts::DhcpAgent;
    use crate::id::{NodeId, Timestamp};
    use crate::platform::{OsFamily, PackageManager, Role, ServiceManager};

    fn debian(version_id: &str) -> Platform {
        Platform {
            family: OsFamily::Debian,
            id: "debian".into(),
            version_id: version_id.into(),
            pretty_name: format!("Debian {version_id}"),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        }
    }

    fn facts(version_id: &str, roles: &[Role], felix: Option<&str>) -> Facts {
        Facts {
            node: NodeId::new("n").expect("a node"),
            observed_at: Timestamp(7),
            hostname: "n".into(),
            kernel: "6.1".into(),
            boot_id: "b".into(),
            platform: debian(version_id),
            roles: roles.iter().copied().collect(),
            versions: felix.map(|version| (Component::Felix, version.to_owned())).into_iter().collect(),
            release: None,
            dhcp_agent: DhcpAgent::None,
            etcd: None,
            agent_version: "1".into(),
        }
    }

    fn told(facts: &Facts, versions: bool) -> String {
        let planned = PlannedNode {
            roles: [Role::Compute].into(),
            platform: debian("12"),
            release: None,
            versions: [(Component::Felix, "1.4.0".to_owned())].into(),
            etcd: None,
            observed_at: Timestamp(1),
        };
        let all = differences(&planned, facts, versions);
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn only_what_matters_is_a_difference() {
        assert_eq!(told(&facts("12", &[Role::Compute], Some("1.4.0")), true), "");
        assert_eq!(told(&facts("12", &[Role::Compute], Some("1.4.1")), false), "");
        insta::assert_snapshot!(told(&facts("12", &[Role::Compute], Some("1.4.1")), true), @"felix 1.4.0 -> 1.4.1");
        insta::assert_snapshot!(told(&facts("13", &[Role::Compute, Role::Control], None), true), @"platform debian 12 (debian, apt, systemd) -> debian 13 (debian, apt, systemd); roles compute -> compute, control; felix 1.4.0 -> not installed");
        insta::assert_snapshot!(told(&facts("12", &[], Some("1.4.0")), false), @"roles compute -> none");
    }

    #[test]
    fn another_member_or_cluster_of_etcd_is_a_difference_and_an_unreachable_one_is_none() {
        let (part, cluster) = (Part::Member, ClusterId(0xbbb));
        let told = |planned: Option<MemberId>, cluster_id: Option<u64>, member: Option<u64>| {
            let planned = PlannedEtcd { part, cluster, member: planned };
            let found = EtcdFacts {
                cluster_id: cluster_id.map(ClusterId),
                member: member.map(MemberId),
                ..EtcdFacts::of(part)
            };
            etcd(Some(&planned), Some(&found)).map(|difference| difference.to_string()).unwrap_or_default()
        };
        let member = Some(MemberId(0xaaa));
        assert_eq!(told(member, Some(0xbbb), Some(0xaaa)), "");
        assert_eq!(told(member, None, None), "");
        assert_eq!(told(None, Some(0xbbb), Some(0xaaa)), "");
        insta::assert_snapshot!(told(member, Some(0xddd), Some(0xccc)), @"etcd member aaa of cluster bbb -> member ccc of cluster ddd");
        insta::assert_snapshot!(told(member, Some(0xbbb), Some(0xccc)), @"etcd member aaa of cluster bbb -> member ccc of cluster bbb");
        insta::assert_snapshot!(told(None, Some(0xddd), None), @"etcd cluster bbb -> cluster ddd");
    }
}
