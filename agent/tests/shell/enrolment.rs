//! Enrolment against a coordinator on loopback: what is kept, and what is said when it does not come about.

use crate::coordinator::Coordinator;
use crate::pki::{Authority, FLEET};
use crate::support::node;
use std::sync::Arc;
use tonic::Status;
use wavegate_agent::credentials::{self, CredentialsError};
use wavegate_agent::enrol::{EnrolError, enrol};
use wavegate_proto::tls;
use wavegate_proto::token::JoinToken;
use wavegate_proto::v1::EnrolResponse;

/// A coordinator that signs for `who`, names this authority, and knows the token with this secret only.
async fn coordinator(authority: &Arc<Authority>, who: &'static str, ca_pem: String) -> Coordinator {
    let signer = authority.clone();
    let enrol = move |request: wavegate_proto::v1::EnrolRequest| {
        if request.token_secret != "5a".repeat(32) {
            return Err(Status::failed_precondition("the token was used on 2026-11-22"));
        }
        let certificate_pem = signer.sign(&request.csr_pem, who);
        Ok(EnrolResponse { fleet: FLEET.to_owned(), certificate_pem, ca_pem: ca_pem.clone() })
    };
    Coordinator::enrolling(&authority.coordinator(), Arc::new(enrol)).await
}

fn token(authority: &Authority, secret: &str) -> JoinToken {
    let ca_sha256 = tls::fingerprint(&authority.ca_pem).expect("a fingerprint");
    JoinToken { id: "0a".repeat(8), secret: secret.repeat(32), ca_sha256 }
}

fn said(error: &EnrolError) -> String {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[tokio::test]
async fn a_node_gets_its_certificate_once() {
    let authority = Arc::new(Authority::new());
    let coordinator = coordinator(&authority, "node/compute-1", authority.ca_pem.clone()).await;
    let state = tempfile::tempdir().expect("a directory");
    let (token, address) = (token(&authority, "5a"), &coordinator.address);
    let fleet = enrol(state.path(), &token, address, &node(), false).await.expect("enrolled");
    let enrolled = credentials::load(state.path()).expect("credentials");
    assert_eq!((fleet.as_str(), enrolled.fleet.as_str(), enrolled.node), (FLEET, FLEET, node()));
    tls::client(&enrolled.credentials).expect("certificate and key belong together");

    let again = enrol(state.path(), &token, address, &node(), false).await.expect_err("it has one");
    insta::assert_snapshot!(said(&again), @r"
    this node is enrolled already, as compute-1 of fleet test; to replace its certificate, add --force
    ");
    enrol(state.path(), &token, address, &node(), true).await.expect("by force");
    let renewed = credentials::load(state.path()).expect("credentials");
    assert_ne!(renewed.credentials.key_pem, enrolled.credentials.key_pem);
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_again_with_the_same_key() {
    let authority = Arc::new(Authority::new());
    let signer = authority.clone();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let enrol_once = move |request: wavegate_proto::v1::EnrolRequest| {
        let mut seen = seen.lock().expect("no panic before");
        seen.push(request.csr_pem.clone());
        if seen.len() == 1 {
            return Err(Status::unavailable("the connection broke after the coordinator had signed"));
        }
        let certificate_pem = signer.sign(&request.csr_pem, "node/compute-1");
        Ok(EnrolResponse { fleet: FLEET.to_owned(), certificate_pem, ca_pem: signer.ca_pem.clone() })
    };
    let coordinator = Coordinator::enrolling(&authority.coordinator(), Arc::new(enrol_once)).await;
    let state = tempfile::tempdir().expect("a directory");
    let token = token(&authority, "5a");
    let lost = enrol(state.path(), &token, &coordinator.address, &node(), false).await.expect_err("lost");
    assert!(said(&lost).contains("try again with the same token"), "{}", said(&lost));
    enrol(state.path(), &token, &coordinator.address, &node(), false).await.expect("enrolled");
    let keys: Vec<String> = asked.lock().expect("no panic").iter().map(|csr| public_key(csr)).collect();
    assert_eq!(keys[0], keys[1], "the key that the coordinator may have signed for");
    assert!(!state.path().join("enrolling-key.pem").exists(), "it is forgotten when it has served");
}

fn public_key(csr_pem: &str) -> String {
    let csr = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
    format!("{:?}", rcgen::PublicKeyData::der_bytes(&csr.public_key))
}

#[tokio::test]
async fn a_token_that_is_not_taken_says_what_to_do() {
    let authority = Arc::new(Authority::new());
    let coordinator = coordinator(&authority, "node/compute-1", authority.ca_pem.clone()).await;
    let state = tempfile::tempdir().expect("a directory");
    let refused = enrol(state.path(), &token(&authority, "66"), &coordinator.address, &node(), false).await;
    let text = said(&refused.expect_err("used")).replace(coordinator.address.as_str(), "HOST:PORT");
    insta::assert_snapshot!(text, @r"
    the coordinator at HOST:PORT refused to enrol compute-1: the token was used on 2026-11-22. Make a new token with `wavegate token create` and enrol with it
    ");
    assert!(matches!(credentials::load(state.path()), Err(CredentialsError::None { .. })));
}

#[tokio::test]
async fn the_tokens_authority_is_the_only_one_that_is_trusted() {
    let authority = Arc::new(Authority::new());
    let coordinator = coordinator(&authority, "node/compute-1", authority.ca_pem.clone()).await;
    let state = tempfile::tempdir().expect("a directory");
    let foreign = token(&Authority::new(), "5a");
    let refused = enrol(state.path(), &foreign, &coordinator.address, &node(), false).await;
    let text = said(&refused.expect_err("foreign")).replace(coordinator.address.as_str(), "HOST:PORT");
    insta::assert_snapshot!(text, @r"
    what answers at HOST:PORT is not the join token's coordinator, but one of another authority; the token was not shown to it and works still: set the address of the token's coordinator, or use a token of that one
    ");
}

#[tokio::test]
async fn an_answer_that_is_not_for_this_node_is_not_kept() {
    let authority = Arc::new(Authority::new());
    let own = authority.ca_pem.clone();
    for (who, ca_pem, reason) in [
        ("node/compute-2", own.clone(), "it is for spiffe://test/node/compute-2, not for node compute-1"),
        ("operator/compute-1", own, "it is for spiffe://test/operator/compute-1, not for node compute-1"),
        ("node/compute-1", Authority::new().ca_pem, "its authority is not the one that the token names"),
    ] {
        let coordinator = coordinator(&authority, who, ca_pem).await;
        let state = tempfile::tempdir().expect("a directory");
        let token = token(&authority, "5a");
        let error = enrol(state.path(), &token, &coordinator.address, &node(), false).await.expect_err(who);
        assert!(said(&error).contains(reason), "{}", said(&error));
        assert!(matches!(credentials::load(state.path()), Err(CredentialsError::None { .. })));
    }
}
