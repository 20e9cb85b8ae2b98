//! What is around a transaction and must be as before: services that must not start, timers, bystanders, what a step that
//! was given up left.

use super::{also, but, debian_step, install, packages, redhat_step};
use crate::action::bench::{Bench, shown};
use crate::host::fake::{FakeMachine, FakePackage, FakeService, Fault, When};
use std::path::Path;
use wavegate_common::action::Action;
use wavegate_common::platform::OsFamily;

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What is in the command line of a transaction: apt's, yum's.
const TRANSACTION: [&str; 2] = ["--no-remove install", "yum -y"];

fn run(machine: &mut FakeMachine, unit: &str, program: &str) {
    let argv = vec![program.to_owned()];
    let main_pid = Some(machine.spawn(&argv));
    let service = FakeService { active: true, enabled: true, argv, main_pid, ..FakeService::default() };
    machine.services.insert(unit.to_owned(), service);
}

/// A compute node with timers, a libvirt, and somebody's own policy on Debian.
fn machine(mut machine: FakeMachine, timer: &str) -> FakeMachine {
    machine.put_program("/usr/sbin/libvirtd", "1.0\n");
    machine.put_program("/usr/bin/timer", "1.0\n");
    run(&mut machine, timer, "/usr/bin/timer");
    run(&mut machine, "libvirtd", "/usr/sbin/libvirtd");
    machine
}

fn debian() -> FakeMachine {
    let mut machine = machine(FakeMachine::debian_compute(), "apt-daily.timer");
    machine.put_program(POLICY, "#!/bin/sh\n# somebody's\nexit 0\n");
    machine
}

fn redhat() -> FakeMachine {
    machine(FakeMachine::redhat_compute(), "dnf-makecache.timer")
}

/// All packages, with a new agent that must stay down.
fn with_agent(step: Action) -> Action {
    but(also(step, &["calico-*", "networking-*", "python-*", "dnsmasq*"]), |step| {
        step.packages.extend(super::specs(&["calico-dhcp-agent"]));
        step.keep_down = vec!["calico-dhcp-agent".to_owned(), "neutron-dhcp-agent".to_owned()];
    })
}

fn both() -> [(FakeMachine, Action); 2] {
    [(debian(), with_agent(debian_step())), (redhat(), with_agent(redhat_step()))]
}

/// That nothing is left around the transaction.
fn everything_is_as_before(bench: &Bench, when: &str) {
    let machine = bench.machine();
    let agent = machine.services.get("calico-dhcp-agent");
    assert!(agent.is_none_or(|service| !service.active), "{when}: it was kept down");
    assert!(machine.services["neutron-dhcp-agent"].active, "{when}: it ran before");
    assert!(machine.services["libvirtd"].active, "{when}");
    assert!(machine.services.values().all(|service| !service.masked_for_now), "{when}");
    for (unit, service) in machine.services.iter().filter(|(unit, _)| unit.ends_with(".timer")) {
        assert!(service.active, "{when}: {unit}");
    }
    let policy =
        machine.files.get(Path::new(POLICY)).map(|file| String::from_utf8_lossy(&file.content).into_owned());
    let wanted = (machine.platform.family == OsFamily::Debian).then_some("#!/bin/sh\n# somebody's\nexit 0\n");
    assert_eq!(policy.as_deref(), wanted, "{when}");
    assert!(!machine.files.keys().any(|path| path.ends_with("policy-rc.d.wavegate-before")), "{when}");
    assert!(machine.notes.is_empty() && machine.transactions.is_empty(), "{when}");
}

fn around(bench: &Bench) -> String {
    let history = bench.history();
    let lines = history.lines().filter(|line| !line.contains("simulate") && !line.contains(" -s "));
    let short = |line: &str| match line.split_once(" -y ") {
        Some((program, _)) => format!("{program} -y ..."),
        None => line.to_owned(),
    };
    lines.map(short).collect::<Vec<_>>().join("\n")
}

