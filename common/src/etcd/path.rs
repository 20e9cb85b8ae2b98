//! Whether a cluster may go from the versions that its members run to another one, one member after the other. What its
//! clients make of that is judged in `clients`.

use super::{ClusterView, EtcdVersion, MemberView};
use crate::id::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Major and minor number.
pub type Line = (u32, u32);

/// The minor versions there are, in the order in which a cluster goes through them.
pub const LINES: &[Line] =
    &[(2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (3, 6), (3, 7)];

/// Where the page on a step demands a patch version first: below it the step is not taken.
const PATCH_FIRST: &[(EtcdVersion, Rule)] = &[
    (EtcdVersion::new(2, 0, 3), Rule::FirstTo203),
    (EtcdVersion::new(3, 5, 32), Rule::FirstTo3532),
    (EtcdVersion::new(3, 6, 11), Rule::FirstTo3611),
];

/// What stands between a cluster and a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One minor version at a time.
    OneMinor,
    /// Not back to an older minor version.
    NeverDown,
    /// The cluster does not yet speak the version that its members run.
    ClusterBehind,
    /// 2.0.0 to 2.0.2 panic beside a newer member.
    FirstTo203,
    /// 3.5 before 3.5.32 does not go to 3.6.
    FirstTo3532,
    /// 3.6 before 3.6.11 does not go to 3.7.
    FirstTo3611,
    /// From 3.2 on etcd panics where only version 2 data are.
    V3DataFirst,
    /// 3.6 does not start on a store with version 2 keys.
    NoV2Keys,
    /// 3.5 writes authentication otherwise than 3.4.
    AuthTo35,
    /// The version 2 API is off from 3.4 on, and gone from 3.6 on.
    V2Api,
    /// `/v3alpha` is gone from 3.4 on.
    V3Alpha,
    /// `--proxy` is gone from 3.6 on.
    ProxyGone,
    /// `--enable-v2` is gone from 3.6 on.
    EnableV2,
    /// Port 4001 is no default any more from 3.0 on.
    Port4001,
}

impl Rule {
    /// Every rule.
    pub const ALL: &'static [Self] = &[
        Self::OneMinor,
        Self::NeverDown,
        Self::ClusterBehind,
        Self::FirstTo203,
        Self::FirstTo3532,
        Self::FirstTo3611,
        Self::V3DataFirst,
        Self::NoV2Keys,
        Self::AuthTo35,
        Self::V2Api,
        Self::V3Alpha,
        Self::ProxyGone,
        Self::EnableV2,
        Self::Port4001,
    ];

    /// Where it is written: a page of etcd's documentation (`content/en/docs` of its website), an issue, a change log, or
    /// etcd's or Calico's code.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::OneMinor => "v3.6/upgrades/upgrading-etcd",
            Self::NeverDown => "v3.6/upgrades/upgrade_3_4, Downgrade",
            Self::ClusterBehind => "v3.6/upgrades/upgrade_3_4, Mixed versions",
            Self::FirstTo203 => "v2.3/upgrade_2_1, Limitations",
            Self::FirstTo3532 => "v3.6/upgrades/upgrade_3_6, Update 3.5 (August 2026)",
            Self::FirstTo3611 => "v3.7/upgrades/upgrade_3_7, Update 3.6",
            Self::V3DataFirst => "etcd#9480",
            Self::NoV2Keys => "v3.6/upgrades/upgrade_3_6, V2 Store",
            Self::AuthTo35 => "v3.6/upgrades/upgrade_3_5; etcd#11943",
            Self::V2Api => "v3.6/upgrades/upgrade_3_4, enable-v2",
            Self::V3Alpha => "etcd's embed/serve.go; calico#7147",
            Self::ProxyGone => "CHANGELOG-3.6",
            Self::EnableV2 => "v3.6/upgrades/upgrade_3_6, V2 Store, enable-v2",
            Self::Port4001 => "etcdmain/config.go of 2.3.8 and 3.0.17",
        }
    }
}

