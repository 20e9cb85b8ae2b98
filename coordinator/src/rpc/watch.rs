//! The streams of the operator service: the event log, and the output of steps. Statuses are told by `editions`.
//!
//! Each is a task that reads and sends; it ends when it is done or when whoever looks on has gone.

use crate::engine::{Port, RequestError};
use crate::store::{RolloutRecord, StepPlace};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wavegate_common::id::{NodeId, RolloutId, StepId};
use wavegate_common::order::TaskKey;
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Task, TaskState};
use wavegate_proto::convert::document;
use wavegate_proto::v1;

/// Changes within so long are told as one.
const TOGETHER: Duration = Duration::from_millis(200);
const EVENTS_AT_ONCE: usize = 500;
const OUTPUT_AT_ONCE: usize = 256 << 10;

type Sender<T> = mpsc::Sender<Result<T, Status>>;
type Told<T> = ReceiverStream<Result<T, Status>>;

/// The rollout asked for, or the newest one.
async fn record(port: &Port, rollout: Option<RolloutId>) -> Result<RolloutRecord, Status> {
    let name = rollout.as_ref().map_or_else(|| "rollout yet".to_owned(), |id| format!("rollout {id}"));
    let record = port.read(move |store| store.rollout(rollout.as_ref())).await?;
    record.ok_or_else(|| {
        Status::not_found(format!("there is no {name}; start one: wavegate plan, wavegate start"))
    })
}

