//! A disk that is full, and the store by itself.

use super::support::flaky::Disk;
use super::support::{Site, enrolled, newest};
use std::sync::Arc;
use tonic::Code;
use wavegate_common::id::{Actor, FleetId, Generation, LeaderId, NodeId, RolloutId, Timestamp};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Event, Mode, Status, TaskState};
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::daemon::Daemon;
use wavegate_coordinator::pki::Authority;
use wavegate_coordinator::store::{
    Append, AuditRecord, Batch, NodeRecord, OutputPiece, Printed, RolloutRecord, ShownToken, StepPlace,
    Store, StoreError, TokenRecord,
};

async fn site_on(disk: &Disk) -> Site {
    let mut site = Site::set_up(|_| {}, Clock::system());
    let authority = Arc::new(Authority::load(&site.config.pki_folder()).expect("an authority"));
    let store = Arc::new(disk.store("test"));
    let daemon =
        Daemon::start_on(&site.config, Clock::system(), authority, store, None).await.expect("started");
    site.set_daemon(daemon);
    site
}

/// A write that failed may be in the store all the same, and then it counts.
#[tokio::test]
async fn a_write_that_failed_is_looked_for_before_the_next_one() {
    let mut there_all_the_same = 0;
    for sync in 1..=2 {
        let disk = Disk::new();
        let site = site_on(&disk).await;
        let agents = site.fleet(&[("e1", "etcd-member")]).await;
        let plan = site.plan().await;
        disk.fail_sync(sync);
        let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("it did not answer");
        assert_eq!(refused.code(), Code::Unavailable, "sync {sync}: {refused:?}");
        assert!(disk.has_failed());
        let again = site.start_plan(plan.id.as_str(), false).await;
        let again = again.map(|answer| answer.changed).map_err(|refused| refused.message().to_owned());
        match again {
            Ok(true) => {}
            Ok(false) => there_all_the_same += 1,
            // It may have been so quick.
            Err(refused) if refused.contains("was executed by rollout r1") => there_all_the_same += 1,
            Err(refused) => panic!("sync {sync}: {refused}"),
        }
        site.until_status(Status::Finished).await;
        assert_eq!(agents[0].book().orders.values().copied().collect::<Vec<_>>(), [1]);
    }
    assert_eq!(there_all_the_same, 1, "the last sync of a commit comes after what makes it count");
}

#[tokio::test]
async fn nothing_is_sent_that_is_not_stored_and_it_goes_on_when_there_is_room() {
    let disk = Disk::new();
    let site = site_on(&disk).await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute")]).await;
    let plan = site.plan().await;
    disk.set_full(true);
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("no room");
    assert_eq!(refused.code(), Code::Unavailable);
    insta::assert_snapshot!(refused.message(), @"nothing was done, since it could not be stored: the store on a flaky disk cannot be read or written; look at space and permissions there (df -h, ls -l): I/O error: no space left on device");
    assert!(agents[0].book().orders.is_empty());
    disk.set_full(false);
    agents[0].script(|book| book.hold = true);
    let started = site.start_plan(plan.id.as_str(), false).await.expect("there is room");
    assert_eq!(started.rollout, "r1");
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;

    // The agent ends its task while there is no room: nothing is acknowledged, and nothing of the next stage begins.
    disk.set_full(true);
    agents[0].script(|book| book.hold = false);
    let told = |waiting: &wavegate_common::rollout::WaitingOn| waiting.why.contains("cannot store");
    let status = site.until("it is told", |status| status.waiting.iter().any(told)).await;
    assert!(status.stages[0].counts.finished == 0, "memory is not ahead of the store");
    let refused = site.operator().await.pause(newest()).await.expect_err("no room");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(agents[0].book().journal.values().all(|task| !task.acknowledged));
    assert!(agents[1].book().orders.is_empty());
    disk.set_full(false);
    site.until_status(Status::Finished).await;
    agents[0].until("acknowledged", |book| book.journal.values().all(|task| task.acknowledged)).await;
}

