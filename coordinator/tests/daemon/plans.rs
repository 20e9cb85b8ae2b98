//! Making plans: every node is asked, nobody is waited for in vain, and only what still holds is started.

use super::support::{Agent, Site, plan_request};
use tonic::Code;
use wavegate_common::facts::Component;
use wavegate_common::outcome::Preview;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::Status;
use wavegate_coordinator::status::history::{PlanLine, RolloutLine};
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;
use wavegate_proto::v1::make_plan_response::Message;

#[tokio::test]
async fn every_node_is_asked_what_each_step_would_do() {
    let site = Site::start().await;
    let _agents = site.fleet(&[("e1", "etcd-member"), ("c1", "compute"), ("c2", "compute")]).await;
    let mut updates = site.operator().await.make_plan(plan_request()).await.expect("a stream").into_inner();
    let (mut progress, mut plan) = (Vec::new(), None);
    while let Some(update) = super::support::within(updates.message()).await.expect("an update") {
        match update.message.expect("content") {
            Message::Progress(told) => progress.push((told.nodes_asked, told.nodes_answered)),
            Message::Plan(document) => plan = Some(document),
        }
    }
    assert_eq!(progress, [(3, 0), (3, 1), (3, 2), (3, 3)]);
    let plan: wavegate_common::plan::Plan =
        wavegate_proto::convert::read_document("plan", plan.as_ref()).expect("a plan");
    plan.verify().expect("sealed");
    assert_eq!(plan.body.created_by.0, "alice");
    assert_eq!(plan.body.problems, []);
    let previews = &plan.body.previews[&Stage::Compute];
    assert_eq!(previews.len(), 2);
    assert!(previews.values().flatten().all(|given| matches!(given.preview, Preview::WouldChange { .. })));
    let stored = site.operator().await.get_plan(v1::GetPlanRequest::default()).await.expect("the newest");
    let stored: wavegate_common::plan::Plan =
        wavegate_proto::convert::read_document("plan", Some(&stored.into_inner())).expect("a plan");
    assert_eq!(stored, plan);
}

#[tokio::test]
async fn a_node_that_is_offline_is_named() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    agents[1].disconnect().await;
    site.until_link("c2", false).await;
    let refused = site.make_plan(plan_request()).await.expect_err("c2 is offline");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message(), @"offline: c2; a plan is made with every node, so switch them on or start their agents (systemctl start wavegate-agent), then plan again; a machine that is gone for good is taken out of the fleet: wavegate node remove NODE");
}

#[tokio::test]
async fn what_is_blocked_keeps_the_plan_from_being_started() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    agents[1].script(|book| book.blocked = Some("install".to_owned()));
    let plan = site.plan().await;
    assert_eq!(plan.body.problems.len(), 1, "{:#?}", plan.body.problems);
    let refused = site.start_plan("", false).await.expect_err("a problem");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @r#"
plan PLAN has 1 problem(s) that keep it from being started:
  c2, stage compute, step install: no such package; mend it
mend them and make a new plan (all of them: wavegate plan show PLAN)
"#);
}

#[tokio::test]
async fn a_node_that_leaves_in_the_middle_is_a_problem_and_no_hang() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute"), ("c3", "compute")]).await;
    agents[1..].iter().for_each(|agent| agent.script(|book| book.silent = true));
    let mut alice = site.operator().await;
    let mut updates = alice.make_plan(plan_request()).await.expect("a stream").into_inner();
    let second = site.make_plan(plan_request()).await.expect_err("one at a time");
    insta::assert_snapshot!(second.message(), @"alice is having a plan made, and there is one at a time; try again when it is done");
    agents[1].disconnect().await;
    let plan = loop {
        let update =
            super::support::within(updates.message()).await.expect("an update").expect("the plan is to come");
        match update.message.expect("content") {
            // Who has left is not waited for any more.
            Message::Progress(told) if told.waiting_for == ["c3"] => {
                agents[2].disconnect().await;
            }
            Message::Progress(_) => {}
            Message::Plan(plan) => break plan,
        }
    };
    let plan: wavegate_common::plan::Plan =
        wavegate_proto::convert::read_document("plan", Some(&plan)).expect("a plan");
    let problem = &plan.body.problems[0];
    assert_eq!(problem.node.as_ref().map(|node| node.as_str()), Some("c2"));
    insta::assert_snapshot!(problem.error.what, @"c2 went offline while the plan was made");
}

