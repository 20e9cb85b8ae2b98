//! The agent service: a session is a stream each way. What its messages mean to the engine is `session`'s.

use super::auth::{Caller, caller};
use super::budget::{self, Budget};
use super::session::{Incoming, Opened, open, to_wire};
use crate::engine::{Input, Port, RequestError};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as In;
use wavegate_proto::v1::agent_service_server::AgentService;

/// As long as an agent waits for the answer: when a whole fleet comes back, both wait.
const HELLO_WITHIN: Duration = Duration::from_secs(30);

/// A connection's leave to hold one session. Dropped, it ends the connection: for another session one shakes hands again, and is
/// counted at the door.
#[derive(Debug, Clone)]
pub(super) struct OneSession(#[expect(dead_code, reason = "it is only dropped")] Arc<oneshot::Sender<()>>);

impl OneSession {
    /// The leave, and what is closed when the connection is to end.
    pub(super) fn new() -> (Self, oneshot::Receiver<()>) {
        let (held, over) = oneshot::channel();
        (Self(Arc::new(held)), over)
    }
}

/// The agent service.
pub(super) struct Agents {
    port: Port,
}

impl Agents {
    pub(super) const fn new(port: Port) -> Self {
        Self { port }
    }
}

type Outbound = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = Outbound;

    async fn session(
        &self,
        mut request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outbound>, Status> {
        let Caller::Node { node, fingerprint } = caller(&request)? else {
            return Err(Status::permission_denied("this service is for agents"));
        };
        let Some(leave) = request.extensions_mut().remove::<OneSession>() else {
            return Err(Status::unavailable("a connection ends with its session; connect again"));
        };
        let mut inbound = request.into_inner();
        let (hello, budget) = hello(&mut inbound).await?;
        if hello.node != node.as_str() {
            let what = format!("to speak for another node ({:.64})", hello.node.escape_default().to_string());
            self.port.refused(format!("node {node}"), what);
            return Err(Status::permission_denied(format!(
                "the certificate is node {node}'s, and its agent says it is another node; an agent speaks for its own \
                 node alone: enrol this machine under its own name"
            )));
        }
        let (reply, answer) = oneshot::channel();
        let (connected, opened) =
            open(node.clone(), fingerprint, &hello, self.port.clock().elapsed_ms(), reply)?;
        self.port.send(Input::Connected(Box::new(connected))).await?;
        let number = answer.await.unwrap_or(Err(RequestError::Ending))?;
        let Opened { messages, ended, heard } = opened;
        let incoming = Incoming::new(node, number, heard);
        let reader = Reader { port: self.port.clone(), incoming, budget, began: Instant::now() };
        tokio::spawn(async move {
            reader.run(inbound, ended).await;
            drop(leave);
        });
        let outbound = ReceiverStream::new(messages).map(|message| Ok(to_wire(*message)?));
        Ok(Response::new(Box::pin(outbound)))
    }
}

/// The hello, and what may be said after it.
async fn hello(inbound: &mut Streaming<v1::AgentMessage>) -> Result<(v1::Hello, Budget), Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came within 30 s"))??;
    let budget = Budget::after(first.as_ref().map_or(0, budget::size));
    match first.and_then(|message| message.message) {
        Some(In::Hello(hello)) => Ok((hello, budget)),
        _ => Err(Status::invalid_argument("the first message of a session must be a hello")),
    }
}

/// Reads what an agent says, until it or the engine ends the session. It reads on when the engine has taken a message, and when the
/// agent has not said too much lately: what it says until then waits on its side.
struct Reader {
    port: Port,
    incoming: Incoming,
    budget: Budget,
    began: Instant,
}

impl Reader {
    async fn run(mut self, mut inbound: Streaming<v1::AgentMessage>, mut ended: oneshot::Receiver<()>) {
        let goes_on = tokio::select! {
            () = self.read(&mut inbound) => true,
            _ = &mut ended => false,
        };
        if goes_on {
            drop(Box::pin(self.port.send(self.incoming.gone())).await);
        }
    }

    /// Reads until the agent ends the session or breaks it.
    async fn read(&mut self, inbound: &mut Streaming<v1::AgentMessage>) {
        loop {
            let message = match inbound.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(node = %self.incoming.node(), %status, "the session broke");
                    return;
                }
            };
            let spent = self.budget.spend(budget::size(&message), micros(self.began.elapsed()));
            // Boxed, so that a session on which nothing comes, as on most, has no room for what is done with a message.
            if !Box::pin(self.take(message)).await {
                return;
            }
            if let Some(wait) = spent {
                Box::pin(tokio::time::sleep(wait)).await;
            }
            // That it had to wait, for the engine or for its budget, is not its silence.
            self.incoming.heard(self.port.clock().elapsed_ms());
        }
    }

    /// Gives a message to the engine. False if the session is to end.
    async fn take(&mut self, message: v1::AgentMessage) -> bool {
        match self.incoming.take(message, self.port.clock().elapsed_ms()) {
            Ok(Some(input)) => self.port.send(input).await.is_ok(),
            Ok(None) => true,
            Err(bad) => {
                let what = format!(
                    "a message that breaks the protocol; its session is closed: {}",
                    crate::engine::told(&bad)
                );
                self.port.refused(format!("node {}", self.incoming.node()), what);
                false
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
