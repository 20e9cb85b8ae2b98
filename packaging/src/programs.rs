//! The programs that the packages install, and what their manual pages say that their command lines don't know.

use clap::CommandFactory;

/// The packages.
pub const PACKAGES: &[&str] = &["wavegate-agent", "wavegate-coordinator"];

/// A program, for its manual pages and completions.
pub struct Program {
    /// The package that has it.
    pub package: &'static str,
    /// Its command line.
    pub command: clap::Command,
    /// The section of the manual: 1 for everybody's programs, 8 for daemons.
    pub section: &'static str,
    /// Files, and what they are for.
    pub files: &'static [(&'static str, &'static str)],
    /// Other pages, with their section.
    pub see_also: &'static [(&'static str, &'static str)],
}

/// All of them.
pub fn programs() -> Vec<Program> {
    vec![
        Program {
            package: "wavegate-agent",
            command: wavegate_agent::command_line::Arguments::command(),
            section: "8",
            files: AGENT_FILES,
            see_also: &[("wavegate-agent.toml", "5"), ("wavegate", "1"), ("wavegate-coordinator", "8")],
        },
        Program {
            package: "wavegate-coordinator",
            command: wavegate_coordinator::command_line::Arguments::command(),
            section: "8",
            files: COORDINATOR_FILES,
            see_also: &[("wavegate-coordinator.toml", "5"), ("wavegate", "1"), ("wavegate-agent", "8")],
        },
        Program {
            package: "wavegate-coordinator",
            command: wavegate_coordinator::cli::Cli::command(),
            section: "1",
            files: OPERATOR_FILES,
            see_also: &[("wavegate-coordinator", "8"), ("wavegate-agent", "8")],
        },
    ]
}

const AGENT_FILES: &[(&str, &str)] = &[
    ("/etc/wavegate/agent.toml", "The configuration as it is shipped."),
    (
        "/etc/wavegate/agent.d/*.toml",
        "What provisioning and administrators set over it, in the order of the names.",
    ),
    (
        "/etc/wavegate/policy.toml",
        "What orders may touch on this node. Without it the built-in policy holds.",
    ),
    ("/etc/wavegate/join-token", "A token to enrol with; the agent removes it once it has enrolled."),
    ("/var/lib/wavegate/agent", "The journal, the node's key and certificate, and package transactions."),
];

const COORDINATOR_FILES: &[(&str, &str)] = &[
    ("/etc/wavegate/coordinator.toml", "The configuration as it is shipped."),
    (
        "/etc/wavegate/coordinator.d/*.toml",
        "What `wavegate init` and administrators set over it, in the order of the names.",
    ),
    (
        "/var/lib/wavegate/coordinator",
        "The store and the certificate authority. Without a backup of it no node can enrol again.",
    ),
    ("/run/wavegate/operator.sock", "Where wavegate(1) asks on this machine."),
];

const OPERATOR_FILES: &[(&str, &str)] = &[
    (
        "~/.config/wavegate/operator.toml",
        "Where the coordinator is, and the operator's certificate, key and authority.",
    ),
    ("/etc/wavegate/operator.toml", "The same for everybody on this machine."),
    ("/run/wavegate/operator.sock", "Where the coordinator is asked when neither says otherwise."),
];
