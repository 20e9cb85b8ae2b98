//! Making a plan: compile it from the fleet's facts, ask every node what each step would do there, seal and store it.
//! One at a time, and never without an end: a node that leaves or stays silent becomes a problem of the plan.

use super::words::names;
use super::{Engine, MakePlan, PlanUpdate, RequestError, ToAgent, told};
use crate::status::plan::{Approvals, PlanView};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;
use wavegate_common::facts::Facts;
use wavegate_common::id::{Actor, NodeId, RolloutId, StepId, Timestamp};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::{Preview, StepError};
use wavegate_common::plan::{
    Options, Plan, PlanBody, Problem, StepPreview, compile, judge_etcd, settle_etcd, version_differences,
};
use wavegate_common::platform::Stage;
use wavegate_common::procedure::{Procedure, SiteFile};

/// A node that answers nothing for so long is a problem of the plan.
const SILENT_MS: u64 = 5 * 60 * 1000;
const WAITING_SHOWN: usize = 10;
/// In so many parts it is told how far a plan is, however many nodes it asks.
const PARTS: usize = 100;

/// A plan that is being made.
pub(super) struct Planning {
    by: Actor,
    since: Timestamp,
    body: PlanBody,
    updates: mpsc::UnboundedSender<Result<PlanUpdate, RequestError>>,
    asked: usize,
    waiting: BTreeMap<NodeId, Asked>,
    /// How far it was when that was last told: in hundredths, and how many were waited for once those are few.
    told: Option<(usize, Option<usize>)>,
}

/// What one node still has to answer.
struct Asked {
    requests: BTreeMap<u64, Stage>,
    heard: Timestamp,
}

impl Planning {
    pub(super) fn give_up(self, error: RequestError) {
        drop(self.updates.send(Err(error)));
    }

    /// Tells how far it is: so often as there are hundredths of it, and when all who are still waited for are named, with
    /// each of them.
    fn progress(&mut self) {
        let left = self.waiting.len();
        let answered = self.asked - left;
        let part = answered * PARTS / self.asked.max(1);
        let so_far = (part, (left <= WAITING_SHOWN).then_some(left));
        if self.told.replace(so_far) == Some(so_far) {
            return;
        }
        let update = PlanUpdate::Progress {
            asked: self.asked,
            answered,
            waiting_for: self.waiting.keys().take(WAITING_SHOWN).cloned().collect(),
        };
        drop(self.updates.send(Ok(update)));
    }

    fn problem(&mut self, node: &NodeId, stage: Option<Stage>, step: Option<&StepId>, error: StepError) {
        self.body.problems.push(Problem { node: Some(node.clone()), stage, step: step.cloned(), error });
    }

    /// A node does not answer any more; what it did not answer is a problem.
    fn drop_node(&mut self, node: &NodeId, what: &str) {
        let Some(asked) = self.waiting.remove(node) else { return };
        for stage in asked.requests.into_values() {
            let what = format!("{node} {what}");
            let next = format!(
                "see that its agent runs (systemctl status wavegate-agent on {node}), then plan again"
            );
            self.problem(node, Some(stage), None, StepError { what, output: Vec::new(), next });
        }
    }

    fn keep(&mut self, node: &NodeId, stage: Stage, previews: Vec<StepPreview>) {
        let planned = self.body.stages.iter().find(|planned| planned.stage == stage);
        let steps: Vec<PlannedStep> = planned
            .and_then(|planned| planned.tasks.get(node))
            .map(|steps| steps.to_vec())
            .unwrap_or_default();
        let given: BTreeSet<&StepId> = previews.iter().map(|given| &given.step).collect();
        let mut wrong = Vec::new();
        for step in steps.iter().filter(|step| runs(step) && !given.contains(&step.id)) {
            let what = format!("{node} did not say what this step would do");
            let next =
                format!("install the coordinator's version of wavegate-agent on {node}, then plan again");
            wrong.push((step.id.clone(), StepError { what, output: Vec::new(), next }));
        }
        for given in &previews {
            if let Preview::Blocked { error } = &given.preview {
                wrong.push((given.step.clone(), error.clone()));
            }
        }
        for (step, error) in wrong {
            self.problem(node, Some(stage), Some(&step), error);
        }
        self.body.previews.entry(stage).or_default().insert(node.clone(), previews);
    }
}

impl Engine {
    pub(super) fn make_plan(&mut self, request: MakePlan) {
        let updates = request.updates.clone();
        if let Err(error) = self.begin_planning(request) {
            drop(updates.send(Err(error)));
        }
    }

