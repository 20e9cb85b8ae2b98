//! The machine's clock is set while a rollout runs, or while the coordinator is down.

use super::support::{Site, newest, task};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wavegate_common::id::Timestamp;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState};
use wavegate_coordinator::clock::{Clock, Hands};

const HOUR_MS: u64 = 3_600_000;

async fn site() -> (Site, Arc<Hands>) {
    // Certificates are judged by the clock of the machine that the test runs on.
    let wall = AtomicU64::new(Clock::system().now().0);
    let hands = Arc::new(Hands { wall, elapsed: AtomicU64::new(0) });
    let site = Site::start_with(|_| {}, Clock::by_hands(hands.clone())).await;
    (site, hands)
}

fn passes(hands: &Hands, millis: u64) {
    hands.elapsed.fetch_add(millis, Ordering::SeqCst);
    hands.wall.fetch_add(millis, Ordering::SeqCst);
}

#[tokio::test]
async fn a_clock_set_forward_ends_no_session_and_loses_no_node() {
    let (site, hands) = site().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    agents[0].disconnect().await;
    site.until_link("e1", false).await;
    passes(&hands, 29_000);
    hands.wall.fetch_add(HOUR_MS, Ordering::SeqCst);
    // A command that changes nothing has the engine decide what comes next.
    site.operator().await.resume(newest()).await.expect("it runs already");
    let state = |status| task(status, Stage::Etcd, "e1").map(|task| task.state);
    assert_eq!(state(&site.status().await), Some(TaskState::Applying), "it was away for 29 s");
    passes(&hands, 1_000);
    let status = site.until_task(Stage::Etcd, "e1", TaskState::Unknown).await;
    assert!(status.now.millis_since(status.started_at.expect("it was started")) >= HOUR_MS, "it is followed");
    // The tick that found this has looked for silent sessions first.
    assert!(site.is_online("e2").await);
    passes(&hands, 900_000);
    site.until_link("e2", false).await;
}

#[tokio::test]
async fn the_log_goes_on_from_its_last_event_after_a_restart_with_a_clock_set_back() {
    let (mut site, hands) = site().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    hands.wall.fetch_add(HOUR_MS, Ordering::SeqCst);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let last = |entries: &[wavegate_common::rollout::Entry]| entries.last().map(|entry| entry.at);
    let before = last(&site.events("r1").await).expect("an event");
    // While it runs, and while it is down.
    hands.wall.fetch_sub(HOUR_MS, Ordering::SeqCst);
    passes(&hands, 5_000);
    assert_eq!(site.status().await.now, Timestamp(before.0 + 5_000));
    site.kill().await;
    site.clock = Clock::by_hands(hands.clone());
    site.start_again().await;
    assert_eq!(site.status().await.now, before);
    passes(&hands, 2_000);
    agents[0].script(|book| book.hold = false);
    for agent in &agents {
        agent.connect(&site).await;
    }
    site.until_status(Status::Finished).await;
    let entries = site.events("r1").await;
    assert!(entries.iter().map(|entry| entry.at).is_sorted(), "{entries:#?}");
    assert_eq!(last(&entries), Some(Timestamp(before.0 + 2_000)));
}
