//! Making a plan of a procedure and the facts of a fleet. A pure function: the same arguments make the same plan.

use super::alike::Alike;
use super::{FORMAT, PlanBody, PlannedNode, Problem, StagePlan, settle_etcd};
use crate::facts::Facts;
use crate::id::{Actor, NodeId, Timestamp};
use crate::order::{PlannedStep, Work};
use crate::outcome::StepError;
use crate::platform::{Role, Stage};
use crate::procedure::{
    BuildError, Condition, Procedure, StageSteps, Step, Type, Value, Values, Verdict, release_of,
};
use crate::waves::{WaveOverride, WavePolicy};
use std::collections::{BTreeMap, BTreeSet};

/// What the operator asks for beyond the procedure, and what is known of the fleet beyond its facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Waves and limits in place of the procedure's, by stage.
    pub waves: BTreeMap<Stage, WaveOverride>,
    /// The labels of nodes, by name: where they stand, who owns them.
    pub labels: BTreeMap<NodeId, BTreeMap<String, String>>,
}

/// Why there is no plan. What is wrong with single nodes is a [`Problem`] of the plan instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The fleet is empty.
    #[error("the fleet has no nodes; start agents on the machines and enrol them, then plan again")]
    NoNodes,
    /// Nobody has anything to do.
    #[error(
        "none of the {nodes} nodes has a role that procedure {procedure} works on ({roles}); look at `wavegate nodes`, \
         add roles in the agents' configuration where they were not found, then plan again"
    )]
    NothingToDo {
        /// Nodes of the fleet.
        nodes: usize,
        /// The procedure.
        procedure: String,
        /// The roles of its stages.
        roles: String,
    },
    /// A limit that the operator asked for.
    #[error("stage {stage}: {what}")]
    Limit {
        /// The stage.
        stage: Stage,
        /// What is wrong; what would be right.
        what: String,
    },
}

/// Compiles a plan. Previews stay empty: the agents make them.
///
/// # Errors
/// [`CompileError`] if there is nothing to plan or the limits can't be.
pub fn compile(
    procedure: &Procedure,
    values: &Values,
    fleet: &BTreeMap<NodeId, Facts>,
    options: &Options,
    created_at: Timestamp,
    created_by: Actor,
) -> Result<PlanBody, CompileError> {
    check_fleet(procedure, fleet)?;
    let (labels, problems, unknown_releases) = (&options.labels, Vec::new(), BTreeSet::new());
    let mut compiler = Compiler { procedure, values, fleet, labels, problems, unknown_releases };
    let waves = waves_of(procedure, options)?;
    let stages = procedure.stages.iter().zip(waves).map(|(stage, waves)| compiler.stage(stage, &waves));
    let stages = stages.collect::<Result<_, _>>()?;
    let nodes = fleet.iter().map(|(node, facts)| (node.clone(), compiler.node(facts))).collect();
    let parameters =
        procedure.parameters.keys().filter_map(|name| Some((name.clone(), compiler.value(name)?)));
    let mut body = PlanBody {
        format: FORMAT,
        procedure: procedure.name.clone(),
        procedure_version: procedure.version.clone(),
        procedure_digest: procedure.digest.clone(),
        parameters: parameters.collect(),
        created_at,
        created_by,
        nodes,
        stages,
        previews: BTreeMap::new(),
        problems: compiler.problems,
        warnings: Vec::new(),
        version_differences: Vec::new(),
        undeclared: BTreeSet::new(),
    };
    settle_etcd(&mut body, fleet);
    Ok(body)
}

fn check_fleet(procedure: &Procedure, fleet: &BTreeMap<NodeId, Facts>) -> Result<(), CompileError> {
    if fleet.is_empty() {
        return Err(CompileError::NoNodes);
    }
    let roles: BTreeSet<Role> =
        procedure.stages.iter().flat_map(|stage| stage.roles.iter().copied()).collect();
    if fleet.values().any(|facts| !facts.roles.is_disjoint(&roles)) {
        return Ok(());
    }
    let roles = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(CompileError::NothingToDo { nodes: fleet.len(), procedure: procedure.name.clone(), roles })
}

/// How the waves of each stage of the procedure are made.
fn waves_of(procedure: &Procedure, options: &Options) -> Result<Vec<WavePolicy>, CompileError> {
    let known = |stage: &Stage| procedure.stages.iter().any(|own| own.stage == *stage);
    if let Some(stage) = options.waves.keys().find(|stage| !known(stage)) {
        let what = format!("procedure {} has no such stage; leave its limits out", procedure.name);
        return Err(CompileError::Limit { stage: *stage, what });
    }
    let unchanged = WaveOverride::default();
    let asked = |own: &StageSteps| own.waves.with(options.waves.get(&own.stage).unwrap_or(&unchanged));
    Ok(procedure.stages.iter().map(asked).collect())
}

struct Compiler<'a> {
    procedure: &'a Procedure,
    values: &'a Values,
    fleet: &'a BTreeMap<NodeId, Facts>,
    labels: &'a BTreeMap<NodeId, BTreeMap<String, String>>,
    problems: Vec<Problem>,
    /// Where a node's unknown release is a problem already.
    unknown_releases: BTreeSet<(Stage, NodeId)>,
}

