//! `make bench`: has every part of the benchmark measured, and prints one table. Each size of the swarm is a process of its own,
//! which begins with nothing; rows of other programs come as files.

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use wavegate_tests::bench::{Limit, Row, all_met, growth, merged, table};
use wavegate_tests::swarm::measure::{CPU_A_NODE, Options, WALL_A_NODE, measure};
use wavegate_tests::swarm::{raise_open_files, runtime};

/// What a node costs may grow by less than this from the smallest fleet to the largest.
const GROWTH: Limit = Limit::Below(1.2);

/// Measures wavegate, and prints one table.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure a swarm of each size and print the table; exits with 1 if a target is missed
    Table {
        /// Nodes of each fleet, the smallest first; without a number only the rows of the files
        #[arg(long, value_delimiter = ',', num_args = 0.., default_values_t = [100, 1_000, 10_000])]
        nodes: Vec<usize>,
        /// A file with rows of another program, JSON; they come last
        #[arg(long, value_name = "FILE")]
        rows: Vec<PathBuf>,
        /// Where table.txt and table.json go
        #[arg(long, default_value = "target/bench", value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        swarm: SwarmArgs,
    },
    /// Measure a swarm of one size and write its rows
    Swarm {
        /// Nodes of the fleet
        #[arg(long)]
        nodes: usize,
        /// Where the rows go, JSON
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        swarm: SwarmArgs,
    },
}

#[derive(Debug, Clone, Args)]
struct SwarmArgs {
    /// Where the coordinator's program is [default: where this one is]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// How long the fleet is watched while it is idle, in seconds
    #[arg(long, default_value_t = 40, value_name = "SECONDS")]
    idle: u64,
    /// How long a program takes on a machine in the stage that takes its time, in milliseconds
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pace: u64,
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().what {
        What::Table { nodes, rows, out, swarm } => tabled(&nodes, &rows, &out, &swarm),
        What::Swarm { nodes, out, swarm } => one_swarm(nodes, &out, &swarm).map(|()| true),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every target is met.
fn tabled(nodes: &[usize], others: &[PathBuf], out: &Path, swarm: &SwarmArgs) -> Result<bool> {
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let mut files = Vec::new();
    for nodes in nodes {
        let file = out.join(format!("swarm-{nodes}.json"));
        start(*nodes, &file, swarm)?;
        files.push(file);
    }
    files.extend_from_slice(others);
    let runs = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for row in merged(runs) {
        let grown =
            [CPU_A_NODE, WALL_A_NODE].contains(&row.what.as_str()).then(|| growth(&row, GROWTH)).flatten();
        rows.push(row);
        rows.extend(grown);
    }
    let text = format!("{}\n", table(&rows));
    print!("{text}");
    write(&out.join("table.txt"), text.as_bytes())?;
    write(&out.join("table.json"), &serde_json::to_vec_pretty(&rows)?)?;
    Ok(all_met(&rows))
}

/// Measures a swarm in a process of its own.
fn start(nodes: usize, file: &Path, swarm: &SwarmArgs) -> Result<()> {
    let own = std::env::current_exe().context("finding the running program")?;
    // It ends with this process, however that ends, and cleans up.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(own);
    command.arg("swarm").args(["--nodes", &nodes.to_string()]).arg("--out").arg(file);
    command.args(["--idle", &swarm.idle.to_string(), "--pace", &swarm.pace.to_string()]);
    if let Some(binaries) = &swarm.binaries {
        command.arg("--binaries").arg(binaries);
    }
    let status = command.status().context("starting a swarm")?;
    ensure!(status.success(), "the swarm of {nodes} nodes was not measured: {status}");
    Ok(())
}

fn one_swarm(nodes: usize, out: &Path, swarm: &SwarmArgs) -> Result<()> {
    let limit = raise_open_files()?;
    // A connection and an end of the runtime's own each, and some.
    ensure!(
        limit > nodes as u64 + 200,
        "{nodes} agents need more than the {limit} descriptors that a process may have here"
    );
    let options = Options {
        nodes,
        binaries: swarm.binaries.clone(),
        idle: Duration::from_secs(swarm.idle),
        pace: Duration::from_millis(swarm.pace),
    };
    let rows = runtime()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping what is measured ends the coordinator and removes its directory.
        tokio::select! {
            biased;
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
            rows = measure(options) => rows,
        }
    })?;
    write(out, &serde_json::to_vec_pretty(&rows)?)
}

fn read(file: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read(file).with_context(|| format!("reading the rows in {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understanding the rows in {}", file.display()))
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(arguments: &[&str]) -> (Vec<usize>, usize) {
        let all = ["bench", "table"].iter().chain(arguments);
        match Arguments::try_parse_from(all).expect("arguments").what {
            What::Table { nodes, rows, .. } => (nodes, rows.len()),
            What::Swarm { .. } => panic!("a table"),
        }
    }

    #[test]
    fn a_table_may_be_of_files_alone() {
        assert_eq!(nodes(&[]), (vec![100, 1_000, 10_000], 0));
        assert_eq!(nodes(&["--nodes", "100,1000", "--rows", "lab.json"]), (vec![100, 1_000], 1));
        assert_eq!(nodes(&["--binaries", "target", "--nodes", "--rows", "lab.json"]), (Vec::new(), 1));
    }
}
