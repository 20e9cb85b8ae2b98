//! Accepting connections: TCP with TLS, and the unix socket. Who may call what is `auth`'s.
//!
//! tonic's own TLS can't be renewed while it runs and does not say why a handshake failed, so connections are accepted
//! here, their number is bounded here, and tonic is given what has passed.

use super::peer::{Connection, Peer};
use crate::engine::Port;
use arc_swap::ArcSwap;
use nix::unistd::{Uid, User};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

/// Connections with a certificate at a time; room for ten thousand agents and their reconnecting.
const CONNECTIONS: usize = 12_000;
/// Connections without one at a time, and how long each may last: long enough to enrol.
const STRANGERS: usize = 256;
const STRANGERS_LIFE: Duration = Duration::from_secs(60);
const LOCAL_CONNECTIONS: usize = 64;
const HANDSHAKES: usize = 256;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(15);
const STREAMS_PER_CONNECTION: u32 = 64;
const HEADERS_MAX: u32 = 16 << 10;
/// How long to wait when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Connections that have passed, for tonic.
pub type Incoming<S> = ReceiverStream<io::Result<Connection<S>>>;

/// The HTTP/2 settings of every connection.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADERS_MAX)
}

/// Accepts TCP connections and shakes hands, until the returned stream is dropped. Whoever fails is told to the engine.
#[must_use]
pub fn tls(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    port: Port,
) -> Incoming<TlsStream<TcpStream>> {
    let (passed, incoming) = mpsc::channel(16);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let places = Places {
        known: Arc::new(Semaphore::new(CONNECTIONS)),
        strangers: Arc::new(Semaphore::new(STRANGERS)),
    };
    tokio::spawn(async move {
        loop {
            let Ok(handshake) = handshakes.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = passed.closed() => return,
            };
            let Some((stream, address)) = ready(accepted).await else { continue };
            let (config, places, port, passed) =
                (config.load_full(), places.clone(), port.clone(), passed.clone());
            tokio::spawn(async move {
                let shaken = shake_hands(stream, address, config).await;
                drop(handshake);
                match shaken.and_then(|stream| places.give(stream, address)) {
                    Ok(connection) => drop(passed.send(Ok(connection)).await),
                    Err(NoConnection::HungUp) => {
                        tracing::debug!(%address, "it hung up before the handshake was done")
                    }
                    Err(why) => port.refused(address.ip().to_string(), format!("a connection: {why}")),
                }
            });
        }
    });
    ReceiverStream::new(incoming)
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
enum NoConnection {
    /// Something that only looks whether the port is open.
    #[error("it hung up")]
    HungUp,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("no TLS handshake within {} s", HANDSHAKE_WITHIN.as_secs())]
    Late,
    #[error("there are {0} of its kind already")]
    NoPlace(usize),
}

/// The places for connections, those with a certificate and those without apart: strangers can't keep agents out.
#[derive(Clone)]
struct Places {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Places {
    fn give(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
    ) -> Result<Connection<TlsStream<TcpStream>>, NoConnection> {
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|chain| chain.first()).map(|der| der.clone().into_owned());
        let known = certificate.is_some();
        let peer = Peer::Remote { address, certificate };
        let (places, number) = if known { (&self.known, CONNECTIONS) } else { (&self.strangers, STRANGERS) };
        let place = places.clone().try_acquire_owned().map_err(|_| NoConnection::NoPlace(number))?;
        Ok(if known {
            Connection::new(stream, peer, place)
        } else {
            Connection::short(stream, peer, place, STRANGERS_LIFE)
        })
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, NoConnection> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "nodelay");
    }
    match tokio::time::timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(NoConnection::HungUp),
        Ok(Err(error)) => Err(NoConnection::Handshake(error)),
        Err(_) => Err(NoConnection::Late),
    }
}

/// What was accepted; after an error, such as too many open files, there is a pause.
async fn ready<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(NO_ROOM).await;
            None
        }
    }
}

/// Makes the operators' socket with mode 0600. A left-over one is replaced, one that is served is not.
///
/// # Errors
/// Whatever the file system says; `AddrInUse` if somebody serves it.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something else that is no socket",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Made under another name first, so that it is never there with a mode that lets others in.
    let new = beside(path);
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}

/// Accepts connections on the unix socket, until the returned stream is dropped.
#[must_use]
pub fn local(listener: UnixListener) -> Incoming<UnixStream> {
    let (passed, incoming) = mpsc::channel(16);
    let connections = Arc::new(Semaphore::new(LOCAL_CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let Ok(place) = connections.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = passed.closed() => return,
            };
            let Some((stream, _)) = ready(accepted).await else { continue };
            match stream.peer_cred() {
                Ok(peer) => {
                    drop(passed.send(Ok(Connection::new(stream, local_peer(peer.uid()), place))).await)
                }
                Err(error) => {
                    tracing::warn!(%error, "a local connection does not say whose it is; it is closed")
                }
            }
        }
    });
    ReceiverStream::new(incoming)
}

fn local_peer(uid: u32) -> Peer {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
    Peer::Local { uid, name, allowed: uid == 0 || uid == Uid::effective().as_raw() }
}
