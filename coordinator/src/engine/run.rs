//! The loop: receives inputs and takes them by turns. Those that come by the thousand share a turn; who asks for something
//! has one alone. What a turn collects is `turn`'s, how it ends `commit`'s.

use super::{Engine, Input, Reply, RequestError, SILENT_INTERVALS, told};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// So often the engine is told that time passes.
const TICK_MS: u64 = 1000;
/// If it was not told for so long, it has so much to do that nobody can.
const LATE_MS: u64 = 2 * TICK_MS;
/// For so long at most the engine waits for what may share a turn.
const GATHER: Duration = Duration::from_millis(25);
/// As long as it does not, for so many times as long as the last turn took to end: what a transaction costs beside what is in it
/// is shared by more, the more the store has to do.
const GATHER_TIMES: u32 = 3;
/// While it waits, whoever asks is answered so often.
const NAP: Duration = Duration::from_millis(5);

impl Engine {
    /// Runs until [`Input::Shutdown`], or until nobody is left who could ask for anything. When `killed` is set, it ends
    /// at once and leaves everything as it is, as a crash would.
    pub fn run(mut self, mut inputs: mpsc::Receiver<Input>, killed: &AtomicBool) {
        self.take(Input::Tick);
        self.alive();
        let mut left_over = None;
        let mut gather_until = Instant::now();
        while let Some(first) = left_over.take().or_else(|| self.next(&mut inputs)) {
            if killed.load(Ordering::SeqCst) {
                return;
            }
            if matches!(first, Input::Shutdown) {
                break;
            }
            if first.shares_a_turn() && !self.has_more() {
                self.gather(gather_until, &inputs);
            }
            self.begin_turn();
            left_over = self.hear_all(first, &mut inputs, killed);
            // As a crash would: what this turn has collected is nowhere.
            if killed.load(Ordering::SeqCst) {
                return;
            }
            self.tick_if_late();
            let heard = Instant::now();
            self.end_turn();
            let ended = Instant::now();
            gather_until = ended + ((ended - heard) * GATHER_TIMES).min(GATHER);
            self.alive();
        }
        self.end();
    }

    /// Waits for what may share the next turn, as long as there is room for it in the queue.
    fn gather(&mut self, until: Instant, inputs: &mpsc::Receiver<Input>) {
        while inputs.capacity() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(NAP));
            self.answer_meanwhile();
        }
    }

    /// Whether a turn has left something to decide. Whoever drives the engine by turns goes on with an [`Input::Look`] then.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.turn.unsettled
    }

    /// The next input; waits for it, unless there is still something to decide.
    fn next(&self, inputs: &mut mpsc::Receiver<Input>) -> Option<Input> {
        if self.has_more() {
            return Some(inputs.try_recv().unwrap_or(Input::Look));
        }
        inputs.blocking_recv()
    }

    /// Hears an input and, if it shares its turn, those behind it that do as well, as far as they are there and the turn
    /// has room. Returns one that was taken out of the queue and has a turn of its own.
    fn hear_all(
        &mut self,
        first: Input,
        inputs: &mut mpsc::Receiver<Input>,
        killed: &AtomicBool,
    ) -> Option<Input> {
        let _report = tracing::debug_span!("report").entered();
        let shares = first.shares_a_turn();
        self.hear(first);
        while shares && self.turn.has_room(self.clock.elapsed_ms()) && !killed.load(Ordering::SeqCst) {
            let input = inputs.try_recv().ok()?;
            if !input.shares_a_turn() {
                return Some(input);
            }
            self.hear(input);
        }
        None
    }

    /// One turn of the loop: takes one input and does all that follows from it. Whoever drives the engine by turns, in a time
    /// of their own, begins with an [`Input::Tick`].
    pub fn take(&mut self, input: Input) {
        self.begin_turn();
        self.hear(input);
        self.end_turn();
    }

    fn hear(&mut self, input: Input) {
        self.turn.count();
        match input {
            Input::Connected(connected) => self.connected(*connected),
            Input::Said { node, session, message } => self.said(&node, session, *message),
            Input::Gone { node, session } => {
                if self.links.is_current(&node, session) {
                    tracing::info!(%node, "offline");
                    self.offline(&node);
                }
            }
            Input::Enrol(enrol, reply) => {
                let enrolled = self.enrol(&enrol);
                self.answer_with(reply, enrolled);
            }
            Input::Command { by, command, reply } => {
                let answer = self.command(&by, &command);
                self.turn.unsettled = true;
                self.answer_with(reply, answer);
            }
            Input::CreateToken { by, wish, reply } => {
                let created = self.create_token(&by, wish);
                self.answer_with(reply, created);
            }
            Input::RevokeToken { by, id, reply } => {
                let revoked = self.revoke_token(&by, &id);
                self.answer_with(reply, revoked);
            }
            Input::RemoveNode { by, node, force, reply } => {
                let removed = self.remove_node(&by, &node, force);
                self.answer_with(reply, removed);
            }
            Input::SetInventory { by, inventory, reply } => {
                let set = self.set_inventory(&by, inventory);
                self.answer_with(reply, set);
            }
            Input::Approve { by, plan, reply } => {
                let approved = self.approve(&by, &plan);
                self.answer_with(reply, approved);
            }
            Input::MakePlan(request) => self.make_plan(*request),
            Input::Refused { who, what } => self.refused(who, what),
            Input::Tick if self.is_made_up_for() => {}
            Input::Tick => self.tick(),
            Input::Look | Input::Shutdown => {}
        }
    }

    /// Answers when all that follows is done.
    fn answer_with<T>(&mut self, reply: Reply<T>, answer: Result<T, RequestError>) {
        self.end_turn();
        drop(reply.send(answer));
    }

    /// In a queue that is full no tick finds a place.
    fn tick_if_late(&mut self) {
        if self.clock.elapsed_ms().saturating_sub(self.ticked_ms) >= LATE_MS {
            self.tick();
            self.ticked_late = true;
        }
    }

    /// Whether the tick that comes now is the one that was late. Sessions are looked at with every tick, and who is found
    /// silent gets the time between two to be heard.
    fn is_made_up_for(&mut self) -> bool {
        std::mem::take(&mut self.ticked_late)
            && self.clock.elapsed_ms().saturating_sub(self.ticked_ms) < TICK_MS
    }

    fn tick(&mut self) {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed_ms());
        self.ticked_ms = elapsed;
        let silence = u64::from(self.timing.heartbeat_interval_s) * 1000 * SILENT_INTERVALS;
        for node in self.links.close_silent(silence, now, elapsed) {
            tracing::warn!(%node, "offline: nothing was heard of it for {silence} ms");
            self.after_offline(&node);
        }
        self.store_reports();
        self.send_orders_again();
        self.planning_tick();
        if let Some(record) = self.refusals.due(now) {
            self.turn.audit.push(record);
        }
        self.flush();
        self.turn.unsettled = true;
        self.turn.look_for_lost = true;
        self.turn.ticked = true;
    }

    fn alive(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.alive(Instant::now());
        }
    }

    fn end(mut self) {
        if self.unflushed_output
            && let Err(error) = self.store.flush()
        {
            tracing::error!(error = told(&error), "the last output of steps could not be stored");
        }
        if let Some(planning) = self.planning.take() {
            planning.give_up(RequestError::Ending);
        }
        tracing::info!("the coordinator ends; a rollout goes on when it is started again");
    }
}
