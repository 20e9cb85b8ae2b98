//! Which processes of a program are ours: those whose own command line puts their pid file below a directory. libvirt's,
//! LXD's or NetworkManager's dnsmasq never does. Observes only.

use crate::host::{Host, Process, exe};
use std::path::{Component, Path};

/// Processes of a program whose `--pid-file` lies below a directory.
#[must_use]
pub fn ours(host: &dyn Host, program: &str, directory: &str) -> Vec<Process> {
    let is_ours = |process: &Process| {
        // One that ended while it was looked at runs no file any more.
        !process.exe.as_os_str().is_empty()
            && runs(process, program)
            && pid_file(process).is_some_and(|file| is_below(Path::new(file), Path::new(directory)))
    };
    host.processes().into_iter().filter(is_ours).collect()
}

/// Whether a process is one of a program, told by its first argument or by the file it runs.
#[must_use]
pub fn runs(process: &Process, program: &str) -> bool {
    let base = |path: &str| path.rsplit('/').next().unwrap_or("").to_owned();
    base(exe::path_of(&process.exe.to_string_lossy())) == program
        || process.cmdline.first().is_some_and(|first| base(first) == program)
}

/// The value of `--pid-file=PATH`, `--pid-file PATH`, `-x PATH` or `-xPATH`; of several the last, as dnsmasq takes it.
#[must_use]
pub fn pid_file(process: &Process) -> Option<&str> {
    let mut arguments = process.cmdline.iter().skip(1);
    let mut found = None;
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--pid-file") {
            Some("") => arguments.next().map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None if argument == "-x" => arguments.next().map(String::as_str),
            None => argument.strip_prefix("-x"),
        };
        found = value.or(found);
    }
    found
}

fn is_below(file: &Path, directory: &Path) -> bool {
    let climbs = file.components().any(|part| part == Component::ParentDir);
    !climbs && file != directory && file.starts_with(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wavegate_common::id::Timestamp;

    fn process(exe: &str, cmdline: &[&str]) -> Process {
        Process {
            pid: 7,
            start_ticks: 1,
            started_at: Timestamp(0),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            exe: exe.into(),
            exe_is_file_on_disk: true,
        }
    }

    #[test]
    fn a_program_is_told_by_name_whatever_became_of_its_file() {
        for exe in
            ["/usr/sbin/dnsmasq", "/usr/sbin/dnsmasq (deleted)", "/usr/sbin/dnsmasq;557576d7 (deleted)"]
        {
            assert!(runs(&process(exe, &["-"]), "dnsmasq"), "{exe}");
        }
        assert!(runs(&process("/usr/bin/python3", &["/usr/bin/dnsmasq"]), "dnsmasq"));
        assert!(!runs(&process("/usr/sbin/dnsmasq-helper", &["sh", "dnsmasq"]), "dnsmasq"));
    }

    #[test]
    fn only_a_pid_file_below_the_directory_makes_it_ours() {
        let below = |arguments: &[&str]| {
            let process = process("/usr/sbin/dnsmasq", arguments);
            pid_file(&process)
                .is_some_and(|file| is_below(Path::new(file), Path::new("/var/lib/neutron/dhcp")))
        };
        assert!(below(&["dnsmasq", "--pid-file=/var/lib/neutron/dhcp/n1/pid"]));
        assert!(below(&["dnsmasq", "--pid-file", "/var/lib/neutron/dhcp/n1/pid"]));
        assert!(!below(&["dnsmasq", "--pid-file=/var/lib/neutron/dhcp2/n1/pid"]));
        assert!(!below(&["dnsmasq", "--pid-file=/var/lib/neutron/dhcp/../libvirt/pid"]));
        assert!(!below(&["dnsmasq", "--conf-file=/var/lib/libvirt/dnsmasq/default.conf"]));
        assert!(below(&["dnsmasq", "-x", "/var/lib/neutron/dhcp/n1/pid"]));
        assert!(below(&["dnsmasq", "-x/var/lib/neutron/dhcp/n1/pid"]));
        let last = ["dnsmasq", "--pid-file=/var/lib/neutron/dhcp/n1/pid", "--pid-file=/run/libvirt/pid"];
        assert!(!below(&last));
        assert!(!below(&["dnsmasq", "--pid-file"]));
        assert!(!below(&["dnsmasq", "--pid-files=/var/lib/neutron/dhcp/n1/pid"]));
    }

    proptest! {
        #[test]
        fn arbitrary_command_lines_never_panic(exe in any::<String>(), cmdline in prop::collection::vec(any::<String>(), 0..4)) {
            let cmdline: Vec<&str> = cmdline.iter().map(String::as_str).collect();
            let process = process(&exe, &cmdline);
            let _ = (runs(&process, "dnsmasq"), pid_file(&process));
        }
    }
}
