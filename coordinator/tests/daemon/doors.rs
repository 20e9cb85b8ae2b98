//! Who gets in and who does not: each refusal is said to whoever was refused, logged and audited, and changes nothing.

use super::support::agent::{Wire, facts};
use super::support::dial::{self, Way, channel};
use super::support::{Agent, Site, newest, within};
use rcgen::KeyPair;
use tonic::Code;
use wavegate_common::id::Generation;
use wavegate_coordinator::clock::Clock;
use wavegate_proto::tls;
use wavegate_proto::token::JoinToken;
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as Out;
use wavegate_proto::v1::agent_service_client::AgentServiceClient;
use wavegate_proto::v1::operator_service_client::OperatorServiceClient;

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_the_handshake() {
    let (site, other) = (Site::start().await, Site::start().await);
    let foreign = other.enrol("c1").await;
    // It trusts the coordinator, and is not trusted.
    let credentials = tls::Credentials { ca_pem: site.alice().ca_pem, ..foreign };
    let called = async {
        let channel = channel(site.way(&credentials)).await?;
        let (_send, messages) = tokio::sync::mpsc::channel::<v1::AgentMessage>(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(messages);
        let called = AgentServiceClient::new(channel).session(stream).await;
        Ok::<_, tonic::transport::Error>(called.map(drop))
    };
    let refused = within(called).await;
    assert!(!matches!(refused, Ok(Ok(()))), "{refused:?}");
    let record = site.until_audited("127.0.0.1", "the TLS handshake failed").await;
    assert!(record.what.contains("UnknownIssuer") || record.what.contains("BadSignature"), "{record:?}");
    assert_eq!(site.nodes().await.len(), 0);
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_is_told_of() {
    let (site, other) = (Site::start().await, Site::start().await);
    let way = Way::Tls(site.daemon().address(), dial::without_certificate(&other.alice().ca_pem));
    let error = channel(way).await.expect_err("not the authority of the token");
    assert!(format!("{error:?}").contains("authority"), "{error:?}");
    site.until_audited("127.0.0.1", "the TLS handshake failed").await;
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_answers() {
    let site = Site::start().await;
    let way = Way::Tls(site.daemon().address(), dial::without_certificate(&site.alice().ca_pem));
    let channel = channel(way).await.expect("the handshake passes, for enrolment's sake");
    let refused =
        OperatorServiceClient::new(channel.clone()).pause(newest()).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unauthenticated);
    insta::assert_snapshot!(refused.message(), @"wavegate.v1.OperatorService asks for a certificate of this fleet, and none was shown; agents get one with `wavegate-agent enrol`, operators with `wavegate init`");
    let stream = tokio_stream::empty::<v1::AgentMessage>();
    let refused = AgentServiceClient::new(channel.clone()).session(stream).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let refused =
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unauthenticated);
    site.until_audited("127.0.0.1", "AgentService").await;
    site.until_audited("127.0.0.1", "OperatorService").await;
}

#[tokio::test]
async fn a_certificate_opens_the_doors_of_its_kind_alone() {
    let site = Site::start().await;
    let node = site.enrol("c1").await;
    let channel = channel(site.way(&node)).await.expect("a connection");
    let refused =
        OperatorServiceClient::new(channel).stop(newest()).await.expect_err("a node is no operator");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"spiffe://test/node/c1 may not call wavegate.v1.OperatorService: it is for operators, with an operator's certificate");
    let mut wire = Wire::open(&site, &site.alice()).await;
    let refused = wire.answer().await.expect_err("an operator is no node");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"spiffe://test/operator/alice may not call wavegate.v1.AgentService: it is for agents, with a node's certificate");
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_node_alone() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    agents[1].disconnect().await;
    site.until_link("c2", false).await;
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.hello("c2", Generation(0), Some(&facts("c2", "control"))).await;
    let refused = wire.answer().await.expect_err("another node's name");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"the certificate is node c1's, and its agent says it is another node; an agent speaks for its own node alone: enrol this machine under its own name");
    site.until_audited("node c1", "to speak for another node").await;
    assert!(!site.is_online("c2").await);

    // Facts and reports of another node, in a session that is its own.
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.hello("c1", Generation(0), Some(&facts("c2", "control"))).await;
    wire.next().await;
    site.until_audited("node c1", "the facts of another node").await;
    let key = v1::TaskKey {
        rollout: "r1".into(),
        plan: "0a1b2c3d4e5f".into(),
        stage: "compute".into(),
        node: "c2".into(),
        attempt: 1,
    };
    let ended_steps = Some(v1::Document { schema: "ended_steps".into(), json: b"[]".to_vec() });
    let result = v1::TaskResult::Finished.into();
    wire.say(Out::TaskReport(v1::TaskReport {
        key: Some(key),
        ended_steps,
        current_step: String::new(),
        result,
    }))
    .await;
    site.until_audited("node c1", "it spoke for another node").await;
    let nodes = site.nodes().await;
    let role =
        |name: &str| nodes.iter().find(|known| known.node.as_str() == name).map(|known| known.roles.as_ref());
    assert_eq!(role("c2"), Some(&agents[1].facts.roles), "nothing has changed");
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.say(Out::Heartbeat(v1::Heartbeat::default())).await;
    let refused = wire.answer().await.expect_err("no hello");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.hello("c1", Generation(0), None).await;
    wire.next().await;
    wire.hello("c1", Generation(0), None).await;
    assert!(matches!(within(wire.answer()).await, Ok(None)), "closed");
    site.until_audited("node c1", "breaks the protocol").await;
    site.until_link("c1", false).await;
}

