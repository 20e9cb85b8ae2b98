//! What the steps of a task would change on this node, found out by their checks alone. Changes nothing.

use crate::action::{self, Check, Context, Forecast};
use crate::host::Host;
use crate::os::Os;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::{StepId, Timestamp};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::{Change, Preview};
use wavegate_common::plan::StepPreview;

/// Runs the check of each step, in order; each sees what the steps before it would have changed. Steps that the plan
/// skips are left out. `changed_at` is the journal's, for the stage of the steps.
#[must_use]
pub fn preview(
    steps: &[PlannedStep],
    host: &dyn Host,
    os: &Os,
    changed_at: &dyn Fn(&StepId) -> Option<Timestamp>,
) -> Vec<StepPreview> {
    let mut forecast = Forecast::default();
    let mut previews = Vec::new();
    for step in steps {
        let Work::Run { action, timeout_s } = &step.work else { continue };
        let mut cx = Context {
            host,
            os,
            // No transaction is started by a check.
            transaction: "preview".to_owned(),
            timeout: Duration::from_secs(*timeout_s),
            output: &mut |_| {},
            changed_at,
            forecast: &forecast,
        };
        let preview = look(action, &mut cx);
        if let Preview::WouldChange { changes } = &preview {
            forecast.steps.insert(step.id.clone());
            forecast.packages.extend(changes.iter().filter_map(package));
        }
        previews.push(StepPreview { step: step.id.clone(), preview });
    }
    previews
}

fn look(action: &Action, cx: &mut Context<'_>) -> Preview {
    if action.is_check() {
        return Preview::WouldCheck;
    }
    match action::check(action, cx) {
        Ok(Check::AlreadySo { evidence }) => Preview::AlreadySo { evidence },
        Ok(Check::WouldChange { changes }) => Preview::WouldChange { changes },
        Err(error) => Preview::Blocked { error },
    }
}

fn package(change: &Change) -> Option<String> {
    match change {
        Change::Package { name, .. } => Some(name.clone()),
        Change::Service { .. } | Change::Process { .. } | Change::File { .. } => None,
    }
}
