//! Two coordinators on copies of one store, and what was said before said again: nothing of it moves a rollout twice.

use super::support::agent::{Agent, Journaled, Wire, changed, ended, error, report};
use super::support::{Site, newest, node, task};
use std::collections::BTreeMap;
use tonic::Code;
use wavegate_common::id::{Generation, Timestamp};
use wavegate_common::order::TaskOrder;
use wavegate_common::outcome::Outcome;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Status, Subject, TaskResult, TaskState, WaitingOn};
use wavegate_coordinator::by_hand;
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as Out;
use wavegate_proto::v1::coordinator_message::Message as In;

/// A rollout in which `e1` has its order and holds it, and `e2` comes next; its coordinator is down.
async fn in_the_middle() -> (Site, Vec<Agent>) {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    for agent in &agents {
        agent.disconnect().await;
    }
    site.shut_down().await;
    (site, agents)
}

fn orders(agent: &Agent) -> u32 {
    agent.book().orders.values().sum()
}

async fn superseded(site: &Site) -> Option<WaitingOn> {
    let reasons = site.why("").await.into_iter();
    reasons
        .filter(|reason| reason.subject == Subject::Rollout)
        .find(|r| r.why.contains("another coordinator"))
}

#[tokio::test]
async fn a_second_coordinator_on_a_copy_of_the_store_gives_no_orders_to_nodes_of_the_first() {
    let (mut first, agents) = in_the_middle().await;
    let mut second = first.copied();
    first.start_again().await;
    second.start_again().await;
    agents[0].connect(&first).await;
    let (generation, leader) = agents[0].leader();
    assert_eq!(generation, second.status().await.generation, "both have begun the same one");
    agents[0].until("its order came again", |book| book.orders.values().sum::<u32>() == 2).await;

    // The nodes come to the second one: it takes reports and gives nothing out.
    agents[0].connect(&second).await;
    agents[1].connect(&second).await;
    agents[0].script(|book| book.hold = false);
    second.until_task(Stage::Etcd, "e1", TaskState::Finished).await;
    let reason = superseded(&second).await.expect("it says so");
    assert_eq!(reason.nodes, [node("e1")]);
    assert!(
        reason
            .why
            .contains(&format!("another coordinator (generation 2, leader {leader}) works with node e1"))
    );
    assert!(reason.unblock.contains("raise-generation --above 2"), "{}", reason.unblock);
    assert!(second.status().await.waiting.contains(&reason));
    second.until_audited("node e1", "gives no orders").await;
    assert_eq!((orders(&agents[0]), orders(&agents[1])), (2, 0));
    let started = |entry: &wavegate_common::rollout::Entry| matches!(entry.event, Event::TaskStarted { .. });
    assert_eq!(second.events("r1").await.iter().filter(|entry| started(entry)).count(), 1);

    // Nor after the node has forgotten the first one: it stays so until it is started again.
    agents[0].script(|book| book.leader = String::new());
    agents[0].connect(&second).await;
    assert_eq!(superseded(&second).await, Some(reason));
    assert_eq!(orders(&agents[1]), 0);
}

#[tokio::test]
async fn a_coordinator_of_a_lower_generation_gives_no_orders_until_it_is_raised_above_what_nodes_have_seen() {
    let (mut first, agents) = in_the_middle().await;
    let mut second = first.copied();
    for _ in 0..3 {
        first.start_again().await;
        first.shut_down().await;
    }
    first.start_again().await;
    agents[0].connect(&first).await;
    assert_eq!(agents[0].leader().0, Generation(5));

    // Restored from a backup: it has begun generation 2.
    second.start_again().await;
    agents[1].connect(&second).await;
    agents[0].connect(&second).await;
    agents[0].script(|book| book.hold = false);
    second.until_task(Stage::Etcd, "e1", TaskState::Finished).await;
    let reason = superseded(&second).await.expect("it says so");
    assert!(reason.unblock.contains("raise-generation --above 5"), "{}", reason.unblock);
    assert_eq!(orders(&agents[1]), 0);

    // A service manager that starts it again and again changes nothing about that.
    for _ in 0..4 {
        second.kill().await;
        second.start_again().await;
    }
    agents[1].connect(&second).await;
    let still = superseded(&second).await.expect("it is not forgotten");
    assert!(still.why.contains("(generation 5, "), "{}", still.why);
    assert_eq!(orders(&agents[1]), 0);

    // The way out, which is refused while the coordinator runs.
    let raise = |site: &Site| by_hand::raise_generation(&site.config, Generation(5), Timestamp(1));
    let refused = format!("{:#}", raise(&second).expect_err("it runs"));
    assert!(refused.contains("is in use by another process"), "{refused}");
    second.shut_down().await;
    assert_eq!(raise(&second).expect("raised"), Generation(7), "it has begun 6 meanwhile");
    second.start_again().await;
    assert_eq!(second.status().await.generation, Generation(7));
    for agent in &agents {
        agent.connect(&second).await;
    }
    second.until_status(Status::Finished).await;
    assert_eq!(orders(&agents[1]), 1);

    // The first one learns of it with the first node that comes back.
    agents[1].connect(&first).await;
    let reason = superseded(&first).await.expect("it says so");
    assert!(reason.why.contains("another coordinator (generation 7, "), "{}", reason.why);
    assert_eq!(orders(&agents[1]), 1);
}

