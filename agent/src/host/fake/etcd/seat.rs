//! How a machine takes part in a cluster: a member is up while its service runs on the machine, in the version that its program
//! prints, and starts only with the data that it had.

use super::super::FakeMachine;
use super::{FakeCluster, Stopped};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wavegate_common::etcd::{EtcdVersion, MemberId};

/// What a machine is to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has this member.
    Member(MemberId),
    /// It runs `etcd --proxy`.
    Proxy,
    /// It runs `etcd gateway`.
    Gateway,
    /// It asks a member elsewhere.
    Client,
}

/// What a member without data does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// It ends: the member has already been bootstrapped.
    Ends,
    /// It comes back as if it had never been there, and gets the data of the others.
    ComesBackEmpty,
}

/// A machine's seat in a cluster. A copy has a cluster of its own, so that what is done to a copy of a machine does nothing to
/// the one it was copied from; machines that are to share a cluster are put into it by [`join`].
#[derive(Debug)]
pub struct Seat {
    cluster: Arc<Mutex<FakeCluster>>,
    /// What the machine is to it.
    pub place: Place,
    /// The service, without `.service`.
    pub unit: String,
    /// The data directory.
    pub data_dir: PathBuf,
    /// What the member does when its data is gone.
    pub when_empty: WhenEmpty,
    /// Whether a proxy or gateway never delivers what is watched.
    pub deaf: bool,
    /// Whether version 2 of the API is served where it must be asked for (`--enable-v2`).
    pub enable_v2: bool,
    /// The process that runs, as the cluster knows it.
    pid: Option<u32>,
}

impl Clone for Seat {
    fn clone(&self) -> Self {
        Self {
            cluster: Arc::new(Mutex::new(self.cluster().clone())),
            place: self.place,
            unit: self.unit.clone(),
            data_dir: self.data_dir.clone(),
            when_empty: self.when_empty,
            deaf: self.deaf,
            enable_v2: self.enable_v2,
            pid: self.pid,
        }
    }
}

impl Seat {
    /// A seat in a cluster, for a machine with the service `etcd` and its data in `/var/lib/etcd`.
    #[must_use]
    pub fn new(cluster: FakeCluster, place: Place) -> Self {
        Self::of(Arc::new(Mutex::new(cluster)), place)
    }

    fn of(cluster: Arc<Mutex<FakeCluster>>, place: Place) -> Self {
        Self {
            cluster,
            place,
            unit: "etcd".to_owned(),
            data_dir: "/var/lib/etcd".into(),
            when_empty: WhenEmpty::Ends,
            deaf: false,
            enable_v2: false,
            pid: None,
        }
    }

    /// The cluster; whoever else asks it waits meanwhile.
    pub fn cluster(&self) -> MutexGuard<'_, FakeCluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member that the machine has.
    #[must_use]
    pub const fn member(&self) -> Option<MemberId> {
        match self.place {
            Place::Member(id) => Some(id),
            Place::Proxy | Place::Gateway | Place::Client => None,
        }
    }
}

/// Puts machines into one cluster: each that has a member in a cluster of its own gets one of this cluster, called like the
/// machine, every other that has a seat gets one in the same place. The cluster has no members but these.
pub fn join<'a>(machines: impl IntoIterator<Item = (&'a str, &'a mut FakeMachine)>) {
    let (members, others): (Vec<_>, Vec<_>) = machines
        .into_iter()
        .filter(|(_, machine)| machine.etcd.is_some())
        .partition(|(_, machine)| machine.etcd.as_ref().is_some_and(|seat| seat.member().is_some()));
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let version = members.iter().filter_map(|(_, machine)| program_version(machine)).min();
    let cluster = FakeCluster::new(&names, version.unwrap_or(EtcdVersion::new(3, 2, 17)));
    let ids: Vec<MemberId> = cluster.members.iter().map(|member| member.id).collect();
    let cluster = Arc::new(Mutex::new(cluster));
    for ((_, machine), id) in members.into_iter().zip(ids) {
        sit(machine, Seat::of(cluster.clone(), Place::Member(id)));
    }
    for (_, machine) in others {
        let place = machine.etcd.as_ref().map_or(Place::Client, |seat| seat.place);
        sit(machine, Seat::of(cluster.clone(), place));
    }
}

