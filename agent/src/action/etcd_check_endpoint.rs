//! `etcd.check_endpoint`: evidence that etcd answers clients of this node: through each of their endpoints a key is written, read
//! and watched, and it is the cluster that the plan saw that answers. A health answer would not do: through a proxy it is the
//! cluster's, and proxies of 2.0 delivered no watch after their cluster had changed (Felix issue 444).

mod probe;

use super::Context;
use super::etcd_member::gate::{planned, unknown};
use super::etcd_member::waiting::Waiting;
use crate::etcd::{Here, calico, here};
use crate::host::etcd::Endpoint;
use probe::{Api, Probe};
use std::collections::BTreeMap;
use std::time::Duration;
use wavegate_common::action::EtcdCheckEndpoint;
use wavegate_common::etcd::{Calico, Part};
use wavegate_common::outcome::StepError;

/// How long one answer may take, that of a watch too.
const ANSWER: Duration = Duration::from_secs(5);

/// Reads and watches through every endpoint.
///
/// # Errors
/// [`StepError`] that names the endpoint and what it did not do when the time is up; at once if the node has no endpoint, or
/// another cluster answers than the planned one.
pub fn verify(action: &EtcdCheckEndpoint, cx: &mut Context<'_>) -> Result<String, StepError> {
    let endpoints = endpoints(cx)?;
    let mut waiting = Waiting::new(action.within_s, cx);
    let mut evidence = Vec::new();
    for (url, (endpoint, apis)) in &endpoints {
        let probe = Probe::new(endpoint, cx);
        let told = loop {
            let why = match probe.through(apis, cx) {
                Ok(told) => break told,
                Err(error) => error.to_string(),
            };
            if !waiting.goes_on(&why, cx) {
                return Err(fails(url, &why, action.within_s));
            }
        };
        if let Some(planned) = planned(cx).filter(|planned| planned.cluster != told.cluster) {
            return Err(StepError {
                what: format!("at {url} cluster {} answers, and the plan saw {}", told.cluster, planned.cluster),
                output: Vec::new(),
                next: "see where that leads (of a proxy: its --initial-cluster, and the file 'cluster' in its data \
                       directory), and plan again"
                    .to_owned(),
            });
        }
        evidence.push(format!("{url} by {}", told.api));
    }
    Ok(format!("a key was written, read and watched through {}", evidence.join(", ")))
}

/// The endpoints of the node's clients by their URL, each with the APIs to try.
fn endpoints(cx: &Context<'_>) -> Result<BTreeMap<String, (Endpoint, Vec<Api>)>, StepError> {
    let found = here(cx.host, cx.os, cx.etcd).map_err(|error| unknown(&error))?;
    let software = cx.planned.and_then(|node| Calico::of(&node.versions));
    let asked = calico(cx.host, cx.etcd, software).map_err(|error| unknown(&error))?;
    let mut all = BTreeMap::new();
    let calicos = by_calico(software);
    for asked in asked {
        let endpoint = Endpoint { url: asked.url.clone(), access: asked.access, timeout: ANSWER };
        all.insert(asked.url, (endpoint, calicos.clone()));
    }
    let passes_on = |here: &Here| matches!(here.part, Part::Proxy | Part::Gateway);
    if let Some(here) = found.filter(passes_on) {
        let apis = if here.part == Part::Proxy { vec![Api::V2] } else { calicos };
        let endpoint = Endpoint { url: here.local.clone(), access: here.access, timeout: ANSWER };
        all.insert(here.local, (endpoint, apis));
    }
    if all.is_empty() {
        return Err(StepError {
            what: "where Calico's software on this node asks etcd is not configured anywhere that was looked at: \
                   /etc/calico/felix.cfg, the environment of calico-felix, [calico] of /etc/neutron/neutron.conf and \
                   /etc/neutron/plugins/ml2/ml2_conf.ini"
                .to_owned(),
            output: Vec::new(),
            next: "set etcd.endpoints in the agent.toml of this node to where it is, restart the agent, then retry".to_owned(),
        });
    }
    Ok(all)
}

/// What Calico's software of this node speaks. Where that is not known either will do.
fn by_calico(software: Option<Calico>) -> Vec<Api> {
    match software.map(Calico::speaks_v3) {
        Some(false) => vec![Api::V2],
        Some(true) => vec![Api::V3],
        None => vec![Api::V3, Api::V2],
    }
}

fn fails(url: &str, why: &str, within_s: u64) -> StepError {
    StepError {
        what: format!("clients of this node are not served at {url} within {within_s} s: {why}"),
        output: Vec::new(),
        next: "see on the node whether what listens there runs and leads to members that run ('ss -lnt', its log); where \
               nothing is served that a client asks for, the version of etcd is too new for it: then the members can still go \
               back as long as one of them runs the older version"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
