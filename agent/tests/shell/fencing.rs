//! Which coordinators an agent obeys, over a real connection: never one that was replaced, and never what was said before.

use crate::coordinator::{Coordinator, Session};
use crate::link::{Fleet, before_a_preview, check, compute};
use crate::support::{compute_steps, journal, key, order};
use wavegate_agent::host::fake::FakeHost;
use wavegate_agent::journal::Store;
use wavegate_common::id::Generation;
use wavegate_common::journal::Journal;
use wavegate_proto::convert::document;
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as FromAgent;
use wavegate_proto::v1::coordinator_message::Message as ToAgent;

const OURS: &str = "000000000000000a";
const TWIN: &str = "000000000000000b";

/// The next session; its coordinator says who it is, and the agent leaves without a word.
async fn left(coordinator: &mut Coordinator, generation: u64, leader: &str) -> v1::Hello {
    let (mut session, hello) = coordinator.session().await;
    session.welcome_of(generation, leader).await;
    let said = session.try_next().await;
    assert!(said.is_none(), "the session is given up without a word: {said:?}");
    hello
}

/// The next session; its coordinator says who it is, and the agent's first heartbeat shows that it obeys.
async fn obeyed(coordinator: &mut Coordinator, generation: u64, leader: &str) -> Session {
    let (mut session, _) = coordinator.session().await;
    session.welcome_of(generation, leader).await;
    session.until(|message| matches!(message, FromAgent::Heartbeat(_)).then_some(())).await;
    session
}

/// All of the machine that a task can change.
fn machine(host: &FakeHost) -> String {
    let m = host.machine();
    format!("{:?}", (&m.files, &m.installed, &m.services, &m.processes, &m.distributions, &m.transactions))
}

#[tokio::test]
async fn a_lower_generation_is_never_obeyed() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    let mut session = fleet.coordinator.welcomed(5).await;
    session.order(&order(1, 4, &[check("look")])).await;
    assert!(session.refusal().await.contains("generation 4, but generation 5 was seen"));
    drop(session);
    let hello = left(&mut fleet.coordinator, 4, "").await;
    assert_eq!(hello.generation_seen, 5);
    let mut session = fleet.coordinator.welcomed(6).await;
    session.order(&order(1, 6, &[check("look")])).await;
    assert_eq!(session.ended().await.0, v1::TaskResult::Finished);
    agent.stop().await;
    assert_eq!(journal(fleet.state.path()).read(Journal::generation), Generation(6));
}

#[tokio::test]
async fn another_coordinator_of_the_same_generation_is_never_obeyed() {
    let mut fleet = Fleet::new().await;
    let agent = fleet.agent(compute());
    drop(obeyed(&mut fleet.coordinator, 5, OURS).await);
    for other in [TWIN, ""] {
        let hello = left(&mut fleet.coordinator, 5, other).await;
        assert_eq!((hello.generation_seen, hello.leader_seen.as_str()), (5, OURS));
    }
    agent.stop().await;

    // Nor after a restart of the agent. The one that was obeyed first still is, and each that begins a higher generation.
    let agent = fleet.agent(compute());
    left(&mut fleet.coordinator, 5, TWIN).await;
    drop(obeyed(&mut fleet.coordinator, 5, OURS).await);
    let mut session = obeyed(&mut fleet.coordinator, 6, TWIN).await;
    session.order(&order(1, 6, &[check("look")])).await;
    assert_eq!(session.ended().await.0, v1::TaskResult::Finished);
    drop(session);
    let hello = left(&mut fleet.coordinator, 5, OURS).await;
    assert_eq!((hello.generation_seen, hello.leader_seen.as_str()), (6, TWIN));
    agent.stop().await;
}

#[tokio::test]
async fn an_order_from_before_a_restart_that_comes_late_changes_nothing() {
    let mut fleet = Fleet::new().await;
    let host = compute();
    let agent = fleet.agent(host.clone());
    drop(obeyed(&mut fleet.coordinator, 3, OURS).await);
    let late = order(1, 3, &compute_steps(&host.machine()));
    let mut session = obeyed(&mut fleet.coordinator, 4, TWIN).await;
    let before = machine(&host);
    session.order(&late).await;
    assert!(session.refusal().await.contains("generation 3, but generation 4 was seen"));
    before_a_preview(&mut session, 1).await;
    assert_eq!(machine(&host), before);
    agent.stop().await;
    assert!(journal(fleet.state.path()).read(|journal| journal.current().is_none()));
}

#[tokio::test]
async fn a_session_whose_messages_all_come_again_in_a_later_one_changes_nothing() {
    let mut fleet = Fleet::new().await;
    let host = compute();
    let agent = fleet.agent(host.clone());
    let mut session = obeyed(&mut fleet.coordinator, 3, OURS).await;
    let first = order(1, 3, &compute_steps(&host.machine()));
    let acknowledged = ToAgent::Acknowledge(v1::Acknowledge { key: Some((&key(1)).into()) });
    session.order(&first).await;
    assert_eq!(session.ended().await.0, v1::TaskResult::Finished);
    session.say(acknowledged.clone()).await;
    before_a_preview(&mut session, 1).await;
    drop(session);

    // A second attempt is at work in the journal of another generation when all of the first session comes again.
    let mut session = obeyed(&mut fleet.coordinator, 4, TWIN).await;
    session.order(&order(2, 4, &[check("look")])).await;
    session.ended().await;
    before_a_preview(&mut session, 2).await;
    let before = machine(&host);
    let old = ToAgent::TaskOrder(document("task_order", &first).expect("a document"));
    for message in [old.clone(), acknowledged.clone(), old, acknowledged] {
        session.say(message).await;
    }
    let said = before_a_preview(&mut session, 3).await;
    let refused = said.iter().filter(|message| matches!(message, FromAgent::OrderRefused(_))).count();
    assert_eq!(refused, 2, "{said:?}");
    session.welcome_of(3, OURS).await;
    while let Some(said) = session.try_next().await {
        assert!(matches!(said, FromAgent::Heartbeat(_)), "{said:?}");
    }
    assert_eq!(machine(&host), before);
    agent.stop().await;
    journal(fleet.state.path()).read(|journal| {
        let ended: Vec<_> = journal.ended().iter().chain(journal.current()).collect();
        assert_eq!(ended.iter().map(|task| task.order.key.attempt).collect::<Vec<_>>(), [1, 2]);
        assert!(ended[0].acknowledged && !ended[1].acknowledged);
        assert_eq!(journal.leader().generation, Generation(4));
    });
}
