//! Nodes that a rollout goes on without: waived for a while, or not in its plan at all.

use super::support::{Agent, Site, newest, node, task};
use tonic::{Code, Status as Refusal};
use wavegate_common::id::Actor;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Event, Status, TaskState, WaitingOn};
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;

const HOUR_S: u64 = 3600;

async fn waive(site: &Site, node: &str, reason: &str, for_s: u64) -> Result<v1::Answer, Refusal> {
    let request =
        v1::WaiveRequest { rollout: String::new(), node: node.to_owned(), reason: reason.to_owned(), for_s };
    Ok(site.operator().await.waive(request).await?.into_inner())
}

async fn withdraw(site: &Site, node: &str) -> Result<v1::Answer, Refusal> {
    let request = v1::WithdrawWaiverRequest { rollout: String::new(), node: node.to_owned() };
    Ok(site.operator().await.withdraw_waiver(request).await?.into_inner())
}

async fn why(site: &Site, request: v1::WhyRequest) -> Result<Vec<WaitingOn>, Refusal> {
    let document = site.operator().await.why(request).await?.into_inner();
    Ok(read_document("waiting", Some(&document)).expect("reasons"))
}

/// Three compute nodes and a control node; the first compute node, the canary, has failed.
async fn halted() -> (Site, Vec<Agent>) {
    let site = Site::start_with_manual_clock().await;
    let fleet = [("c1", "compute"), ("c2", "compute"), ("c3", "compute"), ("n1", "control")];
    let agents = site.fleet(&fleet).await;
    agents[0].script(|book| book.fail = [(Stage::Compute, 1)].into());
    site.run_plan().await;
    site.until_status(Status::Paused).await;
    (site, agents)
}

