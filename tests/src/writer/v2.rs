//! The version 2 API, by HTTP.

use std::collections::BTreeMap;
use std::sync::mpsc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Endpoint, PATIENCE};

/// An endpoint of the version 2 API.
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    pub fn new(url: &str) -> Self {
        let config =
            ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        Self { agent: ureq::Agent::new_with_config(config), url: url.to_owned() }
    }

    fn get(&self, key: &str, query: &str) -> Result<Value> {
        answer(self.agent.get(format!("{}/v2/keys{key}?{query}", self.url)).call()?)
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Value> {
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string()?;
    ensure!(response.status().is_success(), "{}: {}", response.status(), text.trim());
    serde_json::from_str(&text).with_context(|| format!("understanding {text}"))
}

impl Endpoint for Client {
    fn put(&mut self, key: &str, value: &str) -> Result<()> {
        let request = self.agent.put(format!("{}/v2/keys{key}", self.url));
        answer(request.send_form([("value", value)])?).map(|_| ())
    }

    fn all(&mut self, directory: &str) -> Result<BTreeMap<String, String>> {
        let found = self.get(directory, "recursive=true&quorum=true")?;
        let nodes = found["node"]["nodes"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |node: &Value| text(&node["key"]).rsplit('/').next().unwrap_or_default().to_owned();
        Ok(nodes.iter().map(|node| (name(node), text(&node["value"]))).collect())
    }

    fn watch_a_write(&mut self, key: &str, value: &str) -> Result<String> {
        // The watch is of the write after this one.
        self.put(key, "not yet")?;
        let before = self.get(key, "quorum=true")?;
        let index = before["node"]["modifiedIndex"].as_u64().context("a key without an index")?;
        let watch = self.agent.get(format!("{}/v2/keys{key}?wait=true&waitIndex={}", self.url, index + 1));
        let (sender, receiver) = mpsc::channel();
        // A thread is in the network of the one that starts it.
        std::thread::scope(|scope| {
            scope.spawn(move || sender.send(watch.call().map_err(anyhow::Error::from).and_then(answer)));
            self.put(key, value)?;
            let event = receiver.recv().context("the watch ended")??;
            Ok(event["node"]["value"].as_str().unwrap_or_default().to_owned())
        })
    }
}
