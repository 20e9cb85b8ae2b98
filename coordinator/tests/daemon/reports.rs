//! Reports that come twice, late, or out of nowhere.

use super::support::agent::{Journaled, Wire, changed, ended, error, report};
use super::support::{Site, eventually, task};
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::outcome::Outcome;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Status, TaskResult, TaskState};
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;
use wavegate_proto::v1::coordinator_message::Message as In;

/// A session by hand, with the order in it.
async fn ordered(site: &Site) -> (Wire, Journaled) {
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    agents[0].script(|book| book.deaf = true);
    site.run_plan().await;
    let mut wire = Wire::open(site, &agents[0].credentials).await;
    let generation = agents[0].book().generation;
    wire.hello("e1", generation, Some(&agents[0].facts)).await;
    let mut next = wire.next().await;
    while !matches!(next, In::TaskOrder(_)) {
        next = wire.next().await;
    }
    let In::TaskOrder(order) = next else { panic!("just seen") };
    let order: TaskOrder = read_document("task_order", Some(&order)).expect("an order");
    (wire, Journaled { order, steps: Vec::new(), result: None, acknowledged: false })
}

#[tokio::test]
async fn a_report_may_come_twice_and_late() {
    let site = Site::start().await;
    let (mut wire, mut journaled) = ordered(&site).await;
    wire.report(&journaled).await;
    let early = journaled.clone();
    let ids: Vec<_> = journaled.order.steps.iter().map(|step| step.id.clone()).collect();
    journaled.steps.push(ended(&ids[0], changed()));
    wire.report(&journaled).await;
    wire.report(&journaled).await;
    wire.report(&early).await;
    journaled.steps.push(ended(&ids[1], changed()));
    journaled.result = Some(TaskResult::Finished);
    for _ in 0..3 {
        wire.report(&journaled).await;
        let In::Acknowledge(acknowledge) = wire.next().await else { panic!("an acknowledgement") };
        assert_eq!(TaskKey::try_from(acknowledge.key.expect("a key")).expect("a key"), journaled.order.key);
    }
    site.until_status(Status::Finished).await;
    let entries = site.events("r1").await;
    let ended = entries.iter().filter(|entry| matches!(entry.event, Event::StepEnded { .. })).count();
    assert_eq!(ended, 2, "each step once: {entries:#?}");
}

#[tokio::test]
async fn a_report_that_contradicts_the_log_changes_nothing() {
    let site = Site::start().await;
    let (wire, journaled) = ordered(&site).await;
    wire.report(&journaled).await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let before = site.events("r1").await;
    let ids: Vec<_> = journaled.order.steps.iter().map(|step| step.id.clone()).collect();
    let failed = ended(&ids[0], Outcome::Failed { error: error("it broke") });
    let with = |steps: Vec<_>, result, attempt| {
        let mut wrong = journaled.clone();
        (wrong.steps, wrong.result, wrong.order.key.attempt) = (steps, result, attempt);
        wrong
    };
    let wrong = [
        (with(vec![ended(&ids[1], changed())], None, 1), "expected install"),
        (with(vec![], Some(TaskResult::Finished), 1), "its steps say otherwise"),
        (with(vec![failed], Some(TaskResult::Finished), 1), "its steps say otherwise"),
        (with(vec![], None, 2), "only attempt 1 was given out"),
    ];
    for (report, why) in wrong {
        wire.report(&report).await;
        site.until_audited("node e1", why).await;
    }
    let mut foreign = journaled.clone();
    foreign.order.key.rollout = "r9".parse().expect("a name");
    let mut set_back = journaled.clone();
    set_back.order.key.plan = "0a1b2c3d4e5f".parse().expect("a name");
    set_back.result = Some(TaskResult::Finished);
    wire.report(&set_back).await;
    site.until_audited("node e1", "a rollout that is not known here (r1 ").await;
    wire.report(&foreign).await;
    site.until_audited("node e1", "a rollout that is not known here (r9 ").await;
    assert_eq!(site.events("r1").await, before);
    assert!(site.why("e1").await.iter().any(|reason| reason.why.contains("not known here")));
}

