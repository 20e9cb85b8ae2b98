//! Tests of the way of a cluster from version to version: each rule at its edge, and what holds of all versions.

use super::*;
use crate::etcd::{MemberState, sample};
use proptest::prelude::*;

fn version(text: &str) -> EtcdVersion {
    text.parse().expect("a version")
}

/// A cluster of members m1, m2, ... that run these versions; it speaks the lowest, and holds version 3 keys alone.
fn cluster(versions: &[EtcdVersion]) -> ClusterView {
    let mut cluster = sample::cluster(versions.len() as u64);
    for (member, version) in cluster.members.iter_mut().zip(versions) {
        sample::status(member).version = *version;
    }
    let lowest = versions.iter().map(|version| version.line()).min();
    ClusterView { version: lowest.map(|(major, minor)| EtcdVersion::new(major, minor, 0)), ..cluster }
}

fn running(versions: &str) -> ClusterView {
    cluster(&versions.split(' ').map(version).collect::<Vec<_>>())
}

fn rules(cluster: &ClusterView, to: EtcdVersion) -> Vec<Rule> {
    judge(cluster, to).into_iter().map(|objection| objection.rule).collect()
}

fn against(cluster: &ClusterView, to: &str) -> String {
    judge(cluster, version(to)).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_or_the_next_minor_version_for_every_member() {
    for (from, to) in [
        ("2.0.11", "2.1.3"),
        ("2.1.3", "2.2.5"),
        ("2.2.5", "2.3.8"),
        ("2.3.8", "3.0.17"),
        ("3.0.17", "3.1.20"),
        ("3.1.20", "3.2.32"),
        ("3.2.32", "3.3.25"),
        ("3.3.25 3.3.25 3.3.25", "3.4.23"),
        ("3.4.23 3.4.23 3.4.23", "3.5.16"),
        ("3.5.32", "3.6.1"),
        ("3.6.11", "3.7.0"),
        // A roll that was broken off goes on, by another patch version too.
        ("3.3.25 3.4.23 3.3.25", "3.4.23"),
        ("3.3.25 3.4.23 3.3.25", "3.4.30"),
        // Within a minor version back is fine.
        ("3.4.30 3.4.30", "3.4.23"),
        ("2.0.1", "2.0.13"),
        ("3.5.16", "3.5.32"),
    ] {
        assert_eq!(rules(&running(from), version(to)), [], "{from} -> {to}");
    }
    for (from, to, rule) in [
        ("2.0.11", "2.2.0", Rule::OneMinor),
        ("2.0.11", "2.3.8", Rule::OneMinor),
        ("2.2.5", "3.0.17", Rule::OneMinor),
        ("2.3.8", "3.1.20", Rule::OneMinor),
        ("3.3.25", "3.5.16", Rule::OneMinor),
        ("3.3.25 3.4.23 3.4.23", "3.5.16", Rule::OneMinor),
        ("3.6.11", "4.0.0", Rule::OneMinor),
        ("0.4.9", "2.0.11", Rule::OneMinor),
        ("3.4.23", "3.3.27", Rule::NeverDown),
        ("3.0.17", "2.3.8", Rule::NeverDown),
        ("3.3.25 3.4.23 3.3.25", "3.3.27", Rule::NeverDown),
        ("2.0.0", "2.1.3", Rule::FirstTo203),
        ("2.0.13 2.0.2 2.0.13", "2.1.0", Rule::FirstTo203),
        ("3.5.31", "3.6.0", Rule::FirstTo3532),
        ("3.5.32 3.5.16", "3.6.4", Rule::FirstTo3532),
        ("3.6.10", "3.7.0", Rule::FirstTo3611),
    ] {
        assert_eq!(rules(&running(from), version(to)), [rule], "{from} -> {to}");
    }
}

#[test]
fn what_the_data_and_the_settings_of_the_cluster_forbid() {
    let with = |from: &str, change: fn(&mut ClusterView)| {
        let mut cluster = running(from);
        change(&mut cluster);
        cluster
    };
    let v2_only: fn(&mut ClusterView) = |cluster| (cluster.v2_keys, cluster.v3_keys) = (Some(true), Some(0));
    let v2_too: fn(&mut ClusterView) = |cluster| cluster.v2_keys = Some(true);
    let auth: fn(&mut ClusterView) = |cluster| cluster.auth = Some(true);
    let behind: fn(&mut ClusterView) = |cluster| cluster.version = Some(version("3.3.0"));
    for (from, change, to, expected) in [
        ("3.1.20", v2_only, "3.2.32", vec![Rule::V3DataFirst]),
        ("3.0.17", v2_only, "3.1.20", vec![]),
        ("2.3.8", v2_only, "3.0.17", vec![]),
        ("3.2.10", v2_only, "3.3.25", vec![]),
        ("3.1.20", v2_too, "3.2.32", vec![]),
        ("3.5.32", v2_too, "3.6.4", vec![Rule::NoV2Keys]),
        ("3.4.23", v2_too, "3.5.16", vec![]),
        ("3.4.23 3.4.23 3.4.23", auth, "3.5.16", vec![Rule::AuthTo35]),
        ("3.4.23 3.5.16 3.5.16", auth, "3.5.16", vec![Rule::AuthTo35]),
        ("3.5.16", auth, "3.5.32", vec![]),
        ("3.5.32", auth, "3.6.4", vec![]),
        ("3.3.25", auth, "3.4.23", vec![]),
        ("3.4.23 3.4.23", behind, "3.5.16", vec![Rule::ClusterBehind]),
        ("3.4.23 3.4.23", behind, "3.4.30", vec![]),
    ] {
        assert_eq!(rules(&with(from, change), version(to)), expected, "{from} -> {to}");
    }
}

#[test]
fn members_that_do_not_answer_are_not_judged_here() {
    let mut cluster = running("3.3.25 3.4.23 3.4.23");
    cluster.members[0].state = MemberState::Down { why: "connection refused".into() };
    cluster.version = None;
    assert_eq!(rules(&cluster, version("3.5.16")), []);
    // What the cluster as a whole speaks is known all the same.
    cluster.version = Some(version("3.3.0"));
    assert_eq!(rules(&cluster, version("3.5.16")), [Rule::ClusterBehind]);
}

#[test]
fn each_objection_says_what_to_do_first() {
    insta::assert_snapshot!(against(&running("3.3.25 3.3.25 3.3.27"), "3.5.16"), @"m1 and m2 run 3.3.25, m3 runs 3.3.27, and 3.5.16 is further than the next minor version; upgrade etcd to 3.4 first and then to 3.5, each in a rollout of its own");
    insta::assert_snapshot!(against(&running("2.2.5"), "3.3.25"), @"m1 runs 2.2.5, and 3.3.25 is further than the next minor version; upgrade etcd to 2.3 first and then to 3.0, 3.1, 3.2, 3.3, each in a rollout of its own");
    insta::assert_snapshot!(against(&running("0.4.9"), "2.0.11"), @"m1 runs 0.4.9: etcd before 2.0 is not upgraded to 2.0.11 member by member; bring the cluster to 2.0 first, as etcd's pages of its time say");
    insta::assert_snapshot!(against(&running("3.3.25 3.4.23 3.3.25"), "3.3.27"), @"m2 runs 3.4.23, and 3.3.27 is older: etcd does not go back to an older minor version; take a version of 3.4 or a later one; as long as some members run the older version, the others can be taken back to it by hand, and once all run the newer one only a backup brings the older one back");
    insta::assert_snapshot!(against(&running("2.0.1 2.0.1 2.0.13"), "2.1.3"), @"m1 and m2 run 2.0.1, and only 2.0.3 and later go on from 2.0: 2.0.0 to 2.0.2 may panic while members of two versions run; upgrade every member to 2.0.3 or a later 2.0 first, in a rollout of its own");
    insta::assert_snapshot!(against(&running("3.5.16 3.5.32 3.5.26"), "3.6.4"), @"m1 runs 3.5.16, m3 runs 3.5.26, and only 3.5.32 and later go on from 3.5: earlier ones may fail in the roll; upgrade every member to 3.5.32 or a later 3.5 first, in a rollout of its own");
    let mut cluster = running("3.1.20");
    (cluster.v2_keys, cluster.v3_keys) = (Some(true), Some(0));
    insta::assert_snapshot!(against(&cluster, "3.2.32"), @"the cluster holds no data of the version 3 API, and etcd from 3.2 on, as 3.2.32, panics on such a store; stay at 3.0 or 3.1 until Calico keeps its data in the version 3 API (Calico 3), or until they are migrated");
    let mut cluster = running("3.5.32");
    cluster.v2_keys = Some(true);
    insta::assert_snapshot!(against(&cluster, "3.6.4"), @"the cluster holds keys of the version 2 API, and 3.6.4 does not start on them; see that nothing reads them any more, back them up and delete them; then etcdutl check v2store must find nothing on any member");
    let mut cluster = running("3.4.23");
    cluster.auth = Some(true);
    insta::assert_snapshot!(against(&cluster, "3.5.16"), @"the cluster asks for a user and password, and 3.5 writes these otherwise than 3.4: it can't go to 3.5.16 member by member; switch authentication off for the upgrade (etcdctl auth disable) and on again when all members run 3.5, or upgrade by hand with the whole cluster down");
    cluster.auth = None;
    insta::assert_snapshot!(against(&cluster, "3.5.16"), @"whether the cluster asks for a user and password could not be found out, and one that does can't go from 3.4 to 3.5.16 member by member; see that each member answers its clients (etcdctl user list), then plan again, or switch authentication off first (etcdctl auth disable)");
    assert_eq!(rules(&cluster, version("3.4.30")), []);
    cluster.version = Some(version("3.3.0"));
    cluster.auth = Some(false);
    insta::assert_snapshot!(against(&cluster, "3.5.16"), @"the cluster as a whole still speaks 3.3, and 3.5.16 is further than the next minor version; see that all members run one version and that the cluster's version has followed (GET /version, etcdcluster), then plan again");
}

#[test]
fn rules_and_their_sources_are_different_ones() {
    let sources: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.source()).collect();
    assert_eq!(sources.len(), Rule::ALL.len());
    for pair in LINES.windows(2) {
        assert_eq!(next_line(pair[0]), Some(pair[1]));
    }
}

