//! What a rollout costs with growing fleets: an event, a decision, a copy, and a whole stage in which nothing has to be changed.
//! The plan is the shipped procedure's for three members of etcd, three control nodes, and computes for the rest.

#![allow(missing_docs, clippy::expect_used)] // a benchmark documents nothing, and fails by panicking

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use wavegate_common::facts::{DhcpAgent, Facts};
use wavegate_common::id::{Actor, Generation, NodeId, RolloutId, Timestamp};
use wavegate_common::outcome::Outcome;
use wavegate_common::plan::{Options, Plan, PlanBody, compile};
use wavegate_common::platform::{OsFamily, PackageManager, Platform, Release, Role, ServiceManager, Stage};
use wavegate_common::procedure::{Procedure, shipped};
use wavegate_common::rollout::{
    EndedStep, Entry, Event, Link, Mode, Observed, Report, Rollout, TaskRef, TaskResult,
};
use wavegate_common::waves::{Amount, Batches, WaveOverride};

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const SITE: [&str; 3] = [
    "etcd_archive_sha256=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "python_etcd_archive_sha256=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "python_etcd_version=0.4.1",
];
const NOW: Timestamp = Timestamp(1_000);

fn name(index: usize) -> NodeId {
    let role = match index {
        0..3 => "etcd",
        3..6 => "control",
        _ => "compute",
    };
    NodeId::new(format!("{role}-{index:06}")).expect("a name")
}

fn facts(index: usize) -> Facts {
    let roles: &[Role] = match index {
        0..3 => &[Role::EtcdMember],
        3..6 => &[Role::Control, Role::EtcdClient],
        _ => &[Role::Compute, Role::EtcdClient],
    };
    Facts {
        node: name(index),
        observed_at: Timestamp(1),
        hostname: name(index).to_string(),
        kernel: "4.4.0-210-generic".to_owned(),
        boot_id: "1".to_owned(),
        platform: Platform {
            family: OsFamily::Debian,
            id: "ubuntu".to_owned(),
            version_id: "16.04".to_owned(),
            pretty_name: "Ubuntu 16.04.7 LTS".to_owned(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        },
        roles: roles.iter().copied().collect(),
        versions: BTreeMap::new(),
        release: Some("mitaka".parse::<Release>().expect("a release")),
        dhcp_agent: DhcpAgent::Neutron,
        etcd: None,
        agent_version: "0.1.0".to_owned(),
    }
}

/// The plan of a fleet; so many of a hundred nodes of a stage may be away at once, after a canary.
fn body(nodes: usize, percent: u32) -> PlanBody {
    let (file, text) = shipped("calico-openstack").expect("shipped");
    let procedure = Procedure::parse(file, text).expect("a procedure");
    let set: Vec<String> = SITE.iter().map(ToString::to_string).collect();
    let values = procedure.values(None, &set).expect("values");
    let fleet = (0..nodes).map(|index| (name(index), facts(index))).collect();
    let wide = WaveOverride {
        max_unavailable: Some(Amount::Percent(percent)),
        batches: Some(Batches::MaxUnavailable),
        ..WaveOverride::default()
    };
    let waves = [(Stage::Etcd, wide.clone()), (Stage::Compute, wide)].into();
    let options = Options { waves, ..Options::default() };
    compile(&procedure, &values, &fleet, &options, Timestamp(2), Actor("anna".into())).expect("a plan")
}

fn plan(nodes: usize, percent: u32) -> Arc<Plan> {
    Arc::new(Plan::seal(body(nodes, percent)).expect("sealed"))
}

fn links(plan: &Plan) -> BTreeMap<NodeId, Link> {
    plan.body.nodes.keys().map(|node| (node.clone(), Link::Online { since: Timestamp(1) })).collect()
}

/// A rollout with its log.
struct Run {
    rollout: Rollout,
    links: BTreeMap<NodeId, Link>,
    log: Vec<Entry>,
}

impl Run {
    fn new(plan: &Arc<Plan>) -> Self {
        let rollout = Rollout::new(RolloutId::new("r1").expect("an id"), plan.clone());
        let mut run = Self { rollout, links: links(plan), log: Vec::new() };
        let (mode, by) = (Mode::Auto, Actor("anna".into()));
        run.record(vec![Event::Started { mode, by, approved_by: Vec::new(), acknowledged: Vec::new() }]);
        run
    }

    fn observed(&self) -> Observed<'_> {
        Observed { now: NOW, links: &self.links, lost_after_ms: 60_000 }
    }

    fn record(&mut self, events: Vec<Event>) {
        for event in events {
            let seq = self.rollout.last_seq() + 1;
            let entry = Entry { seq, at: NOW, generation: Generation(1), event };
            self.rollout.apply(&entry).expect("legal");
            self.log.push(entry);
        }
    }

    /// What a task's report amounts to in which every step was so already.
    fn report(&mut self, task: &TaskRef) {
        let order = self.rollout.open_orders_of(Generation(1), &task.node).next().expect("an order");
        let step = |planned: &wavegate_common::order::PlannedStep| EndedStep {
            step: planned.id.clone(),
            ended_at: NOW,
            outcome: Outcome::AlreadySo { evidence: "it is so already".to_owned() },
        };
        let steps = order.steps.iter().map(step).collect();
        let report = Report { key: order.key, steps, result: Some(TaskResult::Finished) };
        let reported = self.rollout.reported(&report).expect("true");
        self.record(reported.events);
    }

    /// Decides until nothing is left to decide; the tasks that were started.
    fn settle(&mut self) -> Vec<TaskRef> {
        let mut started = Vec::new();
        loop {
            let events = self.rollout.decide(self.observed());
            if events.is_empty() {
                return started;
            }
            started.extend(events.iter().filter_map(|event| match event {
                Event::TaskStarted { task } => Some(task.clone()),
                _ => None,
            }));
            self.record(events);
        }
    }

    /// Goes on until a task of a stage is started; what was started then.
    fn up_to(&mut self, stage: Stage) -> Vec<TaskRef> {
        loop {
            let started = self.settle();
            assert!(!started.is_empty(), "nothing is left to do");
            if started.iter().any(|task| task.stage == stage) {
                return started;
            }
            started.iter().for_each(|task| self.report(task));
        }
    }

    /// Goes on to the end: so many reports come before it is decided again.
    fn finish(&mut self, mut at_work: Vec<TaskRef>, turn: usize) {
        while !at_work.is_empty() {
            let later = at_work.split_off(at_work.len().min(turn));
            at_work.iter().for_each(|task| self.report(task));
            at_work = later;
            at_work.extend(self.settle());
        }
        assert!(self.rollout.ended(), "{:?}", self.rollout.status());
    }
}

