//! Nodes of one platform that would get different versions of a package: nothing that stops a plan, and nothing that an
//! operator should find out afterwards.

use super::super::{Look, Tone, counted};
use std::collections::BTreeSet;
use wavegate_common::id::NodeId;
use wavegate_common::plan::VersionDifference;

/// Nodes named for a version.
const SHOWN: usize = 5;

/// The differences with what to do about them; empty text if there is none.
#[must_use]
pub fn differences(all: &[VersionDifference], look: &Look) -> String {
    if all.is_empty() {
        return String::new();
    }
    let title = format!("DIFFERENT VERSIONS on nodes of one platform: {}", counted(all.len(), "package"));
    let mut text = format!("\n{}\n", look.paint(Tone::Busy, &title));
    for difference in all {
        text.push_str(&look.paragraph(&format!("{} on {}", difference.package, difference.platform), 2));
        let versions = difference.versions.iter();
        let rows: Vec<(&str, String)> =
            versions.map(|(version, nodes)| (version.as_str(), some(nodes))).collect();
        let rows: Vec<(&str, &str)> =
            rows.iter().map(|(version, nodes)| (*version, nodes.as_str())).collect();
        text.push_str(&look.labelled(&rows, 4));
    }
    let next = "pin the version (name=version in the procedure's list of packages), or bring the nodes' repositories to one \
                state (a mirror that lags, a hold), then plan again";
    text + &look.labelled(&[("to do:", next)], 2)
}

fn some(nodes: &BTreeSet<NodeId>) -> String {
    let mut names: Vec<String> = nodes.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more @ 1..) = nodes.len().checked_sub(SHOWN) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::differences;
    use wavegate_common::outcome::{Change, Preview};
    use wavegate_common::plan::version_differences;
    use wavegate_common::platform::Stage;

    #[test]
    fn a_lagging_mirror_shows() {
        let mut plan = samples::plan();
        let body = &mut plan.body;
        assert_eq!(version_differences(body), [], "one version everywhere");
        let compute = body.previews.get_mut(&Stage::Compute).expect("compute");
        for step in compute.get_mut(&samples::node("compute-3")).expect("a node") {
            let Preview::WouldChange { changes } = &mut step.preview else { continue };
            for change in changes {
                if let Change::Package { name, to, .. } = change
                    && name == "calico-felix"
                {
                    *to = Some("1.4.5~trusty".to_owned());
                }
            }
        }
        let found = version_differences(body);
        insta::assert_snapshot!(differences(&found, &samples::look()), @r"
        DIFFERENT VERSIONS on nodes of one platform: 1 package
          calico-felix on centos 7
            1.4.5~trusty  compute-3
            1.4.6~trusty  compute-2
          to do:  pin the version (name=version in the procedure's list of packages), or bring the nodes'
                  repositories to one state (a mirror that lags, a hold), then plan again
        ");
        // A difference between platforms is none: compute-1 is another one.
        assert!(!found[0].versions.values().flatten().any(|node| node.as_str() == "compute-1"));
        assert_eq!(differences(&[], &samples::look()), "");
    }
}
