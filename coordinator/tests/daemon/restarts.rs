//! The coordinator ends, cleanly or not, and goes on by itself.

use super::support::{Site, newest, task};
use wavegate_common::id::{Generation, Timestamp};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Status, TaskState};
use wavegate_coordinator::by_hand;
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::store::Store;

#[tokio::test]
async fn a_rollout_goes_on_after_a_crash_in_the_middle() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute"), ("c2", "compute")]).await;
    agents[1].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Compute, "c1", TaskState::Applying).await;
    site.kill().await;
    // It finishes its task while there is no coordinator: the task is in its journal.
    agents[1].disconnect().await;
    agents[1].script(|book| book.hold = false);
    site.start_again().await;
    let status = site.status().await;
    assert_eq!(status.generation, Generation(2));
    assert_eq!(task(&status, Stage::Compute, "c1").map(|task| task.state), Some(TaskState::Applying));
    for agent in &agents {
        agent.connect(&site).await;
    }
    site.until_status(Status::Finished).await;
    assert!(
        agents[1].book().orders.values().all(|times| *times <= 2),
        "given out once, sent again after the restart"
    );
    let entries = site.events("r1").await;
    let started = |node: &str| {
        let of_node =
            |event: &Event| matches!(event, Event::TaskStarted { task } if task.node.as_str() == node);
        entries.iter().filter(|entry| of_node(&entry.event)).count()
    };
    assert_eq!((started("e1"), started("c1"), started("c2")), (1, 1, 1));
    assert_eq!(entries.last().map(|entry| entry.generation), Some(Generation(2)));
}

#[tokio::test]
async fn nodes_are_not_lost_by_the_restart_itself() {
    let (mut site, agent) = Site::at_work().await;
    site.shut_down().await;
    site.advance(3_600_000);
    site.start_again().await;
    let status = site.status().await;
    assert_eq!(task(&status, Stage::Etcd, "e1").map(|task| task.state), Some(TaskState::Applying));
    site.advance(30_000);
    site.until_task(Stage::Etcd, "e1", TaskState::Unknown).await;
    agent.script(|book| book.hold = false);
    agent.connect(&site).await;
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn a_pause_outlives_the_coordinator() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    site.operator().await.pause(newest()).await.expect("paused");
    site.kill().await;
    agents[0].script(|book| book.hold = false);
    site.start_again().await;
    for agent in &agents {
        agent.connect(&site).await;
    }
    let status = site.until_task(Stage::Etcd, "e1", TaskState::Finished).await;
    assert_eq!(status.status, Status::Paused);
    assert!(agents[1].book().orders.is_empty());
    site.operator().await.resume(newest()).await.expect("resumed");
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn a_lost_task_of_a_stopped_rollout_is_not_given_out_again() {
    let site = Site::start_with_manual_clock().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    agents[0].script(|book| book.deaf = true);
    site.run_plan().await;
    agents[0].until("the order came", |book| !book.orders.is_empty()).await;
    agents[0].disconnect().await;
    site.until_link("e1", false).await;
    site.advance(30_000);
    site.until_task(Stage::Etcd, "e1", TaskState::Unknown).await;
    site.operator().await.stop(newest()).await.expect("stopped");
    site.until_status(Status::Stopped).await;
    agents[0].script(|book| book.deaf = false);
    agents[0].connect(&site).await;
    site.advance(60_000);
    let mut alice = site.operator().await;
    alice.stop(newest()).await.expect("nothing to do");
    assert_eq!(agents[0].book().orders.values().sum::<u32>(), 1, "it never had the order, and never gets it");
}

#[tokio::test]
async fn watchers_are_told_that_the_coordinator_ends() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    let mut watch = site.operator().await.watch_status(newest()).await.expect("a stream").into_inner();
    watch.message().await.expect("a status");
    site.shut_down().await;
    let error = loop {
        match super::support::within(watch.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an ending rollout was not to be seen"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_store_that_was_lost_is_not_begun_anew_unless_somebody_says_so() {
    let mut site = Site::start().await;
    site.fleet(&[("e1", "etcd-member")]).await;
    let there = by_hand::new_store(&site.config, Timestamp(1)).expect_err("there is one").to_string();
    assert!(there.contains("move it away first"), "{there}");
    site.shut_down().await;
    let store = site.config.store_file();
    std::fs::remove_file(&store).expect("lost");
    let error = Daemon::start(&site.config, Clock::system()).await.err().expect("refused");
    let text = format!("{error:#}").replace(&store.display().to_string(), "STORE");
    insta::assert_snapshot!(text, @"there is no store STORE, though fleet test has been set up here: it was lost, or its disk is not mounted. Restore it from a backup. Only if there is none: wavegate-coordinator new-store begins an empty one, to which every node has to enrol anew");
    assert!(!store.exists());
    by_hand::new_store(&site.config, Timestamp(1)).expect("begun");
    site.start_again().await;
    assert_eq!(site.nodes().await, []);
    site.until_audited("wavegate-coordinator", "new-store").await;
}

#[tokio::test]
async fn a_log_that_does_not_replay_is_not_run() {
    let mut site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    site.shut_down().await;
    let fleet = "test".parse().expect("a name");
    let store = Store::open(&site.config.store_file(), &fleet).expect("the store");
    let mut entry = store.events(&"r1".parse().expect("a name"), 0, 1).expect("events").remove(0);
    entry.seq = 4;
    let append = wavegate_coordinator::store::Append {
        rollout: &"r1".parse().expect("a name"),
        expected_last_seq: 3,
        generation: store.generation().expect("a generation"),
        entries: &[entry],
        begin: None,
    };
    let batch = wavegate_coordinator::store::Batch { append: Some(append), ..Default::default() };
    store.keep(&batch).expect("somebody else's doing");
    store.shut();
    let error = Daemon::start(&site.config, Clock::system()).await.err().expect("refused");
    insta::assert_snapshot!(format!("{error:#}"), @"cannot load the state of the rollout: the log of rollout r1 cannot be replayed: event 4 does not follow from those before it; run the version that wrote it, or restore the store from a backup: rollout is running");
}
