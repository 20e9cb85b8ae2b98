//! The main job on real hosts: a whole upgrade, a second one, a reboot; crashes of both sides; a node that is off; a
//! broken package.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use wavegate_tests::demo::{self, Snapshot};
use wavegate_tests::deploy::{SITE_FILE, SOON, UPGRADE, Wavegate, journal};
use wavegate_tests::evidence::{
    STAGES, barrier_in_the_event_log, barrier_in_the_hosts_journals, kill_hard, packages_changed_once,
    same_processes, tasks,
};
use wavegate_tests::lab::{Family, Fleet, FleetSpec, Lab, Node, Role, System, wait_until};

/// A fleet, unless the environment says that there is no lab here.
fn boot(spec: FleetSpec) -> Result<Option<Fleet>> {
    let Some(lab) = Lab::for_suite()? else { return Ok(None) };
    Fleet::boot(&lab, spec).map(Some)
}

fn small(name: &str) -> FleetSpec {
    FleetSpec::new(name)
        .with(Role::Etcd, Family::Apt)
        .with(Role::Compute, Family::Apt)
        .with(Role::Compute, Family::Apt)
        .with(Role::Compute, System::Centos7)
        .with(Role::Control, Family::Apt)
}

#[test]
fn an_upgrade_keeps_the_barrier_and_a_second_one_changes_nothing() -> Result<()> {
    let Some(fleet) = boot(FleetSpec::standard("upgrade"))? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    let before = Snapshot::of_all(&wavegate)?;
    wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    let after = Snapshot::of_all(&wavegate)?;
    demo::must_be_upgraded(&wavegate, &before, &after)?;
    barrier_in_the_event_log(&wavegate.events()?, [8, 3, 2])?;
    barrier_in_the_hosts_journals(&wavegate)?;
    lock_path_is_set(&after)?;
    pip_left_nothing(&fleet)?;

    let output = wavegate.cli(&["upgrade", "--yes", "--parameters", SITE_FILE])?;
    for node in wavegate.managed() {
        ensure!(output.contains(node.name()), "the second upgrade does not name {}:\n{output}", node.name());
    }
    ensure!(
        output.contains("Nothing was changed"),
        "the second upgrade does not say that nothing changed:\n{output}"
    );
    for task in tasks(&wavegate.status()?) {
        ensure!(task["changed"] == false, "the second upgrade changed a node: {task}");
    }
    let again = Snapshot::of_all(&wavegate)?;
    for (node, snapshot) in &after {
        ensure!(
            same_processes(snapshot, &again[node]),
            "{node} is not as it was: {snapshot:?} -> {:?}",
            again[node]
        );
    }

    let compute = fleet.node("compute-1");
    compute.reboot()?;
    ensure!(compute.unit("neutron-dhcp-agent")?.active != "active", "the old DHCP agent came up at boot");
    wait_until("the Calico DHCP agent to be up after the reboot", SOON, || {
        Ok((compute.unit("calico-dhcp-agent")?.active == "active").then_some(()))
    })?;
    fleet.tear_down()
}

fn lock_path_is_set(after: &BTreeMap<String, Snapshot>) -> Result<()> {
    let lock_path = after["compute-3"].lock_path.as_deref();
    ensure!(lock_path == Some("lock_path = $state_path/lock"), "compute-3 has {lock_path:?}");
    Ok(())
}

fn pip_left_nothing(fleet: &Fleet) -> Result<()> {
    for name in ["compute-1", "compute-3"] {
        let found = fleet
            .node(name)
            .shell("ls -d /usr/local/lib/python3*/*-packages/networking_calico* 2>/dev/null || true")?;
        ensure!(found.trim().is_empty(), "{name}: pip's networking-calico is still there: {found}");
    }
    Ok(())
}

#[test]
fn killed_coordinators_and_agents_go_on_where_they_were() -> Result<()> {
    let Some(fleet) = boot(FleetSpec::standard("crash"))? else { return Ok(()) };
    fleet.publish_slow("calico-felix", 8)?;
    let wavegate = Wavegate::install(&fleet)?;
    let before = Snapshot::of_all(&wavegate)?;
    wavegate.start()?;
    for stage in STAGES {
        wait_until(&format!("a node to work on stage {stage}"), UPGRADE, || {
            let status = wavegate.status()?;
            let working = |task: &Value| task["state"] == "applying";
            let stages = status["stages"].as_array().cloned().unwrap_or_default();
            let of_stage = stages.iter().filter(|s| s["stage"] == stage).flat_map(|s| s["tasks"].as_array());
            if of_stage.flatten().any(working) {
                return Ok(Some(()));
            }
            bail!("{}", wavegate.cli(&["status"])?)
        })?;
        if stage == "compute" {
            kill_agent_in_its_transaction(fleet.node("compute-1"))?;
        }
        kill_hard(wavegate.coordinator(), "wavegate-coordinator")?;
    }
    let status = wavegate.wait_status("finished", UPGRADE)?;
    ensure!(status["generation"].as_u64() >= Some(4), "the coordinator was restarted three times: {status}");
    let after = Snapshot::of_all(&wavegate)?;
    demo::must_be_upgraded(&wavegate, &before, &after)?;
    barrier_in_the_event_log(&wavegate.events()?, [8, 3, 2])?;
    barrier_in_the_hosts_journals(&wavegate)?;
    for node in wavegate.managed() {
        for (step, times) in journal::changes(node)? {
            ensure!(times == 1, "{}: step {step} took effect {times} times", node.name());
        }
        packages_changed_once(node)?;
    }
    fleet.tear_down()
}

