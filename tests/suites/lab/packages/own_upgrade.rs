//! The agent's package, upgraded by a step of the agent's own: the transaction outlives the agent that began it, and the agent
//! that it brings tells how it ended.

use anyhow::{Context, Result, ensure};
use wavegate_tests::deploy::{POLICY_FILE, Package, Packages, UPGRADE, Wavegate, journal};
use wavegate_tests::evidence::packages_are_whole;
use wavegate_tests::lab::{Family, FleetSpec, Node, Role, System};

use super::{AGENT, boot, revision, runs_what_is_installed};

const PROCEDURE: &str = r#"
[procedure]
name = "own-upgrade"
version = "1"
title = "The agent's own package"
platforms = ["debian", "redhat"]

[[stages]]
stage = "compute"
roles = ["compute"]
canary = 1
max_unavailable = 4
errors_allowed = 0

[[stages.steps]]
id = "install"
title = "Install"
page = "none"
action = "package.install"
with = { packages = ["wavegate-agent"] }

[[stages.steps]]
id = "check"
title = "Check"
page = "none"
action = "service.check"
with = { active = ["wavegate-agent"], newer_than_packages = ["wavegate-agent"] }
"#;

#[test]
fn an_agent_that_upgrades_itself_ends_the_step_once() -> Result<()> {
    let systems = [System::Debian, System::Trusty, System::Rocky9, System::Centos7];
    let spec =
        systems.iter().fold(FleetSpec::new("itself"), |spec, system| spec.with(Role::Compute, *system));
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    let second = Packages::made()?.later();
    for family in [Family::Apt, Family::Rpm] {
        fleet.publish_file(&second.file(Package::Agent, family)?)?;
    }
    let mut before = Vec::new();
    for node in wavegate.managed() {
        let policy = node.read_file(POLICY_FILE)?.replace("packages = [", "packages = [\"wavegate-agent\",");
        let policy = policy.replace("restart = [", "restart = [\"wavegate-agent\",");
        node.write_file(POLICY_FILE, policy.as_bytes(), 0o644)?;
        before.push((node, node.unit(AGENT)?.main_pid));
    }
    let procedure = "/root/procedure.toml";
    wavegate.coordinator().write_file(procedure, PROCEDURE.as_bytes(), 0o644)?;
    wavegate.cli(&["plan", "--procedure-file", procedure])?;
    wavegate.cli(&["start"])?;
    wavegate.wait_status("finished", UPGRADE)?;

    for (node, before) in before {
        ensure!(revision(node, Package::Agent)? == "2", "{}: {:?}", node.name(), node.packages()?.get(AGENT));
        runs_what_is_installed(node, Package::Agent, before)?;
        let changes = journal::changes(node)?;
        let times =
            changes.get("compute/install").with_context(|| format!("{}: {changes:?}", node.name()))?;
        ensure!(*times == 1, "{}: {changes:?}", node.name());
        let upgrades = upgrades_of_the_agent(node)?;
        ensure!(upgrades == "1", "{}: its package manager upgraded the agent {upgrades} times", node.name());
        packages_are_whole(node)?;
    }
    fleet.tear_down()
}

/// How often the package manager upgraded the agent, by its own log.
fn upgrades_of_the_agent(node: &Node) -> Result<String> {
    let log = match node.system() {
        System::Debian | System::Trusty => "grep -c ' upgrade wavegate-agent' /var/log/dpkg.log",
        System::Rocky9 => {
            "for id in $(dnf history list | awk '$1 ~ /^[0-9]+$/ {print $1}'); do dnf history info $id; done \
             | grep -c '^ *Upgrade  *wavegate-agent'"
        }
        System::Centos7 => "grep -c ' Updated: wavegate-agent' /var/log/yum.log",
    };
    // grep exits 1 when it counts none.
    Ok(node.shell(&format!("{log} || true"))?.trim().to_owned())
}
