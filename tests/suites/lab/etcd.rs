//! etcd on real hosts, rolled a minor version at a time under clients that write: nothing acknowledged is lost, one member is down at a
//! time, and whatever is wrong with a member stops the roll with the quorum kept.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wavegate_tests::deploy::{SITE_FILE, SOON, Wavegate};
use wavegate_tests::evidence::{kill_hard, tasks};
use wavegate_tests::lab::{Family, Fleet, FleetSpec, Front, Lab, Node, Role, wait_until};
use wavegate_tests::members::{self, Annals};
use wavegate_tests::writer::{Api, Writer, read_and_watch};

const MEMBERS: [&str; 3] = ["etcd-1", "etcd-2", "etcd-3"];
/// Where a proxy or gateway listens.
const LOCAL: &str = "http://127.0.0.1:2379";
/// Where the shipped procedure has copies kept.
const COPIES: &str = "/var/lib/wavegate/etcd-backups";
/// Only stage etcd, and no longer waits than the lab needs.
const ETCD_ALONE: [&str; 14] = [
    "--parameters",
    SITE_FILE,
    "--set",
    "etcd_settle_s=3",
    "--set",
    "etcd_healthy_within_s=25",
    "--set",
    "etcd_check_within_s=25",
    "--set",
    "upgrade_compute=false",
    "--set",
    "upgrade_control=false",
    "--set",
    "upgrade_python_etcd=false",
];
/// A generous bound for one member to come to something.
const SLOWLY: Duration = Duration::from_secs(120);
/// More than that without an acknowledged write is no roll but an outage.
const LONGEST_STALL: Duration = Duration::from_secs(10);

fn boot(spec: FleetSpec) -> Result<Option<Fleet>> {
    let Some(lab) = Lab::for_suite()? else { return Ok(None) };
    Fleet::boot(&lab, spec).map(Some)
}

fn three_members(name: &str) -> FleetSpec {
    MEMBERS.iter().fold(FleetSpec::new(name), |spec, _| spec.with(Role::Etcd, Family::Apt))
}

fn urls(fleet: &Fleet) -> Vec<String> {
    MEMBERS.iter().map(|member| url(fleet.node(member))).collect()
}

fn url(node: &Node) -> String {
    format!("http://{}:2379", node.address())
}

/// A Debian version without what Debian added.
fn upstream(version: &str) -> &str {
    version.split(['-', '+']).next().unwrap_or_default()
}

/// etcdctl of a node with the version 3 API.
fn etcdctl(node: &Node, arguments: &[&str]) -> Result<String> {
    node.run(&[&["env", "ETCDCTL_API=3", "etcdctl"], arguments].concat())
}

#[test]
fn a_cluster_goes_up_two_minor_versions_and_no_acknowledged_write_is_lost() -> Result<()> {
    let spec = three_members("minors")
        .with_fronted_compute(Front::Proxy)
        .with_fronted_compute(Front::Gateway)
        .with(Role::Control, Family::Apt);
    let Some(fleet) = boot(spec)? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    let (proxied, gated) = (fleet.node("compute-1"), fleet.node("compute-2"));
    let writers = [
        Writer::start(&fleet.network()?, Api::V3, &urls(&fleet), "/members"),
        Writer::start(&proxied.network()?, Api::V2, &[LOCAL.to_owned()], "/proxy"),
        Writer::start(&gated.network()?, Api::V3, &[LOCAL.to_owned()], "/gateway"),
    ];
    let edited = edited_files(&fleet)?;

    let next = fleet.manifest.etcd_next.clone().context("the lab's suite has no third etcd")?;
    for (version, offered) in [(fleet.manifest.etcd.new.as_str(), false), (next.as_str(), true)] {
        if offered {
            fleet.publish_next_etcd()?;
        }
        rolled_to(&fleet, &wavegate, version).with_context(|| format!("the roll to {version}"))?;
        read_and_watch(&proxied.network()?, Api::V2, LOCAL)?;
        read_and_watch(&gated.network()?, Api::V3, LOCAL)?;
        each_member_has_copies(&fleet, if offered { 2 } else { 1 })?;
    }
    a_copy_can_be_restored(fleet.node("etcd-1"))?;

    let mut stalls = Vec::new();
    for writer in writers {
        let written = writer.finish()?;
        println!("{}", written.summary()?);
        written.must_all_be_there()?;
        stalls.push(written.longest_stall()?);
    }
    // Who has one proxy or gateway alone waits while that is down.
    ensure!(stalls[0].length < LONGEST_STALL, "writes through the members stood still: {:?}", stalls[0]);
    ensure!(
        edited_files(&fleet)? == edited,
        "an edited file was changed: {edited:?} -> {:?}",
        edited_files(&fleet)?
    );
    fleet.tear_down()
}

