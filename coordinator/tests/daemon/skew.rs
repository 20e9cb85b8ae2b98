//! Agents and command lines of other versions: who is taken, who is refused and how that is told, and what is not understood.

use super::support::agent::{Agent, Wire, facts};
use super::support::{Site, eventually, newest, within};
use tonic::Code;
use tonic::metadata::MetadataValue;
use wavegate_common::id::Generation;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState, WaitingOn};
use wavegate_common::version::Version;
use wavegate_proto::VERSION_METADATA;
use wavegate_proto::convert::{document, read_document};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as Out;
use wavegate_proto::v1::coordinator_message::Message as In;

/// A version so many minor ones ahead of this one.
fn ahead(minor: u16) -> String {
    let own = Version::own().expect("a version");
    Version { minor: own.minor + minor, ..own }.to_string()
}

/// Texts with this version and one two ahead spelt out.
fn general(text: &str) -> String {
    text.replace(&ahead(2), "THEIRS").replace(env!("CARGO_PKG_VERSION"), "OURS")
}

/// An agent of some version says hello on a connection of its own.
async fn hello(site: &Site, agent: &Agent, agent_version: &str, facts: Option<v1::Document>) -> Wire {
    let wire = Wire::open(site, &agent.credentials).await;
    let hello = v1::Hello {
        node: agent.name.clone(),
        agent_version: agent_version.to_owned(),
        facts,
        ..v1::Hello::default()
    };
    wire.say(Out::Hello(hello)).await;
    wire
}

async fn trouble(site: &Site) -> (Option<String>, Option<String>) {
    let nodes = site.nodes().await;
    let c1 = nodes.iter().find(|node| node.node.as_str() == "c1").expect("it enrolled");
    (c1.agent_version.as_deref().map(str::to_owned), c1.trouble.as_deref().map(general))
}

