//! What an operator asks of the coordinator, over its unix socket, as `wavegate` does.

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use wavegate_common::id::NodeId;
use wavegate_common::rollout::Link;
use wavegate_proto::VERSION_METADATA;
use wavegate_proto::v1;
use wavegate_proto::v1::operator_service_client::OperatorServiceClient;

/// As much as `wavegate` takes.
const MAX_DOCUMENT: usize = 256 << 20;

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
        let client = OperatorServiceClient::new(channel);
        Ok(Self {
            client: client.max_decoding_message_size(MAX_DOCUMENT).max_encoding_message_size(MAX_DOCUMENT),
        })
    }

    /// The inventory, which is nothing much: whether the coordinator answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn inventory(&mut self) -> Result<()> {
        self.client
            .get_inventory(told(v1::GetInventoryRequest {}))
            .await
            .context("asking for the inventory")?;
        Ok(())
    }

    /// Every node.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn nodes(&mut self) -> Result<Vec<NodeSeen>> {
        let answer = self
            .client
            .list_nodes(told(v1::ListNodesRequest::default()))
            .await
            .context("asking for the nodes")?;
        document(&answer.into_inner())
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
