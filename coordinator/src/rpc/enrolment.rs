//! The enrolment service: the only one that a machine without a certificate may call.

use super::auth::{Caller, caller};
use crate::engine::{Enrol, Input, Port};
use tonic::{Request, Response, Status};
use wavegate_proto::v1::enrolment_service_server::EnrolmentService;
use wavegate_proto::v1::{EnrolRequest, EnrolResponse};

/// The enrolment service.
pub(super) struct Enrolment {
    port: Port,
}

impl Enrolment {
    pub(super) const fn new(port: Port) -> Self {
        Self { port }
    }
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let from = match caller(&request)? {
            Caller::Applicant { address } => address.ip().to_string(),
            Caller::Node { .. } | Caller::Operator(_) | Caller::Member => {
                return Err(Status::permission_denied("this service is for machines that are no node yet"));
            }
        };
        let EnrolRequest { token_id, token_secret, node, csr_pem } = request.into_inner();
        let enrol = Box::new(Enrol { token_id, token_secret, node, csr_pem, from });
        let enrolled = self.port.ask(|reply| Input::Enrol(enrol, reply)).await?;
        Ok(Response::new(EnrolResponse {
            fleet: enrolled.fleet.to_string(),
            certificate_pem: enrolled.certificate_pem,
            ca_pem: enrolled.ca_pem,
        }))
    }
}
