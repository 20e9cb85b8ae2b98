//! Who is at the other end of a connection, before anything was asked: an address and perhaps a certificate, or a local
//! user. And the connection itself, which holds its place among those that are allowed at a time.

use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Somebody over TCP; the certificate was checked against the fleet's authority.
    Remote {
        /// Their address.
        address: SocketAddr,
        /// Their certificate, if they showed one.
        certificate: Option<CertificateDer<'static>>,
    },
    /// A process on this machine.
    Local {
        /// Its user.
        uid: u32,
        /// The user's name, or the number if it has none.
        name: String,
        /// Whether the user may operate: root, or the coordinator's own.
        allowed: bool,
    },
}

/// A connection. It holds its place as long as it lives.
pub struct Connection<S> {
    stream: S,
    peer: Peer,
    _place: OwnedSemaphorePermit,
    over: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    /// A connection that lives as long as both sides want.
    pub const fn new(stream: S, peer: Peer, place: OwnedSemaphorePermit) -> Self {
        Self { stream, peer, _place: place, over: None }
    }

    /// A connection that is closed after so long: somebody who may do no more than enrol must not keep others out.
    pub fn short(stream: S, peer: Peer, place: OwnedSemaphorePermit, life: Duration) -> Self {
        Self { stream, peer, _place: place, over: Some(Box::pin(tokio::time::sleep(life))) }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_short_connection_ends_and_gives_its_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().expect("free");
        let (ours, mut theirs) = tokio::io::duplex(16);
        let peer = Peer::Local { uid: 0, name: "root".to_owned(), allowed: true };
        let mut connection = Connection::short(ours, peer, place, Duration::from_millis(50));
        theirs.write_all(b"x").await.expect("written");
        let mut byte = [0];
        connection.read_exact(&mut byte).await.expect("it lives");
        let over = connection.read_exact(&mut byte).await.expect_err("nothing more came");
        assert_eq!(over.kind(), io::ErrorKind::TimedOut);
        assert_eq!(places.available_permits(), 0);
        drop(connection);
        assert_eq!(places.available_permits(), 1);
    }
}
