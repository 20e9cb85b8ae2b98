//! The `wavegate` command line: what can be asked, and one file a verb that asks it. It uses the operator service alone;
//! only `init` and `procedure` work without a coordinator.

mod acknowledge;
mod address;
mod answer;
mod approve;
mod connect;
mod document;
mod done;
mod duration;
mod ending;
mod error;
mod events;
mod exit;
mod follow;
mod init;
mod inventory;
mod logs;
mod make_plan;
mod node;
mod nodes;
mod output;
mod pause;
mod plan;
mod plans;
mod procedure;
mod question;
mod render;
mod resume;
mod retry;
mod rollouts;
mod settings;
mod start;
mod status;
mod stop;
mod token;
mod upgrade;
mod waive;
mod watch;
mod wave;
mod waves;
mod why;

pub use error::CliError;
pub use exit::Exit;

use crate::clock::Clock;
use clap::{Parser, Subcommand};
use connect::Operator;
use output::{Format, Output};
use settings::{ConnectionArgs, Settings};
use wavegate_common::id::Timestamp;
use wavegate_proto::v1;

/// The heading of the options that every command takes.
const COMMON: &str = "Common";

/// Upgrades a Calico-based OpenStack fleet in waves, behind gates: etcd first, then compute, then control.
#[derive(Debug, Parser)]
#[command(name = "wavegate", version, after_help = exit::HELP, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The form of the output; json is the coordinator's documents as they are
    #[arg(long, short, global = true, env = "WAVEGATE_OUTPUT", help_heading = COMMON)]
    #[arg(value_enum, default_value_t, value_name = "FORM")]
    output: Format,
    /// The rollout that the command is about [default: the newest]
    #[arg(long, global = true, env = "WAVEGATE_ROLLOUT", value_name = "ID", help_heading = COMMON)]
    rollout: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a coordinator up on this machine: certificate authority, configuration, first operator certificate
    Init(init::Args),
    /// Join tokens, with which agents enrol
    #[command(subcommand)]
    Token(token::Command),
    /// Who is in the fleet: roles, platforms, versions, and whether their agents are connected
    Nodes(nodes::Args),
    /// One node of the fleet
    #[command(subcommand)]
    Node(node::Command),
    /// The fleet as it is declared, so that no machine is forgotten
    #[command(subcommand)]
    Inventory(inventory::Command),
    /// Ask every node what an upgrade would change, and show it; nothing is changed
    Plan(plan::Args),
    /// Plan, ask, start, and look on to the end (json: every status, one a line)
    #[command(after_help = exit::HELP)]
    Upgrade(upgrade::Args),
    /// The plans that were made, the newest first
    Plans,
    /// Say that a plan may be started
    Approve(approve::Args),
    /// Start a plan
    Start(start::Args),
    /// The waves of a rollout that was started with --manual
    #[command(subcommand)]
    Wave(wave::Command),
    /// Where the rollout is, and what it waits for
    Status,
    /// Look on until the rollout has ended, or failures hold it; a pause is waited out (json: every status, one a line)
    #[command(after_help = exit::HELP)]
    Watch,
    /// The rollouts that there were, the newest first
    Rollouts,
    /// Why nothing more happens, and what would unblock it
    Why(why::Args),
    /// Start nothing new; what runs may end
    Pause,
    /// Go on after a pause or a halt
    Resume,
    /// End the rollout for good; what runs may end, the record is kept
    Stop,
    /// Try failed nodes again
    Retry(retry::Args),
    /// Let a node not count for a while, so that the rollout goes on without it; every report names it
    Waive(waive::Args),
    /// What the steps on a node printed
    Logs(logs::Args),
    /// Everything that happened in the rollout
    Events(events::Args),
    /// The procedures that ship
    Procedures,
    /// Show a procedure, or check one of your own
    #[command(subcommand)]
    Procedure(procedure::Command),
}

/// What every verb is given.
#[derive(Debug)]
struct Invocation {
    output: Output,
    settings: Settings,
    rollout: String,
}

impl Invocation {
    async fn connect(&self) -> Result<Operator, CliError> {
        connect::connect(&self.settings).await
    }

    /// The rollout that was named, or the newest.
    fn rollout(&self) -> v1::RolloutRequest {
        v1::RolloutRequest { rollout: self.rollout.clone(), brief: false }
    }

    /// The same, for a status: people are shown a screen of it, scripts are given all.
    fn status_of(&self, rollout: &str) -> v1::RolloutRequest {
        v1::RolloutRequest { rollout: rollout.to_owned(), brief: !self.output.is_json() }
    }

    /// Shows a document: as it is, or as `render` puts it for people.
    fn show<T: serde::de::DeserializeOwned>(
        &self,
        schema: &'static str,
        document: &v1::Document,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        if self.output.is_json() {
            return self.output.write(&document::pretty(schema, document)?);
        }
        self.output.write(&render(&document::read(schema, document)?))
    }
}

/// The time by this machine's clock.
fn now() -> Timestamp {
    Clock::system().now()
}

