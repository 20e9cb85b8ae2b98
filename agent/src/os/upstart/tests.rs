//! Tests of what is read of upstart: recorded answers, job files as packages and the documentation have them, any text.

use super::*;
use proptest::prelude::*;

/// In the forms that upstart 1.12.1's `job_status` prints.
const LIST: &str = "mountall-net stop/waiting\n\
    rsyslog start/running, process 512\n\
    tty4 start/running, process 963\n\
    udev start/running, process 389\n\
    network-interface (eth0) start/running\n\
    network-interface (lo) start/running\n\
    libvirt-bin start/running, process 1190\n\
    neutron-dhcp-agent start/running, process 2210\n\
    \tpre-stop process 2300\n\
    nova-compute start/post-start, process 1400\n\
    \tpost-start process 1405\n\
    plymouth-upstart-bridge stop/pre-start, process 77\n\
    mysql start/post-start, (post-start) process 901\n\
    calico-felix respawn/killed, process 1201\n\
    etcd stop/post-stop, process 1300\n";

#[test]
fn jobs_are_read_in_every_form() {
    let shown = read_jobs(LIST).expect("jobs").into_iter().map(|job| {
        let instance = job.instance.as_ref().map_or_else(String::new, |instance| format!(" [{instance}]"));
        let pid = job.main_pid.map_or_else(String::new, |pid| format!(" {pid}"));
        format!("{}{instance}: {}{pid}", job.name, job.words())
    });
    insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @r"
    mountall-net: stop/waiting
    rsyslog: start/running 512
    tty4: start/running 963
    udev: start/running 389
    network-interface [eth0]: start/running
    network-interface [lo]: start/running
    libvirt-bin: start/running 1190
    neutron-dhcp-agent: start/running 2210
    nova-compute: start/post-start 1400
    plymouth-upstart-bridge: stop/pre-start
    mysql: start/post-start
    calico-felix: respawn/killed 1201
    etcd: stop/post-stop
    ");
}

#[test]
fn a_status_is_of_the_job_that_was_asked_for() {
    let status = read_status("etcd start/running, process 4711\n", "etcd").expect("a status");
    assert_eq!((status.main_pid, status.words().as_str()), (Some(4711), "start/running"));
    for (text, quoted) in [
        ("", "unexpected answer of initctl status: ''"),
        ("etcd2 stop/waiting\n", "unexpected answer of initctl status: 'etcd2 stop/waiting'"),
        ("etcd dreaming\n", "unexpected line of initctl: 'etcd dreaming'"),
        ("etcd start/dreaming\n", "unexpected line of initctl: 'etcd start/dreaming'"),
        (
            "etcd start/running, process many\n",
            "unexpected line of initctl: 'etcd start/running, process many'",
        ),
        ("\tpost-start process 12\n", "unexpected line of initctl: '\tpost-start process 12'"),
    ] {
        assert_eq!(read_status(text, "etcd").expect_err(text).to_string(), quoted);
    }
}

#[test]
fn complaints_are_told_apart() {
    assert!(unknown_job("initctl: Unknown job: calico-felix\n"));
    assert!(nothing_to_do("initctl: Job is already running: calico-felix\n"));
    assert!(nothing_to_do("initctl: Unknown instance: \n"));
    for failure in
        ["initctl: Job failed to start\n", "initctl: Unable to connect to Upstart: Connection refused"]
    {
        assert!(!unknown_job(failure) && !nothing_to_do(failure), "{failure}");
    }
}

#[test]
fn versions_are_read() {
    assert_eq!(read_version("init (upstart 1.12.1)\n"), Ok((1, 12)));
    assert_eq!(read_version("init (upstart 0.6.5)\n"), Ok((0, 6)));
    let error = read_version("initctl: command of something else").expect_err("not upstart");
    assert_eq!(
        error.to_string(),
        "unexpected answer of initctl version: 'initctl: command of something else'"
    );
}

#[test]
fn what_starts_a_job_is_read() {
    let text = "etcd\n  start on (local-filesystems and net-device-up IFACE!=lo)\n  stop on runlevel [!2345]\n\
        network-interface-security\n  emits x\nneutron-dhcp-agent\n  stop on runlevel [!2345]\n";
    let config = read_config(text).expect("jobs");
    let starts: Vec<(&str, bool)> = config.iter().map(|(name, starts)| (name.as_str(), *starts)).collect();
    assert_eq!(
        starts,
        [("etcd", true), ("network-interface-security", false), ("neutron-dhcp-agent", false)]
    );
    for text in ["  start on startup\n", "initctl: Unknown job: etcd\n"] {
        assert!(read_config(text).expect_err(text).to_string().contains(text.trim_end()));
    }
}

/// The proxy's job file by Calico's documentation for Ubuntu 14.04.
const ETCD: &str = "description \"etcd\"\nstart on (local-filesystems\n  and net-device-up IFACE!=lo)\nstop on runlevel [!2345]\n\
    respawn\nsetuid etcd\nenv ETCD_DATA_DIR=/var/lib/etcd\nexec /usr/bin/etcd --proxy on \\\n   --initial-cluster \"a=http://10.0.0.1:2380\" \\\n";

