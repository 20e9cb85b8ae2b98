//! A key that is written, read, watched and taken away again through one endpoint, by either API.

use crate::action::Context;
use crate::etcd::v2::PROBES;
use crate::host::etcd::{Endpoint, Etcd, EtcdError, V2Answer, V2Call};
use std::fmt;
use std::time::Duration;
use wavegate_common::etcd::ClusterId;

/// After so long the key goes away by itself, whatever happens to the agent.
const TTL: Duration = Duration::from_secs(60);

/// Where the keys are.
const DIRECTORY: &str = "/wavegate/probe";

/// An API of etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// JSON over HTTP.
    V2,
    /// gRPC.
    V3,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "version 2 of the API",
            Self::V3 => "version 3 of the API",
        })
    }
}

/// What answered.
pub struct Told {
    pub cluster: ClusterId,
    pub api: Api,
}

/// A probe of one endpoint.
pub struct Probe {
    endpoint: Endpoint,
    key: String,
    value: String,
}

impl Probe {
    /// One that other nodes' probes are not in the way of.
    pub fn new(endpoint: &Endpoint, cx: &Context<'_>) -> Self {
        // Two nodes may have the same host name.
        let node = cx.node.map_or_else(|| cx.host.system().hostname, ToString::to_string);
        let key = format!("{DIRECTORY}/{node}");
        Self { endpoint: endpoint.clone(), key, value: format!("{} {}", cx.transaction, cx.host.now().0) }
    }

    /// Writes, reads, watches and takes away, by the first of the APIs that is served.
    ///
    /// # Errors
    /// [`EtcdError`] of what was not done.
    pub fn through(&self, apis: &[Api], cx: &Context<'_>) -> Result<Told, EtcdError> {
        let server = cx.host.etcd(&self.endpoint);
        let mut unsupported = None;
        for api in apis {
            let done = match api {
                Api::V2 => self.v2(&*server),
                Api::V3 => self.v3(&*server),
            };
            match done {
                Err(error @ EtcdError::Unsupported { .. }) => unsupported = Some(error),
                done => return done.map(|cluster| Told { cluster, api: *api }),
            }
        }
        Err(unsupported.unwrap_or_else(|| self.unusable("no API is known to ask it by")))
    }

    fn v3(&self, server: &dyn Etcd) -> Result<ClusterId, EtcdError> {
        let at = server.put(&self.key, &self.value, TTL)?;
        let seen = self.v3_seen(server, at);
        let taken = server.delete(&self.key);
        seen.and_then(|cluster| taken.map(|()| cluster))
    }

    fn v3_seen(&self, server: &dyn Etcd, at: u64) -> Result<ClusterId, EtcdError> {
        let got = server.get(&self.key)?;
        self.expect(got.value.as_deref(), "a read")?;
        self.expect(Some(&server.watch(&self.key, at)?), "a watch")?;
        Ok(got.cluster)
    }

    fn v2(&self, server: &dyn Etcd) -> Result<ClusterId, EtcdError> {
        let form = vec![("value", self.value.clone()), ("ttl", TTL.as_secs().to_string())];
        let written = self.call(server, "PUT", "", form)?;
        let seen = self.v2_seen(server, &written);
        let taken = self.call(server, "DELETE", "", Vec::new());
        // Version 2 keeps directories. One that another node's probe is in stays (403), until that node takes it away.
        let mut left = [DIRECTORY, PROBES].iter().map(|directory| {
            let path = format!("/v2/keys{directory}?dir=true");
            server.v2(&V2Call { method: "DELETE", path, form: Vec::new() })
        });
        let taken = taken.and_then(|_| left.try_for_each(|answer| answer.map(drop)));
        seen.and_then(|cluster| taken.map(|()| cluster))
    }

    fn v2_seen(&self, server: &dyn Etcd, written: &V2Answer) -> Result<ClusterId, EtcdError> {
        let index = body(written)["node"]["modifiedIndex"].as_u64();
        let index = index.ok_or_else(|| self.unusable("a write is answered without its index"))?;
        let read = self.call(server, "GET", "?quorum=true", Vec::new())?;
        self.expect(body(&read)["node"]["value"].as_str(), "a read")?;
        let watched = self.call(server, "GET", &format!("?wait=true&waitIndex={index}"), Vec::new())?;
        self.expect(body(&watched)["node"]["value"].as_str(), "a watch")?;
        read.cluster.ok_or_else(|| self.unusable("an answer does not say of which cluster it is"))
    }

    fn call(
        &self,
        server: &dyn Etcd,
        method: &'static str,
        query: &str,
        form: Vec<(&'static str, String)>,
    ) -> Result<V2Answer, EtcdError> {
        let path = format!("/v2/keys{}{query}", self.key);
        let answer = server.v2(&V2Call { method, path, form })?;
        let url = || self.endpoint.url.clone();
        let said = || answer.body.trim().chars().take(200).collect::<String>();
        match answer.status {
            200 | 201 => Ok(answer),
            // etcd's own answers about keys are JSON; this is that of a server without the API.
            404 if !answer.body.trim_start().starts_with('{') => {
                Err(EtcdError::Unsupported { url: url(), reason: format!("{method} of a key: {}", said()) })
            }
            // Taken away by its time already.
            404 if method == "DELETE" => Ok(answer),
            status => Err(EtcdError::Refused {
                url: url(),
                reason: format!("{method} of a key: status {status}: {}", said()),
            }),
        }
    }

    fn expect(&self, value: Option<&str>, by: &str) -> Result<(), EtcdError> {
        if value == Some(self.value.as_str()) {
            return Ok(());
        }
        let got = value.map_or_else(|| "nothing".to_owned(), |value| format!("'{value}'"));
        Err(self.unusable(&format!("{by} of {} brings {got} in place of what was just written", self.key)))
    }

    fn unusable(&self, what: &str) -> EtcdError {
        EtcdError::Unusable { what: format!("{}: {what}", self.endpoint.url) }
    }
}

fn body(answer: &V2Answer) -> serde_json::Value {
    serde_json::from_str(&answer.body).unwrap_or_default()
}
