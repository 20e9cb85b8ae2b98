//! The shapes of the fleets that are checked: which node is in which stage, the limits, and how much may go wrong.
//! What can happen in them is `world`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::action::{Action, ServiceRestart};
use wavegate_common::id::{Actor, NodeId, StepId, Timestamp};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::plan::{FORMAT, Limits, Plan, PlanBody, PlannedNode, StagePlan};
use wavegate_common::platform::{OsFamily, PackageManager, Platform, Role, ServiceManager, Stage};
use wavegate_common::rollout::Mode;

/// Nodes that a shape may have.
pub const NODES: usize = 3;
/// Steps that a task may have.
pub const STEPS: usize = 4;
/// Attempts that a task may have, with those that an operator needs to reach the end from the last state explored.
pub const ATTEMPTS: u32 = 4;
/// Generations that a coordinator may reach.
pub const GENERATIONS: u64 = 3;

/// One stage of a shape.
#[derive(Debug, Clone, Copy)]
pub struct StageShape {
    /// Its waves, of nodes by number.
    pub waves: &'static [&'static [usize]],
    /// Its limits.
    pub limits: Limits,
    /// Whether each node is a group of its own.
    pub grouped: bool,
}

impl StageShape {
    /// Its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        self.waves.iter().copied().flatten().copied()
    }
}

/// A small fleet with its plan, and how much may happen to it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// A short name, for figures.
    pub name: &'static str,
    /// Etcd, compute and control.
    pub stages: [StageShape; 3],
    /// Nodes of stage etcd that run no member, but a proxy.
    pub proxies: &'static [usize],
    /// Steps of every task, at most [`STEPS`].
    pub steps: usize,
    /// Who lets waves begin.
    pub mode: Mode,
    /// Attempts at a task that are explored; below [`ATTEMPTS`].
    pub attempts: u32,
    /// Generations of the coordinator that are explored, at most [`GENERATIONS`]: it restarts one time less.
    pub generations: u64,
    /// Waivers that operators give.
    pub waivers: usize,
    /// Whether a long time may pass.
    pub time: bool,
    /// Whether agents are told that the end of a task is in the log, and remember it.
    pub acknowledges: bool,
    /// Whether each node may lose its journal once.
    pub loses_journals: bool,
}

impl Shape {
    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.stages.iter().flat_map(StageShape::nodes).max().map_or(0, |last| last + 1)
    }

    /// The members of etcd: a bit each.
    #[must_use]
    pub fn members(&self) -> u8 {
        let members = self.stages[0].nodes().filter(|node| !self.proxies.contains(node));
        members.fold(0, |members, node| members | 1 << node)
    }

    /// The plan that is executed.
    ///
    /// # Errors
    /// If a name is not one, or the plan cannot be sealed.
    pub fn plan(&self) -> anyhow::Result<Arc<Plan>> {
        let steps: Vec<PlannedStep> = (0..self.steps).map(step).collect::<anyhow::Result<_>>()?;
        let stages =
            Stage::ALL.iter().zip(&self.stages).map(|(stage, shape)| stage_plan(*stage, shape, &steps));
        let nodes = (0..self.nodes()).map(|number| Ok((node_id(number)?, self.planned(number))));
        let body = PlanBody {
            format: FORMAT,
            procedure: "model".to_owned(),
            procedure_version: "1".to_owned(),
            procedure_digest: String::new(),
            parameters: BTreeMap::new(),
            created_at: Timestamp(0),
            created_by: Actor("model".to_owned()),
            nodes: nodes.collect::<anyhow::Result<_>>()?,
            stages: stages.collect::<anyhow::Result<_>>()?,
            previews: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            version_differences: Vec::new(),
            undeclared: BTreeSet::new(),
        };
        Ok(Arc::new(Plan::seal(body)?))
    }

    fn planned(&self, number: usize) -> PlannedNode {
        let [etcd, compute, control] = &self.stages;
        let of_etcd = if self.proxies.contains(&number) { Role::EtcdProxy } else { Role::EtcdMember };
        let roles = [(etcd, of_etcd), (compute, Role::Compute), (control, Role::Control)];
        let roles = roles.into_iter().filter(|(stage, _)| stage.nodes().any(|node| node == number));
        let platform = Platform {
            family: OsFamily::Debian,
            id: "model".to_owned(),
            version_id: String::new(),
            pretty_name: String::new(),
            package_manager: PackageManager::Apt,
            service_manager: ServiceManager::Systemd,
        };
        PlannedNode {
            roles: roles.map(|(_, role)| role).collect(),
            platform,
            release: None,
            versions: BTreeMap::new(),
            etcd: None,
            observed_at: Timestamp(0),
        }
    }
}

/// The name of a node by its number.
///
/// # Errors
/// Never for the numbers of a shape.
pub fn node_id(number: usize) -> anyhow::Result<NodeId> {
    Ok(NodeId::new(format!("n{number}"))?)
}

/// The number of a node by its name.
#[must_use]
pub fn node_number(node: &NodeId) -> Option<usize> {
    node.as_str().strip_prefix('n')?.parse().ok()
}

fn stage_plan(stage: Stage, shape: &StageShape, steps: &[PlannedStep]) -> anyhow::Result<StagePlan> {
    let named =
        |wave: &&[usize]| wave.iter().map(|number| node_id(*number)).collect::<anyhow::Result<Vec<_>>>();
    let waves = shape.waves.iter().map(named).collect::<anyhow::Result<Vec<_>>>()?;
    let nodes = || waves.iter().flatten().cloned();
    Ok(StagePlan {
        stage,
        limits: shape.limits,
        groups: nodes().filter(|_| shape.grouped).map(|node| (node.clone(), format!("of-{node}"))).collect(),
        tasks: nodes().map(|node| (node, steps.to_vec().into())).collect(),
        waves,
    })
}

fn step(number: usize) -> anyhow::Result<PlannedStep> {
    let name = format!("s{number}");
    let action = ServiceRestart {
        unit: name.clone(),
        newer_than_packages: Vec::new(),
        newer_than_steps: Vec::new(),
        enable: false,
    };
    Ok(PlannedStep {
        id: StepId::new(name.clone())?,
        title: name,
        work: Work::Run { action: Action::ServiceRestart(action), timeout_s: 60 },
    })
}
