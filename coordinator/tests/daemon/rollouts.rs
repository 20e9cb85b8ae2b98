//! Rollouts from start to end, and what operators do to them on the way.

use super::support::{Site, newest, plan_request, task, within};
use tonic::Code;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Mode, PauseReason, StageState, Status, TaskState};
use wavegate_proto::v1;

const FLEET: &[(&str, &str)] =
    &[("e1", "etcd-member"), ("c1", "compute"), ("c2", "compute"), ("c3", "compute"), ("n1", "control")];

#[tokio::test]
async fn a_fleet_is_upgraded_stage_by_stage() {
    let site = Site::start().await;
    let agents = site.fleet(FLEET).await;
    let rollout = site.run_plan().await;
    assert_eq!(rollout, "r1");
    let mut watch = site.operator().await.watch_status(newest()).await.expect("a stream").into_inner();
    while within(watch.message()).await.expect("a status").is_some() {}
    // The stream has ended since the rollout has.
    let status = site.status().await;
    assert_eq!(status.status, Status::Finished);
    assert!(status.stages.iter().all(|stage| stage.state == StageState::Done), "{status:#?}");
    assert_eq!(status.waiting, []);
    let entries = site.events(&rollout).await;
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "no gaps");
    // The barrier: everything of a stage comes before anything of the next.
    let stages: Vec<Stage> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::TaskStarted { task } | Event::TaskEnded { task, .. } => Some(task.stage),
            _ => None,
        })
        .collect();
    assert!(stages.is_sorted(), "{stages:?}");
    for agent in &agents {
        agent
            .until("its end is acknowledged", |book| book.journal.values().all(|task| task.acknowledged))
            .await;
        assert!(agent.book().orders.values().all(|times| *times == 1), "{}", agent.name);
    }
}

#[tokio::test]
async fn commands_may_be_repeated() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    let plan = site.plan().await;
    let again = |answer: &v1::Answer| (answer.changed, answer.text.clone());
    let first = site.start_plan(plan.id.as_str(), false).await.expect("started");
    assert!(first.changed);
    let second = site.start_plan(plan.id.as_str(), false).await.expect("started already");
    assert_eq!(
        again(&second),
        (false, "rollout r1 of this plan has been started already, it is running".to_owned())
    );
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let mut alice = site.operator().await;
    let paused = alice.pause(newest()).await.expect("paused").into_inner();
    assert_eq!(
        again(&paused),
        (
            true,
            "rollout r1 is paused: nothing new starts; 1 node(s) that are being worked on go on to their end"
                .to_owned()
        )
    );
    let paused = alice.pause(newest()).await.expect("paused already").into_inner();
    assert_eq!(again(&paused), (false, "rollout r1 is paused already".to_owned()));

    // What runs may end, nothing new starts.
    agents[0].script(|book| book.hold = false);
    let status = site.until_task(Stage::Etcd, "e1", TaskState::Finished).await;
    assert_eq!(
        status.pause,
        Some(PauseReason::Operator { by: wavegate_common::id::Actor("alice".to_owned()) })
    );
    let resumed = alice.resume(newest()).await.expect("resumed").into_inner();
    assert!(resumed.changed);
    site.until_status(Status::Finished).await;
    assert_eq!(agents[1].book().orders.len(), 1);
    let refused = alice.resume(newest()).await.expect_err("it has ended");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message(), @"rollout r1 cannot be resumed: rollout is finished; it has ended; for another one: wavegate plan, wavegate start");
    let refused = alice.stop(newest()).await.expect_err("it has ended");
    insta::assert_snapshot!(refused.message(), @"rollout r1 cannot be stopped: rollout is finished; it has ended; for another one: wavegate plan, wavegate start");
    site.until_audited("alice", "pause newest rollout").await;
    assert_eq!(site.until_audited("alice", "stop newest rollout").await.result, refused.message());
}

