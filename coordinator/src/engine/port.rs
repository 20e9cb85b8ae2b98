//! The others' end of the engine: asking it and waiting for the answer, watching for changes, reading the store.

use super::look::Asking;
use super::pace::Pace;
use super::{About, Answer, Command, Input, Look, Reply, RequestError};
use crate::clock::Clock;
use crate::status::plan::{Approvals, PlanView};
use crate::status::view::{Detail, RolloutStatus};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use wavegate_common::id::{Actor, PlanId, RolloutId};
use wavegate_common::rollout::WaitingOn;

/// After so long it is told what a look waits for, if that is the store.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// The others' end of the engine.
#[derive(Clone)]
pub struct Port {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) approvals: bool,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) output: watch::Receiver<u64>,
    pub(super) asking: Arc<Asking>,
    pub(super) pace: Arc<Pace>,
}

impl Port {
    /// The time.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Wakes after every change of what [`Port::status`] tells. Closed when the engine has ended.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Wakes when a step has printed something.
    #[must_use]
    pub fn output(&self) -> watch::Receiver<u64> {
        self.output.clone()
    }

    /// Gives the engine an input.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn send(&self, input: Input) -> Result<(), RequestError> {
        self.inputs.send(input).await.map_err(|_| RequestError::Ending)
    }

    /// Tells of time that has passed, unless the engine has enough to do.
    pub fn tick(&self) {
        drop(self.inputs.try_send(Input::Tick));
    }

    /// Tells of somebody who was refused, unless the engine has enough to do; then it is only in the log.
    pub fn refused(&self, who: String, what: String) {
        if let Err(mpsc::error::TrySendError::Full(Input::Refused { who, what })) =
            self.inputs.try_send(Input::Refused { who, what })
        {
            tracing::warn!(who, what, "refused");
        }
    }

    /// Gives the engine an input that it answers.
    ///
    /// # Errors
    /// What it answers, or [`RequestError::Ending`].
    pub async fn ask<T>(&self, input: impl FnOnce(Reply<T>) -> Input) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.send(input(reply)).await?;
        answer.await.unwrap_or(Err(RequestError::Ending))
    }

    /// Asks for something to be done to a rollout.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn command(&self, by: Actor, command: Command) -> Result<Answer, RequestError> {
        self.ask(|reply| Input::Command { by, command, reply }).await
    }

    /// A plan with who has approved it, or the newest one.
    ///
    /// # Errors
    /// What the store says.
    pub async fn plan(&self, id: Option<PlanId>) -> Result<Option<PlanView>, RequestError> {
        let required = self.approvals;
        self.read(move |store| {
            let Some(plan) = store.plan(id.as_ref())? else { return Ok(None) };
            let approval = Approvals { required, given: store.approvals(&plan.id)? };
            Ok(Some(PlanView { plan, approval }))
        })
        .await
    }

    /// A look at the engine, with all in it that was stored when this was called.
    ///
    /// # Errors
    /// [`RequestError::Ending`], or that the store takes long to write.
    pub async fn look(&self) -> Result<Arc<Look>, RequestError> {
        let look = self.asking.ask().ok_or(RequestError::Ending)?;
        // Where there is no room for the sign, the engine is at work and sees who asks when its turn ends.
        if let Err(mpsc::error::TrySendError::Closed(_)) = self.inputs.try_send(Input::Look) {
            return Err(RequestError::Ending);
        }
        tokio::pin!(look);
        loop {
            if let Ok(look) = tokio::time::timeout(LOOK_WITHIN, &mut look).await {
                return look.map_err(|_| RequestError::Ending);
            }
            // Until the write has come to its end nobody knows what there is to be looked at.
            if let Some(writing) = self.pace.writing(&self.clock) {
                return Err(RequestError::NotNow(format!("{}; {}", writing.why, writing.unblock)));
            }
        }
    }

    /// Makes something of a look, off the threads that serve connections.
    ///
    /// # Errors
    /// What `tell` says, or [`RequestError::Ending`].
    pub async fn told<T: Send + 'static>(
        &self,
        tell: impl FnOnce(&Look, &Store) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let (look, store) = (self.look().await?, self.store.clone());
        tokio::task::spawn_blocking(move || tell(&look, &store)).await.unwrap_or(Err(RequestError::Ending))
    }

    /// Where a rollout is, or the newest one.
    ///
    /// # Errors
    /// If there is none.
    pub async fn status(
        &self,
        rollout: Option<RolloutId>,
        detail: Detail,
    ) -> Result<RolloutStatus, RequestError> {
        self.told(move |look, store| look.status(store, rollout.as_ref(), detail)).await
    }

    /// What a rollout, or a part of it, waits for.
    ///
    /// # Errors
    /// If there is none.
    pub async fn why(
        &self,
        rollout: Option<RolloutId>,
        about: About,
    ) -> Result<Vec<WaitingOn>, RequestError> {
        self.told(move |look, store| look.why(store, rollout.as_ref(), &about)).await
    }

    /// Reads the store, off the threads that serve connections.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let store = self.store.clone();
        let looked = tokio::task::spawn_blocking(move || look(&store)).await;
        Ok(looked.map_err(|_| RequestError::Ending)??)
    }
}
