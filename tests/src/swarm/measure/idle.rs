//! A fleet that has nothing to do: what its heartbeats cost, and that nothing is written.

use super::Measuring;
use crate::bench::{Limit, Row};
use crate::swarm::coordinator::HEARTBEAT_S;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{Instant, SystemTime};

/// How a file is: what changes with every write to it.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    written_at: SystemTime,
    length: u64,
    digest: Vec<u8>,
}

impl Look {
    fn at(file: &Path) -> Result<Self> {
        let metadata = file.metadata().context("looking at the store")?;
        let digest = Sha256::digest(std::fs::read(file).context("reading the store")?).to_vec();
        Ok(Self { written_at: metadata.modified()?, length: metadata.len(), digest })
    }
}

impl Measuring {
    pub(super) async fn idle(&mut self) -> Result<()> {
        let file = self.coordinator.store_file();
        let (look, before, from) = (Look::at(&file)?, self.coordinator.usage()?, Instant::now());
        tokio::time::sleep(self.options.idle).await;
        let (after, seconds) = (self.coordinator.usage()?, from.elapsed().as_secs_f64());
        let share = 100.0 * after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds;
        let heartbeats =
            Row::new(format!("heartbeats each {HEARTBEAT_S} s"), "% of a core", Some(Limit::AtMost(10.0)));
        let row = self.at(heartbeats, share).note(format!("over {seconds:.0} s"));
        self.row(row);
        let written = Look::at(&file)? != look;
        let writes = Row::new("writes of an idle fleet to the store", "", Some(Limit::Exactly(0.0)));
        let row = self.at(writes, f64::from(u8::from(written)));
        self.row(row.note("0: neither time, length nor content of the file changed"));
        Ok(())
    }
}