/// A text with its moments taken out: tests don't choose them.
fn timeless(text: &str) -> String {
    let moment = |word: &str| word.trim_end_matches([':', ',', '.']).ends_with('Z') && word.contains('T');
    text.split(' ')
        .map(|word| match word.char_indices().next_back() {
            Some((at, ':')) if moment(word) && word[..at].len() == 20 => "MOMENT:".to_owned(),
            _ if moment(word) => "MOMENT".to_owned(),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn a_rollout_goes_on_without_a_waived_node_and_every_report_names_it() {
    let (site, agents) = halted().await;
    let waived = waive(&site, "c1", "the disk is being replaced", 8 * HOUR_S).await.expect("waived");
    assert!(waived.changed);
    insta::assert_snapshot!(timeless(&waived.text), @"c1 is waived until MOMENT: the disk is being replaced. Nobody waits for it, and every report names it; the rollout is paused, let it go on: wavegate resume");
    let again = waive(&site, "c1", " the disk is being replaced ", 8 * HOUR_S).await.expect("so already");
    assert!(!again.changed);
    insta::assert_snapshot!(timeless(&again.text), @"c1 is waived already by alice until MOMENT: the disk is being replaced");
    assert_eq!(site.until_audited("alice", "waive c1").await.result, "nothing to do");
    let longer = waive(&site, "c1", "the disk is being replaced", 9 * HOUR_S).await.expect("another end");
    assert!(longer.changed);
    let reasons = site.why("c1").await;
    insta::assert_snapshot!(timeless(&reasons[0].why), @"c1 is waived by alice until MOMENT and not waited for in stage compute: the disk is being replaced");
    assert_eq!(reasons[0].by, Some(Actor("alice".to_owned())));
    let all = site.why("").await;
    assert!(all.iter().any(|reason| reason.why == reasons[0].why), "{all:#?}");

    site.operator().await.resume(newest()).await.expect("resumed");
    let status = site.until_status(Status::Finished).await;
    assert_eq!(task(&status, Stage::Compute, "c1").map(|task| task.state), Some(TaskState::Waived));
    let underneath = task(&status, Stage::Compute, "c1").and_then(|task| task.underneath);
    assert_eq!(underneath, Some(TaskState::Failed));
    let told: Vec<_> =
        status.waivers.iter().map(|waiver| (waiver.reason.as_str(), waiver.by.0.as_str())).collect();
    assert_eq!(told, [("the disk is being replaced", "alice"); 2], "the first one was ended by the second");
    assert_eq!(agents[0].book().orders.len(), 1, "it was given nothing more");
    let late = waive(&site, "c2", "late", HOUR_S).await.expect("it is done");
    assert!(!late.changed);
    insta::assert_snapshot!(late.text, @"c2 has nothing left to do in rollout r1");
}

#[tokio::test]
async fn a_waiver_ends_by_itself_or_is_withdrawn() {
    let (site, agents) = halted().await;
    agents[1].script(|book| book.hold = true);
    waive(&site, "c1", "the disk is being replaced", HOUR_S).await.expect("waived");
    site.operator().await.resume(newest()).await.expect("resumed");
    site.until_task(Stage::Compute, "c2", TaskState::Applying).await;
    let at_work = waive(&site, "c2", "broken", HOUR_S).await.expect_err("it is at work");
    insta::assert_snapshot!(at_work.message(), @"c2 cannot be waived: c2 is applying in stage compute; wait until its task has ended (wavegate watch); if its agent stays away, it is unknown after a while and can be waived then: wavegate why c2");
    let retry = v1::RetryRequest { nodes: vec!["c1".to_owned()], ..v1::RetryRequest::default() };
    let refused = site.operator().await.retry(retry).await.expect_err("it is given nothing");
    insta::assert_snapshot!(refused.message(), @"c1 is waived by alice, and a waived node is given nothing to do; let it count again first: wavegate waive c1 --withdraw");
    site.advance(HOUR_S * 1000);
    let status = site.until("it counts again", |status| status.pause.is_some()).await;
    assert_eq!(task(&status, Stage::Compute, "c1").map(|task| task.state), Some(TaskState::Failed));
    let ended = |by: Option<&str>| {
        let by = by.map(|by| Actor(by.to_owned()));
        move |event: &Event| *event == Event::WaiverEnded { node: node("c1"), by: by.clone() }
    };
    let events = |all: Vec<wavegate_common::rollout::Entry>| all.into_iter().map(|entry| entry.event);
    assert_eq!(events(site.events("r1").await).filter(ended(None)).count(), 1);
    let nothing = withdraw(&site, "c1").await.expect("nothing to do");
    assert!(!nothing.changed);
    insta::assert_snapshot!(nothing.text, @"c1 is not waived in rollout r1, nothing was withdrawn");
    waive(&site, "c1", "once more", HOUR_S).await.expect("waived");
    let withdrawn = withdraw(&site, "c1").await.expect("withdrawn");
    assert!(withdrawn.changed);
    insta::assert_snapshot!(withdrawn.text, @"the waiver of c1 is withdrawn: it counts again, and is waited for");
    assert_eq!(events(site.events("r1").await).filter(ended(Some("alice"))).count(), 1);
    assert_eq!(site.status().await.waivers.len(), 2);
}

#[tokio::test]
async fn who_cannot_be_waived_is_told_why() {
    let site = Site::start().await;
    let agents = site.fleet(&[("e1", "etcd-member"), ("e2", "etcd-member"), ("c1", "compute")]).await;
    agents[0].script(|book| book.fail = [(Stage::Etcd, 1)].into());
    agents[0].script(|book| book.hold = true);
    site.run_plan().await;
    site.until_task(Stage::Etcd, "e1", TaskState::Applying).await;
    let refuse = async |name: &str, reason: &str, for_s| {
        let refused = waive(&site, name, reason, for_s).await.expect_err("not to be waived");
        (refused.code(), timeless(refused.message()))
    };
    let (code, text) = refuse("e1", "broken", HOUR_S).await;
    assert_eq!(code, Code::FailedPrecondition);
    insta::assert_snapshot!(text, @"e1 cannot be waived: e1 is an etcd member that has not finished stage etcd: with it out, the next one may cost the quorum; bring it back or mend it, then: wavegate retry e1; or end the rollout: wavegate stop");
    agents[0].script(|book| book.hold = false);
    site.until_status(Status::Paused).await;
    let (_, text) = refuse("e1", "broken", HOUR_S).await;
    insta::assert_snapshot!(text, @"e1 cannot be waived: e1 is an etcd member that has not finished stage etcd: with it out, the next one may cost the quorum; bring it back or mend it, then: wavegate retry e1; or end the rollout: wavegate stop");
    let (code, text) = refuse("c9", "broken", HOUR_S).await;
    assert_eq!(code, Code::NotFound);
    insta::assert_snapshot!(text, @"rollout r1 has no node c9; its nodes: wavegate status");
    for (reason, for_s) in [
        ("", HOUR_S),
        ("a\nb", HOUR_S),
        (&"x".repeat(201), HOUR_S),
        ("broken", 0),
        ("broken", 31 * 24 * HOUR_S),
    ] {
        let (code, text) = refuse("c1", reason, for_s).await;
        assert_eq!(code, Code::InvalidArgument);
        assert!(text.contains("a waiver lasts") || text.contains("it stands in every report"), "{text}");
    }
    site.operator().await.stop(newest()).await.expect("stopped");
    site.until_status(Status::Stopped).await;
    let (_, text) = refuse("c1", "broken", HOUR_S).await;
    insta::assert_snapshot!(text, @"c1 cannot be waived: rollout is stopped; it has ended; for another one: wavegate plan, wavegate start");
    assert_eq!(site.status().await.waivers, []);
}

#[tokio::test]
async fn a_node_that_appears_later_is_outside_the_plan() {
    let (site, _agents) = halted().await;
    assert_eq!(site.status().await.outside, []);
    let late = Agent::new("c9", "compute", site.enrol("c9").await);
    late.connect(&site).await;
    let status = site.until("it is seen", |status| status.outside == [node("c9")]).await;
    assert_eq!(status.status, Status::Paused);
    let told = |reasons: Vec<WaitingOn>| {
        let about = reasons.into_iter().find(|reason| reason.nodes == [node("c9")]).expect("it is named");
        format!("{}; {}", about.why, about.unblock).replace(status.plan.as_str(), "PLAN")
    };
    insta::assert_snapshot!(told(site.why("").await), @"c9: outside the plan, enrolled after plan PLAN was made; this rollout leaves it as it is; nothing to do: nobody waits for it; when the rollout has ended: wavegate plan");
    insta::assert_snapshot!(told(site.why("c9").await), @"c9: outside the plan, enrolled after plan PLAN was made; this rollout leaves it as it is; nothing to do: nobody waits for it; when the rollout has ended: wavegate plan");
    let refused = waive(&site, "c9", "why not", HOUR_S).await.expect_err("not in the plan");
    assert_eq!(refused.code(), Code::NotFound);
    insta::assert_snapshot!(refused.message(), @"c9 is outside the plan of rollout r1: it enrolled after that was made, and stays as it is; when the rollout has ended, make a new plan: wavegate plan");
    let retry = v1::RetryRequest { nodes: vec!["c9".to_owned()], ..v1::RetryRequest::default() };
    assert_eq!(site.operator().await.retry(retry).await.expect_err("not in it").message(), refused.message());
    assert!(late.book().orders.is_empty());
}

#[tokio::test]
async fn why_answers_for_stages_and_waves() {
    let (site, _agents) = halted().await;
    let about =
        |stage: &str, wave| v1::WhyRequest { stage: stage.to_owned(), wave, ..v1::WhyRequest::default() };
    let texts = async |request| {
        let reasons = why(&site, request).await.expect("reasons");
        reasons.into_iter().map(|reason| reason.why).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(texts(about("compute", 2)).await, @r"
    halted: 1 node(s) failed in stage compute, 0 allowed
    wave 2 of stage compute waits for wave 1: 1 of 1 node(s) not finished: c1
    ");
    insta::assert_snapshot!(texts(about("control", 0)).await, @r"
    halted: 1 node(s) failed in stage compute, 0 allowed
    stage control waits for stage compute: 3 of 3 node(s) not finished: c1, c2, c3
    ");
    assert!(texts(about("compute", 1)).await.contains("c1 failed in stage compute"));
    let mut of_node = v1::WhyRequest { node: "c2".to_owned(), ..about("compute", 0) };
    assert_eq!(why(&site, of_node.clone()).await.expect("reasons").len(), 1);
    of_node.stage = "etcd".to_owned();
    assert_eq!(why(&site, of_node).await.expect("it has none there"), []);
    let refused = why(&site, about("compute", 4)).await.expect_err("no such wave");
    assert_eq!(refused.code(), Code::NotFound);
    insta::assert_snapshot!(refused.message(), @"stage compute of rollout r1 has 2 wave(s), there is no wave 4");
    assert_eq!(why(&site, about("", 1)).await.expect_err("of which stage").code(), Code::InvalidArgument);
    assert_eq!(why(&site, about("stage", 0)).await.expect_err("no stage").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_waives_all_that_is_left_is_told_that_the_rollout_ends_with_it() {
    let site = Site::start().await;
    let _agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let plan = site.plan().await;
    site.start_plan(plan.id.as_str(), true).await.expect("started");
    let first = waive(&site, "c1", "no power", HOUR_S).await.expect("waived");
    insta::assert_snapshot!(timeless(&first.text), @"c1 is waived until MOMENT: no power. Nobody waits for it, and every report names it");
    let last = waive(&site, "c2", "no power", HOUR_S).await.expect("waived");
    insta::assert_snapshot!(timeless(&last.text), @"c2 is waived until MOMENT: no power. Nobody waits for it, and every report names it. Nothing else is left to do, so the rollout has ended without it; later: wavegate plan, which goes on from there");
    site.until_status(Status::Finished).await;
}
