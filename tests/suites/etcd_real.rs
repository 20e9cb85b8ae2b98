//! The agent's door to etcd and its view of a cluster, against real servers on loopback: 3.3, 3.4 and 3.5 of Debian's packages.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest, Sha256};
use wavegate_agent::action::{self, Check, Context, Forecast, Memory};
use wavegate_agent::etcd::{EtcdSettings, view};
use wavegate_agent::host::Host;
use wavegate_agent::host::etcd::{Access, Endpoint, EtcdError, V2Answer, V2Call};
use wavegate_agent::host::fake::FakeMachine;
use wavegate_agent::host::real::RealHost;
use wavegate_agent::os::Os;
use wavegate_agent::policy::InForce;
use wavegate_common::action::{Action, EtcdCheckEndpoint};
use wavegate_common::etcd::{ClusterView, EtcdVersion, unfit};
use wavegate_common::policy::Policy;
use wavegate_tests::etcd::{Cluster, LINES, Layout, Programs};
use wavegate_tests::lab::wait_until;

const SOON: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(60);
/// Entries that a member may be behind.
const LAG: u64 = 10;

fn host() -> RealHost {
    RealHost::new(PathBuf::from("/nonexistent"))
}

fn patient(endpoint: Endpoint, timeout: Duration) -> Endpoint {
    Endpoint { timeout, ..endpoint }
}

fn unfit_of(view: &ClusterView) -> String {
    unfit(view, None, LAG).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The view, once nothing speaks against taking a member down.
fn fit(seeds: &[Endpoint]) -> Result<ClusterView> {
    wait_until("the cluster to be fit", SOON, || {
        let view = view(&host(), seeds)?;
        let unfit = unfit_of(&view);
        ensure!(unfit.is_empty(), "{unfit}");
        Ok(Some(view))
    })
}

/// Which member leads, counted from 0.
fn leader(cluster: &Cluster, view: &ClusterView) -> Result<usize> {
    let id = view.leader().context("no leader")?;
    let name = &view.member(id).context("the leader is no member")?.name;
    (0..view.members.len()).find(|at| cluster.name(*at) == *name).context("the leader is of another cluster")
}

fn version(line: &str) -> EtcdVersion {
    match line {
        "3.3" => EtcdVersion::new(3, 3, 25),
        "3.4" => EtcdVersion::new(3, 4, 23),
        _ => EtcdVersion::new(3, 5, 16),
    }
}

#[test]
fn servers_of_every_line_are_asked_alike() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    for line in LINES {
        let cluster = Cluster::start(&programs, Layout::new(3, line))?;
        let seen = fit(&cluster.endpoints())?;
        the_view_is_whole(&cluster, &seen, line)?;
        a_member_tells_of_itself(&cluster, &seen, line).with_context(|| format!("etcd {line}"))?;
        a_key_is_written_watched_and_taken_away(&cluster).with_context(|| format!("etcd {line}"))?;
        a_snapshot_is_whole(&cluster).with_context(|| format!("etcd {line}"))?;
        leadership_moves(&cluster, &seen).with_context(|| format!("etcd {line}"))?;
    }
    Ok(())
}

fn the_view_is_whole(cluster: &Cluster, view: &ClusterView, line: &str) -> Result<()> {
    let names: Vec<&str> = view.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names.len(), 3);
    for (at, name) in ["m1", "m2", "m3"].into_iter().enumerate() {
        let member =
            view.members.iter().find(|member| member.name == name).context("a member is not seen")?;
        assert_eq!(member.client_urls, [cluster.url(at)]);
        assert_eq!(member.status().map(|status| status.version), Some(version(line)));
        assert_eq!(member.status().and_then(|status| status.applied).is_some(), line != "3.3", "{line}");
        assert!(!member.learner);
    }
    let (major, minor) = version(line).line();
    assert_eq!(view.version, Some(EtcdVersion::new(major, minor, 0)));
    // From 3.4 on the version 2 API is off unless it is asked for.
    assert_eq!(view.v2_keys, (line == "3.3").then_some(false));
    assert_eq!((view.v3_keys, view.auth, view.alarms.len()), (Some(0), Some(false), 0));
    Ok(())
}

