//! Inventories that are right, everything that can be wrong in one, and how a fleet differs from its inventory.

use super::*;
use crate::facts::DhcpAgent;
use crate::id::Timestamp;
use crate::platform::{OsFamily, PackageManager, Platform, ServiceManager};
use proptest::prelude::*;

const GOOD: &str = r#"
[nodes.compute-1]
roles = ["compute", "etcd-proxy"]
labels = { rack = "r1", zone = "a" }

[nodes."control-1.example"]
roles = ["control"]

[nodes.deploy-1]
"#;

fn inventory(text: &str) -> Inventory {
    Inventory::parse("fleet.toml", text).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn wrong(text: &str) -> String {
    Inventory::parse("fleet.toml", text).expect_err("it is wrong").to_string()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

fn fleet(nodes: &[(&str, &[Role])]) -> BTreeMap<NodeId, Facts> {
    let facts = |name: &str, roles: &[Role]| Facts {
        node: node(name),
        observed_at: Timestamp(1),
        hostname: name.to_owned(),
        kernel: "6.1".to_owned(),
        boot_id: "1".to_owned(),
        platform: Platform {
            family: OsFamily::Debian,
            id: "ubuntu".to_owned(),
            version_id: "16.04".to_owned(),
            pretty_name: "Ubuntu 16.04".to_owned(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        },
        roles: roles.iter().copied().collect(),
        versions: BTreeMap::new(),
        release: None,
        dhcp_agent: DhcpAgent::None,
        etcd: None,
        agent_version: "0.1.0".to_owned(),
    };
    nodes.iter().map(|(name, roles)| (node(name), facts(name, roles))).collect()
}

#[test]
fn what_is_declared_is_read() {
    let inventory = inventory(GOOD);
    let names: Vec<&str> = inventory.nodes.keys().map(NodeId::as_str).collect();
    assert_eq!(names, ["compute-1", "control-1.example", "deploy-1"]);
    let compute = &inventory.nodes[&node("compute-1")];
    assert_eq!(compute.roles, Some([Role::EtcdProxy, Role::Compute].into()));
    assert_eq!(inventory.nodes[&node("deploy-1")], Declared::default());
    let labels = inventory.labels();
    assert_eq!(labels.len(), 1, "only nodes that have some");
    assert_eq!(labels[&node("compute-1")]["rack"], "r1");
    let kept = serde_json::to_string(&inventory).expect("json");
    assert_eq!(serde_json::from_str::<Inventory>(&kept).expect("an inventory"), inventory);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let text = r#"
node = 1
[nodes.compute-1]
role = ["compute"]
[nodes.compute-2]
roles = ["compte", "control", "control", 7]
labels = { Rack = "r1", zone = 1, row = "", hall = "a\tb" }
[nodes.compute-3.example]
[nodes."Compute 4"]
[nodes]
compute-5 = "compute"
"#;
    insta::assert_snapshot!(wrong(text), @r#"
    fleet.toml:2:1: unknown field 'node' in the inventory; did you mean 'nodes'?
    fleet.toml:4:1: unknown field 'role' in node 'compute-1'; did you mean 'roles'?
    fleet.toml:6:10: unknown role 'compte'; did you mean 'compute'?
    fleet.toml:6:31: role 'control' is there twice; once is enough
    fleet.toml:6:42: 'roles' has a number in it; it must be a list of strings
    fleet.toml:7:12: 'Rack' is not a label; use 1 to 64 of a-z, 0-9, '-', '_', and start with a letter
    fleet.toml:7:32: label 'zone' of node 'compute-2' is a number; it must be a string
    fleet.toml:7:41: label 'row' of node 'compute-2' is empty; write a value or leave the label out
    fleet.toml:7:52: label 'hall' of node 'compute-2' has a line break or a control character; write it without
    fleet.toml:8:18: unknown field 'example' in node 'compute-3'; a name with dots stands in quotes: [nodes."compute-3.example"]
    fleet.toml:9:8: 'Compute 4' is not a node name: use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit
    fleet.toml:11:13: node 'compute-5' is a string; it must be a table, [nodes.compute-5]
    "#);
}

#[test]
fn an_inventory_without_nodes_is_none() {
    insta::assert_snapshot!(wrong(""), @"fleet.toml:1:1: it declares no node; write [nodes.NAME] for each, or have no inventory: wavegate inventory clear");
    insta::assert_snapshot!(wrong("[nodes]\n"), @"fleet.toml:1:1: it declares no node; write [nodes.NAME] for each, or have no inventory: wavegate inventory clear");
    insta::assert_snapshot!(wrong("nodes = 3\n"), @"fleet.toml:1:9: 'nodes' is a number; it must be a table");
    insta::assert_snapshot!(wrong("[nodes.a]\nroles = [\n"), @"fleet.toml:2:10: this is not TOML: unclosed array, expected `]`");
    insta::assert_snapshot!(wrong("[nodes.a]\n[nodes.a]\n"), @"fleet.toml:2:8: this is not TOML: duplicate key");
}

#[test]
fn a_fleet_with_other_roles_has_problems() {
    let found = fleet(&[
        ("compute-1", &[Role::Compute]),
        ("control-1.example", &[Role::Control]),
        ("deploy-1", &[Role::Compute]),
        ("compute-9", &[Role::Compute]),
    ]);
    let problems = inventory(GOOD).problems(&found);
    assert_eq!(problems.len(), 1, "deploy-1 declares no roles, compute-9 is not declared");
    assert_eq!(problems[0].node, Some(node("compute-1")));
    let text = |declared: &[Role], found: &[Role]| {
        let set = |roles: &[Role]| roles.iter().copied().collect();
        other_roles(&set(declared), &set(found)).unwrap_or_default()
    };
    assert_eq!(text(&[Role::Compute], &[Role::Compute]), "");
    assert_eq!(text(&[Role::Compute], &[Role::Compute, Role::EtcdClient]), "");
    insta::assert_snapshot!(text(&[Role::Compute, Role::EtcdClient], &[Role::Compute]), @"its roles are not those of the inventory: etcd-client was not found");
    insta::assert_snapshot!(text(&[Role::Compute, Role::EtcdProxy], &[Role::Compute]), @"its roles are not those of the inventory: etcd-proxy was not found");
    insta::assert_snapshot!(text(&[], &[Role::Compute]), @"its roles are not those of the inventory: compute was found and is not declared");
    insta::assert_snapshot!(text(&[Role::Control], &[Role::Compute]), @"its roles are not those of the inventory: control was not found, compute was and is not declared");
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "[\\[\\]{}=\".,a-z0-9 \n#-]{0,80}") {
        if let Ok(inventory) = Inventory::parse("fleet.toml", &text) {
            prop_assert!(!inventory.nodes.is_empty());
        }
    }

    #[test]
    fn what_is_written_is_read_again(
        nodes in proptest::collection::btree_map(
            "[a-z][a-z0-9.-]{0,9}",
            (proptest::option::of(proptest::sample::subsequence(Role::ALL, 0..=5)),
             proptest::collection::btree_map("[a-z][a-z0-9_-]{0,5}", "[A-Za-z0-9 .\"-]{1,8}x", 0..3)),
            1..6,
        )
    ) {
        let declared = |(roles, labels): (Option<Vec<Role>>, BTreeMap<String, String>)| {
            Declared { roles: roles.map(|roles| roles.into_iter().collect()), labels }
        };
        let nodes = nodes.into_iter().map(|(name, rest)| (node(&name), declared(rest))).collect();
        let inventory = Inventory { nodes };
        let text = toml::to_string(&inventory).expect("TOML");
        prop_assert_eq!(Inventory::parse("fleet.toml", &text), Ok(inventory));
    }
}
