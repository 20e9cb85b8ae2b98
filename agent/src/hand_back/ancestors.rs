//! For whom this process works: its ancestors, by `/proc`. A package manager that removes the agent's package is one of them, and
//! so is the agent's own runner of a transaction, if it is that which removes it.
//!
//! An environment variable, which the runner could set, would also be in daemons that a package's script starts and that live on.

use crate::host::Host;
use std::path::Path;

/// No chain of processes is longer; one that `/proc` tells in a circle ends here.
const LONGEST: usize = 200;

/// Process ids of the parent of a process, its parent, and so on.
#[must_use]
pub fn of(host: &dyn Host, pid: u32) -> Vec<u32> {
    let chain = std::iter::successors(parent(host, pid), |pid| parent(host, *pid));
    chain.take(LONGEST).collect()
}

/// The runner of a transaction of an agent's among these processes, as its command line.
#[must_use]
pub fn transaction(host: &dyn Host, pids: &[u32]) -> Option<String> {
    let lines = pids.iter().filter_map(|pid| host.process(*pid)).map(|process| process.cmdline);
    let is_runner = |line: &Vec<String>| {
        let program = line.first().and_then(|program| Path::new(program).file_name());
        program.is_some_and(|name| name == "wavegate-agent")
            && line.get(1).is_some_and(|word| word == "transaction")
    };
    lines.into_iter().find(is_runner).map(|line| line.join(" "))
}

/// Field 4 of `/proc/PID/stat` (proc(5)), counted after the program's name, which may hold anything.
fn parent(host: &dyn Host, pid: u32) -> Option<u32> {
    let stat = host.read(Path::new(&format!("/proc/{pid}/stat"))).ok()??;
    let stat = String::from_utf8_lossy(&stat);
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, FakeMachine};

    #[test]
    fn the_chain_ends_with_the_first_process_and_no_circle_is_followed() {
        let mut machine = FakeMachine::debian();
        for (pid, parent) in [(30, 20), (20, 1), (1, 0), (40, 41), (41, 40)] {
            machine.put_file(format!("/proc/{pid}/stat"), format!("{pid} (a) b) S {parent} 1 1"));
        }
        let host = FakeHost::new(machine);
        assert_eq!(of(&host, 30), [20, 1]);
        assert_eq!(of(&host, 40).len(), LONGEST);
        assert!(of(&host, 50).is_empty());
    }

    #[test]
    fn a_runner_is_known_by_how_it_was_started() {
        let mut machine = FakeMachine::debian();
        let mut start = |line: &str| machine.spawn(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let shell = start("sh transaction /x");
        let agent = start("/usr/bin/wavegate-agent run");
        let runner = start("wavegate-agent transaction /var/lib/wavegate/agent/transactions/r1");
        let host = FakeHost::new(machine);
        assert_eq!(transaction(&host, &[shell, agent, 4711]), None);
        let found = transaction(&host, &[shell, runner, agent]);
        assert_eq!(
            found.as_deref(),
            Some("wavegate-agent transaction /var/lib/wavegate/agent/transactions/r1")
        );
    }

    #[test]
    fn this_process_has_a_parent() {
        let host = crate::host::real::RealHost::new("/nowhere".into());
        let mine = of(&host, std::process::id());
        assert_eq!(mine.first().copied(), Some(std::os::unix::process::parent_id()));
    }
}