fn a_member_tells_of_itself(cluster: &Cluster, view: &ClusterView, line: &str) -> Result<()> {
    let (host, endpoint) = (host(), cluster.endpoint(0));
    let server = host.etcd(&endpoint);
    assert_eq!(server.version()?.server, version(line));
    server.health()?;
    let status = server.status()?;
    assert_eq!((status.cluster, status.leader), (view.id, view.leader()));
    assert_eq!(view.member(status.member).map(|member| member.name.as_str()), Some("m1"));
    assert!(status.term > 1 && status.index > 3 && status.db_bytes > 0, "{status:?}");
    assert_eq!(server.members()?.cluster, view.id);
    Ok(())
}

fn a_key_is_written_watched_and_taken_away(cluster: &Cluster) -> Result<()> {
    let host = host();
    let (one, other) = (cluster.endpoint(0), patient(cluster.endpoint(1), Duration::from_millis(1500)));
    let (one, other) = (host.etcd(&one), host.etcd(&other));
    let revision = one.put("/wavegate/probe/n", "first", TTL)?;
    let next = one.put("/wavegate/probe/n", "second", TTL)?;
    assert_eq!(next, revision + 1);
    assert_eq!(other.watch("/wavegate/probe/n", revision)?, "first");
    assert_eq!(other.watch("/wavegate/probe/n", next)?, "second");
    assert_eq!(other.get("/wavegate/probe/n")?.value.as_deref(), Some("second"));
    assert!(
        cluster.ctl(0, &["get", "/wavegate/probe/n", "-w", "json"])?.contains("\"lease\""),
        "it goes away"
    );
    assert_eq!(one.count()?, 1);
    one.delete("/wavegate/probe/n")?;
    assert_eq!(other.get("/wavegate/probe/n")?.value, None);

    let nothing = other.watch("/wavegate/probe/n", next + 100).err().context("nobody writes it")?;
    assert!(
        matches!(&nothing, EtcdError::Refused { reason, .. } if reason.contains("brought nothing within 2 s")),
        "{nothing}"
    );
    cluster.ctl(0, &["compact", &next.to_string()])?;
    let gone = other.watch("/wavegate/probe/n", revision).err().context("it was compacted")?;
    assert!(matches!(&gone, EtcdError::Refused { reason, .. } if reason.contains("compacted")), "{gone}");
    Ok(())
}

fn a_snapshot_is_whole(cluster: &Cluster) -> Result<()> {
    cluster.ctl(0, &["put", "big", &"x".repeat(100_000)])?;
    let to = cluster.dir().join("backups/1/v3.db");
    let snapshot = host().etcd(&cluster.endpoint(1)).snapshot(&to)?;
    let content = std::fs::read(&to)?;
    assert_eq!(content.len() as u64, snapshot.bytes);
    let digest: String =
        Sha256::digest(&content[..content.len() - 32]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, snapshot.sha256);
    let mode = |path: &std::path::Path| std::fs::metadata(path).map(|file| file.permissions().mode() & 0o777);
    assert_eq!((mode(&to)?, mode(&cluster.dir().join("backups"))?), (0o600, 0o700));
    // etcd's own program compares the digest too.
    let status = cluster.ctl(0, &["snapshot", "status", &to.display().to_string()])?;
    assert!(status.split(", ").count() == 4, "{status}");
    Ok(())
}

fn leadership_moves(cluster: &Cluster, view: &ClusterView) -> Result<()> {
    let (host, from) = (host(), leader(cluster, view)?);
    let to = (from + 1) % 3;
    let id = |at: usize| {
        view.members.iter().find(|member| member.name == cluster.name(at)).map(|member| member.id)
    };
    let (old, new) = (id(from).context("no leader")?, id(to).context("no follower")?);
    let error = host.etcd(&cluster.endpoint(to)).move_leader(new).err().context("it does not lead")?;
    assert!(matches!(&error, EtcdError::Refused { reason, .. } if reason.contains("not leader")), "{error}");
    host.etcd(&cluster.endpoint(from)).move_leader(new)?;
    assert_eq!(fit(&cluster.endpoints())?.leader(), Some(new));
    assert_ne!(old, new);
    Ok(())
}

