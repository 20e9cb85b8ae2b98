//! The keys of the version 2 API of a fake cluster, as JSON over HTTP.

use super::{FakeCluster, FakeMember};
use crate::host::etcd::{V2Answer, V2Call};
use serde_json::{Value, json};

/// The first value that was written to a key at or after a revision.
pub(super) fn written(cluster: &FakeCluster, key: &str, from: u64) -> Option<String> {
    let found = cluster.writes.iter().find(|(at, written, _)| *at >= from && written == key);
    found.map(|(_, _, value)| value.clone())
}

/// What a server answers to a call.
pub(super) fn answer(
    cluster: &mut FakeCluster,
    member: &FakeMember,
    served: bool,
    deaf: bool,
    call: &V2Call,
) -> V2Answer {
    let (path, query) = call.path.split_once('?').unwrap_or((call.path.as_str(), ""));
    let has = |word: &str| query.split('&').any(|part| part == word);
    let answered = |status: u16, body: &Value| V2Answer {
        status,
        cluster: Some(cluster.id),
        body: body.to_string(),
        ..V2Answer::default()
    };
    if !served {
        return V2Answer {
            status: 404,
            cluster: None,
            body: "404 page not found\n".to_owned(),
            ..V2Answer::default()
        };
    }
    if path == "/v2/members" {
        let members: Vec<Value> = cluster
            .members
            .iter()
            .map(|member| {
                json!({"id": member.id.to_string(), "name": member.name,
                       "peerURLs": [member.peer_url], "clientURLs": [member.client_url]})
            })
            .collect();
        return answered(200, &json!({ "members": members }));
    }
    if path == "/v2/members/leader" {
        return match cluster.leader {
            Some(leader) => answered(200, &json!({"id": leader.to_string()})),
            None => answered(503, &json!({"message": "During election"})),
        };
    }
    if path == "/v2/stats/self" {
        let leader = cluster.leader.map(|leader| leader.to_string()).unwrap_or_default();
        let state = if cluster.leader == Some(member.id) { "StateLeader" } else { "StateFollower" };
        let itself = json!({"id": member.id.to_string(), "name": member.name, "state": state,
                            "leaderInfo": {"leader": leader}});
        return answered(200, &itself);
    }
    if path == "/v2/auth/enable" {
        return answered(200, &json!({"enabled": cluster.auth}));
    }
    let Some(key) = path.strip_prefix("/v2/keys") else {
        return V2Answer {
            status: 404,
            cluster: None,
            body: "404 page not found\n".to_owned(),
            ..V2Answer::default()
        };
    };
    // What a member has itself it tells without the others.
    if !cluster.has_quorum() && (call.method != "GET" || has("quorum=true")) {
        return answered(
            500,
            &json!({"errorCode": 300, "message": "Raft Internal Error", "index": cluster.index}),
        );
    }
    let key = if key.is_empty() { "/" } else { key };
    match call.method {
        "PUT" => put(cluster, key, call),
        "DELETE" if has("dir=true") => take_directory(cluster, key),
        "DELETE" => {
            let before = cluster.v2_keys.remove(key);
            cluster.index += 1;
            let status = if before.is_some() { 200 } else { 404 };
            V2Answer {
                status,
                cluster: Some(cluster.id),
                body: json!({"action": "delete"}).to_string(),
                ..V2Answer::default()
            }
        }
        _ if has("wait=true") => {
            let from = query.split('&').find_map(|part| part.strip_prefix("waitIndex=")?.parse().ok());
            match written(cluster, key, from.unwrap_or(0)).filter(|_| !deaf) {
                Some(value) => answered(200, &json!({"action": "set", "node": {"key": key, "value": value}})),
                // What ends before something came has nothing in it.
                None => V2Answer {
                    status: 200,
                    cluster: Some(cluster.id),
                    body: String::new(),
                    ..V2Answer::default()
                },
            }
        }
        _ => {
            let raft_index = Some(cluster.index_of(member.id));
            V2Answer { raft_index, raft_term: Some(cluster.term), ..get(cluster, key, has("recursive=true")) }
        }
    }
}

fn put(cluster: &mut FakeCluster, key: &str, call: &V2Call) -> V2Answer {
    let value = call.form.iter().find(|(name, _)| *name == "value").map_or("", |(_, value)| value.as_str());
    let directories =
        key.match_indices('/').map(|(at, _)| &key[..at]).filter(|directory| !directory.is_empty());
    cluster.v2_dirs.extend(directories.map(str::to_owned));
    let new = cluster.v2_keys.insert(key.to_owned(), value.to_owned()).is_none();
    let index = cluster.write(key, value);
    let node = json!({"key": key, "value": value, "modifiedIndex": index, "createdIndex": index});
    V2Answer {
        status: if new { 201 } else { 200 },
        cluster: Some(cluster.id),
        body: json!({"action": "set", "node": node}).to_string(),
        ..V2Answer::default()
    }
}

/// A directory is taken away if nothing is in it.
fn take_directory(cluster: &mut FakeCluster, key: &str) -> V2Answer {
    let start = format!("{key}/");
    let mut all = cluster.v2_keys.keys().chain(&cluster.v2_dirs);
    let (status, code) = if all.any(|name| name.starts_with(&start)) {
        (403, 108)
    } else if cluster.v2_dirs.remove(key) {
        (200, 0)
    } else {
        (404, 100)
    };
    let body = if code == 0 { json!({"action": "delete"}) } else { json!({"errorCode": code, "cause": key}) };
    V2Answer { status, cluster: Some(cluster.id), body: body.to_string(), ..V2Answer::default() }
}

/// A key, or a directory with what is in it; with everything below it keys are shown without the directories between.
fn get(cluster: &FakeCluster, key: &str, recursive: bool) -> V2Answer {
    let (id, index) = (Some(cluster.id), cluster.index);
    let node = |key: &str, value: &str| json!({"key": key, "value": value, "modifiedIndex": index, "createdIndex": index});
    if let Some(value) = cluster.v2_keys.get(key) {
        let body = json!({"action": "get", "node": node(key, value)});
        return V2Answer { status: 200, cluster: id, body: body.to_string(), ..V2Answer::default() };
    }
    let start = format!("{}/", key.trim_end_matches('/'));
    let is_in = |name: &str| name.strip_prefix(&start).is_some_and(|below| recursive || !below.contains('/'));
    let keys = cluster.v2_keys.iter().filter(|(name, _)| is_in(name)).map(|(name, value)| node(name, value));
    let directories = cluster.v2_dirs.iter().filter(|name| !recursive && is_in(name));
    let below: Vec<Value> = keys.chain(directories.map(|name| json!({"key": name, "dir": true}))).collect();
    if below.is_empty() && key != "/" && !cluster.v2_dirs.contains(key) {
        let body = json!({"errorCode": 100, "message": "Key not found", "cause": key, "index": index});
        return V2Answer { status: 404, cluster: id, body: body.to_string(), ..V2Answer::default() };
    }
    let body = json!({"action": "get", "node": {"dir": true, "nodes": below}});
    V2Answer { status: 200, cluster: id, body: body.to_string(), ..V2Answer::default() }
}
