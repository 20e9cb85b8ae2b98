//! `make bench`.

use anyhow::{Context, Result};
use clap::Parser;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wavegate_tests::sim::fleet::policy;
use wavegate_tests::swarm::{Coordinator, Fleet, Shape, Swarm, raise_open_files};

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    #[arg(long, default_value_t = 10)]
    hold: u64,
}

fn main() -> ExitCode {
    let run = || -> Result<()> {
        raise_open_files()?;
        tokio::runtime::Runtime::new().context("starting")?.block_on(bench(&Arguments::parse()))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let say = |what: &str| eprintln!("{:6.1} {what}", began.elapsed().as_secs_f64());
    let mut coordinator = Coordinator::set_up()?;
    coordinator.start().await?;
    let empty = coordinator.usage()?;
    say(&format!("empty: {empty:?}"));
    coordinator.kill()?;
    let policy = policy(coordinator.directory())?;
    let fleet = Fleet::up_to_date(Shape::of(arguments.nodes), coordinator.directory())?;
    say("fleet made");
    let enrolled = coordinator.enrol(&fleet.nodes())?;
    say("enrolled");
    let start = coordinator.start().await?;
    say(&format!("started in {start:?}: {:?}", coordinator.usage()?));
    let mut swarm = Swarm::start(&coordinator, fleet, enrolled, &policy).await?;
    say(&format!(
        "connected: {:?}, swarm {:?}",
        coordinator.usage()?,
        wavegate_tests::swarm::Usage::of(std::process::id())?
    ));
    let before = coordinator.usage()?;
    let own = wavegate_tests::swarm::Usage::of(std::process::id())?;
    tokio::time::sleep(Duration::from_secs(arguments.hold)).await;
    let after = coordinator.usage()?;
    let own_after = wavegate_tests::swarm::Usage::of(std::process::id())?;
    say(&format!(
        "held {} s: coordinator {:?} cpu, swarm {:?} cpu; {:.1} KiB an agent",
        arguments.hold,
        after.cpu - before.cpu,
        own_after.cpu - own.cpu,
        (after.rss_kib - empty.rss_kib) as f64 / swarm.count() as f64
    ));
    swarm.connected(&coordinator, Duration::from_secs(60)).await?;
    swarm.end().await
}
