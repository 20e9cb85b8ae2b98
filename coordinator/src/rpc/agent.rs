//! The agent service: a session is a stream each way. Messages are read here and given to the engine in its words.

use super::auth::{Caller, caller};
use crate::engine::{Connected, FromAgent, Input, Port, Session, ToAgent};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wavegate_common::facts::Facts;
use wavegate_common::id::{Generation, NodeId, StepId};
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::Report;
use wavegate_proto::convert::{BadMessage, document, read_document, result_from_wire};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as In;
use wavegate_proto::v1::agent_service_server::AgentService;
use wavegate_proto::v1::coordinator_message::Message as Out;

const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Messages that may wait for an agent to read them: a welcome, an order, acknowledgements, a preview for each stage.
const OUTBOUND: usize = 64;

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
        let facts: Option<Facts> =
            hello.facts.is_some().then(|| read_document("facts", hello.facts.as_ref())).transpose()?;
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        let (alive, ended) = oneshot::channel();
        let heard = Arc::new(AtomicU64::new(self.port.clock().now().0));
        let session = Session { outbound, heard: heard.clone(), alive };
        let (name, agent_version) = (node.clone(), printable(&hello.agent_version));
        let generation_seen = Generation(hello.generation_seen);
        let number = self
            .port
            .ask(|reply| {
                Input::Connected(Box::new(Connected {
                    node: name,
                    fingerprint,
                    agent_version,
                    generation_seen,
                    facts,
                    session,
                    reply,
                }))
            })
            .await?;
        tokio::spawn(
            Reader { port: self.port.clone(), node, session: number, heard, last: None }.run(inbound, ended),
        );
        Ok(Response::new(Box::pin(ReceiverStream::new(messages).map(to_wire))))
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

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Reads what an agent says, until it or the engine ends the session.
struct Reader {
    port: Port,
    node: NodeId,
    session: u64,
    heard: Arc<AtomicU64>,
    /// What it last said it works on: a heartbeat that says the same only counts as heard.
    last: Option<Option<(TaskKey, Option<StepId>)>>,
}

impl Reader {
    async fn run(mut self, mut inbound: Streaming<v1::AgentMessage>, mut ended: oneshot::Receiver<()>) {
        loop {
            let received = tokio::select! {
                received = inbound.message() => received,
                _ = &mut ended => return,
            };
            let node = &self.node;
            let goes_on = match received {
                Ok(Some(message)) => self.take(message).await,
                Ok(None) => false,
                Err(status) => {
                    tracing::debug!(%node, %status, "the session broke");
                    false
                }
            };
            if !goes_on {
                drop(self.port.send(Input::Gone { node: self.node, session: self.session }).await);
                return;
            }
        }
    }

    /// Gives a message to the engine. False if the session is to end.
    async fn take(&mut self, message: v1::AgentMessage) -> bool {
        self.heard.store(self.port.clock().now().0, Ordering::Relaxed);
        let message = match message.message.map(from_wire).transpose() {
            Ok(Some(message)) => message,
            // A newer agent says something that we don't know.
            Ok(None) => return true,
            Err(bad) => {
                let what = format!(
                    "a message that cannot be read; its session is closed: {}",
                    crate::engine::told(&bad)
                );
                self.port.refused(format!("node {}", self.node), what);
                return false;
            }
        };
        if let FromAgent::Working(at) = &message {
            if self.last.as_ref() == Some(at) {
                return true;
            }
            self.last = Some(at.clone());
        } else if matches!(message, FromAgent::Report(..)) {
            self.last = None;
        }
        let said = Input::Said { node: self.node.clone(), session: self.session, message: Box::new(message) };
        self.port.send(said).await.is_ok()
    }
}

fn from_wire(message: In) -> Result<FromAgent, BadMessage> {
    let key = |key: Option<v1::TaskKey>| TaskKey::try_from(key.ok_or(BadMessage::Missing("task key"))?);
    let step = |step: String| if step.is_empty() { Ok(None) } else { StepId::new(step).map(Some) };
    Ok(match message {
        In::Hello(_) => {
            return Err(BadMessage::Missing("place here: a hello is the first message and no other"));
        }
        In::Heartbeat(v1::Heartbeat { task: None, .. }) => FromAgent::Working(None),
        In::Heartbeat(beat) => FromAgent::Working(Some((key(beat.task)?, step(beat.step)?))),
        In::TaskReport(report) => {
            let result = result_from_wire(report.result())?;
            let current = step(report.current_step)?;
            let steps = read_document("ended_steps", report.ended_steps.as_ref())?;
            FromAgent::Report(Report { key: key(report.key)?, steps, result }, current)
        }
        In::OrderRefused(refused) => {
            FromAgent::OrderRefused { key: key(refused.key)?, reason: refused.reason }
        }
        In::Output(output) => FromAgent::Output {
            key: key(output.key)?,
            step: StepId::new(output.step)?,
            offset: output.offset,
            data: output.data,
        },
        In::PreviewReport(report) => FromAgent::Preview {
            request: report.request,
            stage: report.stage.parse()?,
            previews: read_document("step_previews", report.step_previews.as_ref())?,
        },
        In::Facts(facts) => FromAgent::Facts(read_document("facts", Some(&facts))?),
    })
}

fn to_wire(message: ToAgent) -> Result<v1::CoordinatorMessage, Status> {
    let message = match message {
        ToAgent::Welcome { fleet, generation, heartbeat_interval_s } => Out::Welcome(v1::Welcome {
            fleet: fleet.to_string(),
            generation: generation.0,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_s,
        }),
        ToAgent::Order(order) => Out::TaskOrder(document("task_order", &order)?),
        ToAgent::Acknowledge(key) => Out::Acknowledge(v1::Acknowledge { key: Some((&key).into()) }),
        ToAgent::Preview { request, stage, steps } => Out::PreviewRequest(v1::PreviewRequest {
            request,
            stage: stage.to_string(),
            planned_steps: Some(document("planned_steps", &steps)?),
        }),
    };
    Ok(v1::CoordinatorMessage { message: Some(message) })
}
