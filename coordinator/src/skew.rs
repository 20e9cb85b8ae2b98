//! Which of wavegate's other programs this coordinator works with, by their versions, and what to install where it does not. The
//! rule itself is the core's.

use wavegate_common::version::Version;

/// This coordinator's version.
pub const OURS: &str = env!("CARGO_PKG_VERSION");

/// A program of a version that this coordinator does not work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skew {
    /// What it says its version is.
    pub theirs: String,
    /// Whether it is newer than this coordinator; also false if its version is none.
    newer: bool,
}

/// Whether this coordinator works with a program of this version. A text that is no version is one that it does not work with.
///
/// # Errors
/// [`Skew`].
pub fn look(theirs: &str) -> Result<(), Skew> {
    between(OURS, theirs)
}

fn between(ours: &str, theirs: &str) -> Result<(), Skew> {
    let newer = match (ours.parse::<Version>(), theirs.parse::<Version>()) {
        (Ok(ours), Ok(theirs)) if ours.works_with(theirs) => return Ok(()),
        (Ok(ours), Ok(theirs)) => theirs > ours,
        (Ok(_) | Err(_), _) => false,
    };
    Err(Skew { theirs: theirs.to_owned(), newer })
}

const RULE: &str = "they work together within one minor version";

impl Skew {
    /// Why an agent is not taken.
    #[must_use]
    pub fn agent(&self) -> String {
        let Self { theirs, .. } = self;
        format!("its agent {theirs} is not taken: the coordinator is {OURS}, and {RULE}")
    }

    /// What to install for an agent on this node.
    #[must_use]
    pub fn agent_next(&self, node: &str) -> String {
        let Self { theirs, newer } = self;
        let older = format!("install wavegate-agent {OURS} on {node}");
        if *newer {
            format!(
                "install wavegate-coordinator {theirs} on the coordinator's host, one minor version after the other, or {older}"
            )
        } else {
            older
        }
    }

    /// Why an operator's command line is not taken, and what to install.
    #[must_use]
    pub fn command_line(&self) -> String {
        let Self { theirs, newer } = self;
        let here = format!(
            "install wavegate-coordinator {OURS}, which has the wavegate command, where you typed this"
        );
        let next = if *newer {
            format!(
                "{here}; or wavegate-coordinator {theirs} on the coordinator's host, one minor version after the other"
            )
        } else {
            here
        };
        format!("this wavegate command is {theirs} and the coordinator is {OURS}: {RULE}; {next}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_is_taken_and_no_more() {
        for theirs in ["0.4.0", "0.5.9", "0.6.1", "0.5.0-rc1"] {
            assert_eq!(between("0.5.0", theirs), Ok(()), "{theirs}");
        }
        let newer = |theirs: &str| between("0.5.0", theirs).map_err(|skew| skew.newer);
        assert_eq!([newer("0.7.0"), newer("1.5.0"), newer("0.3.9")], [Err(true), Err(true), Err(false)]);
        assert_eq!([newer(""), newer("unknown"), newer("0.5")], [Err(false); 3]);
        assert_eq!(look(OURS), Ok(()));
    }

    #[test]
    fn what_to_install_is_said() {
        let text = |text: String| text.replace(OURS, "OURS");
        let (newer, older) = (
            Skew { theirs: "7.3.0".to_owned(), newer: true },
            Skew { theirs: "0.0.1".to_owned(), newer: false },
        );
        insta::assert_snapshot!(text(newer.agent()), @"its agent 7.3.0 is not taken: the coordinator is OURS, and they work together within one minor version");
        insta::assert_snapshot!(text(newer.agent_next("compute-1")), @"install wavegate-coordinator 7.3.0 on the coordinator's host, one minor version after the other, or install wavegate-agent OURS on compute-1");
        insta::assert_snapshot!(text(older.agent_next("compute-1")), @"install wavegate-agent OURS on compute-1");
        insta::assert_snapshot!(text(newer.command_line()), @"this wavegate command is 7.3.0 and the coordinator is OURS: they work together within one minor version; install wavegate-coordinator OURS, which has the wavegate command, where you typed this; or wavegate-coordinator 7.3.0 on the coordinator's host, one minor version after the other");
        insta::assert_snapshot!(text(older.command_line()), @"this wavegate command is 0.0.1 and the coordinator is OURS: they work together within one minor version; install wavegate-coordinator OURS, which has the wavegate command, where you typed this");
    }
}