/// Every member has so many copies that etcd's own program takes for good ones, and root alone can read them.
fn each_member_has_copies(fleet: &Fleet, number: usize) -> Result<()> {
    for member in MEMBERS {
        let node = fleet.node(member);
        let copies = node.shell(&format!("ls -d {COPIES}/*/"))?;
        ensure!(copies.lines().count() == number, "{member}: {copies}");
        let open = node.run(&["find", COPIES, "-perm", "/077"])?;
        ensure!(open.is_empty(), "{member}: others can read {open}");
        for copy in copies.lines() {
            let status = etcdctl(node, &["snapshot", "status", &format!("{copy}snapshot.db"), "-w", "json"])?;
            let status: Value = serde_json::from_str(&status)?;
            ensure!(status["totalKey"].as_u64() > Some(10), "{member}: {copy}: {status}");
            let manifest: Value = serde_json::from_str(&node.read_file(&format!("{copy}manifest.json"))?)?;
            ensure!(manifest["name"] == member && manifest["v2_keys"].as_u64() > Some(10), "{manifest}");
        }
    }
    Ok(())
}

/// From the newest copy of a member a server of its own is started beside it, by each API: the keys are there.
fn a_copy_can_be_restored(node: &Node) -> Result<()> {
    let copy = node.shell(&format!("ls -d {COPIES}/*/ | tail -1"))?.trim().to_owned();
    let peer = "http://127.0.0.1:3380";
    let client = "http://127.0.0.1:3379";
    let member = format!("scratch={peer}");
    let restore =
        ["snapshot", "restore", &format!("{copy}snapshot.db"), "--data-dir", "/root/v3", "--name", "scratch"];
    let cluster = ["--initial-cluster", &member, "--initial-advertise-peer-urls", peer];
    etcdctl(node, &[&restore[..], &cluster].concat())?;
    node.run(&["cp", "-a", &format!("{copy}v2-data"), "/root/v2"])?;
    let serve = ["systemd-run", "-q", "--unit=scratch", "etcd", "--name=scratch", "--enable-v2"];
    let urls = [
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster={member}"),
    ];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let key = "00000003";
    for (api, more) in
        [("v3", ["--data-dir=/root/v3"].as_slice()), ("v2", &["--data-dir=/root/v2", "--force-new-cluster"])]
    {
        node.run(&[&serve, urls.as_slice(), more].concat())?;
        let found = wait_until(&format!("the restored {api} to answer"), SOON, || {
            let found = match api {
                "v3" => etcdctl(
                    node,
                    &["--endpoints", client, "get", "--print-value-only", &format!("/members/{key}")],
                ),
                _ => node.run(&["curl", "-sf", &format!("{client}/v2/keys/proxy/{key}")]),
            };
            found.map(Some)
        });
        let found = found.with_context(|| node.journal(Some("scratch"), 30).unwrap_or_default())?;
        ensure!(found.contains('3'), "{api}: '{found}'");
        node.run(&["systemctl", "stop", "scratch"])?;
    }
    Ok(())
}

/// The files that make a node's etcd what it is, as its operator wrote them.
fn edited_files(fleet: &Fleet) -> Result<BTreeMap<&'static str, String>> {
    let mut files = BTreeMap::new();
    for node in MEMBERS.into_iter().chain(["compute-1"]) {
        files.insert(node, fleet.node(node).read_file("/etc/default/etcd")?);
    }
    files.insert("compute-2", fleet.node("compute-2").read_file("/etc/systemd/system/etcd.service")?);
    Ok(files)
}

