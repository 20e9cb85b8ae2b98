//! Reads os-release(5) and tells the platform from it. Nothing here touches the machine.

use super::packages::Unreadable;
use std::collections::BTreeMap;
use wavegate_common::platform::{OsFamily, PackageManager};

/// Where the file stands, in the order of preference that os-release(5) gives.
pub const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The fields of an os-release file that matter here, unquoted; a field that is not there is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`, e.g. `ubuntu`.
    pub id: String,
    /// `ID_LIKE`: what it derives from, nearest first.
    pub id_like: Vec<String>,
    /// `VERSION_ID`, e.g. `16.04`.
    pub version_id: String,
    /// `PRETTY_NAME`, or the name and version if there is none.
    pub pretty_name: String,
}

const DEBIAN: [&str; 2] = ["debian", "ubuntu"];
const REDHAT: [&str; 7] = ["rhel", "centos", "fedora", "rocky", "almalinux", "ol", "scientific"];

impl OsRelease {
    /// Reads the file's text: shell-like assignments and comments, a line each. Of a field that is repeated the last
    /// counts.
    ///
    /// # Errors
    /// [`Unreadable`] with the first line that is neither.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let says = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
        let fields = text.lines().filter(says).map(|line| {
            field(line).ok_or_else(|| Unreadable { what: "line of os-release", text: line.to_owned() })
        });
        let fields: BTreeMap<&str, String> = fields.collect::<Result<_, _>>()?;
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let (id, version_id) = (field("ID").to_lowercase(), field("VERSION_ID"));
        let pretty_name = match field("PRETTY_NAME") {
            name if name.is_empty() => format!("{} {}", field("NAME"), field("VERSION")).trim().to_owned(),
            name => name,
        };
        let id_like = field("ID_LIKE").to_lowercase().split_whitespace().map(str::to_owned).collect();
        Ok(Self { id, id_like, version_id, pretty_name })
    }

    /// The family, by `ID` and then by `ID_LIKE`; `None` for one that we don't know.
    #[must_use]
    pub fn family(&self) -> Option<OsFamily> {
        let names = std::iter::once(&self.id).chain(&self.id_like);
        names.map(String::as_str).find_map(|name| match name {
            _ if DEBIAN.contains(&name) => Some(OsFamily::Debian),
            _ if REDHAT.contains(&name) => Some(OsFamily::RedHat),
            _ => None,
        })
    }

    /// Major number of the version; `None` for a rolling release.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        self.version_id.split('.').next()?.parse().ok()
    }

    /// What installs packages: apt on Debian's side; on Red Hat's yum up to release 7 or where there is no dnf (on
    /// release 8 and later `yum` is another name of dnf), else dnf. Fedora has dnf in every release that has this file.
    #[must_use]
    pub fn package_manager(&self, family: OsFamily, has_dnf: bool) -> PackageManager {
        match family {
            OsFamily::Debian => PackageManager::Apt,
            OsFamily::RedHat => {
                let old = self.id != "fedora" && self.major().is_some_and(|major| major <= 7);
                if old || !has_dnf { PackageManager::Yum } else { PackageManager::Dnf }
            }
        }
    }
}

fn field(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.trim().split_once('=')?;
    let well_formed = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    well_formed.then(|| (name, unquote(value)))
}

/// Takes the quotes off as a shell would: single quotes keep everything, double quotes and bare text know `\`.
fn unquote(value: &str) -> String {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => text.extend(characters.next()),
            (c, None) if c.is_whitespace() => break,
            (c, _) => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRUSTY: &str = "NAME=\"Ubuntu\"\nVERSION=\"14.04.6 LTS, Trusty Tahr\"\nID=ubuntu\nID_LIKE=debian\n\
        PRETTY_NAME=\"Ubuntu 14.04.6 LTS\"\nVERSION_ID=\"14.04\"\n";
    const CENTOS_7: &str = "NAME=\"CentOS Linux\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n\
        PRETTY_NAME=\"CentOS Linux 7 (Core)\"\n";
    const ROCKY_9: &str = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.3\"\n";

    fn parse(text: &str) -> OsRelease {
        OsRelease::parse(text).expect("a release")
    }

    #[test]
    fn a_line_of_another_form_is_quoted() {
        for line in ["Ubuntu 14.04", "1 ID=a", "=b", "ID -like=debian"] {
            let error = OsRelease::parse(&format!("ID=ubuntu\n{line}\n")).expect_err(line);
            assert_eq!(error.to_string(), format!("unexpected line of os-release: '{line}'"));
        }
    }

    #[test]
    fn known_systems_are_told() {
        let trusty = parse(TRUSTY);
        assert_eq!((trusty.id.as_str(), trusty.version_id.as_str()), ("ubuntu", "14.04"));
        assert_eq!(trusty.pretty_name, "Ubuntu 14.04.6 LTS");
        assert_eq!(trusty.family(), Some(OsFamily::Debian));
        assert_eq!(trusty.package_manager(OsFamily::Debian, false), PackageManager::Apt);

        let centos = parse(CENTOS_7);
        assert_eq!((centos.family(), centos.major()), (Some(OsFamily::RedHat), Some(7)));
        assert_eq!(centos.package_manager(OsFamily::RedHat, true), PackageManager::Yum);

        let rocky = parse(ROCKY_9);
        assert_eq!((rocky.family(), rocky.major()), (Some(OsFamily::RedHat), Some(9)));
        assert_eq!(rocky.package_manager(OsFamily::RedHat, true), PackageManager::Dnf);
        assert_eq!(rocky.package_manager(OsFamily::RedHat, false), PackageManager::Yum);
    }

    #[test]
    fn a_derivative_is_told_by_what_it_is_like() {
        assert_eq!(parse("ID=mint\nID_LIKE='ubuntu debian'").family(), Some(OsFamily::Debian));
        assert_eq!(parse("ID=arch\nID_LIKE=other").family(), None);
        assert_eq!(parse("").family(), None);
    }

    #[test]
    fn quoting_is_the_shells() {
        let names = |text: &str| parse(&format!("PRETTY_NAME={text}")).pretty_name;
        assert_eq!(names("'a \\ b'"), "a \\ b");
        assert_eq!(names("\"a \\\"b\\\" \\$c\""), "a \"b\" $c");
        assert_eq!(names("plain # no comment"), "plain");
        assert_eq!(parse("# c\nID=a\n\n ID=b \nNAME=N\nVERSION=1").pretty_name, "N 1");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), soup in "(ID|VERSION_ID|X)=[\"'\\\\ a1.\n]{0,20}") {
            for text in [text, soup] {
                if let Ok(release) = OsRelease::parse(&text) {
                    let _ = (release.family(), release.major());
                }
            }
        }
    }
}
