//! What an operator asks of the coordinator, over its unix socket, as `wavegate` does.

use anyhow::{Context, Result, bail, ensure};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use wavegate_common::id::NodeId;
use wavegate_common::plan::Plan;
use wavegate_common::rollout::{Entry, Link};
use wavegate_proto::VERSION_METADATA;
use wavegate_proto::v1;
use wavegate_proto::v1::make_plan_response::Message;
use wavegate_proto::v1::operator_service_client::OperatorServiceClient;

/// As much as `wavegate` takes.
const MAX_DOCUMENT: usize = 256 << 20;
/// The shipped procedure.
const PROCEDURE: &str = "calico-openstack";

/// A connection.
#[derive(Clone)]
pub struct Operator {
    client: OperatorServiceClient<Channel>,
}

/// A node as the coordinator lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeSeen {
    /// The node.
    pub node: NodeId,
    /// Whether its agent is connected.
    pub link: Link,
}

/// A question that operators ask while a rollout runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `wavegate status`: a screen.
    Status,
    /// `wavegate status --output json`: every node.
    WholeStatus,
    /// `wavegate why`.
    Why,
    /// `wavegate nodes`.
    Nodes,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Status, Self::WholeStatus, Self::Why, Self::Nodes];

    /// The command that asks it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::WholeStatus => "status with every node (json)",
            Self::Why => "why",
            Self::Nodes => "nodes",
        }
    }
}

impl Operator {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await.context("connecting to the operators' socket")?;
        let mut once = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = once.take();
            async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        let endpoint = Endpoint::from_static("http://coordinator.wavegate.internal");
        let channel = endpoint.connect_with_connector(connector).await.context("beginning HTTP/2")?;
        Ok(Self { client: OperatorServiceClient::new(channel).max_decoding_message_size(MAX_DOCUMENT) })
    }

    /// Asks for the inventory, which is nothing much: whether the coordinator answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn knock(&mut self) -> Result<()> {
        let request = told(v1::GetInventoryRequest {});
        self.client.get_inventory(request).await.context("asking for the inventory")?;
        Ok(())
    }

    /// Every node.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn nodes(&mut self) -> Result<Vec<NodeSeen>> {
        let request = told(v1::ListNodesRequest::default());
        let answer = self.client.list_nodes(request).await.context("asking for the nodes")?;
        document(&answer.into_inner())
    }

    /// Asks a question and takes its answer whole; returns the bytes of its document.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn ask(&mut self, question: Question) -> Result<usize> {
        let client = &mut self.client;
        let answer = match question {
            Question::Status | Question::WholeStatus => {
                let brief = question == Question::Status;
                client.get_status(told(v1::RolloutRequest { brief, ..v1::RolloutRequest::default() })).await
            }
            Question::Why => client.why(told(v1::WhyRequest::default())).await,
            Question::Nodes => client.list_nodes(told(v1::ListNodesRequest::default())).await,
        };
        let answer = answer.with_context(|| format!("asking for {}", question.name()))?;
        Ok(answer.into_inner().json.len())
    }

    /// Has a plan made from the shipped procedure, in which stage compute is one canary and then everybody else at once. Stage
    /// etcd goes in waves: a proxy asks every member in a thread of its own, and one process has not room for thirty thousand.
    ///
    /// # Errors
    /// When none comes about, or it has problems.
    pub async fn plan(&mut self) -> Result<Plan> {
        let limits = |stage: &str, max_unavailable: &str| v1::StageLimits {
            stage: stage.to_owned(),
            canary: Some(1),
            max_unavailable: Some(max_unavailable.to_owned()),
            ..v1::StageLimits::default()
        };
        let request = v1::MakePlanRequest {
            procedure: PROCEDURE.to_owned(),
            limits: vec![limits("etcd", "5%"), limits("compute", "100%")],
            ..v1::MakePlanRequest::default()
        };
        let answers = self.client.make_plan(told(request)).await.context("asking for a plan")?;
        let mut answers = answers.into_inner();
        while let Some(answer) = answers.message().await.context("waiting for a plan")? {
            if let Some(Message::Plan(plan)) = answer.message {
                let plan: Plan = document(&plan)?;
                let problem = plan.body.problems.first();
                ensure!(problem.is_none(), "the plan has problems: {problem:?}");
                return Ok(plan);
            }
        }
        bail!("no plan came")
    }

    /// Starts a plan; its warnings are known.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn begin(&mut self, plan: &Plan) -> Result<()> {
        let acknowledge = plan.body.warnings.iter().map(|warning| warning.id.clone()).collect();
        let request = v1::StartRequest { plan: plan.id.to_string(), manual: false, acknowledge };
        self.client.start(told(request)).await.context("starting the plan")?;
        Ok(())
    }

    /// Whether the newest rollout's log has an event at this place; what is in it is durable.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn has_event(&mut self, seq: u64) -> Result<bool> {
        let mut answers = self.log(seq.saturating_sub(1)).await?;
        Ok(answers.message().await.context("reading an event")?.is_some())
    }

    /// The newest rollout's log.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn events(&mut self) -> Result<Vec<Entry>> {
        let (mut answers, mut entries) = (self.log(0).await?, Vec::new());
        while let Some(entry) = answers.message().await.context("reading events")? {
            entries.push(document(&entry)?);
        }
        Ok(entries)
    }

    async fn log(&mut self, after_seq: u64) -> Result<tonic::Streaming<v1::Document>> {
        let request = v1::ListEventsRequest { rollout: String::new(), after_seq };
        Ok(self.client.list_events(told(request)).await.context("asking for events")?.into_inner())
    }

    /// What the newest rollout waits for, as a document's beginning.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn why(&mut self) -> Result<String> {
        let answer = self.client.why(told(v1::WhyRequest::default())).await.context("asking why")?;
        Ok(String::from_utf8_lossy(&answer.into_inner().json).chars().take(1000).collect())
    }
}

/// Says with a call which version this is, as `wavegate` does.
fn told<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let version = tonic::metadata::MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
    request.metadata_mut().insert(VERSION_METADATA, version);
    request
}

fn document<T: DeserializeOwned>(document: &v1::Document) -> Result<T> {
    serde_json::from_slice(&document.json).with_context(|| format!("understanding a {}", document.schema))
}