    fn begin_planning(&mut self, request: MakePlan) -> Result<(), RequestError> {
        if let Some(planning) = self.planning.take_if(|planning| planning.updates.is_closed()) {
            tracing::info!(by = %planning.by, "the plan is given up: whoever asked for it has gone");
        }
        if let Some(planning) = &self.planning {
            return Err(RequestError::NotNow(format!(
                "{} is having a plan made, and there is one at a time; try again when it is done",
                planning.by
            )));
        }
        let fleet = self.fleet_for_plan()?;
        let now = self.clock.now();
        let mut body = compiled(&request, &fleet, self.labels(), now)?;
        body.undeclared = self.undeclared();
        body.problems.extend(self.declared_otherwise());
        tracing::info!(by = %request.by, nodes = fleet.len(), "a plan is being made");
        let (by, updates) = (request.by, request.updates);
        let waiting = BTreeMap::new();
        self.planning = Some(Planning { by, since: now, body, updates, asked: 0, waiting, told: None });
        self.ask_previews(now);
        if let Some(planning) = &mut self.planning {
            planning.progress();
        }
        self.finish_planning();
        Ok(())
    }

    /// The facts of every node, all of them online.
    fn fleet_for_plan(&self) -> Result<BTreeMap<NodeId, Facts>, RequestError> {
        if let Some(rollout) = self.rollout.as_ref().filter(|rollout| !rollout.ended()) {
            return Err(under_way(rollout.id()));
        }
        self.all_are_there()?;
        let blind =
            names(self.nodes.values().filter(|record| record.facts.is_none()).map(|record| &record.node));
        if !blind.is_empty() {
            return Err(RequestError::NotNow(format!(
                "the agents of {blind} could not observe their nodes; look at their logs (journalctl -u wavegate-agent), \
                 then plan again"
            )));
        }
        Ok(self.nodes.keys().filter_map(|node| self.facts_of(node)).collect())
    }

    fn facts_of(&self, node: &NodeId) -> Option<(NodeId, Facts)> {
        Some((node.clone(), self.nodes.get(node)?.facts.clone()?))
    }

    /// A plan is made with every node, declared or enrolled: one that is not there is named and not left out.
    fn all_are_there(&self) -> Result<(), RequestError> {
        let offline = names(self.nodes.keys().filter(|node| !self.links.is_online(node)));
        let missing = names(self.missing());
        let mut why = Vec::new();
        let mut next = Vec::new();
        if !offline.is_empty() {
            why.push(format!("offline: {offline}"));
            next.push(
                "switch them on or start their agents (systemctl start wavegate-agent), then plan again; a machine that is \
                 gone for good is taken out of the fleet: wavegate node remove NODE",
            );
        }
        if !missing.is_empty() {
            why.push(format!("in the inventory and not enrolled: {missing}"));
            next.push(
                "enrol what is declared and missing (wavegate token create --node NODE), or take it out of the inventory \
                 (wavegate inventory set FILE)",
            );
        }
        if why.is_empty() {
            return Ok(());
        }
        let (why, next) = (why.join("; "), next.join("; "));
        Err(RequestError::NotNow(format!("{why}; a plan is made with every node, so {next}")))
    }

    /// Asks every node for every stage at once.
    fn ask_previews(&mut self, now: Timestamp) {
        let Some(mut planning) = self.planning.take() else { return };
        let mut lost = Vec::new();
        let Planning { body, waiting, .. } = &mut planning;
        for stage in &body.stages {
            for (node, steps) in stage.tasks.iter().filter(|(_, steps)| steps.iter().any(runs)) {
                let request = self.next_preview;
                self.next_preview += 1;
                let asked = waiting.entry(node.clone());
                let asked = asked.or_insert_with(|| Asked { requests: BTreeMap::new(), heard: now });
                asked.requests.insert(request, stage.stage);
                let message = ToAgent::Preview { request, stage: stage.stage, steps: steps.to_vec() };
                if !self.links.send(node, message, now) {
                    lost.push(node.clone());
                }
            }
        }
        planning.asked = planning.waiting.len();
        for node in &lost {
            planning.drop_node(node, "went offline while the plan was made");
        }
        self.planning = Some(planning);
        for node in lost {
            self.after_offline(&node);
        }
    }

