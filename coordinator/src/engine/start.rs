//! Starting a plan: whether it may be started as things are, and the first event of its rollout.

use super::commands::{refused, unchanged};
use super::planning::under_way;
use super::words::names;
use super::{Answer, Engine, RequestError};
use crate::store::{AuditRecord, RolloutRecord, rollout_id, rollout_number};
use std::collections::BTreeSet;
use std::sync::Arc;
use wavegate_common::id::{Actor, NodeId, PlanId};
use wavegate_common::plan::{Plan, Problem, Warning, differences};
use wavegate_common::rollout::{Event, Mode, Rollout};

const PROBLEMS_SHOWN: usize = 10;
/// Changed nodes that are shown with how they differ.
const CHANGED_SHOWN: usize = 5;

/// What is to be started, and how.
pub(super) struct Start<'c> {
    /// The plan; the newest if none is named.
    pub(super) plan: Option<&'c PlanId>,
    /// Who lets its waves begin.
    pub(super) mode: Mode,
    /// The ids of its warnings that are acknowledged.
    pub(super) acknowledge: &'c [String],
}

impl Engine {
    pub(super) fn start(
        &mut self,
        start: &Start<'_>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let Start { plan, mode, .. } = *start;
        let Some(plan) = self.store.plan(plan)? else {
            let which = plan.map_or_else(|| "no plan yet".to_owned(), |id| format!("no plan {id}"));
            return Err(RequestError::NotFound(format!("there is {which}; make one: wavegate plan")));
        };
        plan.verify()?;
        if let Some(answer) = self.started_before(&plan)? {
            return Ok(answer);
        }
        self.leads()?;
        self.check_plan(&plan)?;
        let approved_by = self.approved(&plan)?;
        let acknowledged = acknowledged(&plan, start)?;
        let last = self.store.rollout(None)?.map_or(Ok(0), |last| rollout_number(&last.id))?;
        let id = rollout_id(last + 1);
        let record = RolloutRecord {
            id: id.clone(),
            plan: plan.id.clone(),
            created_at: self.clock.now(),
            created_by: by.clone(),
        };
        let text = format!(
            "rollout {id} of plan {} has begun on {} node(s), mode {mode}",
            plan.id,
            plan.body.nodes.len()
        );
        let rollout = Rollout::new(id.clone(), Arc::new(plan));
        let events = vec![Event::Started { mode, by: by.clone(), approved_by, acknowledged }];
        self.begin(rollout, record, events, audit).map_err(|error| refused("it cannot be started", error))?;
        self.steps.clear();
        self.complaints.clear();
        if let Some(planning) = self.planning.take() {
            planning.give_up(under_way(&id));
        }
        Ok(Answer { rollout: id, changed: true, text })
    }

    /// A rollout is one execution of one plan: a plan that has been started is not started again.
    fn started_before(&self, plan: &Plan) -> Result<Option<Answer>, RequestError> {
        if let Some(current) = self.rollout.as_ref().filter(|rollout| !rollout.ended()) {
            let (id, (status, _)) = (current.id(), current.status());
            if current.plan().id == plan.id {
                let text = format!("rollout {id} of this plan has been started already, it is {status}");
                return Ok(Some(unchanged(current, text)));
            }
            return Err(RequestError::NotNow(format!(
                "rollout {id} of plan {} is {status}, and there is one rollout at a time; let it end (wavegate watch), \
                 or end it: wavegate stop",
                current.plan().id
            )));
        }
        match self.store.rollout_of(&plan.id)? {
            None => Ok(None),
            Some(executed) => Err(RequestError::NotNow(format!(
                "plan {} was executed by rollout {}, and the nodes are no longer as it saw them; make a new plan: \
                 wavegate plan",
                plan.id, executed.id
            ))),
        }
    }

    fn check_plan(&self, plan: &Plan) -> Result<(), RequestError> {
        if !plan.body.problems.is_empty() {
            return Err(RequestError::NotNow(problems(plan, "started")));
        }
        let again = "make a new plan: wavegate plan";
        let planned = &plan.body.nodes;
        let added = names(self.nodes.keys().filter(|node| !planned.contains_key(*node)));
        if !added.is_empty() {
            return Err(RequestError::NotNow(format!(
                "plan {} does not have {added}, enrolled since; {again}",
                plan.id
            )));
        }
        let gone = names(planned.keys().filter(|node| !self.nodes.contains_key(*node)));
        if !gone.is_empty() {
            return Err(RequestError::NotNow(format!(
                "plan {} has {gone}, no longer in the fleet; {again}",
                plan.id
            )));
        }
        self.as_declared(plan)?;
        self.as_planned(plan)
    }