/// One rollout of stage etcd, and what the members' own journals, the event log and etcd say of it.
fn rolled_to(fleet: &Fleet, wavegate: &Wavegate<'_>, version: &str) -> Result<()> {
    let before = processes(fleet)?;
    let since = members::now();
    wavegate.cli(&[&["upgrade", "--yes"], &ETCD_ALONE[..]].concat())?;
    let annals = Annals::read(fleet.nodes().iter(), since)?;
    for (member, down) in annals.one_by_one_and_the_leader_last(&MEMBERS)? {
        println!("{version}: {member} was down for {} ms", down / 1000);
    }
    annals.nobody_began_anew()?;
    fronts_came_after_members(&wavegate.events()?)?;
    for (node, pid) in processes(fleet)? {
        ensure!(before[node] != pid, "{node}: etcd is still process {pid:?}");
        let packages = fleet.node(node).packages()?;
        ensure!(packages.get("etcd-server").is_some_and(|is| is == version), "{node}: {packages:?}");
    }
    let minor: Vec<&str> = upstream(version).split('.').take(2).collect();
    let cluster = format!("\"etcdcluster\":\"{}.0\"", minor.join("."));
    for member in MEMBERS {
        let answer = fleet.node(member).run(&["curl", "-sf", "http://localhost:2379/version"])?;
        let server = format!("\"etcdserver\":\"{}\"", upstream(version));
        ensure!(answer.contains(&server) && answer.contains(&cluster), "{member}: {answer}");
    }
    Ok(())
}

/// The main process of etcd on every node that has one.
fn processes(fleet: &Fleet) -> Result<BTreeMap<&'static str, Option<i32>>> {
    let nodes = MEMBERS.into_iter().chain(["compute-1", "compute-2"]);
    nodes.map(|node| Ok((node, fleet.node(node).unit("etcd")?.main_pid))).collect()
}

/// By the coordinator: every member's task had ended before the first of another node of stage etcd was given out.
fn fronts_came_after_members(events: &[Value]) -> Result<()> {
    let of = |name: &'static str, member: bool| {
        events.iter().filter(move |event| {
            let is_member = MEMBERS.iter().any(|node| event["node"] == *node);
            event["event"] == name && event["stage"] == "etcd" && is_member == member
        })
    };
    let last = of("task_ended", true).filter_map(|event| event["seq"].as_u64()).max();
    let first = of("task_started", false).filter_map(|event| event["seq"].as_u64()).min();
    ensure!(last.is_some() && last < first, "members ended at {last:?}, the others began at {first:?}");
    Ok(())
}

#[test]
fn a_cluster_that_is_not_well_or_may_not_go_there_has_no_plan() -> Result<()> {
    let Some(fleet) = boot(three_members("refused"))? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    let two = fleet.node("etcd-2");
    two.stop_service("etcd")?;
    plan_is_refused(&wavegate, &["etcd member etcd-2 does not answer"])?;
    two.start_service("etcd")?;
    plan_is_made(&wavegate)?;

    fleet.publish_next_etcd()?;
    let skipped = "etcd-1, etcd-2 and etcd-3 run 3.3.25, and 3.5.16 is further than the next minor version";
    plan_is_refused(&wavegate, &[skipped, "upgrade etcd to 3.4 first"])?;
    let version = &fleet.manifest.etcd.new;
    let pinned = format!("etcd_packages=etcd-server={version},etcd-client={version}");
    let plan = [&["plan"], &ETCD_ALONE[..], &["--set", &pinned]].concat();
    wavegate.cli(&plan)?;

    fill_up(&fleet)?;
    let output = wavegate.cli_output(&plan)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(5), "a plan with an alarm: {:?}\n{text}", output.status);
    ensure!(text.contains("NOSPACE") && text.contains("etcd-3"), "the plan does not name the alarm:\n{text}");
    fleet.tear_down()
}

/// A text without its line breaks.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes a plan that has problems, which say these words.
fn plan_is_refused(wavegate: &Wavegate<'_>, words: &[&str]) -> Result<()> {
    let output = wavegate.cli_output(&[&["plan"], &ETCD_ALONE[..]].concat())?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(5), "a plan was made: {:?}\n{text}", output.status);
    for words in words {
        ensure!(unwrapped(&text).contains(words), "the plan does not say '{words}':\n{text}");
    }
    Ok(())
}

