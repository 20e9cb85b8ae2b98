//! What etcd serves by HTTP: `/version`, `/health` and the version 2 API. No proxy, no redirects: one server is meant.

use super::access::{Credentials, advice};
use crate::host::etcd::{Endpoint, EtcdError, Running, V2Answer, V2Call};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use wavegate_common::etcd::EtcdVersion;

/// Bytes of an answer that are kept.
const ANSWER_LIMIT: u64 = 256 << 20;

/// Bytes of an answer that get into an error.
const SAID_LIMIT: usize = 200;

fn url(endpoint: &Endpoint, path: &str) -> String {
    format!("{}{path}", endpoint.url.trim_end_matches('/'))
}

fn get(path: &str) -> V2Call {
    V2Call { method: "GET", path: path.to_owned(), form: Vec::new() }
}

fn unusable(endpoint: &Endpoint, path: &str, what: impl std::fmt::Display) -> EtcdError {
    EtcdError::Unusable { what: format!("the answer of {} can't be used: {what}", url(endpoint, path)) }
}

fn refused(endpoint: &Endpoint, answer: &V2Answer) -> EtcdError {
    let said: String = answer.body.trim().chars().take(SAID_LIMIT).collect();
    EtcdError::Refused { url: endpoint.url.clone(), reason: format!("status {}: {said}", answer.status) }
}

/// `GET /version`.
pub(super) fn version(endpoint: &Endpoint) -> Result<Running, EtcdError> {
    let answer = v2(endpoint, &get("/version"))?;
    if answer.status != 200 {
        return Err(refused(endpoint, &answer));
    }
    running(&answer.body).map_err(|what| unusable(endpoint, "/version", what))
}

/// Reads `{"etcdserver":"3.3.25","etcdcluster":"3.3.0"}`, and 2.0's `etcd 2.0.11`.
fn running(body: &str) -> Result<Running, String> {
    let Ok(answer) = serde_json::from_str::<serde_json::Value>(body) else {
        let server = body.parse().map_err(|error| format!("{error}"))?;
        return Ok(Running { server, cluster: None });
    };
    let version = |name: &str| answer.get(name).and_then(|text| text.as_str()?.parse::<EtcdVersion>().ok());
    let server = version("etcdserver").ok_or("it has no version as 'etcdserver'")?;
    // `not_decided` until the first leader has settled it.
    Ok(Running { server, cluster: version("etcdcluster") })
}

/// `GET /health`.
pub(super) fn health(endpoint: &Endpoint) -> Result<(), EtcdError> {
    let answer = v2(endpoint, &get("/health"))?;
    if answer.status == 200 && healthy(&answer.body) { Ok(()) } else { Err(refused(endpoint, &answer)) }
}

/// Reads `{"health":"true"}`, and `{"health":true}` of some versions.
fn healthy(body: &str) -> bool {
    let answer = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    answer.get("health").is_some_and(|health| health.as_bool().unwrap_or(health == "true"))
}

/// A call of the version 2 API, or of anything else at that server.
pub(super) fn v2(endpoint: &Endpoint, call: &V2Call) -> Result<V2Answer, EtcdError> {
    let credentials = Credentials::read(endpoint)?;
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(endpoint.timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None);
    let config =
        if endpoint.url.starts_with("https://") { config.tls_config(credentials.of_http()?) } else { config };
    let agent: ureq::Agent = config.build().into();
    let url = url(endpoint, &call.path);
    let who = credentials.user.as_ref().map(|(name, password)| basic(name, password));
    let sent = match call.method {
        "GET" => signed(agent.get(&url), who).call(),
        "DELETE" => signed(agent.delete(&url), who).call(),
        "PUT" => signed(agent.put(&url), who)
            .send_form(call.form.iter().map(|(name, value)| (*name, value.as_str()))),
        other => return Err(EtcdError::Unusable { what: format!("etcd has no method {other}") }),
    };
    let mut answer = sent.map_err(|error| unreachable(endpoint, &error))?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| header(name).and_then(|number| number.parse().ok());
    let (raft_index, raft_term) = (number("X-Raft-Index"), number("X-Raft-Term"));
    let cluster = header("X-Etcd-Cluster-Id").and_then(|id| id.parse().ok());
    let mut body = Vec::new();
    let reader = answer.body_mut().as_reader();
    let read = reader.take(ANSWER_LIMIT).read_to_end(&mut body);
    read.map_err(|error| unreachable(endpoint, &ureq::Error::from(error)))?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(V2Answer { status: answer.status().as_u16(), cluster, raft_index, raft_term, body })
}

/// What there is instead of the version 3 API where the words that HTTP/2 begins with are answered by HTTP/1: a server before 3.0, or
/// `etcd --proxy`. By TLS that is told when the connection is made.
pub(super) fn instead(endpoint: &Endpoint) -> Option<EtcdError> {
    let address = endpoint.url.strip_prefix("http://")?.trim_end_matches('/');
    let asked = || {
        let address = address.to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, endpoint.timeout)?;
        stream.set_read_timeout(Some(endpoint.timeout))?;
        // The preface and an empty SETTINGS frame (RFC 9113, 3.4).
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    (asked().ok()? == *b"HTTP/1.").then(|| EtcdError::Unsupported {
        url: endpoint.url.clone(),
        reason: "it speaks HTTP/1 alone, so it has no version 3 API".to_owned(),
    })
}

fn signed<B>(request: ureq::RequestBuilder<B>, who: Option<String>) -> ureq::RequestBuilder<B> {
    match who {
        Some(who) => request.header("Authorization", who),
        None => request,
    }
}

/// The header's value that names a user and a password.
fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

fn unreachable(endpoint: &Endpoint, error: &ureq::Error) -> EtcdError {
    let reason = match error {
        ureq::Error::Timeout(_) => format!("no answer within {:.0} s", endpoint.timeout.as_secs_f64()),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    let advice = advice(endpoint, &reason);
    EtcdError::Unreachable { url: endpoint.url.clone(), reason: reason + &advice }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_of_all_ages_are_read() {
        let running = |body| {
            running(body).map(|running| (running.server.to_string(), running.cluster.map(|v| v.to_string())))
        };
        let both = |server: &str, cluster: &str| Ok((server.to_owned(), Some(cluster.to_owned())));
        assert_eq!(running("etcd 2.0.11"), Ok(("2.0.11".to_owned(), None)));
        assert_eq!(running(r#"{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}"#), both("2.3.8", "2.3.0"));
        let newest = r#"{"etcdserver":"3.6.4","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
        assert_eq!(running(newest), both("3.6.4", "3.6.0"));
        let young = r#"{"etcdserver":"3.5.16","etcdcluster":"not_decided"}"#;
        assert_eq!(running(young), Ok(("3.5.16".to_owned(), None)));
        for bad in ["", "404 page not found", "{}", r#"{"etcdserver":3}"#] {
            assert!(running(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn health_is_read_as_every_version_writes_it() {
        for good in [r#"{"health":"true"}"#, r#"{"health": true}"#, r#"{"health":"true","reason":""}"#] {
            assert!(healthy(good), "{good}");
        }
        for bad in [
            r#"{"health":"false"}"#,
            r#"{"health":false}"#,
            r#"{"health":"false","reason":"ALARM NOSPACE"}"#,
            "",
            "true",
            "ok",
        ] {
            assert!(!healthy(bad), "{bad}");
        }
    }

    #[test]
    fn a_user_is_named_as_http_does() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(body in any::<String>()) {
            let _ = (running(&body), healthy(&body));
        }
    }
}
