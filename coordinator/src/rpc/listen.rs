//! Accepting TCP connections and shaking hands, and who gets a place then. The unix socket is `socket`'s, HTTP/2 `serve`'s, who may
//! call what `auth`'s.
//!
//! tonic's own TLS can't be renewed while it runs and does not say why a handshake failed.

use super::handshakes::{Handshake, Handshakes};
use super::peer::{Peer, Shown};
use super::places::{NoPlace, Place, Places};
use super::serve::{Lines, Over, serve};
use super::services::{Gate, Services};
use crate::engine::Port;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic_health::pb::health_server::Health;
use tonic_reflection::server::v1::ServerReflection;

/// How long a connection without a certificate may last: long enough to enrol.
const STRANGERS_LIFE: Duration = Duration::from_secs(60);
/// How long one may last for which there is no room: long enough to say so.
const TURNED_AWAY_LIFE: Duration = Duration::from_secs(10);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps while they wait to be accepted; it has a limit of its own (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// How long to wait when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);
/// How often it is looked whether there is room for another handshake.
const ROOM_AGAIN: Duration = Duration::from_millis(5);

/// Listens on an address.
///
/// # Errors
/// Whatever the system says.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What the connections over TCP are served with.
pub struct Door<H, R> {
    /// TLS; renewed while it runs.
    pub tls: Arc<ArcSwap<ServerConfig>>,
    /// What can be called.
    pub services: Arc<Services<H, R>>,
    /// Who may be connected.
    pub places: Places,
    /// Whoever fails is told to the engine.
    pub port: Port,
}

/// By hand, since a derived one would ask `H` and `R` to be clonable.
impl<H, R> Clone for Door<H, R> {
    fn clone(&self) -> Self {
        Self {
            tls: self.tls.clone(),
            services: self.services.clone(),
            places: self.places.clone(),
            port: self.port.clone(),
        }
    }
}

impl<H: Health, R: ServerReflection> Door<H, R> {
    /// Serves connections, until `stop` says so; then those that are open are answered to their end.
    pub async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let mut handshakes = Handshakes::default();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &mut handshakes, &self.port) => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            if let Some((stream, address, handshake)) = accepted {
                connections.spawn(self.clone().connection(stream, address, handshake));
            }
        }
        drop(listener);
        self.places.close();
        while connections.join_next().await.is_some() {}
    }

    async fn connection(self, stream: TcpStream, address: SocketAddr, mut handshake: Handshake) {
        // Boxed, so that what a handshake needs is given back when it is done.
        let shaken = Box::pin(async {
            tokio::select! {
                shaken = shake_hands(stream, address, self.tls.load_full()) => shaken,
                () = handshake.told_to_end() => Err(NoConnection::HeldUp),
            }
        });
        let shaken = shaken.await;
        drop(handshake);
        let entered = shaken.and_then(|stream| {
            let (peer, place, life) = self.enter(&stream, address)?;
            Ok((stream, peer, place, life))
        });
        match entered {
            Ok((stream, peer, place, life)) => {
                let services = self.services.clone();
                // What is only needed to get this far is not kept as long as the connection.
                drop(self);
                if place.is_an_agents() {
                    let (gate, session) = Gate::with_a_session(services, peer);
                    Box::pin(serve(stream, Lines::of_agents(), gate, over_with(session, place))).await;
                } else {
                    let gate = Gate::new(services, peer);
                    Box::pin(serve(stream, Lines::of_others(), gate, over(place, life))).await;
                }
            }
            Err(NoConnection::HungUp) => {
                tracing::debug!(%address, "it hung up before the handshake was done");
            }
            // That agents are turned away is told elsewhere.
            Err(NoConnection::NoPlace(NoPlace::Closed | NoPlace::Untold)) => {}
            Err(why) => self.port.refused(address.ip().to_string(), format!("a connection: {why}")),
        }
    }
}

impl<H, R> Door<H, R> {
    /// Who it is that has shaken hands, their place, and how long they may stay if that is not as long as they want.
    fn enter(
        &self,
        stream: &TlsStream<TcpStream>,
        address: SocketAddr,
    ) -> Result<(Peer, Place, Option<Duration>), NoConnection> {
        let certificates = stream.get_ref().1.peer_certificates();
        let shown = certificates.and_then(|chain| chain.first()).map(Shown::read);
        match self.places.enter(shown.as_ref(), Instant::now()) {
            Ok(place) => {
                let life = shown.is_none().then_some(STRANGERS_LIFE);
                Ok((Peer::Remote { address, shown, turned_away: None }, place, life))
            }
            Err(NoPlace::TurnedAway(why)) => {
                if let Some(count) = self.places.to_tell(&why, Instant::now()) {
                    let what = format!("{count} connection(s) since it was last said: {why}");
                    self.port.refused("agents".to_owned(), what);
                }
                let place = self.places.turn_away()?;
                let turned_away = Some(why);
                Ok((Peer::Remote { address, shown, turned_away }, place, Some(TURNED_AWAY_LIFE)))
            }
            Err(why) => Err(why.into()),
        }
    }
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
    #[error("its TLS handshake was held up, and others waited")]
    HeldUp,
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// An agent's connection is over when its session is, or when its place is taken away.
async fn over_with(session: oneshot::Receiver<()>, mut place: Place) -> Over {
    tokio::select! {
        over = place.told_to_leave() => over,
        // Nothing is ever sent: the sender is dropped.
        _ = session => Over::Asked,
    }
}

/// A connection is over when its place is taken away, or its time is over.
async fn over(mut place: Place, life: Option<Duration>) -> Over {
    match life {
        None => place.told_to_leave().await,
        // Boxed, since most connections have no such end.
        Some(life) => Box::pin(tokio::time::timeout(life, place.told_to_leave())).await.unwrap_or(Over::Late),
    }
}

/// The next connection, with leave to shake hands; `None` if there was none after all. Until there is leave it waits in the kernel.
async fn accept(
    listener: &TcpListener,
    handshakes: &mut Handshakes,
    port: &Port,
) -> Option<(TcpStream, SocketAddr, Handshake)> {
    while !handshakes.have_room(Instant::now()) {
        port.door_has_a_queue();
        tokio::time::sleep(ROOM_AGAIN).await;
    }
    let (stream, address) = ready(listener.accept().await).await?;
    Some((stream, address, handshakes.begin(Instant::now())))
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
) -> Result<Box<TlsStream<TcpStream>>, NoConnection> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "nodelay");
    }
    match tokio::time::timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(NoConnection::HungUp),
        Ok(Err(error)) => Err(NoConnection::Handshake(error)),
        Err(_) => Err(NoConnection::Late),
    }
}

/// What was accepted; after an error, such as too many open files, there is a pause.
pub(super) async fn ready<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(NO_ROOM).await;
            None
        }
    }
}
