//! Open files: whether the system lets the coordinator have as many connections as its configuration says. What the limit is comes
//! from the system; nothing else is read here.

use crate::config::Config;
use crate::rpc::{handshakes, places, socket};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files and sockets that are no connections: the store, the log, the listeners, what the runtime needs.
const OTHERS: usize = 64;

/// What the limit on open files means for a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// So many agents can be connected.
    pub agents: usize,
    /// The limit.
    pub limit: u64,
}

/// Raises the limit on open files as far as the system lets us and `config` needs it, and says for how many agents there is room.
///
/// # Errors
/// A text for whoever runs it, if there is room for none.
pub fn make_room(config: &Config) -> anyhow::Result<Room> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = u64::try_from(beside_agents().saturating_add(config.max_connections)).unwrap_or(u64::MAX);
    let limit = if soft < wanted { wanted.min(hard) } else { soft };
    if limit > soft {
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
    }
    let agents = agents_within(limit, config.max_connections);
    anyhow::ensure!(
        agents > 0,
        "the limit on open files is {limit}, which leaves room for no agent; it must be {wanted} for max_connections = {}: raise \
         LimitNOFILE of the service (systemctl edit wavegate-coordinator), or `ulimit -n` where it is started by hand",
        config.max_connections
    );
    Ok(Room { agents, limit })
}

/// Open files that are no agent's connection, at most.
const fn beside_agents() -> usize {
    OTHERS
        + handshakes::HANDSHAKES
        + places::OPERATORS
        + places::STRANGERS
        + places::TURNED_AWAY
        + socket::CONNECTIONS
}

fn agents_within(limit: u64, most: usize) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(beside_agents()).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_get_what_the_others_leave() {
        let beside = beside_agents();
        let within = |limit: usize, most| agents_within(limit as u64, most);
        assert_eq!(within(beside + 100, 12_000), 100);
        assert_eq!(within(beside + 100, 50), 50);
        assert_eq!(within(beside, 50), 0);
        assert_eq!(within(0, 50), 0);
        let packaged = Config::default().max_connections;
        assert_eq!(within(32_768, packaged), packaged, "the unit's LimitNOFILE");
    }
}
