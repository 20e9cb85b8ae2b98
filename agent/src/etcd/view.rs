//! A cluster as its members tell it when each is asked by itself, by the version 3 API; where that is not served, `v2` asks.

use super::{reach, v2};
use crate::host::Host;
use crate::host::etcd::{Endpoint, Etcd, EtcdError, Member, Members, V2Call};
use wavegate_common::etcd::{ClusterView, EtcdVersion, MemberId, MemberState, MemberStatus, MemberView};

/// What one member told.
struct Told {
    state: MemberState,
    /// The version that it says its cluster speaks.
    speaks: Option<EtcdVersion>,
}

/// A cluster: the members as the first of `seeds` lists them that answers, then every member by itself at the addresses that it
/// tells clients, all at the same time. It takes a few of the seeds' timeouts at most, however many members are dead.
///
/// # Errors
/// If none of the seeds answers; if one does, and refuses what a member must be asked: keys that can't be counted can't be backed up.
pub fn view(host: &dyn Host, seeds: &[Endpoint]) -> Result<ClusterView, EtcdError> {
    let mut failures = Vec::new();
    for seed in seeds {
        let server = host.etcd(seed);
        let members = match server.version() {
            Ok(running) if !running.serves_v3() => return v2::view(host, seeds),
            Ok(_) => server.members(),
            Err(error) => Err(error),
        };
        match members.and_then(|members| seen_from(host, seed, &*server, &members)) {
            // `etcd --proxy` tells a member's version, and passes the version 2 API on alone.
            Err(EtcdError::Unsupported { .. }) => return v2::view(host, seeds),
            Err(error) => failures.push(error),
            Ok(view) => return Ok(view),
        }
    }
    Err(nobody(failures))
}

/// Which member answers at a server, by the API that its cluster speaks.
///
/// # Errors
/// [`EtcdError`].
pub fn member(server: &dyn Etcd, url: &str) -> Result<MemberId, EtcdError> {
    if !server.version()?.serves_v3() {
        return v2::member(server, url);
    }
    match server.status() {
        // While it is not decided what the cluster speaks, the version does not tell it.
        Err(EtcdError::Unsupported { .. }) => v2::member(server, url),
        status => status.map(|status| status.member),
    }
}

/// Why there is no view: what somebody said who answered, else who does not answer.
fn nobody(mut failures: Vec<EtcdError>) -> EtcdError {
    let silent = |error: &EtcdError| matches!(error, EtcdError::Unreachable { .. });
    match failures.iter().position(|error| !silent(error)) {
        Some(at) => failures.swap_remove(at),
        None if failures.len() == 1 => failures.remove(0),
        None if failures.is_empty() => {
            EtcdError::Unusable { what: "no address is known at which etcd could be asked".to_owned() }
        }
        None => EtcdError::Unusable {
            what: failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        },
    }
}

fn seen_from(
    host: &dyn Host,
    seed: &Endpoint,
    server: &dyn Etcd,
    listed: &Members,
) -> Result<ClusterView, EtcdError> {
    let told = everyone(host, seed, &listed.members);
    let version = told.iter().filter_map(|told| told.speaks).min();
    let member = |(member, told): (&Member, Told)| MemberView {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        learner: member.learner,
        state: told.state,
    };
    let mut view = ClusterView {
        id: listed.cluster,
        version,
        members: listed.members.iter().zip(told).map(member).collect(),
        alarms: Vec::new(),
        auth: None,
        v2_keys: v2_keys(server, seed)?,
        v3_keys: Some(server.count()?),
    };
    // These are agreed on by the members, which without a leader they can't.
    if view.leader().is_some() {
        view.alarms = server.alarms()?;
        view.auth = server.auth().ok();
    }
    Ok(view)
}

fn everyone(host: &dyn Host, seed: &Endpoint, members: &[Member]) -> Vec<Told> {
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            members.iter().map(|member| scope.spawn(move || of_member(host, seed, member))).collect();
        let told = asked.into_iter().map(|told| told.join());
        told.map(|told| told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn of_member(host: &dyn Host, seed: &Endpoint, member: &Member) -> Told {
    let mut urls = reach::addresses(&member.client_urls, &member.peer_urls);
    // A member that listens on its own machine alone is asked from there; whoever answers says which member it is.
    let own = member.client_urls.iter().filter(|url| !urls.contains(url)).cloned().collect::<Vec<_>>();
    urls.extend(own);
    let mut why = Vec::new();
    for url in urls {
        let endpoint = Endpoint { url, ..seed.clone() };
        match itself(&*host.etcd(&endpoint), &endpoint.url, member) {
            Ok(told) => return told,
            Err(reason) => why.push(reason),
        }
    }
    if why.is_empty() {
        why.push("it has no address for clients: it never started".to_owned());
    }
    Told { state: MemberState::Down { why: why.join("; ") }, speaks: None }
}

/// What a member says of itself; why not, if it does not, or if it is another one.
fn itself(server: &dyn Etcd, url: &str, member: &Member) -> Result<Told, String> {
    let status = server.status().map_err(|error| match error {
        EtcdError::Unreachable { url, reason } => format!("{reason} ({url})"),
        other => other.to_string(),
    })?;
    if status.member != member.id {
        return Err(format!("at {url} member {} answers", status.member));
    }
    let told = MemberStatus {
        version: status.version,
        term: status.term,
        index: status.index,
        applied: status.applied,
        leader: status.leader,
        db_bytes: status.db_bytes,
        healthy: server.health().is_ok(),
        errors: status.errors,
    };
    Ok(Told {
        state: MemberState::Up(told),
        speaks: server.version().ok().and_then(|running| running.cluster),
    })
}

/// Whether there are keys of the version 2 API; `None` if it is not served.
fn v2_keys(server: &dyn Etcd, seed: &Endpoint) -> Result<Option<bool>, EtcdError> {
    let call = V2Call { method: "GET", path: "/v2/keys/".to_owned(), form: Vec::new() };
    let answer = server.v2(&call)?;
    let body = || serde_json::from_str::<serde_json::Value>(&answer.body).ok();
    match answer.status {
        404 => Ok(None),
        200 => match body().as_ref().and_then(|body| body.get("node")) {
            Some(root) => {
                let is_data = |below: &serde_json::Value| below["key"] != v2::PROBES;
                Ok(Some(root["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(is_data))))
            }
            None => {
                let what = format!("{}{} does not answer with a directory", seed.url, call.path);
                Err(EtcdError::Unusable { what })
            }
        },
        status => {
            let said: String = answer.body.trim().chars().take(200).collect();
            let reason = format!("GET {}: status {status}: {said}", call.path);
            Err(EtcdError::Refused { url: seed.url.clone(), reason })
        }
    }
}
