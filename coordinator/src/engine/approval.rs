//! Plans that somebody else than their author looks at before they are started: approving one, and whether one is approved.

use super::start::problems;
use super::{Done, Engine, RequestError, told};
use crate::status::plan::Approvals;
use crate::store::Approval;
use wavegate_common::id::{Actor, PlanId};
use wavegate_common::plan::Plan;

/// Digits of a SHA-256 digest.
const DIGEST: usize = 64;

impl Engine {
    /// Notes that somebody approves a plan, given by its id or its whole digest.
    pub(super) fn approve(&mut self, by: &Actor, plan: &PlanId) -> Result<Done, RequestError> {
        let what = format!("approve plan {plan}");
        let done = self.try_approve(by, plan);
        match &done {
            Ok(Done { changed: true, .. }) => {}
            Ok(Done { changed: false, .. }) => self.audit(&by.0, &what, "nothing to do"),
            Err(error) => self.audit(&by.0, &what, &told(error)),
        }
        done
    }

    fn try_approve(&mut self, by: &Actor, named: &PlanId) -> Result<Done, RequestError> {
        let plan = self.plan_named(named)?;
        let id = &plan.id;
        if self.store.approvals(id)?.iter().any(|known| known.by == *by) {
            return Ok(Done { changed: false, text: format!("{by} has approved plan {id} already") });
        }
        if !plan.body.problems.is_empty() {
            return Err(RequestError::NotNow(problems(&plan, "approved")));
        }
        if let Some(executed) = self.store.rollout_of(id)? {
            return Err(RequestError::NotNow(format!(
                "plan {id} was started already, as rollout {}; there is nothing left to approve (wavegate status)",
                executed.id
            )));
        }
        let author = &plan.body.created_by;
        if self.approvals && by == author {
            return Err(RequestError::NotNow(format!(
                "{author} made plan {id}, and somebody else must approve it: let another operator look at it (wavegate plan \
                 show {id}) and say: wavegate approve {id}"
            )));
        }
        let audit = self.audit_of(&by.0, &format!("approve plan {id}, digest {}", plan.digest), "done");
        let approval = Approval { by: by.clone(), at: self.clock.now() };
        self.write(|store| store.approve(id, &approval, &audit))
            .inspect_err(|error| self.note_trouble(error))?;
        tracing::info!(%by, plan = %id, digest = plan.digest, "a plan is approved");
        let digest = &plan.digest;
        let text = format!(
            "plan {id} of {author} is approved by {by} (digest {digest}); start it: wavegate start {id}"
        );
        Ok(Done { changed: true, text })
    }

    /// The plan with an id; a whole digest must be the plan's own.
    fn plan_named(&self, named: &PlanId) -> Result<Plan, RequestError> {
        let whole = named.as_str().len() == DIGEST;
        let id = whole.then(|| PlanId::new(&named.as_str()[..12])).and_then(Result::ok);
        let id = id.as_ref().unwrap_or(named);
        let Some(plan) = self.store.plan(Some(id))? else {
            return Err(RequestError::NotFound(format!(
                "there is no plan {id}; see which there are: wavegate plans"
            )));
        };
        plan.verify()?;
        if whole && plan.digest != named.as_str() {
            return Err(RequestError::NotNow(format!(
                "plan {id} has the digest {}, not the one that was given: it is not the plan that was looked at; look at this \
                 one: wavegate plan show {id}",
                plan.digest
            )));
        }
        Ok(plan)
    }

    /// Who has approved a plan that is to be started.
    ///
    /// # Errors
    /// If somebody else than its author must have, and nobody has.
    pub(super) fn approved(&self, plan: &Plan) -> Result<Vec<Actor>, RequestError> {
        let approval = Approvals { required: self.approvals, given: self.store.approvals(&plan.id)? };
        let (id, author) = (&plan.id, &plan.body.created_by);
        if approval.is_missing(author) {
            return Err(RequestError::NotNow(format!(
                "plan {id} is not approved: {author} made it, and somebody else must approve it before it can be started; \
                 let another operator look at it (wavegate plan show {id}) and say: wavegate approve {id}"
            )));
        }
        Ok(approval.given.into_iter().map(|given| given.by).collect())
    }
}
