//! One connection through a proxy.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Traffic,
    direction::{Direction, Fate, Weather},
};

const PIECE: usize = 16 * 1024;
/// How many pieces a slow connection carries in a second.
const SLOW_PIECES: u32 = 50;

/// One end. It is reset when this is dropped before all has been said.
pub(super) struct End {
    stream: TcpStream,
    in_order: bool,
}

impl End {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Without it small pieces wait for company. It fails only when the stream is gone.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            in_order: false,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.in_order {
            // Reset when it is closed, instead of ended. It fails only when it is gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}

/// Carries bytes both ways until both ends have said their last word, or one is cut.
pub(super) async fn carry(mut client: End, traffic: Arc<Traffic>) {
    let Ok(server) = TcpStream::connect(&traffic.upstream).await else {
        return;
    };
    let mut server = End::new(server);
    let cut_at_answer = AtomicBool::new(false);
    let (from_client, to_client) = client.stream.split();
    let (from_server, to_server) = server.stream.split();
    let pump = |direction, from, to| Pump {
        direction,
        weather: Direction::weather(direction),
        traffic: &traffic,
        from,
        to,
        cut_at_answer: &cut_at_answer,
    };
    let up = pump(&traffic.to_server, from_client, to_server);
    let down = pump(&traffic.to_client, from_server, to_client);
    if tokio::try_join!(up.run(), down.run()).is_ok() {
        client.in_order = true;
        server.in_order = true;
    }
}

/// The connection is to be reset, for a fault of ours or of an end's.
struct Reset;

impl From<io::Error> for Reset {
    fn from(_: io::Error) -> Self {
        Self
    }
}

struct Pump<'a> {
    direction: &'a Direction,
    weather: watch::Receiver<Weather>,
    traffic: &'a Traffic,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    cut_at_answer: &'a AtomicBool,
}

impl Pump<'_> {
    async fn run(mut self) -> Result<(), Reset> {
        let mut buffer = vec![0; PIECE];
        let mut tail = Vec::new();
        loop {
            let length = self.from.read(&mut buffer).await?;
            self.wait().await;
            let piece = &buffer[..length];
            if length == 0 {
                self.to.shutdown().await?;
                return Ok(());
            }
            if self.cut_at_answer.load(Ordering::Acquire) {
                return Err(self.strikes());
            }
            match self.direction.judge(&mut tail, piece) {
                Fate::Pass => self.pass(piece).await?,
                Fate::Cut(passed) => {
                    self.pass(&piece[..passed]).await?;
                    return Err(self.strikes());
                }
                Fate::CutAnswer => {
                    // First this: the answer may be here before the write returns.
                    self.cut_at_answer.store(true, Ordering::Release);
                    self.pass(piece).await?;
                }
            }
        }
    }

    fn strikes(&self) -> Reset {
        self.traffic.counting.fault();
        self.traffic.struck.send_modify(|count| *count += 1);
        Reset
    }

    /// Holds a piece back as the weather wants it.
    async fn wait(&mut self) {
        let arrived = Instant::now();
        loop {
            let weather = *self.weather.borrow_and_update();
            let due = arrived + weather.delay;
            if !weather.hole && Instant::now() >= due {
                return;
            }
            tokio::select! {
                () = sleep_until(due), if !weather.hole => {}
                // The proxy holds the sender as long as its connections.
                _ = self.weather.changed() => {}
            }
        }
    }

    async fn pass(&mut self, mut piece: &[u8]) -> Result<(), Reset> {
        while !piece.is_empty() {
            let rate = self.weather.borrow_and_update().rate;
            let at_most = rate.map_or(piece.len(), |rate| rate.div_ceil(SLOW_PIECES) as usize);
            let (now, later) = piece.split_at(at_most.min(piece.len()));
            self.to.write_all(now).await?;
            self.direction.count(now.len());
            piece = later;
            if let Some(rate) = rate {
                let bytes = u32::try_from(now.len()).unwrap_or(u32::MAX);
                let pause = Duration::from_secs(1) * bytes / rate;
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = self.weather.changed() => {}
                }
            }
        }
        Ok(())
    }
}
