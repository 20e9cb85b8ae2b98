//! Whole fleets in one process: the barrier, limits, crashes of both sides, and the operators' verbs, on production code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wavegate_agent::hand_back::lock;
use wavegate_agent::host::fake::{FakeMachine, Stopped, has_effect, join};
use wavegate_tests::in_process::{InProcess, site_policy};

type Machine = fn() -> FakeMachine;

async fn fleet(machines: &[(&str, Machine)]) -> Result<InProcess> {
    let mut fleet = InProcess::start().await?;
    let mut made: Vec<(&str, FakeMachine)> =
        machines.iter().map(|(name, machine)| (*name, machine())).collect();
    join(made.iter_mut().map(|(name, machine)| (*name, machine)));
    for (name, machine) in made {
        fleet.add(name, machine).await?;
    }
    fleet.wait_online(machines.len()).await?;
    Ok(fleet)
}

const MIXED: &[(&str, Machine)] = &[
    ("etcd-1", FakeMachine::debian_etcd),
    ("etcd-2", FakeMachine::debian_etcd),
    ("etcd-3", FakeMachine::trusty_etcd),
    ("compute-1", FakeMachine::debian_compute),
    ("compute-2", FakeMachine::redhat_compute),
    ("compute-3", FakeMachine::trusty_compute),
    ("control-1", FakeMachine::debian_control),
    ("control-2", FakeMachine::redhat_control),
];

