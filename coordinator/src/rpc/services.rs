//! Every service behind one gate: who calls is found out, what is called is looked up, in one closed list.

use super::agent::{Agents, OneSession};
use super::auth::{AGENT, Caller, ENROLMENT, OPERATOR, Refusal, admit};
use super::code;
use super::enrolment::Enrolment;
use super::operator::Operators;
use super::peer::Peer;
use crate::engine::Port;
use crate::skew;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::server::NamedService;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tower::Service;
use wavegate_common::id::FleetId;
use wavegate_proto::v1::agent_service_server::AgentServiceServer;
use wavegate_proto::v1::enrolment_service_server::EnrolmentServiceServer;
use wavegate_proto::v1::operator_service_server::OperatorServiceServer;
use wavegate_proto::{OPERATOR_MESSAGE_MAX, VERSION_METADATA};

/// Characters shown of what a command line says its version is.
const VERSION_KEPT: usize = 32;
/// The largest message of an agent: a report of a long task, with output in its errors.
const AGENT_MESSAGE_MAX: usize = 4 << 20;
/// The largest message of a machine that enrols.
const ENROLMENT_MESSAGE_MAX: usize = 64 << 10;

/// Every service. `H` and `R` are tonic's own services for health and reflection, whose types have no names.
pub struct Services<H, R> {
    fleet: FleetId,
    port: Port,
    agents: AgentServiceServer<Agents>,
    enrolment: EnrolmentServiceServer<Enrolment>,
    operators: OperatorServiceServer<Operators>,
    health: HealthServer<H>,
    reflection: ServerReflectionServer<R>,
}

/// Makes the services of a fleet.
///
/// # Errors
/// If the descriptors for reflection can't be read.
pub async fn services(
    port: &Port,
    fleet: &FleetId,
) -> Result<Services<impl Health, impl ServerReflection>, tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AgentServiceServer<Agents>>().await;
    reporter.set_serving::<EnrolmentServiceServer<Enrolment>>().await;
    reporter.set_serving::<OperatorServiceServer<Operators>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wavegate_proto::DESCRIPTORS)
        .build_v1()?;
    let agents = AgentServiceServer::new(Agents::new(port.clone()));
    let enrolment = EnrolmentServiceServer::new(Enrolment::new(port.clone()));
    let operators = OperatorServiceServer::new(Operators::new(port.clone()));
    Ok(Services {
        fleet: fleet.clone(),
        port: port.clone(),
        agents: agents.max_decoding_message_size(AGENT_MESSAGE_MAX),
        enrolment: enrolment.max_decoding_message_size(ENROLMENT_MESSAGE_MAX),
        operators: operators.max_decoding_message_size(OPERATOR_MESSAGE_MAX),
        health,
        reflection,
    })
}

/// What a connection calls: the services, and who it is that calls.
pub struct Gate<H, R> {
    services: Arc<Services<H, R>>,
    peer: Peer,
    /// Until it is held.
    session: Mutex<Option<OneSession>>,
}

impl<H, R> Gate<H, R> {
    /// The services, for this peer.
    pub const fn new(services: Arc<Services<H, R>>, peer: Peer) -> Self {
        Self { services, peer, session: Mutex::new(None) }
    }

    /// The services, for an agent that may hold one session; with what is closed when that is over, and the connection is to end.
    pub fn with_a_session(services: Arc<Services<H, R>>, peer: Peer) -> (Self, oneshot::Receiver<()>) {
        let (session, over) = OneSession::new();
        (Self { services, peer, session: Mutex::new(Some(session)) }, over)
    }

    fn session(&self) -> Option<OneSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn admit(&self, request: &http::Request<Incoming>, service: &str) -> Result<Caller, Refusal> {
        let caller = admit(&self.peer, &self.services.fleet, service);
        let caller = caller.and_then(|caller| in_step(request, service).map(|()| caller));
        caller.inspect_err(|refusal| {
            // Those who are turned away are counted at the door.
            if matches!(refusal, Refusal::TurnedAway(_)) {
                return;
            }
            let who = match &self.peer {
                Peer::Remote { address, .. } => address.ip().to_string(),
                Peer::Local { name, .. } => format!("local user {name}"),
            };
            // The service's name is the caller's own text.
            self.services.port.refused(
                who,
                format!("a call of {}: {refusal}", service.escape_default().take(64).collect::<String>()),
            );
        })
    }
}

impl<H: Health, R: ServerReflection> hyper::service::Service<http::Request<Incoming>> for Gate<H, R> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn call(&self, mut request: http::Request<Incoming>) -> Self::Future {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        match self.admit(&request, &service) {
            Ok(caller) => drop(request.extensions_mut().insert(caller)),
            Err(refusal) => return answer(code::of_refusal(&refusal)),
        }
        let services = &self.services;
        match service.as_str() {
            AGENT => {
                if let Some(session) = self.session() {
                    request.extensions_mut().insert(session);
                }
                services.agents.clone().call(request)
            }
            ENROLMENT => services.enrolment.clone().call(request),
            OPERATOR => services.operators.clone().call(request),
            name if name == HealthServer::<H>::NAME => services.health.clone().call(request),
            name if name == ServerReflectionServer::<R>::NAME => services.reflection.clone().call(request),
            _ => answer(tonic::Status::unimplemented("there is no such service")),
        }
    }
}

/// Whether an operator's command line is of a version that we work with. One that says none is taken: it may be any client.
fn in_step(request: &http::Request<Incoming>, service: &str) -> Result<(), Refusal> {
    match request.headers().get(VERSION_METADATA) {
        // What is no text is no version.
        Some(theirs) if service == OPERATOR => {
            let theirs: String = theirs.to_str().unwrap_or("?").chars().take(VERSION_KEPT).collect();
            skew::look(&theirs).map_err(Refusal::Skew)
        }
        _ => Ok(()),
    }
}

fn answer(status: tonic::Status) -> BoxFuture<http::Response<Body>, Infallible> {
    Box::pin(std::future::ready(Ok(status.into_http())))
}
