//! Package managers that are killed, hosts that lose power and disks that are full in the middle of the agent's
//! transaction, and other package managers in its way: repaired and finished, or stopped with an error that says it.

use anyhow::{Context, Result, bail, ensure};
use wavegate_tests::demo::Snapshot;
use wavegate_tests::deploy::{SITE_FILE, SOON, UPGRADE, Wavegate, journal};
use wavegate_tests::evidence::{packages_are_whole, packages_changed_once};
use wavegate_tests::lab::{Family, Fleet, FleetSpec, Lab, Node, Role, System, wait_until};

/// The step that all this happens in.
const STEP: &str = "install-packages";
/// How long the slow package's script takes, in seconds.
const SLOW: u32 = 8;

/// What is done to a node in the middle of its transaction.
type Fault = fn(&Node) -> Result<()>;

/// A fleet of computes, wavegate on it, and packages that give the time to do something in a transaction.
fn boot(name: &str, computes: &[(System, Option<u32>)]) -> Result<Option<Fleet>> {
    let Some(lab) = Lab::for_suite()? else { return Ok(None) };
    let mut spec = FleetSpec::new(name);
    for (system, disk) in computes {
        spec = spec.with(Role::Compute, *system);
        if let Some(megabytes) = disk {
            spec = spec.small_disk(*megabytes);
        }
    }
    let fleet = Fleet::boot(&lab, spec)?;
    fleet.publish_slow("calico-felix", SLOW)?;
    fleet.publish_slow_rpm("calico-felix", SLOW)?;
    Ok(Some(fleet))
}

fn start(wavegate: &Wavegate<'_>) -> Result<()> {
    wavegate.cli(&["plan", "--parameters", SITE_FILE])?;
    wavegate.cli(&["start"]).map(|_| ())
}

/// The pid of the slow package's script, once it runs.
pub(crate) fn in_the_transaction(node: &Node) -> Result<String> {
    let script = match node.family() {
        Family::Apt => "pgrep -f '[c]alico-felix.postinst' | head -1",
        Family::Rpm => "pgrep -x sleep | head -1",
    };
    wait_until(&format!("the slow package's script to run on {}", node.name()), UPGRADE / 4, || {
        let found = node.shell(script)?;
        Ok((!found.trim().is_empty()).then(|| found.trim().to_owned()))
    })
}

/// Kills every process of these names at once, and with them what they run, by pid: that may end by itself at the same moment.
fn kill(node: &Node, names: &[&str], pids: &[&str]) -> Result<()> {
    let mut victims = Vec::new();
    for name in names {
        let found = node.run(&["pgrep", "-x", name]).with_context(|| format!("no {name} runs"))?;
        victims.extend(found.split_whitespace().map(str::to_owned));
    }
    let (victims, pids) = (victims.join(" "), pids.join(" "));
    node.shell(&format!("kill -9 {victims} || exit 1; for pid in {pids}; do kill -9 $pid || true; done"))
        .map(|_| ())
}

/// Does something to each of these nodes in the middle of its transaction, all at the same time.
fn meanwhile(nodes: &[(&Node, Fault)]) -> Result<()> {
    std::thread::scope(|scope| {
        let tasks: Vec<_> =
            nodes.iter().map(|(node, fault)| (node.name(), scope.spawn(move || fault(node)))).collect();
        for (name, task) in tasks {
            let done = task.join().map_err(|_| anyhow::anyhow!("{name}: the test panicked"))?;
            done.with_context(|| name.to_owned())?;
        }
        Ok(())
    })
}

