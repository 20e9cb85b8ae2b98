//! HTTP/2 on a connection that was accepted: its settings, and how it ends. Accepting is `listen`'s and `socket`'s, what is called
//! `services`'.
//!
//! tonic's own server would do, but for what it costs: a connection of an agent has one session on it, and there are ten thousand of
//! them, so that windows, tables and queues are small here and the connection is one task from its handshake to its end.

use super::services::Gate;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic_health::pb::health_server::Health;
use tonic_reflection::server::v1::ServerReflection;

/// How long calls may take that are being answered when a connection is to end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(15);

/// The HTTP/2 settings of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// How often the other end is asked whether it is there.
    keepalive: Duration,
    /// Calls at a time.
    calls: u32,
    /// Bytes that may come before somebody has taken them, of one call and of all together.
    window: u32,
    /// Bytes that may wait to be sent, of one call.
    send: usize,
    /// Bytes of names and values that are remembered of one call's header for the next one's.
    header_table: u32,
    /// Bytes of a call's header.
    header: u32,
}

impl Lines {
    /// Of an agent: one call, which lasts, and with which the connection ends. That it is silent is seen sooner in its session; this
    /// is for connections without one.
    #[must_use]
    pub const fn of_agents() -> Self {
        let keepalive = Duration::from_secs(60);
        Self { keepalive, calls: 1, window: 64 << 10, send: 64 << 10, header_table: 0, header: 8 << 10 }
    }

    /// Of operators, and of whoever enrols.
    #[must_use]
    pub const fn of_others() -> Self {
        let keepalive = Duration::from_secs(15);
        Self { keepalive, calls: 64, window: 1 << 20, send: 400 << 10, header_table: 4096, header: 16 << 10 }
    }

    fn builder(self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(self.keepalive)
            .keep_alive_timeout(KEEPALIVE_WITHIN)
            .max_concurrent_streams(self.calls)
            .initial_stream_window_size(self.window)
            .initial_connection_window_size(self.window)
            .max_send_buf_size(self.send)
            .header_table_size(self.header_table)
            .max_header_list_size(self.header)
            .auto_date_header(false);
        builder
    }
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It is asked to: calls are answered to their end, for a while.
    Asked,
    /// Its time is over, or its place is another's: it is cut.
    Late,
}

/// Serves a connection until the other end is gone, or until `over` and a little longer.
pub async fn serve<S, H, R>(stream: S, lines: Lines, gate: Gate<H, R>, over: impl Future<Output = Over>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Health,
    R: ServerReflection,
{
    let mut connection = pin!(lines.builder().serve_connection(TokioIo::new(stream), gate));
    let over = tokio::select! {
        ended = connection.as_mut() => return told(ended),
        over = over => over,
    };
    if over == Over::Asked {
        connection.as_mut().graceful_shutdown();
        if let Ok(ended) = Box::pin(tokio::time::timeout(LAST_ANSWERS, connection)).await {
            told(ended);
        }
    }
}

fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = crate::engine::told(&error), "a connection broke");
    }
}
