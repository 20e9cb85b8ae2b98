//! A cluster as its members tell it by the version 2 API, which is all that etcd 2.x has: JSON over HTTP.
//!
//! The shapes are those of etcd's documentation (Documentation/v2/api.md, members_api.md, auth_api.md, admin_guide.md) and of
//! its handlers (etcdserver/etcdhttp/client.go).

use super::reach::addresses;
use crate::host::Host;
use crate::host::etcd::{Endpoint, Etcd, EtcdError, V2Answer, V2Call};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wavegate_common::etcd::{
    ClusterId, ClusterView, EtcdVersion, MemberId, MemberState, MemberStatus, MemberView,
};

/// The directory of what agents write to prove that etcd serves its clients: it is nobody's data.
pub const PROBES: &str = "/wavegate";

/// `/v2/members`.
#[derive(Deserialize)]
struct Listing {
    members: Vec<Listed>,
}

/// A member of it. One that never started has neither name nor URLs for clients.
#[derive(Deserialize)]
struct Listed {
    id: MemberId,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
}

/// `/v2/members/leader`.
#[derive(Deserialize)]
struct Leader {
    id: MemberId,
}

/// `/v2/stats/self`.
#[derive(Deserialize)]
struct OfItself {
    id: MemberId,
    state: String,
    #[serde(rename = "leaderInfo")]
    leader_info: LeaderInfo,
}

#[derive(Deserialize)]
struct LeaderInfo {
    /// Empty before a first leader.
    #[serde(default)]
    leader: String,
}

/// `/v2/keys/`.
#[derive(Deserialize)]
struct Root {
    node: Directory,
}

#[derive(Deserialize)]
struct Directory {
    #[serde(default)]
    nodes: Vec<Below>,
}

#[derive(Deserialize)]
struct Below {
    #[serde(default)]
    key: String,
}

/// `/v2/auth/enable`.
#[derive(Deserialize)]
struct Auth {
    enabled: bool,
}

/// What one member told.
struct Told {
    status: MemberStatus,
    cluster: Option<EtcdVersion>,
    keys: bool,
}

/// A cluster by the version 2 API: the members as the first of `seeds` lists them that answers, then every member by itself.
///
/// # Errors
/// That of the first seed, if none answers.
pub fn view(host: &dyn Host, seeds: &[Endpoint]) -> Result<ClusterView, EtcdError> {
    view_through(&|endpoint| host.etcd(endpoint), seeds)
}

