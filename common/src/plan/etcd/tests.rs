//! Tests of what a plan says of a fleet's etcd: each trouble by name, once, and nothing where nothing would be done.

use super::*;
use crate::etcd::{
    Alarm, ClusterId, ClusterView, EtcdFacts, EtcdVersion, MemberId, MemberState, Part, sample,
};
use crate::facts::DhcpAgent;
use crate::id::{Actor, StepId, Timestamp};
use crate::plan::{FORMAT, Limits, PlannedNode, StagePlan, StepPreview};
use crate::platform::{OsFamily, PackageManager, Platform, Role, ServiceManager};
use crate::waves::Mode;

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a node")
}

fn platform() -> Platform {
    Platform {
        family: OsFamily::Debian,
        id: "debian".into(),
        version_id: "12".into(),
        pretty_name: "Debian 12".into(),
        package_manager: PackageManager::Apt,
        service_manager: ServiceManager::Systemd,
    }
}

fn facts(name: &str, role: Role, etcd: Option<EtcdFacts>) -> Facts {
    Facts {
        node: id(name),
        observed_at: Timestamp(1),
        hostname: format!("{name}.example"),
        kernel: "6.1".into(),
        boot_id: "b".into(),
        platform: platform(),
        roles: [role].into(),
        versions: BTreeMap::new(),
        release: None,
        dhcp_agent: DhcpAgent::None,
        etcd,
        agent_version: "1".into(),
    }
}

fn etcd(part: Part, cluster: Option<u64>, member: Option<u64>) -> EtcdFacts {
    EtcdFacts {
        part,
        version: (part != Part::Client).then_some(EtcdVersion::new(3, 3, 25)),
        cluster_id: cluster.map(ClusterId),
        member: member.map(MemberId),
        data_dir: Some("/var/lib/etcd".into()),
        data_filesystem: Some("ext4".into()),
        listens: Vec::new(),
        enable_v2: None,
        endpoints: Vec::new(),
        cluster: None,
        unknown: Vec::new(),
    }
}

type Fleet = BTreeMap<NodeId, Facts>;

/// e1 to eN with members m1 to mN of cluster c1, m1 leads; g1 with a gateway, c1 that is only a client.
fn fleet(members: u64) -> Fleet {
    let member = |number| {
        let etcd = EtcdFacts {
            cluster: Some(sample::cluster(members)),
            ..etcd(Part::Member, Some(0xc1), Some(number))
        };
        facts(&format!("e{number}"), Role::EtcdMember, Some(etcd))
    };
    let others = [
        facts("g1", Role::EtcdGateway, Some(etcd(Part::Gateway, Some(0xc1), None))),
        facts("c1", Role::EtcdClient, Some(etcd(Part::Client, None, None))),
        facts("x1", Role::Compute, None),
    ];
    (1..=members).map(member).chain(others).map(|facts| (facts.node.clone(), facts)).collect()
}

fn etcd_mut<'f>(fleet: &'f mut Fleet, name: &str) -> &'f mut EtcdFacts {
    fleet.get_mut(&id(name)).and_then(|facts| facts.etcd.as_mut()).expect("etcd on it")
}

/// Changes how this node sees the cluster; of every node if none is named.
fn see(fleet: &mut Fleet, who: Option<&str>, change: impl Fn(&mut ClusterView)) {
    for (node, facts) in fleet {
        let view = facts.etcd.as_mut().and_then(|etcd| etcd.cluster.as_mut());
        if let Some(view) = view.filter(|_| who.is_none_or(|who| who == node.as_str())) {
            change(view);
        }
    }
}

fn down(view: &mut ClusterView, member: usize, why: &str) {
    view.members[member - 1].state = MemberState::Down { why: why.into() };
}

fn would_run(version: &str) -> Preview {
    let to = version.to_owned();
    Preview::WouldChange {
        changes: vec![Change::Version { of: "etcd".into(), from: Some("3.3.25".into()), to }],
    }
}