#[test]
fn services_are_kept_down_and_timers_stopped_for_the_time_of_the_transaction() {
    let [(debian, step), (redhat, redhat_step)] = both();
    let bench = Bench::new(debian);
    let done = bench.done(&step);
    assert!(!done.contains("dhcp-agent: "), "{done}");
    insta::assert_snapshot!(around(&bench), @r"
    apt-get -q -o Acquire::Retries=3 update
    systemctl stop -- apt-daily.timer
    rename /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.wavegate-before
    replace /usr/sbin/policy-rc.d
    apt-get -q -y ...
    rename /usr/sbin/policy-rc.d.wavegate-before /usr/sbin/policy-rc.d
    systemctl start -- apt-daily.timer
    ");
    everything_is_as_before(&bench, "debian");

    let bench = Bench::new(redhat);
    bench.done(&redhat_step);
    insta::assert_snapshot!(around(&bench), @r"
    yum -q --setopt=exit_on_lock=True clean expire-cache
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-dhcp-agent
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-common-1.4.6-1.el7 calico-compute-1:1.3.0-1.el7 calico-felix-1.4.6-1.el7 dnsmasq-2.75-2.el7 openstack-neutron-1:8.4.0-1.el7 calico-dhcp-agent-1:1.3.0-1.el7
    systemctl stop -- dnf-makecache.timer
    systemctl mask --runtime -- calico-dhcp-agent.service
    yum -y ...
    systemctl unmask --runtime -- calico-dhcp-agent.service
    systemctl start -- dnf-makecache.timer
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update calico-common calico-compute calico-felix dnsmasq openstack-neutron calico-dhcp-agent
    ");
    everything_is_as_before(&bench, "red hat");
}

#[test]
fn after_a_crash_anywhere_everything_around_is_as_before() {
    let points = [
        "note package.install",
        "rename /usr/sbin/policy-rc.d /usr",
        "replace /usr/sbin/policy-rc.d",
        "systemctl stop -- apt-daily.timer",
        "systemctl mask",
        "--no-remove install",
        "yum -y",
        "rename /usr/sbin/policy-rc.d.wavegate-before",
        "systemctl unmask",
        "systemctl start -- dnf-makecache.timer",
    ];
    let mut cuts = 0;
    for (machine, step) in both() {
        let undisturbed = Bench::new(machine.clone());
        let whole = undisturbed.apply(&step).expect("it applies");
        for point in points {
            for (when, fault) in [
                (When::Before, Fault::AgentKilled),
                (When::After, Fault::AgentKilled),
                (When::Before, Fault::PowerCut),
                (When::Midway, Fault::PowerCut),
                (When::After, Fault::PowerCut),
            ] {
                let named = format!("{when:?} {point}: {fault:?}");
                if !undisturbed.machine().history.iter().any(|line| line.contains(point))
                    && !point.starts_with("note")
                {
                    continue;
                }
                let cut = fault == Fault::PowerCut;
                if when == When::Midway && !TRANSACTION.contains(&point) {
                    continue;
                }
                cuts += 1;
                let bench = Bench::new(machine.clone());
                bench.machine().faults.add(point, when, fault);
                bench.apply_killed(&step);
                if cut {
                    bench.machine().reboot();
                }
                let applied = bench.apply(&step).expect(&named);
                assert_eq!(packages(&bench), packages(&undisturbed), "{named}");
                assert_eq!(applied.evidence, whole.evidence, "{named}");
                everything_is_as_before(&bench, &named);
            }
        }
    }
    assert!(cuts > 40, "{cuts}");
}

#[test]
fn what_a_step_that_was_given_up_left_is_set_right_by_the_next_one_even_if_it_is_refused() {
    for ((machine, step), transaction) in both().into_iter().zip(TRANSACTION) {
        let bench = Bench::new(machine);
        bench.machine().faults.add(transaction, When::Before, Fault::AgentKilled);
        bench.apply_killed(&step);
        let note = bench.machine().notes["package.install"].replace("r1/compute/1/step", "r0/compute/1/step");
        bench.machine().notes.insert("package.install".to_owned(), note);
        bench.machine().transactions.insert("r0/compute/1/step.0".to_owned(), Default::default());
        let error = bench.apply(&install(&["no-such"], &[])).expect_err("there is none");
        assert!(error.what.contains("no-such"), "{error}");
        everything_is_as_before(&bench, "given up");
    }
}

#[test]
fn what_somebody_else_masked_or_forbade_meanwhile_stays() {
    let [(debian, step), (redhat, redhat_step)] = both();
    let bench = Bench::new(debian);
    bench.machine().faults.add(TRANSACTION[0], When::Midway, Fault::AgentKilled);
    bench.apply_killed(&step);
    bench.machine().put_program(POLICY, "#!/bin/sh\n# another's\nexit 0\n");
    bench.apply(&step).expect("it applies");
    let text =
        |path: &str| String::from_utf8_lossy(&bench.machine().files[Path::new(path)].content).into_owned();
    assert_eq!(text(POLICY), "#!/bin/sh\n# another's\nexit 0\n", "the last that was not ours");

    let bench = Bench::new(redhat);
    bench.machine().faults.add(TRANSACTION[1], When::Midway, Fault::AgentKilled);
    bench.apply_killed(&redhat_step);
    bench.machine().services.get_mut("calico-dhcp-agent").expect("it is there").masked = true;
    bench.apply(&redhat_step).expect("it applies");
    assert!(bench.machine().services["calico-dhcp-agent"].masked, "the mask is somebody else's");
    assert!(!bench.machine().services["calico-dhcp-agent"].masked_for_now, "ours is gone");
}

#[test]
fn a_service_that_something_starts_all_the_same_is_stopped() {
    let bench = Bench::new(redhat());
    let step = with_agent(redhat_step());
    bench.machine().faults.add(TRANSACTION[1], When::Midway, Fault::AgentKilled);
    bench.apply_killed(&step);
    {
        let mut machine = bench.machine();
        let service = machine.services.get_mut("calico-dhcp-agent").expect("it is there");
        (service.masked_for_now, service.active) = (false, true);
    }
    let done = bench.done(&step);
    assert!(done.contains("calico-dhcp-agent: was started by the transaction, and stopped again"), "{done}");
}

fn leaving_down(unit: &str) -> FakeMachine {
    let mut machine = debian();
    machine.available.get_mut("calico-felix").expect("offered").leaves_down = vec![unit.to_owned()];
    machine
}

#[test]
fn what_ran_before_runs_afterwards() {
    let bench = Bench::new(leaving_down("libvirtd"));
    let done = bench.done(&debian_step());
    assert!(
        done.contains("\nlibvirtd: was inactive (dead) after the transaction, and started again\n"),
        "{done}"
    );
    assert!(
        bench
            .history()
            .contains("systemctl reset-failed -- libvirtd.service\nsystemctl start -- libvirtd.service")
    );

    let bench = Bench::new(leaving_down("libvirtd"));
    bench.machine().faults.add("systemctl start -- libvirtd", When::Before, Fault::AgentKilled);
    bench.apply_killed(&debian_step());
    bench.done(&debian_step());
    assert!(bench.machine().services["libvirtd"].active, "it is known after a crash");
}

#[test]
fn what_ran_before_and_does_not_come_up_fails_the_step_with_its_log() {
    let bench = Bench::new(leaving_down("libvirtd"));
    bench.machine().services.get_mut("libvirtd").expect("it is there").broken = true;
    insta::assert_snapshot!(shown(&bench.apply(&debian_step()).expect_err("it is broken")), @r"
    libvirtd ran before the transaction, and does not come up after it: 'systemctl start -- libvirtd.service' failed with exit code 1
    | Job for libvirtd.service failed because the control process exited with error code.
    | libvirtd: exited, status=1/FAILURE
    next: read 'systemctl status libvirtd' and 'journalctl -u libvirtd' on the node, mend the service, then retry
    ");

    // An attempt that finds every package there does not pass over it.
    let another_attempt = |bench: &Bench| {
        let note = bench.machine().notes["package.install"].replace("r1/compute/1/step", "r0/compute/1/step");
        bench.machine().notes.insert("package.install".to_owned(), note);
    };
    another_attempt(&bench);
    let again = bench.apply(&debian_step()).expect_err("it is still broken");
    assert!(again.what.starts_with("libvirtd ran before the transaction"), "{again}");
    another_attempt(&bench);
    bench.machine().services.get_mut("libvirtd").expect("it is there").broken = false;
    bench.apply(&debian_step()).expect("it is mended");
    assert!(bench.machine().services["libvirtd"].active);
    assert!(bench.machine().notes.is_empty(), "nothing is left");
}

#[test]
fn what_the_transaction_removes_is_not_started() {
    let mut machine = debian();
    machine.put_program("/usr/bin/old", "1\n");
    run(&mut machine, "old", "/usr/bin/old");
    machine
        .install("old", &FakePackage { version: "1".to_owned(), ..FakePackage::default() })
        .expect("it installs");
    machine.available.get_mut("calico-felix").expect("offered").leaves_down = vec!["old".to_owned()];
    let bench = Bench::new(machine);
    bench.machine().faults.add(TRANSACTION[0], When::Midway, Fault::AgentKilled);
    bench.apply_killed(&debian_step());
    bench.machine().services.remove("old");
    bench.apply(&debian_step()).expect("it applies");
    assert!(!bench.history().contains("systemctl start -- old"));
}

#[test]
fn a_failed_transaction_leaves_nothing_in_place() {
    for ((machine, step), transaction) in both().into_iter().zip(TRANSACTION) {
        let bench = Bench::new(machine);
        bench.machine().faults.fail(transaction, 1, "E: no\n");
        bench.apply(&step).expect_err("it fails");
        everything_is_as_before(&bench, "failed");
    }
}