/// I1 and I3, by the event log.
fn barrier_is_kept(events: &[Value]) -> Result<()> {
    let mut running: BTreeSet<(String, String)> = BTreeSet::new();
    let mut finished: BTreeMap<String, usize> = BTreeMap::new();
    let expected = BTreeMap::from([("etcd", 3), ("compute", 3), ("control", 2)]);
    for event in events {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let (stage, node) = (text("stage"), text("node"));
        match event["event"].as_str() {
            Some("task_started") => {
                for earlier in ["etcd", "compute", "control"].iter().take_while(|s| **s != stage) {
                    let done = finished.get(*earlier).copied().unwrap_or(0);
                    ensure!(
                        done == expected[earlier],
                        "{node} began {stage} with {done} of {earlier} finished"
                    );
                }
                running.insert((stage.clone(), node));
                let etcd = running.iter().filter(|(stage, _)| stage == "etcd").count();
                ensure!(etcd <= 1, "{etcd} etcd members at once");
            }
            Some("task_ended") => {
                running.remove(&(stage.clone(), node));
                if event["result"] == "finished" {
                    *finished.entry(stage).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn changed_nodes(status: &Value) -> usize {
    let stages = status["stages"].as_array().cloned().unwrap_or_default();
    let tasks = stages.iter().flat_map(|stage| stage["tasks"].as_array().cloned().unwrap_or_default());
    tasks.filter(|task| task["changed"] == true).count()
}

/// Every machine's packages with their versions.
fn packages(fleet: &InProcess) -> BTreeMap<String, Vec<String>> {
    let of = |machine: &FakeMachine| {
        machine.installed.iter().map(|(name, p)| format!("{name} {}", p.version)).collect()
    };
    fleet.nodes.iter().map(|(name, node)| (name.clone(), of(&node.host.machine()))).collect()
}

/// Members of etcd that were stopped, as their cluster saw it; each once.
fn stops(fleet: &InProcess) -> Vec<(String, Stopped)> {
    let first = fleet
        .nodes
        .values()
        .find_map(|node| Some(node.host.machine().etcd.as_ref()?.cluster().stops.clone()));
    first.unwrap_or_default().into_iter().map(|stop| (stop.member.clone(), stop)).collect()
}

/// Restarts and package transactions that a machine ran, each with how often.
fn effects(fleet: &InProcess) -> BTreeMap<String, BTreeMap<String, u32>> {
    let count = |machine: &FakeMachine| {
        let mut counts = BTreeMap::new();
        for line in machine.history.iter().filter(|line| has_effect(line)) {
            *counts.entry(line.clone()).or_insert(0) += 1;
        }
        counts
    };
    fleet.nodes.iter().map(|(name, node)| (name.clone(), count(&node.host.machine()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_fleet_is_upgraded_and_a_second_upgrade_changes_nothing() -> Result<()> {
    let fleet = fleet(MIXED).await?;
    let before = packages(&fleet);
    let site = fleet.site_file()?;
    let site = site.to_str().context("a path")?;
    let upgrade = ["upgrade", "--yes", "--parameters", site];
    tokio::task::block_in_place(|| fleet.cli(&upgrade))?;
    barrier_is_kept(&fleet.events()?)?;
    ensure!(changed_nodes(&fleet.json(&["status"])?) == 8, "not every node was changed");
    let (upgraded, ran) = (packages(&fleet), effects(&fleet));
    for (node, old) in &before {
        ensure!(old != &upgraded[node], "{node} has the packages it had");
    }
    let text = tokio::task::block_in_place(|| fleet.cli(&upgrade))?;
    ensure!(text.contains("Nothing was changed"), "{text}");
    ensure!(changed_nodes(&fleet.json(&["status"])?) == 0, "a second upgrade changed something");
    let stopped = stops(&fleet);
    ensure!(stopped.len() == 3, "each member is stopped once: {stopped:?}");
    for (node, stop) in stopped {
        ensure!(stop.beside.is_empty(), "{node} was stopped while {} was down", stop.beside.join(", "));
    }
    ensure!(effects(&fleet) == ran, "a second upgrade ran something: {ran:?} -> {:?}", effects(&fleet));
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_of_both_sides_change_neither_the_end_nor_how_often_anything_was_done() -> Result<()> {
    let calm = fleet(MIXED).await?;
    calm.start_rollout(&[])?;
    calm.wait_status("finished").await?;
    let (end, done) = (packages(&calm), effects(&calm));
    calm.end().await?;

    let mut stormy = fleet(MIXED).await?;
    stormy.start_rollout(&[])?;
    // A crash after every few events, of the coordinator and of the agents in turn.
    for (crash, at) in (2..60).step_by(6).enumerate() {
        stormy
            .wait("the log to grow", |fleet| {
                let status = fleet.json(&["status"])?;
                let far = status["last_seq"].as_u64() >= Some(at) || status["status"] == "finished";
                Ok(far.then_some(()))
            })
            .await?;
        if crash % 2 == 0 {
            stormy.kill_coordinator().await;
            stormy.start_coordinator().await?;
        } else {
            for name in ["etcd-2", "compute-1", "compute-2", "control-1"] {
                stormy.stop_agent(name).await?;
                stormy.start_agent(name)?;
            }
        }
    }
    stormy.wait_status("finished").await?;
    barrier_is_kept(&stormy.events()?)?;
    ensure!(packages(&stormy) == end, "another end: {end:?} -> {:?}", packages(&stormy));
    ensure!(effects(&stormy) == done, "another number of effects: {done:?} -> {:?}", effects(&stormy));
    stormy.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_rollout_waits_for_an_operator_before_every_wave_and_can_be_paused_and_stopped() -> Result<()>
{
    let fleet = fleet(&MIXED[2..5]).await?;
    // The fleet's cluster has one member.
    fleet.start_rollout(&["--manual", "--acknowledge", "etcd-no-spare-member"])?;
    let why = fleet.cli(&["why"])?;
    ensure!(why.contains("wavegate wave next"), "{why}");
    fleet.cli(&["wave", "next"])?;
    fleet
        .wait("wave 1 of compute to wait", |fleet| {
            let status = fleet.json(&["status"])?;
            let waits = fleet.cli(&["why"])?.contains("wave 1 of stage compute waits for an operator");
            Ok((status["stages"][0]["state"] == "done" && waits).then_some(()))
        })
        .await?;
    fleet.cli(&["pause"])?;
    let again = fleet.json(&["pause"])?;
    ensure!(again["changed"] == false, "a second pause did something: {again}");
    fleet.cli(&["resume"])?;
    fleet.cli(&["stop"])?;
    let status = fleet.wait_status("stopped").await?;
    ensure!(status["stages"][1]["counts"]["not_tried"] == 2, "{status}");
    let refused = fleet.cli_output(&["resume"])?;
    ensure!(refused.status.code() == Some(4), "resume after stop: {:?}", refused.status);
    // A stopped rollout makes room for another, which goes on where the machines are.
    fleet.start_rollout(&[])?;
    fleet.wait_status("finished").await?;
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_on_the_canary_leaves_the_others_untouched_until_it_is_retried() -> Result<()> {
    let fleet = fleet(&MIXED[3..7]).await?;
    let before = packages(&fleet);
    fleet.nodes["compute-1"].host.machine().faults.fail("apt-get -q -y", 100, "E: the package is broken");
    fleet.start_rollout(&[])?;
    let status = fleet.wait_status("paused").await?;
    ensure!(status["pause"]["why"] == "error_threshold", "{status}");
    let text = fleet.cli(&["status"])?;
    for word in ["compute-1", "install-packages", "retry"] {
        ensure!(text.contains(word), "status does not say {word}:\n{text}");
    }
    ensure!(
        fleet.cli(&["logs", "compute-1"])?.contains("the package is broken"),
        "the logs do not have the output"
    );
    let after = packages(&fleet);
    for node in ["compute-2", "compute-3", "control-1"] {
        ensure!(before[node] == after[node], "{node} was touched");
    }
    fleet.cli(&["retry", "compute-1"])?;
    fleet.cli(&["resume"])?;
    fleet.wait_status("finished").await?;
    fleet.end().await
}

/// The agent's package is removed from a node, installed again later, and the task tried again.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_handed_back_leaves_a_failed_task_that_goes_on_when_it_is_installed_again()
-> Result<()> {
    let mut fleet = fleet(&MIXED[3..7]).await?;
    let before = packages(&fleet);
    let state = fleet.nodes["compute-1"].state.clone();
    let held = lock::take(&state, Instant::now())?.context("somebody else hands it back")?;
    fleet.start_rollout(&[])?;
    let status = fleet.wait_status("paused").await?;
    ensure!(status["stages"][1]["counts"]["failed"] == 1, "{status}");
    let why = fleet.cli(&["status"])?;
    for word in ["compute-1", "hand-back", "wavegate retry compute-1"] {
        ensure!(why.contains(word), "status does not say {word}:\n{why}");
    }
    ensure!(packages(&fleet) == before, "a step was begun");
    fleet.stop_agent("compute-1").await?;
    drop(held);
    fleet.start_agent("compute-1")?;
    fleet.cli(&["retry", "compute-1"])?;
    fleet.cli(&["resume"])?;
    fleet.wait_status("finished").await?;
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_nodes_stay_within_their_limits() -> Result<()> {
    let mut fleet = InProcess::start().await?;
    for index in 0..60 {
        let machine =
            if index % 3 == 0 { FakeMachine::redhat_compute() } else { FakeMachine::debian_compute() };
        fleet.add(&format!("compute-{index:02}"), machine).await?;
    }
    fleet.wait_online(60).await?;
    let site = fleet.site_file()?;
    let site = site.to_str().context("a path")?;
    let limit = ["--max-unavailable", "compute=7"];
    tokio::task::block_in_place(|| fleet.cli(&[&["plan", "--parameters", site], &limit[..]].concat()))?;
    fleet.cli(&["start"])?;
    fleet.wait_status("finished").await?;
    let (mut running, mut most) = (BTreeSet::new(), 0);
    for event in fleet.events()? {
        let node = event["node"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("task_started") => drop(running.insert(node)),
            Some("task_ended") => drop(running.remove(&node)),
            _ => {}
        }
        most = most.max(running.len());
    }
    ensure!(most == 7, "at most {most} nodes were worked on at once, 7 may be");
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_outside_a_nodes_policy_is_refused_by_its_agent_whatever_the_coordinator_says() -> Result<()>
{
    let fleet = fleet(&MIXED[3..4]).await?;
    let node = &fleet.nodes["compute-1"];
    let before = packages(&fleet);
    // Root of the node takes something out after the plan was made: the coordinator still believes that all is well.
    let site = fleet.site_file()?;
    let site = site.to_str().context("a path")?;
    fleet.cli(&["plan", "--parameters", site])?;
    std::fs::write(node.policy_file(), site_policy().replace("disable = [", "disable = [] # ["))?;
    node.host.machine().history.clear();
    fleet.cli(&["start"])?;
    fleet.wait_status("paused").await?;
    let status = fleet.cli(&["status"])?;
    for word in ["disable-neutron-dhcp-agent", "services.disable", "policy.toml"] {
        ensure!(status.contains(word), "status does not say {word}:\n{status}");
    }
    ensure!(packages(&fleet) == before && effects(&fleet)["compute-1"].is_empty(), "{:?}", effects(&fleet));
    let journal = node.journal_text()?;
    ensure!(journal.contains("step_ended") && !journal.contains("step_started"), "{journal}");
    fleet.cli(&["stop"])?;
    fleet.wait_status("stopped").await?;
    // A plan that is made now says so beforehand, and can't be started.
    let plan = fleet.cli_output(&["plan", "--parameters", site])?;
    let plan = String::from_utf8_lossy(&plan.stdout);
    ensure!(
        plan.contains("blocked") && plan.contains("services.disable"),
        "the plan does not say it:\n{plan}"
    );
    ensure!(!fleet.cli_output(&["start"])?.status.success(), "a plan that a policy forbids was started");
    // Permitted again, it counts at once.
    std::fs::write(node.policy_file(), site_policy())?;
    fleet.start_rollout(&[])?;
    fleet.wait_status("finished").await?;
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn skips_are_shown_with_their_reason_everywhere() -> Result<()> {
    let fleet = fleet(&MIXED[2..5]).await?;
    let site = fleet.site_file()?;
    let upgrade = ["upgrade", "--yes", "--set", "openstack_release=kilo", "--set", "upgrade_etcd=false"];
    let upgrade = [&upgrade[..], &["--parameters", site.to_str().context("a path")?]].concat();
    let summary = tokio::task::block_in_place(|| fleet.cli(&upgrade))?;
    let reasons = ["OpenStack release kilo is before liberty", "upgrade_etcd"];
    let plan = fleet.cli(&["plan", "show"])?;
    let logs = fleet.cli(&["logs", "compute-1"])? + &fleet.cli(&["logs", "etcd-3"])?;
    let events = fleet.cli(&["events", "--output", "json"])?;
    for (place, text) in [("plan", plan), ("logs", logs), ("events", events), ("summary", summary)] {
        for reason in reasons {
            ensure!(text.contains(reason), "{place} does not say '{reason}':\n{text}");
        }
    }
    let skipped = fleet.events()?;
    let of = |node: &str| {
        let ended = skipped.iter().filter(|event| event["event"] == "step_ended" && event["node"] == node);
        ended.filter(|event| event["outcome"]["outcome"] == "skipped").count()
    };
    ensure!(of("etcd-3") > 1, "every step of etcd-3 is there, as skipped: {}", of("etcd-3"));
    ensure!(of("compute-1") > 1 && of("compute-2") > 1, "steps for later releases are there, as skipped");
    fleet.end().await
}

/// Nodes of the tasks that were given out, in order.
fn given_out(fleet: &InProcess) -> Result<Vec<String>> {
    let started = fleet.events()?.into_iter().filter(|event| event["event"] == "task_started");
    Ok(started.map(|event| event["node"].as_str().unwrap_or_default().to_owned()).collect())
}

const RACKS: &[(&str, Machine)] = &[
    ("compute-1", FakeMachine::debian_compute),
    ("compute-2", FakeMachine::redhat_compute),
    ("compute-3", FakeMachine::debian_compute),
    ("compute-4", FakeMachine::trusty_compute),
    ("compute-5", FakeMachine::debian_compute),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_done_rack_by_rack_with_rests_and_without_a_node_that_is_waived() -> Result<()> {
    let mut fleet = fleet(RACKS).await?;
    let rack = |name: &str| if ["compute-2", "compute-4"].contains(&name) { "b" } else { "a" };
    let declared =
        RACKS.iter().map(|(name, _)| format!("[nodes.{name}]\nlabels = {{ rack = \"{}\" }}\n", rack(name)));
    let inventory = fleet.site_file()?.with_file_name("fleet.toml");
    std::fs::write(&inventory, declared.collect::<String>())?;
    fleet.cli(&["inventory", "set", inventory.to_str().context("a path")?])?;
    let site = fleet.site_file()?;
    let site = ["plan", "--parameters", site.to_str().context("a path")?];
    let refused = fleet.cli_output(&[&site[..], &["--canary", "compute=6"]].concat())?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(said.contains("canary 6 is more than the 5 node(s) of the stage"), "{said}");
    let waves =
        ["--group-by", "compute=rack", "--batches", "compute=doubling", "--max-unavailable", "compute=2"];
    let rest = ["--soak", "compute=1s", "--wave-start", "control=manual"];
    fleet.cli(&[&site[..], &waves, &rest].concat())?;
    fleet.cli(&["start"])?;
    // compute-4, of the last wave, dies before its turn.
    fleet.stop_agent("compute-4").await?;
    fleet
        .wait("the last wave to wait for compute-4", |fleet| {
            let why = fleet.cli(&["why", "--stage", "compute"])?;
            Ok(why.contains("compute-4 is offline and has not done stage compute").then_some(()))
        })
        .await?;
    let waive = ["waive", "compute-4", "--reason", "mainboard, ticket 4711", "--for", "2h"];
    fleet.cli(&waive)?;
    let status = fleet.wait_status("finished").await?;
    let counts = &status["stages"][1]["counts"];
    ensure!(counts["finished"] == 4 && counts["waived"] == 1, "{counts}");
    for said in [fleet.cli(&["status"])?, fleet.cli(&["events"])?] {
        ensure!(said.contains("compute-4") && said.contains("mainboard, ticket 4711"), "{said}");
    }
    ensure!(
        given_out(&fleet)? == ["compute-1", "compute-3", "compute-5", "compute-2"],
        "{:?}",
        given_out(&fleet)?
    );
    let ended: Vec<(String, String, u64)> = fleet
        .events()?
        .iter()
        .filter(|event| ["task_started", "task_ended"].contains(&event["event"].as_str().unwrap_or_default()))
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            (text("event"), text("node"), event["at"].as_u64().unwrap_or_default())
        })
        .collect();
    let at =
        |what: &str, node: &str| ended.iter().find(|(e, n, _)| e == what && n == node).map(|(.., at)| *at);
    for (before, after) in [("compute-1", "compute-3"), ("compute-5", "compute-2")] {
        let (before, after) = (at("task_ended", before), at("task_started", after));
        ensure!(
            before.zip(after).is_some_and(|(before, after)| after >= before + 1000),
            "no rest: {ended:?}"
        );
    }
    fleet.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_changed_since_the_plan_is_not_worked_on_and_a_new_plan_has_it() -> Result<()> {
    let fleet = fleet(&RACKS[..2]).await?;
    let site = fleet.site_file()?;
    fleet.cli(&["plan", "--parameters", site.to_str().context("a path")?])?;
    {
        let mut machine = fleet.nodes["compute-2"].host.machine();
        let felix = machine.installed.get_mut("calico-felix").context("no felix")?;
        felix.version = felix.version.replacen("1.3.1", "1.3.2", 1);
    }
    fleet.cli(&["start"])?;
    let status = fleet.wait_status("paused").await?;
    let error = &status["stages"][1]["tasks"][1]["error"];
    let what = error["what"].as_str().unwrap_or_default();
    ensure!(what == "this node is not as the plan saw it: felix 1.3.1-1.el7 -> 1.3.2-1.el7", "{error}");
    ensure!(error["next"].as_str().is_some_and(|next| next.contains("make a new plan")), "{error}");
    let journal = fleet.nodes["compute-2"].journal_text()?;
    ensure!(!journal.contains("step_started"), "it was worked on: {journal}");
    fleet.cli(&["stop"])?;
    fleet.wait_status("stopped").await?;
    fleet.start_rollout(&[])?;
    fleet.wait_status("finished").await?;
    fleet.end().await
}
