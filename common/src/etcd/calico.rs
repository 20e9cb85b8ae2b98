//! What Calico's software asks of etcd: the API and the port that each version takes. Where it is configured to ask stands with
//! the agents, and whether a newer etcd still serves it in `clients`.

use super::path::Line;
use crate::facts::Component;
use std::collections::BTreeMap;

/// Calico from here on asks whichever of `/v3`, `/v3beta` and `/v3alpha` is served.
const ASKS_V3: Line = (3, 26);
/// The port that etcd's servers and Calico's clients took before they got [`PORT`].
pub const OLD_PORT: &str = "4001";
/// The port that they take since.
pub const PORT: &str = "2379";

/// Calico's software on a node, by the versions of its packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calico {
    felix: Option<Line>,
    networking_calico: Option<Line>,
}

/// Source of the numbers: networking-calico's CHANGES (2.0.0: etcd's version 3 API; 3.1.0: port 2379), Calico 3.26's release
/// notes (calico#7147), Felix 1.4.9's `config.py`.
impl Calico {
    /// That of a node with these versions of packages; `None` if none of them is of Calico and can be read.
    #[must_use]
    pub fn of(versions: &BTreeMap<Component, String>) -> Option<Self> {
        let version = |component| versions.get(&component).and_then(|text| line_of(text));
        let calico = Self {
            felix: version(Component::Felix),
            networking_calico: version(Component::NetworkingCalico),
        };
        (calico.felix.is_some() || calico.networking_calico.is_some()).then_some(calico)
    }

    /// Whether all of it asks the version 3 API: Felix from 3.0 on, networking-calico from 2.0 on.
    #[must_use]
    pub fn speaks_v3(self) -> bool {
        self.felix.is_none_or(|felix| felix >= (3, 0))
            && self.networking_calico.is_none_or(|driver| driver >= (2, 0))
    }

    /// Felix speaks gRPC; what asks a path is the driver and the DHCP agent. Felix's version tells theirs where nothing else does.
    pub(super) fn asks_v3alpha(self) -> bool {
        match (self.networking_calico, self.felix) {
            (Some(driver), _) => driver >= (2, 0) && driver < ASKS_V3,
            (None, Some(felix)) => felix >= (3, 0) && felix < ASKS_V3,
            (None, None) => false,
        }
    }

    pub(super) fn asks_old_port_by_default(self) -> bool {
        self.felix_port() == OLD_PORT || self.driver_port() == OLD_PORT
    }

    /// The port that Felix asks where it is told none.
    #[must_use]
    pub fn felix_port(self) -> &'static str {
        if self.felix.is_some_and(|felix| felix < (2, 0)) { OLD_PORT } else { PORT }
    }

    /// The port that Neutron's driver and the DHCP agent ask where they are told none.
    #[must_use]
    pub fn driver_port(self) -> &'static str {
        if self.networking_calico.is_some_and(|driver| driver < (3, 1)) { OLD_PORT } else { PORT }
    }
}

/// The first two numbers of a package's version, without its epoch: `1:1.4.3~trusty` is 1.4.
fn line_of(version: &str) -> Option<Line> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calico(felix: &str, driver: &str) -> Calico {
        let versions = [(Component::Felix, felix), (Component::NetworkingCalico, driver)];
        let versions = versions.into_iter().filter(|(_, version)| !version.is_empty());
        Calico::of(&versions.map(|(component, version)| (component, version.to_owned())).collect())
            .expect("it is Calico")
    }

    #[test]
    fn each_version_asks_its_api_and_its_port() {
        assert_eq!(Calico::of(&BTreeMap::new()), None);
        for (felix, driver, v3, felix_port, driver_port) in [
            ("1.4.9", "1:1.4.3~trusty", false, OLD_PORT, OLD_PORT),
            ("2.6.12", "", false, PORT, PORT),
            ("", "1.4.3", false, PORT, OLD_PORT),
            ("", "2.0.0", true, PORT, OLD_PORT),
            ("1:3.3.7", "3.0.1", true, PORT, OLD_PORT),
            ("", "3.1.0", true, PORT, PORT),
            ("3.26.1", "3.26.1", true, PORT, PORT),
        ] {
            let calico = calico(felix, driver);
            let is = (calico.speaks_v3(), calico.felix_port(), calico.driver_port());
            assert_eq!(is, (v3, felix_port, driver_port), "{felix} {driver}");
        }
    }
}