const NEUTRON_SERVER: &str = "# vim:set ft=upstart ts=2 et:\nstart on runlevel [2345]\nstop on runlevel [!2345]\nrespawn\n\
    chdir /var/run\npre-start script\n  mkdir -p /var/run/neutron\n  manual\nend script\nscript\n\
    [ -r /etc/default/neutron-server ] && . /etc/default/neutron-server\n\
    exec start-stop-daemon --start --chuid neutron --exec /usr/bin/neutron-server -- --config-file /etc/neutron/neutron.conf\n\
    end script\n";

#[test]
fn the_last_word_about_the_start_counts() {
    use StartCondition::{Event, Manual, None};
    for (job, over, condition) in [
        (ETCD, "", Event),
        // A line of a script is no stanza.
        (NEUTRON_SERVER, "", Event),
        (NEUTRON_SERVER, "# manual\nlimit nofile 8192 8192\n", Event),
        (NEUTRON_SERVER, "manual\n", Manual),
        (NEUTRON_SERVER, "  manual # until the audit\n", Manual),
        (NEUTRON_SERVER, "manual\nstart on started ssh\n", Event),
        ("start on startup\nmanual\n", "", Manual),
        ("exec /bin/true\n", "", None),
        ("", "", None),
    ] {
        assert_eq!(start_condition(job, over), condition, "{job}\n{over}");
    }
}

#[test]
fn manual_is_added_below_what_is_there() {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&with_manual(bytes)).into_owned();
    insta::assert_snapshot!(text(b""), @r"
    # Kept down by wavegate (service.disable); without these two lines the job starts at boot again.
    manual
    ");
    assert!(text(b"limit nofile 8192 8192").starts_with("limit nofile 8192 8192\n# Kept down"));
    assert_eq!(start_condition(ETCD, &text(b"start on started ssh\n")), StartCondition::Manual);
    assert!(with_manual(b"# \xff\n").starts_with(b"# \xff\n"));
}

#[test]
fn what_a_job_runs_is_found() {
    let etcd = command_line(ETCD, "").expect("an exec");
    assert_eq!(etcd, "/usr/bin/etcd --proxy on --initial-cluster \"a=http://10.0.0.1:2380\"");
    let server = command_line(NEUTRON_SERVER, "").expect("a script");
    assert!(server.contains("--exec /usr/bin/neutron-server") && !server.contains("mkdir"), "{server}");
    assert_eq!(command_line(ETCD, "exec /opt/etcd\n").as_deref(), Some("/opt/etcd"));
    assert_eq!(command_line("start on startup\n", ""), None);
}

#[test]
fn command_lines() {
    let commands = [
        status("etcd"),
        list(),
        config(None),
        config(Some("etcd")),
        version(),
        start("etcd"),
        stop("etcd"),
        reload_configuration(),
        log("etcd"),
    ];
    insta::assert_snapshot!(commands.map(|command| command.argv.join(" ")).join("\n"), @r"
    initctl status etcd
    initctl list
    initctl show-config
    initctl show-config etcd
    initctl version
    initctl start etcd
    initctl stop etcd
    initctl reload-configuration
    tail -n 20 -- /var/log/upstart/etcd.log
    ");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(
        text in any::<String>(),
        soup in "(etcd|\\(|\\)| |start|stop|/|running|waiting|, process |\t|9|\n|script|end script|\\\\|on|#|manual|exec){0,12}",
    ) {
        for text in [text, soup] {
            let _ = (read_jobs(&text), read_status(&text, "etcd"), read_version(&text), read_config(&text));
            let _ = (start_condition(&text, &text), command_line(&text, &text));
        }
    }

    #[test]
    fn manual_once_added_counts_whatever_stood_there(lines in "([a-z #()]{0,9}\n){0,4}") {
        let over = with_manual(lines.as_bytes());
        let over = String::from_utf8_lossy(&over).into_owned();
        // A script that is not closed swallows what comes after it: upstart would not read such a file at all.
        if !lines.contains("script") && !lines.contains("start on") && !lines.contains("stop on") {
            prop_assert_eq!(start_condition(ETCD, &over), StartCondition::Manual);
        }
    }
}

/// The agent's own job, as it is installed.
const AGENT: &str = include_str!("../../../../packaging/upstart/wavegate-agent.conf");

#[test]
fn the_agents_own_job_comes_up_at_boot_and_stays_up() {
    assert_eq!(start_condition(AGENT, ""), StartCondition::Event);
    assert_eq!(command_line(AGENT, "").as_deref(), Some("/usr/bin/wavegate-agent run"));
    let unit = include_str!("../../../../packaging/systemd/wavegate-agent.service");
    let after =
        |text: &str, start: &str| text.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned));
    assert_eq!(after(AGENT, "normal exit "), after(unit, "RestartPreventExitStatus="));
    assert_eq!(after(AGENT, "kill timeout "), after(unit, "TimeoutStopSec="));
    assert!(stanzas(AGENT).iter().any(|stanza| stanza.words.join(" ") == "respawn limit unlimited"));
}
