//! Every verb twice, wherever a rollout is: the second time it changes nothing and says so, and both times are in the audit
//! list with who and when.

use super::support::{Site, newest};
use tonic::Status as Refusal;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState};
use wavegate_proto::v1;

const VERBS: [&str; 11] = [
    "start",
    "pause",
    "resume",
    "wave next",
    "wave 1",
    "retry",
    "retry all",
    "waive",
    "withdraw",
    "stop",
    "approve",
];

/// What came of a verb: whether it changed something, and what was said; or why it was refused.
async fn say(site: &Site, verb: &str, plan: &str) -> Result<(bool, String), Refusal> {
    let mut alice = site.operator().await;
    let (rollout, node) = (String::new(), "c1".to_owned());
    let retry =
        |nodes: Vec<String>, all_failed| v1::RetryRequest { rollout: String::new(), nodes, all_failed };
    let answer = match verb {
        "start" => alice.start(v1::StartRequest { plan: plan.to_owned(), ..Default::default() }).await?,
        "pause" => alice.pause(newest()).await?,
        "resume" => alice.resume(newest()).await?,
        "wave next" => alice.next_wave(newest()).await?,
        "wave 1" => {
            let stage = "compute".to_owned();
            alice.release_wave(v1::ReleaseWaveRequest { rollout, stage, wave: 1 }).await?
        }
        "retry" => alice.retry(retry(vec![node], false)).await?,
        "retry all" => alice.retry(retry(Vec::new(), true)).await?,
        "waive" => {
            let reason = "the disk is being replaced".to_owned();
            alice.waive(v1::WaiveRequest { rollout, node, reason, for_s: 3600 }).await?
        }
        "withdraw" => alice.withdraw_waiver(v1::WithdrawWaiverRequest { rollout, node }).await?,
        "stop" => alice.stop(newest()).await?,
        "approve" => {
            let done = alice.approve(v1::ApproveRequest { plan: plan.to_owned() }).await?.into_inner();
            return Ok((done.changed, done.text));
        }
        other => panic!("no verb {other}"),
    };
    let v1::Answer { changed, text, .. } = answer.into_inner();
    Ok((changed, text))
}

/// A site whose rollout is in a state, and its plan's id. `c1` is the canary of the compute stage.
async fn site_in(state: &str) -> (Site, Vec<super::support::Agent>, String) {
    let site = Site::start_with_manual_clock().await;
    let agents = site.fleet(&[("c1", "compute"), ("c2", "compute")]).await;
    let plan = site.plan().await.id.to_string();
    let hold = matches!(state, "manual" | "running" | "paused" | "stopping");
    agents[1].script(|book| book.hold = state != "finished");
    agents[0].script(|book| {
        book.hold = hold;
        if matches!(state, "halted" | "waived" | "stopped") {
            book.fail = [(Stage::Compute, 1)].into();
        }
    });
    if state == "ready" {
        return (site, agents, plan);
    }
    site.start_plan(&plan, state == "manual").await.expect("started");
    let before = match state {
        "manual" => return (site, agents, plan),
        "halted" | "waived" | "stopped" => Status::Paused,
        "finished" => Status::Finished,
        _ => Status::Running,
    };
    if hold {
        site.until_task(Stage::Compute, "c1", TaskState::Applying).await;
    }
    site.until_status(before).await;
    let verb = match state {
        "paused" => "pause",
        "waived" => "waive",
        "stopping" | "stopped" => "stop",
        _ => return (site, agents, plan),
    };
    say(&site, verb, &plan).await.expect(verb);
    if state == "stopped" {
        site.until_status(Status::Stopped).await;
    }
    (site, agents, plan)
}

fn short(said: &Result<(bool, String), Refusal>, plan: &str) -> String {
    let (word, text) = match said {
        Ok((true, text)) => ("done", text.as_str()),
        Ok((false, text)) => ("nothing to do", text.as_str()),
        Err(refused) => ("refused", refused.message()),
    };
    // A plan's digest begins with its id.
    let text = text.split(" (digest").next().unwrap_or_default().replace(plan, "PLAN");
    let cut: String = text.chars().take(70).collect();
    format!("{word}: {}", cut.split(" until 2").next().unwrap_or_default().trim_end())
}