/// The event log from behind a place on.
pub(super) async fn events(
    port: Port,
    rollout: Option<RolloutId>,
    after_seq: u64,
) -> Result<Told<v1::Document>, Status> {
    let rollout = record(&port, rollout).await?.id;
    let (send, receive) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut after = after_seq;
        loop {
            let id = rollout.clone();
            let entries = match port.read(move |store| store.events(&id, after, EVENTS_AT_ONCE)).await {
                Ok(entries) => entries,
                Err(error) => return drop(send.send(Err(error.into())).await),
            };
            let Some(last) = entries.last() else { return };
            after = last.seq;
            for entry in &entries {
                if send.send(document("entry", entry).map_err(Status::from)).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(ReceiverStream::new(receive))
}

/// Whose output is asked for.
pub(super) struct Wanted {
    pub(super) rollout: Option<RolloutId>,
    pub(super) node: NodeId,
    pub(super) stage: Option<Stage>,
    pub(super) step: Option<StepId>,
    pub(super) follow: bool,
}

/// What steps printed, in order; if asked to follow, until the node's task has ended.
pub(super) async fn logs(port: Port, wanted: Wanted) -> Result<Told<v1::LogPiece>, Status> {
    let record = record(&port, wanted.rollout.clone()).await?;
    let plan = port.read(move |store| store.plan(Some(&record.plan))).await?;
    let plan = plan.ok_or_else(|| Status::not_found("the rollout's plan is gone"))?;
    if !plan.body.nodes.contains_key(&wanted.node) {
        let (node, rollout) = (&wanted.node, &record.id);
        return Err(Status::not_found(format!(
            "rollout {rollout} has no node {node}; its nodes: wavegate status"
        )));
    }
    if let Some(step) = &wanted.step {
        has_step(&plan, &wanted, step)?;
    }
    let (send, receive) = mpsc::channel(16);
    let logs = Logs { port, rollout: record.id, plan, wanted, after: None };
    tokio::spawn(async move {
        if let Err(error) = logs.tell(&send).await {
            drop(send.send(Err(error.into())).await);
        }
    });
    Ok(ReceiverStream::new(receive))
}

/// A step that the node does not have would print nothing for ever; those that it has are named.
fn has_step(plan: &Plan, wanted: &Wanted, step: &StepId) -> Result<(), Status> {
    let stages =
        plan.body.stages.iter().filter(|stage| wanted.stage.is_none_or(|wanted| wanted == stage.stage));
    let mut known: Vec<&str> = Vec::new();
    for planned in stages.filter_map(|stage| stage.tasks.get(&wanted.node)).flatten() {
        if planned.id == *step {
            return Ok(());
        }
        if !known.contains(&planned.id.as_str()) {
            known.push(planned.id.as_str());
        }
    }
    let (node, known) = (&wanted.node, known.join(", "));
    let place = wanted.stage.map_or_else(String::new, |stage| format!(" in stage {stage}"));
    Err(Status::not_found(match known.as_str() {
        "" => format!("{node} has no step {step}{place}: it has nothing to do there"),
        known => format!("{node} has no step {step}{place}; its steps: {known}"),
    }))
}

struct Logs {
    port: Port,
    rollout: RolloutId,
    plan: Plan,
    wanted: Wanted,
    after: Option<(StepPlace, u64)>,
}

impl Logs {
    async fn tell(mut self, send: &Sender<v1::LogPiece>) -> Result<(), RequestError> {
        let (mut changes, mut output) = (self.port.changes(), self.port.output());
        loop {
            changes.borrow_and_update();
            output.borrow_and_update();
            // Asked before reading: what was printed before the end is then read.
            let last = !self.wanted.follow || self.has_ended().await?;
            if !self.tell_new(send).await? || last {
                return Ok(());
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| RequestError::Ending)?,
                printed = output.changed() => printed.map_err(|_| RequestError::Ending)?,
                () = send.closed() => return Ok(()),
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Sends what is new. False if nobody looks on any more.
    async fn tell_new(&mut self, send: &Sender<v1::LogPiece>) -> Result<bool, RequestError> {
        loop {
            let (rollout, node, after) = (self.rollout.clone(), self.wanted.node.clone(), self.after.clone());
            let read = move |store: &crate::store::Store| {
                store.output(&rollout, &node, after.as_ref(), OUTPUT_AT_ONCE)
            };
            let pieces = self.port.read(read).await?;
            let Some(last) = pieces.last() else { return Ok(true) };
            self.after = Some((last.place.clone(), last.offset));
            for piece in pieces {
                let Some(step) = self.step_of(&piece.place) else { continue };
                let key = TaskKey {
                    rollout: self.rollout.clone(),
                    plan: self.plan.id.clone(),
                    stage: piece.place.stage,
                    node: self.wanted.node.clone(),
                    attempt: piece.place.attempt,
                };
                let piece =
                    v1::LogPiece { key: Some((&key).into()), step: step.to_string(), data: piece.data };
                if send.send(Ok(piece)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }

    /// The step of a place, if it is one that is asked for.
    fn step_of(&self, place: &StepPlace) -> Option<StepId> {
        let steps = self.plan.stage(place.stage)?.tasks.get(&self.wanted.node)?;
        let step = steps.get(usize::try_from(place.step).ok()?)?.id.clone();
        let stage_wanted = self.wanted.stage.is_none_or(|stage| stage == place.stage);
        let step_wanted = self.wanted.step.as_ref().is_none_or(|wanted| *wanted == step);
        (stage_wanted && step_wanted).then_some(step)
    }

    /// Whether nothing more will be printed: all that is asked for has ended, or an attempt has failed.
    async fn has_ended(&self) -> Result<bool, RequestError> {
        let (id, node, stage) = (self.rollout.clone(), self.wanted.node.clone(), self.wanted.stage);
        self.port
            .told(move |look, store| {
                let rollout = look.rollout(store, Some(&id))?;
                let stages = Stage::ALL.iter().filter(|of| stage.is_none_or(|wanted| wanted == **of));
                let tasks = stages.filter_map(|of| rollout.task(*of, &node));
                let mut open = tasks.map(Task::state).filter(|state| *state != TaskState::Finished);
                let next = open.next();
                Ok(rollout.ended()
                    || next.is_none_or(|state| matches!(state, TaskState::Failed | TaskState::Canceled)))
            })
            .await
    }
}
