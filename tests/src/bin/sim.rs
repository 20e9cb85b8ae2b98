//! Simulates whole fleets under faults that a seed decides, and replays one of them to the last byte.

use anyhow::{Result, bail};
use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use wavegate_tests::sim::cuts::Cutting;
use wavegate_tests::sim::{Figures, Settings, Site, run};

/// Simulates whole fleets: production coordinator and agents, in a time of their own, with everything going wrong.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Nodes of every fleet; without it, the seed says.
    #[arg(long)]
    nodes: Option<usize>,
    /// One fleet of so many nodes beside, after every so many small ones; 0 for none.
    #[arg(long, default_value_t = 200)]
    large: usize,
    /// After how many small fleets a large one comes.
    #[arg(long, default_value_t = 50)]
    large_every: u64,
    /// This seed alone, twice: it must do the same both times.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop the coordinator at every operation of its store instead, one after the other.
    #[arg(long)]
    store_cuts: bool,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Go on after a seed that fails, and count such.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    match simulate(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let site = Site::set_up()?;
    if let Some(seed) = arguments.seed {
        return one(arguments, &site, seed);
    }
    if arguments.store_cuts {
        let cutting = Cutting::new(&site)?;
        let (cuts, used) = (cutting.run_all(1)?, cutting.used());
        let took = began.elapsed().as_secs_f64();
        println!(
            "store cuts: {cuts} of a rollout with {} writes and {} syncs, in {took:.1} s",
            used.writes, used.syncs
        );
        return Ok(());
    }
    let (mut all, mut failed) = (Figures::default(), 0u64);
    for index in 0..arguments.seeds {
        let seed = arguments.from + index;
        let large = arguments.large > 0
            && arguments.nodes.is_none()
            && (index + 1) % arguments.large_every.max(1) == 0;
        let nodes = if large { Some(arguments.large) } else { arguments.nodes };
        match run(&site, &Settings::of(seed, nodes)) {
            Ok(outcome) => all.add(&outcome.figures),
            Err(error) if arguments.keep_going => {
                failed += 1;
                eprintln!("{error:#}\n");
            }
            Err(error) => return Err(error),
        }
    }
    println!("{}", all.told(began.elapsed()));
    if failed > 0 {
        bail!("{failed} of {} seeds failed", arguments.seeds);
    }
    Ok(())
}

fn one(arguments: &Arguments, site: &Site, seed: u64) -> Result<()> {
    let began = Instant::now();
    let mut settings = Settings::of(seed, arguments.nodes);
    settings.aloud = arguments.trace;
    let first = run(site, &settings)?;
    settings.aloud = false;
    let again = run(site, &settings)?;
    if first != again {
        bail!("seed {seed} did not do the same twice: {} and {}", first.digest, again.digest);
    }
    println!("{}\ndigest: {}", first.figures.told(began.elapsed()), first.digest);
    Ok(())
}
