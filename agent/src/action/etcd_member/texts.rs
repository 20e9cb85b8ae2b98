//! What people are told of a cluster, in one place.

use wavegate_common::etcd::{ClusterView, EtcdVersion, MemberId, MemberView, Unfit};

/// What the rest of a cluster is without one member.
#[must_use]
pub fn the_others(view: &ClusterView, me: MemberId) -> String {
    let others: Vec<String> =
        view.members.iter().filter(|member| member.id != me).map(MemberView::called).collect();
    match others.len() {
        0 => "it has no other member".to_owned(),
        _ if others.len() * 2 > view.members.len() => {
            format!("{} keep the quorum without it", others.join(", "))
        }
        _ => format!("without it there is no quorum, {} alone can't decide anything", others.join(", ")),
    }
}

/// What speaks against working on the cluster, as the member of this node sees it.
#[must_use]
pub fn seen_from_here(view: &ClusterView, me: MemberId, unfit: &[Unfit]) -> Vec<String> {
    let mut others = view.members.iter().filter(|member| member.id != me);
    let alone = view.members.len() > 2 && others.all(|member| member.status().is_none());
    let first = alone.then(|| {
        "none of the other members is reached from this node, so that its own network, or how it asks them ([etcd] of its \
         agent.toml), is the likelier cause"
            .to_owned()
    });
    first.into_iter().chain(unfit.iter().map(ToString::to_string)).collect()
}

/// Whether a cluster can still go back to what it ran.
#[must_use]
pub fn way_back(view: &ClusterView, to: EtcdVersion) -> String {
    let older =
        |member: &&MemberView| member.status().is_some_and(|status| status.version.line() < to.line());
    let still: Vec<String> = view.members.iter().filter(older).map(MemberView::called).collect();
    if still.is_empty() {
        return format!(
            "every member runs {}.{}: the cluster can't go back but from a backup",
            to.major, to.minor
        );
    }
    format!(
        "as long as {} runs an older version the cluster can go back: install that on the others again",
        still.join(", ")
    )
}

/// A cluster in a line: what it speaks, and what each member runs.
#[must_use]
pub fn in_a_line(view: &ClusterView) -> String {
    let leader = view.leader();
    let member = |member: &MemberView| {
        let version = member.status().map_or_else(|| "down".to_owned(), |status| status.version.to_string());
        let leads = if Some(member.id) == leader { " leads" } else { "" };
        format!("{} {version}{leads}", member.called())
    };
    let members: Vec<String> = view.members.iter().map(member).collect();
    let speaks = view
        .version
        .map_or_else(String::new, |version| format!(" speaks {}.{}", version.major, version.minor));
    let index = view.members.iter().filter_map(|member| Some(member.status()?.index)).max().unwrap_or(0);
    format!("cluster {}{speaks}: {}; raft index {index}", view.id, members.join(", "))
}
