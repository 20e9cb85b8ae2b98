//! The inventory as people read it: `wavegate inventory show`. How the fleet differs from it is `nodes`' to say.

use super::{Look, Tone, cell, counted, time};
use crate::store::InventoryRecord;
use std::collections::BTreeMap;

/// What is declared.
#[must_use]
pub fn inventory(record: Option<&InventoryRecord>, look: &Look) -> String {
    let Some(record) = record else {
        return "There is no inventory: plans are made with the nodes that have enrolled. Declare the fleet: wavegate \
                inventory set FILE\n"
            .to_owned();
    };
    let nodes = &record.inventory.nodes;
    let (count, set) = (counted(nodes.len(), "node"), time::moment(record.set_at, look));
    let mut table = look.table(&["NODE", "ROLES", "LABELS"]);
    for (node, declared) in nodes {
        let roles = match &declared.roles {
            None => "as found".to_owned(),
            Some(roles) if roles.is_empty() => "none".to_owned(),
            Some(roles) => roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", "),
        };
        table.add_row([
            cell(Tone::Plain, node),
            cell(Tone::Plain, roles),
            cell(Tone::Plain, labels(&declared.labels)),
        ]);
    }
    format!(
        "{count} declared, set {set} by {} ({})\n\n{}",
        record.set_by,
        record.file,
        look.lay_out(table, 0)
    )
}

/// `rack=r1, zone=a`; `-` for none.
#[must_use]
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn what_is_declared() {
        insta::assert_snapshot!(inventory(Some(&samples::inventory()), &samples::look()), @r"
        7 nodes declared, set 2026-11-22T12:00:00+00:00 by alice (fleet.toml)

        NODE       ROLES                LABELS
        compute-1  etcd-proxy, compute  rack=r1, zone=a
        compute-2  as found             rack=r2
        compute-3  as found             rack=r2
        control-1  as found             -
        control-2  control              -
        deploy-1   none                 -
        etcd-1     as found             -
        ");
        insta::assert_snapshot!(inventory(None, &samples::look()), @"There is no inventory: plans are made with the nodes that have enrolled. Declare the fleet: wavegate inventory set FILE");
    }
}