/// Runs one command line and says on standard error what went wrong, if something did.
pub async fn run(cli: Cli) -> Exit {
    match dispatch(cli).await {
        Ok(exit) => exit,
        Err(CliError::OutputClosed) => Exit::Ok,
        Err(error) => {
            use std::io::Write;
            // Nobody to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}", error.text());
            error.exit()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, CliError> {
    let output = Output::of_process(cli.output);
    // These need no coordinator, so that mistakes in the configuration of the way there are none of their business.
    let command = match cli.command {
        Command::Init(args) => return init::run(&args, &output),
        Command::Procedures => return procedure::list(&output),
        Command::Procedure(command) => return procedure::run(&command, &output),
        other => other,
    };
    let settings = Settings::load(&cli.connection, std::env::home_dir())?;
    let invocation = Invocation { output, settings, rollout: cli.rollout.unwrap_or_default() };
    match command {
        Command::Token(command) => token::run(&invocation, &command).await,
        Command::Nodes(args) => nodes::run(&invocation, &args).await,
        Command::Node(command) => node::run(&invocation, command).await,
        Command::Inventory(command) => inventory::run(&invocation, command).await,
        Command::Plan(args) => plan::run(&invocation, args).await,
        Command::Upgrade(args) => upgrade::run(&invocation, &args).await,
        Command::Plans => plans::run(&invocation).await,
        Command::Rollouts => rollouts::run(&invocation).await,
        Command::Approve(args) => approve::run(&invocation, args).await,
        Command::Start(args) => start::run(&invocation, &args).await,
        Command::Wave(command) => wave::run(&invocation, &command).await,
        Command::Status => status::run(&invocation).await,
        Command::Watch => watch::run(&invocation).await,
        Command::Why(args) => why::run(&invocation, &args).await,
        Command::Pause => pause::run(&invocation).await,
        Command::Resume => resume::run(&invocation).await,
        Command::Stop => stop::run(&invocation).await,
        Command::Retry(args) => retry::run(&invocation, args).await,
        Command::Waive(args) => waive::run(&invocation, args).await,
        Command::Logs(args) => logs::run(&invocation, args).await,
        Command::Events(args) => events::run(&invocation, &args).await,
        Command::Init(_) | Command::Procedures | Command::Procedure(_) => {
            unreachable!("these have returned above")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_what_it_is() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{} {}", command.get_name(), sub.get_name());
                check(sub);
            }
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn what_is_typed_is_understood() {
        for line in [
            "wavegate init",
            "wavegate token create --valid-for 2d --node compute-1",
            "wavegate token create --uses 10000 --declared --valid-for 7d",
            "wavegate token list",
            "wavegate token show 0a1b2c3d4e5f6071",
            "wavegate token revoke 0a1b2c3d4e5f6071 -o json",
            "wavegate nodes -o json",
            "wavegate node remove compute-9",
            "wavegate node remove compute-9 --force --yes",
            "wavegate plan --procedure-file my.toml --parameters site.toml --set a=b --set c=d=e --canary compute=2",
            "wavegate inventory set fleet.toml",
            "wavegate inventory show --text",
            "wavegate inventory clear",
            "wavegate plans",
            "wavegate rollouts --output json",
            "wavegate approve 0a1b2c3d4e5f",
            "wavegate plan show",
            "wavegate plan show 0a1b2c3d4e5f --output json",
            "wavegate upgrade --yes --max-unavailable compute=5 --errors-allowed compute=1",
            "wavegate start 0a1b2c3d4e5f --manual",
            "wavegate wave next --rollout r-1",
            "wavegate wave next --stage compute --wave 2",
            "wavegate --coordinator wavegate.example:7443 why compute-1",
            "wavegate why --stage compute --wave 2",
            "wavegate waive compute-1 --reason disk --for 8h",
            "wavegate waive compute-1 --withdraw",
            "wavegate retry compute-1 compute-2",
            "wavegate retry --all-failed",
            "wavegate logs compute-1 --stage compute --step install-packages --follow",
            "wavegate procedure check my.toml",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "wavegate plan --procedure a --procedure-file b",
            "wavegate plan --canary nowhere=1",
            "wavegate plan --canary compute=many",
            "wavegate plan --set novalue",
            "wavegate inventory set",
            "wavegate node remove",
            "wavegate node remove compute-8 compute-9",
            "wavegate approve",
            "wavegate why --wave 2",
            "wavegate wave next --wave 2",
            "wavegate why compute-1 --stage compute --wave 2",
            "wavegate waive compute-1",
            "wavegate waive compute-1 --reason disk",
            "wavegate waive compute-1 --for 8h",
            "wavegate waive compute-1 --withdraw --for 8h",
            "wavegate waive --withdraw",
            "wavegate retry",
            "wavegate retry a --all-failed",
            "wavegate token create --valid-for soon",
            "wavegate token create --node compute-1 --uses 2",
            "wavegate token create --uses 0",
            "wavegate token create --uses 100001",
            "wavegate token revoke",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).map(|_| ()).expect_err(line);
            assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
        }
    }
}
