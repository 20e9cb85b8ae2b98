//! The command line of `wavegate-agent`, which its manual page and its completions are made of too. What the commands do is `main`'s.

use crate::config::{Address, DEFAULT_FILE};
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use wavegate_common::id::NodeId;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `run`: it was asked to end
  1  something else went wrong: the message says what
  2  the command line is wrong
  3  the configuration or the policy is wrong; `run` waits until it is right where the node is not enrolled
  4  the credentials of this node cannot be used
  5  the journal is in use by another agent, damaged, of a newer version, or cannot be written
  6  enrolment did not succeed
  7  `hand-back`: the agent is still at work on its task, and goes on with it
  8  `hand-back`: asked inside a package transaction of the agent's own, which would remove the agent
  9  `hand-back`: a task is open, and it cannot be ended: no agent can run here, or the agent cannot be told
  10 `hand-back`: the agent is handed back, but the COMMAND that was given failed";

const HAND_BACK: &str = "\
The agent finishes the step that it is at and begins no other: its task then ends as failed, and can be tried again with
`wavegate retry NODE` when the agent is back. If no agent runs and a task is open, this program is the agent until the task
has ended. The coordinator is given 10 seconds to take note. The package runs this before it is removed. It looks at the journal
in state_directory, so that setting belongs into a file of the configuration: a variable that the service alone has is not seen
here. If the configuration cannot be used, it looks in the default directory.

Nothing is stopped: if this is ended, or the time is over (exit code 7), the agent goes on with its task. Exit code 8: asked
inside one of the agent's own package transactions, which is refused at once. Exit code 9: a task is open that nobody can end. With
any other code no task is known to be open here.

Example:
  wavegate-agent hand-back --within 600 -- systemctl stop wavegate-agent";

/// Wavegate's agent: runs on every node, dials the coordinator, and does this node's part of an upgrade.
#[derive(Debug, Parser)]
#[command(name = "wavegate-agent", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", help = format!("The configuration file [default: {DEFAULT_FILE}]"))]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    /// What to do; [`Command::Run`] if nothing is said.
    pub command: Option<Command>,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be this node's agent until asked to end (what happens when no command is given)
    Run,
    /// Get this node's certificate with a join token
    Enrol {
        /// What `wavegate token create` printed; with '-' it is read from standard input, one line, so that neither the
        /// list of processes nor the shell's history has it
        #[arg(long)]
        token: String,
        /// Where the coordinator listens [default: the configuration's]
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: Option<Address>,
        /// The name of this node [default: the configuration's, else the short host name]
        #[arg(long, value_name = "NAME")]
        node: Option<NodeId>,
        /// Replace the certificate that this node has
        #[arg(long)]
        force: bool,
    },
    /// Show what the agent finds out about this node; needs no coordinator
    Facts {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Show what this node's journal says: the last task and its steps; needs no coordinator and no running agent
    Status {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Show what orders may touch on this node: its policy; needs no coordinator
    Policy {
        /// Check this file instead of the one in force
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
        /// Print the text of the built-in policy, to begin a file with
        #[arg(long, conflicts_with_all = ["check", "output"])]
        shipped: bool,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Bring this node's task to an end between two steps, because the agent is about to be removed
    #[command(after_help = HAND_BACK)]
    HandBack {
        /// How long the step at hand may take to end
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        within: u64,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
        /// Run this when it is done, while no step can begin yet: what stops the agent
        #[arg(last = true, value_name = "COMMAND")]
        then: Vec<String>,
    },
    /// Run one prepared package transaction (started by the agent itself)
    #[command(hide = true)]
    Transaction {
        /// Its directory
        directory: PathBuf,
    },
}

/// For whom a command prints.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}
