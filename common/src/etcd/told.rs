//! What is known of etcd on a node, in lines for people: the same for whoever stands at the node and for the operator.

use super::{ClusterView, EtcdFacts, MemberId, MemberState, MemberView, Part};

/// What a line is about, and what it says. Members of a cluster follow the line `cluster`, with nothing before them.
pub type Line = (&'static str, String);

/// Everything that is known of etcd on a node.
#[must_use]
pub fn lines(facts: &EtcdFacts) -> Vec<Line> {
    let mut lines = vec![("etcd", itself(facts))];
    if let Some(directory) = &facts.data_dir {
        lines.push(("data", data(directory, facts.data_filesystem.as_deref())));
    }
    if !facts.listens.is_empty() {
        lines.push(("listens at", facts.listens.join(", ")));
    }
    if let Some(served) = facts.enable_v2 {
        let whether = if served { "served" } else { "not served" };
        lines.push(("version 2", format!("its API is {whether} (enable-v2)")));
    }
    if let Some(view) = &facts.cluster {
        lines.push(("cluster", cluster(view)));
        let leader = view.leader();
        lines.extend(view.members.iter().map(|member| ("", of_member(member, leader))));
        for alarm in &view.alarms {
            let of = view.member(alarm.member).map_or_else(|| alarm.member.to_string(), MemberView::called);
            lines.push(("alarm", format!("{} of {of}", alarm.kind)));
        }
    }
    if !facts.endpoints.is_empty() {
        lines.push(("asked at", format!("{}, by Calico's software here", facts.endpoints.join(", "))));
    }
    lines.extend(facts.unknown.iter().map(|what| ("unknown", what.clone())));
    lines
}

/// Which part it plays, in a few words: `member m1, leads`, `proxy`.
#[must_use]
pub fn part(facts: &EtcdFacts) -> String {
    let Some((view, id)) = facts.cluster.as_ref().zip(facts.member) else { return facts.part.to_string() };
    let name = view.member(id).map(MemberView::called).unwrap_or_default();
    let place = match view.leader() {
        Some(leader) if leader == id => "leads",
        Some(_) => "follows",
        None => "no leader",
    };
    format!("{} {name}, {place}", facts.part).replace("member member", "member")
}

fn itself(facts: &EtcdFacts) -> String {
    if facts.part == Part::Client {
        return "none here; Calico's software asks one elsewhere".to_owned();
    }
    let mut text = part(facts);
    if let Some(version) = facts.version {
        text += &format!(", version {version}");
    }
    let of = if facts.part == Part::Member { "of" } else { "leads to" };
    match (facts.cluster_id, facts.member) {
        (Some(cluster), Some(member)) => text += &format!(", id {member}, {of} cluster {cluster}"),
        (Some(cluster), None) => text += &format!(", {of} cluster {cluster}"),
        (None, Some(member)) => text += &format!(", id {member}"),
        (None, None) => {}
    }
    text
}

/// Memory alone is no place for the only copy of something.
fn data(directory: &str, filesystem: Option<&str>) -> String {
    match filesystem {
        Some(kind @ ("tmpfs" | "ramfs")) => format!(
            "{directory}, on {kind}: in memory alone, so that a reboot or an unmount of it loses this member's data"
        ),
        Some(kind) => format!("{directory}, on {kind}"),
        None => directory.to_owned(),
    }
}

fn cluster(view: &ClusterView) -> String {
    let members = view.members.len();
    let mut parts = vec![if members == 1 { "1 member".to_owned() } else { format!("{members} members") }];
    if let Some(version) = view.version {
        parts.push(format!("speaks {}.{}", version.major, version.minor));
    }
    parts.extend(view.auth.map(|on| format!("users and passwords {}", if on { "asked for" } else { "off" })));
    parts.push(match view.v2_keys {
        Some(true) => "keys of version 2".to_owned(),
        Some(false) => "no keys of version 2".to_owned(),
        None => "no API of version 2".to_owned(),
    });
    parts.push(match view.v3_keys {
        Some(1) => "1 key of version 3".to_owned(),
        Some(count) => format!("{count} keys of version 3"),
        None => "no API of version 3".to_owned(),
    });
    parts.join(", ")
}

fn of_member(member: &MemberView, leader: Option<MemberId>) -> String {
    let called = member.called();
    let learner = if member.learner { ", a learner" } else { "" };
    match &member.state {
        MemberState::Down { why } => format!("{called}{learner}: does not answer: {why}"),
        MemberState::Up(status) => {
            let place = if leader == Some(member.id) { "leads" } else { "follows" };
            let health = if status.healthy { "healthy" } else { "not healthy" };
            let errors = if status.errors.is_empty() {
                String::new()
            } else {
                format!(", reports {}", status.errors.join(", "))
            };
            format!(
                "{called}{learner}: {}, {place}, {health}, at index {}{errors}",
                status.version, status.index
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::{Alarm, ClusterId, EtcdVersion, MemberStatus};

    fn told(facts: &EtcdFacts) -> String {
        let lines = lines(facts).into_iter().map(|(what, says)| format!("{what:<10} {says}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn member(id: u64, state: MemberState) -> MemberView {
        let (peer_urls, client_urls) = (Vec::new(), Vec::new());
        MemberView { id: MemberId(id), name: format!("m{id}"), peer_urls, client_urls, learner: false, state }
    }

    fn up(version: EtcdVersion, index: u64) -> MemberState {
        let (term, applied, leader, db_bytes) = (2, None, Some(MemberId(2)), 1);
        MemberState::Up(MemberStatus {
            version,
            term,
            index,
            applied,
            leader,
            db_bytes,
            healthy: true,
            errors: Vec::new(),
        })
    }

    #[test]
    fn a_member_and_its_cluster() {
        let version = EtcdVersion::new(3, 3, 25);
        let down = MemberState::Down { why: "connection refused (http://10.0.0.3:2379)".to_owned() };
        let view = ClusterView {
            id: ClusterId(0xcdf8),
            version: Some(EtcdVersion::new(3, 3, 0)),
            members: vec![member(1, up(version, 4999)), member(2, up(version, 5000)), member(3, down)],
            alarms: vec![Alarm { member: MemberId(1), kind: "NOSPACE".to_owned() }],
            auth: Some(false),
            v2_keys: Some(true),
            v3_keys: Some(1234),
        };
        let facts = EtcdFacts {
            version: Some(version),
            cluster_id: Some(view.id),
            member: Some(MemberId(1)),
            data_dir: Some("/var/lib/etcd".to_owned()),
            data_filesystem: Some("tmpfs".to_owned()),
            listens: vec!["http://10.0.0.1:2379".to_owned(), "http://127.0.0.1:2379".to_owned()],
            enable_v2: Some(true),
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            cluster: Some(view),
            ..EtcdFacts::of(Part::Member)
        };
        insta::assert_snapshot!(told(&facts), @r"
        etcd       member m1, follows, version 3.3.25, id 1, of cluster cdf8
        data       /var/lib/etcd, on tmpfs: in memory alone, so that a reboot or an unmount of it loses this member's data
        listens at http://10.0.0.1:2379, http://127.0.0.1:2379
        version 2  its API is served (enable-v2)
        cluster    3 members, speaks 3.3, users and passwords off, keys of version 2, 1234 keys of version 3
                   m1: 3.3.25, follows, healthy, at index 4999
                   m2: 3.3.25, leads, healthy, at index 5000
                   m3: does not answer: connection refused (http://10.0.0.3:2379)
        alarm      NOSPACE of m1
        asked at   http://127.0.0.1:2379, by Calico's software here
        ");
    }

    #[test]
    fn who_passes_requests_on_asks_or_is_not_known() {
        let proxy = EtcdFacts {
            version: Some(EtcdVersion::new(2, 3, 8)),
            cluster_id: Some(ClusterId(0xcdf8)),
            data_dir: Some("/var/lib/etcd".to_owned()),
            ..EtcdFacts::of(Part::Proxy)
        };
        insta::assert_snapshot!(told(&proxy), @r"
        etcd       proxy, version 2.3.8, leads to cluster cdf8
        data       /var/lib/etcd
        ");
        let client =
            EtcdFacts { endpoints: vec!["http://10.0.0.1:4001".to_owned()], ..EtcdFacts::of(Part::Client) };
        insta::assert_snapshot!(told(&client), @r"
        etcd       none here; Calico's software asks one elsewhere
        asked at   http://10.0.0.1:4001, by Calico's software here
        ");
        let unknown =
            vec!["its version: http://127.0.0.1:2379 does not answer: connection refused".to_owned()];
        let member = EtcdFacts {
            data_dir: Some("/srv/etcd".to_owned()),
            data_filesystem: Some("ext4".to_owned()),
            unknown,
            ..EtcdFacts::of(Part::Member)
        };
        insta::assert_snapshot!(told(&member), @r"
        etcd       member
        data       /srv/etcd, on ext4
        unknown    its version: http://127.0.0.1:2379 does not answer: connection refused
        ");
    }
}