#[test]
fn a_member_that_is_not_well_is_named() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    let mut cluster = Cluster::start(&programs, Layout::new(3, "3.4"))?;
    let seeds: Vec<Endpoint> =
        cluster.endpoints().into_iter().map(|endpoint| patient(endpoint, Duration::from_secs(2))).collect();
    fit(&seeds)?;

    cluster.stop(1)?;
    let down = wait_until("m2 alone to be unfit", SOON, || {
        let unfit = unfit_of(&view(&host(), &seeds)?);
        // While the others elect a leader they are not well either.
        ensure!(unfit.starts_with("m2: ") && !unfit.contains(';'), "{unfit}");
        Ok(Some(unfit))
    })?;
    let url = cluster.url(1);
    assert_eq!(down, format!("m2: does not answer: Connection refused (os error 111) ({url})"));

    // Held: its address takes connections, and nothing comes. It is asked beside the others, not after them.
    cluster.start_member(1, "3.4")?;
    fit(&seeds)?;
    cluster.server(1)?.hold()?;
    for number in 0..200 {
        host().etcd(&seeds[0]).put(&format!("/numbers/{number}"), "x", TTL)?;
    }
    let started = Instant::now();
    let held = unfit_of(&view(&host(), &seeds)?);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(held, format!("m2: does not answer: no answer within 2 s ({url})"));
    cluster.server(1)?.go_on()?;
    let caught_up = fit(&seeds)?;
    assert!(caught_up.members.iter().all(|member| member.status().is_some_and(|status| status.index > 400)));

    // Two are gone: the one that is left tells that it knows no leader, and what it can without one.
    cluster.stop(0)?;
    cluster.stop(1)?;
    let lost = wait_until("m3 to know no leader", SOON, || {
        let seen = view(&host(), &seeds)?;
        ensure!(seen.leader().is_none(), "{seen:?}");
        Ok(Some(seen))
    })?;
    let unfit = unfit_of(&lost);
    assert!(
        unfit.contains("m3: reports etcdserver: no leader") && unfit.contains("m1: does not answer"),
        "{unfit}"
    );
    assert_eq!((lost.v3_keys, lost.auth), (Some(200), None));
    cluster.stop(2)?;
    let silent = view(&host(), &seeds).expect_err("nobody is there").to_string();
    assert!(
        (0..3).all(|at| silent.contains(&format!("{} does not answer: Connection refused", cluster.url(at)))),
        "{silent}"
    );
    Ok(())
}

#[test]
fn the_cluster_speaks_the_older_version_until_the_last_member_is_upgraded() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    let mut cluster = Cluster::start(&programs, Layout::new(3, "3.3"))?;
    let before = fit(&cluster.endpoints())?;
    for at in 0..3 {
        assert_eq!(fit(&cluster.endpoints())?.version, Some(EtcdVersion::new(3, 3, 0)));
        cluster.stop(at)?;
        cluster.start_member(at, "3.4")?;
    }
    let after = wait_until("the cluster's version to follow", SOON, || {
        let view = fit(&cluster.endpoints())?;
        ensure!(view.version == Some(EtcdVersion::new(3, 4, 0)), "{:?}", view.version);
        Ok(Some(view))
    })?;
    assert_eq!(after.id, before.id);
    let ids = |view: &ClusterView| view.members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before));
    Ok(())
}

