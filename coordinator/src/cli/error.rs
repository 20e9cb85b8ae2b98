//! Why a command failed: what happened, what to do next, and the exit code that follows from it.

use super::exit::Exit;
use std::path::PathBuf;
use tonic::{Code, Status};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The coordinator can't be reached.
    #[error("the coordinator cannot be reached at {address}: {what}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What happened.
        what: String,
        /// What to do.
        next: String,
    },
    /// The way to the coordinator is closed to this user.
    #[error("{what}")]
    Forbidden {
        /// What happened.
        what: String,
        /// What to do.
        next: String,
    },
    /// The coordinator answered with an error; its text says what to do.
    #[error("{}", said(.0))]
    Answered(Box<Status>),
    /// The command line or the configuration is wrong.
    #[error("{what}")]
    Usage {
        /// What is wrong; what would be right.
        what: String,
    },
    /// The configuration can't be read.
    #[error("the configuration cannot be read")]
    Settings(#[source] config::ConfigError),
    /// A file can't be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The credentials can't be used.
    #[error("the operator's credentials cannot be used")]
    Credentials(#[from] wavegate_proto::tls::TlsError),
    /// A document that this program does not understand.
    #[error(
        "the coordinator's answer is not understood; are wavegate and the coordinator of the same version?"
    )]
    Document(#[from] wavegate_proto::convert::BadMessage),
    /// An answer that breaks the protocol.
    #[error(
        "the coordinator's answer is not complete: {0}; are wavegate and the coordinator of the same version?"
    )]
    Incomplete(&'static str),
    /// A question was answered with no.
    #[error("nothing was changed")]
    Declined,
    /// The output can't be written.
    #[error("the output cannot be written")]
    Output(#[source] std::io::Error),
    /// Whoever reads the output went away; there is nobody to tell.
    #[error("the output is closed")]
    OutputClosed,
    /// Something else, said by the part that did the work.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Answered(Box::new(status))
    }
}

impl CliError {
    /// The command's exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Forbidden { .. } => Exit::Refused,
            Self::Answered(status) => exit_of(status),
            Self::Usage { .. } | Self::Settings(_) | Self::Credentials(_) => Exit::Usage,
            Self::OutputClosed => Exit::Ok,
            Self::File { .. }
            | Self::Document(_)
            | Self::Incomplete(_)
            | Self::Declined
            | Self::Output(_)
            | Self::Other(_) => Exit::Error,
        }
    }

    /// What to do next, where the message itself does not say it.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Unreachable { next, .. } | Self::Forbidden { next, .. } => Some(next.clone()),
            Self::Answered(status) => next_of(status).map(str::to_owned),
            Self::Usage { .. } => Some("see wavegate --help".to_owned()),
            Self::Settings(_)
            | Self::File { .. }
            | Self::Credentials(_)
            | Self::Document(_)
            | Self::Incomplete(_)
            | Self::Declined
            | Self::Output(_)
            | Self::OutputClosed
            | Self::Other(_) => None,
        }
    }

    /// Whether another try may reach the coordinator.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.exit() == Exit::Unreachable
    }

    /// The whole text for people: what, its causes, and what to do next.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("wavegate: {self}");
        let mut cause = std::error::Error::source(self);
        while let Some(reason) = cause {
            text.push_str(&format!(": {reason}"));
            cause = reason.source();
        }
        if let Some(next) = self.next() {
            text.push_str(&format!("\n  to do: {next}"));
        }
        text
    }
}

/// The coordinator's words; where the connection broke, there are none but the transport's, which help nobody.
fn said(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(_) if lost_connection(status) => {
            "the connection to the coordinator broke before it had answered; what was asked for may have been done or not"
                .to_owned()
        }
        Some(_) | None => status.message().to_owned(),
    }
}

/// A broken connection comes as `Unknown` with the transport's error inside, not as `Unavailable`.
fn lost_connection(status: &Status) -> bool {
    status.code() == Code::Unavailable
        || (matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Internal)
            && std::error::Error::source(status).is_some())
}

fn exit_of(status: &Status) -> Exit {
    if lost_connection(status) {
        return Exit::Unreachable;
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition | Code::AlreadyExists => {
            Exit::Refused
        }
        Code::InvalidArgument => Exit::Usage,
        _ => Exit::Error,
    }
}

fn next_of(status: &Status) -> Option<&'static str> {
    if lost_connection(status) {
        return Some(
            "see that it runs (systemctl status wavegate-coordinator), then try again; a rollout goes on without you",
        );
    }
    match status.code() {
        Code::Unauthenticated => {
            Some("give an operator's certificate of this fleet: --certificate, --key, --ca")
        }
        Code::Unimplemented => {
            Some("the coordinator is older than this program; bring both to the same version")
        }
        Code::Internal | Code::DataLoss | Code::Unknown => {
            Some("see its log: journalctl -u wavegate-coordinator")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_from_what_happened() {
        let exit = |status: Status| CliError::from(status).exit();
        assert_eq!(exit(Status::unavailable("shutting down")), Exit::Unreachable);
        assert_eq!(exit(Status::permission_denied("uid 1000 is no operator")), Exit::Refused);
        assert_eq!(exit(Status::failed_precondition("rollout r1 has ended")), Exit::Refused);
        assert_eq!(exit(Status::invalid_argument("site.toml:3:1: unknown parameter")), Exit::Usage);
        assert_eq!(exit(Status::not_found("there is no rollout")), Exit::Error);
        let broken = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "stream closed");
        let broken = Status::from_error(Box::new(broken));
        assert!(CliError::from(broken.clone()).to_string().contains("may have been done or not"));
        assert_eq!(exit(broken), Exit::Unreachable);
    }

    #[test]
    fn texts_say_what_to_do_next() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "No such file");
        let file = CliError::File { path: "site.toml".into(), source };
        insta::assert_snapshot!(file.text(), @"wavegate: site.toml cannot be read: No such file");
        let status = CliError::from(Status::unauthenticated("no certificate was shown"));
        insta::assert_snapshot!(status.text(), @r"
        wavegate: no certificate was shown
          to do: give an operator's certificate of this fleet: --certificate, --key, --ca
        ");
    }
}