#[tokio::test]
async fn reports_of_earlier_attempts_and_rollouts_are_acknowledged() {
    let site = Site::start().await;
    let (mut wire, mut journaled) = ordered(&site).await;
    let ids: Vec<_> = journaled.order.steps.iter().map(|step| step.id.clone()).collect();
    journaled.steps.push(ended(&ids[0], Outcome::Failed { error: error("it broke") }));
    journaled.result = Some(TaskResult::Failed);
    wire.report(&journaled).await;
    assert!(matches!(wire.next().await, In::Acknowledge(_)));
    let mut alice = site.operator().await;
    site.until_status(Status::Paused).await;
    alice.retry(v1::RetryRequest { all_failed: true, ..Default::default() }).await.expect("retried");
    alice.resume(super::support::newest()).await.expect("resumed");
    assert!(matches!(wire.next().await, In::TaskOrder(_)), "the second attempt");
    wire.report(&journaled).await;
    assert!(matches!(wire.next().await, In::Acknowledge(_)), "the first attempt again");
    let status = site.status().await;
    let now = task(&status, Stage::Etcd, "e1").expect("a task");
    assert_eq!((now.attempt, now.state), (2, TaskState::Preparing));

    // The rollout ends with the second attempt, another one begins, and the first one's report comes once more.
    let mut second = journaled.clone();
    second.order.key.attempt = 2;
    second.steps = ids.iter().map(|id| ended(id, changed())).collect();
    second.result = Some(TaskResult::Finished);
    wire.say(report(&second)).await;
    assert!(matches!(wire.next().await, In::Acknowledge(_)));
    site.until_status(Status::Finished).await;
    let answering = async {
        let In::PreviewRequest(request) = wire.next().await else { panic!("a request for a preview") };
        let previews: Vec<_> = ids
            .iter()
            .map(|id| wavegate_common::plan::StepPreview {
                step: id.clone(),
                preview: wavegate_common::outcome::Preview::AlreadySo { evidence: "new".to_owned() },
            })
            .collect();
        let step_previews =
            Some(wavegate_proto::convert::document("step_previews", &previews).expect("previews"));
        let (request, stage) = (request.request, request.stage);
        wire.say(v1::agent_message::Message::PreviewReport(v1::PreviewReport {
            request,
            stage,
            step_previews,
        }))
        .await;
    };
    let (rollout, ()) = tokio::join!(site.run_plan(), answering);
    assert_eq!(rollout, "r2");
    assert!(matches!(wire.next().await, In::TaskOrder(_)));
    wire.report(&second).await;
    let In::Acknowledge(acknowledge) = wire.next().await else { panic!("an acknowledgement") };
    assert_eq!(acknowledge.key.expect("a key").rollout, "r1");
    assert_eq!(site.status().await.last_seq, 2, "r2 has begun and given its order out, no more");
}

#[tokio::test]
async fn what_a_task_stands_still_for_is_told_until_it_goes_on() {
    let site = Site::start().await;
    let (wire, journaled) = ordered(&site).await;
    wire.report(&journaled).await;
    let heartbeat = |sequence, stands_still: &str| {
        let (task, step) = (Some((&journaled.order.key).into()), journaled.order.steps[0].id.to_string());
        let stands_still = stands_still.to_owned();
        v1::agent_message::Message::Heartbeat(v1::Heartbeat { sequence, task, step, stands_still })
    };
    let told = || async {
        let reasons = site.why("e1").await;
        reasons.into_iter().find(|reason| reason.why.contains("stands still"))
    };
    wire.say(heartbeat(1, "the disk is full")).await;
    eventually("it is told", || async { told().await.is_some() }).await;
    let reason = told().await.expect("just seen");
    assert_eq!(reason.why, "e1 stands still: the disk is full");
    assert!(reason.unblock.contains("mend that on e1"), "{}", reason.unblock);
    wire.say(heartbeat(2, "the disk is full")).await;
    wire.say(heartbeat(3, "the disk is fuller")).await;
    eventually("it is told anew", || async { told().await.is_some_and(|now| now.why.contains("fuller")) })
        .await;
    assert_eq!(told().await.map(|now| now.since), Some(reason.since));
    wire.say(heartbeat(4, "")).await;
    eventually("it goes on", || async { told().await.is_none() }).await;
}

#[tokio::test]
async fn an_order_that_is_not_confirmed_is_sent_again() {
    let site = Site::start_with_manual_clock().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    agents[0].script(|book| book.deaf = true);
    site.run_plan().await;
    agents[0].until("it came", |book| book.orders.values().sum::<u32>() == 1).await;
    site.advance(10_000);
    agents[0].until("it came again", |book| book.orders.values().sum::<u32>() == 2).await;
    agents[0].script(|book| book.deaf = false);
    site.advance(10_000);
    site.until_status(Status::Finished).await;
    let entries = site.events("r1").await;
    let started = entries.iter().filter(|entry| matches!(entry.event, Event::TaskStarted { .. })).count();
    assert_eq!(started, 1);
}
