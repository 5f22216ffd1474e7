//! The bodies on both sides of the layer.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body that the inner service is given: as it came, or read whole.
    pub struct RequestBody<B>
    where
        B: Body,
    {
        #[pin]
        body: Parts<B>,
    }
}

pin_project! {
    /// The body that leaves: the inner service's as it comes, with what was read of it already in
    /// front, or bytes that are all there.
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        #[pin]
        body: Parts<B>,
    }
}

/// A frame, or the failure that came in its place.
pub(super) type Read<B> = Result<Frame<Bytes>, <B as Body>::Error>;

pin_project! {
    /// What was read already, and what comes after it.
    struct Parts<B>
    where
        B: Body,
    {
        read: VecDeque<Read<B>>,
        #[pin]
        rest: Option<B>,
    }
}

impl<B: Body> RequestBody<B> {
    pub(super) const fn passing(body: B) -> Self {
        Self {
            body: Parts::resumed(VecDeque::new(), body),
        }
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        Self {
            body: Parts::whole(bytes),
        }
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) const fn passing(body: B) -> Self {
        Self::resumed(VecDeque::new(), body)
    }

    pub(super) const fn resumed(read: VecDeque<Read<B>>, rest: B) -> Self {
        Self {
            body: Parts::resumed(read, rest),
        }
    }

    pub(super) fn whole(bytes: Bytes) -> Self {
        Self {
            body: Parts::whole(bytes),
        }
    }
}

impl<B: Body> Parts<B> {
    const fn resumed(read: VecDeque<Read<B>>, rest: B) -> Self {
        Self {
            read,
            rest: Some(rest),
        }
    }

    fn whole(bytes: Bytes) -> Self {
        let read = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)));
        Self {
            read: read.into_iter().collect(),
            rest: None,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for Parts<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Read<B>>> {
        let this = self.project();
        if let Some(frame) = this.read.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match this.rest.as_pin_mut() {
            Some(rest) => rest.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.iter().flatten().filter_map(Frame::data_ref);
        let read: usize = read.map(Bytes::len).sum();
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        let rest = self.rest.as_ref().map(Body::size_hint);
        let rest = rest.unwrap_or_else(|| SizeHint::with_exact(0));
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint.set_lower(
            rest.lower()
                .saturating_add(read)
                .min(hint.upper().unwrap_or(u64::MAX)),
        );
        hint
    }
}

/// Both bodies are the same inside, and differ in what they are for.
macro_rules! body {
    ($body:ident) => {
        impl<B: Body<Data = Bytes>> Body for $body<B> {
            type Data = Bytes;
            type Error = B::Error;

            fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Read<B>>> {
                self.project().body.poll_frame(cx)
            }

            fn is_end_stream(&self) -> bool {
                self.body.is_end_stream()
            }

            fn size_hint(&self) -> SizeHint {
                self.body.size_hint()
            }
        }

        impl<B: Body> fmt::Debug for $body<B> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($body)).finish_non_exhaustive()
            }
        }
    };
}

body!(RequestBody);
body!(ResponseBody);
