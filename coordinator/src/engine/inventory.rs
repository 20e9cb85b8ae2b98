//! The fleet as its owners declare it: setting the inventory, and how it differs from the fleet that enrolled.

use super::words::names;
use super::{Done, Engine, InventoryText, RequestError, told};
use crate::store::InventoryRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::facts::Facts;
use wavegate_common::id::{Actor, NodeId};
use wavegate_common::inventory::Inventory;
use wavegate_common::plan::{Plan, Problem};

impl Engine {
    /// Sets the inventory, or with `None` clears it.
    pub(super) fn set_inventory(
        &mut self,
        by: &Actor,
        given: Option<InventoryText>,
    ) -> Result<Done, RequestError> {
        let what = match &given {
            Some(given) => format!("set the inventory ({})", given.file),
            None => "clear the inventory".to_owned(),
        };
        let done = match given {
            Some(given) => self.declare(by, given, &what),
            None => self.clear_inventory(by, &what),
        };
        match &done {
            Ok(Done { changed: true, .. }) => {}
            Ok(Done { changed: false, .. }) => self.audit(&by.0, &what, "nothing to do"),
            Err(error) => self.audit(&by.0, &what, &told(error)),
        }
        done
    }

    fn declare(&mut self, by: &Actor, given: InventoryText, what: &str) -> Result<Done, RequestError> {
        let InventoryText { file, text } = given;
        let inventory =
            Inventory::parse(&file, &text).map_err(|wrong| RequestError::Invalid(wrong.to_string()))?;
        if let Some(known) = self.inventory.as_ref().filter(|known| known.text == text) {
            let text = format!(
                "the inventory is so already, set by {}: {}",
                known.set_by,
                self.difference(&known.inventory)
            );
            return Ok(Done { changed: false, text });
        }
        let record = InventoryRecord { file, text, inventory, set_at: self.clock.now(), set_by: by.clone() };
        let text = format!("the inventory is set: {}", self.difference(&record.inventory));
        self.keep_inventory(by, Some(record), what)?;
        Ok(Done { changed: true, text })
    }

    fn clear_inventory(&mut self, by: &Actor, what: &str) -> Result<Done, RequestError> {
        if self.inventory.is_none() {
            let text = "there is no inventory, nothing was cleared".to_owned();
            return Ok(Done { changed: false, text });
        }
        self.keep_inventory(by, None, what)?;
        let text = "the inventory is cleared: plans are made with the nodes that have enrolled".to_owned();
        Ok(Done { changed: true, text })
    }

    fn keep_inventory(
        &mut self,
        by: &Actor,
        record: Option<InventoryRecord>,
        what: &str,
    ) -> Result<(), RequestError> {
        let audit = self.audit_of(&by.0, what, "done");
        self.write(|store| store.put_inventory(record.as_ref(), &audit))
            .inspect_err(|error| self.note_trouble(error))?;
        tracing::info!(%by, "{what}");
        self.inventory = record.map(Arc::new);
        self.changed();
        Ok(())
    }

    /// How many nodes an inventory declares, and which of them or of the fleet's are not in the other.
    fn difference(&self, inventory: &Inventory) -> String {
        let mut text = format!("{} node(s) declared", inventory.nodes.len());
        let missing = names(inventory.nodes.keys().filter(|node| !self.nodes.contains_key(*node)));
        if !missing.is_empty() {
            text.push_str(&format!(", not enrolled of them: {missing}"));
        }
        let more = names(self.nodes.keys().filter(|node| !inventory.nodes.contains_key(*node)));
        if !more.is_empty() {
            text.push_str(&format!("; enrolled and not declared: {more}"));
        }
        text
    }

    /// Nodes that are declared and have not enrolled.
    pub(super) fn missing(&self) -> impl Iterator<Item = &NodeId> {
        let declared = self.inventory.iter().flat_map(|record| record.inventory.nodes.keys());
        declared.filter(|node| !self.nodes.contains_key(*node))
    }

    /// Nodes that have enrolled and are not declared; none where there is no inventory.
    pub(super) fn undeclared(&self) -> BTreeSet<NodeId> {
        let Some(record) = &self.inventory else { return BTreeSet::new() };
        let more = self.nodes.keys().filter(|node| !record.inventory.nodes.contains_key(*node));
        more.cloned().collect()
    }

    /// The labels of the nodes, by which a plan may group them.
    pub(super) fn labels(&self) -> BTreeMap<NodeId, BTreeMap<String, String>> {
        self.inventory.as_ref().map(|record| record.inventory.labels()).unwrap_or_default()
    }

    /// Nodes whose roles are not the declared ones.
    pub(super) fn declared_otherwise(&self) -> Vec<Problem> {
        let Some(record) = &self.inventory else { return Vec::new() };
        let facts =
            self.nodes.iter().filter_map(|(node, record)| Some((node.clone(), record.facts.clone()?)));
        record.inventory.problems(&facts.collect::<BTreeMap<NodeId, Facts>>())
    }

    /// Whether a plan that was made before is still of the fleet that is declared.
    pub(super) fn as_declared(&self, plan: &Plan) -> Result<(), RequestError> {
        let next = format!(
            "plan {} was made before that; enrol what is missing or set the inventory right, then make a new plan: wavegate plan",
            plan.id
        );
        let missing = names(self.missing());
        if !missing.is_empty() {
            return Err(RequestError::NotNow(format!(
                "the inventory declares {missing}, not enrolled; {next}"
            )));
        }
        let otherwise = self.declared_otherwise();
        let nodes = names(otherwise.iter().filter_map(|problem| problem.node.as_ref()));
        if !nodes.is_empty() {
            return Err(RequestError::NotNow(format!(
                "the inventory declares other roles for {nodes}; {next}"
            )));
        }
        Ok(())
    }
}
