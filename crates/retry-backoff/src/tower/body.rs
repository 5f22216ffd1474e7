//! A request's body that is remembered while it is sent, and sent again.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// The body of an attempt: what was remembered of the attempts before, then the rest of the user's
/// own body, remembered on the way.
pub struct ReplayBody<B> {
    /// How many of the tape's chunks have been sent.
    sent: usize,
    trailers_sent: bool,
    /// What has not been read yet, if this attempt holds it.
    rest: Option<B>,
    tape: Option<Tape<B>>,
}

/// What is remembered, shared by the attempts of one request.
pub(super) struct Tape<B> {
    recorded: Arc<Mutex<Recorded<B>>>,
}

struct Recorded<B> {
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    most: usize,
    /// All of it is there.
    whole: bool,
    /// It cannot be sent again: it was too long, or it failed.
    lost: bool,
    /// What an attempt that was dropped had not read.
    rest: Option<B>,
}

impl<B> Tape<B> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            recorded: Arc::new(Mutex::new(Recorded {
                chunks: Vec::new(),
                trailers: None,
                size: 0,
                most,
                whole: false,
                lost: false,
                rest: None,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recorded<B>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_there(&self) -> bool {
        let recorded = self.lock();
        !recorded.lost && (recorded.whole || recorded.rest.is_some())
    }

    /// The body for the next attempt.
    pub(super) fn play(&self) -> Option<ReplayBody<B>> {
        if !self.is_there() {
            return None;
        }
        let rest = self.lock().rest.take();
        Some(ReplayBody {
            sent: 0,
            trailers_sent: false,
            rest,
            tape: Some(self.clone()),
        })
    }
}

impl<B> Clone for Tape<B> {
    fn clone(&self) -> Self {
        Self {
            recorded: Arc::clone(&self.recorded),
        }
    }
}

impl<B> Recorded<B> {
    /// Takes note of a frame; whether it is a chunk on the tape.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if self.lost {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            self.size = self.size.saturating_add(data.len());
            if self.size > self.most {
                self.lost = true;
                self.chunks = Vec::new();
                return false;
            }
            self.chunks.push(data.clone());
            return true;
        }
        self.trailers = frame.trailers_ref().cloned();
        false
    }
}

impl<B> ReplayBody<B> {
    pub(super) const fn recording(body: B, tape: Tape<B>) -> Self {
        Self {
            sent: 0,
            trailers_sent: false,
            rest: Some(body),
            tape: Some(tape),
        }
    }

    /// Passes a body on without remembering it.
    pub(super) const fn passing(body: B) -> Self {
        Self {
            sent: 0,
            trailers_sent: false,
            rest: Some(body),
            tape: None,
        }
    }

    pub(super) const fn empty() -> Self {
        Self {
            sent: 0,
            trailers_sent: false,
            rest: None,
            tape: None,
        }
    }

    /// The next frame that is remembered and not sent yet.
    fn remembered(&mut self) -> Option<Frame<Bytes>> {
        let recorded = self.tape.as_ref()?.lock();
        if let Some(chunk) = recorded.chunks.get(self.sent) {
            self.sent += 1;
            return Some(Frame::data(chunk.clone()));
        }
        let trailers = recorded.trailers.clone().filter(|_| !self.trailers_sent)?;
        self.trailers_sent = true;
        Some(Frame::trailers(trailers))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some(frame) = this.remembered() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *rest).poll_frame(cx));
        if let Some(tape) = &this.tape {
            let mut recorded = tape.lock();
            match &frame {
                Some(Ok(frame)) if recorded.keep(frame) => this.sent += 1,
                Some(Ok(frame)) => this.trailers_sent |= frame.is_trailers(),
                Some(Err(_)) => recorded.lost = true,
                None => recorded.whole = true,
            }
            // Who sends it need not ask beyond the last frame.
            recorded.whole |= rest.is_end_stream();
        }
        if frame.is_none() {
            this.rest = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let remembered = self.tape.as_ref().is_some_and(|tape| {
            let recorded = tape.lock();
            self.sent < recorded.chunks.len()
                || (recorded.trailers.is_some() && !self.trailers_sent)
        });
        !remembered && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = match &self.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        if let Some(tape) = &self.tape {
            let recorded = tape.lock();
            let unsent = recorded.chunks.iter().skip(self.sent).map(Bytes::len);
            let unsent = u64::try_from(unsent.sum::<usize>()).unwrap_or(u64::MAX);
            let upper = hint.upper().map(|upper| upper.saturating_add(unsent));
            let lower = hint.lower().saturating_add(unsent);
            hint = SizeHint::new();
            if let Some(upper) = upper {
                hint.set_upper(upper.max(lower));
            }
            hint.set_lower(lower);
        }
        hint
    }
}

/// What was not read is there for the next attempt.
impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        if let (Some(tape), Some(rest)) = (&self.tape, self.rest.take()) {
            tape.lock().rest = Some(rest);
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("sent", &self.sent)
            .field("remembers", &self.tape.is_some())
            .finish_non_exhaustive()
    }
}
