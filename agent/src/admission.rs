//! An agent that has no certificate or no coordinator yet: it waits until both are there, and enrols with the join token that
//! provisioning puts into a file. Installation, configuration and enrolment may come in any order, and nobody starts the agent
//! again. What to do is decided in `decide`, from what is seen here; an agent that is enrolled is `agent`'s.

mod decide;
mod token_file;

use crate::causes;
use crate::config::{Config, ConfigError};
use crate::credentials::{self, CredentialsError, Enrolled};
use crate::enrol::{self, EnrolError};
use crate::link::Backoff;
use crate::service_manager::{Signs, notify};
use decide::{Admission, Look, Next, Patience, Request};
use sd_notify::NotifyState;
use std::path::Path;
use std::time::Duration;
use token_file::{Found, Seen};
use tokio::time::Instant;
use wavegate_common::id::NodeId;

/// Where the join token is looked for if the configuration names no other file.
pub const DEFAULT_TOKEN_FILE: &str = "/etc/wavegate/join-token";

/// How often an agent that waits looks whether it still has to.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What an agent that may have to wait is given.
pub struct Waiting<C, N> {
    /// The configuration as it was at the start.
    pub begin_with: Config,
    /// Reads the configuration as it is now.
    pub config: C,
    /// The machine's host name as it is now.
    pub host_name: N,
    /// How often to look.
    pub look_every: Duration,
    /// Of the waits between two enrolments that did not come about.
    pub seed: u64,
}

/// Waits until this node is enrolled and its coordinator is known. May be dropped at any moment: whatever was begun goes on with
/// the next call, also of the next agent.
///
/// # Errors
/// [`CredentialsError`] if there are credentials that can't be used.
pub async fn admitted<C, N>(
    waiting: Waiting<C, N>,
    signs: &mut Signs,
) -> Result<(Config, Enrolled), CredentialsError>
where
    C: Fn() -> Result<Config, ConfigError>,
    N: Fn() -> String,
{
    let Waiting { begin_with: mut config, config: read, host_name, look_every, seed } = waiting;
    let mut admission = Admission::new(Backoff::new(config.reconnect_min, config.reconnect_max, seed));
    loop {
        let (next, enrolled) = match read() {
            Ok(as_it_is_now) => {
                config = as_it_is_now;
                let enrolled = enrolled_in(&config.state_directory)?;
                let is_enrolled = enrolled.as_ref().map(Option::is_some).map_err(Clone::clone);
                let next = admission.next(look(&config, is_enrolled, &host_name()), Instant::now());
                (next, enrolled.ok().flatten())
            }
            Err(error) => (admission.misconfigured(error.in_one_line()), None),
        };
        let file = &config.join_token_file;
        match (next, enrolled) {
            (Next::Begin, Some(enrolled)) => {
                say_if_not_used(file, &enrolled);
                forget_refused(file);
                return Ok((config, enrolled));
            }
            (Next::Enrol(request), _) => {
                let enrolment = going_round(signs, enrol(&config.state_directory, &request)).await;
                take(&mut admission, file, request, enrolment);
                continue;
            }
            (Next::Refuse(seen, why), _) => refuse(&mut admission, file, seen, why),
            (Next::Wait(Some(news)), _) => {
                tracing::warn!("{news}");
                notify(&[NotifyState::Status(&news.to_string())]);
            }
            (Next::Wait(None) | Next::Begin, _) => {}
        }
        let until_then = admission.look_again_in(look_every, Instant::now());
        going_round(signs, tokio::time::sleep(until_then)).await;
    }
}

/// Waits for something, and gives the signs that are due meanwhile.
async fn going_round<T>(signs: &mut Signs, awaited: impl Future<Output = T>) -> T {
    let mut awaited = std::pin::pin!(awaited);
    loop {
        tokio::select! {
            done = &mut awaited => return done,
            () = signs.due() => signs.give(),
        }
    }
}

/// The node's credentials, if it has any; inside, why the system does not say, which may pass: a disk, or too many open files.
fn enrolled_in(state_directory: &Path) -> Result<Result<Option<Enrolled>, String>, CredentialsError> {
    match credentials::load(state_directory) {
        Ok(enrolled) => Ok(Ok(Some(enrolled))),
        Err(CredentialsError::None { .. }) => Ok(Ok(None)),
        Err(error @ CredentialsError::File { .. }) => Ok(Err(causes::told(&error))),
        Err(error) => Err(error),
    }
}

