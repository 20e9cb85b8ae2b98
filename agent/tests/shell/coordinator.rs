//! A coordinator on loopback that says what a test tells it to, over real TLS and HTTP/2.

use crate::pki::FLEET;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wavegate_agent::config::Address;
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder};
use wavegate_common::rollout::EndedStep;
use wavegate_proto::convert::{document, read_document};
use wavegate_proto::tls::{self, Credentials};
use wavegate_proto::v1;
use wavegate_proto::v1::agent_message::Message as FromAgent;
use wavegate_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use wavegate_proto::v1::coordinator_message::Message as ToAgent;
use wavegate_proto::v1::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};

/// What a test waits for comes within a minute, on however slow a machine, or the test has failed.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it comes")
}

type Enrol = Arc<dyn Fn(v1::EnrolRequest) -> Result<v1::EnrolResponse, Status> + Send + Sync>;

/// A coordinator on loopback.
pub struct Coordinator {
    pub address: Address,
    sessions: mpsc::Receiver<Session>,
    tasks: Vec<JoinHandle<()>>,
}

/// A session that an agent opened.
pub struct Session {
    from_agent: Streaming<v1::AgentMessage>,
    to_agent: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
}

struct Service {
    sessions: mpsc::Sender<Session>,
    enrol: Enrol,
}

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (to_agent, stream) = mpsc::channel(16);
        let session = Session { from_agent: request.into_inner(), to_agent };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Service {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        (self.enrol)(request.into_inner()).map(Response::new)
    }
}

impl Coordinator {
    /// A coordinator with these credentials, which enrols nobody.
    pub async fn start(credentials: &Credentials) -> Self {
        Self::enrolling(credentials, Arc::new(|_| Err(Status::not_found("no such token")))).await
    }

    /// One that answers enrolments.
    pub async fn enrolling(credentials: &Credentials, enrol: Enrol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self::on(listener, address, credentials, enrol)
    }

    fn on(listener: TcpListener, address: SocketAddr, credentials: &Credentials, enrol: Enrol) -> Self {
        let acceptor = TlsAcceptor::from(tls::server(credentials).expect("a TLS configuration"));
        let (connected, connections) = mpsc::channel::<std::io::Result<TlsStream<TcpStream>>>(8);
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(tcp).await
                    && connected.send(Ok(stream)).await.is_err()
                {
                    return;
                }
            }
        });
        let (send, sessions) = mpsc::channel(8);
        let service = || Service { sessions: send.clone(), enrol: enrol.clone() };
        let serving = tonic::transport::Server::builder()
            .add_service(AgentServiceServer::new(service()))
            .add_service(EnrolmentServiceServer::new(service()))
            .serve_with_incoming(ReceiverStream::new(connections));
        let serving = tokio::spawn(async move { serving.await.expect("served") });
        let address = address.to_string().parse().expect("an address");
        Self { address, sessions, tasks: vec![accepting, serving] }
    }

    /// The next session that an agent opens, with its hello.
    pub async fn session(&mut self) -> (Session, v1::Hello) {
        let mut session = soon(self.sessions.recv()).await.expect("a session");
        match session.next().await {
            FromAgent::Hello(hello) => (session, hello),
            other => panic!("a hello comes first, not {other:?}"),
        }
    }

    /// The next session, welcomed.
    pub async fn welcomed(&mut self, generation: u64) -> Session {
        let (session, _) = self.session().await;
        session.welcome(generation).await;
        session
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Session {
    /// The next message; `None` if the agent has given the session up.
    pub async fn try_next(&mut self) -> Option<FromAgent> {
        soon(self.from_agent.message()).await.ok().flatten()?.message
    }

    pub async fn next(&mut self) -> FromAgent {
        self.try_next().await.expect("the session goes on")
    }

    pub async fn say(&self, message: ToAgent) {
        let message = v1::CoordinatorMessage { message: Some(message) };
        self.to_agent.send(Ok(message)).await.expect("the agent listens");
    }

    pub async fn welcome(&self, generation: u64) {
        self.welcome_of(generation, "").await;
    }

    /// Says that it is this start of a coordinator.
    pub async fn welcome_of(&self, generation: u64, leader: &str) {
        self.welcome_as(generation, leader, env!("CARGO_PKG_VERSION")).await;
    }

    /// The same for a coordinator of a version.
    pub async fn welcome_as(&self, generation: u64, leader: &str, version: &str) {
        let coordinator_version = version.to_owned();
        self.say(ToAgent::Welcome(v1::Welcome {
            fleet: FLEET.to_owned(),
            generation,
            coordinator_version,
            heartbeat_interval_s: 1,
            leader: leader.to_owned(),
        }))
        .await;
    }

    pub async fn order(&self, order: &TaskOrder) {
        self.say(ToAgent::TaskOrder(document("task_order", order).expect("a document"))).await;
    }

    pub async fn acknowledge(&self, key: &TaskKey) {
        self.say(ToAgent::Acknowledge(v1::Acknowledge { key: Some(key.into()) })).await;
    }

    pub async fn preview(&self, request: u64, stage: &str, steps: &[PlannedStep]) {
        let planned_steps = Some(document("planned_steps", steps).expect("a document"));
        self.say(ToAgent::PreviewRequest(v1::PreviewRequest {
            request,
            stage: stage.to_owned(),
            planned_steps,
        }))
        .await;
    }

    /// Messages up to the first that `wanted` takes.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&FromAgent) -> Option<T>) -> T {
        loop {
            let message = self.next().await;
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    /// The first report that says that the task has ended: its steps.
    pub async fn ended(&mut self) -> (v1::TaskResult, Vec<EndedStep>) {
        self.until(|message| match message {
            FromAgent::TaskReport(report) if report.result() != v1::TaskResult::Open => {
                let steps =
                    read_document("ended_steps", report.ended_steps.as_ref()).expect("a list of steps");
                Some((report.result(), steps))
            }
            _ => None,
        })
        .await
    }

    /// The first refusal: its reason.
    pub async fn refusal(&mut self) -> String {
        self.until(|message| match message {
            FromAgent::OrderRefused(refused) => Some(refused.reason.clone()),
            _ => None,
        })
        .await
    }
}