/// A node that lost its journal has nothing to report: if its order does not come, nothing ever does.
#[tokio::test]
async fn an_order_that_is_owed_is_not_forgotten_when_there_is_no_room() {
    let disk = Disk::new();
    let site = site_on(&disk).await;
    let mut agents = site.fleet(&[("e1", "etcd-member")]).await;
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    agents[0].disconnect().await;
    site.until_link("e1", false).await;
    agents[0].script(|book| book.journal.clear());
    agents[0].facts.kernel = "6.2".to_owned();

    disk.set_full(true);
    agents[0].connect(&site).await;
    let told = |waiting: &wavegate_common::rollout::WaitingOn| waiting.why.contains("cannot store");
    site.until("what it observed could not be kept", |status| status.waiting.iter().any(told)).await;
    assert_eq!(agents[0].book().orders.values().sum::<u32>(), 1, "nothing is sent while nothing is stored");
    disk.set_full(false);
    agents[0].until("its order came again", |book| book.orders.values().sum::<u32>() == 2).await;
    agents[0].script(|book| book.hold = false);
    site.until_status(Status::Finished).await;
}

fn fleet() -> FleetId {
    "test".parse().expect("a name")
}

fn audit() -> AuditRecord {
    let (who, what, result) = ("alice".to_owned(), "start".to_owned(), "done".to_owned());
    AuditRecord { at: Timestamp(1), who, what, result }
}

fn entry(seq: u64, generation: Generation) -> Entry {
    let event = Event::Started {
        mode: Mode::Auto,
        by: Actor("alice".to_owned()),
        approved_by: Vec::new(),
        acknowledged: Vec::new(),
    };
    Entry { seq, at: Timestamp(seq), generation, event }
}

fn rollout() -> RolloutId {
    "r1".parse().expect("a name")
}

fn append(store: &Store, after: u64, generation: Generation) -> Result<(), StoreError> {
    let record = RolloutRecord {
        id: rollout(),
        plan: "abc".parse().expect("a name"),
        created_at: Timestamp(1),
        created_by: Actor("alice".to_owned()),
    };
    let (entries, audit) = ([entry(after + 1, generation)], [audit()]);
    let append = Append {
        rollout: &rollout(),
        expected_last_seq: after,
        generation,
        entries: &entries,
        begin: Some(&record),
    };
    let on_disk = store.keep(&Batch { append: Some(append), audit: &audit, ..Batch::default() })?;
    assert!(on_disk, "events are");
    Ok(())
}

#[test]
fn the_store_keeps_over_a_reopening_what_was_appended() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state/store.redb");
    let store = Store::open(&file, &fleet()).expect("begun");
    let first = store.begin_generation(LeaderId::new(1)).expect("a generation");
    append(&store, 0, first).expect("appended");
    append(&store, 1, first).expect("appended");
    assert!(matches!(Store::open(&file, &fleet()), Err(StoreError::InUse { .. })));
    drop(store);
    let store = Store::open(&file, &fleet()).expect("reopened");
    assert_eq!(store.generation().expect("a generation"), first);
    let entries = store.events(&rollout(), 0, 10).expect("events");
    assert_eq!(entries, [entry(1, first), entry(2, first)]);
    assert_eq!(store.events(&rollout(), 1, 10).expect("events"), [entry(2, first)]);
    assert_eq!(store.events(&rollout(), u64::MAX, 10).expect("events"), []);
    assert_eq!(store.audited(10).expect("records").len(), 2);
    let second = store.begin_generation(LeaderId::new(1)).expect("a generation");
    assert!(second > first);
    assert!(matches!(append(&store, 2, first), Err(StoreError::Fenced { .. })));
    append(&store, 2, second).expect("appended");
    drop(store);
    let other = "other".parse().expect("a name");
    let refused = Store::open(&file, &other).err().expect("another fleet's").to_string();
    assert!(refused.contains("fleet test's"), "{refused}");
}

#[test]
fn a_damaged_store_is_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store.redb");
    let store = Store::open(&file, &fleet()).expect("begun");
    let generation = store.begin_generation(LeaderId::new(1)).expect("a generation");
    for after in 0..100 {
        append(&store, after, generation).expect("appended");
    }
    drop(store);
    drop(Store::open(&file, &fleet()).expect("it is sound"));
    let whole = std::fs::read(&file).expect("a file");
    let mut refused = 0;
    for at in (0..whole.len()).step_by(4096) {
        let mut broken = whole.clone();
        broken[at..at + 600].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&file, broken).expect("written");
        match Store::open(&file, &fleet()) {
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "at {at}: {error}");
            }
            // A page that is not in use.
            Ok(store) => assert_eq!(store.events(&rollout(), 0, 200).expect("events").len(), 100, "at {at}"),
        }
    }
    assert!(refused > 3, "{refused} pages in use");
    for length in [0, 100, 5000, whole.len() / 2] {
        std::fs::write(&file, &whole[..length]).expect("written");
        let refused = Store::open(&file, &fleet()).err().expect("cut off").to_string();
        assert!(refused.contains("is damaged"), "{length}: {refused}");
    }
}

