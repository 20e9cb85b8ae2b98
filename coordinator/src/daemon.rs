//! The coordinator as a whole: store, authority, engine and services, started together and ended together. Several may
//! run in one process.

use crate::by_hand;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{Engine, Input, Port, Timing};
use crate::owner;
use crate::pki::Authority;
use crate::rpc::listen::{self, Door};
use crate::rpc::places::Places;
use crate::rpc::services::services;
use crate::rpc::socket;
use crate::store::Store;
use crate::watchdog::Watchdog;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use wavegate_common::id::LeaderId;
use wavegate_proto::tls;

const TICK: Duration = Duration::from_secs(1);
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);
/// How long calls that are being answered may take when the coordinator ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// A coordinator that runs.
pub struct Daemon {
    address: SocketAddr,
    socket: PathBuf,
    port: Port,
    store: Arc<Store>,
    killed: Arc<AtomicBool>,
    engine: thread::JoinHandle<()>,
    engine_ended: oneshot::Receiver<()>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<()>>,
}

impl Daemon {
    /// Starts a coordinator; it listens when this returns.
    ///
    /// # Errors
    /// What could not be read, opened or listened on, and why.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self> {
        Self::start_watched(config, clock, None).await
    }

    /// Starts a coordinator whose loop gives signs of life.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_watched(config: &Config, clock: Clock, watchdog: Option<Watchdog>) -> Result<Self> {
        owner::may_run(&config.state_directory)?;
        let authority =
            Arc::new(Authority::load(&config.pki_folder()).context("cannot load the certificate authority")?);
        let store = by_hand::open(config)?;
        Self::start_on(config, clock, authority, Arc::new(store), watchdog).await
    }

    /// Starts a coordinator on a store that is open.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_on(
        config: &Config,
        clock: Clock,
        authority: Arc<Authority>,
        store: Arc<Store>,
        watchdog: Option<Watchdog>,
    ) -> Result<Self> {
        let (listener, local) = doors(config)?;
        let address = listener.local_addr().context("cannot find out the address that is listened on")?;
        let credentials = authority.current_coordinator(&config.pki_folder(), clock.machine());
        let credentials = credentials.context("cannot get the coordinator's certificate ready")?;
        let server_config = tls::server(&credentials).context("cannot set up TLS")?;
        let server_config = Arc::new(ArcSwap::from(server_config));
        let timing = Timing {
            heartbeat_interval_s: config.heartbeat_interval_s,
            lost_after_ms: config.lost_after_s.saturating_mul(1000),
        };
        let fleet = authority.fleet().clone();
        let leader = leader_id().context("the system gives no random numbers for this start's identity")?;
        let engine = Engine::load(store.clone(), authority.clone(), clock.clone(), timing, leader);
        let engine = engine.context("cannot load the state of the rollout")?;
        let engine = engine.asking_for_approvals(config.approvals).watched_by(watchdog);
        let (port, inputs) = engine.port();
        let killed = Arc::new(AtomicBool::new(false));
        let (ended, engine_ended) = oneshot::channel();
        let engine = thread::Builder::new().name("engine".to_owned()).spawn({
            let killed = killed.clone();
            move || {
                engine.run(inputs, &killed);
                drop(ended);
            }
        });
        let engine = engine.context("cannot start the engine's thread")?;
        let (stop, _) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let services = services(&port, &fleet).await.context("cannot set up the services")?;
        let services = Arc::new(services);
        let door = Door {
            tls: server_config.clone(),
            services: services.clone(),
            places: Places::new(config.max_connections),
            port: port.clone(),
        };
        let (served, served_here) =
            (door.serve(listener, stop.subscribe()), socket::local(local, services, stop.subscribe()));
        tasks.spawn(async move {
            served.await;
            Ok(())
        });
        tasks.spawn(async move {
            served_here.await;
            Ok(())
        });
        tasks.spawn(tick(port.clone(), stopped(&stop)));
        tasks.spawn(renew(authority, config.pki_folder(), clock, server_config, stopped(&stop)));
        let socket = config.socket.clone();
        Ok(Self { address, socket, port, store, killed, engine, engine_ended, stop, tasks })
    }

    /// Where it listens for agents and operators.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its store, to read.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Waits until a part of it has ended by itself, which none should.
    ///
    /// # Errors
    /// What has ended, and why.
    pub async fn failed(&mut self) -> Result<()> {
        tokio::select! {
            _ = &mut self.engine_ended => anyhow::bail!("the engine has ended; the log says why"),
            task = self.tasks.join_next() => match task {
                Some(Ok(result)) => result.and_then(|()| anyhow::bail!("a service has ended")),
                Some(Err(error)) => Err(error).context("a service failed"),
                None => anyhow::bail!("no service is left"),
            },
        }
    }

    /// Ends it: what was received is done and stored, calls are answered, connections are closed.
    ///
    /// # Errors
    /// If a part of it had failed.
    pub async fn shutdown(mut self) -> Result<()> {
        // If the engine has ended already there is nobody to tell.
        drop(self.port.send(Input::Shutdown).await);
        self.stop.send_replace(true);
        let answered = tokio::time::timeout(LAST_ANSWERS, async {
            while let Some(task) = self.tasks.join_next().await {
                task.context("a service failed")??;
            }
            anyhow::Ok(())
        });
        let result = answered.await.unwrap_or(Ok(()));
        self.tasks.shutdown().await;
        let joined = tokio::task::spawn_blocking(move || self.engine.join()).await;
        self.store.shut();
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket could not be removed");
        }
        result?;
        match joined {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => anyhow::bail!("the engine failed; the log says why"),
        }
    }

    /// Ends it as a crash would: what was received and not yet worked on is lost, nobody is told.
    pub async fn kill(mut self) {
        self.killed.store(true, Ordering::SeqCst);
        self.tasks.shutdown().await;
        drop(self.port.send(Input::Shutdown).await);
        // A failed engine is as dead as is wanted here.
        drop(tokio::task::spawn_blocking(move || self.engine.join()).await);
        self.store.shut();
    }
}

