//! Everything that can reach the engine: one closed set. Wire types stop in `rpc`; these are the core's words.

use super::error::RequestError;
use super::links::Session;
use crate::status::plan::PlanView;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};
use wavegate_common::facts::Facts;
use wavegate_common::id::{Actor, FleetId, NodeId, PlanId, RolloutId, StepId};
use wavegate_common::leader::Leader;
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder};
use wavegate_common::plan::StepPreview;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Mode, Report};
use wavegate_common::waves::WaveOverride;

/// Where an answer goes. Whoever asked may have gone; then it goes nowhere.
pub type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// What can reach the engine.
pub enum Input {
    /// An agent opened a session and said hello.
    Connected(Box<Connected>),
    /// An agent said something in a session.
    Said {
        /// Its node.
        node: NodeId,
        /// The session's number; what an older session says is dropped.
        session: u64,
        /// What.
        message: Box<FromAgent>,
    },
    /// A session has ended.
    Gone {
        /// Its node.
        node: NodeId,
        /// The session's number.
        session: u64,
    },
    /// A machine wants to become a node.
    Enrol(Box<Enrol>, Reply<Enrolled>),
    /// An operator asks for something to be done.
    Command {
        /// Who.
        by: Actor,
        /// What.
        command: Command,
        /// Where the answer goes.
        reply: Reply<Answer>,
    },
    /// An operator asks for a join token.
    CreateToken {
        /// Who.
        by: Actor,
        /// For whom, and for how long.
        wish: TokenWish,
        /// Where the answer goes.
        reply: Reply<CreatedToken>,
    },
    /// An operator asks that a token be worth nothing from now on.
    RevokeToken {
        /// Who.
        by: Actor,
        /// The token's id.
        id: String,
        /// Where the answer goes.
        reply: Reply<Done>,
    },
    /// An operator asks that a node be taken out of the fleet.
    RemoveNode {
        /// Who.
        by: Actor,
        /// The node.
        node: NodeId,
        /// Also if it is online.
        force: bool,
        /// Where the answer goes.
        reply: Reply<Done>,
    },
    /// An operator declares the fleet, or takes that back.
    SetInventory {
        /// Who.
        by: Actor,
        /// The inventory; `None` for none.
        inventory: Option<InventoryText>,
        /// Where the answer goes.
        reply: Reply<Done>,
    },
    /// An operator approves a plan.
    Approve {
        /// Who.
        by: Actor,
        /// The plan's id, or its whole digest.
        plan: PlanId,
        /// Where the answer goes.
        reply: Reply<Done>,
    },
    /// An operator asks for a plan.
    MakePlan(Box<MakePlan>),
    /// Somebody wants a [`Look`](super::Look): a sign for an engine that waits, which is answered beside the inputs.
    Look,
    /// Somebody was refused at the door.
    Refused {
        /// Who: an address, an identity.
        who: String,
        /// What they tried, and why it was refused.
        what: String,
    },
    /// Some time has passed.
    Tick,
    /// The coordinator ends: finish what was received before this, then end.
    Shutdown,
}

/// An agent that opened a session.
pub struct Connected {
    /// Its node, as its certificate says.
    pub node: NodeId,
    /// SHA-256 of its certificate, hexadecimal.
    pub fingerprint: String,
    /// Its version.
    pub agent_version: String,
    /// The highest generation that its journal has seen, and whose it was.
    pub seen: Leader,
    /// What it observed; `None` if it could observe nothing, or nothing that we understand.
    pub facts: Option<Facts>,
    /// What of its first message we don't understand.
    pub not_understood: Option<String>,
    /// The session.
    pub session: Session,
    /// Where the session's number goes.
    pub reply: Reply<u64>,
}

/// What agents say.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    /// What it works on now, and what that stands still for, if it does.
    Working(Option<(TaskKey, Option<StepId>)>, Option<String>),
    /// What its journal has of a task, and the step it works on.
    Report(Report, Option<StepId>),
    /// It does not obey an order.
    OrderRefused {
        /// The order's key.
        key: TaskKey,
        /// Why.
        reason: String,
    },
    /// A step printed something.
    Output {
        /// The task.
        key: TaskKey,
        /// The step.
        step: StepId,
        /// Where the piece begins in the step's output, in bytes.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Something that we don't understand, and why not: it may be newer than we are.
    NotUnderstood(String),
    /// What steps would do.
    Preview {
        /// The request's id.
        request: u64,
        /// The stage.
        stage: Stage,
        /// Its previews.
        previews: Vec<StepPreview>,
    },
    /// It observed its node anew.
    Facts(Box<Facts>),
}

