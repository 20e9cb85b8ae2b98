//! The command line of `wavegate-coordinator`, which its manual page and its completions are made of too. What the commands do is
//! the program's.

use crate::config::DEFAULT_PATH;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use wavegate_common::id::HIGHEST_GENERATION;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `run`: it was asked to end
  1  something else went wrong: the message says what
  2  the command line is wrong
  3  the configuration is wrong
  4  what the state directory holds cannot be used until a person has seen to it";

/// Holds the barrier between the stages of an upgrade, and serves agents and operators.
#[derive(Debug, Parser)]
#[command(name = "wavegate-coordinator", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM or SIGINT
    Run {
        /// The configuration
        #[arg(long, default_value = DEFAULT_PATH, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make the next start's generation higher than one that nodes have seen: after the store was restored from a backup
    RaiseGeneration {
        /// The generation that the nodes' messages name
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..HIGHEST_GENERATION.0))]
        above: u64,
        /// The configuration
        #[arg(long, default_value = DEFAULT_PATH, value_name = "FILE")]
        config: PathBuf,
    },
    /// Begin an empty store in place of one that was lost: every node has to enrol anew
    NewStore {
        /// The configuration
        #[arg(long, default_value = DEFAULT_PATH, value_name = "FILE")]
        config: PathBuf,
    },
}
