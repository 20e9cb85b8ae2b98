//! Where Calico's software on this node asks etcd, by its own configuration: Felix's file and environment, and `[calico]` of
//! Neutron's files, which the driver and the DHCP agent read.

use super::access::EtcdSettings;
use super::given::environment;
use super::here::text;
use crate::action::pid_files::runs;
use crate::host::Host;
use crate::host::etcd::Access;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use wavegate_common::etcd::Calico;
use wavegate_common::ini;

/// Felix's configuration.
const FELIX: &str = "/etc/calico/felix.cfg";

/// Neutron's, the one that counts more last: it is named later on the services' command lines.
const NEUTRON: [&str; 2] = ["/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"];

/// The port that the driver asks where `etcd_port` is not set and its version is not known.
const NEUTRON_PORT: &str = "2379";

/// An etcd that something asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// Who asks.
    pub access: Access,
    /// What asks: `felix`, `neutron`, or `agent.toml` where that names it.
    pub by: String,
    /// The file that says so.
    pub file: String,
}

/// Where Calico's software is configured to ask etcd; empty where nothing names one. Where the agent's settings name endpoints,
/// they are asked in place of what is found. `software` is what is installed of Calico: by its version goes what is asked where
/// the configuration leaves that out.
///
/// # Errors
/// If a file can't be read.
pub fn calico(host: &dyn Host, settings: &EtcdSettings, software: Option<Calico>) -> Result<Vec<Asked>> {
    let mut all = felix(host)?;
    all.extend(neutron(host, software.map_or(NEUTRON_PORT, Calico::driver_port))?);
    if !settings.endpoints.is_empty() {
        let access = all.into_iter().map(|asked| asked.access).find(|access| *access != Access::default());
        let access = access.unwrap_or_default();
        let named = |url: &String| Asked {
            url: url.clone(),
            access: access.clone(),
            by: "agent.toml".to_owned(),
            file: crate::config::DEFAULT_FILE.to_owned(),
        };
        all = settings.endpoints.iter().map(named).collect();
    }
    for asked in &mut all {
        asked.access = settings.over(std::mem::take(&mut asked.access));
    }
    Ok(all)
}

fn felix(host: &dyn Host) -> Result<Vec<Asked>> {
    let mut found = text(host, FELIX)?.map(|text| felix_file(&text)).unwrap_or_default();
    let mut file = FELIX.to_owned();
    for process in host.processes().iter().filter(|process| runs(process, "calico-felix")) {
        let path = format!("/proc/{}/environ", process.pid);
        let environ = environment(&text(host, &path).ok().flatten().unwrap_or_default());
        let of_felix = environ.iter().filter_map(|(name, value)| Some((name.strip_prefix("FELIX_")?, value)));
        for (name, value) in of_felix {
            if found.insert(name.to_lowercase(), value.clone()).is_none_or(|before| before != *value)
                && name.to_lowercase().starts_with("etcd")
            {
                file.clone_from(&path);
            }
        }
    }
    Ok(of_felix(&found, &file))
}

/// Felix's keys in lower case: it takes them in any, and in any section.
fn felix_file(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned())).collect()
}

fn of_felix(found: &BTreeMap<String, String>, file: &str) -> Vec<Asked> {
    let get = |name: &str| found.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if get("datastoretype").is_some_and(|kind| !kind.starts_with("etcd")) {
        return Vec::new();
    }
    let path = |name: &str| get(name).filter(|value| *value != "none").map(PathBuf::from);
    let access = Access {
        ca: path("etcdcafile"),
        certificate: path("etcdcertfile").zip(path("etcdkeyfile")),
        user: None,
    };
    let scheme = get("etcdscheme").unwrap_or("http");
    let urls: Vec<String> = match (get("etcdendpoints").filter(|urls| *urls != "none"), get("etcdaddr")) {
        (Some(urls), _) => urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect(),
        (None, Some(address)) => vec![format!("{scheme}://{address}")],
        (None, None) => Vec::new(),
    };
    let urls = urls.into_iter().filter(|url| url.contains("://"));
    urls.map(|url| Asked { url, access: access.clone(), by: "felix".to_owned(), file: file.to_owned() })
        .collect()
}

fn neutron(host: &dyn Host, default_port: &str) -> Result<Vec<Asked>> {
    let mut found = BTreeMap::new();
    let mut file = None;
    for path in NEUTRON {
        let Some(text) = text(host, path)? else { continue };
        for key in ["etcd_host", "etcd_port", "etcd_key_file", "etcd_cert_file", "etcd_ca_cert_file"] {
            // A file that oslo.config would refuse too names nothing.
            if let Ok(Some(value)) = ini::get(&text, "calico", key) {
                found.insert(key, value);
                file = Some(path);
            }
        }
    }
    Ok(file.and_then(|file| of_neutron(&found, file, default_port)).into_iter().collect())
}

