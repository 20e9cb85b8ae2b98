//! Machines that are gone for good: their nodes are taken out of the fleet, and plans are made without them.

use super::support::agent::Wire;
use super::support::flaky::Disk;
use super::support::{Agent, Site, enrolled, newest, node, plan_request, task, within};
use rcgen::KeyPair;
use std::sync::Arc;
use tonic::{Code, Status as Refusal};
use wavegate_common::id::{FleetId, Generation, Timestamp};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState};
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::store::{AuditRecord, Store};
use wavegate_proto::v1;

async fn remove(site: &Site, node: &str, force: bool) -> Result<v1::RemoveNodeResponse, Refusal> {
    let request = v1::RemoveNodeRequest { node: node.to_owned(), force };
    Ok(site.operator().await.remove_node(request).await?.into_inner())
}

async fn names(site: &Site) -> Vec<String> {
    site.nodes().await.into_iter().map(|known| known.node.to_string()).collect()
}

#[tokio::test]
async fn a_machine_that_is_gone_for_good_holds_up_no_plan() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let before = site.plan().await;
    agents[1].disconnect().await;
    site.until_link("c2", false).await;
    let refused = site.make_plan(plan_request()).await.expect_err("c2 is offline");
    assert!(refused.message().contains("wavegate node remove"), "{refused:?}");
    let removed = remove(&site, "c2", false).await.expect("it is offline and has no task");
    assert!(removed.changed);
    insta::assert_snapshot!(removed.text, @"node c2 is removed from the fleet, and its certificate is worth nothing; a plan made before has it still, so make a new one: wavegate plan");
    let audited = site.until_audited("alice", "remove node c2 from the fleet").await;
    assert_eq!(audited.result, "done");
    assert_eq!(names(&site).await, ["c1"]);
    let refused = site.start_plan(before.id.as_str(), false).await.expect_err("it has c2");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(before.id.as_str(), "PLAN"), @"plan PLAN has c2, no longer in the fleet; make a new plan: wavegate plan");

    // It is so after a crash as well.
    site.kill().await;
    site.start_again().await;
    assert_eq!(names(&site).await, ["c1"]);
    agents[0].connect(&site).await;
    site.run_plan().await;
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn a_removed_node_is_refused_until_it_enrols_again() {
    let site = Site::start().await;
    let token = site.token("").await;
    let key = KeyPair::generate().expect("a key");
    site.enrol_with(&token, "c2", &key).await.expect("enrolled");
    let agents = site.fleet(&[("c1", "compute")]).await;
    agents[0].disconnect().await;
    site.until_link("c1", false).await;
    for name in ["c1", "c2"] {
        assert!(remove(&site, name, false).await.expect("removed").changed);
    }
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.hello("c1", Generation(0), Some(&agents[0].facts)).await;
    let refused = wire.answer().await.expect_err("it was removed");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"node c1 is not in this fleet: it was removed or never enrolled; enrol again with a new token: wavegate token create --node c1");
    site.until_audited("node c1", "a session, and it was removed or never enrolled").await;
    assert!(names(&site).await.is_empty());

    // The token that it used before is no way back; any new one is, also one for any node.
    let refused = site.enrol_with(&token, "c2", &key).await.expect_err("used");
    assert_eq!(refused.code(), Code::PermissionDenied);
    for name in ["c1", "c2"] {
        let credentials = site.enrol(name).await;
        Agent::new(name, "compute", credentials).connect(&site).await;
    }
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.hello("c1", Generation(0), None).await;
    let refused = wire.answer().await.expect_err("its certificate of before");
    assert!(refused.message().contains("not the one that it was given last"), "{refused:?}");
    assert_eq!(site.plan().await.body.nodes.len(), 2);
}

#[tokio::test]
async fn a_node_that_is_online_is_removed_by_force_alone() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let mut wire = Wire::open(&site, &agents[1].credentials).await;
    wire.hello("c2", Generation(0), Some(&agents[1].facts)).await;
    wire.next().await;
    let refused = remove(&site, "c2", false).await.expect_err("online");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message(), @"node c2 is online; stop its agent first (systemctl disable --now wavegate-agent, on c2), or say --force");
    let audited = site.until_audited("alice", "remove node c2 from the fleet").await;
    assert_eq!(audited.result, refused.message());
    assert!(remove(&site, "c2", true).await.expect("by force").changed);
    assert!(matches!(within(wire.answer()).await, Ok(None)), "its session is ended");
    assert_eq!(names(&site).await, ["c1"]);
    assert_eq!(site.plan().await.body.nodes.len(), 1);
}

