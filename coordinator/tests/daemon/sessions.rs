//! Two sessions of one node, whose ends and messages cross: straight at the engine, since on the wire it is a race.

use super::support::agent::facts;
use super::support::by_itself::Bench;
use super::support::{node, within};
use wavegate_common::rollout::Link;
use wavegate_coordinator::engine::{FromAgent, Input, ToAgent};
use wavegate_coordinator::status::nodes::Wanted;

#[tokio::test]
async fn what_an_older_session_says_or_its_end_is_nothing() {
    let mut bench = Bench::new();
    let run = bench.run();
    let mut older = bench.connect().await;
    let mut newer = bench.connect().await;
    assert!(within(older.ended).await.is_err(), "the older session is told to end");
    assert!(matches!(older.messages.recv().await.as_deref(), Some(ToAgent::Welcome { .. })));
    assert_eq!(older.messages.recv().await, None);
    assert!(matches!(newer.messages.recv().await.as_deref(), Some(ToAgent::Welcome { .. })));
    let said = |session, role| {
        let message = Box::new(FromAgent::Facts(Box::new(facts("c1", role))));
        Input::Said { node: node("c1"), session, message }
    };
    let everybody = Wanted::default();
    bench.port.send(said(newer.session, "compute")).await.expect("taken");
    bench.port.send(said(older.session, "control")).await.expect("taken");
    bench.port.send(Input::Gone { node: node("c1"), session: older.session }).await.expect("taken");
    bench.ask().await;
    let look = bench.port.look().await.expect("a look");
    let only = look.nodes(&everybody).iter().next().expect("a node");
    assert!(matches!(only.link, Link::Online { .. }), "{only:?}");
    assert_eq!(*only.roles, facts("c1", "compute").roles);
    bench.port.send(Input::Gone { node: node("c1"), session: newer.session }).await.expect("taken");
    bench.ask().await;
    let look = bench.port.look().await.expect("a look");
    let only = look.nodes(&everybody).iter().next().expect("a node");
    assert!(matches!(only.link, Link::Offline { .. }), "{only:?}");
    bench.end(run).await;
}
