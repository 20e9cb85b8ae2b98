//! `lab`: boot a fleet of real hosts on this machine, look around in it, end it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use wavegate_tests::lab::{Fleet, FleetSpec, Front, Lab, Role, System, requirements};
use wavegate_tests::{bench, demo};

#[derive(Parser)]
#[command(name = "lab", about = "A fleet of real hosts on this machine")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what this machine lacks to run the lab
    Check,
    /// Build base roots, packages and layers, unless they are there
    Prepare,
    /// Boot a fleet and leave it up
    Up {
        /// The fleet's name
        #[arg(long, default_value = "demo")]
        name: String,
        /// A node beside deploy-1, in place of the default fleet: compute:trusty, or proxy or gateway for a Debian
        /// compute whose Felix asks an etcd proxy or gateway on it; may be repeated
        #[arg(long = "node", value_name = "ROLE:SYSTEM", value_parser = node)]
        nodes: Vec<Wanted>,
    },
    /// End a fleet and remove all it made
    Down {
        /// The fleet's name
        #[arg(long, default_value = "demo")]
        name: String,
        /// End every fleet of this lab
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Boot the default fleet, install wavegate, upgrade it, and show before and after
    Demo {
        /// Leave the fleet up afterwards
        #[arg(long)]
        keep: bool,
    },
    /// Upgrade the default fleet by wavegate and by hand, and tell how long each took and what an agent takes of its host
    Bench {
        /// Rounds, each with both; 0 looks at the agent alone
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// No round beforehand that does not count
        #[arg(long)]
        cold: bool,
        /// Watch idle agents for so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        idle: u64,
        /// Write the rows of the table as JSON into this file, and print no table
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Have the agents log their spans and write these logs into this directory; takes a little of the agents' time
        #[arg(long, value_name = "DIR")]
        spans: Option<PathBuf>,
    },
    /// Run a command on a node
    Exec {
        /// The fleet's name
        #[arg(long, default_value = "demo")]
        name: String,
        /// The node
        node: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Open a shell on a node
    Shell {
        /// The fleet's name
        #[arg(long, default_value = "demo")]
        name: String,
        /// The node
        node: String,
    },
    /// List fleets and their nodes
    List,
}

/// A node that somebody asks for.
#[derive(Clone, Copy)]
enum Wanted {
    Plain(Role, System),
    Fronted(Front),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Check => Ok(check()),
        Verb::Prepare => Lab::prepare().map(|_| ExitCode::SUCCESS),
        Verb::Up { name, nodes } => {
            let spec = match nodes.as_slice() {
                [] => FleetSpec::standard(&name),
                nodes => nodes.iter().fold(FleetSpec::new(&name), |spec, node| match *node {
                    Wanted::Plain(role, system) => spec.with(role, system),
                    Wanted::Fronted(front) => spec.with_fronted_compute(front),
                }),
            };
            Fleet::boot(&Lab::prepare()?, spec)?.keep()?;
            list()
        }
        Verb::Down { all: true, .. } => {
            for state in Fleet::list()? {
                Fleet::down(&state.spec.name)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Down { name, all: false } => Fleet::down(&name).map(|()| ExitCode::SUCCESS),
        Verb::Demo { keep } => demo::run(keep).map(|()| ExitCode::SUCCESS),
        Verb::Bench { rounds, cold, idle, json, spans } => {
            let settings = bench::LabSettings { rounds, warm: !cold, idle_s: idle, spans };
            measure(&settings, json.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Verb::Exec { name, node, command } => {
            exec(&name, &node, &command.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Verb::Shell { name, node } if std::io::stdin().is_terminal() => {
            // `script` gives the shell a terminal of the node's own, so that job control works.
            exec(&name, &node, &["script", "-q", "-c", "cd; exec bash -l", "/dev/null"])
        }
        Verb::Shell { name, node } => exec(&name, &node, &["bash", "-l"]),
        Verb::List => list(),
    }
}

/// Whether targets are met is the table's to say, not the exit code's.
fn measure(settings: &bench::LabSettings, json: Option<&Path>) -> Result<()> {
    let rows = bench::lab(settings)?;
    match json {
        Some(file) => {
            let text = serde_json::to_string_pretty(&rows).context("writing the rows as JSON")?;
            std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
        }
        None => {
            println!("{}", bench::table(&rows));
            Ok(())
        }
    }
}

fn node(text: &str) -> Result<Wanted, String> {
    match text {
        "proxy" => return Ok(Wanted::Fronted(Front::Proxy)),
        "gateway" => return Ok(Wanted::Fronted(Front::Gateway)),
        _ => {}
    }
    let roles = [Role::Etcd, Role::Compute, Role::Control, Role::Bare];
    let systems = [System::Debian, System::Rocky9, System::Centos7, System::Trusty];
    let parsed = text.split_once(':').and_then(|(role, system)| {
        let role = roles.into_iter().find(|known| known.word() == role)?;
        Some(Wanted::Plain(role, systems.into_iter().find(|known| known.word() == system)?))
    });
    parsed.ok_or_else(|| {
        format!(
            "neither ROLE:SYSTEM with a role of {} and a system of {}, nor proxy or gateway",
            roles.map(Role::word).join(", "),
            systems.map(System::word).join(", ")
        )
    })
}

fn check() -> ExitCode {
    let missing = requirements();
    if missing.is_empty() {
        println!("this machine can run the lab");
        return ExitCode::SUCCESS;
    }
    for line in missing {
        println!("{line}");
    }
    ExitCode::FAILURE
}

fn exec(fleet: &str, node: &str, command: &[&str]) -> Result<ExitCode> {
    let fleet = Fleet::attach(fleet)?;
    let node = fleet
        .nodes()
        .iter()
        .find(|candidate| candidate.name() == node)
        .with_context(|| format!("the fleet has no node {node}"))?;
    let status = node.command(command)?.status().context("running nsenter")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn list() -> Result<ExitCode> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["FLEET", "NODE", "ROLE", "SYSTEM", "ADDRESS", "UP", "PID 1"]);
    for state in Fleet::list()? {
        let fleet = Fleet::attach(&state.spec.name)?;
        for node in fleet.nodes() {
            let leader = node.leader_pid().ok();
            table.add_row([
                state.spec.name.as_str(),
                node.name(),
                node.role().word(),
                node.system().word(),
                node.address(),
                if leader.is_some() { "yes" } else { "no" },
                &leader.map(|pid| pid.to_string()).unwrap_or_default(),
            ]);
        }
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