#[tokio::test]
async fn a_node_with_a_task_in_a_rollout_stays_until_the_rollout_has_ended() {
    let site = Site::start_with_manual_clock().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    agents[0].disconnect().await;
    site.until_link("e1", false).await;
    for (name, force) in [("e1", false), ("e1", true), ("c1", true)] {
        let refused = remove(&site, name, force).await.expect_err("it has a task");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let text = refused.message().replace(name, "NODE");
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @"node NODE has a task in rollout r1, which is running; let it finish (wavegate watch), or end it (wavegate stop), then remove the node");
        }
    }
    site.operator().await.stop(newest()).await.expect("stopped");
    let refused = remove(&site, "e1", false).await.expect_err("its task has not ended");
    insta::assert_snapshot!(refused.message(), @"node e1 has a task in rollout r1, which is stopping; let it come to its end (wavegate watch), then remove the node");

    // A stopped rollout waits for nobody who is lost.
    site.advance(60_000);
    site.until_status(Status::Stopped).await;
    let events = site.events("r1").await;
    assert!(remove(&site, "e1", false).await.expect("the rollout has ended").changed);
    let status = site.status().await;
    let kept = task(&status, Stage::Etcd, "e1").expect("the record keeps it");
    assert_eq!(kept.state, TaskState::Unknown);
    assert_eq!(site.events("r1").await, events);
    assert_eq!(site.plan().await.body.nodes.keys().collect::<Vec<_>>(), [&node("c1")]);
}

#[tokio::test]
async fn what_is_not_there_is_removed_already() {
    let site = Site::start().await;
    for name in ["compute-1.example", "compute-2", "compute-3", "control-1"] {
        site.enrol(name).await;
    }
    let mut texts = Vec::new();
    for name in ["compute-1", "comptue-2", "router-x"] {
        let removed = remove(&site, name, false).await.expect("no error");
        assert!(!removed.changed);
        texts.push(removed.text);
    }
    insta::assert_snapshot!(texts.join("\n"), @r#"
there is no node compute-1 in the fleet, nothing was removed; did you mean compute-1.example, compute-2, compute-3? (wavegate nodes)
there is no node comptue-2 in the fleet, nothing was removed; did you mean compute-2, compute-3? (wavegate nodes)
there is no node router-x in the fleet, nothing was removed; who is in it: wavegate nodes
"#);
    assert_eq!(site.until_audited("alice", "remove node router-x").await.result, "nothing to do");
    assert_eq!(names(&site).await.len(), 4);
    let wrong = remove(&site, "No Name", false).await.expect_err("no name");
    assert_eq!(wrong.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_removal_that_cannot_be_stored_is_none() {
    let disk = Disk::new();
    let mut site = Site::set_up(|_| {}, Clock::system());
    let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
    let store = Arc::new(disk.store("test"));
    let daemon =
        Daemon::start_on(&site.config, Clock::system(), authority, store, None).await.expect("started");
    site.set_daemon(daemon);
    site.enrol("c1").await;
    disk.set_full(true);
    let refused = remove(&site, "c1", false).await.expect_err("no room");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(names(&site).await, ["c1"]);
    disk.set_full(false);
    assert!(remove(&site, "c1", false).await.expect("there is room").changed);
}

#[test]
fn a_node_is_forgotten_and_the_audit_list_has_it() {
    let fleet: FleetId = "test".parse().expect("a name");
    let store = Store::in_memory(&fleet).expect("a store");
    let record = |name: &str| enrolled(node(name));
    for name in ["c1", "c10"] {
        store.put_node(&record(name)).expect("kept");
    }
    let (who, what, result) = ("alice".to_owned(), "remove node c1".to_owned(), "done".to_owned());
    let audit = AuditRecord { at: Timestamp(2), who, what, result };
    for times in 1..=2 {
        store.remove_node(&node("c1"), &audit).expect("forgotten");
        assert_eq!(store.nodes().expect("nodes"), [record("c10").into()]);
        assert_eq!(store.audited(10).expect("records"), vec![audit.clone(); times]);
    }
}
