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
use wavegate_common::ini;

/// Felix's configuration.
const FELIX: &str = "/etc/calico/felix.cfg";

/// Neutron's, the one that counts more last: it is named later on the services' command lines.
const NEUTRON: [&str; 2] = ["/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"];

/// The port of networking-calico's `etcd_port` where that is not set: up to 2.0 it was 4001, now it is 2379; 4001 is one that
/// etcd from 3.0 on does not serve by itself.
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
/// they are asked in place of what is found.
///
/// # Errors
/// If a file can't be read.
pub fn calico(host: &dyn Host, settings: &EtcdSettings) -> Result<Vec<Asked>> {
    let mut all = felix(host)?;
    all.extend(neutron(host)?);
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

fn neutron(host: &dyn Host) -> Result<Vec<Asked>> {
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
    Ok(file.and_then(|file| of_neutron(&found, file)).into_iter().collect())
}

fn of_neutron(found: &BTreeMap<&str, String>, file: &str) -> Option<Asked> {
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
    let (name, port) = (get("etcd_host").unwrap_or("localhost"), get("etcd_port").unwrap_or(NEUTRON_PORT));
    let name =
        if name.contains(':') && !name.starts_with('[') { format!("[{name}]") } else { name.to_owned() };
    Some(Asked {
        url: format!("{scheme}://{name}:{port}"),
        access,
        by: "neutron".to_owned(),
        file: file.to_owned(),
    })
}