/// Why a cluster may not go to a version as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The rule.
    pub rule: Rule,
    /// The nodes it is about, as far as it is about nodes; members are named in `what`.
    pub nodes: BTreeSet<NodeId>,
    /// What is in the way.
    pub what: String,
    /// What to do first.
    pub next: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.next)
    }
}

/// The minor version after this one; `None` before 2.0, which nobody rolls.
#[must_use]
pub fn next_line(line: Line) -> Option<Line> {
    match line {
        (0 | 1, _) => None,
        (2, 3) => Some((3, 0)),
        (major, minor) => Some((major, minor.checked_add(1)?)),
    }
}

/// What speaks against taking the members of this cluster to version `to`, one after the other. Members that run different
/// minor versions already may go on to the higher one. Of members that don't answer nothing is said here.
#[must_use]
pub fn judge(cluster: &ClusterView, to: EtcdVersion) -> Vec<Objection> {
    let running: Vec<(&MemberView, EtcdVersion)> =
        cluster.members.iter().filter_map(|member| Some((member, member.status()?.version))).collect();
    let mut all = steps(&running, to);
    if all.is_empty() {
        all.extend(cluster_behind(cluster, &running, to));
    }
    all.extend(PATCH_FIRST.iter().filter_map(|(first, rule)| patch_first(&running, to, *first, *rule)));
    let passes = |line: Line| to.line() >= line && running.iter().any(|(_, from)| from.line() < line);
    if passes((3, 2)) && cluster.v3_keys == Some(0) {
        all.push(v3_data_first(to));
    }
    if passes((3, 6)) && cluster.v2_keys == Some(true) {
        all.push(no_v2_keys(to));
    }
    if passes((3, 5)) {
        match cluster.auth {
            Some(true) => all.push(auth_to_35(to)),
            None => all.push(auth_unknown(to)),
            Some(false) => {}
        }
    }
    all
}

fn objection(rule: Rule, what: String, next: String) -> Objection {
    Objection { rule, nodes: BTreeSet::new(), what, next }
}

/// The same minor version or the next one, for every member.
fn steps(running: &[(&MemberView, EtcdVersion)], to: EtcdVersion) -> Vec<Objection> {
    let mut lines: BTreeMap<Line, Vec<&(&MemberView, EtcdVersion)>> = BTreeMap::new();
    for member in running {
        lines.entry(member.1.line()).or_default().push(member);
    }
    let wrong =
        lines.into_iter().filter(|(line, _)| *line != to.line() && next_line(*line) != Some(to.line()));
    wrong.map(|(line, members)| step(line, &told(members), to)).collect()
}

fn step(from: Line, members: &str, to: EtcdVersion) -> Objection {
    if from > to.line() {
        let what = format!("{members}, and {to} is older: etcd does not go back to an older minor version");
        let next = format!(
            "take a version of {} or a later one; as long as some members run the older version, the others can be taken back \
             to it by hand, and once all run the newer one only a backup brings the older one back",
            text(from)
        );
        return objection(Rule::NeverDown, what, next);
    }
    let Some(first) = next_line(from) else {
        let what = format!("{members}: etcd before 2.0 is not upgraded to {to} member by member");
        let next = "bring the cluster to 2.0 first, as etcd's pages of its time say".to_owned();
        return objection(Rule::OneMinor, what, next);
    };
    let what = format!("{members}, and {to} is further than the next minor version");
    let between = |line: &&Line| **line > first && **line <= to.line();
    let then: Vec<String> = LINES.iter().filter(between).map(|line| text(*line)).collect();
    let then = if then.is_empty() { text(to.line()) } else { then.join(", ") };
    let next =
        format!("upgrade etcd to {} first and then to {then}, each in a rollout of its own", text(first));
    objection(Rule::OneMinor, what, next)
}

