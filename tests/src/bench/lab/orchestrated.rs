//! Wavegate's side: all nodes of a stage at once, as far as the procedure lets them.

use anyhow::{Context, Result};
use serde_json::Value;

use super::steps::{Steps, seconds};
use super::took::Took;
use crate::deploy::{SITE_FILE, UPGRADE, Wavegate};

/// The first wave is the whole stage; etcd's members are one at a time whatever is asked for. The watch over a member that
/// is back is a wait on purpose, which an operator's shell should make too: neither side does here.
const AT_ONCE: [&str; 14] = [
    "--canary",
    "etcd=8",
    "--canary",
    "compute=3",
    "--canary",
    "control=2",
    "--max-unavailable",
    "etcd=100%",
    "--max-unavailable",
    "compute=100%",
    "--max-unavailable",
    "control=100%",
    "--set",
    "etcd_settle_s=0",
];

/// Plans, starts, waits for the end. The plan is made beforehand, as an operator does who reads it: it is no part of the time.
///
/// # Errors
///
/// When the rollout does not finish.
pub fn upgrade(wavegate: &Wavegate<'_>) -> Result<Took> {
    wavegate.cli(&[&["plan", "--parameters", SITE_FILE], AT_ONCE.as_slice()].concat())?;
    wavegate.cli(&[&["start"], wavegate.acknowledged()].concat())?;
    // One program that looks on, so that nothing that asks again and again takes time from what is measured.
    wavegate.cli(&["watch"])?;
    let status = wavegate.wait_status("finished", UPGRADE)?;
    let moment = |value: &Value| value.as_u64().context("a moment is missing in the status");
    let mut stages = [0.0; 3];
    for (took, stage) in
        stages.iter_mut().zip(status["stages"].as_array().context("no stages in the status")?)
    {
        *took = seconds(moment(&stage["began"])?, moment(&stage["ended"])?);
    }
    let whole = seconds(moment(&status["started_at"])?, moment(&status["since"])?);
    let rollout = status["rollout"].as_str().context("a rollout without a name")?;
    Ok(Took { whole, stages, watched: 0.0, steps: Steps::of(wavegate, rollout)? })
}
