//! A disk that can be full: redb on memory whose writes fail when the test says so; or one that does not answer, or takes long
//! by the clock of the test.

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use wavegate_common::id::FleetId;
use wavegate_coordinator::clock::Hands;
use wavegate_coordinator::store::{Opener, Store};

/// A disk; every clone is the same one.
#[derive(Debug, Clone)]
pub struct Disk {
    data: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
    /// Syncs until one fails; 0 for none.
    failing_sync: Arc<AtomicU32>,
    hanging: Arc<(Mutex<Hanging>, Condvar)>,
    /// The clock by which each sync takes so many milliseconds.
    slow: Arc<Mutex<Option<Slow>>>,
}

/// The clock that a sync moves on, and by how many milliseconds.
type Slow = (Arc<Hands>, u64);

/// Whether syncs come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hanging {
    No,
    /// The next one will not.
    Next,
    /// One does not.
    Now,
}

impl Disk {
    pub fn new() -> Self {
        Self {
            data: Arc::new(InMemoryBackend::new()),
            full: Arc::default(),
            failing_sync: Arc::default(),
            hanging: Arc::new((Mutex::new(Hanging::No), Condvar::new())),
            slow: Arc::default(),
        }
    }

    /// Each sync takes so many milliseconds by these hands, from now on.
    pub fn take_long(&self, hands: &Arc<Hands>, millis: u64) {
        *self.slow.lock().expect("nobody failed") = Some((hands.clone(), millis));
    }

    /// Syncs take no time again.
    pub fn be_quick(&self) {
        *self.slow.lock().expect("nobody failed") = None;
    }

    /// The next sync does not come to an end until the disk is let go.
    pub fn hang(&self) {
        self.set_hanging(Hanging::Next);
    }

    /// Waits until a sync hangs.
    pub fn until_it_hangs(&self) {
        self.wait_while(|hanging| hanging != Hanging::Now);
    }

    /// Lets the sync that hangs come to its end.
    pub fn let_go(&self) {
        self.set_hanging(Hanging::No);
    }

    fn set_hanging(&self, to: Hanging) {
        *self.hanging.0.lock().expect("nobody failed") = to;
        self.hanging.1.notify_all();
    }

    fn wait_while(&self, so: impl Fn(Hanging) -> bool) {
        let hanging = self.hanging.0.lock().expect("nobody failed");
        drop(self.hanging.1.wait_while(hanging, |hanging| so(*hanging)).expect("nobody failed"));
    }

    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// The so-manieth sync from now fails, though what was written is there.
    pub fn fail_sync(&self, after: u32) {
        self.failing_sync.store(after, Ordering::SeqCst);
    }

    /// Whether the sync that was to fail has failed.
    pub fn has_failed(&self) -> bool {
        self.failing_sync.load(Ordering::SeqCst) == 0
    }

    /// A store on this disk.
    pub fn store(&self, fleet: &str) -> Store {
        let disk = self.clone();
        let opener: Opener = Box::new(move || redb::Builder::new().create_with_backend(disk.clone()));
        let fleet = FleetId::new(fleet).expect("a name");
        Store::open_with("on a flaky disk".to_owned(), opener, &fleet).expect("a store")
    }

    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.data.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.data.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.data.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        if *self.hanging.0.lock().expect("nobody failed") == Hanging::Next {
            self.set_hanging(Hanging::Now);
            self.wait_while(|hanging| hanging == Hanging::Now);
        }
        if let Some((hands, millis)) = &*self.slow.lock().expect("nobody failed") {
            hands.elapsed.fetch_add(*millis, Ordering::SeqCst);
            hands.wall.fetch_add(*millis, Ordering::SeqCst);
        }
        let counted =
            self.failing_sync.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if counted == Ok(1) {
            return Err(io::Error::other("the disk did not answer"));
        }
        self.data.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.data.write(offset, data)
    }
}