/// Waits for the slow package's script, then kills the agent: the transaction must go on without it.
fn kill_agent_in_its_transaction(node: &Node) -> Result<()> {
    let script = "calico-felix.postinst";
    let running = || node.shell(&format!("pgrep -f '{script}' | head -1"));
    let pid = wait_until(&format!("{script} to run on {}", node.name()), SOON, || {
        let found = running()?;
        Ok((!found.trim().is_empty()).then(|| found.trim().to_owned()))
    })?;
    kill_hard(node, "wavegate-agent")?;
    let still = node.shell(&format!("test -d /proc/{pid} && echo runs || echo ended"))?;
    println!("{}: after the agent was killed, the package's script {}", node.name(), still.trim());
    Ok(())
}

#[test]
fn a_node_that_is_off_holds_the_barrier_until_it_is_back() -> Result<()> {
    let Some(fleet) = boot(small("offline"))? else { return Ok(()) };
    fleet.publish_slow("calico-felix", 4)?;
    let wavegate = Wavegate::install(&fleet)?;
    let nodes = wavegate.json(&["nodes"])?;
    let compute_3 = nodes.as_array().into_iter().flatten().find(|node| node["node"] == "compute-3");
    let manager = compute_3.map(|node| &node["platform"]["package_manager"]);
    ensure!(manager.is_some_and(|manager| manager == "yum"), "compute-3 installs with {manager:?}");
    wavegate.start()?;
    wait_until("the canary of stage compute to be worked on", UPGRADE, || {
        Ok(wavegate
            .events()?
            .iter()
            .any(|e| e["event"] == "task_started" && e["stage"] == "compute")
            .then_some(()))
    })?;
    fleet.node("compute-3").power_cut()?;
    let status = wait_until("every other compute node to be finished", UPGRADE, || {
        let status = wavegate.status()?;
        let compute =
            status["stages"].as_array().and_then(|stages| stages.get(1)).cloned().unwrap_or_default();
        if compute["counts"]["finished"] == 2 && node_is_offline(&compute, "compute-3") {
            return Ok(Some(status));
        }
        bail!("{}", wavegate.cli(&["status"])?)
    })?;
    ensure!(status["stages"][2]["state"] == "unstarted", "control began: {status}");
    for verb in ["status", "why"] {
        let text = wavegate.cli(&[verb])?;
        ensure!(text.contains("compute-3"), "`{verb}` does not name the node:\n{text}");
        ensure!(text.contains("switch compute-3 on"), "`{verb}` does not say what would unblock it:\n{text}");
        ensure!(
            text.contains("stage control waits for stage compute"),
            "`{verb}` does not name the barrier:\n{text}"
        );
    }
    fleet.node("compute-3").power_on()?;
    wavegate.wait_status("finished", UPGRADE)?;
    // Its own processes are all younger than the power cut, so it is what runs now that counts.
    let after = Snapshot::of(fleet.node("compute-3"))?;
    let felix = after.packages.get("calico-felix").is_some_and(|v| v.starts_with(&fleet.manifest.calico.new));
    ensure!(felix && after.active, "Felix on compute-3 is not the new one: {after:?}");
    ensure!(after.dhcp_agents == ["calico-dhcp-agent"], "DHCP agents on compute-3: {after:?}");
    ensure!(
        after.neutron_dnsmasqs().all(|d| d.exe_is_file_on_disk),
        "a stale dnsmasq on compute-3: {after:?}"
    );
    ensure!(after.neutron_dnsmasqs().count() == 2, "dnsmasqs on compute-3: {after:?}");
    let log = fleet.node("compute-3").read_file("/var/log/yum.log")?;
    let felix = format!("Updated: calico-felix-{}", fleet.manifest.calico.new);
    ensure!(log.contains(&felix), "yum did not update Felix on compute-3:\n{log}");
    fleet.tear_down()
}

fn node_is_offline(stage: &Value, node: &str) -> bool {
    let tasks = stage["tasks"].as_array().cloned().unwrap_or_default();
    tasks.iter().any(|task| task["node"] == node && task["link"]["link"] == "offline")
}

#[test]
fn a_broken_package_halts_on_the_canary_and_retry_goes_on_when_it_is_mended() -> Result<()> {
    let Some(fleet) = boot(small("broken"))? else { return Ok(()) };
    fleet.publish_broken("calico-felix")?;
    let wavegate = Wavegate::install(&fleet)?;
    let before = Snapshot::of_all(&wavegate)?;
    let upgrade = ["upgrade", "--yes", "--parameters", SITE_FILE];
    let output = wavegate.cli_output(&[&upgrade, wavegate.acknowledged()].concat())?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(6), "exit {:?}:\n{text}", output.status);
    for word in ["compute-1", "install-packages", "calico-felix"] {
        ensure!(text.contains(word), "the error does not say {word}:\n{text}");
    }
    let status = wavegate.status()?;
    ensure!(status["status"] == "paused", "it is not halted: {status}");
    let untouched = Snapshot::of_all(&wavegate)?;
    for node in ["compute-2", "compute-3", "control-1"] {
        ensure!(same_processes(&before[node], &untouched[node]), "{node} was touched: {:?}", untouched[node]);
        // In stage etcd they only looked whether etcd answers them.
        let began = journal::moments(fleet.node(node), "step_started")?;
        ensure!(began.iter().all(|(stage, _)| stage == "etcd"), "{node} began: {began:?}");
    }
    let refused = wavegate.cli_output(&["resume"])?;
    ensure!(!refused.status.success(), "resume went on over the threshold");
    fleet.mend("calico-felix")?;
    wavegate.cli(&["retry", "--all-failed"])?;
    wavegate.cli(&["resume"])?;
    wavegate.wait_status("finished", UPGRADE)?;
    let after = Snapshot::of_all(&wavegate)?;
    demo::must_be_upgraded(&wavegate, &before, &after)?;
    fleet.tear_down()
}
