//! What all simulations of a process share, since making it takes a while: the fleet's authority, the nodes' policy, and how
//! machines look that were upgraded in a calm.

use super::fleet::{self, Kind};
use super::looks::Looks;
use super::settings::Settings;
use super::world::{self, World};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use wavegate_agent::policy::PolicyFile;
use wavegate_common::id::{FleetId, Timestamp};
use wavegate_coordinator::pki::Authority;

/// What simulations share.
pub struct Site {
    /// The fleet.
    pub fleet: FleetId,
    /// Its authority. Its key differs from process to process; nothing that a simulation does depends on it.
    pub authority: Arc<Authority>,
    /// The nodes' policy.
    pub policy: PolicyFile,
    calm: BTreeMap<&'static str, Looks>,
    _directory: tempfile::TempDir,
}

impl Site {
    /// Sets it up, and upgrades one machine of each kind in a calm.
    ///
    /// # Errors
    /// If it can't be set up, or something goes wrong in a calm.
    pub fn set_up() -> Result<Self> {
        let directory = tempfile::tempdir().context("making a directory")?;
        let fleet = FleetId::new("sim")?;
        let authority = Authority::create(directory.path(), &fleet, Timestamp(world::EPOCH_MS))?;
        let mut site = Self {
            fleet,
            authority: Arc::new(authority),
            policy: fleet::policy(directory.path())?,
            calm: BTreeMap::new(),
            _directory: directory,
        };
        let mut world = World::new(&site, Settings::calm(0), fleet::one_of_each())?;
        world.go()?;
        let looks = world.nodes.iter().map(|node| (node.kind.name, Looks::of(&node.host.machine())));
        let calm: BTreeMap<_, _> = looks.collect();
        drop(world);
        site.calm = calm;
        Ok(site)
    }

    /// How a machine of this kind looks when it was upgraded in a calm; `None` while that is being found out.
    #[must_use]
    pub fn calm(&self, kind: &Kind) -> Option<&Looks> {
        self.calm.get(kind.name)
    }
}