/// Lets the rollout go on to its end: a failure, which has to say all that somebody needs, is tried again. Returns the
/// names of the nodes that failed, in order.
fn to_the_end(wavegate: &Wavegate<'_>) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    loop {
        let status = wait_until("the rollout to end or to be held by failures", UPGRADE, || {
            let status = wavegate.status()?;
            let ended = matches!(status["status"].as_str(), Some("finished" | "stopped"));
            let idle = status["stages"].as_array().into_iter().flatten().all(|s| s["counts"]["running"] == 0);
            if ended || (status["status"] == "paused" && idle) {
                return Ok(Some(status));
            }
            bail!("{}", wavegate.cli(&["status"])?)
        })?;
        if status["status"] == "finished" {
            return Ok(failed);
        }
        let text = wavegate.cli(&["status"])?;
        let before = failed.len();
        for task in wavegate_tests::evidence::tasks(&status) {
            let error = &task["error"];
            if error.is_null() {
                continue;
            }
            let node = task["node"].as_str().context("a task without a node")?;
            ensure!(error["step"] == STEP, "another step failed on {node}: {error}");
            ensure!(error["output"].as_array().is_some_and(|o| !o.is_empty()), "no output: {error}");
            for word in [node, "stage compute", STEP, "wavegate logs"] {
                ensure!(text.contains(word), "the status does not say {word:?}:\n{text}");
            }
            failed.push(node.to_owned());
        }
        ensure!(failed.len() > before, "paused without a failure:\n{text}");
        ensure!(failed.len() < 20, "it fails again and again:\n{text}");
        wavegate.cli(&["retry", "--all-failed"])?;
        wavegate.cli(&["resume"])?;
    }
}

/// All packages are whole and new, and what runs is new, with nobody else's process touched.
fn is_upgraded(fleet: &Fleet, node: &Node) -> Result<()> {
    packages_are_whole(node)?;
    let now = Snapshot::of(node)?;
    for (package, version) in [
        ("calico-felix", &fleet.manifest.calico.new),
        ("networking-calico", &fleet.manifest.networking_calico.new),
        ("calico-dhcp-agent", &fleet.manifest.networking_calico.new),
    ] {
        let is = now.packages.get(package).with_context(|| format!("{package} is not installed"))?;
        ensure!(is.trim_start_matches("1:").starts_with(version.as_str()), "{package} is {is}");
    }
    ensure!(now.active && now.dhcp_agents == ["calico-dhcp-agent"], "{now:?}");
    ensure!(now.neutron_dnsmasqs().count() == 2, "{:?}", now.dnsmasqs);
    ensure!(now.neutron_dnsmasqs().all(|dnsmasq| dnsmasq.exe_is_file_on_disk), "{:?}", now.dnsmasqs);
    let policy = node.shell("ls /usr/sbin/policy-rc.d 2>/dev/null || true")?;
    ensure!(policy.is_empty(), "what keeps packages from starting services was left behind");
    for (step, times) in journal::changes(node)? {
        ensure!(times == 1, "step {step} took effect {times} times");
    }
    Ok(())
}

fn all_are_upgraded(fleet: &Fleet, wavegate: &Wavegate<'_>) -> Result<()> {
    for node in wavegate.managed() {
        is_upgraded(fleet, node).with_context(|| node.name().to_owned())?;
    }
    Ok(())
}

/// dpkg alone: apt-get lives and says it.
fn kill_dpkg(node: &Node) -> Result<()> {
    in_the_transaction(node)?;
    kill(node, &["dpkg"], &[])
}

/// apt-get, dpkg and its script, the agent and its runner: what a machine does that is out of memory.
fn kill_apt_and_agent(node: &Node) -> Result<()> {
    let script = in_the_transaction(node)?;
    kill(node, &["apt-get", "dpkg", "wavegate-agent"], &[&script])
}

fn kill_dnf(node: &Node) -> Result<()> {
    let script = in_the_transaction(node)?;
    kill(node, &["dnf"], &[&script])
}

fn kill_dnf_and_agent(node: &Node) -> Result<()> {
    let script = in_the_transaction(node)?;
    kill(node, &["dnf", "wavegate-agent"], &[&script])
}