#[tokio::test]
async fn a_token_works_once() {
    let site = Site::start().await;
    let token = site.token("").await;
    let key = KeyPair::generate().expect("a key");
    let first = site.enrol_with(&token, "c1", &key).await.expect("enrolled");
    let again = site.enrol_with(&token, "c1", &key).await.expect("the answer may be asked for again");
    assert_eq!(again.certificate_pem, first.certificate_pem);
    let other = KeyPair::generate().expect("a key");
    for name in ["c1", "c2"] {
        let refused = site.enrol_with(&token, name, &other).await.expect_err("used");
        assert_eq!(refused.code(), Code::PermissionDenied);
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused.message(), @"the join token has been used, it works once; make a new one on the coordinator: wavegate token create");
        }
        site.until_audited("127.0.0.1", &format!("to enrol as {name}")).await;
    }
    let guess = JoinToken { secret: "0".repeat(64), ..site.token("").await };
    let refused = site.enrol_with(&guess, "c2", &other).await.expect_err("not the secret");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"the join token is not valid here; make a new one on the coordinator: wavegate token create");
    let bad = site.enrol_with(&site.token("").await, "C 2", &other).await.expect_err("no name");
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert_eq!(site.nodes().await.len(), 1, "nothing else has enrolled");
}

#[tokio::test]
async fn a_token_expires() {
    let site = Site::start_with_manual_clock().await;
    let token = site.token("").await;
    site.advance(600_000);
    let key = KeyPair::generate().expect("a key");
    let refused = site.enrol_with(&token, "c1", &key).await.expect_err("expired");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"the join token has expired; make a new one on the coordinator: wavegate token create");
    assert_eq!(site.nodes().await.len(), 0);
}

#[tokio::test]
async fn a_node_is_replaced_only_by_a_token_made_for_it() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let key = KeyPair::generate().expect("a key");
    let refused = site.enrol_with(&site.token("").await, "c1", &key).await.expect_err("the name is taken");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"a node c1 has enrolled already; if this machine takes its place, make a token for exactly this node: wavegate token create --node c1");
    assert!(site.is_online("c1").await);
    let bound = site.token("c1").await;
    let refused = site.enrol_with(&bound, "c2", &key).await.expect_err("for c1");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let answer = site.enrol_with(&bound, "c1", &key).await.expect("replaced");
    site.until_link("c1", false).await;

    // The former certificate is worth nothing now, though it is of the right authority and has not expired.
    let mut wire = Wire::open(&site, &agents[0].credentials).await;
    wire.hello("c1", Generation(0), None).await;
    let refused = wire.answer().await.expect_err("an old certificate");
    assert_eq!(refused.code(), Code::PermissionDenied);
    insta::assert_snapshot!(refused.message(), @"the certificate of node c1 is not the one that it was given last; if it was just enrolled again: systemctl restart wavegate-agent there; else enrol it again with a token made for it: wavegate token create --node c1");
    let credentials = tls::Credentials {
        certificate_pem: answer.certificate_pem,
        key_pem: key.serialize_pem(),
        ca_pem: answer.ca_pem,
    };
    Agent::new("c1", "compute", credentials).connect(&site).await;
}

#[tokio::test]
async fn what_is_no_tls_is_refused_and_others_go_on() {
    let site = Site::start().await;
    let mut plain = tokio::net::TcpStream::connect(site.daemon().address()).await.expect("a connection");
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET / HTTP/1.0\r\n\r\n").await.expect("written");
    site.until_audited("127.0.0.1", "the TLS handshake failed").await;
    assert_eq!(site.nodes().await.len(), 0);
}

#[tokio::test]
async fn a_second_coordinator_is_kept_out() {
    let site = Site::start().await;
    let mut config = site.config.clone();
    config.listen.set_port(0);
    config.socket = site.folder().join("second.sock");
    let error =
        wavegate_coordinator::daemon::Daemon::start(&config, Clock::system()).await.err().expect("in use");
    let text = format!("{error:#}").replace(&site.folder().display().to_string(), "");
    insta::assert_snapshot!(text, @"cannot open the store: the store /state/store.redb is in use by another process: a wavegate-coordinator is running; stop it first (systemctl stop wavegate-coordinator)");
    config.state_directory = Site::set_up(|_| {}, Clock::system()).state();
    let error =
        wavegate_coordinator::daemon::Daemon::start(&config, Clock::system()).await.err().expect("gone");
    assert!(format!("{error:#}").contains("wavegate init"), "{error:#}");
}

#[tokio::test]
async fn the_newest_session_of_a_node_counts() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let mut older = Wire::open(&site, &agents[0].credentials).await;
    older.hello("c1", Generation(0), None).await;
    older.next().await;
    let mut newer = Wire::open(&site, &agents[0].credentials).await;
    newer.hello("c1", Generation(0), None).await;
    newer.next().await;
    assert!(matches!(within(older.answer()).await, Ok(None)), "the older one is closed");
    drop(older);
    assert!(site.is_online("c1").await, "its end does not take the node offline");
    drop(newer);
    site.until_link("c1", false).await;
}