impl Compiler<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        self.procedure.value(name, self.values)
    }

    /// The node as the plan sees it: its release is the one that conditions are decided with.
    fn node(&self, facts: &Facts) -> PlannedNode {
        let parameter =
            self.procedure.parameters.iter().find(|(_, parameter)| parameter.kind == Type::Release);
        let release = match parameter.and_then(|(name, _)| self.value(name)) {
            Some(value) => release_of(&value, facts.release),
            None => facts.release,
        };
        PlannedNode {
            roles: facts.roles.clone(),
            platform: facts.platform.clone(),
            release,
            versions: facts.versions.clone(),
            etcd: None,
            observed_at: facts.observed_at,
        }
    }

    fn stage(&mut self, stage: &StageSteps, policy: &WavePolicy) -> Result<StagePlan, CompileError> {
        let mut nodes = nodes_of(stage, self.fleet);
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let limits = policy.limits(count).map_err(|what| CompileError::Limit { stage: stage.stage, what })?;
        let groups = policy.group_by.as_ref().map_or_else(BTreeMap::new, |label| {
            let groups = self.groups(stage.stage, label, &nodes);
            sort_by_group(stage, &mut nodes, &groups);
            groups
        });
        let waves = waves(stage.stage, &nodes, policy, &groups);
        let mut alike = Alike::default();
        let steps = nodes.iter().map(|(_, facts)| (facts.node.clone(), self.task(stage, facts).into()));
        let tasks = steps.map(|(node, steps)| (node, alike.shared(steps))).collect();
        Ok(StagePlan { stage: stage.stage, limits, waves, groups, tasks })
    }

    /// The group of each node that takes part; one that has none is a problem.
    fn groups(&mut self, stage: Stage, label: &str, nodes: &[(Role, &Facts)]) -> BTreeMap<NodeId, String> {
        let mut groups = BTreeMap::new();
        for (_, facts) in nodes {
            match self.labels.get(&facts.node).and_then(|labels| labels.get(label)) {
                Some(group) => drop(groups.insert(facts.node.clone(), group.clone())),
                None => {
                    let what = format!(
                        "stage {stage} is done {label} by {label}, and {} has no label {label}",
                        facts.node
                    );
                    let next = format!(
                        "name it in the inventory (labels = {{ {label} = ... }}; wavegate inventory set), then plan again"
                    );
                    self.problem(facts, stage, None, what, next);
                }
            }
        }
        groups
    }

    fn task(&mut self, stage: &StageSteps, facts: &Facts) -> Vec<PlannedStep> {
        let family = facts.platform.family;
        let of_node =
            |step: &&Step| step.platforms.contains(&family) && !step.roles.is_disjoint(&facts.roles);
        let steps: Vec<&Step> = stage.steps.iter().filter(of_node).collect();
        if steps.is_empty() {
            let own: Vec<&str> = stage
                .roles
                .iter()
                .filter(|role| facts.roles.contains(role))
                .map(|role| role.as_str())
                .collect();
            let what = format!(
                "procedure {} has no steps in stage {} for {family} and {}, the roles of {} there",
                self.procedure.name,
                stage.stage,
                own.join(", "),
                facts.node
            );
            let next = format!("use a procedure with steps for {family}, or take the role off the node");
            self.problem(facts, stage.stage, None, what, next);
        }
        steps.into_iter().map(|step| self.step(stage, step, facts)).collect()
    }

    fn step(&mut self, stage: &StageSteps, step: &Step, facts: &Facts) -> PlannedStep {
        let work = match self.judge(stage, step, facts) {
            Some(reason) => Work::Skip { reason },
            None => self.work(stage, step, facts),
        };
        PlannedStep { id: step.id.clone(), title: step.title.clone(), work }
    }

    /// Why the step is left out, if it is. A condition that surely does not hold goes before one that nobody can tell.
    fn judge(&mut self, stage: &StageSteps, step: &Step, facts: &Facts) -> Option<String> {
        let conditions = stage.when.iter().chain(&step.when);
        let judge = |condition: &Condition| condition.judge(&|name| self.value(name), facts.release);
        let verdicts: Vec<Verdict> = conditions.map(judge).collect();
        if let Some(reason) = verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Unmet(reason) => Some(reason.clone()),
            Verdict::Met | Verdict::UnknownRelease(_) | Verdict::Missing(_) => None,
        }) {
            return Some(reason);
        }
        verdicts.into_iter().find_map(|verdict| match verdict {
            Verdict::Met | Verdict::Unmet(_) => None,
            Verdict::UnknownRelease(parameter) => {
                self.unknown_release(stage.stage, facts, &parameter);
                Some("the OpenStack release of the node is unknown".to_owned())
            }
            Verdict::Missing(parameter) => Some(self.missing(stage.stage, step, facts, &parameter)),
        })
    }

    fn work(&mut self, stage: &StageSteps, step: &Step, facts: &Facts) -> Work {
        let built = step.build(&|name| self.value(name));
        let errors = match built {
            Ok((action, timeout_s)) => return Work::Run { action, timeout_s },
            Err(errors) => errors,
        };
        let reasons = errors.into_iter().map(|error| match error {
            BuildError::Missing { parameter } => self.missing(stage.stage, step, facts, &parameter),
            BuildError::Wrong { what } => {
                let next = "set the parameters that it uses to values that fit, and plan again".to_owned();
                self.problem(facts, stage.stage, Some(step), what.clone(), next);
                what
            }
        });
        Work::Skip { reason: reasons.collect::<Vec<_>>().join("; ") }
    }

    /// One problem a node and stage, however many of its steps it keeps from being decided.
    fn unknown_release(&mut self, stage: Stage, facts: &Facts, parameter: &str) {
        let what = format!(
            "the OpenStack release of {} is unknown, and steps of stage {stage} depend on it: its agent found no \
             Neutron whose version tells it",
            facts.node
        );
        if self.unknown_releases.insert((stage, facts.node.clone())) {
            let next = format!("name it, e.g. --set {parameter}=mitaka, and plan again");
            self.problem(facts, stage, None, what, next);
        }
    }

    fn missing(&mut self, stage: Stage, step: &Step, facts: &Facts, parameter: &str) -> String {
        let reason = format!("parameter {parameter} has no value");
        let help = self.procedure.parameters.get(parameter).map_or("", |parameter| parameter.help.as_str());
        let next = format!("set it: --set {parameter}=... ({help})");
        self.problem(facts, stage, Some(step), reason.clone(), next);
        reason
    }

    fn problem(&mut self, facts: &Facts, stage: Stage, step: Option<&Step>, what: String, next: String) {
        self.problems.push(Problem {
            node: Some(facts.node.clone()),
            stage: Some(stage),
            step: step.map(|step| step.id.clone()),
            error: StepError { what, output: Vec::new(), next },
        });
    }
}

