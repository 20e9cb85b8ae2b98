//! `package.install` on fake machines: new packages, updates, refusals, failures, locks, and crashes at every point.

mod around;
mod locks;

use crate::action::Forecast;
use crate::action::bench::{Bench, shown};
use crate::host::Host;
use crate::host::fake::{FakeMachine, FakePackage, Fault, PackageState, When};
use std::collections::BTreeMap;
use std::time::Duration;
use wavegate_common::action::{Action, PackageInstall, PackagePattern, PackageSpec, Scope};
use wavegate_common::platform::PackageManager;

fn specs(names: &[&str]) -> Vec<PackageSpec> {
    names.iter().map(|name| PackageSpec::try_from((*name).to_owned()).expect("a package")).collect()
}

fn install(names: &[&str], if_installed: &[&str]) -> Action {
    let (packages, if_installed) = (specs(names), specs(if_installed));
    Action::PackageInstall(PackageInstall { packages, if_installed, ..PackageInstall::default() })
}

/// The same step with something changed.
fn but(step: Action, change: impl FnOnce(&mut PackageInstall)) -> Action {
    let Action::PackageInstall(mut step) = step else { unreachable!("there is no other here") };
    change(&mut step);
    Action::PackageInstall(step)
}

fn also(step: Action, patterns: &[&str]) -> Action {
    let pattern = |text: &&str| PackagePattern::try_from((*text).to_owned()).expect("a pattern");
    but(step, |step| step.also = patterns.iter().map(pattern).collect())
}

fn debian_step() -> Action {
    let packages = ["calico-compute", "calico-felix", "calico-common", "python-etcd", "networking-calico"];
    install(&packages, &["calico-dhcp-agent", "dnsmasq-base"])
}

fn redhat_step() -> Action {
    let packages = ["calico-common", "calico-compute", "calico-felix", "dnsmasq", "openstack-neutron"];
    also(install(&packages, &["calico-dhcp-agent"]), &["networking-*"])
}

/// Versions of everything that is installed, and how far each is.
fn packages(bench: &Bench) -> BTreeMap<String, (String, PackageState)> {
    let machine = bench.machine();
    machine.installed.iter().map(|(name, it)| (name.clone(), (it.version.clone(), it.state))).collect()
}

fn installs(bench: &Bench) -> usize {
    let machine = bench.machine();
    let transaction =
        |line: &&String| line.contains(" -y ") && !line.contains(" -s ") && !line.contains(" -f ");
    machine.history.iter().filter(transaction).count()
}

