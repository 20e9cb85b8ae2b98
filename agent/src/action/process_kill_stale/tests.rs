//! Tests of `process.kill_stale` on a fake compute node: ours and only ours, in the order that serves DHCP.

use super::*;
use crate::action::bench::Bench;
use crate::host::fake::FakeMachine;
use wavegate_common::action::{Action, ProcessCheck, ServiceCheck, ServiceDisable, ServiceRestart};

const DHCP: &str = "/var/lib/neutron/dhcp";

fn kill(owner: Option<&str>) -> Action {
    Action::ProcessKillStale(ProcessKillStale {
        program: "dnsmasq".to_owned(),
        pid_files: DHCP.to_owned(),
        packages: vec!["dnsmasq".to_owned(), "dnsmasq-base".to_owned()],
        owner: owner.map(str::to_owned),
    })
}

fn disable(unit: &str) -> Action {
    Action::ServiceDisable(ServiceDisable { unit: unit.to_owned() })
}

fn restart(unit: &str) -> Action {
    Action::ServiceRestart(ServiceRestart {
        unit: unit.to_owned(),
        newer_than_packages: Vec::new(),
        newer_than_steps: Vec::new(),
        enable: true,
    })
}

fn is_libvirts(cmdline: &[String]) -> bool {
    cmdline.iter().any(|argument| argument.contains("libvirt"))
}

/// Pids of libvirt's dnsmasq, and of ours.
fn dnsmasqs(bench: &Bench) -> (Vec<u32>, Vec<u32>) {
    let machine = bench.machine();
    let all = machine.processes.values().filter(|process| process.cmdline[0].ends_with("dnsmasq"));
    let (libvirts, ours): (Vec<_>, Vec<_>) = all.partition(|process| is_libvirts(&process.cmdline));
    let pids = |processes: Vec<&crate::host::fake::FakeProcess>| {
        processes.iter().map(|process| process.pid).collect()
    };
    (pids(libvirts), pids(ours))
}

#[test]
fn stale_ones_of_ours_are_ended_and_libvirts_is_not_touched() {
    for (machine, package, exe) in [
        (FakeMachine::debian_compute(), "dnsmasq-base", "/usr/sbin/dnsmasq (deleted)"),
        (FakeMachine::redhat_compute(), "dnsmasq", "/usr/sbin/dnsmasq;557576d7 (deleted)"),
    ] {
        let bench = Bench::new(machine);
        let action = kill(Some("neutron-dhcp-agent"));
        let evidence = bench.already_so(&action);
        assert_eq!(evidence, "all 2 dnsmasq processes of /var/lib/neutron/dhcp are current");
        bench.update(package);
        let (libvirts, ours) = dnsmasqs(&bench);
        let would = bench.would(&action);
        assert_eq!(
            would.matches(&format!("its executable was replaced: it runs {exe}")).count(),
            2,
            "{would}"
        );
        bench.done(&action);
        assert_eq!(bench.history(), format!("kill -TERM {}\nkill -TERM {}", ours[0], ours[1]));
        assert_eq!(dnsmasqs(&bench).0, libvirts);

        // Those that the agent starts anew are current.
        bench.host.sleep(Duration::from_secs(1));
        let (_, again) = dnsmasqs(&bench);
        assert_eq!(again.len(), 2);
        bench.already_so(&action);
    }
}

#[test]
fn a_switch_over_ends_all_of_the_old_agents_between_the_two_agents() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let agent = bench.machine().available["calico-dhcp-agent"].clone();
    bench.machine().services.get_mut("neutron-dhcp-agent").expect("an agent").enabled = true;
    bench.update("networking-calico");
    bench.machine().install("calico-dhcp-agent", &agent).expect("it installs");
    bench.machine().now.0 += 1;
    // On this node the package did not start its service.
    bench.host.run(&crate::os::systemd::stop("calico-dhcp-agent")).expect("it stops");
    bench.machine().history.clear();

    let (libvirts, old) = dnsmasqs(&bench);
    bench.done(&disable("neutron-dhcp-agent"));
    let would = bench.would(&kill(Some("calico-dhcp-agent")));
    assert_eq!(
        would.matches("it is not calico-dhcp-agent's, which is to start its own").count(),
        2,
        "{would}"
    );
    bench.done(&kill(Some("calico-dhcp-agent")));
    bench.done(&restart("calico-dhcp-agent"));
    bench.already_so(&kill(Some("calico-dhcp-agent")));
    bench.already_so(&Action::ProcessCheck(ProcessCheck {
        program: "dnsmasq".to_owned(),
        pid_files: DHCP.to_owned(),
        within_s: 60,
    }));
    bench.already_so(&Action::ServiceCheck(ServiceCheck {
        active: vec!["calico-dhcp-agent".to_owned()],
        inactive: vec!["neutron-dhcp-agent".to_owned()],
        ..ServiceCheck::default()
    }));
    let (libvirts_now, new) = dnsmasqs(&bench);
    assert_eq!(libvirts_now, libvirts);
    assert!(new.len() == 2 && new.iter().all(|pid| !old.contains(pid)), "{old:?} {new:?}");
    let order = bench.history().replace(&old[0].to_string(), "FIRST").replace(&old[1].to_string(), "SECOND");
    insta::assert_snapshot!(order, @r"
    systemctl stop -- neutron-dhcp-agent.service
    systemctl disable --no-reload -- neutron-dhcp-agent.service
    systemctl mask -- neutron-dhcp-agent.service
    kill -TERM FIRST
    kill -TERM SECOND
    systemctl daemon-reload
    systemctl reset-failed -- calico-dhcp-agent.service
    systemctl restart -- calico-dhcp-agent.service
    ");
}