#[test]
fn a_conflict_appends_nothing() {
    let store = Store::in_memory(&fleet()).expect("a store");
    let generation = store.begin_generation(LeaderId::new(1)).expect("a generation");
    append(&store, 0, generation).expect("appended");
    for after in [0, 2] {
        let refused = append(&store, after, generation);
        assert!(matches!(refused, Err(StoreError::Conflict { found: 1, .. })), "{refused:?}");
    }
    assert_eq!(store.events(&rollout(), 0, 10).expect("events").len(), 1);
    assert_eq!(store.audited(10).expect("records").len(), 1, "in the same transaction");
    for bad in ["x", "r", "r01", "r1x", "1"] {
        let id: RolloutId = bad.parse().expect("a name");
        assert!(matches!(store.events(&id, 0, 1), Err(StoreError::NoRolloutId(_))), "{bad}");
    }
}

#[test]
fn a_token_and_the_node_are_kept_together_or_not_at_all() {
    let store = Store::in_memory(&fleet()).expect("a store");
    let token = TokenRecord {
        id: "t".to_owned(),
        secret_sha256: "s".to_owned(),
        node: None,
        expires_at: Timestamp(10),
        created_by: Actor("alice".to_owned()),
        created_at: None,
        uses: 1,
        declared: false,
        times_used: 0,
        used: None,
        revoked: None,
    };
    store.put_token(&token, Timestamp(1), &audit()).expect("kept");
    let node = super::support::node("c1");
    let refused = store.enrol("t", &node, &audit(), |found, known| {
        assert_eq!((found, known), (Some(ShownToken { record: token.clone(), used_at: None }), None));
        Err::<(TokenRecord, NodeRecord), _>("no")
    });
    assert_eq!(refused.expect("the store is fine").expect_err("refused"), "no");
    assert_eq!(store.nodes().expect("nodes"), []);
    assert_eq!(store.audited(10).expect("records").len(), 1, "the token's own");
    let record = enrolled(node.clone());
    let used = wavegate_coordinator::store::TokenUse { node: node.clone(), at: Timestamp(2) };
    let used = TokenRecord { used: Some(used), ..token };
    let kept = store.enrol("t", &node, &audit(), |_, _| Ok::<_, ()>((used.clone(), record.clone())));
    kept.expect("the store is fine").expect("agreed");
    assert_eq!(store.token("t").expect("readable"), Some(used.clone()));
    assert_eq!(store.token_uses(&used).expect("readable"), used.used.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(store.nodes().expect("nodes"), [record.into()]);
}

#[test]
fn output_is_read_in_the_order_of_the_work() {
    let store = Store::in_memory(&fleet()).expect("a store");
    let (rollout, node) = (rollout(), super::support::node("c1"));
    let piece = |stage, attempt, step, offset, data: &[u8]| OutputPiece {
        place: StepPlace { stage, attempt, step },
        offset,
        data: data.to_vec(),
    };
    let pieces = [
        piece(Stage::Etcd, 1, 0, 0, b"a"),
        piece(Stage::Etcd, 1, 0, 1, b"b"),
        piece(Stage::Etcd, 2, 0, 0, b"c"),
        piece(Stage::Compute, 1, 10, 0, b"d"),
        piece(Stage::Control, 1, 2, 0, b"e"),
    ];
    let printed = |node: &NodeId, index: usize| Printed {
        rollout: rollout.clone(),
        node: node.clone(),
        piece: pieces[index].clone(),
    };
    let keep = |output: &[Printed]| {
        assert!(!store.keep(&Batch { output, ..Batch::default() }).expect("kept"), "output alone is flushed");
    };
    keep(&[4, 0, 1, 1].map(|index| printed(&node, index)));
    keep(&[0, 3, 2].map(|index| printed(&node, index)));
    keep(&[printed(&super::support::node("c10"), 0)]);
    store.flush().expect("on disk");
    assert_eq!(store.output(&rollout, &node, None, 1000).expect("output"), pieces);
    let after = (pieces[1].place.clone(), pieces[1].offset);
    assert_eq!(store.output(&rollout, &node, Some(&after), 2).expect("output"), pieces[2..4]);
}