/// A plan whose stage etcd has these previews, one step a node.
fn body(fleet: &Fleet, previews: &[(&str, Preview)]) -> PlanBody {
    let waves: Vec<Vec<NodeId>> =
        fleet.iter().filter(|(_, facts)| facts.etcd.is_some()).map(|(node, _)| vec![node.clone()]).collect();
    let planned = |facts: &Facts| PlannedNode {
        roles: facts.roles.clone(),
        platform: facts.platform.clone(),
        release: None,
        versions: BTreeMap::new(),
        etcd: None,
        observed_at: Timestamp(1),
    };
    let given = |preview: &Preview| {
        vec![StepPreview { step: StepId::new("install-etcd").expect("a step"), preview: preview.clone() }]
    };
    PlanBody {
        format: FORMAT,
        procedure: "p".into(),
        procedure_version: "1".into(),
        procedure_digest: String::new(),
        parameters: BTreeMap::new(),
        created_at: Timestamp(1),
        created_by: Actor("anna".into()),
        nodes: fleet.iter().map(|(node, facts)| (node.clone(), planned(facts))).collect(),
        stages: vec![StagePlan {
            stage: Stage::Etcd,
            limits: Limits { canary: 1, max_unavailable: 1, errors_allowed: 0, soak_s: 0, start: Mode::Auto },
            groups: BTreeMap::new(),
            tasks: waves
                .iter()
                .flatten()
                .map(|node| (node.clone(), crate::order::Steps::default()))
                .collect(),
            waves,
        }],
        previews: [(
            Stage::Etcd,
            previews.iter().map(|(node, preview)| (id(node), given(preview))).collect(),
        )]
        .into(),
        problems: Vec::new(),
        warnings: Vec::new(),
        version_differences: Vec::new(),
        undeclared: BTreeSet::new(),
    }
}

/// What is said of a plan that takes every member of the fleet to this version.
fn said_for(fleet: &Fleet, version: &str) -> String {
    let names: Vec<String> = crate::etcd::fleet::members(fleet).map(|(node, _)| node.to_string()).collect();
    let previews: Vec<(&str, Preview)> =
        names.iter().map(|name| (name.as_str(), would_run(version))).collect();
    said(fleet, &previews)
}

fn said(fleet: &Fleet, previews: &[(&str, Preview)]) -> String {
    let (problems, warnings) = judge_etcd(&body(fleet, previews), fleet);
    let place = |node: &Option<NodeId>| node.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let problems = problems.iter().map(|problem| {
        assert_eq!(problem.stage, Some(Stage::Etcd));
        format!("{}: {} | {}", place(&problem.node), problem.error.what, problem.error.next)
    });
    let warnings = warnings.iter().map(|warning| {
        format!("{} ({}): {} | {}", place(&warning.node), warning.id, warning.what, warning.next)
    });
    problems.chain(warnings).collect::<Vec<_>>().join("\n")
}

/// What is said of three members on their way to the next version, when something about them is otherwise.
fn with(change: impl FnOnce(&mut Fleet)) -> String {
    let mut fleet = fleet(3);
    change(&mut fleet);
    said_for(&fleet, "3.4.23")
}

#[test]
fn of_a_cluster_that_is_well_nothing_is_said() {
    assert_eq!(with(|_| ()), "");
    assert_eq!(said_for(&fleet(5), "3.3.27"), "");
}

#[test]
fn where_stage_etcd_would_do_nothing_nothing_is_said() {
    let mut fleet = fleet(1);
    see(&mut fleet, None, |view| down(view, 1, "connection refused"));
    etcd_mut(&mut fleet, "e1").data_filesystem = Some("tmpfs".into());
    assert_eq!(said(&fleet, &[]), "");
    let so = Preview::AlreadySo { evidence: "it runs".into() };
    assert_eq!(said(&fleet, &[("e1", so), ("g1", Preview::WouldCheck)]), "");
    // A gateway alone is changed: the cluster must be well, and nobody's outage is announced.
    let said = said(&fleet, &[("g1", would_run("3.4.23"))]);
    assert!(
        said.starts_with("e1: etcd member m1 does not answer") && !said.contains("etcd-no-spare-member"),
        "{said}"
    );
}