/// All members have moved on, and the cluster as a whole not yet.
fn cluster_behind(
    cluster: &ClusterView,
    running: &[(&MemberView, EtcdVersion)],
    to: EtcdVersion,
) -> Option<Objection> {
    let speaks = cluster.version?.line();
    let goes_on = running.iter().any(|(_, from)| from.line() < to.line());
    if !goes_on || speaks >= to.line() || next_line(speaks) == Some(to.line()) {
        return None;
    }
    let what = format!(
        "the cluster as a whole still speaks {}, and {to} is further than the next minor version",
        text(speaks)
    );
    let next = "see that all members run one version and that the cluster's version has followed (GET /version, \
                etcdcluster), then plan again";
    Some(objection(Rule::ClusterBehind, what, next.to_owned()))
}

fn patch_first(
    running: &[(&MemberView, EtcdVersion)],
    to: EtcdVersion,
    first: EtcdVersion,
    rule: Rule,
) -> Option<Objection> {
    let early = |from: EtcdVersion| from.line() == first.line() && from < first;
    let early: Vec<_> = running.iter().filter(|(_, from)| early(*from)).collect();
    if to.line() <= first.line() || early.is_empty() {
        return None;
    }
    let why = match rule {
        Rule::FirstTo203 => "2.0.0 to 2.0.2 may panic while members of two versions run",
        _ => "earlier ones may fail in the roll",
    };
    let what =
        format!("{}, and only {first} and later go on from {}: {why}", told(early), text(first.line()));
    let next = format!(
        "upgrade every member to {first} or a later {} first, in a rollout of its own",
        text(first.line())
    );
    Some(objection(rule, what, next))
}

fn v3_data_first(to: EtcdVersion) -> Objection {
    let what = format!(
        "the cluster holds no data of the version 3 API, and etcd from 3.2 on, as {to}, panics on such a store"
    );
    let next = "stay at 3.0 or 3.1 until Calico keeps its data in the version 3 API (Calico 3), or until they are migrated";
    objection(Rule::V3DataFirst, what, next.to_owned())
}

fn no_v2_keys(to: EtcdVersion) -> Objection {
    let what = format!("the cluster holds keys of the version 2 API, and {to} does not start on them");
    let next = "see that nothing reads them any more, back them up and delete them; then etcdutl check v2store must find nothing \
                on any member";
    objection(Rule::NoV2Keys, what, next.to_owned())
}

fn auth_to_35(to: EtcdVersion) -> Objection {
    let what = format!(
        "the cluster asks for a user and password, and 3.5 writes these otherwise than 3.4: it can't go to {to} member by member"
    );
    let next = "switch authentication off for the upgrade (etcdctl auth disable) and on again when all members run 3.5, or \
                upgrade by hand with the whole cluster down";
    objection(Rule::AuthTo35, what, next.to_owned())
}

fn auth_unknown(to: EtcdVersion) -> Objection {
    let what = format!(
        "whether the cluster asks for a user and password could not be found out, and one that does can't go from 3.4 to {to} \
         member by member"
    );
    let next = "see that each member answers its clients (etcdctl user list), then plan again, or \
                switch authentication off first (etcdctl auth disable)";
    objection(Rule::AuthTo35, what, next.to_owned())
}

/// `m1 and m2 run 3.3.25, m3 runs 3.3.27`.
fn told(members: Vec<&(&MemberView, EtcdVersion)>) -> String {
    let mut versions: BTreeMap<EtcdVersion, Vec<String>> = BTreeMap::new();
    for (member, version) in members {
        versions.entry(*version).or_default().push(member.called());
    }
    let told = versions.into_iter().map(|(version, names)| {
        let run = if names.len() == 1 { "runs" } else { "run" };
        format!("{} {run} {version}", and(&names))
    });
    told.collect::<Vec<_>>().join(", ")
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn and(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn text((major, minor): Line) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests;
