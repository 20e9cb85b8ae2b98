//! `wavegate token create`: a token with which one agent, or any, may enrol.

use super::duration::seconds;
use super::{CliError, Exit, Invocation, render};
use wavegate_common::id::Timestamp;
use wavegate_proto::v1;

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a join token; standard output is the token alone
    Create(Create),
}

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// How long it may be used, e.g. 30m, 24h, 7d
    #[arg(long, default_value = "24h", value_parser = seconds, value_name = "DURATION")]
    valid_for: u64,
    /// The only node that may use it
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

pub(super) async fn run(invocation: &Invocation, command: &Command) -> Result<Exit, CliError> {
    let Command::Create(args) = command;
    let request =
        v1::CreateTokenRequest { valid_for_s: args.valid_for, node: args.node.clone().unwrap_or_default() };
    let answer = invocation.connect().await?.create_token(request).await?.into_inner();
    let output = &invocation.output;
    let v1::CreateTokenResponse { token, expires_at_ms } = answer;
    if output.is_json() {
        let json = serde_json::json!({ "token": token, "expires_at_ms": expires_at_ms });
        output.write(&format!("{json:#}\n"))?;
        return Ok(Exit::Ok);
    }
    output.write(&format!("{token}\n"))?;
    let until = render::time::moment(Timestamp(expires_at_ms), &output.look);
    let who = args.node.as_ref().map_or_else(|| "any node".to_owned(), |node| format!("node {node} alone"));
    output.note(&format!(
        "It is for {who}, once, until {until}. Whoever has it can join the fleet: keep it secret.\n\
         On the node, with the coordinator's address in /etc/wavegate/agent.toml: wavegate-agent enrol --token TOKEN"
    ));
    Ok(Exit::Ok)
}