/// A whole rollout in which every node is up to date, per node: decided after every report, and after every hundred.
fn whole(criterion: &mut Criterion) {
    for (label, turn, percent) in
        [("5% at once, a report a turn", 1, 5), ("100% at once, a hundred reports a turn", 100, 100)]
    {
        let mut group = criterion.benchmark_group(format!("whole rollout per node, {label}"));
        for nodes in SIZES {
            let plan = plan(nodes, percent);
            group.throughput(Throughput::Elements(nodes as u64)).sample_size(10);
            group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
                bencher.iter(|| {
                    let mut run = Run::new(&plan);
                    let started = run.settle();
                    run.finish(started, turn);
                    run
                });
            });
        }
    }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply per event");
    for nodes in SIZES {
        let plan = plan(nodes, 25);
        let mut run = Run::new(&plan);
        let started = run.settle();
        run.finish(started, 1_000);
        group.throughput(Throughput::Elements(run.log.len() as u64)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(nodes), |bencher| {
            bencher.iter_batched(
                || Rollout::new(RolloutId::new("r1").expect("an id"), plan.clone()),
                |mut rollout| {
                    run.log.iter().for_each(|entry| rollout.apply(entry).expect("legal"));
                    rollout
                },
                BatchSize::PerIteration,
            );
        });
    }
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for nodes in SIZES {
        let mut run = Run::new(&plan(nodes, 100));
        let canary = run.up_to(Stage::Compute);
        canary.iter().for_each(|task| run.report(task));
        group.bench_function(BenchmarkId::new("a wave of all starts", nodes), |bencher| {
            bencher.iter(|| black_box(run.rollout.decide(run.observed())));
        });
        let started = run.settle();
        group.bench_function(BenchmarkId::new("all are at work", nodes), |bencher| {
            bencher.iter(|| black_box(run.rollout.decide(run.observed())));
        });
        started.iter().skip(5).for_each(|task| run.report(task));
        group.bench_function(BenchmarkId::new("five are at work", nodes), |bencher| {
            bencher.iter(|| black_box(run.rollout.decide(run.observed())));
        });
    }
}

fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    for nodes in SIZES {
        let mut run = Run::new(&plan(nodes, 100));
        let started = run.up_to(Stage::Compute);
        group.bench_function(BenchmarkId::new("alone", nodes), |bencher| {
            bencher.iter(|| black_box(run.rollout.clone()));
        });
        let event = Event::TaskAccepted { task: started[0].clone() };
        let seq = run.rollout.last_seq() + 1;
        let entry = Entry { seq, at: NOW, generation: Generation(1), event };
        group.bench_function(BenchmarkId::new("and one event", nodes), |bencher| {
            bencher.iter(|| {
                let mut after = run.rollout.clone();
                after.apply(&entry).expect("legal");
                after
            });
        });
    }
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan per node");
    for nodes in SIZES {
        let body = body(nodes, 25);
        let sealed = Plan::seal(body.clone()).expect("sealed");
        let json = serde_json::to_vec(&sealed).expect("JSON");
        group.throughput(Throughput::Elements(nodes as u64)).sample_size(10);
        group.bench_function(BenchmarkId::new("compile", nodes), |bencher| {
            bencher.iter(|| black_box(self::body(nodes, 25)));
        });
        group.bench_function(BenchmarkId::new("verify", nodes), |bencher| {
            bencher.iter(|| sealed.verify().expect("sealed"));
        });
        group.bench_function(BenchmarkId::new("read", nodes), |bencher| {
            bencher.iter(|| serde_json::from_slice::<Plan>(&json).expect("a plan"));
        });
    }
}

criterion_group!(benches, whole, apply, decide, copy, plans);
criterion_main!(benches);
