//! Whether nodes of one platform would get different versions of a package: mirrors that are not at one state, a hold, a
//! phased update. Of packages of different platforms nothing is said: their versions differ by nature.

use super::PlanBody;
use crate::id::NodeId;
use crate::outcome::{Change, Preview};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A package that nodes of one platform would get in different versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDifference {
    /// The package.
    pub package: String,
    /// The platform as operating system and release, e.g. `ubuntu 16.04`.
    pub platform: String,
    /// The nodes that would get each version; always two versions or more.
    pub versions: BTreeMap<String, BTreeSet<NodeId>>,
}

/// The differences in what the previews foresee, by package and platform. Nodes where a package would not change do not
/// count: a preview does not say which version they have.
#[must_use]
pub fn version_differences(body: &PlanBody) -> Vec<VersionDifference> {
    let mut foreseen: BTreeMap<(&str, String), BTreeMap<String, BTreeSet<NodeId>>> = BTreeMap::new();
    for (node, steps) in body.previews.values().flatten() {
        let Some(planned) = body.nodes.get(node) else { continue };
        let platform = format!("{} {}", planned.platform.id, planned.platform.version_id);
        for step in steps {
            let Preview::WouldChange { changes } = &step.preview else { continue };
            for change in changes {
                let Change::Package { name, to: Some(version), .. } = change else { continue };
                let versions = foreseen.entry((name, platform.trim_end().to_owned())).or_default();
                versions.entry(version.clone()).or_default().insert(node.clone());
            }
        }
    }
    foreseen
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|((package, platform), versions)| VersionDifference {
            package: package.to_owned(),
            platform,
            versions,
        })
        .collect()
}
