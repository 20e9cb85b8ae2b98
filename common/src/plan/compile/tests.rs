//! Plans of the shipped procedure as text, what is refused, and properties over random fleets.

use super::*;
use crate::facts::DhcpAgent;
use crate::order::Steps;
use crate::plan::{Limits, Plan};
use crate::platform::{OsFamily, PackageManager, Platform, Release, ServiceManager};
use crate::procedure::shipped;
use crate::waves::{Amount, Batches, Mode};
use proptest::prelude::*;
use std::fmt::Write;

fn procedure() -> Procedure {
    let (file, text) = shipped("calico-openstack").expect("shipped");
    Procedure::parse(file, text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn platform(family: OsFamily) -> Platform {
    let (id, version_id, package_manager) = match family {
        OsFamily::Debian => ("ubuntu", "16.04", PackageManager::Apt),
        OsFamily::RedHat => ("rocky", "8.9", PackageManager::Dnf),
    };
    Platform {
        family,
        id: id.to_owned(),
        version_id: version_id.to_owned(),
        pretty_name: id.to_owned(),
        package_manager,
        service_manager: ServiceManager::Systemd,
    }
}

fn facts(node: &str, family: OsFamily, roles: &[Role], release: Option<&str>) -> (NodeId, Facts) {
    let node = NodeId::new(node).expect("a node");
    let facts = Facts {
        node: node.clone(),
        observed_at: Timestamp(1),
        hostname: node.to_string(),
        kernel: "4.4".to_owned(),
        boot_id: "1".to_owned(),
        platform: platform(family),
        roles: roles.iter().copied().collect(),
        versions: BTreeMap::new(),
        release: release.map(|name| name.parse().expect("a release")),
        dhcp_agent: DhcpAgent::Neutron,
        etcd: None,
        agent_version: "0.1.0".to_owned(),
    };
    (node, facts)
}

fn fleet(release: Option<&str>) -> BTreeMap<NodeId, Facts> {
    use OsFamily::{Debian, RedHat};
    use Role::{Compute, Control, EtcdClient, EtcdGateway, EtcdMember, EtcdProxy};
    [
        facts("etcd-1", Debian, &[EtcdMember], None),
        facts("etcd-2", Debian, &[EtcdMember], None),
        facts("etcd-3", Debian, &[EtcdMember], None),
        facts("compute-1", Debian, &[Compute, EtcdProxy], release),
        facts("compute-2", Debian, &[Compute, EtcdProxy], release),
        facts("compute-3", RedHat, &[Compute, EtcdProxy], release),
        facts("control-1", Debian, &[Control, EtcdProxy], release),
        facts("control-2", RedHat, &[Control, EtcdGateway], release),
        facts("control-3", Debian, &[Control, EtcdClient], release),
    ]
    .into()
}

const SITE: [&str; 4] = [
    "etcd_archive_sha256=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "python_etcd_archive_sha256=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "python_etcd_version=0.4.1",
    "felix_reports_version=on",
];

fn plan_with(
    fleet: &BTreeMap<NodeId, Facts>,
    set: &[&str],
    options: &Options,
) -> Result<PlanBody, CompileError> {
    let procedure = procedure();
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    let values = procedure.values(None, &set).unwrap_or_else(|errors| panic!("{errors}"));
    compile(&procedure, &values, fleet, options, Timestamp(2), Actor("anna".to_owned()))
}

fn plan(fleet: &BTreeMap<NodeId, Facts>, set: &[&str]) -> PlanBody {
    plan_with(fleet, set, &Options::default()).expect("a plan")
}

fn limits(stage: Stage, waves: WaveOverride) -> Options {
    Options { waves: [(stage, waves)].into(), ..Options::default() }
}

/// Stage, wave, node, step; nodes with the same steps are written once.
fn render(plan: &PlanBody) -> String {
    let mut text = String::new();
    for stage in &plan.stages {
        let Limits { canary, max_unavailable, errors_allowed, .. } = stage.limits;
        let _ = writeln!(
            text,
            "stage {} (canary {canary}, max {max_unavailable}, errors {errors_allowed})",
            stage.stage
        );
        let mut written: Vec<(&NodeId, &Steps)> = Vec::new();
        for (number, wave) in stage.waves.iter().enumerate() {
            let _ = writeln!(text, "  wave {}", number + 1);
            for node in wave {
                let steps = &stage.tasks[node];
                if let Some((same, _)) = written.iter().find(|(_, other)| *other == steps) {
                    let _ = writeln!(text, "    {node}: as {same}");
                    continue;
                }
                written.push((node, steps));
                let _ = writeln!(text, "    {node}");
                for step in steps {
                    let work = match &step.work {
                        Work::Run { action, timeout_s } => format!("{action} [{timeout_s} s]"),
                        Work::Skip { reason } => format!("skipped: {reason}"),
                    };
                    let _ = writeln!(text, "      {}: {work}", step.id);
                }
            }
        }
    }
    for problem in &plan.problems {
        let _ = writeln!(text, "problem: {}; {}", problem.error.what, problem.error.next);
    }
    text
}

#[test]
fn a_mixed_fleet_on_mitaka() {
    insta::assert_snapshot!(render(&plan(&fleet(Some("mitaka")), &SITE)));
}

#[test]
fn a_mixed_fleet_on_kilo() {
    insta::assert_snapshot!(render(&plan(&fleet(Some("kilo")), &SITE)));
}

#[test]
fn a_fleet_without_its_sites_values_has_problems() {
    let nodes = [
        facts("compute-3", OsFamily::RedHat, &[Role::Compute, Role::EtcdProxy], None),
        facts("compute-4", OsFamily::Debian, &[Role::Compute], Some("mitaka")),
    ];
    let plan = plan(&nodes.into(), &[]);
    insta::assert_snapshot!(render(&plan));
    let first = &plan.problems[0];
    assert_eq!(first.node.as_ref().map(NodeId::as_str), Some("compute-3"));
    assert_eq!(
        (first.stage, first.step.as_ref().map(|step| step.as_str())),
        (Some(Stage::Etcd), Some("install-etcd-archive"))
    );
}

#[test]
fn what_a_release_does_not_upgrade_is_skipped_and_asks_for_nothing() {
    let set = ["upgrade_etcd=off", "upgrade_compute=off", "upgrade_python_etcd=off"];
    let plan = plan(&fleet(None), &set);
    assert_eq!(plan.problems, []);
    for stage in [Stage::Etcd, Stage::Compute] {
        let stage = plan.stages.iter().find(|planned| planned.stage == stage).expect("planned");
        let skipped = Work::Skip { reason: format!("parameter upgrade_{} is off", stage.stage) };
        assert!(stage.tasks.values().flatten().all(|step| step.work == skipped));
    }
    let control = &plan.stages[2].tasks[&NodeId::new("control-2").expect("a node")];
    assert!(
        matches!(&control[0].work, Work::Skip { reason } if reason == "parameter upgrade_python_etcd is off")
    );
    assert!(matches!(control[1].work, Work::Run { .. }));
}

#[test]
fn the_site_may_name_the_release() {
    let plan = plan(&fleet(None), &[&SITE[..], &["openstack_release=kilo"]].concat());
    assert_eq!(plan.problems, []);
    let release: Release = "kilo".parse().expect("a release");
    assert!(plan.nodes.values().all(|node| node.release == Some(release)));
    assert_eq!(plan.parameters["openstack_release"], Value::Text("kilo".into()));
    assert_eq!(
        plan.stages,
        plan_with(&fleet(Some("kilo")), &SITE, &Options::default()).expect("a plan").stages
    );
}

#[test]
fn pins_reach_the_transaction_and_not_the_check_of_the_process() {
    let set = [&SITE[..], &["etcd_packages=etcd=2.3.8-1"]].concat();
    let plan = plan(&fleet(Some("mitaka")), &set);
    let json =
        serde_json::to_string(&plan.stages[0].tasks[&NodeId::new("etcd-1").expect("a node")]).expect("json");
    assert!(json.contains(r#""packages":["etcd=2.3.8-1"]"#), "{json}");
    assert!(json.contains(r#""newer_than_packages":["etcd"]"#), "{json}");
}

#[test]
fn a_value_that_does_not_fit_is_a_problem() {
    let plan = plan(
        &fleet(Some("mitaka")),
        &[&SITE[..], &["control_packages_debian=", "etcd_healthy_within_s=900", "etcd_settle_s=900"]]
            .concat(),
    );
    let messages: BTreeSet<&str> = plan.problems.iter().map(|problem| problem.error.what.as_str()).collect();
    insta::assert_snapshot!(Vec::from_iter(messages).join("\n"), @r"
    argument 'packages' of package.install: it is empty; it must be a list of packages, each 'name' or 'name=version', with at least one
    settle_s 900 does not fit in within_s 900; make within_s greater
    timeout_s 900 ends the step before within_s 900 is over; make timeout_s greater
    ");
}

#[test]
fn a_platform_without_steps_is_a_problem() {
    let mut procedure = procedure();
    procedure.stages[2].steps.retain(|step| !step.platforms.contains(&OsFamily::RedHat));
    let body = compile(
        &procedure,
        &Values::default(),
        &fleet(Some("mitaka")),
        &Options::default(),
        Timestamp(2),
        Actor("a".into()),
    );
    let body = body.expect("a plan");
    let problem = body.problems.last().expect("a problem");
    insta::assert_snapshot!(problem.error.what, @"procedure calico-openstack has no steps in stage control for redhat and control, the roles of control-2 there");
    let control = body.stages.last().expect("control");
    assert!(
        control.waves.concat().contains(problem.node.as_ref().expect("a node")),
        "it is shown all the same"
    );
}

#[test]
fn what_cannot_be_planned() {
    let refused = |fleet: &BTreeMap<NodeId, Facts>, options: &Options| {
        plan_with(fleet, &[], options).expect_err("must be refused").to_string()
    };
    let options = Options::default();
    insta::assert_snapshot!(refused(&BTreeMap::new(), &options), @"the fleet has no nodes; start agents on the machines and enrol them, then plan again");
    let idle = [facts("a", OsFamily::Debian, &[], None)].into();
    insta::assert_snapshot!(refused(&idle, &options), @"none of the 1 nodes has a role that procedure calico-openstack works on (etcd-member, etcd-proxy, etcd-gateway, etcd-client, compute, control); look at `wavegate nodes`, add roles in the agents' configuration where they were not found, then plan again");
    let zero = limits(
        Stage::Compute,
        WaveOverride { max_unavailable: Some(Amount::Count(0)), ..WaveOverride::default() },
    );
    insta::assert_snapshot!(refused(&fleet(None), &zero), @"stage compute: max_unavailable 0 would let no node start; it must be 1 or more");
    let zero = limits(Stage::Etcd, WaveOverride { canary: Some(0), ..WaveOverride::default() });
    insta::assert_snapshot!(refused(&fleet(None), &zero), @"stage etcd: canary 0 would let no node start; it must be 1 or more");
    let large = limits(Stage::Control, WaveOverride { canary: Some(4), ..WaveOverride::default() });
    insta::assert_snapshot!(refused(&fleet(None), &large), @"stage control: canary 4 is more than the 3 node(s) of the stage, so that nothing would be tried before everything; it must be 3 or less");
}

#[test]
fn members_stay_alone_whatever_the_limits_are() {
    let wide = limits(
        Stage::Etcd,
        WaveOverride {
            canary: Some(3),
            max_unavailable: Some(Amount::Count(4)),
            errors_allowed: Some(Amount::Count(1)),
            ..WaveOverride::default()
        },
    );
    let plan = plan_with(&fleet(Some("mitaka")), &SITE, &wide).expect("a plan");
    let sizes: Vec<usize> = plan.stages[0].waves.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 1, 3, 1, 1, 1], "the proxies begin with the canary again");
    let Limits { canary, max_unavailable, errors_allowed, .. } = plan.stages[0].limits;
    assert_eq!((canary, max_unavailable, errors_allowed), (3, 4, 1));
}

fn wave_names(plan: &PlanBody, stage: usize) -> Vec<String> {
    let wave = |wave: &Vec<NodeId>| wave.iter().map(NodeId::as_str).collect::<Vec<_>>().join(" ");
    plan.stages[stage].waves.iter().map(wave).collect()
}

#[test]
fn waves_grow_and_stay_in_their_groups() {
    let nodes = (1..=9).map(|n| facts(&format!("c{n}"), OsFamily::Debian, &[Role::Compute], Some("mitaka")));
    let nodes: BTreeMap<NodeId, Facts> = nodes.collect();
    let label = |node: &NodeId| {
        let rack = if ["c2", "c5", "c8"].contains(&node.as_str()) { "b" } else { "a" };
        [("rack".to_owned(), rack.to_owned())].into()
    };
    let labels: BTreeMap<_, _> = nodes.keys().map(|node| (node.clone(), label(node))).collect();
    let waves = |waves: WaveOverride, labels| {
        let options = Options { waves: [(Stage::Compute, waves)].into(), labels };
        plan_with(&nodes, &SITE, &options).expect("a plan")
    };
    let doubling = WaveOverride { batches: Some(Batches::Doubling), ..WaveOverride::default() };
    assert_eq!(
        wave_names(&waves(doubling.clone(), BTreeMap::new()), 1),
        ["c1", "c2 c3", "c4 c5 c6 c7", "c8 c9"]
    );
    let grouped = WaveOverride {
        group_by: Some("rack".to_owned()),
        soak_s: Some(60),
        start: Some(Mode::Manual),
        ..doubling
    };
    let plan = waves(grouped.clone(), labels.clone());
    assert_eq!(wave_names(&plan, 1), ["c1", "c3 c4", "c6 c7 c9", "c2 c5 c8"]);
    assert_eq!(plan.problems, []);
    assert_eq!((plan.stages[1].limits.soak_s, plan.stages[1].limits.start), (60, Mode::Manual));
    let some = labels.into_iter().filter(|(node, _)| node.as_str() != "c4").collect();
    let problems = waves(grouped, some).problems;
    assert_eq!(problems.len(), 1);
    insta::assert_snapshot!(format!("{}; {}", problems[0].error, problems[0].error.next), @"stage compute is done rack by rack, and c4 has no label rack; name it in the inventory (labels = { rack = ... }; wavegate inventory set), then plan again");
}

#[test]
fn in_stage_etcd_members_go_first_whatever_the_procedure_says_and_no_wave_has_two_roles() {
    use Role::{Compute, EtcdGateway, EtcdMember, EtcdProxy};
    let mut procedure = procedure();
    procedure.stages[0].roles = vec![EtcdProxy, EtcdGateway, EtcdMember];
    let of = |name: &str, roles: &[Role]| facts(name, OsFamily::Debian, roles, Some("mitaka"));
    let fleet: BTreeMap<NodeId, Facts> = [
        of("a-gate", &[EtcdGateway, Compute]),
        of("b-gate", &[EtcdGateway, Compute]),
        of("c-proxy", &[EtcdProxy]),
        of("d-proxy", &[EtcdProxy]),
        of("e-proxy", &[EtcdProxy]),
        of("f-both", &[EtcdMember, EtcdProxy]),
        of("g-member", &[EtcdMember]),
    ]
    .into();
    let wide = |group_by: Option<&str>| {
        let (max_unavailable, group_by) = (Some(Amount::Count(5)), group_by.map(str::to_owned));
        WaveOverride { max_unavailable, group_by, ..WaveOverride::default() }
    };
    let rack =
        |node: &NodeId| if ["a-gate", "e-proxy", "g-member"].contains(&node.as_str()) { "r1" } else { "r2" };
    let labels: BTreeMap<_, _> = fleet
        .keys()
        .map(|node| (node.clone(), [("rack".to_owned(), rack(node).to_owned())].into()))
        .collect();
    let waves = |group_by| {
        let options = Options { labels: labels.clone(), ..limits(Stage::Etcd, wide(group_by)) };
        let by = Actor("anna".to_owned());
        let plan = compile(&procedure, &Values::default(), &fleet, &options, Timestamp(2), by);
        wave_names(&plan.expect("a plan"), 0)
    };
    assert_eq!(waves(None), ["f-both", "g-member", "c-proxy", "d-proxy e-proxy", "a-gate b-gate"]);
    let by_rack = ["f-both", "g-member", "e-proxy", "c-proxy d-proxy", "a-gate", "b-gate"];
    assert_eq!(waves(Some("rack")), by_rack, "no wave has two racks");
}

#[test]
fn every_step_of_every_platform_can_be_built() {
    let procedure = procedure();
    for release in ["kilo", "mitaka"] {
        for set in [&["etcd_from_archive=true"][..], &["etcd_from_archive=false"]] {
            let plan = plan(&fleet(Some(release)), &[&SITE[..], set].concat());
            assert_eq!(plan.problems, []);
        }
    }
    let ran: BTreeSet<_> = ["kilo", "mitaka"]
        .iter()
        .flat_map(|release| {
            plan(&fleet(Some(release)), &[&SITE[..], &["etcd_from_archive=false"]].concat()).stages
        })
        .flat_map(|stage| stage.tasks.into_values().flat_map(|steps| steps.to_vec()))
        .filter(|step| matches!(step.work, Work::Run { .. }))
        .map(|step| step.id)
        .collect();
    let steps = procedure.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.id.clone());
    let never: BTreeSet<_> = steps.filter(|id| !ran.contains(id)).map(|id| id.to_string()).collect();
    assert_eq!(never, BTreeSet::from(["install-etcd-archive".to_owned()]), "no step is for nobody");
}

fn any_fleet() -> impl Strategy<Value = BTreeMap<NodeId, Facts>> {
    let node = (any::<bool>(), prop::sample::subsequence(Role::ALL.to_vec(), 0..=3), 0usize..3);
    prop::collection::vec(node, 1..40).prop_map(|nodes| {
        let nodes = nodes.into_iter().enumerate().map(|(number, (debian, roles, release))| {
            let family = if debian { OsFamily::Debian } else { OsFamily::RedHat };
            facts(&format!("n{number}"), family, &roles, [None, Some("kilo"), Some("mitaka")][release])
        });
        nodes.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn waves_hold_every_node_once_and_stay_in_their_limits(
        fleet in any_fleet(), canary in 1u32..5, max_unavailable in 1u32..6, grouped in any::<bool>(),
    ) {
        let waves = WaveOverride {
            canary: Some(canary),
            max_unavailable: Some(Amount::Count(max_unavailable)),
            group_by: grouped.then(|| "rack".to_owned()),
            ..WaveOverride::default()
        };
        let label = |node: &NodeId| [("rack".to_owned(), format!("r{}", node.as_str().len() % 2))].into();
        let options = Options {
            waves: Stage::ALL.iter().map(|stage| (*stage, waves.clone())).collect(),
            labels: fleet.keys().map(|node| (node.clone(), label(node))).collect(),
        };
        let plan = match plan_with(&fleet, &SITE, &options) {
            Ok(plan) => plan,
            Err(CompileError::Limit { what, .. }) => {
                prop_assert!(what.starts_with("canary"), "{}", what);
                return Ok(());
            }
            Err(_) => {
                prop_assert!(fleet.values().all(|facts| facts.roles.is_empty()));
                return Ok(());
            }
        };
        prop_assert_eq!(&Ok(plan.clone()), &plan_with(&fleet, &SITE, &options), "the same arguments, the same plan");
        prop_assert!(Plan::seal(plan.clone()).is_ok());
        prop_assert_eq!(plan.nodes.len(), fleet.len());
        let procedure = procedure();
        for (stage, steps) in plan.stages.iter().zip(&procedure.stages) {
            let order = |node: &NodeId| steps.roles.iter().position(|role| fleet[node].roles.contains(role));
            let expected: BTreeSet<&NodeId> = fleet.keys().filter(|node| order(node).is_some()).collect();
            let nodes: Vec<&NodeId> = stage.waves.iter().flatten().collect();
            prop_assert_eq!(nodes.len(), expected.len(), "each node once");
            prop_assert_eq!(&nodes.iter().copied().collect::<BTreeSet<_>>(), &expected);
            prop_assert_eq!(stage.tasks.keys().collect::<BTreeSet<_>>(), expected);
            let group = |node: &NodeId| stage.groups.get(node);
            prop_assert_eq!(stage.groups.len(), if grouped { nodes.len() } else { 0 });
            let etcd = stage.stage == Stage::Etcd;
            let member = |node: &NodeId| etcd && fleet[node].roles.contains(&Role::EtcdMember);
            prop_assert!(
                nodes.is_sorted_by_key(|node| match etcd {
                    true if member(node) => (order(node), None, None, *node),
                    true => (order(node), group(node), None, *node),
                    false => (None, group(node), order(node), *node),
                }),
                "groups, roles in order, then names; in stage etcd roles first"
            );
            let members = stage.waves.iter().filter(|wave| member(&wave[0])).count();
            for (number, wave) in stage.waves.iter().enumerate() {
                prop_assert!(wave.iter().all(|node| group(node) == group(&wave[0])), "two groups in a wave");
                prop_assert!(!etcd || wave.iter().all(|node| order(node) == order(&wave[0])), "two roles in a wave");
                let limit = match number.checked_sub(members) {
                    None => 1,
                    Some(0) => canary,
                    Some(_) => max_unavailable,
                };
                prop_assert!(!wave.is_empty() && wave.len() <= limit as usize);
            }
            for (node, task) in &stage.tasks {
                let family = fleet[node].platform.family;
                let roles = &fleet[node].roles;
                let is_own = |step: &&Step| step.platforms.contains(&family) && !step.roles.is_disjoint(roles);
                let own = steps.steps.iter().filter(is_own).map(|step| &step.id);
                prop_assert!(task.iter().map(|step| &step.id).eq(own), "the steps of its platform and roles, in order");
            }
        }
    }
}
