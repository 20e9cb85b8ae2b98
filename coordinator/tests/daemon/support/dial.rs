//! Connections to a coordinator under test.

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use wavegate_proto::tls;

/// How to get there.
#[derive(Clone)]
pub enum Way {
    /// TCP with TLS.
    Tls(SocketAddr, Arc<ClientConfig>),
    /// The unix socket.
    Unix(PathBuf),
}

pub async fn channel(way: Way) -> Result<Channel, tonic::transport::Error> {
    channel_of(Endpoint::from_static("http://coordinator"), way).await
}

/// With settings of HTTP/2 of its own.
pub async fn channel_of(endpoint: Endpoint, way: Way) -> Result<Channel, tonic::transport::Error> {
    match way {
        Way::Tls(address, config) => {
            let connector = tower::service_fn(move |_| {
                let config = config.clone();
                async move {
                    let stream = TcpStream::connect(address).await?;
                    let stream = TlsConnector::from(config).connect(tls::coordinator_name(), stream).await?;
                    io::Result::Ok(TokioIo::new(stream))
                }
            });
            endpoint.connect_with_connector(connector).await
        }
        Way::Unix(path) => {
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { io::Result::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
            });
            endpoint.connect_with_connector(connector).await
        }
    }
}

/// Over one connection with TLS, and no other when that has ended.
pub async fn channel_once(address: SocketAddr, config: Arc<ClientConfig>) -> Channel {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let stream = TlsConnector::from(config).connect(tls::coordinator_name(), stream).await;
    let mut once = Some(TokioIo::new(stream.expect("a handshake")));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://coordinator");
    endpoint.connect_with_connector(connector).await.expect("HTTP/2")
}

/// A TLS configuration that trusts an authority and shows no certificate.
pub fn without_certificate(ca_pem: &str) -> Arc<ClientConfig> {
    tls::enrolling_client(tls::fingerprint(ca_pem).expect("an authority")).expect("a configuration")
}
