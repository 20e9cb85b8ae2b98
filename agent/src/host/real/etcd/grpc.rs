//! Calls of etcd's version 3 API: connected to the one server that is meant, within the time that an answer may take.
//!
//! `Host` is asked from plain threads and from threads of a runtime alike, so every call has a thread and a small runtime of its own.

use super::access::{Credentials, advice};
use crate::host::etcd::{Endpoint, EtcdError};
use etcd_client::{Channel, Client, ConnectOptions, Error};
use std::time::Duration;
use tokio::runtime::LocalOptions;
use tokio::time::Instant;
use tonic::{Code, Status};

/// What etcd says to a user and password while it asks for none.
const NOT_ENABLED: &str = "authentication is not enabled";

/// What a server of version 3 says to every call while a member of its cluster is still of version 2 (etcdserver/api/v3rpc).
const NOT_CAPABLE: &str = "etcdserver: not capable";

/// How often a server that sends nothing, a snapshot or a watch for example, is asked whether it is there, and how long it may take
/// to say so. etcd ends connections that ask oftener than every 5 s (`--grpc-keepalive-min-time`).
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Asks the server something; its answer has to come within the endpoint's timeout, the connection included.
pub(super) fn ask<T: Send>(
    endpoint: &Endpoint,
    call: impl AsyncFnOnce(&mut Client) -> Result<T, Error> + Send,
) -> Result<T, EtcdError> {
    talk(endpoint, async |mut client, until| within(endpoint, until, call(&mut client)).await)
}

/// Connects within the endpoint's timeout, which ends at the moment that `work` is told, and lets `work` talk to the server.
pub(super) fn talk<T: Send>(
    endpoint: &Endpoint,
    work: impl AsyncFnOnce(Client, Instant) -> Result<T, EtcdError> + Send,
) -> Result<T, EtcdError> {
    let credentials = Credentials::read(endpoint)?;
    on_thread(async || {
        let until = Instant::now() + endpoint.timeout;
        let channel = connected(endpoint, &credentials, until).await?;
        let client = within(endpoint, until, signed_in(channel, credentials.user.clone())).await?;
        work(client, until).await
    })
}

/// Whether etcd asks who asks. It is told by what it says to a user who wants to sign in: a read without a user would be answered
/// too where a client's certificate names one.
pub(super) fn auth(endpoint: &Endpoint) -> Result<bool, EtcdError> {
    let credentials = Credentials::read(endpoint)?;
    let user = credentials.user.clone().unwrap_or_else(|| ("wavegate".to_owned(), "none".to_owned()));
    on_thread(async || {
        let until = Instant::now() + endpoint.timeout;
        let channel = connected(endpoint, &credentials, until).await?;
        let signed_in = async {
            let options = ConnectOptions::new().with_user(user.0, user.1);
            match Client::from_channel(Channel::Tonic(channel), Some(options)).await {
                Err(Error::GRpcStatus(status)) if status.message().contains(NOT_ENABLED) => Ok(false),
                // Of a user that it does not know, or with another password.
                Err(Error::GRpcStatus(status)) if status.message().contains("authentication failed") => {
                    Ok(true)
                }
                other => other.map(|_| true),
            }
        };
        within(endpoint, until, signed_in).await
    })
}

async fn connected(
    endpoint: &Endpoint,
    credentials: &Credentials<'_>,
    until: Instant,
) -> Result<tonic::transport::Channel, EtcdError> {
    let unusable = |error: tonic::transport::Error| EtcdError::Unusable {
        what: format!("{} can't be asked: {}", endpoint.url, cause(&error)),
    };
    let mut server = tonic::transport::Endpoint::from_shared(endpoint.url.clone()).map_err(unusable)?;
    if endpoint.url.starts_with("https://") {
        server = server.tls_config(credentials.of_grpc()?).map_err(unusable)?;
    }
    let server = server.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    within(endpoint, until, async { server.connect().await.map_err(Error::TransportError) }).await
}