fn plan_is_made(wavegate: &Wavegate<'_>) -> Result<()> {
    wait_until("a plan without problems", SOON, || {
        wavegate.cli(&[&["plan"], &ETCD_ALONE[..]].concat()).map(Some)
    })?;
    Ok(())
}

/// Gives etcd-3 little room and writes until it has none: it raises the alarm of itself.
fn fill_up(fleet: &Fleet) -> Result<()> {
    let node = fleet.node("etcd-3");
    let settings = node.read_file("/etc/default/etcd")? + "ETCD_QUOTA_BACKEND_BYTES=\"1048576\"\n";
    node.write_file("/etc/default/etcd", settings.as_bytes(), 0o644)?;
    node.run(&["systemctl", "restart", "etcd"])?;
    let much = "for i in $(seq 40); do head -c 60000 /dev/zero | tr '\\0' x | ETCDCTL_API=3 etcdctl put /much/$i || exit 0; done";
    node.shell(much)?;
    wait_until("the alarm", SOON, || Ok(etcdctl(node, &["alarm", "list"])?.contains("NOSPACE").then_some(())))
}

#[test]
fn whatever_happens_to_a_member_the_others_keep_the_quorum() -> Result<()> {
    let Some(fleet) = boot(three_members("quorum"))? else { return Ok(()) };
    let wavegate = Wavegate::install(&fleet)?;
    lead(&fleet, "etcd-3")?;
    let writer = Writer::start(&fleet.network()?, Api::V3, &urls(&fleet), "/faults");
    for member in &MEMBERS[..2] {
        hold(fleet.node(member))?;
    }
    wavegate.cli(&[&["plan"], &ETCD_ALONE[..]].concat())?;
    wavegate.cli(&["start"])?;

    let one = fleet.node("etcd-1");
    stopped_and_held(one)?;
    kill_hard(one, "wavegate-agent")?;
    release(one)?;
    wait_until("etcd-1 to be finished", SLOWLY, || finished(&wavegate, "etcd-1"))?;

    its_data_vanish(&fleet, &wavegate, &writer)?;
    it_never_catches_up(&fleet, &wavegate, &writer)?;

    wavegate.wait_status("finished", SLOWLY)?;
    let written = writer.finish()?;
    println!("{}", written.summary()?);
    written.must_all_be_there()?;
    ensure!(written.longest_stall()?.length < LONGEST_STALL, "{:?}", written.longest_stall()?);
    for node in wavegate.managed() {
        let version = node.run(&["curl", "-sf", "http://localhost:2379/version"])?;
        ensure!(version.contains("\"etcdcluster\":\"3.4.0\""), "{}: {version}", node.name());
    }
    fleet.tear_down()
}

/// Moves leadership to a member.
fn lead(fleet: &Fleet, member: &str) -> Result<()> {
    let ids = etcdctl(fleet.node(member), &["member", "list"])?;
    let line = ids.lines().find(|line| line.contains(&format!(" {member},")));
    let id = line.and_then(|line| line.split(',').next()).with_context(|| format!("no {member} in {ids}"))?;
    // Only the leader can be asked to, and moving it to itself is nothing to do.
    let moved = |from: &&str| etcdctl(fleet.node(from), &["move-leader", id]).is_ok();
    wait_until(&format!("{member} to lead"), SOON, || {
        let led = MEMBERS.iter().filter(|from| **from != member).any(moved);
        let status = etcdctl(fleet.node(member), &["endpoint", "status", "-w", "json"])?;
        let status: Value = serde_json::from_str(&status)?;
        let leads = status[0]["Status"]["leader"] == status[0]["Status"]["header"]["member_id"];
        if leads { Ok(Some(())) } else { bail!("moved: {led}; {status}") }
    })
}

/// Has the package manager of a node hold between what it did and its end, for as long as a file is there.
fn hold(node: &Node) -> Result<()> {
    let hook = "DPkg::Post-Invoke { \"while [ -e /run/lab-hold ]; do sleep 0.1; done\"; };\n";
    node.write_file("/etc/apt/apt.conf.d/99lab-hold", hook.as_bytes(), 0o644)?;
    node.write_file("/run/lab-hold", b"", 0o644)
}