    pub(super) fn previewed(
        &mut self,
        node: &NodeId,
        request: u64,
        stage: Stage,
        previews: Vec<StepPreview>,
    ) {
        let now = self.clock.now();
        let Some(planning) = &mut self.planning else { return };
        let Some(asked) = planning.waiting.get_mut(node) else { return };
        if asked.requests.get(&request) != Some(&stage) {
            return;
        }
        asked.requests.remove(&request);
        asked.heard = now;
        if asked.requests.is_empty() {
            planning.waiting.remove(node);
        }
        planning.keep(node, stage, previews);
        planning.progress();
        self.finish_planning();
    }

    pub(super) fn planning_lost(&mut self, node: &NodeId) {
        if let Some(planning) = &mut self.planning {
            planning.drop_node(node, "went offline while the plan was made");
            planning.progress();
            self.finish_planning();
        }
    }

    pub(super) fn planning_tick(&mut self) {
        let now = self.clock.now();
        let Some(planning) = &mut self.planning else { return };
        if planning.updates.is_closed() {
            tracing::info!(by = %planning.by, "the plan is given up: whoever asked for it has gone");
            self.planning = None;
            return;
        }
        let silent = |asked: &Asked| now.millis_since(asked.heard) >= SILENT_MS;
        let silent: Vec<NodeId> = planning
            .waiting
            .iter()
            .filter(|(_, asked)| silent(asked))
            .map(|(node, _)| node.clone())
            .collect();
        for node in silent {
            planning.drop_node(&node, "did not answer within 5 minutes");
        }
        planning.progress();
        self.finish_planning();
    }

    /// Nobody could be heard for so long.
    pub(super) fn planning_excused(&mut self, for_ms: u64) {
        let waiting = self.planning.iter_mut().flat_map(|planning| planning.waiting.values_mut());
        waiting.for_each(|asked| asked.heard.0 = asked.heard.0.saturating_add(for_ms));
    }

    /// Seals and stores the plan, once every node has answered or is a problem.
    fn finish_planning(&mut self) {
        let Some(planning) = self.planning.take_if(|planning| planning.waiting.is_empty()) else { return };
        let Planning { by, since, mut body, updates, .. } = planning;
        body.version_differences = version_differences(&body);
        // Nodes look again before they foresee: what they found then counts, not what the plan was compiled from.
        let fleet: BTreeMap<NodeId, Facts> =
            body.nodes.keys().filter_map(|node| self.facts_of(node)).collect();
        settle_etcd(&mut body, &fleet);
        let (problems, warnings) = judge_etcd(&body, &fleet);
        body.problems.extend(problems);
        body.warnings.extend(warnings);
        let took_ms = self.clock.now().millis_since(since);
        let update = Plan::seal(body).map_err(RequestError::from).and_then(|plan| {
            let audit = self.audit_of(&by.0, &format!("make plan {}", plan.id), "done");
            self.write(|store| store.put_plan(&plan, &audit)).inspect_err(|error| self.note_trouble(error))?;
            tracing::info!(plan = %plan.id, %by, took_ms, problems = plan.body.problems.len(), "a plan was made");
            let approval = Approvals { required: self.approvals, given: Vec::new() };
            Ok(PlanUpdate::Done(Box::new(PlanView { plan, approval })))
        });
        if let Err(error) = &update {
            tracing::error!(error = told(error), "the plan cannot be kept");
        }
        drop(updates.send(update));
    }
}

/// Why no plan is made beside a rollout, nor finished once one has begun.
pub(super) fn under_way(rollout: &RolloutId) -> RequestError {
    RequestError::NotNow(format!(
        "rollout {rollout} is under way: what nodes say while they are being changed is no ground for a plan; let it \
         end (wavegate watch), or end it: wavegate stop"
    ))
}

const fn runs(step: &PlannedStep) -> bool {
    matches!(step.work, Work::Run { .. })
}

fn compiled(
    request: &MakePlan,
    fleet: &BTreeMap<NodeId, Facts>,
    labels: BTreeMap<NodeId, BTreeMap<String, String>>,
    now: Timestamp,
) -> Result<PlanBody, RequestError> {
    let wrong =
        |diagnostics: wavegate_common::procedure::Diagnostics| RequestError::Invalid(diagnostics.to_string());
    let procedure = Procedure::parse(&request.procedure_file, &request.procedure).map_err(wrong)?;
    let file = request.parameters.as_ref().map(|(name, text)| SiteFile { name, text });
    let values = procedure.values(file, &request.settings).map_err(wrong)?;
    let options = Options { waves: request.waves.clone(), labels };
    Ok(compile(&procedure, &values, fleet, &options, now, request.by.clone())?)
}
