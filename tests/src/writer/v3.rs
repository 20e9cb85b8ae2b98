//! The version 3 API, by gRPC.

use std::collections::BTreeMap;
use std::future::Future;

use anyhow::{Context, Result, bail};
use etcd_client::{ConnectOptions, GetOptions};
use tokio::runtime::{Builder, Runtime};

use super::{Endpoint, PATIENCE};

/// An endpoint of the version 3 API.
pub struct Client {
    // Of one thread: all it opens is in that thread's network.
    runtime: Runtime,
    url: String,
    connected: Option<etcd_client::Client>,
}

impl Client {
    pub fn new(url: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        Ok(Self { runtime, url: url.to_owned(), connected: None })
    }

    fn connected(&mut self) -> Result<etcd_client::Client> {
        if let Some(client) = &self.connected {
            return Ok(client.clone());
        }
        let options = ConnectOptions::new().with_connect_timeout(PATIENCE);
        let url = self.url.clone();
        let connect = async move { etcd_client::Client::connect([url], Some(options)).await };
        let client = self.in_time(connect)?;
        self.connected = Some(client.clone());
        Ok(client)
    }

    fn in_time<T>(&self, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T> {
        let bounded = async { tokio::time::timeout(PATIENCE, call).await };
        match self.runtime.block_on(bounded) {
            Ok(answer) => Ok(answer?),
            Err(_) => bail!("no answer within {PATIENCE:?}"),
        }
    }
}

impl Endpoint for Client {
    fn put(&mut self, key: &str, value: &str) -> Result<()> {
        let mut client = self.connected()?;
        self.in_time(client.put(key, value, None)).map(|_| ())
    }

    fn all(&mut self, directory: &str) -> Result<BTreeMap<String, String>> {
        let mut client = self.connected()?;
        let prefix = format!("{directory}/");
        let found =
            self.runtime.block_on(client.get(prefix.as_str(), Some(GetOptions::new().with_prefix())))?;
        let keys = found.kvs().iter().map(|kv| {
            let key = kv.key_str()?.strip_prefix(&prefix).unwrap_or_default().to_owned();
            anyhow::Ok((key, kv.value_str()?.to_owned()))
        });
        keys.collect()
    }

    fn watch_a_write(&mut self, key: &str, value: &str) -> Result<String> {
        let mut client = self.connected()?;
        let mut stream = self.in_time(client.watch(key, None))?;
        self.put(key, value)?;
        loop {
            let answer = self.in_time(stream.message())?.context("the watch ended")?;
            if let Some(kv) = answer.events().iter().find_map(etcd_client::Event::kv) {
                return Ok(kv.value_str()?.to_owned());
            }
        }
    }
}