/// The door to one server.
type Door<'a> = &'a (dyn Fn(&Endpoint) -> Box<dyn Etcd + 'a> + Sync);

fn view_through(door: Door<'_>, seeds: &[Endpoint]) -> Result<ClusterView, EtcdError> {
    let mut first = None;
    for seed in seeds {
        match seen_from(door, seed) {
            Ok(view) => return Ok(view),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| EtcdError::Unusable { what: "no server of etcd is known to ask".to_owned() }))
}

/// The id of the cluster and whoever answers for it: of a proxy the cluster that it leads to.
///
/// # Errors
/// [`EtcdError`].
pub fn cluster(server: &dyn Etcd, url: &str) -> Result<ClusterId, EtcdError> {
    listing(server, url).map(|(id, _)| id)
}

/// Which member answers at a server.
///
/// # Errors
/// [`EtcdError`].
pub fn member(server: &dyn Etcd, url: &str) -> Result<MemberId, EtcdError> {
    let itself: OfItself = answer(server, url, "/v2/stats/self")?.1;
    Ok(itself.id)
}

fn seen_from(door: Door<'_>, seed: &Endpoint) -> Result<ClusterView, EtcdError> {
    let server = door(seed);
    let (id, listed) = listing(&*server, &seed.url)?;
    let auth = auth(&*server);
    let mut view = ClusterView {
        id,
        version: None,
        members: Vec::new(),
        alarms: Vec::new(),
        auth,
        v2_keys: None,
        v3_keys: None,
    };
    let told = everyone(door, seed, &listed);
    for (listed, told) in listed.into_iter().zip(told) {
        if let Ok(told) = &told {
            view.version = view.version.or(told.cluster);
            view.v2_keys = Some(view.v2_keys == Some(true) || told.keys);
        }
        let Listed { id, name, peer_urls, client_urls } = listed;
        let state = match told {
            Ok(told) => MemberState::Up(told.status),
            Err(why) => MemberState::Down { why },
        };
        view.members.push(MemberView { id, name, peer_urls, client_urls, learner: false, state });
    }
    view.members.sort_unstable_by_key(|member| member.id);
    Ok(view)
}

fn listing(server: &dyn Etcd, url: &str) -> Result<(ClusterId, Vec<Listed>), EtcdError> {
    let (answer, listing) = answer::<Listing>(server, url, "/v2/members")?;
    let unnamed =
        || EtcdError::Unusable { what: format!("{url}/v2/members does not say of which cluster it is") };
    Ok((answer.cluster.ok_or_else(unnamed)?, listing.members))
}

/// Whether users and passwords are asked for; `None` if that can't be found out. 2.0 knows no such thing.
fn auth(server: &dyn Etcd) -> Option<bool> {
    let answer = server.v2(&get("/v2/auth/enable")).ok()?;
    match answer.status {
        200 => serde_json::from_str::<Auth>(&answer.body).ok().map(|auth| auth.enabled),
        404 => Some(false),
        _ => None,
    }
}

/// What every member tells, all asked at the same time: up to 2.3 it takes one up to 0.75 s to say whether it is healthy.
fn everyone(door: Door<'_>, seed: &Endpoint, listed: &[Listed]) -> Vec<Result<Told, String>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            listed.iter().map(|listed| scope.spawn(move || of_member(door, seed, listed))).collect();
        let told = asked.into_iter().map(|told| told.join());
        told.map(|told| told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// What a member tells at the first of its addresses that answers; else why none does.
fn of_member(door: Door<'_>, seed: &Endpoint, listed: &Listed) -> Result<Told, String> {
    let mut why = None;
    let urls = addresses(&listed.client_urls, &listed.peer_urls);
    // A member that listens on its own machine alone is asked from there; whoever answers says which member it is.
    let own = listed.client_urls.iter().filter(|url| !urls.contains(url));
    for url in urls.iter().chain(own).cloned() {
        let endpoint = Endpoint { url, ..seed.clone() };
        match told(&*door(&endpoint), &endpoint.url, listed.id) {
            Ok(told) => return Ok(told),
            Err(error) => why = why.or(Some(error.to_string())),
        }
    }
    Err(why.unwrap_or_else(|| "it lists no address for clients: it never started".to_owned()))
}

fn told(server: &dyn Etcd, url: &str, id: MemberId) -> Result<Told, EtcdError> {
    let unusable = |what: String| EtcdError::Unusable { what };
    let itself: OfItself = answer(server, url, "/v2/stats/self")?.1;
    if itself.id != id {
        return Err(unusable(format!("at {url} member {} answers, and not {id}", itself.id)));
    }
    let running = server.version()?;
    let (answer, root): (V2Answer, Root) = answer(server, url, "/v2/keys/")?;
    let index =
        answer.raft_index.ok_or_else(|| unusable(format!("{url} does not say at which raft index it is")))?;
    let healthy = match server.health() {
        Ok(()) => true,
        Err(EtcdError::Refused { .. }) => false,
        Err(error) => return Err(error),
    };
    let status = MemberStatus {
        version: running.server,
        term: answer.raft_term.unwrap_or_default(),
        index,
        applied: None,
        leader: leader(server, url, &itself)?,
        db_bytes: 0,
        healthy,
        errors: Vec::new(),
    };
    Ok(Told {
        status,
        cluster: running.cluster,
        keys: root.node.nodes.iter().any(|below| below.key != PROBES),
    })
}

/// The leader as a member knows it. 2.0 tells it in its statistics alone, which keep the last one while there is none.
fn leader(server: &dyn Etcd, url: &str, itself: &OfItself) -> Result<Option<MemberId>, EtcdError> {
    let path = "/v2/members/leader";
    let answer = server.v2(&get(path))?;
    Ok(match (answer.status, itself.state.as_str()) {
        (200, _) => Some(read::<Leader>(&answer, url, path)?.id),
        // During an election.
        (503, _) => None,
        (_, "StateLeader") => Some(itself.id),
        (_, "StateFollower") => itself.leader_info.leader.parse().ok(),
        (_, _) => None,
    })
}

fn get(path: &str) -> V2Call {
    V2Call { method: "GET", path: path.to_owned(), form: Vec::new() }
}

fn answer<T: DeserializeOwned>(server: &dyn Etcd, url: &str, path: &str) -> Result<(V2Answer, T), EtcdError> {
    let answer = server.v2(&get(path))?;
    let said = |answer: &V2Answer| answer.body.trim().chars().take(200).collect::<String>();
    match answer.status {
        200 => {
            let content = read(&answer, url, path)?;
            Ok((answer, content))
        }
        404 => {
            Err(EtcdError::Unsupported { url: url.to_owned(), reason: format!("{path}: {}", said(&answer)) })
        }
        status => {
            let reason = format!("{path}: status {status}: {}", said(&answer));
            Err(EtcdError::Refused { url: url.to_owned(), reason })
        }
    }
}

fn read<T: DeserializeOwned>(answer: &V2Answer, url: &str, path: &str) -> Result<T, EtcdError> {
    serde_json::from_str(&answer.body).map_err(|error| EtcdError::Unusable {
        what: format!("the answer of {url}{path} can't be used: {error}"),
    })
}

#[cfg(test)]
mod tests;
