//! Dials a coordinator: TCP, then TLS with its fixed name, whatever address was dialled, then HTTP/2 on that.

use crate::config::Address;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use wavegate_common::id::FleetId;
use wavegate_proto::identity::{BadIdentity, Identity, Subject};
use wavegate_proto::tls;

/// For TCP and TLS together. Long enough to wait one's turn when a whole fleet comes back.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// A connection on which nothing comes is asked for a sign of life this often. The coordinator needs none: it hears heartbeats.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
/// It is given up when none comes within this.
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody there.
    #[error(
        "cannot reach the coordinator at {address}; check the address, its service and the network between"
    )]
    Reach {
        /// What was dialled.
        address: Address,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It takes too long.
    #[error(
        "the coordinator at {address} did not answer within {} s; check the address and the network between",
        CONNECT_WITHIN.as_secs()
    )]
    Silent {
        /// What was dialled.
        address: Address,
    },
    /// TLS came to no agreement: most often, one side does not trust the other's certificate.
    #[error(
        "no trust between this node and what listens at {address}: it is not the coordinator that this node (or its \
         join token) belongs to, or a certificate has expired; check the address, then enrol with a new token"
    )]
    Trust {
        /// What was dialled.
        address: Address,
        /// What rustls says.
        source: std::io::Error,
    },
    /// It has a certificate of our authority that names nobody.
    #[error("what listens at {address} has a certificate that names nobody; check the address")]
    Nameless {
        /// What was dialled.
        address: Address,
        /// Why.
        source: BadIdentity,
    },
    /// It is somebody else.
    #[error("what listens at {address} is {found}, not the coordinator of fleet {fleet}; check the address")]
    Stranger {
        /// What was dialled.
        address: Address,
        /// Who is there.
        found: Identity,
        /// Our fleet.
        fleet: FleetId,
    },
    /// HTTP/2 does not work on the connection.
    #[error("the coordinator at {address} does not speak HTTP/2 as expected; check the address")]
    Http {
        /// What was dialled.
        address: Address,
        /// The reason.
        source: tonic::transport::Error,
    },
}

/// A connection with TLS on it.
pub type Connection = TlsStream<TcpStream>;

/// Connects to a coordinator.
///
/// # Errors
/// [`DialError`].
pub async fn connect(address: &Address, tls: Arc<ClientConfig>) -> Result<Connection, DialError> {
    let reach = |source| DialError::Reach { address: address.clone(), source };
    let connecting = async {
        let tcp = TcpStream::connect(address.as_str()).await.map_err(reach)?;
        tcp.set_nodelay(true).map_err(reach)?;
        let agreed = TlsConnector::from(tls).connect(tls::coordinator_name(), tcp).await;
        agreed.map_err(|source| match source.kind() {
            // What rustls itself does not like comes as invalid data; anything else is the network's doing.
            std::io::ErrorKind::InvalidData => DialError::Trust { address: address.clone(), source },
            _ => reach(source),
        })
    };
    let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    connected.unwrap_or_else(|_| Err(DialError::Silent { address: address.clone() }))
}

/// Checks that the other end is the coordinator of the fleet: any certificate of the fleet's authority with the right
/// DNS name gets through the handshake.
///
/// # Errors
/// [`DialError::Nameless`], [`DialError::Stranger`].
pub fn check_coordinator(
    address: &Address,
    connection: &Connection,
    fleet: &FleetId,
) -> Result<(), DialError> {
    let certificates = connection.get_ref().1.peer_certificates().unwrap_or_default();
    let identity =
        certificates.first().map_or(Err(BadIdentity::Unreadable), |der| Identity::of_certificate(der));
    let found = identity.map_err(|source| DialError::Nameless { address: address.clone(), source })?;
    if found.subject == Subject::Coordinator && found.fleet == *fleet {
        return Ok(());
    }
    Err(DialError::Stranger { address: address.clone(), found, fleet: fleet.clone() })
}

/// HTTP/2 on a connection. It serves this connection alone and does not dial again.
///
/// # Errors
/// [`DialError::Http`].
pub async fn channel(address: &Address, connection: Connection) -> Result<Channel, DialError> {
    let mut connection = Some(connection);
    let connector = tower::service_fn(move |_| {
        let connection = connection.take().map(TokioIo::new);
        async move { connection.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    // The scheme is http because TLS is below it already; the name appears in requests only.
    Endpoint::from_static("http://coordinator.wavegate.internal")
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true)
        // One session is all that is ever asked for.
        .buffer_size(1)
        .connect_with_connector(connector)
        .await
        .map_err(|source| DialError::Http { address: address.clone(), source })
}
