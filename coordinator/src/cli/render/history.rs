//! Plans and rollouts as people read them, a line each: `wavegate plans` and `wavegate rollouts`.

use super::{Look, Tone, cell, status::actors, time, tone_of_status};
use crate::status::history::{PlanLine, RolloutLine};
use wavegate_common::id::Timestamp;

/// The plans.
#[must_use]
pub fn plans(plans: &[PlanLine], look: &Look) -> String {
    if plans.is_empty() {
        return "No plan was made yet. Make one: wavegate plan\n".to_owned();
    }
    let mut table = look.table(&["PLAN", "MADE", "BY", "NODES", "PROBLEMS", "APPROVED BY", "ROLLOUT"]);
    for plan in plans {
        let bad = if plan.problems > 0 { Tone::Bad } else { Tone::Plain };
        let approved = actors(&plan.approved_by);
        table.add_row([
            cell(Tone::Plain, &plan.plan),
            cell(Tone::Plain, time::moment(plan.created_at, look)),
            cell(Tone::Plain, &plan.created_by),
            cell(Tone::Plain, plan.nodes),
            cell(bad, plan.problems),
            cell(Tone::Plain, if approved.is_empty() { "-" } else { &approved }),
            cell(Tone::Plain, plan.rollout.as_ref().map_or("-", |rollout| rollout.as_str())),
        ]);
    }
    look.lay_out(table, 0)
}

/// The rollouts.
#[must_use]
pub fn rollouts(rollouts: &[RolloutLine], now: Timestamp, look: &Look) -> String {
    if rollouts.is_empty() {
        return "There was no rollout yet. Make a plan and start it: wavegate plan, wavegate start\n"
            .to_owned();
    }
    let mut table = look.table(&["ROLLOUT", "PLAN", "STARTED", "BY", "STATUS", "SINCE"]);
    for rollout in rollouts {
        table.add_row([
            cell(Tone::Plain, &rollout.rollout),
            cell(Tone::Plain, &rollout.plan),
            cell(Tone::Plain, time::moment(rollout.created_at, look)),
            cell(Tone::Plain, &rollout.created_by),
            cell(tone_of_status(rollout.status), rollout.status),
            cell(Tone::Plain, time::duration(now.millis_since(rollout.since))),
        ]);
    }
    look.lay_out(table, 0)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use wavegate_common::id::Actor;
    use wavegate_common::rollout::Status;

    #[test]
    fn the_newest_come_first() {
        let plan = samples::plan();
        let (alice, bob) = (Actor("alice".into()), Actor("bob".into()));
        let line = |digit: &str, problems, approved_by, rollout: Option<&str>| PlanLine {
            plan: digit.repeat(12).parse().expect("a plan id"),
            digest: digit.repeat(64),
            procedure: plan.body.procedure.clone(),
            created_at: samples::at(0),
            created_by: alice.clone(),
            nodes: 6,
            problems,
            approved_by,
            rollout: rollout.map(|id| id.parse().expect("a rollout id")),
        };
        let lines = [line("b", 2, vec![], None), line("a", 0, vec![bob.clone()], Some("r1"))];
        insta::assert_snapshot!(plans(&lines, &samples::look()), @r"
        PLAN          MADE                       BY     NODES  PROBLEMS  APPROVED BY  ROLLOUT
        bbbbbbbbbbbb  2026-11-22T12:00:00+00:00  alice  6      2         -            -
        aaaaaaaaaaaa  2026-11-22T12:00:00+00:00  alice  6      0         bob          r1
        ");
        let line = |id: &str, status, since| RolloutLine {
            rollout: id.parse().expect("a rollout id"),
            plan: "a".repeat(12).parse().expect("a plan id"),
            created_at: samples::at(0),
            created_by: bob.clone(),
            status,
            since: samples::at(since),
        };
        let lines = [line("r2", Status::Running, 60), line("r1", Status::Finished, 0)];
        insta::assert_snapshot!(rollouts(&lines, samples::at(90), &samples::look()), @r"
        ROLLOUT  PLAN          STARTED                    BY   STATUS    SINCE
        r2       aaaaaaaaaaaa  2026-11-22T12:00:00+00:00  bob  running   30 s
        r1       aaaaaaaaaaaa  2026-11-22T12:00:00+00:00  bob  finished  1 min 30 s
        ");
        assert!(plans(&[], &samples::look()).contains("wavegate plan"));
        assert!(rollouts(&[], samples::at(0), &samples::look()).contains("wavegate start"));
    }
}
