//! The agent service: a session is a stream each way. What its messages mean to the engine is `session`'s.

use super::auth::{Caller, caller};
use super::session::{Incoming, Opened, open, to_wire};
use crate::engine::{Input, Port, RequestError};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as In;
use wavegate_proto::v1::agent_service_server::AgentService;

const HELLO_WITHIN: Duration = Duration::from_secs(10);

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
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outbound>, Status> {
        let Caller::Node { node, fingerprint } = caller(&request)? else {
            return Err(Status::permission_denied("this service is for agents"));
        };
        let mut inbound = request.into_inner();
        let hello = hello(&mut inbound).await?;
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
        let reader = Reader { port: self.port.clone(), incoming: Incoming::new(node, number, heard) };
        tokio::spawn(reader.run(inbound, ended));
        let outbound = ReceiverStream::new(messages).map(|message| Ok(to_wire(message)?));
        Ok(Response::new(Box::pin(outbound)))
    }
}

async fn hello(inbound: &mut Streaming<v1::AgentMessage>) -> Result<v1::Hello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came within 10 s"))??;
    match first.and_then(|message| message.message) {
        Some(In::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message of a session must be a hello")),
    }
}

/// Reads what an agent says, until it or the engine ends the session.
struct Reader {
    port: Port,
    incoming: Incoming,
}

impl Reader {
    async fn run(mut self, mut inbound: Streaming<v1::AgentMessage>, mut ended: oneshot::Receiver<()>) {
        loop {
            let received = tokio::select! {
                received = inbound.message() => received,
                _ = &mut ended => return,
            };
            let node = self.incoming.node();
            let goes_on = match received {
                Ok(Some(message)) => self.take(message).await,
                Ok(None) => false,
                Err(status) => {
                    tracing::debug!(%node, %status, "the session broke");
                    false
                }
            };
            if !goes_on {
                drop(self.port.send(self.incoming.gone()).await);
                return;
            }
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