/// As it is now counts: a member that runs has not just come.
fn sit(machine: &mut FakeMachine, mut seat: Seat) {
    seat.pid = running(machine, &seat.unit);
    if let (Some(id), Some(version)) = (seat.member(), program_version(machine)) {
        let up = seat.pid.is_some();
        let mut cluster = seat.cluster();
        if let Some(member) = cluster.member(id) {
            (member.up, member.version) = (up, version);
        }
        cluster.elect();
    }
    machine.etcd = Some(seat);
}

/// The cluster learns what has become of the machine's service; `false` if the process that was just started can't stay.
pub(in crate::host::fake) fn settle(machine: &mut FakeMachine, by_service_manager: bool) -> bool {
    let Some(seat) = &machine.etcd else { return true };
    let (before, now) = (seat.pid, running(machine, &seat.unit));
    if before == now {
        return true;
    }
    let Some(id) = seat.member() else {
        remember(machine, now);
        return true;
    };
    if before.is_some() {
        goes_down(seat, id, by_service_manager);
        remember(machine, None);
    }
    if now.is_none() {
        return true;
    }
    let stays = starts(machine, id);
    if stays {
        remember(machine, now);
    }
    stays
}

/// The machine has no power: nothing of it runs.
pub(in crate::host::fake) fn powerless(machine: &mut FakeMachine) {
    if let Some(seat) = &machine.etcd
        && let (Some(id), true) = (seat.member(), seat.pid.is_some())
    {
        goes_down(seat, id, false);
    }
    remember(machine, None);
}

fn remember(machine: &mut FakeMachine, pid: Option<u32>) {
    if let Some(seat) = &mut machine.etcd {
        seat.pid = pid;
    }
}

fn goes_down(seat: &Seat, id: MemberId, by_service_manager: bool) {
    let mut cluster = seat.cluster();
    if by_service_manager && let Some(member) = cluster.member(id).cloned() {
        let (beside, led, requests) = (cluster.down(), cluster.leader == Some(id), cluster.requests);
        cluster.stops.push(Stopped { member: member.name, beside, led, requests });
    }
    cluster.goes_down(id);
}

fn starts(machine: &mut FakeMachine, id: MemberId) -> bool {
    let Some(seat) = &machine.etcd else { return true };
    let (empty, when_empty, data_dir) =
        (!has_data(machine, &seat.data_dir), seat.when_empty, seat.data_dir.clone());
    if empty && when_empty == WhenEmpty::Ends {
        return false;
    }
    let Some(version) = program_version(machine) else { return true };
    let Some(seat) = &machine.etcd else { return true };
    if !seat.cluster().comes_up(id, version) {
        return false;
    }
    if empty {
        put_data(machine, &data_dir);
    }
    true
}

fn running(machine: &FakeMachine, unit: &str) -> Option<u32> {
    machine.services.get(unit).filter(|service| service.active).and_then(|service| service.main_pid)
}

/// What the program of the machine's service says of itself: that of its process while it runs from the file on disk.
fn program_version(machine: &FakeMachine) -> Option<EtcdVersion> {
    let unit = machine.etcd.as_ref().map_or("etcd", |seat| seat.unit.as_str());
    let program = machine.services.get(unit)?.argv.first()?;
    let path = machine.which(program)?;
    machine.files.get(&path)?.prints.as_ref()?.parse().ok()
}

fn has_data(machine: &FakeMachine, data_dir: &Path) -> bool {
    let member = data_dir.join("member");
    machine.files.keys().any(|path| path.starts_with(&member))
}

/// The files of a member's data directory.
pub(super) fn put_data(machine: &mut FakeMachine, data_dir: &Path) {
    for name in ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"] {
        machine.put_file(data_dir.join(name), "");
    }
}

impl FakeMachine {
    /// Makes it a member, called `m1`, of a cluster of three whose other members have no machine and behave well.
    pub fn take_a_seat(&mut self) {
        let version = program_version(self).unwrap_or(EtcdVersion::new(3, 2, 17));
        let cluster = FakeCluster::new(&["m1", "m2", "m3"], version);
        let first = cluster.members.first().map_or(MemberId(0), |member| member.id);
        let seat = Seat::new(cluster, Place::Member(first));
        put_data(self, &seat.data_dir.clone());
        sit(self, seat);
    }

    /// Its seat.
    ///
    /// # Panics
    /// If it has none: a test asks a machine of a cluster.
    #[must_use]
    pub fn seat(&self) -> &Seat {
        self.etcd.as_ref().unwrap_or_else(|| panic!("the machine has no part in a cluster"))
    }
}