async fn twice(state: &str) -> String {
    let mut table = format!("{state}\n");
    let mut made = site_in(state).await;
    for verb in VERBS {
        let (site, _agents, plan) = &made;
        let first = say(site, verb, plan).await;
        let (events, audited) = log_and_audit(site).await;
        let second = say(site, verb, plan).await;
        let (after, audited_after) = log_and_audit(site).await;
        assert!(!matches!(second, Ok((true, _))), "{state}, {verb} again: {second:?}");
        assert_eq!(after, events, "{state}, {verb} again changed the log");
        assert_eq!(audited_after.len(), audited.len() + 1, "{state}, {verb} again is not in the audit list");
        let result = match &second {
            Ok(_) => "nothing to do",
            Err(refused) => refused.message(),
        };
        let record = &audited_after[0];
        assert_eq!((record.who.as_str(), record.result.as_str()), ("alice", result), "{state}, {verb}");
        assert_eq!(record.at, site.clock.now(), "{state}, {verb}");
        if matches!(first, Ok((true, _))) {
            assert_eq!(
                (audited[0].who.as_str(), audited[0].result.as_str()),
                ("alice", "done"),
                "{state}, {verb}"
            );
        }
        table.push_str(&format!("  {verb}: {}\n", short(&first, plan)));
        if short(&second, plan) != short(&first, plan) {
            table.push_str(&format!("    again: {}\n", short(&second, plan)));
        }
        if matches!(first, Ok((true, _))) {
            made = site_in(state).await;
        }
    }
    table
}

type Audited = Vec<wavegate_coordinator::store::AuditRecord>;

/// What operators have changed of the log, and what is in the audit list, the newest first.
async fn log_and_audit(site: &Site) -> (Vec<String>, Audited) {
    let store = site.daemon().store();
    let rollout = store.rollout(None).expect("readable");
    let by_operators = |entry: &wavegate_common::rollout::Entry| {
        let event = serde_json::to_string(&entry.event).expect("json");
        event.contains("\"by\":\"alice\"").then_some(event)
    };
    let events =
        rollout.map(|record| store.events(&record.id, 0, 1000).expect("readable")).unwrap_or_default();
    (events.iter().filter_map(by_operators).collect(), store.audited(1000).expect("readable"))
}

