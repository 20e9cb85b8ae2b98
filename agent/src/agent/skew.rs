//! What the agent makes of the coordinator's version: whether they work together, and what is said of words that this agent does
//! not know. Which versions work together is `wavegate_common::version`'s.

use wavegate_common::outcome::StepError;
use wavegate_common::version::Version;

/// This agent's version, for people.
pub(super) const OWN: &str = env!("CARGO_PKG_VERSION");

/// Why an agent does not work with a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Apart {
    /// Their versions are too far from each other.
    #[error(
        "the coordinator's version is {theirs} and this agent's is {own}, and versions that are more than one minor version apart do \
         not work together; {}", if theirs > own {
            format!("install wavegate-agent {theirs} on this node")
        } else {
            format!("install wavegate-coordinator {own}, or wavegate-agent {theirs} on this node")
        }
    )]
    TooFar {
        /// The agent's.
        own: Version,
        /// The coordinator's.
        theirs: Version,
    },
    /// The coordinator's is none.
    #[error(
        "the coordinator says that its version is '{theirs}', which is none of wavegate's, and this agent's is {OWN}; install the same \
         version of wavegate on both"
    )]
    NoVersion {
        /// What it says.
        theirs: String,
    },
}

/// Whether this agent works with a coordinator of a version.
pub(super) fn judge(theirs: &str) -> Result<(), Apart> {
    match Version::own() {
        Ok(own) => judged(own, theirs),
        Err(own) => Err(Apart::NoVersion { theirs: own.0 }),
    }
}

fn judged(own: Version, theirs: &str) -> Result<(), Apart> {
    let theirs = theirs.parse::<Version>().map_err(|bad| Apart::NoVersion { theirs: bad.0 })?;
    if own.works_with(theirs) { Ok(()) } else { Err(Apart::TooFar { own, theirs }) }
}

/// What is said to a coordinator of a version of something of its that this agent can't read, and what to do.
pub(super) fn unreadable(what: &str, cause: &str, theirs: Option<&str>) -> StepError {
    let theirs = theirs.unwrap_or("of an unknown version");
    StepError {
        what: format!(
            "wavegate-agent {OWN} on this node cannot read {what} of wavegate-coordinator {theirs}: {cause}"
        ),
        output: Vec::new(),
        next: if theirs == OWN {
            "report this as a defect of wavegate, with the agent's log".to_owned()
        } else {
            "install the coordinator's version of wavegate-agent on this node, then plan again, or retry"
                .to_owned()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged_as(own: &str, theirs: &str) -> String {
        let own = own.parse().expect("a version");
        judged(own, theirs).map_or_else(|apart| apart.to_string(), |()| "they work together".to_owned())
    }

    #[test]
    fn one_minor_version_apart_is_fine_and_more_says_what_to_install() {
        for theirs in ["1.4.0", "1.3.9", "1.5.2", "1.4.7-rc1"] {
            assert_eq!(judged_as("1.4.2", theirs), "they work together", "{theirs}");
        }
        insta::assert_snapshot!(judged_as("1.4.2", "1.6.0"), @"the coordinator's version is 1.6.0 and this agent's is 1.4.2, and versions that are more than one minor version apart do not work together; install wavegate-agent 1.6.0 on this node");
        insta::assert_snapshot!(judged_as("1.4.2", "1.2.0"), @"the coordinator's version is 1.2.0 and this agent's is 1.4.2, and versions that are more than one minor version apart do not work together; install wavegate-coordinator 1.4.2, or wavegate-agent 1.2.0 on this node");
        insta::assert_snapshot!(judged_as("1.4.2", "2.4.2"), @"the coordinator's version is 2.4.2 and this agent's is 1.4.2, and versions that are more than one minor version apart do not work together; install wavegate-agent 2.4.2 on this node");
        insta::assert_snapshot!(judged_as("1.4.2", "").replace(OWN, "OWN"), @"the coordinator says that its version is '', which is none of wavegate's, and this agent's is OWN; install the same version of wavegate on both");
        assert_eq!(judge(OWN), Ok(()));
    }

    #[test]
    fn what_can_not_be_read_names_both_versions() {
        let said = |theirs| {
            let StepError { what, next, .. } =
                unreadable("the order", "unknown action 'moon.fly'", Some(theirs));
            format!("{what}; {next}").replace(OWN, "OWN")
        };
        insta::assert_snapshot!(said("99.2.0"), @"wavegate-agent OWN on this node cannot read the order of wavegate-coordinator 99.2.0: unknown action 'moon.fly'; install the coordinator's version of wavegate-agent on this node, then plan again, or retry");
        insta::assert_snapshot!(said(OWN), @"wavegate-agent OWN on this node cannot read the order of wavegate-coordinator OWN: unknown action 'moon.fly'; report this as a defect of wavegate, with the agent's log");
    }
}