fn doors(config: &Config) -> Result<(TcpListener, UnixListener)> {
    let listener = listen::bind(config.listen)
        .with_context(|| format!("cannot listen on {} (the configuration's listen)", config.listen))?;
    let local = socket::bind_socket(&config.socket).with_context(|| {
        format!("cannot listen on {} (the configuration's socket)", config.socket.display())
    })?;
    Ok((listener, local))
}

/// This start's own identity.
fn leader_id() -> Result<LeaderId, getrandom::Error> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits)?;
    Ok(LeaderId::new(u64::from_le_bytes(bits)))
}

/// Is done when it is to stop.
fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // Whether it was said or the sender is gone: it is over.
        drop(stop.wait_for(|stop| *stop).await);
    }
}

async fn tick(port: Port, stopped: impl Future<Output = ()> + Send) -> Result<()> {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = ticks.tick() => port.tick(),
            () = &mut stopped => return Ok(()),
        }
    }
}

/// Renews the coordinator's certificate while it runs; new connections see the new one.
async fn renew(
    authority: Arc<Authority>,
    folder: PathBuf,
    clock: Clock,
    current: Arc<ArcSwap<ServerConfig>>,
    stopped: impl Future<Output = ()> + Send,
) -> Result<()> {
    let mut checks = tokio::time::interval(RENEWAL_CHECK);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = checks.tick() => {}
            () = &mut stopped => return Ok(()),
        }
        let credentials = authority.current_coordinator(&folder, clock.machine());
        match credentials.and_then(|credentials| Ok(tls::server(&credentials)?)) {
            Ok(config) => current.store(config),
            Err(error) => {
                let error = crate::engine::told(&error);
                tracing::error!(error, "the coordinator's certificate could not be looked at or renewed");
            }
        }
    }
}
