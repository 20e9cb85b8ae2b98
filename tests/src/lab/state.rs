//! What a fleet has of this machine, on disk before it is taken, so that whoever comes later can give it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use super::spec::FleetSpec;

/// The record of one fleet, `state.json` in its directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FleetState {
    /// What it was booted from.
    pub spec: FleetSpec,
    /// Who tears it down; none for a fleet that is kept.
    pub owner: Option<ProcessId>,
    /// The name of its network namespace.
    pub netns: String,
    /// The cgroups its nodes are in.
    pub cgroups: Vec<PathBuf>,
    /// Where its overlays are mounted.
    pub mounts: Vec<PathBuf>,
    /// The systemd-nspawn process of each node that was powered on.
    pub nspawn: BTreeMap<String, ProcessId>,
}

impl FleetState {
    /// The record in a fleet's directory; none when there is none.
    pub fn read(fleet: &Path) -> Result<Option<Self>> {
        let path = fleet.join("state.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        serde_json::from_slice(&text).map(Some).with_context(|| format!("understanding {}", path.display()))
    }

    /// Replaces the record.
    pub fn write(&self, fleet: &Path) -> Result<()> {
        let path = fleet.join("state.json");
        let next = fleet.join("state.json.new");
        std::fs::write(&next, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&next, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Whether nobody will tear it down: its owner is gone.
    pub fn is_abandoned(&self) -> bool {
        self.owner.is_some_and(|owner| !owner.is_alive())
    }
}