fn of_neutron(found: &BTreeMap<&str, String>, file: &str, default_port: &str) -> Option<Asked> {
    let get = |name: &str| found.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    if get("etcd_host").is_none() && get("etcd_port").is_none() {
        return None;
    }
    let path = |name: &str| get(name).map(PathBuf::from);
    let access = Access {
        ca: path("etcd_ca_cert_file"),
        certificate: path("etcd_cert_file").zip(path("etcd_key_file")),
        user: None,
    };
    // The driver speaks TLS exactly when it is given a certificate or an authority (networking_calico/etcdv3.py).
    let scheme = if access == Access::default() { "http" } else { "https" };
    let (name, port) = (get("etcd_host").unwrap_or("localhost"), get("etcd_port").unwrap_or(default_port));
    let name =
        if name.contains(':') && !name.starts_with('[') { format!("[{name}]") } else { name.to_owned() };
    Some(Asked {
        url: format!("{scheme}://{name}:{port}"),
        access,
        by: "neutron".to_owned(),
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, FakeMachine};
    use proptest::prelude::*;
    use wavegate_common::facts::Component;

    fn asked(files: &[(&str, &str)], settings: &EtcdSettings) -> String {
        asked_by(files, settings, "")
    }

    /// With this version of networking-calico, if any.
    fn asked_by(files: &[(&str, &str)], settings: &EtcdSettings, driver: &str) -> String {
        let software = Calico::of(&[(Component::NetworkingCalico, driver.to_owned())].into());
        let mut machine = FakeMachine::debian();
        files.iter().for_each(|(path, text)| machine.put_file(*path, *text));
        let line = |asked: Asked| {
            let path = |path: PathBuf| path.display().to_string();
            let access =
                [asked.access.ca.map(path), asked.access.certificate.map(|(c, k)| path(c) + "+" + &path(k))];
            let access = access.into_iter().flatten().collect::<Vec<_>>().join(" ");
            format!("{} {} {} {access}", asked.by, asked.url, asked.file).trim_end().to_owned()
        };
        calico(&FakeHost::new(machine), settings, software)
            .expect("read")
            .into_iter()
            .map(line)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn felix_and_neutron_say_where_they_ask() {
        let none = EtcdSettings::default();
        assert_eq!(asked(&[], &none), "");
        assert_eq!(asked(&[(FELIX, "[global]\nLogSeverityFile = none\n")], &none), "");
        assert_eq!(asked(&[(FELIX, "DatastoreType = kubernetes\nEtcdAddr = a:1\n")], &none), "");
        let felix = "[global]\nDatastoreType = etcdv3\n# EtcdAddr = x:1\netcdendpoints = https://a:2379, https://b:2379/\n\
                     EtcdCaFile = /ca.pem\nEtcdCertFile = /c.pem\nEtcdKeyFile = /k.pem\nEtcdAddr = c:4001\n";
        let neutron = "[DEFAULT]\n[calico]\netcd_host = 10.0.0.1\n";
        let ml2 = "[calico]\netcd_port = 4001\netcd_ca_cert_file = /n-ca.pem\n";
        let all = [(FELIX, felix), (NEUTRON[0], neutron), (NEUTRON[1], ml2)];
        insta::assert_snapshot!(asked(&all, &none), @r"
        felix https://a:2379 /etc/calico/felix.cfg /ca.pem /c.pem+/k.pem
        felix https://b:2379 /etc/calico/felix.cfg /ca.pem /c.pem+/k.pem
        neutron https://10.0.0.1:4001 /etc/neutron/plugins/ml2/ml2_conf.ini /n-ca.pem
        ");
        insta::assert_snapshot!(asked(&[(FELIX, "EtcdAddr = c:4001\n"), (NEUTRON[0], neutron)], &none), @r"
        felix http://c:4001 /etc/calico/felix.cfg
        neutron http://10.0.0.1:2379 /etc/neutron/neutron.conf
        ");
        let named = EtcdSettings {
            ca: Some("/own.pem".into()),
            endpoints: vec!["https://e:2379".to_owned()],
            ..none
        };
        insta::assert_snapshot!(asked(&all, &named), @"agent.toml https://e:2379 /etc/wavegate/agent.toml /own.pem /c.pem+/k.pem");
    }

    #[test]
    fn a_driver_that_is_told_no_port_asks_that_of_its_version() {
        let url = |neutron: &str, driver: &str| {
            let text = asked_by(&[(NEUTRON[0], neutron)], &EtcdSettings::default(), driver);
            text.split(' ').nth(1).expect("a URL").to_owned()
        };
        let host = "[calico]\netcd_host = 127.0.0.1\n";
        assert_eq!(url(host, "1:1.4.3~trusty"), "http://127.0.0.1:4001");
        assert_eq!(url(host, "3.0.1"), "http://127.0.0.1:4001");
        assert_eq!(url(host, "3.1.0"), "http://127.0.0.1:2379");
        assert_eq!(
            url("[calico]\netcd_host = 127.0.0.1\netcd_port = 2379\n", "1.4.3"),
            "http://127.0.0.1:2379"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(felix in any::<String>(), neutron in "(\\[calico\\]|etcd_host|etcd_port|=| |:|a|\n){0,12}") {
            let _ = asked(&[(FELIX, &felix), (NEUTRON[0], &neutron)], &EtcdSettings::default());
            let _ = asked(&[(FELIX, &neutron), (NEUTRON[1], &felix)], &EtcdSettings::default());
        }
    }
}
