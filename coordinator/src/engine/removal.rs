//! How a node leaves the fleet: a machine that is gone for good would otherwise hold up every plan. What happened on it
//! in earlier rollouts stays in their logs.

use super::words::names;
use super::{Done, Engine, RequestError, told};
use wavegate_common::id::{Actor, NodeId};
use wavegate_common::rollout::Status;
use wavegate_common::spelling;

/// Names shown to somebody who may have misspelt one.
const NEAR_SHOWN: usize = 3;

impl Engine {
    /// Takes a node out of the fleet: its record, and with it the worth of its certificate, and its session.
    pub(super) fn remove_node(
        &mut self,
        by: &Actor,
        node: &NodeId,
        force: bool,
    ) -> Result<Done, RequestError> {
        let forced = if force { ", online or not" } else { "" };
        let what = format!("remove node {node} from the fleet{forced}");
        let removed = self.try_remove(by, node, force, &what);
        match &removed {
            Ok(Done { changed: true, .. }) => {}
            Ok(Done { changed: false, .. }) => self.audit(&by.0, &what, "nothing to do"),
            Err(error) => self.audit(&by.0, &what, &told(error)),
        }
        removed
    }

    fn try_remove(
        &mut self,
        by: &Actor,
        node: &NodeId,
        force: bool,
        what: &str,
    ) -> Result<Done, RequestError> {
        if !self.nodes.contains_key(node) {
            return Ok(Done { changed: false, text: self.no_such_node(node) });
        }
        self.may_leave(node, force)?;
        let audit = self.audit_of(&by.0, what, "done");
        self.write(|store| store.remove_node(node, &audit)).inspect_err(|error| self.note_trouble(error))?;
        tracing::info!(%node, %by, "removed from the fleet");
        self.nodes.remove(node);
        self.complaints.remove(node);
        self.not_taken.remove(node);
        self.stand_still.remove(node);
        self.unstored.retain(|key, _| key.node != *node);
        self.turn.facts.remove(node);
        self.links.forget(node);
        self.after_offline(node);
        let text = format!(
            "node {node} is removed from the fleet, and its certificate is worth nothing; a plan made before has it \
             still, so make a new one: wavegate plan"
        );
        Ok(Done { changed: true, text })
    }

    fn may_leave(&self, node: &NodeId, force: bool) -> Result<(), RequestError> {
        if let Some(rollout) = self.rollout.as_ref().filter(|rollout| !rollout.ended())
            && rollout.plan().body.stages.iter().any(|stage| stage.tasks.contains_key(node))
        {
            let (id, (status, _)) = (rollout.id(), rollout.status());
            let next = match status {
                Status::Stopping => "let it come to its end (wavegate watch)",
                Status::Ready | Status::Running | Status::Paused | Status::Stopped | Status::Finished => {
                    "let it finish (wavegate watch), or end it (wavegate stop)"
                }
            };
            return Err(RequestError::NotNow(format!(
                "node {node} has a task in rollout {id}, which is {status}; {next}, then remove the node"
            )));
        }
        if self.links.is_online(node) && !force {
            return Err(RequestError::NotNow(format!(
                "node {node} is online; stop its agent first (systemctl disable --now wavegate-agent, on {node}), or \
                 say --force"
            )));
        }
        Ok(())
    }

    fn no_such_node(&self, asked: &NodeId) -> String {
        let known = || self.nodes.keys();
        let host = |node: &NodeId| node.as_str().split('.').next().map(str::to_owned);
        // A name with its domain and the same one without are far apart in letters.
        let mut near: Vec<&NodeId> = known().filter(|node| host(node) == host(asked)).collect();
        for name in spelling::near(asked.as_str(), known().map(NodeId::as_str)) {
            near.extend(known().find(|node| node.as_str() == name && host(node) != host(asked)));
        }
        near.truncate(NEAR_SHOWN);
        let nothing = format!("there is no node {asked} in the fleet, nothing was removed");
        if near.is_empty() {
            format!("{nothing}; who is in it: wavegate nodes")
        } else {
            format!("{nothing}; did you mean {}? (wavegate nodes)", names(near))
        }
    }
}
