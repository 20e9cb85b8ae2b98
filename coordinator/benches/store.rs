//! How fast the store is: events that are appended, the log of a finished rollout that is replayed, plans.
//! `cargo bench -p wavegate-coordinator --bench store`; it asserts nothing of how long anything takes.

// A benchmark may fail.
#![allow(clippy::expect_used, missing_docs)]

#[path = "fleet/facts.rs"]
mod facts;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use facts::facts;
use std::cell::Cell;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use wavegate_common::id::{Actor, FleetId, Generation, LeaderId, NodeId, RolloutId, Timestamp};
use wavegate_common::outcome::Outcome;
use wavegate_common::plan::{Options, Plan, compile};
use wavegate_common::procedure::{Procedure, shipped};
use wavegate_common::rollout::{Entry, Event, Mode, Rollout, TaskRef, TaskResult};
use wavegate_coordinator::store::{Append, AuditRecord, Batch, NodeRecord, RolloutRecord, Store};

const NODES: usize = 10_000;

fn node(number: usize) -> NodeId {
    NodeId::new(format!("compute-{number:05}.example.com")).expect("a name")
}

/// A plan of so many compute nodes by the shipped procedure.
fn plan(nodes: usize) -> Plan {
    let (file, text) = shipped("calico-openstack").expect("it ships");
    let procedure = Procedure::parse(file, text).expect("it is right");
    let digest = "0".repeat(64);
    let set = [
        format!("etcd_archive_sha256={digest}"),
        format!("python_etcd_archive_sha256={digest}"),
        "python_etcd_version=0.4.1".to_owned(),
    ];
    let values = procedure.values(None, &set).expect("values");
    let fleet = (1..=nodes).map(|number| (node(number), facts(&node(number)))).collect();
    let body = compile(&procedure, &values, &fleet, &Options::default(), Timestamp(2), by());
    Plan::seal(body.expect("a plan")).expect("sealed")
}

fn by() -> Actor {
    Actor("alice".to_owned())
}

fn rollout() -> RolloutId {
    RolloutId::new("r1").expect("a name")
}

/// The log of a rollout that has found nothing to change.
fn log(plan: &Plan, generation: Generation) -> Vec<Entry> {
    let begin =
        Event::Started { mode: Mode::Auto, by: by(), approved_by: Vec::new(), acknowledged: Vec::new() };
    let mut events = vec![begin];
    for stage in &plan.body.stages {
        for node in stage.waves.iter().flatten() {
            let task = TaskRef { stage: stage.stage, node: node.clone(), attempt: 1 };
            events.push(Event::TaskStarted { task: task.clone() });
            events.push(Event::TaskAccepted { task: task.clone() });
            events.extend(stage.tasks[node].iter().map(|step| Event::StepEnded {
                task: task.clone(),
                step: step.id.clone(),
                ended_at: Timestamp(3),
                outcome: Outcome::AlreadySo { evidence: "it is so already".to_owned() },
            }));
            events.push(Event::TaskEnded { task, result: TaskResult::Finished });
        }
    }
    events.push(Event::Finished);
    let entry = |(seq, event): (u64, Event)| Entry { seq, at: Timestamp(3), generation, event };
    (1..).zip(events).map(entry).collect()
}

fn append(
    store: &Store,
    after: u64,
    generation: Generation,
    entries: &[Entry],
    begin: Option<&RolloutRecord>,
) {
    let rollout = rollout();
    let append = Append { rollout: &rollout, expected_last_seq: after, generation, entries, begin };
    store.keep(&Batch { append: Some(append), ..Batch::default() }).expect("kept");
}

fn audit() -> AuditRecord {
    let (who, what, result) = ("alice".to_owned(), "make plan".to_owned(), "done".to_owned());
    AuditRecord { at: Timestamp(2), who, what, result }
}

/// Keeps a fleet, its plan and the log of a rollout that has finished.
fn keep_finished(store: &Store, plan: &Plan) {
    let records: Vec<NodeRecord> = plan
        .body
        .nodes
        .keys()
        .zip(1..)
        .map(|(node, number)| NodeRecord {
            node: node.clone(),
            enrolled_at: Timestamp(1),
            certificate_pem: "x".repeat(800),
            fingerprint: format!("{number:064x}"),
            public_key: format!("{number:064x}"),
            facts: Some(facts(node)),
        })
        .collect();
    store.put_nodes(&records).expect("kept");
    store.put_plan(plan, &audit()).expect("kept");
    let generation = store.begin_generation(LeaderId::new(1)).expect("a generation");
    let record =
        RolloutRecord { id: rollout(), plan: plan.id.clone(), created_at: Timestamp(2), created_by: by() };
    let entries = log(plan, generation);
    for some in entries.chunks(1000) {
        append(store, some[0].seq - 1, generation, some, (some[0].seq == 1).then_some(&record));
    }
}

fn open(folder: &Path, fleet: &FleetId) -> Store {
    Store::open(&folder.join("store.redb"), fleet).expect("a store")
}

/// Appends on a disk: each batch is there when it returns.
fn appends(c: &mut Criterion) {
    let plan = plan(1000);
    let mut group = c.benchmark_group("append");
    for count in [1_usize, 100, 1000] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path(), &fleet());
        let generation = store.begin_generation(LeaderId::new(1)).expect("a generation");
        let some = &log(&plan, generation)[1..=count];
        let last = Cell::new(0);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_batched(
                || {
                    some.iter()
                        .cloned()
                        .zip(last.get() + 1..)
                        .map(|(entry, seq)| Entry { seq, ..entry })
                        .collect::<Vec<_>>()
                },
                |entries| {
                    append(&store, last.get(), generation, &entries, None);
                    last.set(last.get() + count as u64);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A fleet of ten thousand: its plan, and the log of its rollout.
fn ten_thousand(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Arc::new(plan(NODES));
    let store = open(folder.path(), &fleet());
    keep_finished(&store, &plan);
    let mut group = c.benchmark_group("10000 nodes");
    group.sample_size(10);
    group.bench_function("put a plan", |b| b.iter(|| store.put_plan(&plan, &audit()).expect("kept")));
    group.bench_function("get a plan", |b| b.iter(|| black_box(store.plan(Some(&plan.id)).expect("read"))));
    group.bench_function("verify a plan", |b| b.iter(|| plan.verify().expect("it is as it was sealed")));
    group.bench_function("nodes", |b| b.iter(|| black_box(store.nodes().expect("read"))));
    group.bench_function("replay", |b| b.iter(|| black_box(replayed(&store, &plan))));
    drop(store);
    group.bench_function("open", |b| b.iter(|| open(folder.path(), &fleet())));
    group.finish();
}

fn replayed(store: &Store, plan: &Arc<Plan>) -> Rollout {
    let mut replayed = Rollout::new(rollout(), plan.clone());
    for entry in store.events(&rollout(), 0, usize::MAX).expect("events") {
        replayed.apply(&entry).expect("it follows");
    }
    assert!(replayed.ended());
    replayed
}

fn fleet() -> FleetId {
    FleetId::new("bench").expect("a name")
}

criterion_group!(benches, appends, ten_thousand);
criterion_main!(benches);