#[tokio::test]
async fn stop_is_final_and_lets_what_runs_end() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    let plan = site.plan().await;
    site.start_plan("", false).await.expect("started");
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let mut alice = site.operator().await;
    assert!(alice.stop(newest()).await.expect("stopping").into_inner().changed);
    let status = site.until_status(Status::Stopping).await;
    assert_eq!(status.waiting.len(), 3, "{:#?}", status.waiting);
    assert!(!alice.stop(newest()).await.expect("stopping already").into_inner().changed);
    let refused = alice.pause(newest()).await.expect_err("it is ending");
    insta::assert_snapshot!(refused.message(), @"rollout r1 cannot be paused: rollout is stopping; it is ending; when it has ended, start another one: wavegate plan, wavegate start");
    agents[0].script(|book| book.hold = false);
    let status = site.until_status(Status::Stopped).await;
    let state = |stage, node| task(&status, stage, node).map(|task| task.state);
    assert_eq!(state(Stage::Etcd, "e1"), Some(TaskState::Finished));
    assert_eq!(state(Stage::Etcd, "e2"), Some(TaskState::Canceled));
    assert_eq!(state(Stage::Compute, "c1"), Some(TaskState::Canceled));
    assert!(agents[1].book().orders.is_empty() && agents[2].book().orders.is_empty());
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("executed already");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @"plan PLAN was executed by rollout r1, and the nodes are no longer as it saw them; make a new plan: wavegate plan");
    let next = site.run_plan().await;
    assert_eq!(next, "r2");
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn too_many_failures_halt_it_and_a_retry_goes_on() {
    let site = Site::start().await;
    let agents =
        site.fleet(&[("c1", "compute"), ("c2", "compute"), ("c3", "compute"), ("c4", "compute")]).await;
    agents[1].script(|book| book.fail = [(Stage::Compute, 1)].into());
    site.run_plan().await;
    let status = site.until("halted", |status| {
        status.status == Status::Paused && status.stages.iter().all(|stage| stage.counts.running == 0)
    });
    let status = status.await;
    let threshold = PauseReason::ErrorThreshold { stage: Stage::Compute, failed: 1, allowed: 0 };
    assert_eq!(status.pause, Some(threshold));
    let failed = task(&status, Stage::Compute, "c2").expect("a task");
    assert_eq!(failed.error.as_ref().map(|error| error.error.what.as_str()), Some("it broke"));
    assert!(agents[3].book().orders.is_empty(), "the wave after it has not begun");
    let mut alice = site.operator().await;
    let refused = alice.resume(newest()).await.expect_err("over the threshold");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message(), @"rollout r1 cannot be resumed: 1 node(s) failed in stage compute, 0 allowed; try the failed nodes again first: wavegate retry --all-failed");
    let retry = |nodes: &[&str], all_failed| v1::RetryRequest {
        rollout: String::new(),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        all_failed,
    };
    let unknown = alice.retry(retry(&["c9"], false)).await.expect_err("no such node");
    assert_eq!(unknown.code(), Code::NotFound);
    insta::assert_snapshot!(unknown.message(), @"rollout r1 has no node c9; its nodes: wavegate status");
    let nothing = alice.retry(retry(&["c1"], false)).await.expect("nothing to do").into_inner();
    assert!(!nothing.changed);
    insta::assert_snapshot!(nothing.text, @"none of c1 has failed in rollout r1; there is nothing to try again, see what it waits for: wavegate why");
    let retried = alice.retry(retry(&[], true)).await.expect("retried").into_inner();
    assert!(retried.changed);
    insta::assert_snapshot!(retried.text, @"to be tried again: c2; the rollout is paused, let it go on: wavegate resume");
    alice.resume(newest()).await.expect("resumed");
    let status = site.until_status(Status::Finished).await;
    assert_eq!(task(&status, Stage::Compute, "c2").map(|task| task.attempt), Some(2));
}

#[tokio::test]
async fn waves_wait_for_an_operator_in_manual_mode() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let plan = site.plan().await;
    let started = site.start_plan(plan.id.as_str(), true).await.expect("started");
    assert!(started.text.ends_with("mode manual"), "{}", started.text);
    let mut alice = site.operator().await;
    assert!(agents[0].book().orders.is_empty());
    let released = alice.next_wave(newest()).await.expect("released").into_inner();
    insta::assert_snapshot!(released.text, @"wave 1 of stage compute of rollout r1 may begin: c1");
    site.until_task(Stage::Compute, "c1", TaskState::Finished).await;
    assert!(agents[1].book().orders.is_empty());
    let waiting = site.until("the second wave waits", |status| {
        status
            .waiting
            .iter()
            .any(|waiting| waiting.why.contains("wave 2 of stage compute waits for an operator"))
    });
    waiting.await;
    alice.next_wave(newest()).await.expect("released");
    let status = site.until_status(Status::Finished).await;
    assert_eq!(status.mode, Mode::Manual);
    let refused = alice.next_wave(newest()).await.expect_err("it has ended");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn one_rollout_at_a_time() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    let first = site.plan().await;
    let second = site.make_plan(plan_request()).await.expect("another plan");
    assert_ne!(first.id, second.id, "made at another time");
    agents[0].script(|book| book.hold = true);
    site.start_plan(first.id.as_str(), false).await.expect("started");
    let refused = site.start_plan(second.id.as_str(), false).await.expect_err("one at a time");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(first.id.as_str(), "PLAN"), @"rollout r1 of plan PLAN is running, and there is one rollout at a time; let it end (wavegate watch), or end it: wavegate stop");
    let refused = site.make_plan(plan_request()).await.expect_err("not while one runs");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message(), @"rollout r1 is under way: what nodes say while they are being changed is no ground for a plan; let it end (wavegate watch), or end it: wavegate stop");
    let auto = site.operator().await.next_wave(newest()).await.expect_err("waves begin by themselves");
    insta::assert_snapshot!(auto.message(), @"the waves of rollout r1 begin by themselves, since it was started without --manual; to hold it: wavegate pause");
}
