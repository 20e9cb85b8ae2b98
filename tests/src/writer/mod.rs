//! A client of etcd that writes numbered keys without a pause through all of its endpoints and keeps count of what was acknowledged: a
//! witness of its own, which shares no code with the agent. How each API is spoken is in the files beside.

mod streak;
mod v2;
mod v3;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use streak::Streaks;

/// How long one write may take before the next endpoint is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between an acknowledged write and the next one.
const PAUSE: Duration = Duration::from_millis(5);
/// Between a refused write and the next attempt.
const BREATH: Duration = Duration::from_millis(20);

/// Which API of etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// HTTP and JSON.
    V2,
    /// gRPC.
    V3,
}

/// One endpoint, by one API.
trait Endpoint {
    /// Writes a key and returns when etcd has acknowledged it.
    fn put(&mut self, key: &str, value: &str) -> Result<()>;
    /// Every key below a directory, without the directory, with its value; read with a quorum.
    fn all(&mut self, directory: &str) -> Result<BTreeMap<String, String>>;
    /// Watches a key, then writes it, and returns the value that the watch delivered.
    fn watch_a_write(&mut self, key: &str, value: &str) -> Result<String>;
}

/// Does something in a network of the lab's, on a thread that is in it for that alone.
fn inside<T: Send + 'static>(
    network: PathBuf,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    std::thread::spawn(move || {
        let file = File::open(&network).with_context(|| format!("opening {}", network.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", network.display()))?;
        work()
    })
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("the client of etcd panicked"))?
}

fn endpoint(api: Api, url: &str) -> Result<Box<dyn Endpoint>> {
    Ok(match api {
        Api::V2 => Box::new(v2::Client::new(url)),
        Api::V3 => Box::new(v3::Client::new(url)?),
    })
}

/// Watches a key through an endpoint, writes it there, and sees that the watch delivers it and a read finds it.
///
/// # Errors
///
/// When any of that fails.
pub fn read_and_watch(network: &Path, api: Api, url: &str) -> Result<()> {
    let url = url.to_owned();
    let what = format!("reading and watching through {url} by {api:?}");
    let work = move || {
        let mut endpoint = endpoint(api, &url)?;
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let (directory, name, value) = ("/witness", format!("{nanos:x}"), format!("seen {nanos:x}"));
        let watched = endpoint.watch_a_write(&format!("{directory}/{name}"), &value)?;
        ensure!(watched == value, "the watch delivered '{watched}', not '{value}'");
        let read = endpoint.all(directory)?.remove(&name);
        ensure!(read.as_ref() == Some(&value), "a read found {read:?}, not '{value}'");
        Ok(())
    };
    joined(inside(network.to_owned(), work)).context(what)
}

/// An acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number, which is its key and its value.
    pub number: u64,
    /// When, since the writer began.
    pub after: Duration,
    /// Through which endpoint, as they were given.
    pub endpoint: usize,
}

/// The longest time in which no write was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// How long.
    pub length: Duration,
    /// When it ended, since the writer began.
    pub ended: Duration,
    /// The write that ended it.
    pub number: u64,
}

/// A writer at work.
pub struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Result<Written>>,
}

/// What a writer did.
#[derive(Debug)]
pub struct Written {
    /// Every acknowledged write, in order.
    pub acknowledged: Vec<Acknowledged>,
    /// Attempts that failed or were not answered in time; each was made again elsewhere.
    pub failed_attempts: u64,
    /// When it began.
    pub began: SystemTime,
    network: PathBuf,
    api: Api,
    urls: Vec<String>,
    directory: String,
}

impl Writer {
    /// Begins to write into a directory of its own through these URLs, one after the other, from inside that network
    /// (a file that stands for a network namespace).
    pub fn start(network: &Path, api: Api, urls: &[String], directory: &str) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let written = Written {
            acknowledged: Vec::new(),
            failed_attempts: 0,
            began: SystemTime::now(),
            network: network.to_owned(),
            api,
            urls: urls.to_vec(),
            directory: directory.to_owned(),
        };
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = inside(network.to_owned(), move || written.write(&stopped, &counted));
        Self { stop, count, thread }
    }

    /// How many writes have been acknowledged.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Ends it. What it was at is written first.
    ///
    /// # Errors
    ///
    /// When it could not begin.
    pub fn finish(self) -> Result<Written> {
        self.stop.store(true, Ordering::SeqCst);
        joined(self.thread)
    }
}

