//! Two sessions of one node, whose ends and messages cross: straight at the engine, since on the wire it is a race.

use super::support::agent::facts;
use super::support::{Site, enrolled, node, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{mpsc, oneshot};
use wavegate_common::id::{Actor, LeaderId};
use wavegate_common::leader::Leader;
use wavegate_common::rollout::Link;
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::engine::{Connected, Engine, FromAgent, Input, Port, Session, Timing, ToAgent};
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::store::Store;

async fn open(port: &Port) -> (u64, mpsc::Receiver<Box<ToAgent>>, oneshot::Receiver<()>) {
    let (outbound, messages) = mpsc::channel(8);
    let (alive, ended) = oneshot::channel();
    let heard = Arc::new(AtomicU64::new(port.clock().elapsed_ms()));
    let session = Session { outbound, heard, alive };
    let number = port.ask(|reply| {
        Input::Connected(Box::new(Connected {
            node: node("c1"),
            fingerprint: "f".to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            seen: Leader::default(),
            facts: None,
            not_understood: None,
            session,
            reply,
        }))
    });
    (number.await.expect("a session"), messages, ended)
}

/// A look waits for nothing that others have to say. A request does: inputs are taken in order.
async fn all_taken(port: &Port) {
    let (by, id) = (Actor("alice".to_owned()), "none".to_owned());
    port.ask(|reply| Input::RevokeToken { by, id, reply }).await.expect_err("no such token");
}

#[tokio::test]
async fn what_an_older_session_says_or_its_end_is_nothing() {
    let site = Site::set_up(|_| {}, Clock::system());
    let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
    let store = Arc::new(Store::in_memory(authority.fleet()).expect("a store"));
    let record = enrolled(node("c1"));
    store.put_node(&record).expect("kept");
    let timing = Timing { heartbeat_interval_s: 300, lost_after_ms: 30_000 };
    let engine = Engine::load(store, authority, Clock::system(), timing, LeaderId::new(1));
    let engine = engine.expect("loaded");
    let (port, inputs) = engine.port();
    let engine = std::thread::spawn(move || engine.run(inputs, &AtomicBool::new(false)));

    let (older, mut old_messages, old_ended) = open(&port).await;
    let (newer, mut messages, _ended) = open(&port).await;
    assert!(within(old_ended).await.is_err(), "the older session is told to end");
    assert!(matches!(old_messages.recv().await.as_deref(), Some(ToAgent::Welcome { .. })));
    assert_eq!(old_messages.recv().await, None);
    assert!(matches!(messages.recv().await.as_deref(), Some(ToAgent::Welcome { .. })));
    let said = |session, role| {
        let message = Box::new(FromAgent::Facts(Box::new(facts("c1", role))));
        Input::Said { node: node("c1"), session, message }
    };
    port.send(said(newer, "compute")).await.expect("taken");
    port.send(said(older, "control")).await.expect("taken");
    port.send(Input::Gone { node: node("c1"), session: older }).await.expect("taken");
    all_taken(&port).await;
    let nodes = port.nodes(Default::default()).await.expect("nodes");
    assert!(matches!(nodes[0].link, Link::Online { .. }), "{nodes:?}");
    assert_eq!(nodes[0].roles, facts("c1", "compute").roles);
    port.send(Input::Gone { node: node("c1"), session: newer }).await.expect("taken");
    all_taken(&port).await;
    let nodes = port.nodes(Default::default()).await.expect("nodes");
    assert!(matches!(nodes[0].link, Link::Offline { .. }), "{nodes:?}");
    port.send(Input::Shutdown).await.expect("taken");
    tokio::task::spawn_blocking(move || engine.join()).await.expect("joined").expect("a clean end");
}
