//! Plans that somebody else than their author must look at before they are started.

use super::support::{Operator, Site, newest, plan_request};
use tonic::{Code, Status as Refusal};
use wavegate_common::id::Actor;
use wavegate_common::plan::Plan;
use wavegate_common::rollout::{Event, Status};
use wavegate_coordinator::clock::Clock;
use wavegate_coordinator::status::plan::PlanView;
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;

/// The operator of the unix socket: not alice, who makes the plans.
fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::Uid::effective()).expect("known").expect("there").name
}

async fn approve(operator: &mut Operator, plan: &str) -> Result<v1::Done, Refusal> {
    Ok(operator.approve(v1::ApproveRequest { plan: plan.to_owned() }).await?.into_inner())
}

async fn view(site: &Site, plan: &Plan) -> PlanView {
    let request = v1::GetPlanRequest { plan: plan.id.to_string() };
    let document = site.operator().await.get_plan(request).await.expect("a plan").into_inner();
    read_document("plan", Some(&document)).expect("a plan")
}

fn without(text: &str, plan: &Plan) -> String {
    text.replace(&plan.digest, "DIGEST").replace(plan.id.as_str(), "PLAN").replace(&me(), "ME")
}

#[tokio::test]
async fn a_plan_waits_for_somebody_elses_approval() {
    let mut site = Site::start_with(|config| config.approvals = true, Clock::system()).await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let plan = site.plan().await;
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("nobody has approved it");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(without(refused.message(), &plan), @"plan PLAN is not approved: alice made it, and somebody else must approve it before it can be started; let another operator look at it (wavegate plan show PLAN) and say: wavegate approve PLAN");
    let mut alice = site.operator().await;
    let refused = approve(&mut alice, plan.id.as_str()).await.expect_err("her own plan");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(without(refused.message(), &plan), @"alice made plan PLAN, and somebody else must approve it: let another operator look at it (wavegate plan show PLAN) and say: wavegate approve PLAN");
    assert!(view(&site, &plan).await.approval.is_missing(&plan.body.created_by));

    let mut other = site.local_operator().await;
    let wrong = format!("{}{}", plan.id, "0".repeat(52));
    let refused = approve(&mut other, &wrong).await.expect_err("another digest");
    insta::assert_snapshot!(without(refused.message(), &plan), @"plan PLAN has the digest DIGEST, not the one that was given: it is not the plan that was looked at; look at this one: wavegate plan show PLAN");
    let done = approve(&mut other, &plan.digest).await.expect("approved");
    assert!(done.changed);
    insta::assert_snapshot!(without(&done.text, &plan), @"plan PLAN of alice is approved by ME (digest DIGEST); start it: wavegate start PLAN");
    let again = approve(&mut other, plan.id.as_str()).await.expect("so already");
    assert!(!again.changed);
    insta::assert_snapshot!(without(&again.text, &plan), @"ME has approved plan PLAN already");

    // It is there after a crash as well.
    site.kill().await;
    site.start_again().await;
    agents[0].connect(&site).await;
    let given = view(&site, &plan).await.approval.given;
    assert_eq!(given.iter().map(|given| given.by.0.clone()).collect::<Vec<_>>(), [me()]);
    site.start_plan(plan.id.as_str(), false).await.expect("started");
    let status = site.until_status(Status::Finished).await;
    assert_eq!(status.approved_by, [Actor(me())]);
    let first = site.events("r1").await.remove(0).event;
    assert!(matches!(first, Event::Started { approved_by, .. } if approved_by == [Actor(me())]));
    let results = |who: &str| {
        let all = site.daemon().store().audited(100).expect("the audit list");
        let about =
            all.into_iter().filter(|record| record.who == who && record.what.starts_with("approve plan"));
        about.map(|record| without(&record.result, &plan)).collect::<Vec<_>>()
    };
    assert_eq!(results("alice").len(), 1);
    assert_eq!(results(&me())[..2], ["nothing to do", "done"]);
}

#[tokio::test]
async fn where_nobody_asks_for_it_an_approval_is_only_noted() {
    let site = Site::start().await;
    let _agents = site.fleet(&[("c1", "compute")]).await;
    let plan = site.plan().await;
    let mut alice = site.operator().await;
    assert!(approve(&mut alice, plan.id.as_str()).await.expect("her own is as good").changed);
    site.start_plan(plan.id.as_str(), false).await.expect("started");
    let status = site.until_status(Status::Finished).await;
    assert_eq!(status.approved_by, [Actor("alice".to_owned())]);
    let again = approve(&mut alice, plan.id.as_str()).await.expect("so already");
    assert!(!again.changed);
    let late = approve(&mut site.local_operator().await, plan.id.as_str()).await.expect_err("too late");
    insta::assert_snapshot!(without(late.message(), &plan), @"plan PLAN was started already, as rollout r1; there is nothing left to approve (wavegate status)");
}

#[tokio::test]
async fn a_plan_that_cannot_be_started_is_not_approved() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    agents[0].script(|book| book.blocked = Some("install".to_owned()));
    let plan = site.make_plan(plan_request()).await.expect("a plan with a problem");
    let mut other = site.local_operator().await;
    let refused = approve(&mut other, plan.id.as_str()).await.expect_err("it has a problem");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(without(refused.message(), &plan), @r"
    plan PLAN has 1 problem(s) that keep it from being approved:
      c1, stage compute, step install: no such package; mend it
    mend them and make a new plan (all of them: wavegate plan show PLAN)
    ");
    let unknown = approve(&mut other, "0a1b2c3d4e5f").await.expect_err("no such plan");
    assert_eq!(unknown.code(), Code::NotFound);
    insta::assert_snapshot!(unknown.message(), @"there is no plan 0a1b2c3d4e5f; see which there are: wavegate plans");
    let refused = site.operator().await.get_status(newest()).await.expect_err("nothing was started");
    assert_eq!(refused.code(), Code::NotFound);
}