fn look(config: &Config, enrolled: Result<bool, String>, host_name: &str) -> Look {
    Look {
        coordinator: config.coordinator.clone(),
        drop_ins: config.drop_ins(),
        enrolled,
        node: node_name(config, host_name),
        file: config.join_token_file.clone(),
        token: token_file::look(&config.join_token_file),
    }
}

/// The name that a node enrols with: the configuration's, else the short host name.
///
/// # Errors
/// Why there is none, and what to do.
pub fn node_name(config: &Config, host_name: &str) -> Result<NodeId, String> {
    if let Some(node) = &config.node {
        return Ok(node.clone());
    }
    let lower = host_name.to_lowercase();
    let short = lower.split('.').next().unwrap_or_default();
    let next = || {
        format!(
            "give the machine its name, or write node = \"NAME\" into a file in {}",
            config.drop_ins().display()
        )
    };
    // What a machine is called before it is given a name; every node of a fleet would be it.
    if matches!(short, "" | "localhost" | "(none)") {
        return Err(format!("the host name is '{host_name}', which many machines have; {}", next()));
    }
    NodeId::new(short).map_err(|error| format!("the host name is no name for a node: {error}; {}", next()))
}

/// Enrols; whether the token has served.
async fn enrol(state_directory: &Path, request: &Request) -> Result<bool, EnrolError> {
    let Request { token, coordinator, node, .. } = request;
    tracing::info!(%node, %coordinator, token = token.id, "enrolling with the join token");
    match enrol::enrol(state_directory, token, coordinator, node, false).await {
        Ok(fleet) => {
            tracing::info!(%node, %fleet, "enrolled");
            Ok(true)
        }
        // Another process was faster; the token was not sent.
        Err(EnrolError::Enrolled { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn take(admission: &mut Admission, file: &Path, request: Request, enrolment: Result<bool, EnrolError>) {
    match enrolment {
        Ok(served) => {
            if served {
                forget(file, &request.seen);
            }
        }
        Err(error) if error.token_is_refused() => {
            refuse(admission, file, request.seen, causes::told(&error));
        }
        Err(error) => {
            let patience = if error.is_for_a_person() { Patience::Long } else { Patience::Short };
            admission.failed(request, causes::told(&error), patience, Instant::now());
        }
    }
}

/// Removes the token that has served: one for several nodes may still let others join.
fn forget(file: &Path, seen: &Seen) {
    if !token_file::is_still(file, seen) {
        return;
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::warn!(
            file = %file.display(), %error,
            "the join token has served and cannot be removed; the agent goes on, but take the file away: a token for several nodes may still \
             let others join"
        ),
        _ => {}
    }
}

/// Puts a token file away, so that it is seen that it was not taken and the next one can come. One that has come since is left.
fn refuse(admission: &mut Admission, file: &Path, seen: Seen, why: String) {
    if token_file::is_still(file, &seen) {
        put_aside(file, &why);
    } else {
        tracing::error!("the join token that was in {} is refused: {why}", file.display());
    }
    admission.refused(seen, why);
}

fn put_aside(file: &Path, why: &str) {
    let refused = token_file::refused(file);
    if let Err(error) = std::fs::rename(file, &refused) {
        tracing::error!(
            "the join token in {} is refused: {why}. It cannot be renamed to {} ({error}); put another one in its place",
            file.display(),
            refused.display()
        );
        return;
    }
    let more = match token_file::give_to_owner_alone(&refused) {
        Ok(None) => String::new(),
        Ok(Some(id)) => format!(
            ". Others could read the one that is refused, so it may have leaked: `wavegate token revoke {id}` on the coordinator"
        ),
        Err(error) => {
            format!(
                ". The one that is refused cannot be given mode 0600 ({error}); remove it if others can read it"
            )
        }
    };
    tracing::error!(
        "the join token in {} is refused: {why}. It is in {} now; put another one into {0}{more}",
        file.display(),
        refused.display()
    );
}

/// Removes a token that was refused before this node was enrolled: it may be good for somebody still.
fn forget_refused(file: &Path) {
    let refused = token_file::refused(file);
    match std::fs::remove_file(&refused) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::warn!(
            file = %refused.display(), %error,
            "a join token that was refused cannot be removed; it may be valid still, remove it"
        ),
        _ => {}
    }
}

fn say_if_not_used(file: &Path, enrolled: &Enrolled) {
    if token_file::look(file) != Found::Nothing {
        tracing::warn!(
            "the join token in {0} is not used: this node is enrolled, as {1} of fleet {2}. Remove the file; to enrol the node anew: \
             wavegate-agent enrol --force --token TOKEN, then restart the agent",
            file.display(),
            enrolled.node,
            enrolled.fleet
        );
    }
}
