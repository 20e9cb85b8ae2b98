//! Who is at the other end of a connection, before anything was asked: an address and perhaps a certificate, or a local
//! user. And the connection itself, which holds its place among those that are allowed at a time.

use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
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

/// A connection.
pub struct Connection<S> {
    stream: S,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    /// A connection that holds its place as long as it lives.
    pub const fn new(stream: S, peer: Peer, place: OwnedSemaphorePermit) -> Self {
        Self { stream, peer, _place: place }
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