#[tokio::test]
async fn a_node_that_says_nothing_is_a_problem_in_the_end() {
    let site = Site::start_with_manual_clock().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    agents[1].script(|book| book.silent = true);
    let mut updates = site.operator().await.make_plan(plan_request()).await.expect("a stream").into_inner();
    while let Some(update) = super::support::within(updates.message()).await.expect("an update") {
        match update.message.expect("content") {
            Message::Progress(told) if told.nodes_answered == 1 => {
                assert_eq!(told.waiting_for, ["c2"]);
                site.advance(300_000);
            }
            Message::Progress(_) => {}
            Message::Plan(plan) => {
                let plan: wavegate_common::plan::Plan =
                    wavegate_proto::convert::read_document("plan", Some(&plan)).expect("a plan");
                insta::assert_snapshot!(plan.body.problems[0].error.what, @"c2 did not answer within 5 minutes");
                return;
            }
        }
    }
    panic!("no plan came");
}

#[tokio::test]
async fn a_plan_that_nobody_waits_for_is_given_up() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    agents[0].script(|book| book.silent = true);
    let updates = site.operator().await.make_plan(plan_request()).await.expect("a stream");
    drop(updates);
    agents[0].script(|book| book.silent = false);
    super::support::eventually("another plan can be made", || async {
        site.make_plan(plan_request()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_plan_is_not_finished_once_a_rollout_has_begun() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let plan = site.plan().await;
    agents[0].script(|book| (book.silent, book.hold) = (true, true));
    let mut updates = site.operator().await.make_plan(plan_request()).await.expect("a stream").into_inner();
    site.start_plan(plan.id.as_str(), false).await.expect("started");
    let refused = loop {
        match super::support::within(updates.message()).await {
            Ok(update) => assert!(matches!(update.and_then(|u| u.message), Some(Message::Progress(_)))),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().starts_with("rollout r1 is under way: "), "{}", refused.message());
}

#[tokio::test]
async fn a_plan_of_another_fleet_is_not_started() {
    let site = Site::start().await;
    let agents = site.fleet(&[("c1", "compute")]).await;
    let plan = site.plan().await;
    let credentials = site.enrol("c2").await;
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("c2 is new");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @"plan PLAN does not have c2, enrolled since; make a new plan: wavegate plan");
    Agent::new("c2", "compute", credentials).connect(&site).await;
    let plan = site.plan().await;
    let mut changed = Agent::new("c1", "control", agents[0].credentials.clone());
    changed.facts.kernel = "6.2".to_owned();
    changed.connect(&site).await;
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("c1 has another role");
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @"since plan PLAN was made, nodes have changed: c1 (roles compute -> control); make a new plan: wavegate plan");
}

#[tokio::test]
async fn what_is_wrong_in_a_request_is_said_with_its_place() {
    let site = Site::start().await;
    let nobody = site.make_plan(plan_request()).await.expect_err("an empty fleet");
    insta::assert_snapshot!(nobody.message(), @"no plan can be made: the fleet has no nodes; start agents on the machines and enrol them, then plan again");
    let _agents = site.fleet(&[("c1", "compute")]).await;
    let with = |change: fn(&mut v1::MakePlanRequest)| {
        let mut request = plan_request();
        change(&mut request);
        request
    };
    let wrong = [
        with(|request| {
            request.procedure_text = request.procedure_text.replace("service.restart", "service.restrat")
        }),
        with(|request| request.settings = vec!["colour=red".to_owned()]),
        with(|request| {
            request.limits = vec![v1::StageLimits {
                stage: "compute".into(),
                canary: Some(0),
                ..v1::StageLimits::default()
            }];
        }),
        with(|request| {
            request.limits = vec![v1::StageLimits { stage: "nowhere".into(), ..Default::default() }]
        }),
        with(|request| {
            request.procedure_text.clear();
            request.procedure = "nothing".to_owned();
        }),
    ];
    let mut texts = Vec::new();
    for request in wrong {
        let refused = site.make_plan(request).await.expect_err("wrong");
        texts.push(format!("{:?}: {}", refused.code(), refused.message()));
    }
    insta::assert_snapshot!(texts.join("\n"), @r#"
InvalidArgument: procedure.toml:25:10: unknown action 'service.restrat'; did you mean 'service.restart'?
procedure.toml:46:10: unknown action 'service.restrat'; did you mean 'service.restart'?
procedure.toml:67:10: unknown action 'service.restrat'; did you mean 'service.restart'?
InvalidArgument: --set colour=red: procedure small has no parameter 'colour'; there is none
InvalidArgument: no plan can be made: stage compute: canary 0 would let no node start; it must be 1 or more
InvalidArgument: unknown stage 'nowhere'; known: etcd, compute, control
NotFound: no procedure 'nothing' ships with this coordinator; it has: calico-openstack
"#);
}

#[tokio::test]
async fn plans_and_rollouts_are_listed_the_newest_first() {
    let site = Site::start().await;
    let mut alice = site.operator().await;
    let empty = alice.list_rollouts(v1::ListRolloutsRequest {}).await.expect("an empty list").into_inner();
    assert_eq!(read_document::<Vec<RolloutLine>>("rollout_list", Some(&empty)).expect("a list"), []);
    let _agents = site.fleet(&[("e1", "etcd-member")]).await;
    let first = site.plan().await;
    let second = site.plan().await;
    for plan in [&first, &second] {
        site.start_plan(plan.id.as_str(), false).await.expect("started");
        site.until_status(Status::Finished).await;
    }
    let third = site.plan().await;
    let lines = alice.list_plans(v1::ListPlansRequest {}).await.expect("plans").into_inner();
    let lines: Vec<PlanLine> = read_document("plan_list", Some(&lines)).expect("plans");
    let seen: Vec<_> =
        lines.iter().map(|line| (&line.plan, line.rollout.as_ref().map(|id| id.as_str()))).collect();
    assert_eq!(seen, [(&third.id, None), (&second.id, Some("r2")), (&first.id, Some("r1"))]);
    let lines = alice.list_rollouts(v1::ListRolloutsRequest {}).await.expect("rollouts").into_inner();
    let lines: Vec<RolloutLine> = read_document("rollout_list", Some(&lines)).expect("rollouts");
    let seen: Vec<_> = lines.iter().map(|line| (line.rollout.as_str(), line.status)).collect();
    assert_eq!(seen, [("r2", Status::Finished), ("r1", Status::Finished)]);
}

#[tokio::test]
async fn a_plan_is_not_started_on_nodes_that_have_changed_since() {
    let site = Site::start().await;
    let mut agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let felix = async |agent: &mut Agent, version: &str| {
        agent.facts.versions.insert(Component::Felix, version.to_owned());
        agent.connect(&site).await;
    };
    felix(&mut agents[0], "1.3.1").await;
    let plan = site.plan().await;
    felix(&mut agents[0], "1.4.6").await;
    let refused = site.start_plan(plan.id.as_str(), false).await.expect_err("c1 is otherwise");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    insta::assert_snapshot!(refused.message().replace(plan.id.as_str(), "PLAN"), @"since plan PLAN was made, nodes have changed: c1 (felix 1.3.1 -> 1.4.6); make a new plan: wavegate plan");
    let again = site.plan().await;
    site.start_plan(again.id.as_str(), false).await.expect("as it is now");
    site.until_status(Status::Finished).await;
}
