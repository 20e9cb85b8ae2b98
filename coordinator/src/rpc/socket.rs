//! The operators' unix socket: making it, and accepting connections on it. Who may call what is `auth`'s.

use super::listen::ready;
use super::peer::Peer;
use super::serve::{Lines, Over, serve};
use super::services::{Gate, Services};
use nix::unistd::{Uid, User};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tonic_health::pb::health_server::Health;
use tonic_reflection::server::v1::ServerReflection;

/// Connections at a time.
pub const CONNECTIONS: usize = 64;

/// Makes the operators' socket with mode 0600. A left-over one is replaced, one that is served is not.
///
/// # Errors
/// Whatever the file system says; `AddrInUse` if somebody serves it.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something else that is no socket",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Made under another name first, so that it is never there with a mode that lets others in.
    let new = beside(path);
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}

/// Serves connections on the unix socket, until `stop` says so; then those that are open are answered to their end.
pub async fn local<H: Health, R: ServerReflection>(
    listener: UnixListener,
    services: Arc<Services<H, R>>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { continue };
        match stream.peer_cred() {
            Ok(peer) => {
                let gate = Gate::new(services.clone(), local_peer(peer.uid()));
                let mut stop = stop.clone();
                connections.spawn(async move {
                    let over = async move {
                        // Whether it was said or the sender is gone: it is over.
                        drop(stop.wait_for(|stop| *stop).await);
                        Over::Asked
                    };
                    serve(stream, Lines::of_others(), gate, over).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a local connection does not say whose it is; it is closed");
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> Option<(UnixStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    let (stream, _) = ready(listener.accept().await).await?;
    Some((stream, place))
}

fn local_peer(uid: u32) -> Peer {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
    Peer::Local { uid, name, allowed: uid == 0 || uid == Uid::effective().as_raw() }
}
