//! The fleet as it is declared: a host that is forgotten holds up the plan, and nothing that differs goes unsaid.

use super::support::{Agent, Site, node, plan_request};
use tonic::{Code, Status as Refusal};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::Status;
use wavegate_coordinator::store::InventoryRecord;
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;

async fn set(site: &Site, text: &str) -> Result<v1::Done, Refusal> {
    let request = v1::SetInventoryRequest { text: text.to_owned(), file: "fleet.toml".to_owned() };
    Ok(site.operator().await.set_inventory(request).await?.into_inner())
}

async fn clear(site: &Site) -> v1::Done {
    let mut alice = site.operator().await;
    alice.clear_inventory(v1::ClearInventoryRequest {}).await.expect("cleared").into_inner()
}

async fn shown(site: &Site) -> Option<InventoryRecord> {
    let document = site.operator().await.get_inventory(v1::GetInventoryRequest {}).await.expect("an answer");
    read_document("inventory", Some(&document.into_inner())).expect("an inventory, or none")
}

const DECLARED: &str = "[nodes.c1]\nroles = [\"compute\"]\nlabels = { rack = \"r1\" }\n[nodes.c2]\n";

#[tokio::test]
async fn it_is_set_shown_and_cleared_each_once() {
    let mut site = Site::start().await;
    assert_eq!(shown(&site).await, None);
    let nothing = clear(&site).await;
    assert!(!nothing.changed);
    insta::assert_snapshot!(nothing.text, @"there is no inventory, nothing was cleared");
    site.enrol("c1").await;
    site.enrol("c9").await;
    let done = set(&site, DECLARED).await.expect("set");
    assert!(done.changed);
    insta::assert_snapshot!(done.text, @"the inventory is set: 2 node(s) declared, not enrolled of them: c2; enrolled and not declared: c9");
    let again = set(&site, DECLARED).await.expect("so already");
    assert!(!again.changed);
    insta::assert_snapshot!(again.text, @"the inventory is so already, set by alice: 2 node(s) declared, not enrolled of them: c2; enrolled and not declared: c9");
    let results = || {
        let all = site.daemon().store().audited(100).expect("the audit list");
        let about = all.into_iter().filter(|record| record.what == "set the inventory (fleet.toml)");
        about.map(|record| (record.who, record.result)).collect::<Vec<_>>()
    };
    let by_alice = |result: &str| ("alice".to_owned(), result.to_owned());
    assert_eq!(results(), [by_alice("nothing to do"), by_alice("done")]);

    // It is there after a crash as well.
    site.kill().await;
    site.start_again().await;
    let record = shown(&site).await.expect("kept");
    assert_eq!((record.file.as_str(), record.text.as_str()), ("fleet.toml", DECLARED));
    assert_eq!(record.set_by.0, "alice");
    let other = set(&site, "[nodes.c1]\n").await.expect("another");
    assert!(other.changed);
    assert!(clear(&site).await.changed);
    assert_eq!(shown(&site).await, None);
    assert!(!clear(&site).await.changed);
}

