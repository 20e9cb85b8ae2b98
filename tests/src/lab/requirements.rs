//! What this machine must have to run a lab, and what of it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::command::output;

/// Programs the lab runs, and the Debian package each is in.
const PROGRAMS: [(&str, &str); 11] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("rpmbuild", "rpm"),
    ("createrepo_c", "createrepo-c"),
    ("dpkg-deb", "dpkg"),
    ("dpkg-scanpackages", "dpkg-dev"),
    ("apt-get", "apt"),
];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Everything that is missing, each with what to do about it. Empty: a lab can be run here.
pub fn requirements() -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("not root: hosts can only be booted by root".to_owned());
    }
    for (program, package) in PROGRAMS {
        if !is_on_path(program) {
            missing.push(format!("no {program}: apt-get install {package}"));
        }
    }
    if !Path::new(KEYRING).exists() {
        missing.push(format!("no {KEYRING}: apt-get install debian-archive-keyring"));
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.split_whitespace().next_back() == Some("overlay")) {
        missing.push("the kernel has no overlay filesystem: modprobe overlay".to_owned());
    }
    if cgroup_roots().is_empty() {
        missing.push("no cgroups under /sys/fs/cgroup that processes can be put into".to_owned());
    }
    if missing.is_empty() {
        missing.extend(cannot_boot());
    }
    missing
}

/// Fails with all that is missing.
///
/// # Errors
///
/// When anything is.
pub fn require() -> Result<()> {
    let missing = requirements();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run the lab:\n  - {}", missing.join("\n  - "))
}

/// The cgroup hierarchies a node needs a group of its own in: systemd's of version 1 and version 2.
pub(super) fn cgroup_roots() -> Vec<PathBuf> {
    let present = |path: &str| {
        let path = PathBuf::from(path);
        path.join("cgroup.procs").exists().then_some(path)
    };
    let hybrid: Vec<PathBuf> =
        ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"].into_iter().filter_map(present).collect();
    if hybrid.is_empty() { present("/sys/fs/cgroup").into_iter().collect() } else { hybrid }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Tries the namespaces a node is made of.
fn cannot_boot() -> Option<String> {
    let mut attempt = Command::new("unshare");
    attempt.args([
        "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "mount", "-t", "tmpfs", "lab", "/mnt",
    ]);
    match output(&mut attempt) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "namespaces and mounts are not allowed here: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        )),
        Err(error) => Some(format!("{error:#}")),
    }
}