#[test]
fn on_upstart_the_order_is_the_same() {
    let bench = Bench::new(FakeMachine::trusty_compute());
    let agent = bench.machine().available["calico-dhcp-agent"].clone();
    bench.update("networking-calico");
    // The node's policy keeps the package from starting its service.
    bench.machine().put_file("/usr/sbin/policy-rc.d", "case $1 in calico-dhcp-agent) exit 101;; esac\n");
    bench.machine().install("calico-dhcp-agent", &agent).expect("it installs");
    bench.machine().files.remove(std::path::Path::new("/usr/sbin/policy-rc.d"));
    bench.machine().now.0 += 1000;
    assert_eq!(bench.main_pid("calico-dhcp-agent"), None);
    bench.machine().history.clear();

    let (libvirts, old) = dnsmasqs(&bench);
    bench.done(&disable("neutron-dhcp-agent"));
    bench.done(&kill(Some("calico-dhcp-agent")));
    bench.done(&restart("calico-dhcp-agent"));
    bench.already_so(&kill(Some("calico-dhcp-agent")));
    let (libvirts_now, new) = dnsmasqs(&bench);
    assert_eq!(libvirts_now, libvirts);
    assert!(new.len() == 2 && new.iter().all(|pid| !old.contains(pid)), "{old:?} {new:?}");
    let order = bench.history().replace(&old[0].to_string(), "FIRST").replace(&old[1].to_string(), "SECOND");
    insta::assert_snapshot!(order, @r"
    initctl stop neutron-dhcp-agent
    replace /etc/init/neutron-dhcp-agent.override
    initctl reload-configuration
    kill -TERM FIRST
    kill -TERM SECOND
    initctl reload-configuration
    initctl stop calico-dhcp-agent
    initctl start calico-dhcp-agent
    ");
    // An update of every package brings the old one back neither at once nor at boot.
    bench.update("neutron-dhcp-agent");
    bench.machine().reboot();
    bench.already_so(&disable("neutron-dhcp-agent"));
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_a_while() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.update("dnsmasq-base");
    let (_, ours) = dnsmasqs(&bench);
    bench.machine().processes.get_mut(&ours[1]).expect("a process").stubborn = true;
    let before = bench.machine().now;
    bench.done(&kill(Some("neutron-dhcp-agent")));
    let history = bench.history();
    assert!(history.ends_with(&format!("kill -KILL {}", ours[1])), "{history}");
    assert!(!history.contains(&format!("kill -KILL {}", ours[0])), "{history}");
    assert!(bench.machine().now.millis_since(before) < 11_000);
}

#[test]
fn another_agent_that_starts_them_again_is_told() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let (_, ours) = dnsmasqs(&bench);
    // Neutron's agent still runs, and has time to start the first again while the second is waited for.
    bench.machine().processes.get_mut(&ours[1]).expect("a process").stubborn = true;
    let error = bench.refused(&kill(Some("calico-dhcp-agent")));
    assert!(
        error.contains("came up after the stale ones were ended: it is not calico-dhcp-agent's"),
        "{error}"
    );
    assert!(
        error.ends_with("stop the agent on the node that starts it (another DHCP agent?), then retry"),
        "{error}"
    );
}

#[test]
fn a_pid_that_was_reused_is_somebody_elses() {
    let bench = Bench::new(FakeMachine::debian_compute());
    let (libvirts, _) = dnsmasqs(&bench);
    let mut seen = bench.host.process(libvirts[0]).expect("a process");
    // What was seen under this pid had started at another moment.
    seen.start_ticks -= 1;
    assert_eq!(end(&bench.host, &[seen], true).expect("no error"), Vec::new());
    assert_eq!(dnsmasqs(&bench).0, libvirts);
}

#[test]
fn an_agent_killed_between_two_signals_ends_the_rest() {
    let bench = Bench::new(FakeMachine::debian_compute());
    bench.update("dnsmasq-base");
    let (_, ours) = dnsmasqs(&bench);
    bench.machine().faults.kill_after(&format!("kill -TERM {}", ours[0]));
    bench.apply_killed(&kill(Some("neutron-dhcp-agent")));
    assert_eq!(dnsmasqs(&bench).1, [ours[1]]);
    bench.done(&kill(Some("neutron-dhcp-agent")));
    assert_eq!(bench.history(), format!("kill -TERM {}\nkill -TERM {}", ours[0], ours[1]));
}

#[test]
fn a_preview_sees_that_the_program_will_be_replaced() {
    let mut bench = Bench::new(FakeMachine::debian_compute());
    bench.forecast.packages.insert("dnsmasq-base".to_owned());
    let would = bench.would(&kill(None));
    let why = "its executable /usr/sbin/dnsmasq will be replaced with dnsmasq-base";
    assert_eq!(would.matches(why).count(), 2, "{would}");
}

#[test]
fn a_node_without_networks_has_nothing_to_end() {
    let bench = Bench::new(FakeMachine::debian_control());
    assert_eq!(bench.already_so(&kill(None)), "no dnsmasq process of /var/lib/neutron/dhcp");
}