fn kill_yum_and_agent(node: &Node) -> Result<()> {
    let script = in_the_transaction(node)?;
    kill(node, &["yum", "wavegate-agent"], &[&script])
}

/// By upstart, which ends the agent's process group, and once more by hand: the transaction is none of it.
fn restart_agent_by_upstart(node: &Node) -> Result<()> {
    let script = in_the_transaction(node)?;
    let apt = node.run(&["pgrep", "-x", "apt-get"])?;
    node.run(&["initctl", "restart", "wavegate-agent"])?;
    let agent = node.unit("wavegate-agent")?.main_pid.context("the agent has no process")?;
    node.run(&["kill", "-9", &agent.to_string()])?;
    let lives = |pid: &str| node.shell(&format!("test -d /proc/{} && echo lives || true", pid.trim()));
    // Its script has eight seconds; what was asked until now takes two or three.
    ensure!(lives(&apt)?.contains("lives"), "apt-get was ended with the agent; its script was {script}");
    wait_until("upstart to start the agent again", SOON, || {
        Ok((node.unit("wavegate-agent")?.active == "active").then_some(()))
    })
}

#[test]
fn killed_package_managers_are_repaired_and_finished() -> Result<()> {
    use System::{Centos7, Debian, Rocky9, Trusty};
    let computes = [Debian, Debian, Rocky9, Rocky9, Centos7, Trusty].map(|system| (system, None));
    let Some(fleet) = boot("killed", &computes)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    start(&wavegate)?;
    kill_dpkg(fleet.node("compute-1"))?;
    // The canary is tried again by hand if it failed; then come the others.
    let waiting = std::thread::scope(|scope| {
        let rollout = scope.spawn(|| to_the_end(&wavegate));
        meanwhile(&[
            (fleet.node("compute-2"), kill_apt_and_agent),
            (fleet.node("compute-3"), kill_dnf),
            (fleet.node("compute-4"), kill_dnf_and_agent),
            (fleet.node("compute-5"), kill_yum_and_agent),
            (fleet.node("compute-6"), restart_agent_by_upstart),
        ])?;
        rollout.join().map_err(|_| anyhow::anyhow!("the test panicked"))?
    });
    println!("failed and tried again: {:?}", waiting?);
    all_are_upgraded(&fleet, &wavegate)?;
    for node in ["compute-1", "compute-2", "compute-6"] {
        packages_changed_once(fleet.node(node))?;
    }
    fleet.tear_down()
}

fn cut_power(node: &Node) -> Result<()> {
    in_the_transaction(node)?;
    node.power_cut()?;
    node.power_on()?;
    node.wait_running(SOON)
}

/// Starts a package manager by hand that takes a while before it changes what a plan looks at, and returns its name and pid:
/// a node that has changed since its plan is not worked on, whoever holds its locks.
fn somebody_installs(node: &Node) -> Result<(String, String)> {
    let (name, command) = match node.system() {
        System::Debian | System::Trusty => (
            "apt-get",
            "apt-get update && apt-get -y -o 'DPkg::Pre-Invoke::=sleep 900 || true' install neutron-server",
        ),
        System::Rocky9 => ("dnf", "dnf -y update openstack-nova-api"),
        System::Centos7 => ("yum", "yum -y update openstack-nova-api"),
    };
    node.shell(&format!("({command}) >/var/log/somebody.log 2>&1 </dev/null &"))?;
    wait_until("somebody's package to be installed", SOON, || {
        Ok(node.output(&["pgrep", "-x", "sleep"])?.status.success().then_some(()))
    })?;
    let pid = node.run(&["pgrep", "-x", name])?;
    Ok((name.to_owned(), pid.lines().next().unwrap_or_default().to_owned()))
}