/// What agents are told.
#[derive(Debug, Clone, PartialEq)]
pub enum ToAgent {
    /// First of a session.
    Welcome {
        /// Our fleet.
        fleet: FleetId,
        /// Our generation, and which start of ours it is.
        leader: Leader,
        /// Seconds between heartbeats.
        heartbeat_interval_s: u32,
    },
    /// Run a task.
    Order(Box<TaskOrder>),
    /// The end of the task is in the log.
    Acknowledge(TaskKey),
    /// Say what these steps would do.
    Preview {
        /// The request's id.
        request: u64,
        /// The stage.
        stage: Stage,
        /// The steps.
        steps: Vec<PlannedStep>,
    },
}

/// A machine that wants to become a node.
pub struct Enrol {
    /// The token's id.
    pub token_id: String,
    /// The token's secret.
    pub token_secret: String,
    /// The name that it wants.
    pub node: String,
    /// Its certificate signing request, PEM.
    pub csr_pem: String,
    /// Where it is.
    pub from: String,
}

/// A machine that has become a node.
#[derive(Debug)]
pub struct Enrolled {
    /// The fleet.
    pub fleet: FleetId,
    /// The node's certificate.
    pub certificate_pem: String,
    /// The fleet's authority.
    pub ca_pem: String,
}

/// What operators ask to be done to a rollout. `None` is the newest one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin a rollout of a plan, or of the newest plan.
    Start {
        /// The plan.
        plan: Option<PlanId>,
        /// Who lets its waves begin.
        mode: Mode,
        /// The ids of its warnings that whoever starts it knows of.
        acknowledge: Vec<String>,
    },
    /// Start nothing new.
    Pause(Option<RolloutId>),
    /// Go on.
    Resume(Option<RolloutId>),
    /// Start nothing new ever again.
    Stop(Option<RolloutId>),
    /// Let the next wave begin.
    NextWave(Option<RolloutId>),
    /// Let this wave begin.
    ReleaseWave {
        /// The rollout.
        rollout: Option<RolloutId>,
        /// The stage.
        stage: Stage,
        /// The wave, from 0.
        wave: usize,
    },
    /// Try failed nodes again.
    Retry {
        /// The rollout.
        rollout: Option<RolloutId>,
        /// These nodes.
        nodes: Vec<NodeId>,
        /// Or all that failed.
        all_failed: bool,
    },
    /// Let a node not count for a while.
    Waive {
        /// The rollout.
        rollout: Option<RolloutId>,
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
        /// Seconds from now on.
        for_s: u64,
    },
    /// Let a waived node count again.
    WithdrawWaiver {
        /// The rollout.
        rollout: Option<RolloutId>,
        /// The node.
        node: NodeId,
    },
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The rollout.
    pub rollout: RolloutId,
    /// False if it was so already.
    pub changed: bool,
    /// For people.
    pub text: String,
}

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWish {
    /// Seconds for which it is valid.
    pub valid_for_s: u64,
    /// The only node that may use it.
    pub node: Option<NodeId>,
    /// How many nodes may, each once.
    pub uses: u32,
    /// Whether only nodes of the inventory may.
    pub declared: bool,
}

/// A token that was made.
#[derive(Debug)]
pub struct CreatedToken {
    /// Its text.
    pub token: String,
    /// When it expires, in milliseconds since the epoch.
    pub expires_at_ms: u64,
}

/// What came of something that is not about a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// False if there was nothing to do: it was so already.
    pub changed: bool,
    /// For people.
    pub text: String,
}

/// An inventory as an operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryText {
    /// Where the text is from, for messages.
    pub file: String,
    /// The text.
    pub text: String,
}

/// A plan that an operator asks for.
pub struct MakePlan {
    /// Who.
    pub by: Actor,
    /// The procedure's text.
    pub procedure: String,
    /// Where that text is from, for messages.
    pub procedure_file: String,
    /// The site's parameters and where they are from, if there are any.
    pub parameters: Option<(String, String)>,
    /// `name=value`.
    pub settings: Vec<String>,
    /// Waves and limits in place of the procedure's.
    pub waves: BTreeMap<Stage, WaveOverride>,
    /// Where progress and the plan go. Closed when whoever asked has gone: then the work is given up.
    pub updates: mpsc::UnboundedSender<Result<PlanUpdate, RequestError>>,
}

/// What is told while a plan is made.
#[derive(Debug)]
pub enum PlanUpdate {
    /// How far it is.
    Progress {
        /// Nodes that were asked.
        asked: usize,
        /// Nodes that have answered.
        answered: usize,
        /// Some of those that have not.
        waiting_for: Vec<NodeId>,
    },
    /// It is done.
    Done(Box<PlanView>),
}