/// The roles of a stage in the order of work: as the procedure names them, and in stage etcd its members before all that asks
/// them, whatever the procedure says.
fn roles_in_order(stage: &StageSteps) -> Vec<Role> {
    let mut roles = stage.roles.clone();
    if stage.stage == Stage::Etcd {
        roles.sort_by_key(|role| *role != Role::EtcdMember);
    }
    roles
}

/// The nodes that take part in a stage, each with the role it does so in, in the order of work: roles, then names.
fn nodes_of<'f>(stage: &StageSteps, fleet: &'f BTreeMap<NodeId, Facts>) -> Vec<(Role, &'f Facts)> {
    let roles = roles_in_order(stage);
    let mut nodes: Vec<(usize, &NodeId, Role, &Facts)> = fleet
        .iter()
        .filter_map(|(node, facts)| {
            let (order, role) = roles.iter().enumerate().find(|(_, role)| facts.roles.contains(role))?;
            Some((order, node, *role, facts))
        })
        .collect();
    nodes.sort_by_key(|(order, node, ..)| (*order, *node));
    nodes.into_iter().map(|(_, _, role, facts)| (role, facts)).collect()
}

/// Groups go before roles, but not in stage etcd: there every member goes before all that asks them, and members, each alone,
/// keep their own order.
fn sort_by_group(stage: &StageSteps, nodes: &mut [(Role, &Facts)], groups: &BTreeMap<NodeId, String>) {
    let roles = roles_in_order(stage);
    nodes.sort_by_key(|(role, facts)| {
        let group = groups.get(&facts.node);
        match (stage.stage, role) {
            (Stage::Etcd, Role::EtcdMember) => (None, None),
            (Stage::Etcd, _) => (roles.iter().position(|other| other == role), group),
            (Stage::Compute | Stage::Control, _) => (None, group),
        }
    });
}

/// The canary, then batches as the policy says, none with nodes of two groups. An etcd member is a wave of its own whatever
/// the policy is: two members that are down at once may be the quorum. What else is in stage etcd follows in waves of one role
/// each, and begins with a canary again.
fn waves(
    stage: Stage,
    nodes: &[(Role, &Facts)],
    policy: &WavePolicy,
    groups: &BTreeMap<NodeId, String>,
) -> Vec<Vec<NodeId>> {
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let kind = |(role, facts): &(Role, &Facts)| {
        let role = (stage == Stage::Etcd).then_some(*role);
        (role, groups.get(&facts.node))
    };
    let mut waves: Vec<Vec<NodeId>> = Vec::new();
    let (mut alone, mut room, mut before) = (0, 0, None);
    for node in nodes {
        let member = stage == Stage::Etcd && node.0 == Role::EtcdMember;
        if room == 0 || before != Some(kind(node)) {
            room = if member { 1 } else { policy.size(waves.len() - alone, count) };
            alone += usize::from(member);
            waves.push(Vec::new());
        }
        if let Some(wave) = waves.last_mut() {
            wave.push(node.1.node.clone());
        }
        room -= 1;
        before = Some(kind(node));
    }
    waves
}

#[cfg(test)]
mod tests;