#[test]
fn a_member_that_is_not_well_is_named_once() {
    insta::assert_snapshot!(with(|fleet| see(fleet, None, |view| down(view, 2, "connection refused"))), @"e2: etcd member m2 does not answer: connection refused | bring it back first (on e2: the state and the log of its etcd service): a member is stopped only while all the others are healthy and caught up; then plan again");
    insta::assert_snapshot!(with(|fleet| {
        see(fleet, Some("e1"), |view| down(view, 3, "no route to host"));
        see(fleet, Some("e2"), |view| down(view, 3, "timed out"));
    }), @"e3: etcd member m3 does not answer: no route to host (so for e1), does not answer: timed out (so for e2); e3 sees nothing wrong with it | bring it back first (on e3: the state and the log of its etcd service): a member is stopped only while all the others are healthy and caught up; then plan again");
    insta::assert_snapshot!(with(|fleet| see(fleet, None, |view| {
        sample::status(&mut view.members[2]).index = 3000;
    })), @"e3: etcd member m3 is 2000 entries behind, at most 1000 may be | bring it back first (on e3: the state and the log of its etcd service): a member is stopped only while all the others are healthy and caught up; then plan again");
    insta::assert_snapshot!(with(|fleet| see(fleet, Some("e3"), |view| {
        for member in &mut view.members {
            sample::status(member).leader = None;
        }
    })), @r"
    e1: etcd member m1 knows no leader (so for e3); e1 and e2 see nothing wrong with it | bring it back first (on e1: the state and the log of its etcd service): a member is stopped only while all the others are healthy and caught up; then plan again
    e2: etcd member m2 knows no leader (so for e3); e1 and e2 see nothing wrong with it | bring it back first (on e2: the state and the log of its etcd service): a member is stopped only while all the others are healthy and caught up; then plan again
    e3: etcd member m3 knows no leader (so for e3); e1 and e2 see nothing wrong with it | bring it back first (on e3: the state and the log of its etcd service): a member is stopped only while all the others are healthy and caught up; then plan again
    ");
    insta::assert_snapshot!(with(|fleet| see(fleet, None, |view| {
        view.alarms = vec![Alarm { member: MemberId(2), kind: "NOSPACE".into() }];
    })), @"e2: etcd has raised alarm NOSPACE of m2, and nobody has disarmed it | compact and defragment the members one by one (etcdctl compact, etcdctl defrag) or raise --quota-backend-bytes, then etcdctl alarm disarm, then plan again");
}

#[test]
fn a_member_whose_node_has_no_agent_is_named_with_its_addresses() {
    insta::assert_snapshot!(with(|fleet| drop(fleet.remove(&id("e3")))), @"-: m3 (3), at http://10.0.0.3:2379, http://10.0.0.3:2380 for peers, is a member of the cluster, and no node of the fleet runs it | put an agent on its machine and enrol it (wavegate token create): every member takes part, one after the other; one that is gone for good is removed from the cluster first (etcdctl member remove)");
    // Its agent is there and could not ask it: that is what is wrong, and not that nobody knows it.
    let stopped = |fleet: &mut Fleet| {
        let etcd = etcd_mut(fleet, "e3");
        (etcd.member, etcd.cluster_id, etcd.cluster) = (None, None, None);
        etcd.unknown = vec!["http://127.0.0.1:2379 does not answer: connection refused".into()];
        see(fleet, None, |view| down(view, 3, "connection refused"));
    };
    insta::assert_snapshot!(with(stopped), @r"
    -: etcd member m3 does not answer: connection refused | bring it in order first: a member is stopped only while all the others are healthy and caught up; then plan again
    e3: the etcd member of e3 could not be looked at: http://127.0.0.1:2379 does not answer: connection refused | see that etcd runs on e3 and that its agent may ask it (wavegate-agent facts shows what it finds, section [etcd] of agent.toml says with what it asks), then plan again
    ");
    let renamed = |fleet: &mut Fleet| {
        stopped(fleet);
        see(fleet, None, |view| view.members[2].name = "e3".into());
        etcd_mut(fleet, "e3").unknown.clear();
    };
    insta::assert_snapshot!(with(renamed), @r"
    -: etcd member e3 does not answer: connection refused | bring it in order first: a member is stopped only while all the others are healthy and caught up; then plan again
    e3: the etcd member of e3 could not be looked at: which member of which cluster it is | see that etcd runs on e3 and that its agent may ask it (wavegate-agent facts shows what it finds, section [etcd] of agent.toml says with what it asks), then plan again
    ");
    insta::assert_snapshot!(with(|fleet| etcd_mut(fleet, "e3").member = Some(MemberId(9))), @r"
    -: m3 (3), at http://10.0.0.3:2379, http://10.0.0.3:2380 for peers, is a member of the cluster, and no node of the fleet runs it | put an agent on its machine and enrol it (wavegate token create): every member takes part, one after the other; one that is gone for good is removed from the cluster first (etcdctl member remove)
    e3: etcd on e3 runs member 9, which is not among the members of the cluster | find out whether it was removed from the cluster; if so, stop it and take the role off e3, or add it anew (etcdctl member add), then plan again
    ");
}

#[test]
fn two_clusters_are_named_with_their_nodes() {
    insta::assert_snapshot!(with(|fleet| etcd_mut(fleet, "e3").cluster_id = Some(ClusterId(0xc2))), @"-: the fleet's members are of 2 etcd clusters: c1 of e1 and e2 and c2 of e3 | a fleet has one cluster: find out whether a member came up as a cluster of its own (lost data directory, changed configuration); a second cluster that is meant to be is no part of this fleet, take its nodes out of it (wavegate node remove NODE)");
    insta::assert_snapshot!(with(|fleet| etcd_mut(fleet, "g1").cluster_id = Some(ClusterId(0xc2))), @"g1: the etcd gateway of g1 leads to cluster c2, and the fleet's members are of cluster c1 (e1, e2 and e3) | let it lead to this fleet's members (its --initial-cluster or --endpoints; an old etcd proxy keeps them in its data directory), or take g1 out of the fleet (wavegate node remove g1)");
}

#[test]
fn every_member_goes_to_one_version_and_to_one_that_it_may_go_to() {
    let run = would_run;
    let fleet3 = fleet(3);
    insta::assert_snapshot!(said(&fleet3, &[("e1", run("3.4.23")), ("e2", run("3.4.30")), ("e3", run("3.4.23"))]), @"-: the members would not run one version of etcd: 3.4.23 on e1 and e3; 3.4.30 on e2 | let every member get the same: one state of their mirrors, no package held (apt-mark showhold, yum versionlock), or a version named for all (--set etcd_packages=NAME=VERSION), then plan again");
    let so = || Preview::AlreadySo { evidence: "it runs".into() };
    insta::assert_snapshot!(said(&fleet3, &[("e1", run("3.4.23")), ("e2", run("3.4.23")), ("e3", so())]), @"-: the members would not run one version of etcd: 3.3.25 on e3, where it stays as it is; 3.4.23 on e1 and e2 | let every member get the same: one state of their mirrors, no package held (apt-mark showhold, yum versionlock), or a version named for all (--set etcd_packages=NAME=VERSION), then plan again");
    insta::assert_snapshot!(said(&fleet3, &[("e1", run("newest")), ("e2", run("3.4.23")), ("e3", run("3.4.23"))]), @"e1: etcd on e1 would run what nobody can judge: 'newest' has no version of etcd: three numbers with dots between them, as 3.4.23 | look at the package or archive that the plan names (wavegate plan show)");
    insta::assert_snapshot!(said_for(&fleet3, "3.5.16"), @"-: m1, m2 and m3 run 3.3.25, and 3.5.16 is further than the next minor version | upgrade etcd to 3.4 first and then to 3.5, each in a rollout of its own");
    // Of a node that could not say it, this is not said.
    assert_eq!(said(&fleet3, &[("e1", run("3.4.23")), ("e2", run("3.4.23"))]), "");
    let blocked =
        Preview::Blocked { error: StepError { what: "w".into(), output: Vec::new(), next: "n".into() } };
    assert_eq!(said(&fleet3, &[("e1", run("3.4.23")), ("e2", run("3.4.23")), ("e3", blocked)]), "");
    // A roll that was broken off goes on.
    let mut begun = fleet(3);
    etcd_mut(&mut begun, "e2").version = Some(EtcdVersion::new(3, 4, 23));
    see(&mut begun, None, |view| {
        sample::status(&mut view.members[1]).version = EtcdVersion::new(3, 4, 23);
    });
    assert_eq!(said(&begun, &[("e1", run("3.4.23")), ("e3", run("3.4.23"))]), "");
}

#[test]
fn what_must_be_acknowledged() {
    insta::assert_snapshot!(said_for(&fleet(1), "3.4.23"), @"- (etcd-no-spare-member): the etcd cluster has one member: each time one restarts, etcd answers nobody until it is back. Calico's Felix leaves what it has programmed as it is; VMs and rules that are new wait, agents may be shown as down after 90 s, and Neutron's driver takes up to 60 s to elect its master again | do it in a window in which nobody creates or moves VMs, or bring the cluster to three members before");
    assert!(said_for(&fleet(2), "3.4.23").contains("two members and needs both"));
    insta::assert_snapshot!(with(|fleet| etcd_mut(fleet, "e2").data_filesystem = Some("tmpfs".into())), @"e2 (etcd-data-in-memory): etcd's data on e2 are in memory (/var/lib/etcd is tmpfs): a reboot or an unmount loses them | keep a backup on another host (the rollout's own stays on e2), and let nobody reboot it meanwhile; wavegate reboots nothing");
}

#[test]
fn what_the_version_2_api_has_left_must_be_acknowledged() {
    insta::assert_snapshot!(with(|fleet| see(fleet, None, |view| view.v2_keys = Some(true))), @"- (etcd-version-2-keys): the cluster holds keys of the version 2 API, which 3.4.23 does not serve unless told to. No Calico of the fleet asks for them, and whether anybody else does is not seen from here | see that nothing reads them any more and delete them (before 3.6 they must be gone), or set ETCD_ENABLE_V2=true for every member first");
    let of = |from: EtcdVersion, to: &str, v2_keys: Option<bool>| {
        let mut fleet = fleet(3);
        for name in ["e1", "e2", "e3"] {
            etcd_mut(&mut fleet, name).version = Some(from);
        }
        see(&mut fleet, None, |view| {
            (view.v2_keys, view.version) = (v2_keys, Some(from));
            for member in &mut view.members {
                sample::status(member).version = from;
            }
        });
        said_for(&fleet, to)
    };
    insta::assert_snapshot!(of(EtcdVersion::new(3, 5, 32), "3.6.4", None), @"- (etcd-version-2-store): whether keys of the version 2 API are left in the members' stores is not seen from here, since that API is off: 3.6.4 does not start on them | run etcdutl check v2store on every member: it must find no custom data. A cluster that never served that API has none");
    assert_eq!(of(EtcdVersion::new(3, 5, 32), "3.6.4", Some(false)), "", "it was asked, and there are none");
    assert_eq!(of(EtcdVersion::new(3, 4, 23), "3.5.16", None), "");
    assert_eq!(of(EtcdVersion::new(3, 6, 4), "3.6.11", None), "");
}

#[test]
fn followers_go_first_and_the_leader_last() {
    let order = |fleet: &Fleet, change: fn(&mut PlanBody)| {
        let mut body = body(fleet, &[]);
        change(&mut body);
        settle_etcd(&mut body, fleet);
        let again = body.clone();
        settle_etcd(&mut body, fleet);
        assert_eq!(body, again, "once is enough");
        let names: Vec<&str> = body.stages[0].waves.iter().flatten().map(NodeId::as_str).collect();
        (names.join(" "), body)
    };
    let mut fleet = fleet(3);
    let (names, planned) = order(&fleet, |_| ());
    assert_eq!(names, "c1 e2 e3 e1 g1", "what is no member stays where it was");
    let etcd = |name: &str| planned.nodes[&id(name)].etcd.clone().expect("it has to do with etcd");
    assert_eq!((etcd("e2").cluster, etcd("e2").member), (ClusterId(0xc1), Some(MemberId(2))));
    assert_eq!((etcd("c1").part, etcd("c1").cluster), (Part::Client, ClusterId(0xc1)));
    assert_eq!(planned.nodes[&id("x1")].etcd, None);
    let racks = |body: &mut PlanBody| {
        let rack = |(node, rack): (&str, &str)| (id(node), rack.to_owned());
        body.stages[0].groups = [("e1", "r1"), ("e2", "r2"), ("e3", "r1")].map(rack).into();
        body.stages[0].waves.retain(|wave| wave[0].as_str().starts_with('e'));
    };
    assert_eq!(order(&fleet, racks).0, "e2 e3 e1", "a member is alone whatever its rack is");
    see(&mut fleet, None, |view| {
        for member in &mut view.members {
            sample::status(member).leader = Some(MemberId(3));
        }
    });
    assert_eq!(order(&fleet, |_| ()).0, "c1 e1 e2 e3 g1");
    // With two clusters nobody knows which one a client asks.
    etcd_mut(&mut fleet, "e3").cluster_id = Some(ClusterId(0xc2));
    assert_eq!(order(&fleet, |_| ()).1.nodes[&id("c1")].etcd, None);
}
