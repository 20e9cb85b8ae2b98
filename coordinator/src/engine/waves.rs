//! Letting waves begin that wait for an operator, or that rest after the one before.

use super::commands::unchanged;
use super::words::names;
use super::{Answer, Engine, RequestError};
use crate::store::AuditRecord;
use wavegate_common::id::{Actor, RolloutId};
use wavegate_common::plan::StagePlan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Rollout};

impl Engine {
    /// Lets the wave begin that waits. Asked again, it may be the next one: who must not let two begin names the wave.
    pub(super) fn next_wave(
        &mut self,
        id: Option<&RolloutId>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        let soaks_or_waits = |stage: &StagePlan| stage.limits.soak_s > 0 || rollout.is_manual(stage);
        if !rollout.ended() && !rollout.plan().body.stages.iter().any(soaks_or_waits) {
            let id = rollout.id();
            return Err(RequestError::NotNow(format!(
                "the waves of rollout {id} begin by themselves, since it was started without --manual; to hold it: wavegate pause"
            )));
        }
        let Some((stage, wave)) = rollout.wave_to_release(self.clock.now()).filter(|_| !rollout.ended())
        else {
            let text = format!("no wave of rollout {} waits for an operator (wavegate why)", rollout.id());
            return if rollout.ended() {
                Err(RequestError::NotNow(text))
            } else {
                Ok(unchanged(rollout, text))
            };
        };
        self.release(stage, wave, by, audit)
    }

    /// Lets this wave begin, if it is the one that waits.
    pub(super) fn release_wave(
        &mut self,
        id: Option<&RolloutId>,
        (stage, wave): (Stage, usize),
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        let id = rollout.id();
        let waves = rollout.plan().stage(stage).map_or(0, |planned| planned.waves.len());
        if wave >= waves {
            return Err(RequestError::NotFound(format!(
                "stage {stage} of rollout {id} has {waves} wave(s), there is no wave {}",
                wave + 1
            )));
        }
        if has_begun(rollout, stage, wave) {
            let text =
                format!("wave {} of stage {stage} of rollout {id} has been let begin already", wave + 1);
            return Ok(unchanged(rollout, text));
        }
        self.release(stage, wave, by, audit)
    }

    fn release(
        &mut self,
        stage: Stage,
        wave: usize,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let planned = self.target(None)?.plan().stage(stage).and_then(|planned| planned.waves.get(wave));
        let nodes = planned.map(names).unwrap_or_default();
        let event = Event::WaveReleased { stage, wave, by: by.clone() };
        self.change("given its next wave", vec![event], audit, |id| {
            format!("wave {} of stage {stage} of rollout {id} may begin: {nodes}", wave + 1)
        })
    }
}

/// Whether an operator let a wave begin, or a node of it was tried.
fn has_begun(rollout: &Rollout, stage: Stage, wave: usize) -> bool {
    let nodes = rollout.plan().stage(stage).and_then(|planned| planned.waves.get(wave));
    let tried = |node| rollout.task(stage, node).is_some_and(|task| task.attempt > 0);
    rollout.is_released(stage, wave) || nodes.is_some_and(|nodes| nodes.iter().any(tried))
}
