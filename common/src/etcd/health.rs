//! Whether a cluster can do without one of its members for a while: every other one healthy and caught up, none in alarm.
//!
//! A healthy answer alone is not enough: a member that came back a moment ago answers before it has caught up
//! (etcd issue 6019), so raft indexes are compared.

use super::{Alarm, ClusterView, MemberId, MemberView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Something that speaks against taking a member down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// The member that is not well, as people call it; `None` for the cluster as a whole.
    pub member: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{member}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// What speaks against working on the cluster: members that are [`unwell`], and alarms. `but` is the member that is to be worked
/// on, and is not judged itself. Empty if nothing does.
#[must_use]
pub fn unfit(view: &ClusterView, but: Option<MemberId>, max_lag: u64) -> Vec<Unfit> {
    let alarm = |alarm: &Alarm| Unfit {
        member: None,
        why: format!("alarm {} of {} is in force", alarm.kind, called(view, alarm.member)),
    };
    let mut all = unwell(view, but, max_lag);
    all.extend(view.alarms.iter().map(alarm));
    all
}

/// Members that don't answer, are not healthy, have errors or are more than `max_lag` entries behind the one that is furthest; and
/// whether they name different leaders. `but` is not judged itself.
#[must_use]
pub fn unwell(view: &ClusterView, but: Option<MemberId>, max_lag: u64) -> Vec<Unfit> {
    let furthest = view.members.iter().filter_map(|member| Some(member.status()?.index)).max().unwrap_or(0);
    let others = || view.members.iter().filter(|member| Some(member.id) != but);
    let mut all: Vec<Unfit> = others().filter_map(|member| of_member(member, furthest, max_lag)).collect();
    let leaders: BTreeSet<MemberId> = others().filter_map(|member| member.status()?.leader).collect();
    if leaders.len() > 1 {
        let named: Vec<String> = leaders.iter().map(|id| called(view, *id)).collect();
        all.push(Unfit {
            member: None,
            why: format!("members name different leaders: {}", named.join(", ")),
        });
    }
    all
}

fn of_member(member: &MemberView, furthest: u64, max_lag: u64) -> Option<Unfit> {
    let unfit = |why: String| Some(Unfit { member: Some(member.called()), why });
    let status = match &member.state {
        super::MemberState::Down { why } => return unfit(format!("does not answer: {why}")),
        super::MemberState::Up(status) => status,
    };
    if !status.errors.is_empty() {
        return unfit(format!("reports {}", status.errors.join(", ")));
    }
    if status.leader.is_none() {
        return unfit("knows no leader".to_owned());
    }
    if !status.healthy {
        return unfit("says that it is not healthy".to_owned());
    }
    if member.learner {
        return unfit(
            "is a learner, without a vote; membership must not change during an upgrade".to_owned(),
        );
    }
    let behind = furthest.saturating_sub(status.applied.unwrap_or(status.index).min(status.index));
    if behind > max_lag {
        return unfit(format!("is {behind} entries behind, at most {max_lag} may be"));
    }
    None
}

fn called(view: &ClusterView, id: MemberId) -> String {
    view.member(id).map_or_else(|| format!("member {id}"), MemberView::called)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::sample::{self, cluster};
    use crate::etcd::{MemberState, MemberStatus};

    fn with(change: impl FnOnce(&mut ClusterView)) -> String {
        let mut view = cluster(3);
        change(&mut view);
        unfit(&view, Some(MemberId(1)), 100).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    fn status(view: &mut ClusterView, at: usize) -> &mut MemberStatus {
        sample::status(&mut view.members[at])
    }

    #[test]
    fn whatever_is_wrong_with_another_member_speaks_against_it() {
        assert_eq!(with(|_| ()), "");
        assert_eq!(with(|view| view.members[0].state = MemberState::Down { why: "refused".into() }), "");
        let down = MemberState::Down { why: "connection refused".into() };
        insta::assert_snapshot!(with(|view| view.members[2].state = down), @"m3: does not answer: connection refused");
        insta::assert_snapshot!(with(|view| status(view, 1).healthy = false), @"m2: says that it is not healthy");
        insta::assert_snapshot!(with(|view| status(view, 1).leader = None), @"m2: knows no leader");
        insta::assert_snapshot!(with(|view| status(view, 1).leader = Some(MemberId(3))), @"members name different leaders: m1, m3");
        insta::assert_snapshot!(with(|view| status(view, 1).index = 4899), @"m2: is 101 entries behind, at most 100 may be");
        assert_eq!(with(|view| status(view, 1).index = 4900), "");
        insta::assert_snapshot!(with(|view| status(view, 1).applied = Some(10)), @"m2: is 4990 entries behind, at most 100 may be");
        insta::assert_snapshot!(with(|view| status(view, 1).errors = vec!["no space".into()]), @"m2: reports no space");
        insta::assert_snapshot!(with(|view| view.members[1].learner = true), @"m2: is a learner, without a vote; membership must not change during an upgrade");
        let alarm = Alarm { member: MemberId(1), kind: "NOSPACE".into() };
        insta::assert_snapshot!(with(|view| view.alarms.push(alarm)), @"alarm NOSPACE of m1 is in force");
    }
}
