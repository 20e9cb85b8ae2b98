//! A rollout's status for those who look on: now and after every change, until it has ended. However many look on and
//! however much happens, it is made a few times a second, once for all of them.

use crate::engine::{Port, RequestError};
use crate::status::view::{Detail, RolloutStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wavegate_common::id::RolloutId;
use wavegate_common::rollout::Status as RolloutState;
use wavegate_proto::convert::document;
use wavegate_proto::v1;

/// Changes within so long are told as one.
const TOGETHER: Duration = Duration::from_millis(200);
/// An edition that took long to make is followed by a pause so many times as long: the engine's work goes before.
const REST: u32 = 4;

type Sender = mpsc::Sender<Result<v1::Document, Status>>;

/// What is told of the newest rollout. A clone tells the same.
#[derive(Clone)]
pub(super) struct Editions {
    port: Port,
    brief: Arc<Mutex<Option<Edition>>>,
    full: Arc<Mutex<Option<Edition>>>,
    /// How many editions there were.
    count: Arc<AtomicU64>,
}

/// A status as it is told.
#[derive(Clone)]
struct Edition {
    /// The same for editions that differ in nothing but their time.
    number: u64,
    /// The engine's changes that are certainly in it.
    version: u64,
    /// Before this no other is made.
    until: Instant,
    status: Arc<RolloutStatus>,
    document: Arc<v1::Document>,
}

impl Edition {
    fn is_last(&self) -> bool {
        matches!(self.status.status, RolloutState::Stopped | RolloutState::Finished)
    }

    fn says_the_same(&self, status: &RolloutStatus) -> bool {
        let RolloutStatus { now: _, last_seq, .. } = *self.status;
        // The log's place differs nearly always, and is compared in no time.
        last_seq == status.last_seq && RolloutStatus { now: status.now, ..(*self.status).clone() } == *status
    }
}

impl Editions {
    pub(super) fn new(port: Port) -> Self {
        Self { port, brief: Arc::default(), full: Arc::default(), count: Arc::default() }
    }

    /// A rollout's status now and after every change, until it has ended.
    pub(super) async fn watch(
        &self,
        rollout: Option<RolloutId>,
        detail: Detail,
    ) -> Result<ReceiverStream<Result<v1::Document, Status>>, Status> {
        // Looked at once here, so that a rollout that is not there is the call's answer.
        let named =
            self.port.told(move |look, store| Ok(look.rollout(store, rollout.as_ref())?.id().clone()));
        let rollout = named.await?;
        let first = self.newest(&rollout, detail).await?;
        let (send, receive) = mpsc::channel(1);
        let editions = self.clone();
        tokio::spawn(async move {
            if let Err(error) = editions.tell(first, detail, &send).await {
                drop(send.send(Err(error)).await);
            }
        });
        Ok(ReceiverStream::new(receive))
    }

    async fn tell(&self, mut edition: Edition, detail: Detail, send: &Sender) -> Result<(), Status> {
        let mut changes = self.port.changes();
        let (rollout, mut told) = (edition.status.rollout.clone(), None);
        loop {
            if told != Some(edition.number) && send.send(Ok((*edition.document).clone())).await.is_err() {
                return Ok(());
            }
            if edition.is_last() {
                return Ok(());
            }
            let version = edition.version;
            told = Some(edition.number);
            tokio::select! {
                changed = changes.wait_for(|now| *now > version) => drop(changed.map_err(|_| RequestError::Ending)?),
                () = send.closed() => return Ok(()),
            }
            tokio::time::sleep(TOGETHER).await;
            edition = self.newest(&rollout, detail).await?;
        }
    }

    /// The edition for everybody: one that was made just now, or a new one.
    async fn newest(&self, rollout: &RolloutId, detail: Detail) -> Result<Edition, Status> {
        let kept = match detail {
            Detail::Brief => &self.brief,
            Detail::Full => &self.full,
        };
        let mut kept = kept.lock().await;
        // Asked before looking: what has changed by then is in the look.
        let version = *self.port.changes().borrow();
        let known = kept.as_ref().filter(|known| known.status.rollout == *rollout);
        if let Some(known) = known
            && (known.version == version || Instant::now() < known.until)
        {
            return Ok(known.clone());
        }
        let (began, id) = (Instant::now(), rollout.clone());
        let told = self.port.told(move |look, store| {
            let status = look.status(store, Some(&id), detail)?;
            Ok(document("rollout_status", &status).map(|document| (status, document)))
        });
        let (status, document) = told.await??;
        let until = began + TOGETHER.max(began.elapsed() * REST);
        let number = match known.filter(|known| known.says_the_same(&status)) {
            Some(known) => known.number,
            None => self.count.fetch_add(1, Ordering::Relaxed),
        };
        let made = Edition { number, version, until, status: Arc::new(status), document: Arc::new(document) };
        *kept = Some(made.clone());
        Ok(made)
    }
}