fn release(node: &Node) -> Result<()> {
    node.run(&["rm", "/run/lab-hold"]).map(|_| ())
}

/// Waits until a member is down and its packages are installed, with the transaction held.
fn stopped_and_held(node: &Node) -> Result<()> {
    wait_until(&format!("{} to be held in its transaction", node.name()), SLOWLY, || {
        let held = node.output(&["pgrep", "-f", "[/]run/lab-hold"])?.status.success();
        let etcd = node.unit("etcd")?;
        if held && etcd.active == "inactive" { Ok(Some(())) } else { bail!("held {held}, {etcd:?}") }
    })
}

fn finished(wavegate: &Wavegate<'_>, node: &str) -> Result<Option<()>> {
    let status = wavegate.status()?;
    if tasks(&status).iter().any(|task| task["node"] == node && task["state"] == "finished") {
        return Ok(Some(()));
    }
    if status["status"] == "paused" {
        bail!("paused:\n{}", wavegate.cli(&["why"])?);
    }
    Ok(None)
}

/// etcd-2's data are moved away while it is down: it is not started, the roll halts, and goes on when they are back.
fn its_data_vanish(fleet: &Fleet, wavegate: &Wavegate<'_>, writer: &Writer) -> Result<()> {
    let two = fleet.node("etcd-2");
    stopped_and_held(two)?;
    two.run(&["mv", "/var/lib/etcd/default/member", "/var/lib/etcd/away"])?;
    release(two)?;
    let why = halted(wavegate, "etcd-2")?;
    ensure!(
        why.contains("the data directory of etcd-2 is not the one it had, and so it is not started"),
        "it does not say what is wrong:\n{why}"
    );
    ensure!(two.unit("etcd")?.active == "inactive", "it was started without its data");
    ensure!(
        two.output(&["ls", "/var/lib/etcd/default/member"])?.status.code() == Some(2),
        "it has other data"
    );
    writes_go_on(writer)?;
    two.run(&["mv", "/var/lib/etcd/away", "/var/lib/etcd/default/member"])?;
    go_on(wavegate)?;
    wait_until("etcd-2 to be finished", SLOWLY, || finished(wavegate, "etcd-2"))
}

/// etcd-3 is back and cannot reach the others: the roll halts, and goes on when it can.
fn it_never_catches_up(fleet: &Fleet, wavegate: &Wavegate<'_>, writer: &Writer) -> Result<()> {
    let three = fleet.node("etcd-3");
    let old = three.unit("etcd")?.main_pid;
    wait_until("etcd-3 to be started again", SLOWLY, || {
        let now = three.unit("etcd")?;
        Ok((now.active == "active" && now.main_pid != old).then_some(()))
    })?;
    let routes = |verb: &str| -> Result<()> {
        for other in &MEMBERS[..2] {
            three.run(&[
                "ip",
                "route",
                verb,
                "unreachable",
                &format!("{}/32", fleet.node(other).address()),
            ])?;
        }
        Ok(())
    };
    routes("add")?;
    let why = halted(wavegate, "etcd-3")?;
    ensure!(why.contains("step check-member"), "it does not say what is wrong:\n{why}");
    writes_go_on(writer)?;
    routes("del")?;
    go_on(wavegate)
}

/// Waits until the roll has halted on a node, and returns why.
fn halted(wavegate: &Wavegate<'_>, node: &str) -> Result<String> {
    let status = wavegate.wait_status("paused", SLOWLY)?;
    let failed = tasks(&status).iter().any(|task| task["node"] == node && task["state"] == "failed");
    let why = unwrapped(&wavegate.cli(&["why"])?);
    ensure!(failed && why.contains(node), "{node} has not failed: {status}\n{why}");
    Ok(why)
}

fn go_on(wavegate: &Wavegate<'_>) -> Result<()> {
    wavegate.cli(&["retry", "--all-failed"])?;
    wavegate.cli(&["resume"]).map(|_| ())
}

fn writes_go_on(writer: &Writer) -> Result<()> {
    let before = writer.count();
    wait_until("writes to be acknowledged without the member", SOON, || {
        Ok((writer.count() > before + 10).then_some(()))
    })
}