#[tokio::test]
async fn what_is_wrong_in_it_is_said_and_the_one_before_stays() {
    let site = Site::start().await;
    set(&site, DECLARED).await.expect("set");
    let wrong = set(&site, "[nodes.c1]\nrole = []\n[nodes.C2]\n").await.expect_err("it is wrong");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    insta::assert_snapshot!(wrong.message(), @r"
    fleet.toml:2:1: unknown field 'role' in node 'c1'; did you mean 'roles'?
    fleet.toml:3:8: 'C2' is not a node name: use 1 to 64 of a-z, 0-9, '-', '.', '_', and start with a letter or digit
    ");
    assert_eq!(shown(&site).await.map(|record| record.text).as_deref(), Some(DECLARED));
    assert!(site.until_audited("alice", "set the inventory").await.result.contains("unknown field 'role'"));
}

#[tokio::test]
async fn a_forgotten_host_holds_up_the_plan_by_name() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c3", "compute")]).await;
    let before = site.plan().await;
    set(&site, DECLARED).await.expect("set");
    agents[1].disconnect().await;
    site.until_link("c3", false).await;
    let refused = site.make_plan(plan_request()).await.expect_err("c2 is not there");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message(), @"offline: c3; in the inventory and not enrolled: c2; a plan is made with every node, so switch them on or start their agents (systemctl start wavegate-agent), then plan again; a machine that is gone for good is taken out of the fleet: wavegate node remove NODE; enrol what is declared and missing (wavegate token create --node NODE), or take it out of the inventory (wavegate inventory set FILE)");
    let refused = site.start_plan(before.id.as_str(), false).await.expect_err("it was made without c2");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(before.id.as_str(), "PLAN"), @"the inventory declares c2, not enrolled; plan PLAN was made before that; enrol what is missing or set the inventory right, then make a new plan: wavegate plan");
    let nodes = site.nodes().await;
    let row = |name: &str| nodes.iter().find(|known| known.node.as_str() == name).expect("listed").clone();
    assert_eq!((row("c2").declared, row("c2").enrolled_at), (Some(true), None));
    assert_eq!((row("c1").declared, row("c1").labels["rack"].as_str()), (Some(true), "r1"));
    assert_eq!(row("c3").declared, Some(false));

    agents[1].connect(&site).await;
    let credentials = site.enrol("c2").await;
    let c2 = Agent::new("c2", "compute", credentials);
    c2.connect(&site).await;
    let plan = site.plan().await;
    assert_eq!(plan.body.problems, []);
    assert_eq!(plan.body.undeclared.iter().map(|node| node.as_str()).collect::<Vec<_>>(), ["c3"]);
    site.start_plan(plan.id.as_str(), false).await.expect("started");
    site.until_status(Status::Finished).await;
    assert_eq!(agents[1].book().orders.len(), 1, "who is not declared takes part");
}

#[tokio::test]
async fn other_roles_than_declared_keep_the_plan_from_being_started() {
    let site = Site::start().await;
    let _agents = site.fleet(&[("c1", "control"), ("c2", "compute")]).await;
    set(&site, DECLARED).await.expect("set");
    let plan = site.plan().await;
    assert_eq!(plan.body.problems.len(), 1, "{:#?}", plan.body.problems);
    let refused = site.start_plan("", false).await.expect_err("a problem");
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @r"
    plan PLAN has 1 problem(s) that keep it from being started:
      c1: its roles are not those of the inventory: compute was not found, control was and is not declared; see what its agent finds (wavegate-agent facts, on c1): install what is missing there or name the role in the agent's configuration (roles); or declare what is so: wavegate inventory set FILE. Then plan again
    mend them and make a new plan (all of them: wavegate plan show PLAN)
    ");
    clear(&site).await;
    let plan = site.plan().await;
    set(&site, DECLARED).await.expect("set");
    let refused = site.start_plan("", false).await.expect_err("declared otherwise since");
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @"the inventory declares other roles for c1; plan PLAN was made before that; enrol what is missing or set the inventory right, then make a new plan: wavegate plan");
}

#[tokio::test]
async fn a_plan_can_group_nodes_by_what_is_declared() {
    let site = Site::start().await;
    let _agents = site.fleet(&[("c1", "compute"), ("c2", "compute"), ("c3", "compute")]).await;
    let by_rack = || v1::MakePlanRequest {
        limits: vec![v1::StageLimits {
            stage: "compute".to_owned(),
            group_by: Some("rack".to_owned()),
            ..v1::StageLimits::default()
        }],
        ..plan_request()
    };
    set(
        &site,
        "nodes = { c1 = { labels = { rack = \"r2\" } }, c2 = {}, c3 = { labels = { rack = \"r1\" } } }\n",
    )
    .await
    .expect("set");
    let plan = site.make_plan(by_rack()).await.expect("a plan");
    let about: Vec<_> = plan.body.problems.iter().filter_map(|problem| problem.node.clone()).collect();
    assert_eq!(about, [node("c2")], "{:#?}", plan.body.problems);
    let racks = ["r2", "r2", "r1"]
        .iter()
        .zip(1..)
        .map(|(rack, n)| format!("[nodes.c{n}]\nlabels = {{ rack = \"{rack}\" }}\n"));
    set(&site, &racks.collect::<String>()).await.expect("set");
    let plan = site.make_plan(by_rack()).await.expect("a plan");
    assert_eq!(plan.body.problems, []);
    let compute = plan.stage(Stage::Compute).expect("a stage");
    assert_eq!(compute.waves, [vec![node("c3")], vec![node("c1"), node("c2")]]);
}
