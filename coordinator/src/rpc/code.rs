//! Our errors as gRPC codes, in one exhaustive match each.

use super::auth::Refusal;
use crate::engine::{RequestError, told};
use crate::pki::PkiError;
use crate::store::StoreError;
use crate::token;
use tonic::{Code, Status};

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::NotFound(_) | RequestError::Store(StoreError::NoRolloutId(_)) => Code::NotFound,
            RequestError::NotNow(_)
            | RequestError::Illegal { .. }
            | RequestError::Plan(_)
            | RequestError::Skew { .. } => Code::FailedPrecondition,
            RequestError::Compile(_)
            | RequestError::Invalid(_)
            | RequestError::Pki(PkiError::Request { .. }) => Code::InvalidArgument,
            // The token is good, and will do once the node is declared: an agent keeps it and asks again.
            RequestError::Enrol(token::Refusal::NotDeclared { .. }) => Code::ResourceExhausted,
            RequestError::Enrol(_)
            | RequestError::OldCertificate { .. }
            | RequestError::NotEnrolled { .. } => Code::PermissionDenied,
            RequestError::Ending | RequestError::Store(_) => Code::Unavailable,
            RequestError::Pki(_) => Code::Internal,
        };
        // The text of a store's "no such rollout" is all there is to say.
        let text = match &error {
            RequestError::Store(inner @ StoreError::NoRolloutId(_)) => inner.to_string(),
            other => told(other),
        };
        Self::new(code, text)
    }
}

/// The answer to somebody who may not call.
pub(super) fn of_refusal(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::NoCertificate { .. } | Refusal::Nobody => Code::Unauthenticated,
        Refusal::Identity(_)
        | Refusal::OtherFleet { .. }
        | Refusal::NotFor { .. }
        | Refusal::LocalUser { .. } => Code::PermissionDenied,
        Refusal::NotHere { .. } => Code::Unimplemented,
        Refusal::Skew(_) => Code::FailedPrecondition,
        // There may be room later: an agent tries again by itself.
        Refusal::TurnedAway(_) => Code::ResourceExhausted,
    };
    Status::new(code, refusal.to_string())
}