fn some_version() -> impl Strategy<Value = EtcdVersion> {
    let known = (proptest::sample::select(LINES), 0..40u32)
        .prop_map(|((major, minor), patch)| EtcdVersion::new(major, minor, patch));
    let wild = (any::<u32>(), any::<u32>(), any::<u32>())
        .prop_map(|(major, minor, patch)| EtcdVersion::new(major, minor, patch));
    prop_oneof![9 => known, 1 => wild]
}

fn some_cluster() -> impl Strategy<Value = ClusterView> {
    let version = prop::option::of(some_version());
    let flags = (any::<Option<bool>>(), any::<Option<bool>>(), prop::option::of(0..3u64));
    (prop::collection::vec(some_version(), 0..5), version, flags).prop_map(
        |(versions, speaks, (auth, v2_keys, v3_keys))| ClusterView {
            version: speaks,
            auth,
            v2_keys,
            v3_keys,
            ..cluster(&versions)
        },
    )
}

proptest! {
    #[test]
    fn every_step_is_to_the_same_or_the_next_minor_version_or_is_refused(cluster in some_cluster(), to in some_version()) {
        let found = rules(&cluster, to);
        let lines = cluster.members.iter().filter_map(|member| Some(member.status()?.version.line()));
        let fine = lines.clone().all(|line| line == to.line() || next_line(line) == Some(to.line()));
        let refused = found.iter().any(|rule| matches!(rule, Rule::OneMinor | Rule::NeverDown));
        prop_assert_eq!(fine, !refused);
        let older = lines.clone().any(|line| line > to.line());
        prop_assert_eq!(older, found.contains(&Rule::NeverDown));
        for objection in judge(&cluster, to) {
            prop_assert!(!objection.what.is_empty() && !objection.next.is_empty());
        }
    }

    #[test]
    fn where_every_member_runs_it_already_nothing_speaks_against_it(cluster in some_cluster(), to in some_version()) {
        let mut cluster = cluster;
        for member in &mut cluster.members {
            sample::status(member).version = to;
        }
        prop_assert_eq!(rules(&cluster, to), []);
    }
}

/// The page for operators has every rule, by its source.
#[test]
fn every_rule_stands_on_the_page_for_operators() {
    let page = include_str!("../../../../docs/etcd.md");
    for rule in Rule::ALL {
        assert!(page.contains(&format!("| {} |", rule.source())), "{rule:?}");
    }
}