#[test]
fn a_compute_node_of_debian_is_updated() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    let step = debian_step();
    let foreseen = bench.would(&step);
    insta::assert_snapshot!(foreseen, @r"
    calico-common 1.3.1 -> 1.4.6
    calico-compute 1:1.1.2 -> 1:1.3.0
    calico-felix 1.3.1 -> 1.4.6
    dnsmasq-base 2.75-1 -> 2.75-2
    networking-calico 1:1.1.2 -> 1:1.3.0
    python-etcd 0.4.1+calico.1-1 -> 0.4.3+calico.1-1
    ");
    bench.machine().history.clear();
    // A preview, and some time later a task.
    bench.forget();
    let done = bench.done(&step);
    assert!(done.starts_with(&foreseen), "what was foreseen came: {done}");
    insta::assert_snapshot!(done.lines().last().expect("evidence"), @"calico-compute 1:1.3.0, calico-felix 1.4.6, calico-common 1.4.6, python-etcd 0.4.3+calico.1-1, networking-calico 1:1.3.0, dnsmasq-base 2.75-2");
    let history = bench.history();
    insta::assert_snapshot!(history.lines().take(3).collect::<Vec<_>>().join("\n"), @r"
    apt-get -q -o Acquire::Retries=3 update
    apt-get -s -q -y -o APT::Get::Always-Include-Phased-Updates=true install calico-compute calico-felix calico-common python-etcd networking-calico dnsmasq-base
    apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30 -o APT::Get::Always-Include-Phased-Updates=true --no-remove install calico-compute calico-felix calico-common python-etcd networking-calico dnsmasq-base
    ");
    assert_eq!(installs(&bench), 1, "looking again installs nothing");
    assert!(bench.machine().transactions.is_empty(), "what is over is forgotten");
}

#[test]
fn a_compute_node_of_red_hat_is_updated() {
    let mut bench = Bench::new(FakeMachine::redhat_compute());
    let step = redhat_step();
    let foreseen = bench.would(&step);
    insta::assert_snapshot!(foreseen, @r"
    calico-common 1.3.1-1.el7 -> 1.4.6-1.el7
    calico-compute 1:1.1.2-1.el7 -> 1:1.3.0-1.el7
    calico-felix 1.3.1-1.el7 -> 1.4.6-1.el7
    dnsmasq 2.75-1.el7 -> 2.75-2.el7
    networking-calico 1:1.1.2-1.el7 -> 1:1.3.0-1.el7
    openstack-neutron 1:8.0.0-1.el7 -> 1:8.4.0-1.el7
    ");
    bench.machine().history.clear();
    // A preview, and some time later a task.
    bench.forget();
    assert!(bench.done(&step).starts_with(&foreseen));
    let history = bench.history();
    insta::assert_snapshot!(history.lines().take(3).collect::<Vec<_>>().join("\n"), @r"
    yum -q --setopt=exit_on_lock=True clean expire-cache
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    ");
    assert_eq!(installs(&bench), 1);
}

/// Times that the package manager read its lists again, and that it was asked what it would do.
fn asked(bench: &Bench) -> (usize, usize) {
    let machine = bench.machine();
    let with = |words: &[&str]| {
        let asks = |line: &&String| words.iter().any(|words| line.contains(words));
        machine.history.iter().filter(asks).count()
    };
    (with(&["expire-cache", "--refresh", "Acquire::Retries=3 update"]), with(&["--assumeno", " -s "]))
}

fn dnf_compute() -> FakeMachine {
    let mut machine = FakeMachine::redhat_compute();
    machine.platform.package_manager = PackageManager::Dnf;
    machine
}

#[test]
fn what_a_check_has_asked_is_not_asked_again_until_something_changes() {
    for (machine, step) in [
        (FakeMachine::debian_compute(), debian_step()),
        (FakeMachine::redhat_compute(), redhat_step()),
        (dnf_compute(), redhat_step()),
    ] {
        let bench = Bench::new(machine);
        bench.would(&step);
        assert_eq!(asked(&bench), (1, 1));
        bench.apply(&step).expect("it applies");
        assert_eq!(asked(&bench), (1, 1), "as the check saw it");
        bench.already_so(&step);
        assert_eq!(asked(&bench), (1, 2), "the database is another");
    }
}

/// yum's and dnf's own cache is nowhere that the agent looks: with new lists an old answer is worth nothing.
#[test]
fn what_is_judged_is_what_the_lists_say_that_were_read_last() {
    for machine in [FakeMachine::redhat_compute(), dnf_compute()] {
        let bench = Bench::new(machine);
        let step = redhat_step();
        bench.would(&step);
        bench.host.sleep(Duration::from_secs(55));
        bench.would(&step);
        assert_eq!(asked(&bench), (1, 2), "the lists are still new, the answer is not");
        bench.host.sleep(Duration::from_secs(6));
        let newer = "1.4.7-1.el7".to_owned();
        bench.machine().available.get_mut("calico-felix").expect("it is offered").version = newer;
        let applied = bench.apply(&step).expect("it applies");
        assert_eq!(asked(&bench), (2, 3));
        assert!(applied.evidence.contains("calico-felix 1.4.7-1.el7"), "{}", applied.evidence);
    }
}

/// dnf reads its lists with the question that is the first to need them, and an answer that is none proves no reading.
#[test]
fn dnf_reads_its_lists_with_the_first_question() {
    let bench = Bench::new(dnf_compute());
    let down = "Error: Failed to download metadata for repo 'lab'\n";
    bench.machine().faults.fail("--assumeno", 1, down);
    assert!(bench.refused(&redhat_step()).contains("Failed to download metadata"));
    // A lock, seen by the question itself: the same question comes again.
    bench.machine().faults.fail("--assumeno", 200, "metadata already locked by 4711\n");
    let step = but(redhat_step(), |step| step.packages.extend(specs(&["calico-dhcp-agent"])));
    bench.would(&step);
    bench.would(&redhat_step());
    let machine = bench.machine();
    let questions = machine.history.iter().filter(|line| line.starts_with("dnf"));
    let short =
        |line: &String| line.replace(" --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False", "");
    let short: Vec<String> = questions.map(short).collect();
    insta::assert_snapshot!(short.join("\n"), @r"
    dnf --refresh --assumeno update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    dnf --refresh --assumeno update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    dnf --refresh --assumeno update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    dnf --assumeno install calico-dhcp-agent
    dnf --assumeno install calico-common-1.4.6-1.el7 calico-compute-1:1.3.0-1.el7 calico-felix-1.4.6-1.el7 dnsmasq-2.75-2.el7 openstack-neutron-1:8.4.0-1.el7 calico-dhcp-agent-1:1.3.0-1.el7
    dnf --assumeno update calico-common calico-compute calico-felix dnsmasq openstack-neutron
    ");
}

/// A repository that somebody adds between two steps is read before the second.
#[test]
fn lists_of_another_source_are_read_at_once() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.would(&debian_step());
    bench.machine().put_file("/etc/apt/sources.list.d/site.list", "deb http://mirror.example/ stable main\n");
    bench.would(&debian_step());
    assert_eq!(asked(&bench), (2, 2));
}

#[test]
fn a_new_package_is_installed_and_pins_are_kept() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.apply(&debian_step()).expect("it applies");
    insta::assert_snapshot!(bench.done(&install(&["calico-dhcp-agent=1:1.3.0"], &[])), @r"
    calico-dhcp-agent - -> 1:1.3.0
    calico-dhcp-agent 1:1.3.0
    ");

    let redhat = Bench::new(FakeMachine::redhat_compute());
    redhat.apply(&redhat_step()).expect("it applies");
    // Without epoch and release, as people write it.
    redhat.apply(&install(&["calico-dhcp-agent=1:1.3.0-1.el7"], &[])).expect("it applies");
    let evidence = redhat.already_so(&install(&["calico-dhcp-agent", "calico-felix"], &["no-such"]));
    insta::assert_snapshot!(evidence, @"calico-dhcp-agent 1:1.3.0-1.el7, calico-felix 1.4.6-1.el7");
}

#[test]
fn a_preview_leaves_out_what_earlier_steps_bring() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    let step = install(&["calico-dhcp-agent"], &[]);
    // Alone, it would take networking-calico away from calico-compute.
    assert!(bench.refused(&step).starts_with("the transaction would remove calico-compute"));
    let brought = bench.would(&debian_step());
    let packages = brought.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    bench.forecast = Forecast { packages, ..Forecast::default() };
    assert_eq!(bench.would(&step), "calico-dhcp-agent - -> 1:1.3.0");
    bench.forecast.packages.insert("calico-dhcp-agent".to_owned());
    assert_eq!(bench.already_so(&step), "earlier steps bring every package of this one");
}

#[test]
fn what_does_not_exist_is_an_error_with_the_programs_words() {
    let debian = Bench::new(FakeMachine::debian_compute());
    insta::assert_snapshot!(debian.refused(&install(&["calico-felix", "no-such"], &[])), @r"
    apt-get can't do it: E: Unable to locate package no-such
    | E: Unable to locate package no-such
    next: check the package names and versions and the node's repositories, then plan again
    ");
    let redhat = Bench::new(FakeMachine::redhat_compute());
    insta::assert_snapshot!(redhat.refused(&install(&["calico-felix", "no-such"], &[])), @r"
    yum can't do it: No match for argument: no-such
    | No match for argument: no-such
    | Error: Unable to find a match: no-such
    next: check the package names and versions and the node's repositories, then plan again
    ");
    assert_eq!(installs(&debian) + installs(&redhat), 0);
}

#[test]
fn removals_are_refused_unless_allowed() {
    let mut machine = FakeMachine::debian_compute();
    let agent = FakePackage {
        version: "1:1.1.2".to_owned(),
        depends: vec!["networking-calico=1:1.1.2".to_owned()],
        ..FakePackage::default()
    };
    machine.install("calico-dhcp-agent", &agent).expect("it installs");
    let bench = Bench::new(machine);
    // What the page has: networking-calico alone, and the agent that is tied to it not named.
    insta::assert_snapshot!(bench.refused(&debian_step_without_agent()), @r"
    the transaction would remove calico-dhcp-agent
    next: name these packages in the same step, in versions that fit together, or set allow_removals if they may go
    ");
    assert_eq!(installs(&bench), 0);
    assert!(bench.would(&debian_step()).contains("calico-dhcp-agent 1:1.1.2 -> 1:1.3.0"));

    let allowed = but(debian_step_without_agent(), |step| step.allow_removals = true);
    insta::assert_snapshot!(bench.refused(&allowed), @r"
    the transaction would change packages that this step does not name: calico-dhcp-agent 1:1.1.2 -> removed, dnsmasq-base 2.75-1 -> 2.75-2, python-etcd 0.4.1+calico.1-1 -> 0.4.3+calico.1-1
    next: list them under 'also' of the step if they may change with it (names or patterns as 'python-*'), or under 'packages' if they are wanted; then plan again
    ");
    let done = bench.done(&also(allowed, &["calico-dhcp-agent", "dnsmasq*", "python-etcd"]));
    assert!(done.contains("calico-dhcp-agent 1:1.1.2 -> -"), "{done}");
}

fn debian_step_without_agent() -> Action {
    install(&["calico-compute", "networking-calico"], &[])
}

#[test]
fn downgrades_are_refused_unless_allowed() {
    for (mut machine, version, installed) in [
        (FakeMachine::debian_compute(), "1.2.0", "1.3.1"),
        (FakeMachine::redhat_compute(), "1.2.0-1.el7", "1.3.1-1.el7"),
    ] {
        let common = format!("calico-common={version}");
        machine.available.get_mut("calico-common").expect("offered").version = version.to_owned();
        let felix = machine.available.get_mut("calico-felix").expect("offered");
        (felix.version, felix.depends) = (version.to_owned(), vec![common.clone()]);
        let bench = Bench::new(machine);
        let step = install(&[&format!("calico-felix={version}"), &common], &[]);
        let refused = bench.refused(&step);
        assert!(
            refused.starts_with(
                "the transaction would take calico-common, calico-felix back to an older version\n"
            ),
            "{refused}"
        );
        assert!(refused.contains("or set allow_downgrades if they may go back"), "{refused}");
        let allowed = but(step, |step| step.allow_downgrades = true);
        let done = bench.done(&allowed);
        assert!(done.contains(&format!("calico-felix {installed} -> {version}")), "{done}");
        assert_eq!(installs(&bench), 1);
    }
}

#[test]
fn a_package_that_breaks_is_told_with_its_last_lines_and_mended_by_a_retry() {
    let mut machine = FakeMachine::debian_compute();
    machine.available.get_mut("calico-felix").expect("offered").breaks = true;
    let bench = Bench::new(machine);
    insta::assert_snapshot!(shown(&bench.apply(&debian_step()).expect_err("it breaks")), @r"
    'apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30 -o APT::Get::Always-Include-Phased-Updates=true --no-remove install calico-compute calico-felix calico-common python-etcd networking-calico dnsmasq-base' failed with exit code 100: dpkg: error processing package: installed calico-felix package post-installation script subprocess returned error exit status 1
    | Reading package lists...
    | Building dependency tree...
    | Inst python-etcd [0.4.1+calico.1-1] (0.4.3+calico.1-1 fake:stable [all])
    | Inst networking-calico [1:1.1.2] (1:1.3.0 fake:stable [all])
    | Inst dnsmasq-base [2.75-1] (2.75-2 fake:stable [all])
    | Inst calico-compute [1:1.1.2] (1:1.3.0 fake:stable [all])
    | Inst calico-common [1.3.1] (1.4.6 fake:stable [all])
    | Inst calico-felix [1.3.1] (1.4.6 fake:stable [all])
    | Conf python-etcd (0.4.3+calico.1-1 fake:stable [all])
    | Conf networking-calico (1:1.3.0 fake:stable [all])
    | Conf dnsmasq-base (2.75-2 fake:stable [all])
    | Conf calico-compute (1:1.3.0 fake:stable [all])
    | Conf calico-common (1.4.6 fake:stable [all])
    | Conf calico-felix (1.4.6 fake:stable [all])
    | dpkg: error processing package: installed calico-felix package post-installation script subprocess returned error exit status 1
    | E: Sub-process /usr/bin/dpkg returned an error code (1)
    next: read the output above, mend what it names on the node or in the repository, then retry
    ");
    assert!(bench.machine().transactions.is_empty());
    // Still broken: the retry says so, of the repair.
    let again = shown(&bench.apply(&debian_step()).expect_err("it breaks"));
    assert!(again.starts_with("'dpkg --force-confdef --force-confold --configure -a' failed"), "{again}");
    assert!(bench.would(&debian_step()).contains("calico-felix 1.4.6 (unfinished) -> 1.4.6"));
    bench.machine().available.get_mut("calico-felix").expect("offered").breaks = false;
    bench.apply(&debian_step()).expect("it applies");
    bench.already_so(&debian_step());
}

#[test]
fn success_without_effect_is_no_success() {
    let bench = Bench::new(FakeMachine::redhat_compute());
    // `No package available` of yum: it installs the rest and exits 0.
    bench.machine().faults.fail(
        "yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update",
        0,
        "",
    );
    let error = shown(&bench.apply(&redhat_step()).expect_err("nothing happened"));
    insta::assert_snapshot!(error, @r"
    calico-common is not as wanted, and the package manager would do nothing more: it is 1.3.1-1.el7, not 1.4.6-1.el7
    next: see what the package manager on the node says about this package (a lock on its version, a repository with another priority, a name that it does not know), then retry
    ");
}

#[test]
fn another_package_manager_is_waited_for() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let held =
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (unattended-upgr)\n";
    bench.machine().faults.fail("--no-remove install", 100, held);
    bench.machine().faults.fail(
        "apt-get -q -o Acquire",
        100,
        "E: Could not get lock /var/lib/apt/lists/lock\n",
    );
    bench.apply(&debian_step()).expect("it applies");
    assert!(bench.machine().faults.all_fired());
    bench.already_so(&debian_step());
}

#[test]
fn old_package_lists_are_not_trusted() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let warning =
        "W: Failed to fetch http://ppa.example/dists/xenial/InRelease  Could not resolve 'ppa.example'\n";
    bench.machine().faults.fail("update", 0, warning);
    insta::assert_snapshot!(bench.refused(&debian_step()), @r"
    'apt-get -q -o Acquire::Retries=3 update' left old package lists in place: W: Failed to fetch http://ppa.example/dists/xenial/InRelease  Could not resolve 'ppa.example'
    | W: Failed to fetch http://ppa.example/dists/xenial/InRelease  Could not resolve 'ppa.example'
    next: see that every repository of the node answers, or disable the one that does not, then retry
    ");
}

#[test]
fn repositories_that_cannot_be_reached_are_waited_for_when_the_step_is_run() {
    let mut debian = Bench::new(FakeMachine::debian_compute());
    let warning = "W: Failed to fetch http://ppa.example/InRelease  Could not resolve 'ppa.example'\n";
    let archive = "E: Failed to fetch http://ppa.example/felix.deb  Could not connect to ppa.example:80\n";
    debian.patience = Duration::from_secs(600);
    debian.machine().faults.fail("update", 0, warning);
    debian.machine().faults.fail("--no-remove install", 100, archive);
    debian.apply(&debian_step()).expect("it applies");
    assert!(debian.machine().faults.all_fired());

    let mut redhat = Bench::new(FakeMachine::redhat_compute());
    let down = "Errors during downloading metadata for repository 'lab':\n  - Curl error (7): Couldn't connect to server for \
                http://y/repomd.xml\nError: Failed to download metadata for repo 'lab'\n";
    redhat.machine().faults.fail("--assumeno", 1, down);
    assert!(
        redhat.refused(&redhat_step()).contains("Failed to download metadata"),
        "a preview does not wait"
    );
    redhat.patience = Duration::from_secs(20);
    redhat.machine().faults.fail("--assumeno", 1, down);
    redhat.apply(&redhat_step()).expect("it applies");
    for _ in 0..3 {
        redhat.machine().faults.fail("--assumeno", 1, down);
    }
    assert!(redhat.refused(&redhat_step()).contains("Failed to download metadata"), "not for ever");
}

/// Every way to be cut off, on both families: the end is the same as without, and no package is installed twice.
#[test]
fn after_a_crash_anywhere_the_end_is_the_same() {
    for (machine, step) in
        [(FakeMachine::debian_compute(), debian_step()), (FakeMachine::redhat_compute(), redhat_step())]
    {
        let undisturbed = Bench::new(machine.clone());
        let changes = undisturbed.apply(&step).expect("it applies").changes;
        for (when, fault) in [
            (When::Before, Fault::AgentKilled),
            (When::Midway, Fault::AgentKilled),
            (When::Midway, Fault::PowerCut),
            (When::After, Fault::AgentKilled),
        ] {
            let bench = Bench::new(machine.clone());
            bench.machine().faults.add(" -y ", when, fault.clone());
            bench.apply_killed(&step);
            let cut = fault == Fault::PowerCut;
            if cut {
                bench.machine().reboot();
                assert_ne!(packages(&bench), packages(&undisturbed), "it was cut off in the middle");
            }
            let applied = bench.apply(&step).expect("it applies");
            assert_eq!(
                applied.changes, changes,
                "{when:?} {fault:?}: what changed is told as if nothing happened"
            );
            assert_eq!(packages(&bench), packages(&undisturbed), "{when:?} {fault:?}");
            assert_eq!(installs(&bench), if cut { 2 } else { 1 }, "{when:?} {fault:?}: {}", bench.history());
            bench.already_so(&step);
            assert!(bench.machine().transactions.is_empty(), "{when:?} {fault:?}");
        }
    }
}

#[test]
fn what_an_earlier_agent_began_is_waited_for_before_any_package_manager_is_asked() {
    let bench = Bench::new(FakeMachine::redhat_compute());
    bench.machine().faults.add(" -y ", When::Midway, Fault::AgentKilled);
    bench.apply_killed(&redhat_step());
    bench.machine().history.clear();
    assert_eq!(bench.would(&redhat_step()), "");
    assert_eq!(bench.history(), "");
    assert!(!bench.apply(&redhat_step()).expect("it applies").changes.is_empty(), "what it changed is told");
    bench.already_so(&redhat_step());
}

#[test]
fn a_transaction_that_is_killed_while_the_agent_lives_is_finished() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.machine().faults.add("--no-remove install", When::Midway, Fault::Interrupted);
    bench.apply(&debian_step()).expect("it applies");
    let history = bench.history();
    assert!(history.contains("dpkg --force-confdef --force-confold --configure -a"), "{history}");
    bench.already_so(&debian_step());
}

#[test]
fn a_transaction_that_hangs_is_a_failure_with_the_time_it_had() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.machine().faults.add("--no-remove install", When::Instead, Fault::Hang);
    insta::assert_snapshot!(shown(&bench.apply(&debian_step()).expect_err("it hangs")), @r"
    apt-get did not end within 600 s and was ended
    next: see on the node why it did not end, raise the step's timeout if it was too short, then retry
    ");
}

#[test]
fn the_whole_distribution_is_a_second_transaction_on_debian() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let whole = but(install(&["calico-felix"], &[]), |step| step.scope = Scope::Distribution);
    let done = bench.done(&whole);
    assert!(done.contains("neutron-dhcp-agent 2:8.0.0-0ubuntu1 -> 2:8.4.0-0ubuntu1"), "{done}");
    assert!(bench.history().contains(" dist-upgrade"));
}

#[test]
fn a_package_manager_that_somebody_kills_is_no_exit_code() {
    let bench = Bench::new(FakeMachine::redhat_compute());
    bench.machine().faults.fail(
        "yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False update",
        137,
        "",
    );
    let error = bench.apply(&redhat_step()).expect_err("it is killed");
    assert!(error.what.ends_with("openstack-neutron' was ended by signal 9"), "{}", error.what);
}

#[test]
fn new_and_old_packages_of_red_hat_are_one_transaction() {
    let bench = Bench::new(FakeMachine::redhat_compute());
    let mixed = but(redhat_step(), |step| step.packages.extend(specs(&["calico-dhcp-agent"])));
    let done = bench.done(&mixed);
    assert!(done.contains("calico-dhcp-agent - -> 1:1.3.0-1.el7"), "{done}");
    let history = bench.history();
    let lines: Vec<&str> =
        history.lines().filter(|line| line.starts_with("yum -") && line.contains("install")).collect();
    insta::assert_snapshot!(lines[..3].join("\n"), @r"
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-dhcp-agent
    yum --assumeno --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-common-1.4.6-1.el7 calico-compute-1:1.3.0-1.el7 calico-felix-1.4.6-1.el7 dnsmasq-2.75-2.el7 openstack-neutron-1:8.4.0-1.el7 calico-dhcp-agent-1:1.3.0-1.el7
    yum -y --setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=False install calico-common-1.4.6-1.el7 calico-compute-1:1.3.0-1.el7 calico-felix-1.4.6-1.el7 dnsmasq-2.75-2.el7 openstack-neutron-1:8.4.0-1.el7 calico-dhcp-agent-1:1.3.0-1.el7
    ");
    assert_eq!(installs(&bench), 1);
}

#[test]
fn a_package_that_the_step_does_not_name_is_refused_with_what_would_allow_it() {
    let mut machine = FakeMachine::debian_compute();
    let felix = machine.available.get_mut("calico-felix").expect("offered");
    felix.depends.extend(["conntrack".to_owned(), "libnl=2".to_owned()]);
    let package = |version: &str| FakePackage { version: version.to_owned(), ..FakePackage::default() };
    machine.available.insert("conntrack".to_owned(), package("1.4"));
    machine.available.insert("libnl".to_owned(), package("2"));
    machine.install("libnl", &package("1")).expect("it installs");
    let bench = Bench::new(machine);
    insta::assert_snapshot!(bench.refused(&debian_step()), @r"
    the transaction would change packages that this step does not name: conntrack - -> 1.4, libnl 1 -> 2
    next: list them under 'also' of the step if they may change with it (names or patterns as 'python-*'), or under 'packages' if they are wanted; then plan again
    ");
    assert_eq!(installs(&bench), 0);
    bench.done(&also(debian_step(), &["conntrack", "libnl*"]));
}

#[test]
fn a_version_that_the_step_does_not_want_is_refused() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let other = "Inst networking-calico [1:1.1.2] (1:1.4.0 x:1 [all])\nInst calico-compute [1:1.1.2] (1:1.4.0 x:1 [all])\n";
    let exit = crate::host::Exit { code: 0, stdout: other.to_owned(), stderr: String::new() };
    bench.machine().faults.add("apt-get -s", When::Instead, Fault::Exit(exit));
    let refused = bench.refused(&install(&["calico-compute", "networking-calico=1:1.3.0"], &[]));
    assert!(
        refused
            .starts_with("the transaction would bring networking-calico 1:1.4.0, and the step wants 1:1.3.0")
    );
}

#[test]
fn configuration_files_that_were_kept_are_told_though_no_output_says_so() {
    for (mut machine, step, suffix) in [
        (FakeMachine::debian_compute(), debian_step(), "dpkg-dist"),
        (FakeMachine::redhat_compute(), redhat_step(), "rpmnew"),
    ] {
        let path = "/etc/logrotate.d/calico-felix";
        machine.put_file(path, "the operator's own\n");
        let felix = machine.available.get_mut("calico-felix").expect("offered");
        felix.files.push((path.into(), "the package's\n".to_owned()));
        let bench = Bench::new(machine);
        bench.machine().faults.add(" -y ", When::Midway, Fault::PowerCut);
        bench.apply_killed(&step);
        let done = bench.done(&step);
        assert!(done.contains(&format!("{path}: kept; the package's own is {path}.{suffix}")), "{done}");
    }
}

#[test]
fn what_the_nodes_policy_does_not_permit_is_refused_whatever_the_step_allows() {
    let mut bench = Bench::new(FakeMachine::redhat_compute());
    let pattern = |text: &str| PackagePattern::try_from(text.to_owned()).expect("a pattern");
    bench.policy_mut().packages = ["calico-*", "dnsmasq", "openstack-neutron"].map(pattern).to_vec();
    let before = packages(&bench);
    insta::assert_snapshot!(bench.refused(&redhat_step()), @r"
    what the transaction would change is outside this node's policy: package networking-calico is not permitted by 'packages'
    next: if it is meant, root of this node permits it in /etc/wavegate/policy.toml, which counts at once; nobody else can. Then plan again, or retry
    ");
    assert!(bench.apply(&redhat_step()).is_err());
    assert_eq!((packages(&bench), installs(&bench)), (before, 0));
    bench.policy_mut().packages.push(pattern("networking-calico"));
    bench.done(&redhat_step());
}

#[test]
fn what_an_earlier_step_of_a_preview_changes_is_not_judged_again() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    let permitted = ["calico-*", "networking-calico", "python-etcd", "dnsmasq-base"];
    let pattern = |text: &str| PackagePattern::try_from(text.to_owned()).expect("a pattern");
    bench.policy_mut().packages = permitted.map(pattern).to_vec();
    let step = also(install(&["calico-dhcp-agent", "calico-compute"], &[]), &permitted);
    bench.would(&step);
    // The whole distribution was to be upgraded before, by a step of its own.
    bench.forecast.packages = ["neutron-common", "neutron-dhcp-agent"].map(str::to_owned).into();
    assert!(bench.would(&step).contains("calico-dhcp-agent - -> "));
}
