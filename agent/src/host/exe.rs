//! What `/proc/PID/exe` says of a program whose file was replaced or renamed under it. Text only.

/// What rpm puts after the name of a file that it is about to replace: `;` and eight hexadecimal digits.
const RPM_SUFFIX: usize = 9;

/// The path that a program was started from, out of what `/proc/PID/exe` says: without ` (deleted)` and without what rpm
/// put after the name.
#[must_use]
pub fn path_of(exe: &str) -> &str {
    let path = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    let Some(at) = path.len().checked_sub(RPM_SUFFIX).filter(|at| path.is_char_boundary(*at)) else {
        return path;
    };
    let (before, suffix) = path.split_at(at);
    let renamed = suffix.strip_prefix(';').is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit()));
    if renamed { before } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_of_replaced_programs() {
        for (exe, path) in [
            ("/usr/sbin/dnsmasq", "/usr/sbin/dnsmasq"),
            ("/usr/sbin/dnsmasq (deleted)", "/usr/sbin/dnsmasq"),
            ("/usr/sbin/dnsmasq;557576d7", "/usr/sbin/dnsmasq"),
            ("/usr/sbin/dnsmasq;557576d7 (deleted)", "/usr/sbin/dnsmasq"),
            ("/usr/sbin/dnsmasq;nothex77", "/usr/sbin/dnsmasq;nothex77"),
            ("", ""),
        ] {
            assert_eq!(path_of(exe), path, "{exe}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "[/;é(deleted)a-f0-9 ]{0,20}") {
            let _ = (path_of(&text), path_of(&soup));
        }
    }
}
