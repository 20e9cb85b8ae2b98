//! Tests of pairs that can't talk: each at its edge.

use super::*;
use crate::etcd::{ClusterId, MemberId, sample};
use crate::facts::{Component, DhcpAgent};
use crate::id::Timestamp;
use crate::platform::{OsFamily, PackageManager, Platform, ServiceManager};
use proptest::prelude::*;

fn version(text: &str) -> EtcdVersion {
    text.parse().expect("a version")
}

fn cluster(runs: &str) -> ClusterView {
    let mut cluster = sample::cluster(1);
    sample::status(&mut cluster.members[0]).version = version(runs);
    ClusterView { version: None, auth: None, ..cluster }
}

fn facts(name: &str, versions: &[(Component, &str)], etcd: Option<EtcdFacts>) -> (NodeId, Facts) {
    let node = NodeId::new(name).expect("a node");
    let facts = Facts {
        node: node.clone(),
        observed_at: Timestamp(7),
        hostname: name.into(),
        kernel: "6.1".into(),
        boot_id: "b".into(),
        platform: Platform {
            family: OsFamily::Debian,
            id: "debian".into(),
            version_id: "12".into(),
            pretty_name: "Debian 12".into(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        },
        roles: BTreeSet::new(),
        versions: versions.iter().map(|(component, version)| (*component, (*version).to_owned())).collect(),
        release: None,
        dhcp_agent: DhcpAgent::None,
        etcd,
        agent_version: "1".into(),
    };
    (node, facts)
}

fn etcd(part: Part, runs: &str) -> EtcdFacts {
    EtcdFacts {
        part,
        version: Some(version(runs)),
        cluster_id: Some(ClusterId(0xc1)),
        member: (part == Part::Member).then_some(MemberId(1)),
        data_dir: None,
        data_filesystem: None,
        listens: Vec::new(),
        enable_v2: None,
        endpoints: Vec::new(),
        cluster: None,
        unknown: Vec::new(),
    }
}

fn member(runs: &str, enable_v2: Option<bool>) -> (NodeId, Facts) {
    facts("e1", &[], Some(EtcdFacts { enable_v2, ..etcd(Part::Member, runs) }))
}

fn rules(cluster: &ClusterView, to: &str, nodes: Vec<(NodeId, Facts)>) -> Vec<Rule> {
    let found = judge_clients(cluster, version(to), &nodes.into_iter().collect());
    found.into_iter().map(|objection| objection.rule).collect()
}

#[test]
fn the_version_2_api_is_off_from_3_4_on() {
    let felix = |version: &str| facts("c1", &[(Component::Felix, version)], None);
    let driver = |version: &str| facts("c1", &[(Component::NetworkingCalico, version)], None);
    let off = [Rule::V2Api];
    let on = Some(true);
    let of = |from: &str, to: &str, enable: Option<bool>, node: (NodeId, Facts)| {
        rules(&cluster(from), to, vec![member(from, enable), node])
    };
    assert_eq!(of("3.3.25", "3.4.23", None, felix("2.6.12")), off);
    assert_eq!(of("3.3.25", "3.4.23", Some(false), felix("1.4.6~trusty")), off);
    assert_eq!(of("3.3.25", "3.4.23", None, driver("1:1.4.3~trusty")), off);
    assert_eq!(of("3.3.25", "3.4.23", None, facts("p1", &[], Some(etcd(Part::Proxy, "3.3.25")))), off);
    assert_eq!(of("3.3.25", "3.4.23", on, felix("2.6.12")), []);
    assert_eq!(of("3.3.25", "3.3.27", None, felix("2.6.12")), []);
    assert_eq!(of("3.4.23", "3.5.16", None, felix("2.6.12")), [], "it has been off before");
    assert_eq!(of("3.3.25", "3.4.23", None, felix("3.26.1")), []);
    assert_eq!(of("3.3.25", "3.4.23", None, facts("g1", &[], Some(etcd(Part::Gateway, "3.3.25")))), []);
    // What no agent tells may be off.
    assert_eq!(rules(&cluster("3.3.25"), "3.4.23", vec![felix("2.6.12")]), off);
    let mut with_keys = cluster("3.3.25");
    with_keys.v2_keys = Some(true);
    // Keys that nobody is known to ask for are to be acknowledged.
    let leaves = |to: &str, enable: Option<bool>, node: (NodeId, Facts)| {
        let nodes = vec![member("3.3.25", enable), node];
        let left = leaves_v2_keys(&with_keys, version(to), &nodes.clone().into_iter().collect());
        (rules(&with_keys, to, nodes), left)
    };
    assert_eq!(leaves("3.4.23", None, felix("3.26.1")), (vec![], true));
    assert_eq!(leaves("3.4.23", on, felix("3.26.1")), (vec![], false));
    assert_eq!(leaves("3.3.27", None, felix("3.26.1")), (vec![], false));
    assert_eq!(leaves("3.4.23", None, felix("2.6.12")), (off.to_vec(), false), "somebody asks for them");
    // From 3.6 on nothing switches it on. Keys that are left over there are the cluster's own matter.
    assert_eq!(of("3.5.32", "3.6.4", None, felix("2.6.12")), off);
    let mut with_keys = cluster("3.5.32");
    with_keys.v2_keys = Some(true);
    assert_eq!(rules(&with_keys, "3.6.4", vec![member("3.5.32", None)]), []);
}

#[test]
fn the_path_v3alpha_is_gone_from_3_4_on() {
    let with = |versions: &[(Component, &str)], from: &str, to: &str| {
        rules(&cluster(from), to, vec![member(from, Some(true)), facts("c1", versions, None)])
    };
    let (felix, driver) = (Component::Felix, Component::NetworkingCalico);
    assert_eq!(with(&[(felix, "3.3.7")], "3.3.25", "3.4.23"), [Rule::V3Alpha]);
    assert_eq!(with(&[(driver, "1:3.25.0-1")], "3.3.25", "3.4.23"), [Rule::V3Alpha]);
    assert_eq!(with(&[(driver, "2.0.0")], "3.3.25", "3.4.23"), [Rule::V3Alpha]);
    assert_eq!(with(&[(felix, "3.26.1"), (driver, "3.22.0")], "3.3.25", "3.4.23"), [Rule::V3Alpha]);
    assert_eq!(with(&[(felix, "3.26.1"), (driver, "3.26.1")], "3.3.25", "3.4.23"), []);
    assert_eq!(with(&[(driver, "3.25.0")], "3.4.23", "3.5.16"), []);
    assert_eq!(with(&[(driver, "1.4.3")], "3.3.25", "3.4.23"), [], "it asks the version 2 API, which is on");
}

#[test]
fn proxies_are_gone_from_3_6_on() {
    let proxy = |runs: &str| facts("p1", &[], Some(etcd(Part::Proxy, runs)));
    assert_eq!(rules(&cluster("3.5.32"), "3.6.4", vec![proxy("3.5.32")]), [Rule::V2Api, Rule::ProxyGone]);
    assert_eq!(rules(&cluster("3.4.23"), "3.5.16", vec![proxy("3.4.23")]), []);
    let gateway = facts("g1", &[], Some(etcd(Part::Gateway, "3.5.32")));
    assert_eq!(rules(&cluster("3.5.32"), "3.6.4", vec![gateway]), []);
}

#[test]
fn the_option_enable_v2_is_gone_from_3_6_on() {
    let with = |from: &str, to: &str, enable| rules(&cluster(from), to, vec![member(from, enable)]);
    assert_eq!(with("3.5.32", "3.6.4", Some(true)), [Rule::EnableV2]);
    assert_eq!(with("3.5.32", "3.6.4", Some(false)), [Rule::EnableV2], "it is an option that is not known");
    assert_eq!(with("3.5.32", "3.6.4", None), []);
    assert_eq!(with("3.4.23", "3.5.16", Some(true)), []);
    assert_eq!(with("3.6.4", "3.6.11", Some(true)), [], "it was there before");
}

#[test]
fn port_4001_is_no_default_from_3_0_on() {
    let with = |part: Part, change: fn(&mut EtcdFacts), versions: &[(Component, &str)]| {
        let mut etcd = etcd(part, "2.3.8");
        change(&mut etcd);
        rules(&cluster("2.3.8"), "3.0.17", vec![facts("p1", versions, Some(etcd))])
    };
    let nothing: fn(&mut EtcdFacts) = |_| ();
    let asks: fn(&mut EtcdFacts) = |etcd| etcd.endpoints = vec!["http://127.0.0.1:4001".into()];
    let asks_2379: fn(&mut EtcdFacts) = |etcd| etcd.endpoints = vec!["http://127.0.0.1:2379".into()];
    let elsewhere: fn(&mut EtcdFacts) = |etcd| etcd.endpoints = vec!["http://10.0.0.1:4001".into()];
    let told: fn(&mut EtcdFacts) = |etcd| {
        etcd.endpoints = vec!["localhost:4001".into()];
        etcd.listens = vec!["http://127.0.0.1:2379".into(), "http://127.0.0.1:4001".into()];
    };
    let old = [(Component::Felix, "1.4.6")];
    assert_eq!(with(Part::Proxy, asks, &[]), [Rule::Port4001]);
    assert_eq!(with(Part::Member, asks, &[]), [Rule::Port4001]);
    assert_eq!(with(Part::Proxy, nothing, &old), [Rule::Port4001]);
    assert_eq!(with(Part::Proxy, nothing, &[(Component::NetworkingCalico, "1.4.3")]), [Rule::Port4001]);
    assert_eq!(with(Part::Proxy, asks_2379, &old), []);
    assert_eq!(with(Part::Proxy, elsewhere, &old), [], "by default it listens on its own node alone");
    assert_eq!(with(Part::Proxy, told, &old), []);
    assert_eq!(with(Part::Proxy, nothing, &[(Component::Felix, "2.6.12")]), []);
    assert_eq!(with(Part::Gateway, asks, &[]), []);
    assert_eq!(with(Part::Proxy, |etcd| etcd.version = Some(version("3.0.17")), &old), []);
}

#[test]
fn each_says_what_to_do_first() {
    let felix = |name: &str, version: &str| facts(name, &[(Component::Felix, version)], None);
    let told = |from: &str, to: &str, nodes: Vec<(NodeId, Facts)>| {
        let found = judge_clients(&cluster(from), version(to), &nodes.into_iter().collect());
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let six = (1..=6).map(|n| felix(&format!("c{n}"), "2.6.12")).chain([member("3.3.25", None)]).collect();
    insta::assert_snapshot!(told("3.3.25", "3.4.23", six), @"3.4.23 does not serve the version 2 API unless told to, and Calico on c1, c2, c3, c4, c5 and 1 more asks it; set ETCD_ENABLE_V2=true (--enable-v2) for every member first, here e1; where nothing needs that API any more, delete its keys and put etcd gateways in the place of proxies");
    insta::assert_snapshot!(told("3.3.25", "3.4.23", vec![felix("c1", "3.3.7")]), @"3.4.23 does not serve /v3alpha any more, and Calico on c1, of 3.0 to 3.25, asks nothing else; bring Calico to 3.26 or later on every node first, with etcd left as it is (--set upgrade_etcd=false), then upgrade etcd");
    let proxy = facts("p1", &[], Some(etcd(Part::Proxy, "3.5.32")));
    insta::assert_snapshot!(told("3.5.32", "3.6.4", vec![proxy]), @r"
    3.6.4 has no version 2 API, and the etcd proxies on p1 pass it on; bring Calico to 3.26 or later (from 2.6 by way of 2.6.5 and 3.x) and put etcd gateways in the place of proxies first; until then stay at 3.5
    3.6.4 has no --proxy any more, and etcd on p1 is started with it; put an etcd gateway in the place of each proxy first (etcd gateway start --endpoints=MEMBERS --listen-addr=127.0.0.1:2379)
    ");
    insta::assert_snapshot!(told("3.5.32", "3.6.4", vec![member("3.5.32", Some(true))]), @"3.6.4 has no --enable-v2 any more, and etcd on e1 is configured with it; when nothing asks the version 2 API any more, remove --enable-v2 and ETCD_ENABLE_V2 on every member and restart one after the other; etcdutl check v2store must find no custom data on any of them; then plan again");
    let old = facts("p1", &[(Component::Felix, "1.4.6")], Some(etcd(Part::Proxy, "2.3.8")));
    insta::assert_snapshot!(told("2.3.8", "3.0.17", vec![old]), @"3.0.17 does not listen on port 4001 unless told to, and Calico on p1 asks etcd there; set ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379,http://127.0.0.1:4001 (with a member's other addresses, and ETCD_ADVERTISE_CLIENT_URLS) there first, or let Calico ask port 2379");
}

proptest! {
    #[test]
    fn versions_of_any_text_never_panic(text in any::<String>(), soup in "([0-9]|\\.|:|~){0,12}", port in ".{0,12}") {
        let mut server = etcd(Part::Proxy, "2.3.8");
        server.endpoints = vec![port];
        let nodes = [facts("c1", &[(Component::Felix, &text)], None), facts("c2", &[(Component::NetworkingCalico, &soup)], Some(server))];
        let _ = judge_clients(&cluster("2.3.8"), version("3.0.17"), &nodes.into_iter().collect());
    }
}
