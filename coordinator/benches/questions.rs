//! What an operator's questions cost beside the engine: a look, and the documents made and written of it, by size of the fleet.
//! `cargo bench -p wavegate-coordinator --bench questions`.

// A benchmark that cannot be set up may fail.
#![allow(clippy::expect_used, missing_docs)]

mod fleet;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fleet::Fleet;
use serde::Serialize;
use std::hint::black_box;
use wavegate_coordinator::engine::About;
use wavegate_coordinator::status::nodes::Wanted;
use wavegate_coordinator::status::view::Detail;

/// A fleet in the middle of stage compute: of twenty nodes nineteen are done.
fn at_work(nodes: usize) -> Fleet {
    let mut fleet = Fleet::new(nodes);
    let (view, _) = fleet.plan();
    fleet.start(&view.plan.id).expect("started");
    fleet.work(usize::MAX);
    fleet.work(20);
    fleet
}

fn written<T: Serialize>(document: &T) -> usize {
    serde_json::to_vec(document).expect("JSON").len()
}

fn questions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("questions");
    group.sample_size(20);
    for nodes in [100, 1_000, 10_000] {
        let fleet = at_work(nodes);
        let (engine, store) = (&fleet.engine, &fleet.store);
        group.bench_function(BenchmarkId::new("look", nodes), |bencher| bencher.iter(|| engine.look()));
        let look = engine.look();
        let status = |detail| written(&look.status(store, None, detail).expect("a status"));
        let why = || written(&look.why(store, None, &About::default()).expect("reasons"));
        let list = || written(&look.nodes(&Wanted::default()));
        eprintln!(
            "{nodes} nodes: status {} bytes, all of it {}, why {}, nodes {}",
            status(Detail::Brief),
            status(Detail::Full),
            why(),
            list()
        );
        group.bench_function(BenchmarkId::new("status", nodes), |bencher| {
            bencher.iter(|| black_box(status(Detail::Brief)))
        });
        group.bench_function(BenchmarkId::new("status-full", nodes), |bencher| {
            bencher.iter(|| black_box(status(Detail::Full)))
        });
        group.bench_function(BenchmarkId::new("why", nodes), |bencher| bencher.iter(|| black_box(why())));
        group.bench_function(BenchmarkId::new("nodes", nodes), |bencher| bencher.iter(|| black_box(list())));
    }
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