/// Lets somebody's package manager go on when the node's log has named it.
fn release_once_named(wavegate: &Wavegate<'_>, node: &Node, (name, pid): &(String, String)) -> Result<()> {
    let what = format!("the log of {} to name {name}, process {pid}", node.name());
    wait_until(&what, UPGRADE / 4, || {
        let log = wavegate.cli(&["logs", node.name(), "--stage", "compute", "--step", STEP])?;
        let named = |line: &str| line.contains(&format!("{name} (pid {pid})"));
        if log.lines().any(named) {
            return Ok(Some(()));
        }
        bail!("{log}")
    })?;
    node.shell("kill $(pgrep -x sleep)").map(|_| ())
}

#[test]
fn other_package_managers_are_waited_for_and_a_power_cut_is_repaired() -> Result<()> {
    use System::{Centos7, Debian, Rocky9};
    let computes = [Debian, Rocky9, Centos7, Debian, Rocky9, Centos7].map(|system| (system, None));
    let Some(fleet) = boot("locked", &computes)? else { return Ok(()) };
    fleet.publish_slow_rpm("openstack-nova-api", 900)?;
    let wavegate = Wavegate::install(&fleet)?;
    wavegate.cli(&["plan", "--parameters", SITE_FILE])?;
    let locked = ["compute-1", "compute-2", "compute-3"];
    let mut holders = Vec::new();
    for node in locked {
        holders.push((fleet.node(node), somebody_installs(fleet.node(node))?));
    }
    fleet.mend_rpm("openstack-nova-api")?;
    wavegate.cli(&["start"])?;
    let failed = std::thread::scope(|scope| {
        let rollout = scope.spawn(|| to_the_end(&wavegate));
        let releases: Vec<_> = holders
            .iter()
            .map(|(node, holder)| scope.spawn(|| release_once_named(&wavegate, node, holder)))
            .collect();
        meanwhile(&[
            (fleet.node("compute-4"), cut_power),
            (fleet.node("compute-5"), cut_power),
            (fleet.node("compute-6"), cut_power),
        ])?;
        for release in releases {
            release.join().map_err(|_| anyhow::anyhow!("the test panicked"))??;
        }
        rollout.join().map_err(|_| anyhow::anyhow!("the test panicked"))?
    })?;
    ensure!(failed.iter().all(|node| !locked.contains(&node.as_str())), "a lock failed a step: {failed:?}");
    println!("failed and tried again: {failed:?}");
    all_are_upgraded(&fleet, &wavegate)?;
    packages_changed_once(fleet.node("compute-4"))?;
    fleet.tear_down()
}

/// Fills what is left of a node's disk while its transaction is under way.
fn fill_disk(node: &Node) -> Result<()> {
    in_the_transaction(node)?;
    node.shell("dd if=/dev/zero of=/var/filler bs=1M 2>/dev/null; sync; df /; true").map(|_| ())
}

#[test]
fn a_full_disk_fails_the_step_in_its_own_words_and_retry_finishes() -> Result<()> {
    let computes = [(System::Debian, Some(96)), (System::Rocky9, Some(128))];
    let Some(fleet) = boot("full", &computes)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    start(&wavegate)?;
    for name in ["compute-1", "compute-2"] {
        let node = fleet.node(name);
        fill_disk(node)?;
        let status = wait_until("the step to fail", UPGRADE, || {
            let status = wavegate.status()?;
            if status["status"] == "paused" {
                return Ok(Some(wavegate.cli(&["status"])?));
            }
            bail!("{}", wavegate.cli(&["status"])?)
        })?;
        // However its lines are broken.
        let words = status.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in [name, "stage compute", STEP, "No space left on device", "wavegate logs"] {
            ensure!(words.contains(word), "the status does not say {word:?}:\n{status}");
        }
        node.run(&["rm", "/var/filler"])?;
        wavegate.cli(&["retry", "--all-failed"])?;
        wavegate.cli(&["resume"])?;
    }
    wavegate.wait_status("finished", UPGRADE)?;
    all_are_upgraded(&fleet, &wavegate)?;
    packages_changed_once(fleet.node("compute-1"))?;
    fleet.tear_down()
}
