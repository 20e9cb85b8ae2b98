//! An agent that is removed in the middle of a task: the step at hand ends, no other begins, and the coordinator knows; where the
//! step and the removal wait for each other, the removal is refused.

use std::process::Child;

use anyhow::{Context, Result, bail, ensure};
use wavegate_tests::deploy::packages::{remove, removing};
use wavegate_tests::deploy::{
    Package, Packages, SITE_FILE, SOON, UPGRADE, Wavegate, journal, start_where_the_family_does_not,
};
use wavegate_tests::evidence::{packages_changed_once, tasks};
use wavegate_tests::lab::{FleetSpec, Node, Role, System, wait_until};

use super::{AGENT, boot};

/// A step that takes as long as nobody answers, and one behind it.
const PROCEDURE: &str = r#"
[procedure]
name = "patience"
version = "1"
title = "A step that takes long"
platforms = ["debian", "redhat"]

[[stages]]
stage = "compute"
roles = ["compute"]
canary = 2
max_unavailable = 2
errors_allowed = 0

[[stages.steps]]
id = "wait"
title = "Wait for an answer"
page = "none"
action = "http.check"
with = { url = "http://127.0.0.1:9696/", within_s = 600 }
timeout_s = 700

[[stages.steps]]
id = "look"
title = "Look at Felix"
page = "none"
action = "service.check"
with = { active = ["calico-felix"] }
"#;

#[test]
fn an_agent_that_is_removed_in_the_middle_of_a_task_hands_it_back() -> Result<()> {
    let spec =
        FleetSpec::new("removal").with(Role::Compute, System::Debian).with(Role::Compute, System::Rocky9);
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    let procedure = "/root/procedure.toml";
    wavegate.coordinator().write_file(procedure, PROCEDURE.as_bytes(), 0o644)?;
    wavegate.cli(&["plan", "--procedure-file", procedure])?;
    wavegate.cli(&["start"])?;
    for node in wavegate.managed() {
        wait_until(&format!("{} to be at its first step", node.name()), SOON, || {
            Ok((!journal::moments(node, "step_started")?.is_empty()).then_some(()))
        })?;
        removed_between_two_steps(node).with_context(|| node.name().to_owned())?;
    }
    what_was_handed_back_is_told(&wavegate)?;

    let packages = Packages::made()?;
    for node in wavegate.managed() {
        packages.install(Package::Agent, node)?;
        start_where_the_family_does_not(Package::Agent, node)?;
    }
    wavegate.wait_online()?;
    wavegate.cli(&["retry", "--all-failed"])?;
    wavegate.cli(&["resume"])?;
    wavegate.wait_status("finished", UPGRADE)?;

    a_removal_that_the_step_waits_for_is_refused(&wavegate, fleet.node("compute-1"))?;
    fleet.tear_down()
}

/// The removal begins while the first step waits for an answer, and goes through once that is there.
fn removed_between_two_steps(node: &Node) -> Result<()> {
    let removal = node.spawn(&[removing(node.system()), &[AGENT]].concat())?;
    wait_until("the package's script to hand back", SOON, || {
        Ok(node.output(&["pgrep", "-f", "wavegate-agent hand-back"])?.status.success().then_some(()))
    })?;
    ensure!(node.unit(AGENT)?.active == "active", "the agent was stopped before its step had ended");
    let answer = ["systemd-run", "-q", "--unit=answer", "python3", "-m", "http.server", "9696"];
    node.run(&answer)?;
    let (removed, said) = ended(removal)?;
    ensure!(removed && said.contains("Handed back"), "the removal: {said}");
    let unit = node.unit(AGENT)?;
    ensure!(unit.active == "inactive" && unit.load == "not-found", "after the removal: {unit:?}");
    let begun: Vec<_> = journal::moments(node, "step_started")?;
    ensure!(begun.len() == 1, "another step was begun: {begun:?}");
    Ok(())
}

/// Whether a package manager did what it was asked to, and all that it said.
fn ended(child: Child) -> Result<(bool, String)> {
    let output = child.wait_with_output().context("waiting for the package manager")?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Ok((output.status.success(), said))
}

fn what_was_handed_back_is_told(wavegate: &Wavegate<'_>) -> Result<()> {
    let status = wavegate.wait_status("paused", SOON)?;
    for node in wavegate.managed() {
        let failed =
            tasks(&status).iter().any(|task| task["node"] == node.name() && task["state"] == "failed");
        ensure!(failed, "the task of {} has not failed: {status}", node.name());
    }
    let why = wavegate.cli(&["why"])?;
    let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in
        ["the agent is being taken off this node (hand-back)", "Look at Felix", "wavegate retry compute-1"]
    {
        ensure!(words.contains(told), "`why` does not say {told:?}:\n{why}");
    }
    Ok(())
}

/// apt-get has the lock that the step needs, and waits for the step to end: one of the two has to give way.
fn a_removal_that_the_step_waits_for_is_refused(wavegate: &Wavegate<'_>, node: &Node) -> Result<()> {
    wavegate.cli(&["plan", "--parameters", SITE_FILE])?;
    let hold = ["-o", "DPkg::Pre-Invoke::=sleep 900 || true"];
    let removal = node.spawn(&[removing(node.system()), &hold, &[AGENT]].concat())?;
    wait_until("apt-get to have its lock", SOON, || {
        Ok(node.output(&["pgrep", "-x", "sleep"])?.status.success().then_some(()))
    })?;
    let before = node.unit(AGENT)?.main_pid;
    wavegate.cli(&["start"])?;
    wait_until("the step to wait for apt-get", UPGRADE / 4, || {
        let log = wavegate.cli(&["logs", node.name(), "--stage", "compute", "--step", "install-packages"])?;
        if log.contains("apt-get (pid ") { Ok(Some(())) } else { bail!("{log}") }
    })?;
    node.shell("kill $(pgrep -x sleep)")?;
    let (removed, said) = ended(removal)?;
    ensure!(!removed && said.contains("not handed back"), "the removal was not refused: {said}");
    ensure!(node.unit(AGENT)?.main_pid == before, "the agent was restarted");
    wavegate.wait_status("finished", UPGRADE)?;
    packages_changed_once(node)?;
    // With no task open it goes at once.
    remove(Package::Agent, node).map(|_| ())
}