#[test]
fn a_full_database_is_an_alarm() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    for line in ["3.3", "3.5"] {
        let cluster = Cluster::start(&programs, Layout::new(1, line).with("--quota-backend-bytes=1000000"))?;
        let full = (0..40).map(|number| cluster.ctl(0, &["put", &number.to_string(), &"x".repeat(100_000)]));
        let refused = full.into_iter().find_map(Result::err).context("it takes more than its quota")?;
        assert!(format!("{refused:#}").contains("space exceeded"), "{refused:#}");
        let view = view(&host(), &cluster.endpoints())?;
        assert_eq!(view.alarms.iter().map(|alarm| alarm.kind.as_str()).collect::<Vec<_>>(), ["NOSPACE"]);
        assert!(unfit_of(&view).contains("alarm NOSPACE of m1 is in force"), "{}", unfit_of(&view));
        let error = host().etcd(&cluster.endpoint(0)).put("more", "x", TTL).expect_err("it is full");
        assert!(
            matches!(&error, EtcdError::Refused { reason, .. } if reason.contains("space exceeded")),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn by_tls_each_side_proves_who_it_is() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    for line in LINES {
        let cluster = Cluster::start(&programs, Layout::new(1, line).by_tls())?;
        let (host, right) = (host(), cluster.endpoint(0));
        let view = fit(&cluster.endpoints())?;
        assert_eq!(view.auth, Some(false));
        host.etcd(&right).snapshot(&cluster.dir().join("b/v3.db"))?;

        let stranger = cluster.authority("stranger")?;
        let wrong_ca = Access { ca: Some(stranger.certificate()), ..right.access.clone() };
        let system = Access { ca: None, ..right.access.clone() };
        let nobody = Access { certificate: None, ..right.access.clone() };
        let another = Access { certificate: Some(stranger.sign("another", &[])?), ..right.access.clone() };
        let missing = Access { ca: Some("/nonexistent/ca.pem".into()), ..right.access.clone() };
        let no_pem = cluster.dir().join("no.pem");
        std::fs::write(&no_pem, "a certificate")?;
        let unreadable = Access { ca: Some(no_pem), ..right.access.clone() };
        for (access, why) in [
            (wrong_ca, "stranger-ca.pem has signed its certificate: name etcd's (agent.toml, [etcd] ca)"),
            (
                system,
                "no authority that this system trusts signed its certificate: name etcd's (agent.toml, [etcd] ca)",
            ),
            (
                nobody,
                "it asks who asks: name a certificate and its key (agent.toml, [etcd] certificate, key)",
            ),
            (another, "it does not take "),
            (missing, "/nonexistent/ca.pem can't be used to ask etcd: No such file or directory"),
            (unreadable, "no.pem can't be used to ask etcd: it has no certificate as PEM"),
        ] {
            let endpoint = Endpoint { access, ..right.clone() };
            let server = host.etcd(&endpoint);
            let errors = [
                server.status().map(|_| ()).expect_err("by gRPC").to_string(),
                server.version().map(|_| ()).expect_err("by HTTP").to_string(),
            ];
            for error in errors {
                assert!(error.contains(why), "etcd {line}: {error}\nlacks: {why}");
            }
        }
        let plain = Endpoint { url: right.url.replace("https", "http"), ..right };
        let server = host.etcd(&plain);
        let errors = [server.status().map(|_| ()), server.version().map(|_| ())];
        for error in errors.map(|error| error.expect_err("it speaks TLS").to_string()) {
            let said = error.contains("an HTTP request to an HTTPS server");
            assert!(
                said || error.ends_with("; if it speaks TLS, its address is https://"),
                "etcd {line}: {error}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_user_is_named_where_etcd_asks_for_one() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    for line in LINES {
        let cluster = Cluster::start(&programs, Layout::new(1, line))?;
        let password = cluster.dir().join("password");
        std::fs::write(&password, "secret\n")?;
        let user = |name: &str, file: &PathBuf| {
            let access = Access { user: Some((name.to_owned(), file.clone())), ..Access::default() };
            Endpoint { access, ..cluster.endpoint(0) }
        };
        let (root, stranger, nobody) =
            (user("root", &password), user("other", &password), cluster.endpoint(0));
        // Settings may name a user before etcd asks for one.
        assert_eq!(fit(std::slice::from_ref(&root))?.auth, Some(false));
        cluster.ctl(0, &["user", "add", "root:secret"])?;
        cluster.ctl(0, &["auth", "enable"])?;

        let host = host();
        assert_eq!(fit(std::slice::from_ref(&root))?.auth, Some(true));
        for endpoint in [&root, &stranger, &nobody] {
            assert!(host.etcd(endpoint).auth()?, "etcd {line}: {endpoint:?}");
        }
        host.etcd(&root).put("k", "v", TTL)?;
        host.etcd(&root).snapshot(&cluster.dir().join("b/v3.db"))?;
        for (endpoint, why) in [(&stranger, "authentication failed"), (&nobody, "user name is empty")] {
            let error = host.etcd(endpoint).get("k").expect_err("it may not");
            assert!(
                matches!(&error, EtcdError::Refused { reason, .. } if reason.contains(why)),
                "etcd {line}: {error}"
            );
            assert!(view(&host, std::slice::from_ref(endpoint)).is_err(), "etcd {line}");
        }
        let refused = host.etcd(&nobody).snapshot(&cluster.dir().join("c/v3.db"));
        assert!(refused.is_err() && !cluster.dir().join("c/v3.db").exists());
    }
    Ok(())
}

fn v2(
    endpoint: &Endpoint,
    method: &'static str,
    path: &str,
    form: &[(&'static str, &str)],
) -> Result<V2Answer> {
    let form = form.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Ok(host().etcd(endpoint).v2(&V2Call { method, path: path.to_owned(), form })?)
}

#[test]
fn the_version_2_api_is_asked_through_a_proxy_and_version_3_through_a_gateway() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    for layout in [
        Layout::new(2, "3.3"),
        Layout::new(2, "3.4").with("--enable-v2"),
        Layout::new(2, "3.5").with("--enable-v2"),
    ] {
        let line = layout.line;
        let mut cluster = Cluster::start(&programs, layout)?;
        let proxy = Endpoint { url: cluster.proxy()?, ..cluster.endpoint(0) };
        let gateway = Endpoint { url: cluster.gateway()?, ..cluster.endpoint(0) };
        let before = fit(&cluster.endpoints())?;
        assert_eq!(before.v2_keys, Some(false), "etcd {line}");

        let path = "/v2/keys/calico/v1/n";
        // A proxy knows its cluster a moment after it listens.
        let put = wait_until("the proxy to pass a write on", SOON, || {
            let answer = v2(&proxy, "PUT", path, &[("value", "a b&c"), ("ttl", "60")])?;
            ensure!(answer.status == 201, "{answer:?}");
            Ok(Some(answer))
        })?;
        assert_eq!(put.cluster, Some(before.id));
        assert!(put.raft_index.is_some_and(|index| index > 1) && put.raft_term.is_some());
        let value = |answer: &V2Answer| -> Result<(String, u64)> {
            let body: serde_json::Value = serde_json::from_str(&answer.body)?;
            let node = &body["node"];
            let index = node["modifiedIndex"].as_u64().context("no index")?;
            Ok((node["value"].as_str().context("no value")?.to_owned(), index))
        };
        let (_, index) = value(&put)?;
        assert_eq!(value(&v2(&proxy, "GET", &format!("{path}?quorum=true"), &[])?)?.0, "a b&c");
        let watched = v2(&proxy, "GET", &format!("{path}?wait=true&waitIndex={index}"), &[])?;
        assert_eq!(value(&watched)?, ("a b&c".to_owned(), index));
        let brief = patient(proxy.clone(), Duration::from_secs(1));
        let nothing = v2(&brief, "GET", &format!("{path}?wait=true&waitIndex={}", index + 100), &[]);
        assert!(
            nothing.is_err_and(|error| error.to_string().contains("no answer within 1 s")),
            "etcd {line}"
        );
        assert_eq!(fit(&cluster.endpoints())?.v2_keys, Some(true), "etcd {line}");
        assert_eq!(v2(&proxy, "DELETE", path, &[])?.status, 200);
        assert_eq!(v2(&proxy, "GET", path, &[])?.status, 404);

        // The version 3 API is not what a proxy passes on, and what a gateway does.
        let host = host();
        let error = host.etcd(&proxy).status().expect_err("a proxy has none");
        assert!(matches!(error, EtcdError::Unsupported { .. }), "etcd {line}: {error}");
        let through = view(&host, std::slice::from_ref(&proxy))?;
        assert_eq!((through.id, through.members.len(), through.v3_keys), (before.id, 2, None), "etcd {line}");
        let revision = host.etcd(&gateway).put("/wavegate/probe/n", "x", TTL)?;
        assert_eq!(host.etcd(&gateway).watch("/wavegate/probe/n", revision)?, "x");
        assert_eq!(host.etcd(&gateway).get("/wavegate/probe/n")?.cluster, before.id);
        assert_eq!(fit(&[gateway])?.members.len(), 2);
    }
    Ok(())
}

/// `etcd.check_endpoint` on this machine, whose Calico is said to ask at these URLs; its evidence, or what is wrong.
fn check_endpoints(urls: &[&str], within_s: u64) -> Result<Result<String, String>> {
    let host = host();
    let etcd = EtcdSettings {
        endpoints: urls.iter().map(|url| (*url).to_owned()).collect(),
        ..EtcdSettings::default()
    };
    let policy = Policy::parse("policy.toml", include_str!("../../packaging/config/policy.toml"))?;
    let mut context = Context {
        host: &host,
        // No service is asked for: etcd's processes are there.
        os: &Os { platform: FakeMachine::debian_etcd().platform },
        policy: &InForce { policy: policy.into(), file: "policy.toml".into(), built_in: true },
        node: None,
        planned: None,
        etcd: &etcd,
        transaction: "r1/etcd/1/check-endpoint".to_owned(),
        timeout: SOON,
        patience: Duration::ZERO,
        output: &mut |_| (),
        changed_at: &|_| None,
        forecast: &Forecast::default(),
        memory: &Memory::default(),
        earlier: &[],
        to_come: &[],
    };
    let action = Action::EtcdCheckEndpoint(EtcdCheckEndpoint { within_s });
    match action::check(&action, &mut context) {
        Ok(Check::AlreadySo { evidence }) => Ok(Ok(evidence)),
        Ok(Check::WouldChange { changes }) => anyhow::bail!("a check would change {changes:?}"),
        Err(error) => Ok(Err(error.what)),
    }
}

#[test]
fn endpoints_are_proven_by_a_read_and_a_watch_through_them() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    let mut cluster = Cluster::start(&programs, Layout::new(1, "3.4").with("--enable-v2"))?;
    let (member, proxy, gateway) = (cluster.url(0), cluster.proxy()?, cluster.gateway()?);
    let evidence = check_endpoints(&[&member, &proxy, &gateway], 30)?.map_err(anyhow::Error::msg)?;
    for by in [
        format!("{member} by version 3 of the API"),
        format!("{proxy} by version 2 of the API"),
        format!("{gateway} by version 3 of the API"),
    ] {
        assert!(evidence.contains(&by), "{evidence}");
    }
    let seen = fit(&cluster.endpoints())?;
    assert_eq!(seen.v3_keys, Some(0), "what was written is taken away");
    let root = v2(&cluster.endpoint(0), "GET", "/v2/keys/", &[])?;
    assert!(!root.body.contains("wavegate"), "version 2 keeps no directory: {}", root.body);

    // A proxy and a gateway go on listening while no member is behind them.
    cluster.stop(0)?;
    for url in [&proxy, &gateway] {
        let error = check_endpoints(&[url], 1)?.err().context("nobody is behind it")?;
        // The proxy is found here by itself, too, where no member runs on the machine.
        let named = |url: &str| format!("clients of this node are not served at {url} within 1 s: ");
        assert!([url, &proxy].iter().any(|url| error.starts_with(&named(url))), "{error}");
    }
    cluster.start_member(0, "3.4")?;
    check_endpoints(&[&proxy, &gateway], 30)?.map_err(anyhow::Error::msg)?;
    Ok(())
}

#[test]
fn a_cluster_looks_the_same_by_both_apis() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    let mut cluster = Cluster::start(&programs, Layout::new(3, "3.3"))?;
    let both = |seeds: &[Endpoint]| -> Result<(ClusterView, ClusterView)> {
        Ok((view(&host(), seeds)?, wavegate_agent::etcd::v2::view(&host(), seeds)?))
    };
    fit(&cluster.endpoints())?;
    let (by_3, by_2) = both(&cluster.endpoints())?;
    assert_eq!(unfit_of(&by_2), "");
    assert_eq!(
        (by_2.id, by_2.version, by_2.leader(), by_2.v2_keys),
        (by_3.id, by_3.version, by_3.leader(), by_3.v2_keys)
    );
    for (two, three) in by_2.members.iter().zip(&by_3.members) {
        assert_eq!((two.id, &two.name), (three.id, &three.name));
        assert_eq!((&two.peer_urls, &two.client_urls), (&three.peer_urls, &three.client_urls));
        let versions = [two, three].map(|member| member.status().map(|status| status.version));
        assert_eq!(versions, [Some(version("3.3")); 2]);
    }
    cluster.stop(2)?;
    let named = wait_until("m3 alone to be unfit by both", SOON, || {
        let (by_3, by_2) = both(&cluster.endpoints())?;
        let (by_3, by_2) = (unfit_of(&by_3), unfit_of(&by_2));
        ensure!(!by_3.contains(';') && !by_2.contains(';'), "{by_3} and {by_2}");
        Ok(Some([by_3, by_2]))
    })?;
    assert!(named.iter().all(|unfit| unfit.starts_with("m3: does not answer: ")), "{named:?}");
    Ok(())
}

/// A server that passes one connection on to another, and breaks it off after so many bytes of answers.
fn cut_after(to: &str, bytes: usize) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let to = to.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || -> Result<()> {
        let (client, _) = listener.accept()?;
        let server = TcpStream::connect(to)?;
        let (mut from, mut into) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut from, &mut into));
        let passed = std::io::copy(&mut server.try_clone()?.take(bytes as u64), &mut client.try_clone()?)?;
        ensure!(passed == bytes as u64, "it ended by itself");
        (&client).flush()?;
        client.shutdown(std::net::Shutdown::Both)?;
        server.shutdown(std::net::Shutdown::Both)?;
        Ok(())
    });
    Ok(url)
}