    /// A plan is right for the fleet that it was made from: a node that is otherwise now is named, with the difference.
    fn as_planned(&self, plan: &Plan) -> Result<(), RequestError> {
        let changed: Vec<(&NodeId, String)> = plan
            .body
            .nodes
            .iter()
            .filter_map(|(node, planned)| {
                let facts = self.nodes.get(node)?.facts.as_ref()?;
                // A plan of an older coordinator knows of no versions.
                let all = differences(planned, facts, !planned.versions.is_empty());
                let text = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                (!all.is_empty()).then_some((node, text))
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let shown = changed.iter().take(CHANGED_SHOWN).map(|(node, text)| format!("{node} ({text})"));
        let mut shown = shown.collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = changed.len().checked_sub(CHANGED_SHOWN) {
            shown.push_str(&format!(" and {more} more"));
        }
        Err(RequestError::NotNow(format!(
            "since plan {} was made, nodes have changed: {shown}; make a new plan: wavegate plan",
            plan.id
        )))
    }
}

/// The ids of the plan's warnings, all of which must be acknowledged. One that the plan does not have is a mistake: whoever
/// acknowledges it has another plan before their eyes.
fn acknowledged(plan: &Plan, start: &Start<'_>) -> Result<Vec<String>, RequestError> {
    let (id, warnings) = (&plan.id, &plan.body.warnings);
    let ids: BTreeSet<&str> = warnings.iter().map(|warning| warning.id.as_str()).collect();
    let list = |ids: &BTreeSet<&str>| ids.iter().copied().collect::<Vec<_>>().join(", ");
    if let Some(unknown) = start.acknowledge.iter().find(|known| !ids.contains(known.as_str())) {
        let has = if ids.is_empty() { "none".to_owned() } else { list(&ids) };
        return Err(RequestError::Invalid(format!(
            "plan {id} has no warning {unknown}, it has {has}; look at it (wavegate plan show {id}), then start it"
        )));
    }
    let open: BTreeSet<&str> =
        ids.iter().copied().filter(|id| !start.acknowledge.iter().any(|known| known == id)).collect();
    if open.is_empty() {
        return Ok(ids.into_iter().map(str::to_owned).collect());
    }
    let open = warnings.iter().filter(|warning| open.contains(warning.id.as_str()));
    let mut lines = vec![format!("plan {id} has warnings that must be acknowledged before it is started:")];
    lines.extend(open.take(PROBLEMS_SHOWN).map(|warning| format!("  {}", warning_line(warning))));
    let manual = if start.mode == Mode::Manual { " --manual" } else { "" };
    let known: String = ids.iter().map(|id| format!(" --acknowledge {id}")).collect();
    lines.push(format!("if that is known and meant: wavegate start {id}{manual}{known}"));
    Err(RequestError::NotNow(lines.join("\n")))
}

fn warning_line(warning: &Warning) -> String {
    let Warning { id, node, stage, what, next } = warning;
    let place = [node.as_ref().map(ToString::to_string), stage.map(|stage| format!("stage {stage}"))];
    let place = place.into_iter().flatten().map(|place| format!("{place}: ")).collect::<String>();
    format!("{id}: {place}{what}; {next}")
}

/// Why something can't be `done` with a plan, a problem a line.
pub(super) fn problems(plan: &Plan, done: &str) -> String {
    let all = &plan.body.problems;
    let mut lines =
        vec![format!("plan {} has {} problem(s) that keep it from being {done}:", plan.id, all.len())];
    lines.extend(all.iter().take(PROBLEMS_SHOWN).map(|problem| format!("  {}", problem_line(problem))));
    if let Some(more) = all.len().checked_sub(PROBLEMS_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.push(format!("mend them and make a new plan (all of them: wavegate plan show {})", plan.id));
    lines.join("\n")
}

fn problem_line(problem: &Problem) -> String {
    let place = [
        problem.node.as_ref().map(ToString::to_string),
        problem.stage.map(|stage| format!("stage {stage}")),
        problem.step.as_ref().map(|step| format!("step {step}")),
    ];
    let place = place.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let colon = if place.is_empty() { "" } else { ": " };
    format!("{place}{colon}{}; {}", problem.error.what, problem.error.next)
}