#[tokio::test]
async fn an_agent_two_minor_versions_away_is_refused_and_everybody_is_told() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    agents[1].disconnect().await;
    site.until_link("c1", false).await;
    for _ in 0..3 {
        let mut wire = hello(&site, &agents[1], &ahead(2), None).await;
        let refused = wire.answer().await.expect_err("too new");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        insta::allow_duplicates! {
            insta::assert_snapshot!(general(refused.message()), @"node c1: its agent THEIRS is not taken: the coordinator is OURS, and they work together within one minor version; install wavegate-coordinator THEIRS on the coordinator's host, one minor version after the other, or install wavegate-agent OURS on c1");
        }
    }
    site.until_audited("node c1", "is not taken").await;
    let audited = site.daemon().store().audited(1000).expect("the audit list");
    let told = audited.iter().filter(|record| record.what.contains("is not taken")).count();
    assert_eq!(told, 1, "once a version, not at every try");
    let (version, trouble_told) = trouble(&site).await;
    assert_eq!(version, Some(ahead(2)));
    insta::assert_snapshot!(trouble_told.expect("it is shown"), @"its agent THEIRS is not taken: the coordinator is OURS, and they work together within one minor version; install wavegate-coordinator THEIRS on the coordinator's host, one minor version after the other, or install wavegate-agent OURS on c1");

    let about = v1::WhyRequest { node: "c1".to_owned(), ..v1::WhyRequest::default() };
    let reasons = site.operator().await.why(about).await.expect("reasons").into_inner();
    let reasons: Vec<WaitingOn> = read_document("waiting", Some(&reasons)).expect("reasons");
    let reason = reasons.iter().find(|reason| reason.why.contains("not taken")).expect("it is waited for");
    insta::assert_snapshot!(general(&format!("{} / {}", reason.why, reason.unblock)), @"c1: its agent THEIRS is not taken: the coordinator is OURS, and they work together within one minor version / install wavegate-coordinator THEIRS on the coordinator's host, one minor version after the other, or install wavegate-agent OURS on c1");
    let waiting = site.status().await.waiting;
    assert!(waiting.iter().any(|reason| reason.why.contains("is not taken")), "{waiting:?}");

    let mut wire = hello(&site, &agents[1], "of this morning", None).await;
    let refused = wire.answer().await.expect_err("that is no version");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("agent of this morning is not taken"), "{refused:?}");

    agents[0].script(|book| book.hold = false);
    agents[0].disconnect().await;
    agents[0].connect(&site).await;
    agents[1].connect(&site).await;
    assert_eq!(trouble(&site).await, (Some("0.1.0".to_owned()), None));
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn an_agent_one_minor_version_ahead_is_taken_whatever_it_says_beside() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    agents[0].disconnect().await;
    site.until_link("c1", false).await;
    // Fields that we don't know are nothing to us.
    let mut more: serde_json::Value = serde_json::to_value(facts("c1", "compute")).expect("facts");
    more["moon"] = "full".into();
    let more = document("facts", &more).expect("a document");
    let mut wire = hello(&site, &agents[0], &ahead(1), Some(more)).await;
    assert!(matches!(wire.next().await, In::Welcome(_)));
    assert_eq!(trouble(&site).await.1, None);

    // Words that we don't know are refused by themselves, and the session goes on.
    let mut strange: serde_json::Value = serde_json::to_value(facts("c1", "compute")).expect("facts");
    strange["roles"] = serde_json::json!(["teapot"]);
    let strange = document("facts", &strange).expect("a document");
    wire.say(Out::Facts(strange.clone())).await;
    site.until_audited("node c1", "does not understand").await;
    insta::assert_snapshot!(trouble(&site).await.1.expect("it is shown"), @"it said what this coordinator (OURS) does not understand, so that has no effect: the facts document is not valid: unknown variant `teapot`, expected one of `etcd-member`, `etcd-proxy`, `etcd-gateway`, `etcd-client`, `compute`, `control` at line 1 column 297");
    wire.say(Out::Facts(document("facts", &facts("c1", "control")).expect("a document"))).await;
    let control = facts("c1", "control").roles;
    eventually("what came after it counts", || async { site.nodes().await[0].roles.as_ref() == &control })
        .await;
    drop(wire);

    // The same in its first word: it is taken, else it would be back with it every second.
    let mut wire = hello(&site, &agents[0], &ahead(1), Some(strange)).await;
    assert!(matches!(wire.next().await, In::Welcome(_)));
    let nodes = site.nodes().await;
    assert!(nodes[0].link.is_online() && nodes[0].trouble.is_some(), "{nodes:?}");
}

#[tokio::test]
async fn a_command_line_of_another_version_is_told_what_to_install() {
    let site = Site::start().await;
    let ask = async |version: Option<&str>| {
        let mut request = tonic::Request::new(v1::ListNodesRequest::default());
        if let Some(version) = version {
            let version = MetadataValue::try_from(version).expect("a text");
            request.metadata_mut().insert(VERSION_METADATA, version);
        }
        within(site.operator().await.list_nodes(request)).await.map(|_| ())
    };
    for taken in [None, Some(env!("CARGO_PKG_VERSION")), Some(ahead(1).as_str())] {
        ask(taken).await.unwrap_or_else(|refused| panic!("{taken:?}: {refused:?}"));
    }
    let refused = ask(Some(&ahead(2))).await.expect_err("too new");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(general(refused.message()), @"this wavegate command is THEIRS and the coordinator is OURS: they work together within one minor version; install wavegate-coordinator OURS, which has the wavegate command, where you typed this; or wavegate-coordinator THEIRS on the coordinator's host, one minor version after the other");
    let refused = ask(Some("x")).await.expect_err("that is no version");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    // Its streams are refused in the same way.
    let mut request = tonic::Request::new(newest());
    request.metadata_mut().insert(VERSION_METADATA, MetadataValue::from_static("99.0.0"));
    let refused = site.operator().await.watch_status(request).await.expect_err("too new");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(Generation(1), site.daemon().store().generation().expect("readable"));
}
