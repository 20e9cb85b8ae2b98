//! The link to the coordinator: one outbound connection with one session on it. What is said and obeyed is decided in
//! `agent`; wire types stop in `message`.

mod backoff;
pub mod dial;
mod message;
mod outbox;

pub use backoff::Backoff;
pub use message::{
    FromCoordinator, KeyAsGiven, ToCoordinator, UnreadablePreview, Welcome, from_wire, to_wire,
};
pub use outbox::{Outbox, Sources};

use crate::config::Address;
use dial::DialError;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use wavegate_common::id::FleetId;
use wavegate_proto::v1::agent_service_client::AgentServiceClient;

/// Messages that may wait for the network. There is no need for many: what is sent is made when there is room.
const SEND_QUEUE: usize = 8;

/// How long the coordinator may take to answer a session's opening.
const WELCOME_WITHIN: Duration = Duration::from_secs(30);

/// Whom to dial, and as whom.
#[derive(Clone)]
pub struct Target {
    /// Where the coordinator listens.
    pub address: Address,
    /// The fleet that it must be the coordinator of.
    pub fleet: FleetId,
    /// The node's certificate, and the authority to check the coordinator by.
    pub tls: Arc<ClientConfig>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The coordinator ended the session with an error, or the connection broke.
    #[error("the session with {address} ended: {reason}{next}")]
    Ended {
        /// The coordinator.
        address: Address,
        /// Why.
        reason: String,
        /// What to do, if somebody must do something.
        next: &'static str,
        /// Whether it is refused until a person has done something.
        for_a_person: bool,
    },
    /// The coordinator has no room for this agent now.
    #[error("the coordinator at {address} has turned this agent away: {reason}")]
    TurnedAway {
        /// The coordinator.
        address: Address,
        /// Why, in its words.
        reason: String,
    },
    /// The coordinator closed the session.
    #[error("the coordinator at {address} closed the session")]
    Closed {
        /// The coordinator.
        address: Address,
    },
    /// It does not begin with a welcome that can be read.
    #[error(
        "the coordinator at {address} began the session with something that this agent, version {}, does not understand (the log \
         says what); install the coordinator's version of wavegate-agent here",
        env!("CARGO_PKG_VERSION")
    )]
    NotUnderstood {
        /// The coordinator.
        address: Address,
    },
    /// It does not answer.
    #[error("the coordinator at {address} did not answer within {} s", WELCOME_WITHIN.as_secs())]
    Silent {
        /// The coordinator.
        address: Address,
    },
}

impl LinkError {
    /// Whether there is no use in trying again soon: until a person has done something, or another agent has gone.
    #[must_use]
    pub const fn lasts(&self) -> bool {
        matches!(
            self,
            Self::NotUnderstood { .. } | Self::TurnedAway { .. } | Self::Ended { for_a_person: true, .. }
        )
    }
}

/// What a session tells.
#[derive(Debug)]
pub enum Told {
    /// The connection is there and the coordinator is who it should be: say hello.
    Connected,
    /// The coordinator said something.
    Said(Box<FromCoordinator>),
    /// The session is over.
    Down(LinkError),
}

/// An open session; dropping it ends it at once.
#[derive(Debug)]
pub struct Session {
    /// Where messages to the coordinator go.
    pub send: mpsc::Sender<ToCoordinator>,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a session after `delay`. What happens in it goes to `tell`, [`Told::Down`] last.
pub fn open<F, W>(target: Target, delay: Duration, tell: F) -> Session
where
    F: Fn(Told) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send,
{
    let (send, receive) = mpsc::channel(SEND_QUEUE);
    let task = tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        let error = hold(&target, receive, &tell).await;
        tell(Told::Down(error)).await;
    });
    Session { send, task }
}

/// Holds a session until it ends, and says why it did.
async fn hold<F, W>(target: &Target, send: mpsc::Receiver<ToCoordinator>, tell: &F) -> LinkError
where
    F: Fn(Told) -> W,
    W: Future<Output = ()>,
{
    let channel = match connect(target).await {
        Ok(channel) => channel,
        Err(error) => return error.into(),
    };
    tell(Told::Connected).await;
    let address = || target.address.clone();
    let outgoing = ReceiverStream::new(send).filter_map(message::to_wire);
    let mut client = AgentServiceClient::new(channel);
    // The coordinator may wait for the hello before it answers.
    let opened = tokio::time::timeout(WELCOME_WITHIN, client.session(outgoing)).await;
    let mut incoming = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return ended(&target.address, &status),
        Err(_) => return LinkError::Silent { address: address() },
    };
    let mut within = Some(WELCOME_WITHIN);
    loop {
        let first = within.is_some();
        let next = match within.take() {
            Some(limit) => tokio::time::timeout(limit, incoming.message()).await,
            None => Ok(incoming.message().await),
        };
        match next {
            Ok(Ok(Some(message))) => match message::from_wire(message) {
                Some(said) => tell(Told::Said(Box::new(said))).await,
                // A session without a welcome would stay open and come to nothing.
                None if first => return LinkError::NotUnderstood { address: address() },
                None => {}
            },
            Ok(Ok(None)) => return LinkError::Closed { address: address() },
            Ok(Err(status)) => return ended(&target.address, &status),
            Err(_) => return LinkError::Silent { address: address() },
        }
    }
}

async fn connect(target: &Target) -> Result<tonic::transport::Channel, DialError> {
    let connection = dial::connect(&target.address, target.tls.clone()).await?;
    dial::check_coordinator(&target.address, &connection, &target.fleet)?;
    dial::channel(&target.address, connection).await
}

fn ended(address: &Address, status: &tonic::Status) -> LinkError {
    use tonic::Code;
    // With a source it is this side's own reading of what the connection ended with (of HTTP/2's ENHANCE_YOUR_CALM, say).
    let in_its_words = std::error::Error::source(status).is_none();
    if status.code() == Code::ResourceExhausted && in_its_words {
        let (address, reason) = (address.clone(), status.message().to_owned());
        return LinkError::TurnedAway { address, reason };
    }
    let next = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            "; the coordinator does not take this node's certificate: if it should, enrol the node again with --force"
        }
        Code::Unimplemented => "; what listens there is no coordinator of this version",
        Code::InvalidArgument => {
            "; agent and coordinator may be of different versions: install the same on both"
        }
        _ => "",
    };
    let cause = std::iter::successors(std::error::Error::source(status), |error| error.source()).last();
    let reason = match cause {
        Some(cause) if !status.message().contains(&cause.to_string()) => {
            format!("{}: {cause}", status.message())
        }
        _ => status.message().to_owned(),
    };
    // A version too far away, or a certificate that is not taken.
    let for_a_person =
        matches!(status.code(), Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated);
    LinkError::Ended { address: address.clone(), reason, next, for_a_person }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::{Code, Status};

    #[test]
    fn only_the_coordinator_itself_turns_an_agent_away() {
        let address: Address = "coordinator.example:7443".parse().expect("an address");
        let mut status = Status::new(Code::ResourceExhausted, "no room for another agent");
        let away = ended(&address, &status);
        assert!(matches!(away, LinkError::TurnedAway { .. }) && away.lasts(), "{away}");
        // As tonic tells an end of the connection by HTTP/2's ENHANCE_YOUR_CALM.
        status.set_source(Arc::new(std::io::Error::other("detected excessive load")));
        let broken = ended(&address, &status);
        assert!(matches!(broken, LinkError::Ended { .. }) && !broken.lasts(), "{broken}");
        assert!(broken.to_string().ends_with("detected excessive load"), "{broken}");
    }
}
