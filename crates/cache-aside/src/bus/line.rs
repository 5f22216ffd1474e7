//! A line: one instance's place on the bus.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress_core::{Clock, Moment};
use buttress_store::{Deadline, Gate, Key, Phase, StoreError, StoreErrorKind};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::{
    Bus, Ear, LinePolicy, LinePolicyError, Loss, News, Subscription,
    machine::{Counted, Machine},
    message::{MOST, Message, Sender},
};

/// How many callers may wait to be heard; more wait to wait.
const WAITING: usize = 1024;
/// Two of this size are one message.
const HALF: usize = MOST / 2;
/// The first pause before a connection is made anew; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that held for so long was a good one.
const GOOD: Duration = Duration::from_secs(1);

/// One instance's place on the bus: it says, and hears, and knows up to when it has heard everything.
///
/// Two tasks keep it, and end with its last clone. A connection that is lost is made anew by itself, for as long as it
/// takes.
#[derive(Clone)]
pub struct Line {
    shared: Arc<Shared>,
    say: mpsc::Sender<Said>,
    _tasks: Arc<Tasks>,
}

struct Said {
    news: Vec<News>,
    done: oneshot::Sender<Result<(), StoreErrorKind>>,
}

struct Shared {
    bus: Arc<dyn Bus>,
    space: Key,
    ear: Arc<dyn Ear>,
    policy: LinePolicy,
    clock: Clock,
    gate: Gate,
    me: Sender,
    machine: Mutex<Machine>,
    /// When the last beat that came back was sent, in nanoseconds and one; zero for never.
    heard: AtomicU64,
}

