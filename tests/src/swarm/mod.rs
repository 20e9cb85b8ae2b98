//! The swarm: as many production agents as one likes in one process, on machines in memory, and the coordinator as a process of
//! its own, with its store on disk and mutual TLS on loopback between them. For measuring, and for what shows only in numbers.
//!
//! Of an agent everything is production code but the machine (`FakeHost`) and what holds its journal (`medium`). What is
//! measured is `measure`'s business, the table is `bench`'s.

mod agents;
mod coordinator;
mod fleet;
pub mod log;
pub mod measure;
mod medium;
mod operator;
mod process;

pub use agents::Swarm;
pub use coordinator::Coordinator;
pub use fleet::{Fleet, Shape};
pub use operator::{NodeSeen, Operator, Question};
pub use process::{Usage, raise_open_files, runtime};

use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// How often conditions are looked at, where that costs nothing.
const SOON: Duration = Duration::from_millis(20);
/// Where it costs the coordinator or this process something.
const SELDOM: Duration = Duration::from_millis(250);

/// Waits for a condition, which is looked at every so often; an error of `look` counts as "not yet", since the coordinator may
/// be starting.
///
/// # Errors
/// When the bound is over: what was awaited, and what was seen last.
async fn wait<T>(
    what: &str,
    bound: Duration,
    every: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        let last = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= end {
            let late = || format!("waited {} s for {what}", bound.as_secs());
            match last {
                Some(error) => return Err(error).with_context(late),
                None => bail!(late()),
            }
        }
        tokio::time::sleep(every).await;
    }
}
