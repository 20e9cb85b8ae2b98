//! One connection to the coordinator, over its unix socket or over TCP with mutual TLS.
//!
//! The connection is made before tonic sees it, so that what goes wrong can be told as what it is.

use super::address::Address;
use super::error::CliError;
use super::settings::Settings;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use wavegate_proto::v1::operator_service_client::OperatorServiceClient;
use wavegate_proto::{OPERATOR_MESSAGE_MAX, VERSION_METADATA, tls};

/// The operator service of a coordinator.
pub type Operator = OperatorServiceClient<InterceptedService<Channel, TellVersion>>;

/// Says with every call which version this program is.
pub type TellVersion = fn(Request<()>) -> Result<Request<()>, Status>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the coordinator.
///
/// # Errors
/// [`CliError::Unreachable`], [`CliError::Forbidden`], or what is wrong with the settings.
pub async fn connect(settings: &Settings) -> Result<Operator, CliError> {
    let address = settings.address()?;
    let channel = match &address {
        Address::Unix(path) => {
            let stream =
                UnixStream::connect(path).await.map_err(|error| socket_error(&address, path, &error))?;
            channel(stream, &address).await?
        }
        Address::Tcp { host, port } => {
            let tls = tls::client(&settings.credentials()?)?;
            let stream = timed(TcpStream::connect((host.as_str(), *port))).await;
            let stream = stream.map_err(|error| tcp_error(&address, &error))?;
            let connector = tokio_rustls::TlsConnector::from(tls);
            let stream = timed(connector.connect(tls::coordinator_name(), stream)).await;
            channel(stream.map_err(|error| tls_error(&address, &error))?, &address).await?
        }
    };
    Ok(OperatorServiceClient::with_interceptor(channel, tell_version as TellVersion)
        .max_decoding_message_size(OPERATOR_MESSAGE_MAX))
}

fn tell_version(mut request: Request<()>) -> Result<Request<()>, Status> {
    let version = MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
    request.metadata_mut().insert(VERSION_METADATA, version);
    Ok(request)
}

async fn timed<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(late()))
}

/// A channel over one stream. When the stream ends, the channel has ended: whoever wants another one connects again.
async fn channel<S>(stream: S, address: &Address) -> Result<Channel, CliError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("http://coordinator.wavegate.internal")
        .keep_alive_while_idle(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .connect_with_connector(connector)
        .await
        .map_err(|error| CliError::Unreachable {
            address: address.to_string(),
            what: format!("what answers there does not speak gRPC ({error})"),
            next: "look at the address: it must be the coordinator's operator service".to_owned(),
        })
}

fn socket_error(address: &Address, path: &Path, error: &io::Error) -> CliError {
    let (what, next) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            return CliError::Forbidden {
                what: format!("you may not open the coordinator's socket {}", path.display()),
                next: "run it as root (sudo wavegate ...), or as the user that the coordinator runs as; from elsewhere, use an \
                       operator's certificate with --coordinator HOST:PORT"
                    .to_owned(),
            };
        }
        io::ErrorKind::NotFound => (
            "there is no such socket; no coordinator runs on this machine".to_owned(),
            "set it up here (wavegate init) and start it (systemctl start wavegate-coordinator; systemctl status says why it has \
             ended), or name one elsewhere: --coordinator HOST:PORT",
        ),
        io::ErrorKind::ConnectionRefused => (
            "the socket is there, but nobody listens: the coordinator has ended".to_owned(),
            "see why, and start it: systemctl status wavegate-coordinator",
        ),
        _ => (error.to_string(), "see that it runs: systemctl status wavegate-coordinator"),
    };
    CliError::Unreachable { address: address.to_string(), what, next: next.to_owned() }
}

fn tcp_error(address: &Address, error: &io::Error) -> CliError {
    let next = match error.kind() {
        io::ErrorKind::ConnectionRefused => "look at host and port, and see that the coordinator runs there",
        _ => "look at host and port, and whether a firewall is in the way",
    };
    CliError::Unreachable { address: address.to_string(), what: error.to_string(), next: next.to_owned() }
}

fn tls_error(address: &Address, error: &io::Error) -> CliError {
    CliError::Unreachable {
        address: address.to_string(),
        what: format!("no secure connection: {error}"),
        next:
            "look at --ca, --certificate and --key: they must be of the coordinator's fleet, and not expired"
                .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_there_or_that_nobody_serves() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("operator.sock");
        let settings =
            Settings { coordinator: Some(format!("unix:{}", path.display())), ..Settings::default() };
        let missing = connect(&settings).await.expect_err("no socket").text();
        assert!(missing.contains("no coordinator runs on this machine"), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let left = connect(&settings).await.expect_err("no listener");
        assert!(left.to_string().contains("nobody listens"), "{left}");
        assert!(left.is_passing());
    }

    #[test]
    fn a_closed_socket_is_no_permission_and_not_absence() {
        let path = Path::new("/run/wavegate/operator.sock");
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        insta::assert_snapshot!(socket_error(&Address::Unix(path.into()), path, &error).text(), @r"
        wavegate: you may not open the coordinator's socket /run/wavegate/operator.sock
          to do: run it as root (sudo wavegate ...), or as the user that the coordinator runs as; from elsewhere, use an operator's certificate with --coordinator HOST:PORT
        ");
    }
}
