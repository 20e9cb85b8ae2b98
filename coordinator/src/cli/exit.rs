//! The exit codes of `wavegate`, in one place: what `--help` says and what verbs return.

use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked; for `upgrade` and `watch`: every node is done, whether or not anything had to be changed.
    Ok = 0,
    /// Something went wrong, or a question was answered with no.
    Error = 1,
    /// The command line, the configuration or a value given with it is wrong.
    Usage = 2,
    /// The coordinator can't be reached.
    Unreachable = 3,
    /// The coordinator refused: no permission, or not possible as things are.
    Refused = 4,
    /// The plan has problems and can't be started; or a procedure has errors.
    Problems = 5,
    /// The rollout has failures and does not go on without an operator.
    Failures = 6,
    /// The rollout was stopped by an operator.
    Stopped = 7,
    /// Ctrl-C or a closed pipe ended the looking on; the rollout goes on.
    Detached = 130,
}

/// The codes as `--help` shows them.
pub const HELP: &str = "\
Exit codes:
  0    done; for upgrade and watch: every node is done, changed or already so
  1    something went wrong, or a question was answered with no
  2    the command line, the configuration or a value given with it is wrong
  3    the coordinator cannot be reached
  4    refused by the coordinator: no permission, or not possible as things are
  5    the plan has problems and cannot be started; or the procedure has errors
  6    nodes failed and the rollout does not go on without an operator
  7    the rollout was stopped by an operator
  130  Ctrl-C or a closed pipe while looking on; the rollout goes on";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help() {
        let codes = [
            Exit::Ok,
            Exit::Error,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Refused,
            Exit::Problems,
            Exit::Failures,
            Exit::Stopped,
            Exit::Detached,
        ];
        assert_eq!(HELP.lines().count(), 1 + codes.len());
        for code in codes {
            let number = (code as u8).to_string();
            assert!(HELP.lines().any(|line| line.split_whitespace().next() == Some(&number)), "{code:?}");
        }
    }
}