impl Written {
    fn write(mut self, stop: &AtomicBool, count: &AtomicU64) -> Result<Self> {
        let mut endpoints =
            self.urls.iter().map(|url| endpoint(self.api, url)).collect::<Result<Vec<_>>>()?;
        ensure!(!endpoints.is_empty(), "no endpoint to write to");
        let began = Instant::now();
        let mut streaks = Streaks::new(&self.urls, |line| eprintln!("writer: {line}"));
        let mut turn = 0;
        for number in 0_u64.. {
            let key = self.key(number);
            // The same value again where it is not known whether the attempt before was applied.
            while let Err(error) = endpoints[turn % self.urls.len()].put(&key, &number.to_string()) {
                self.failed_attempts += 1;
                streaks.failed(turn % self.urls.len(), number, &format!("{error:#}"), began.elapsed());
                turn += 1;
                if stop.load(Ordering::SeqCst) {
                    return Ok(self);
                }
                std::thread::sleep(BREATH);
            }
            let endpoint = turn % self.urls.len();
            streaks.went_well(endpoint, began.elapsed());
            self.acknowledged.push(Acknowledged { number, after: began.elapsed(), endpoint });
            count.store(number + 1, Ordering::SeqCst);
            turn += 1;
            if stop.load(Ordering::SeqCst) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(self)
    }

    fn key(&self, number: u64) -> String {
        format!("{}/{}", self.directory, name(number))
    }

    /// The longest time between two acknowledged writes.
    ///
    /// # Errors
    ///
    /// When there were fewer than two.
    pub fn longest_stall(&self) -> Result<Stall> {
        let stalls = self.acknowledged.windows(2).map(|pair| Stall {
            length: pair[1].after - pair[0].after,
            ended: pair[1].after,
            number: pair[1].number,
        });
        stalls.max_by_key(|stall| stall.length).context("fewer than two writes were acknowledged")
    }

    /// How many writes went through each endpoint.
    #[must_use]
    pub fn by_endpoint(&self) -> Vec<usize> {
        let through = |endpoint| self.acknowledged.iter().filter(|ack| ack.endpoint == endpoint).count();
        (0..self.urls.len()).map(through).collect()
    }

    /// Reads everything back through each endpoint by itself.
    ///
    /// # Errors
    ///
    /// Names the acknowledged writes that are not there, and where.
    pub fn must_all_be_there(&self) -> Result<()> {
        ensure!(!self.acknowledged.is_empty(), "no write was acknowledged");
        for url in &self.urls {
            let (api, asked, directory) = (self.api, url.clone(), self.directory.clone());
            let work = move || endpoint(api, &asked)?.all(&directory);
            let found = joined(inside(self.network.clone(), work))
                .with_context(|| format!("reading back from {url}"))?;
            let there =
                |number: u64| found.get(&name(number)).is_some_and(|value| *value == number.to_string());
            let lost: Vec<u64> =
                self.acknowledged.iter().map(|ack| ack.number).filter(|number| !there(*number)).collect();
            ensure!(lost.is_empty(), "{url}: {} acknowledged writes are gone: {lost:?}", lost.len());
        }
        Ok(())
    }

    /// What it did, in a line.
    ///
    /// # Errors
    ///
    /// Like [`Written::longest_stall`].
    pub fn summary(&self) -> Result<String> {
        let stall = self.longest_stall()?;
        Ok(format!(
            "{} writes acknowledged through {} by {:?}, {:?} through each; {} attempts failed and were made again; longest stall {} \
             ms, before write {}, {:.1} s after the first",
            self.acknowledged.len(),
            self.urls.join(" "),
            self.api,
            self.by_endpoint(),
            self.failed_attempts,
            stall.length.as_millis(),
            stall.number,
            stall.ended.as_secs_f64(),
        ))
    }
}

/// A number as the last part of its key.
fn name(number: u64) -> String {
    format!("{number:08}")
}