#[tokio::test]
async fn a_generation_that_nobody_can_have_reached_holds_up_nobody_but_its_node() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    site.run_plan().await;
    site.until_status(Status::Finished).await;
    agents[0].script(|book| book.generation = Generation(u64::MAX));
    agents[0].connect(&site).await;
    site.until_audited("node e1", "which no coordinator reaches").await;
    agents[0].script(|book| book.generation = Generation(1));
    let plan = site.plan().await;
    site.start_plan(plan.id.as_str(), false).await.expect("nobody has taken over");
}

#[tokio::test]
async fn a_superseded_coordinator_begins_no_rollout() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    let plan = site.plan().await;
    agents[0].script(|book| book.generation = Generation(7));
    agents[0].connect(&site).await;
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("raise-generation --above 7"), "{}", refused.message());
    assert_eq!(orders(&agents[0]), 0);
}

#[tokio::test]
async fn every_start_of_a_coordinator_is_another_leader_and_a_running_one_is_the_same() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    let mut seen = BTreeMap::new();
    for generation in 1..=3 {
        for _ in 0..2 {
            agents[0].connect(&site).await;
            let (found, leader) = agents[0].leader();
            assert_eq!(found, Generation(generation));
            assert_eq!(seen.entry(generation).or_insert_with(|| leader.clone()), &leader);
            assert_eq!(site.daemon().store().leader().expect("read").map(String::from), Some(leader));
        }
        site.kill().await;
        site.start_again().await;
    }
    let leaders: std::collections::BTreeSet<_> = seen.values().collect();
    assert_eq!(leaders.len(), 3, "{seen:?}");
}

async fn hello(wire: &Wire, agent: &Agent) {
    let (generation, leader) = agent.leader();
    wire.hello_of(&agent.name, (generation, &leader), Some(&agent.facts)).await;
}

/// A session by hand, in which its agent has said hello.
async fn anew(site: &Site, agent: &Agent) -> Wire {
    let wire = Wire::open(site, &agent.credentials).await;
    hello(&wire, agent).await;
    wire
}

/// The next order of a session, and what the journal has of it at first.
async fn ordered(wire: &mut Wire) -> Journaled {
    loop {
        if let In::TaskOrder(order) = wire.next().await {
            let order: TaskOrder = read_document("task_order", Some(&order)).expect("an order");
            return Journaled { order, steps: Vec::new(), result: None, acknowledged: false };
        }
    }
}

#[tokio::test]
async fn a_session_whose_messages_all_come_again_in_a_later_one_moves_nothing() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member")]).await;
    agents.iter().for_each(|agent| agent.script(|book| book.deaf = true));
    site.run_plan().await;
    let mut wire = anew(&site, &agents[0]).await;
    // The first attempt fails.
    let mut journaled = ordered(&mut wire).await;
    let ids: Vec<_> = journaled.order.steps.iter().map(|step| step.id.clone()).collect();
    let mut said: Vec<Out> = vec![report(&journaled)];
    let key = Some((&journaled.order.key).into());
    said.push(Out::Heartbeat(v1::Heartbeat {
        sequence: 1,
        task: key.clone(),
        step: ids[0].to_string(),
        ..Default::default()
    }));
    let data = b"printed once".to_vec();
    said.push(Out::Output(v1::Output { key, step: ids[0].to_string(), offset: 0, data }));
    journaled.steps.push(ended(&ids[0], changed()));
    said.push(report(&journaled));
    journaled.steps.push(ended(&ids[1], Outcome::Failed { error: error("it broke") }));
    journaled.result = Some(TaskResult::Failed);
    said.push(report(&journaled));
    for message in &said {
        wire.say(message.clone()).await;
    }
    assert!(matches!(wire.next().await, In::Acknowledge(_)));
    site.until_status(Status::Paused).await;
    let mut alice = site.operator().await;
    alice.retry(v1::RetryRequest { all_failed: true, ..Default::default() }).await.expect("retried");
    alice.resume(newest()).await.expect("resumed");
    let mut second = ordered(&mut wire).await;
    assert_eq!(second.order.key.attempt, 2);
    drop(wire);

    // All of it comes again in a new session, twice, while the second attempt is given out.
    let before = site.events("r1").await;
    let mut wire = anew(&site, &agents[0]).await;
    ordered(&mut wire).await;
    for message in said.iter().chain(&said) {
        wire.say(message.clone()).await;
    }
    for _ in 0..2 {
        assert!(matches!(wire.next().await, In::Acknowledge(_)), "the first attempt's end is known");
    }
    assert_eq!(site.events("r1").await, before);
    let status = site.status().await;
    let now = task(&status, Stage::Etcd, "e1").expect("a task");
    assert_eq!((now.attempt, now.state, now.step.clone()), (2, TaskState::Preparing, None));
    let (rollout, e1) = ("r1".parse().expect("an id"), node("e1"));
    let printed = site.daemon().store().output(&rollout, &e1, None, 10).expect("its output");
    assert_eq!(printed.iter().map(|piece| piece.data.as_slice()).collect::<Vec<_>>(), [b"printed once"]);

    // A hello in the middle ends the session, and nothing else comes of it.
    hello(&wire, &agents[0]).await;
    assert!(!matches!(wire.answer().await, Ok(Some(_))), "the session is closed");
    assert_eq!(site.events("r1").await, before);

    // It goes on with the second attempt as if nothing had been.
    let mut wire = anew(&site, &agents[0]).await;
    ordered(&mut wire).await;
    second.steps = ids.iter().map(|id| ended(id, changed())).collect();
    second.result = Some(TaskResult::Finished);
    wire.say(report(&second)).await;
    site.until_task(Stage::Etcd, "e1", TaskState::Finished).await;
}