#[tokio::test]
async fn every_verb_may_be_said_twice_before_and_while_a_rollout_runs() {
    insta::assert_snapshot!(twice("ready").await, @r"
    ready
      start: done: rollout r1 of plan PLAN has begun on 2 node(s), mode auto
        again: nothing to do: rollout r1 of this plan has been started already, it is running
      pause: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      resume: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      wave next: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      wave 1: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      retry: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      retry all: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      waive: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      withdraw: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      stop: refused: there is no rollout yet; make a plan and start it: wavegate plan, wave
      approve: done: plan PLAN of alice is approved by alice
        again: nothing to do: alice has approved plan PLAN already
    ");
    insta::assert_snapshot!(twice("manual").await, @r"
    manual
      start: nothing to do: rollout r1 of this plan has been started already, it is running
      pause: done: rollout r1 is paused: nothing new starts; no node is being worked on
        again: nothing to do: rollout r1 is paused already
      resume: nothing to do: rollout r1 is running already
      wave next: done: wave 1 of stage compute of rollout r1 may begin: c1
        again: nothing to do: no wave of rollout r1 waits for an operator (wavegate why)
      wave 1: done: wave 1 of stage compute of rollout r1 may begin: c1
        again: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: nothing to do: none of c1 has failed in rollout r1; there is nothing to try again, se
      retry all: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: done: c1 is waived
        again: nothing to do: c1 is waived already by alice
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: done: rollout r1 stops: nothing new starts ever again; no node is being work
        again: nothing to do: rollout r1 is stopped already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
    insta::assert_snapshot!(twice("running").await, @r"
    running
      start: nothing to do: rollout r1 of this plan has been started already, it is running
      pause: done: rollout r1 is paused: nothing new starts; 1 node(s) that are being wor
        again: nothing to do: rollout r1 is paused already
      resume: nothing to do: rollout r1 is running already
      wave next: refused: the waves of rollout r1 begin by themselves, since it was started with
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: nothing to do: none of c1 has failed in rollout r1; there is nothing to try again, se
      retry all: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: refused: c1 cannot be waived: c1 is applying in stage compute; wait until its t
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: done: rollout r1 stops: nothing new starts ever again; 1 node(s) that are be
        again: nothing to do: rollout r1 is stopping already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
}

#[tokio::test]
async fn every_verb_may_be_said_twice_while_a_rollout_is_held() {
    insta::assert_snapshot!(twice("paused").await, @r"
    paused
      start: nothing to do: rollout r1 of this plan has been started already, it is paused
      pause: nothing to do: rollout r1 is paused already
      resume: done: rollout r1 goes on
        again: nothing to do: rollout r1 is running already
      wave next: refused: the waves of rollout r1 begin by themselves, since it was started with
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: nothing to do: none of c1 has failed in rollout r1; there is nothing to try again, se
      retry all: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: refused: c1 cannot be waived: c1 is applying in stage compute; wait until its t
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: done: rollout r1 stops: nothing new starts ever again; 1 node(s) that are be
        again: nothing to do: rollout r1 is stopping already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
    insta::assert_snapshot!(twice("halted").await, @r"
    halted
      start: nothing to do: rollout r1 of this plan has been started already, it is paused
      pause: nothing to do: rollout r1 is halted already
      resume: refused: rollout r1 cannot be resumed: 1 node(s) failed in stage compute, 0 all
      wave next: refused: the waves of rollout r1 begin by themselves, since it was started with
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: done: to be tried again: c1; the rollout is paused, let it go on: wavegate r
        again: nothing to do: none of c1 has failed in rollout r1; there is nothing to try again, se
      retry all: done: to be tried again: c1; the rollout is paused, let it go on: wavegate r
        again: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: done: c1 is waived
        again: nothing to do: c1 is waived already by alice
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: done: rollout r1 stops: nothing new starts ever again; no node is being work
        again: nothing to do: rollout r1 is stopped already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
    insta::assert_snapshot!(twice("waived").await, @r"
    waived
      start: nothing to do: rollout r1 of this plan has been started already, it is paused
      pause: nothing to do: rollout r1 is halted already
      resume: done: rollout r1 goes on
        again: nothing to do: rollout r1 is running already
      wave next: refused: the waves of rollout r1 begin by themselves, since it was started with
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: refused: c1 is waived by alice, and a waived node is given nothing to do; let i
      retry all: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: nothing to do: c1 is waived already by alice
      withdraw: done: the waiver of c1 is withdrawn: it counts again, and is waited for
        again: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: done: rollout r1 stops: nothing new starts ever again; no node is being work
        again: nothing to do: rollout r1 is stopped already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
}

#[tokio::test]
async fn every_verb_may_be_said_twice_when_a_rollout_ends_and_after() {
    insta::assert_snapshot!(twice("stopping").await, @r"
    stopping
      start: nothing to do: rollout r1 of this plan has been started already, it is stopping
      pause: refused: rollout r1 cannot be paused: rollout is stopping; it is ending; when i
      resume: refused: rollout r1 cannot be resumed: rollout is stopping; it is ending; when
      wave next: refused: the waves of rollout r1 begin by themselves, since it was started with
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: nothing to do: none of c1 has failed in rollout r1; there is nothing to try again, se
      retry all: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: refused: c1 cannot be waived: rollout is stopping; it is ending; when it has en
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: nothing to do: rollout r1 is stopping already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
    insta::assert_snapshot!(twice("stopped").await, @r"
    stopped
      start: refused: plan PLAN was executed by rollout r1, and the nodes are no longer as i
      pause: refused: rollout r1 cannot be paused: rollout is stopped; it has ended; for ano
      resume: refused: rollout r1 cannot be resumed: rollout is stopped; it has ended; for an
      wave next: refused: no wave of rollout r1 waits for an operator (wavegate why)
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: refused: rollout r1 cannot be retried: rollout is stopped; it has ended; for an
      retry all: refused: rollout r1 cannot be retried: rollout is stopped; it has ended; for an
      waive: refused: c1 cannot be waived: rollout is stopped; it has ended; for another one
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: nothing to do: rollout r1 is stopped already
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
    insta::assert_snapshot!(twice("finished").await, @r"
    finished
      start: refused: plan PLAN was executed by rollout r1, and the nodes are no longer as i
      pause: refused: rollout r1 cannot be paused: rollout is finished; it has ended; for an
      resume: refused: rollout r1 cannot be resumed: rollout is finished; it has ended; for a
      wave next: refused: no wave of rollout r1 waits for an operator (wavegate why)
      wave 1: nothing to do: wave 1 of stage compute of rollout r1 has been let begin already
      retry: nothing to do: none of c1 has failed in rollout r1; there is nothing to try again, se
      retry all: nothing to do: no node has failed in rollout r1; there is nothing to try again, see w
      waive: nothing to do: c1 has nothing left to do in rollout r1
      withdraw: nothing to do: c1 is not waived in rollout r1, nothing was withdrawn
      stop: refused: rollout r1 cannot be stopped: rollout is finished; it has ended; for a
      approve: refused: plan PLAN was started already, as rollout r1; there is nothing left to
    ");
}
