//! Which command lines of a machine's history do something to it.

/// Whether running it twice would be doing something twice. Queries, simulations and refreshes of package lists are not.
#[must_use]
pub fn has_effect(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let harmless =
        ["show", "list-units", "list-unit-files", "is-active", "daemon-reload", "is-enabled", "reset-failed"];
    // A copy that was not completed is removed and taken anew.
    if line.starts_with("replace /var/lib/wavegate/") {
        return false;
    }
    // What is only fetched is there, and is not fetched again.
    if line.contains("--download-only") || line.contains("--downloadonly") {
        return false;
    }
    // What holds services down during a transaction is put in place again by whoever goes on with it.
    if words.contains(&"--runtime") || line.contains("policy-rc.d") {
        return false;
    }
    match words.as_slice() {
        ["apt-get", ..] => {
            words.contains(&"install") && !words.contains(&"-s") && !words.contains(&"--simulate")
        }
        ["yum" | "dnf", ..] => {
            !words.contains(&"--assumeno")
                && ["install", "update", "upgrade"].iter().any(|verb| words.contains(verb))
        }
        ["systemctl", verb, ..] => !harmless.contains(verb),
        // A stop of what is stopped does nothing, and what is stopped again while it runs is started again too.
        ["initctl", verb, ..] => *verb == "start",
        [program, ..] => {
            matches!(*program, "kill" | "replace")
                || line.contains("setup.py")
                || line.contains("pip uninstall -y")
        }
        [] => false,
    }
}
