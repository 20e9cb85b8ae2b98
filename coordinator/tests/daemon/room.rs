//! Connections beyond the limit: who is turned away is told so and gets in when there is room, and nobody else notices.

use super::support::agent::{Wire, facts};
use super::support::dial::channel_once;
use super::support::{Site, eventually, within};
use tonic::Code;
use wavegate_common::id::Generation;
use wavegate_coordinator::clock::Clock;
use wavegate_proto::tls::{self, Credentials};
use wavegate_proto::v1::coordinator_message::Message as In;

/// A session that was welcomed, or why it was not.
async fn session(site: &Site, node: &str, credentials: &Credentials) -> Result<Wire, tonic::Status> {
    let mut wire = Wire::open(site, credentials).await;
    wire.hello(node, Generation(0), Some(&facts(node, "compute"))).await;
    match within(wire.answer()).await? {
        Some(In::Welcome(_)) => Ok(wire),
        other => panic!("{other:?} instead of a welcome"),
    }
}

#[tokio::test]
async fn agents_beyond_the_limit_are_turned_away_and_get_in_when_there_is_room() {
    let site = Site::start_with(|config| config.max_connections = 2, Clock::system()).await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let third = site.enrol("c3").await;
    for _ in 0..2 {
        let refused = session(&site, "c3", &third).await.err().expect("there is no room");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused.message(), @"the coordinator is connected with as many agents as it takes (max_connections = 2); this one tries again by itself; if the fleet has grown, raise max_connections in the coordinator's configuration");
        }
    }
    site.until_audited("agents", "1 connection(s)").await;
    // Those who are there are there, and operators and enrolment have room of their own.
    assert!(site.is_online("c1").await && site.is_online("c2").await);
    site.enrol("c4").await;
    agents[0].disconnect().await;
    site.until_link("c1", false).await;
    // The coordinator has seen the session end, and perhaps not yet the connection.
    let wire = std::cell::RefCell::new(None);
    eventually("room for c3", || async {
        wire.replace(session(&site, "c3", &third).await.ok());
        wire.borrow().is_some()
    })
    .await;
    assert!(site.is_online("c3").await && site.is_online("c2").await);
}

#[tokio::test]
async fn agents_whose_connections_died_unseen_get_in_at_once() {
    let site = Site::start_with(|config| config.max_connections = 2, Clock::system()).await;
    let (first, second) = (site.enrol("c1").await, site.enrol("c2").await);
    // Nobody tells the coordinator that they are dead: they stay open here.
    let mut dead = session(&site, "c1", &first).await.expect("a session");
    let _other = session(&site, "c2", &second).await.expect("a session");
    let _back = session(&site, "c1", &first).await.expect("the place was its own");
    assert!(matches!(within(dead.answer()).await, Ok(None) | Err(_)), "it has ended");
    assert!(site.is_online("c1").await && site.is_online("c2").await);
}

#[tokio::test]
async fn a_connection_has_one_session_and_ends_with_it() {
    let site = Site::start().await;
    let credentials = site.enrol("c1").await;
    let config = || tls::client(&credentials).expect("credentials");
    let channel = channel_once(site.daemon().address(), config()).await;
    let mut wire = Wire::on(channel.clone());
    wire.hello("c1", Generation(0), None).await;
    wire.next().await;
    drop(wire);
    site.until_link("c1", false).await;
    let again = within(Wire::on(channel).answer()).await.expect_err("that connection has ended");
    assert_eq!(again.code(), Code::Unavailable, "{again:?}");

    // One that is refused has had its session likewise.
    let channel = channel_once(site.daemon().address(), config()).await;
    let mut wire = Wire::on(channel.clone());
    wire.hello("c2", Generation(0), None).await;
    let refused = within(wire.answer()).await.expect_err("another node's name");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let again = within(Wire::on(channel).answer()).await.expect_err("that connection has ended");
    assert_eq!(again.code(), Code::Unavailable, "{again:?}");
}

#[tokio::test]
async fn a_node_has_few_connections_and_the_newest_counts() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let mut wires = Vec::new();
    for _ in 0..20 {
        wires.push(session(&site, "c1", &agents[0].credentials).await.expect("a session"));
    }
    let newest = wires.pop().expect("the newest");
    for mut older in wires {
        assert!(matches!(within(older.answer()).await, Ok(None) | Err(_)), "it has ended");
    }
    assert!(site.is_online("c1").await && site.is_online("c2").await);
    drop(newest);
    site.until_link("c1", false).await;
}

#[tokio::test]
async fn a_node_that_connects_in_a_loop_is_turned_away_and_others_are_not() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let mut welcomed = 0;
    let refused = loop {
        match session(&site, "c1", &agents[0].credentials).await {
            Ok(_) => welcomed += 1,
            Err(refused) => break refused,
        }
    };
    assert!((50..60).contains(&welcomed), "{welcomed}");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    insta::assert_snapshot!(refused.message(), @"node c1 has connected more than 60 times within a minute; its agent tries again by itself; if it goes on, two machines may use this node's certificate: enrol the one that is not c1 under a name of its own");
    site.until_audited("agents", "c1 has connected more than").await;
    let other = &agents[1];
    other.disconnect().await;
    other.connect(&site).await;
}