async fn signed_in(
    channel: tonic::transport::Channel,
    user: Option<(String, String)>,
) -> Result<Client, Error> {
    let Some((name, password)) = user else {
        return Client::from_channel(Channel::Tonic(channel), None).await;
    };
    let options = ConnectOptions::new().with_user(name, password);
    match Client::from_channel(Channel::Tonic(channel.clone()), Some(options)).await {
        // The settings name a user, and etcd wants none yet, or no longer.
        Err(Error::GRpcStatus(status)) if status.message().contains(NOT_ENABLED) => {
            Client::from_channel(Channel::Tonic(channel), None).await
        }
        other => other,
    }
}

/// What comes of a question that must be answered until then.
pub(super) async fn within<T>(
    endpoint: &Endpoint,
    until: Instant,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, EtcdError> {
    match tokio::time::timeout_at(until, answer).await {
        Ok(answer) => answer.map_err(|error| told(endpoint, &error)),
        Err(_) => Err(EtcdError::Unreachable {
            url: endpoint.url.clone(),
            reason: format!("no answer within {:.0} s", endpoint.timeout.as_secs_f64()),
        }),
    }
}

fn on_thread<T: Send>(work: impl AsyncFnOnce() -> Result<T, EtcdError> + Send) -> Result<T, EtcdError> {
    let all = || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let unusable = |error| EtcdError::Unusable { what: format!("etcd can't be asked: {error}") };
        let runtime = runtime.map_err(unusable)?;
        let result = runtime.block_on(work());
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        result
    };
    let joined = std::thread::scope(|scope| scope.spawn(all).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What an error of the client says about the server.
pub(super) fn told(endpoint: &Endpoint, error: &Error) -> EtcdError {
    let url = endpoint.url.clone();
    match error {
        Error::GRpcStatus(status) => of_status(endpoint, status),
        Error::TransportError(error) => broken(endpoint, cause(error)),
        Error::IoError(error) => unreachable(endpoint, error.to_string()),
        other => EtcdError::Refused { url, reason: other.to_string() },
    }
}

fn unreachable(endpoint: &Endpoint, reason: String) -> EtcdError {
    let advice = advice(endpoint, &reason);
    EtcdError::Unreachable { url: endpoint.url.clone(), reason: reason + &advice }
}

/// What a connection that failed tells. One that somebody took is broken by what does not know HTTP/2 too.
fn broken(endpoint: &Endpoint, reason: String) -> EtcdError {
    let refused = reason.contains("refused") || reason.contains("unreachable");
    let instead = if refused { None } else { super::http::instead(endpoint) };
    instead.unwrap_or_else(|| unreachable(endpoint, reason))
}

fn of_status(endpoint: &Endpoint, status: &Status) -> EtcdError {
    let (url, message) = (endpoint.url.clone(), status.message().to_owned());
    // A status with a source is the client's own: the connection failed, and no etcd said anything.
    if let Some(source) = std::error::Error::source(status) {
        return broken(endpoint, cause(source));
    }
    let reason = if message.is_empty() { status.code().description().to_owned() } else { message };
    match status.code() {
        _ if reason.starts_with(NOT_CAPABLE) => EtcdError::Unsupported { url, reason },
        Code::Unimplemented => EtcdError::Unsupported { url, reason },
        // etcd itself says that it has no leader, or lost one; it did answer.
        _ if reason.starts_with("etcdserver: ") => EtcdError::Refused { url, reason },
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => unreachable(endpoint, reason),
        _ => EtcdError::Refused { url, reason },
    }
}

/// The innermost reason: those around it say that something failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_serve_is_told_from_what_it_refuses() {
        let endpoint = Endpoint { url: "http://10.0.0.1:2379".to_owned(), ..Endpoint::default() };
        let said = |code, text: &str| of_status(&endpoint, &Status::new(code, text)).to_string();
        insta::assert_snapshot!(said(Code::Unavailable, "etcdserver: not capable"), @"http://10.0.0.1:2379 does not serve that: etcdserver: not capable");
        insta::assert_snapshot!(said(Code::Unavailable, "etcdserver: no leader"), @"http://10.0.0.1:2379 refuses: etcdserver: no leader");
        insta::assert_snapshot!(said(Code::Unimplemented, "unknown method MoveLeader"), @"http://10.0.0.1:2379 does not serve that: unknown method MoveLeader");
    }
}