struct Tasks([JoinHandle<()>; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Line {
    /// Takes a place on the bus, within a runtime of tokio's. `ear` hears what the others say of `space`; first of all,
    /// once there is a connection, that something may have been missed.
    ///
    /// # Errors
    ///
    /// [`LinePolicyError`], when the policy cannot work.
    pub fn start(
        bus: Arc<dyn Bus>,
        space: Key,
        ear: impl Ear + 'static,
        policy: LinePolicy,
        clock: Clock,
    ) -> Result<Self, LinePolicyError> {
        let policy = policy.checked()?;
        let me = rand::random();
        // The bounds of both are the same, and a second is the least pause.
        let gate = Gate::redis();
        let gate = gate.clone().with_deadline(policy.deadline).unwrap_or(gate);
        let gate = gate.clone().with_longest_pause(GOOD).unwrap_or(gate);
        let shared = Arc::new(Shared {
            bus,
            space,
            ear: Arc::new(ear),
            policy,
            gate: gate.with_clock(clock.clone()),
            clock,
            me,
            machine: Mutex::new(Machine::new(me)),
            heard: AtomicU64::new(0),
        });
        let (say, said) = mpsc::channel(WAITING);
        let tasks = [
            tokio::spawn(Arc::clone(&shared).speak(said)),
            tokio::spawn(Arc::clone(&shared).listen()),
        ];
        Ok(Self {
            shared,
            say,
            _tasks: Arc::new(Tasks(tasks)),
        })
    }

    /// Tells the others. Returns once the bus has taken it: who listens hears it before anything that is said after.
    ///
    /// Dropping the future may leave it said or not; what was said and lost, the others notice.
    ///
    /// # Errors
    ///
    /// [`StoreError`], within the policy's deadline and what was said before: it may have been said.
    pub async fn say(&self, mut news: Vec<News>) -> Result<(), StoreError> {
        while !news.is_empty() {
            let rest = news.split_off(news.len().min(HALF));
            let (done, told) = oneshot::channel();
            let gone = || StoreError::new(StoreErrorKind::Lost, Phase::Statement);
            let said = Said { news, done };
            self.say.send(said).await.map_err(|_| gone())?;
            let result = told.await.map_err(|_| gone())?;
            result.map_err(|kind| StoreError::new(kind, Phase::Statement))?;
            news = rest;
        }
        Ok(())
    }

    /// Whether everything has been heard that was said up to `within` ago: what the first level holds is no older
    /// than that.
    #[must_use]
    pub fn heard_within(&self, within: Duration) -> bool {
        self.heard_ago().is_some_and(|ago| ago <= within)
    }

    /// The same at `now`, for who has looked at the clock already.
    #[inline]
    pub(crate) fn heard_within_at(&self, within: Duration, now: Moment) -> bool {
        let heard = self.shared.heard.load(Ordering::Acquire);
        heard > 0 && now.saturating_since(Moment::from_nanos(heard - 1)) <= within
    }

    /// How long ago it was that everything said until then has been heard; `None` before the first time, and while a new
    /// connection has not proved itself.
    #[must_use]
    pub fn heard_ago(&self) -> Option<Duration> {
        let heard = self.shared.heard.load(Ordering::Acquire).checked_sub(1)?;
        let now = self.shared.clock.now();
        Some(now.saturating_since(Moment::from_nanos(heard)))
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_heard(&self, machine: &Machine) {
        let nanos = machine
            .heard()
            .map_or(0, |at| at.as_nanos().saturating_add(1));
        self.heard.store(nanos, Ordering::Release);
    }

    async fn speak(self: Arc<Self>, mut said: mpsc::Receiver<Said>) {
        let mut beats = tokio::time::interval(self.policy.beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            tokio::select! {
                first = said.recv() => {
                    let Some(first) = first else { return };
                    count += 1;
                    self.tell(first, &mut said, count).await;
                }
                _ = beats.tick() => {
                    let now = self.clock.now();
                    let beat = self.machine().beat(now);
                    let message = Message {
                        sender: self.me,
                        count,
                        beat,
                        news: Vec::new(),
                    };
                    // The next comes soon; that this one did not get there, its not coming back says.
                    let _failed = self.send(&message).await;
                }
            }
        }
    }

    /// What waits is said together: one trip for many.
    async fn tell(&self, first: Said, said: &mut mpsc::Receiver<Said>, count: u64) {
        let mut news = first.news;
        let mut waiting = vec![first.done];
        while news.len() < HALF
            && let Ok(next) = said.try_recv()
        {
            news.extend(next.news);
            waiting.push(next.done);
        }
        let message = Message {
            sender: self.me,
            count,
            beat: 0,
            news,
        };
        let result = self.send(&message).await;
        for done in waiting {
            // Who does not wait any more does not need to know.
            let _gone = done.send(result);
        }
    }

    async fn send(&self, message: &Message) -> Result<(), StoreErrorKind> {
        let bytes = message.write();
        let sent = self
            .gate
            .run(|deadline| self.bus.publish(&self.space, &bytes, deadline));
        sent.await.map_err(|error| error.kind())
    }

    async fn listen(self: Arc<Self>) {
        let mut pause = PAUSE;
        loop {
            let deadline = Deadline::after(self.policy.deadline);
            if let Ok(subscription) = self.bus.subscribe(&self.space, deadline).await {
                let since = self.clock.now();
                self.machine().listen();
                self.heard.store(0, Ordering::Release);
                // What was loaded while nobody listened may be stale, whatever was dropped when that began.
                self.ear.hear(News::Lost(Loss::Disconnected));
                self.hear_all(subscription, since).await;
                self.machine().stop();
                self.ear.hear(News::Lost(Loss::Disconnected));
                if self.clock.now().saturating_since(since) >= GOOD {
                    pause = PAUSE;
                }
            }
            // Half of it by chance: a server that comes back is not met by all at once.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Until the connection is lost, or nothing comes back on it.
    async fn hear_all(&self, mut subscription: Box<dyn Subscription>, since: Moment) {
        let mut looks = tokio::time::interval(self.policy.beat);
        loop {
            tokio::select! {
                bytes = subscription.next() => match bytes {
                    Ok(bytes) => self.hear(&bytes),
                    Err(_) => return,
                },
                _ = looks.tick() => {
                    let now = self.clock.now();
                    if self.machine().is_silent(since, self.policy.silence, now) {
                        return;
                    }
                }
            }
        }
    }

    fn hear(&self, bytes: &[u8]) {
        let Some(message) = Message::read(bytes) else {
            // Somebody speaks another format: what he said is not known.
            self.ear.hear(News::Lost(Loss::Unreadable));
            return;
        };
        // Done first: what was heard has been done.
        if message.sender != self.me {
            for news in message.news {
                self.ear.hear(news);
            }
        }
        let now = self.clock.now();
        let mut machine = self.machine();
        let counted = machine.hear(message.sender, message.count, message.beat, now);
        if counted == Counted::Gap {
            drop(machine);
            self.ear.hear(News::Lost(Loss::Gap));
            return;
        }
        self.publish_heard(&machine);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("bus", &self.shared.bus)
            .field("heard_ago", &self.heard_ago())
            .finish_non_exhaustive()
    }
}