#[test]
fn a_snapshot_that_is_cut_short_leaves_no_file() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    let cluster = Cluster::start(&programs, Layout::new(1, "3.5"))?;
    for number in 0..10 {
        cluster.ctl(0, &["put", &number.to_string(), &"x".repeat(100_000)])?;
    }
    let directory = cluster.dir().join("backups");
    for bytes in [50_000, 500_000] {
        let endpoint = Endpoint { url: cut_after(&cluster.url(0), bytes)?, ..cluster.endpoint(0) };
        let error = host().etcd(&endpoint).snapshot(&directory.join("v3.db")).expect_err("it was cut");
        assert!(matches!(error, EtcdError::Unreachable { .. }), "{error}");
        assert_eq!(std::fs::read_dir(&directory)?.count(), 0, "{error}");
    }
    let whole = host().etcd(&cluster.endpoint(0)).snapshot(&directory.join("v3.db"))?;
    assert!(whole.bytes > 1_000_000);
    Ok(())
}

#[test]
fn a_call_may_come_from_within_a_runtime() -> Result<()> {
    let Some(programs) = Programs::for_suite()? else { return Ok(()) };
    let cluster = Cluster::start(&programs, Layout::new(1, "3.5"))?;
    let endpoint = cluster.endpoint(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let asked = runtime.block_on(async {
        let host = host();
        let within = host.etcd(&endpoint).status()?.version;
        let endpoint = endpoint.clone();
        let blocking = tokio::task::spawn_blocking(move || self::host().etcd(&endpoint).status());
        anyhow::Ok((within, blocking.await??.version))
    })?;
    assert_eq!(asked, (version("3.5"), version("3.5")));
    Ok(())
}
