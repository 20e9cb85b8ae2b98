//! A disk that takes long: what follows waits for it, nothing is lost, and no node is silent or lost for it.

use super::support::agent::facts;
use super::support::flaky::Disk;
use super::support::{Site, enrolled, newest, node, task, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use wavegate_common::id::LeaderId;
use wavegate_common::leader::Leader;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState};
use wavegate_coordinator::clock::{Clock, Hands};
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::engine::{Connected, Engine, FromAgent, Input, Session, Timing};
use wavegate_coordinator::pki::Authority;
use wavegate_proto::v1;

/// Far longer than any silence or absence that is put up with.
const HOUR_MS: u64 = 3_600_000;

fn clock() -> (Clock, Arc<Hands>) {
    // Certificates are judged by the clock of the machine that the test runs on.
    let wall = AtomicU64::new(Clock::system().now().0);
    let hands = Arc::new(Hands { wall, elapsed: AtomicU64::new(0) });
    (Clock::by_hands(hands.clone()), hands)
}

fn pass(hands: &Hands, millis: u64) {
    hands.elapsed.fetch_add(millis, Ordering::SeqCst);
    hands.wall.fetch_add(millis, Ordering::SeqCst);
}

async fn site_on(disk: &Disk, clock: Clock) -> Site {
    let mut site = Site::set_up(|_| {}, clock.clone());
    let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
    let store = Arc::new(disk.store("test"));
    let daemon = Daemon::start_on(&site.config, clock, authority, store, None).await.expect("started");
    site.set_daemon(daemon);
    site
}

#[test]
fn a_slow_disk_makes_nobody_silent() {
    let (clock, hands) = clock();
    let disk = Disk::new();
    let site = Site::set_up(|_| {}, clock.clone());
    let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
    let store = Arc::new(disk.store("test"));
    let record = enrolled(node("c1"));
    store.put_node(&record).expect("kept");
    let timing = Timing { heartbeat_interval_s: 10, lost_after_ms: 60_000 };
    let engine = Engine::load(store, authority, clock.clone(), timing, LeaderId::new(1));
    let mut engine = engine.expect("loaded");
    engine.take(Input::Tick);

    let (outbound, _messages) = mpsc::channel(8);
    let (alive, mut ended) = oneshot::channel();
    let (reply, mut number) = oneshot::channel();
    let heard = Arc::new(AtomicU64::new(clock.elapsed_ms()));
    disk.take_long(&hands, HOUR_MS);
    engine.take(Input::Connected(Box::new(Connected {
        node: node("c1"),
        fingerprint: "f".to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        seen: Leader::default(),
        facts: Some(facts("c1", "compute")),
        not_understood: None,
        session: Session { outbound, heard, alive },
        reply,
    })));
    assert!(clock.elapsed_ms() >= HOUR_MS, "its facts were written");
    disk.be_quick();
    for _ in 0..3 {
        engine.take(Input::Tick);
    }
    assert_eq!(ended.try_recv(), Err(TryRecvError::Empty), "nobody could have heard it meanwhile");

    // What it says may have waited for long; it is heard when it is taken.
    let session = number.try_recv().expect("an answer").expect("admitted");
    pass(&hands, 29_000);
    let message = Box::new(FromAgent::Working(None, None));
    engine.take(Input::Said { node: node("c1"), session, message });
    pass(&hands, 29_000);
    engine.take(Input::Tick);
    engine.take(Input::Tick);
    assert_eq!(ended.try_recv(), Err(TryRecvError::Empty));
    pass(&hands, 1_000);
    engine.take(Input::Tick);
    assert_eq!(ended.try_recv(), Err(TryRecvError::Empty), "what it said may lie there unread");
    engine.take(Input::Tick);
    assert_eq!(ended.try_recv(), Err(TryRecvError::Closed), "it is silent");
}

#[tokio::test]
async fn a_slow_disk_is_told_of_and_loses_no_node() {
    let (clock, hands) = clock();
    let disk = Disk::new();
    let site = site_on(&disk, clock).await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    agents[0].disconnect().await;
    site.until_link("e1", false).await;

    disk.take_long(&hands, HOUR_MS);
    site.operator().await.pause(newest()).await.expect("it takes long, and it is done");
    disk.be_quick();
    let status = site.status().await;
    assert_eq!(status.status, Status::Paused);
    let told = status.waiting.iter().find(|reason| reason.why.contains("store took"));
    let told = told.unwrap_or_else(|| panic!("{:#?}", status.waiting));
    insta::assert_snapshot!(told.unblock, @"nothing is lost, and it goes on by itself; see what keeps the coordinator's disk busy (iostat -x 1, dmesg)");
    // A command has the engine decide what comes next.
    site.operator().await.resume(newest()).await.expect("done");
    let state = |status| task(status, Stage::Etcd, "e1").map(|task| task.state);
    assert_eq!(
        state(&site.status().await),
        Some(TaskState::Applying),
        "it was not away for longer than that"
    );
    assert!(site.is_online("c1").await);

    pass(&hands, 30_000);
    site.until_task(Stage::Etcd, "e1", TaskState::Unknown).await;
    agents[0].script(|book| book.hold = false);
    agents[0].connect(&site).await;
    site.until_status(Status::Finished).await;
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_named_to_who_asks_meanwhile() {
    let (clock, hands) = clock();
    let disk = Disk::new();
    let site = site_on(&disk, clock).await;
    let _agents = site.fleet(&[("c1", "compute")]).await;
    disk.hang();
    let mut operator = site.operator().await;
    let token = tokio::spawn(async move {
        let request =
            v1::CreateTokenRequest { valid_for_s: 600, uses: 1, ..v1::CreateTokenRequest::default() };
        operator.create_token(request).await
    });
    let hangs = disk.clone();
    tokio::task::spawn_blocking(move || hangs.until_it_hangs()).await.expect("it hangs");
    pass(&hands, 12_000);
    let refused =
        site.operator().await.list_nodes(v1::ListNodesRequest::default()).await.expect_err("it is busy");
    insta::assert_snapshot!(refused.message(), @"the coordinator's store has been writing for 12 s, and everything waits for it; nothing is lost, and it goes on by itself; see what keeps the coordinator's disk busy (iostat -x 1, dmesg)");
    disk.let_go();
    within(token).await.expect("not aborted").expect("it took long, and it is done");
    assert!(site.is_online("c1").await);
}
