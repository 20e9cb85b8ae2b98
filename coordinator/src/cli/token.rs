//! `wavegate token ...`: with what agents enrol, and what became of it.

use super::duration::seconds;
use super::{CliError, Exit, Invocation, done, now, render};
use crate::status::tokens::{TokenDetail, TokenStatus};
use crate::token::MOST_USES;
use wavegate_common::id::Timestamp;
use wavegate_proto::token::JoinToken;
use wavegate_proto::v1;

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a join token; standard output is the token alone
    Create(Create),
    /// The tokens there are, the newest first: whom they are for and what they are still worth
    List,
    /// One token, and which nodes have enrolled with it
    Show(Which),
    /// Make a token worth nothing, since it leaked or is not needed any more; who has enrolled with it stays
    Revoke(Which),
}

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// How long it may be used, e.g. 30m, 24h, 7d
    #[arg(long, default_value = "24h", value_parser = seconds, value_name = "DURATION")]
    valid_for: u64,
    /// The only node that may use it; also one that has enrolled already, whose place is taken then
    #[arg(long, value_name = "NODE", conflicts_with_all = ["uses", "declared"])]
    node: Option<String>,
    /// How many nodes may use it, each once: for provisioning, which gives all machines the same
    #[arg(long, default_value_t = 1, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_USES)))]
    uses: u32,
    /// Only nodes of the inventory may use it
    #[arg(long)]
    declared: bool,
}

/// A token that was made.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Its id, as `wavegate token list` shows it, or its whole text
    #[arg(value_name = "TOKEN")]
    token: String,
}

impl Which {
    /// The id. The secret of a whole token goes nowhere.
    fn id(&self) -> String {
        self.token.parse::<JoinToken>().map_or_else(|_| self.token.clone(), |token| token.id)
    }
}

pub(super) async fn run(invocation: &Invocation, command: &Command) -> Result<Exit, CliError> {
    let look = &invocation.output.look;
    match command {
        Command::Create(args) => create(invocation, args).await,
        Command::List => {
            let list = invocation.connect().await?.list_tokens(v1::ListTokensRequest {}).await?.into_inner();
            invocation.show("token_list", &list, |list: &Vec<TokenStatus>| {
                render::tokens::tokens(list, now(), look)
            })?;
            Ok(Exit::Ok)
        }
        Command::Show(which) => {
            let request = v1::GetTokenRequest { id: which.id() };
            let token = invocation.connect().await?.get_token(request).await?.into_inner();
            invocation.show("token", &token, |token: &TokenDetail| render::tokens::token(token, look))?;
            Ok(Exit::Ok)
        }
        Command::Revoke(which) => {
            let request = v1::RevokeTokenRequest { id: which.id() };
            let revoked = invocation.connect().await?.revoke_token(request).await?.into_inner();
            done::show(&revoked, &invocation.output)
        }
    }
}

async fn create(invocation: &Invocation, args: &Create) -> Result<Exit, CliError> {
    let Create { valid_for: valid_for_s, node, uses, declared } = args;
    let request = v1::CreateTokenRequest {
        valid_for_s: *valid_for_s,
        node: node.clone().unwrap_or_default(),
        uses: *uses,
        declared: *declared,
    };
    let answer = invocation.connect().await?.create_token(request).await?.into_inner();
    let output = &invocation.output;
    let v1::CreateTokenResponse { token, expires_at_ms } = answer;
    if output.is_json() {
        let json = serde_json::json!({ "token": token, "expires_at_ms": expires_at_ms });
        output.write(&format!("{json:#}\n"))?;
        return Ok(Exit::Ok);
    }
    output.write(&format!("{token}\n"))?;
    output.note(&note(args, &render::time::moment(Timestamp(expires_at_ms), &output.look)));
    Ok(Exit::Ok)
}

/// What is said beside a new token, on standard error.
fn note(args: &Create, until: &str) -> String {
    let whom = render::tokens::whom(args.node.as_deref(), args.uses, args.declared);
    format!(
        "It is for {whom}, until {until}. Whoever has it can join the fleet: keep it secret.\n\
         On the node, with the coordinator's address in /etc/wavegate/agent.d/site.toml: wavegate-agent enrol --token TOKEN\n\
         or have provisioning write it into /etc/wavegate/join-token (owner root, mode 0600)."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_token_is_known_by_its_id() {
        let token =
            JoinToken { id: "0011223344556677".to_owned(), secret: "a".repeat(64), ca_sha256: [7; 32] };
        let whole = Which { token: token.to_string() };
        let short = Which { token: token.id.clone() };
        assert_eq!((whole.id(), short.id()), (token.id.clone(), token.id));
    }

    #[test]
    fn what_is_said_of_a_new_one() {
        let args = Create { valid_for: 60, node: None, uses: 400, declared: true };
        insta::assert_snapshot!(note(&args, "2026-11-22T12:00:00+00:00"), @r"
        It is for any 400 declared nodes, once each, until 2026-11-22T12:00:00+00:00. Whoever has it can join the fleet: keep it secret.
        On the node, with the coordinator's address in /etc/wavegate/agent.d/site.toml: wavegate-agent enrol --token TOKEN
        or have provisioning write it into /etc/wavegate/join-token (owner root, mode 0600).
        ");
    }
}
