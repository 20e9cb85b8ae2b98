//! With which code the program ends; `command_line` lists them for people.

use std::process::ExitCode;
use wavegate_agent::agent::AgentError;
use wavegate_agent::config::ConfigError;
use wavegate_agent::credentials::CredentialsError;
use wavegate_agent::enrol::EnrolError;
use wavegate_agent::hand_back::HandBackError;
use wavegate_agent::journal::OpenError;
use wavegate_agent::policy::PolicyError;
use wavegate_proto::token::BadToken;

/// The exit code of an error.
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    // First: what it comes from may be another's code.
    match error.downcast_ref() {
        Some(
            HandBackError::StillAtWork { .. }
            | HandBackError::NotEnded { .. }
            | HandBackError::HeldUp { .. }
            | HandBackError::Busy { .. },
        ) => return ExitCode::from(7),
        Some(HandBackError::OwnTransaction { .. }) => return ExitCode::from(8),
        Some(HandBackError::NoAgent | HandBackError::NotTold) => return ExitCode::from(9),
        Some(HandBackError::Then { .. }) => return ExitCode::from(10),
        Some(HandBackError::File { .. }) | None => {}
    }
    let journal = |error: &AgentError| matches!(error, AgentError::Journal(_));
    let credentials = |error: &AgentError| matches!(error, AgentError::Credentials(_));
    ExitCode::from(if error.is::<ConfigError>() || error.is::<PolicyError>() {
        3
    } else if error.is::<CredentialsError>() || error.downcast_ref().is_some_and(credentials) {
        4
    } else if error.is::<OpenError>() || error.downcast_ref().is_some_and(journal) {
        5
    } else if error.is::<EnrolError>() || error.is::<BadToken>() {
        6
    } else {
        1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_task_counts_more_than_why_it_can_not_be_ended() {
        let lacking = || CredentialsError::None { path: "/x/key.pem".into() };
        assert_eq!(code_of(&lacking().into()), ExitCode::from(4));
        for open in [HandBackError::NoAgent, HandBackError::NotTold] {
            assert_eq!(code_of(&anyhow::Error::from(lacking()).context(open)), ExitCode::from(9));
        }
        let then = HandBackError::Then { line: "systemctl stop wavegate-agent".to_owned() };
        assert_eq!(code_of(&anyhow::anyhow!("exit code 4").context(then)), ExitCode::from(10));
    }
}
