//! The body of a response: the service's own, or ours.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that went through the layer: what the service sent, or the problem
    /// that stands for it.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Sent { #[pin] body: B },
        Ours { bytes: Option<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(super) const fn sent(body: B) -> Self {
        Self {
            kind: Kind::Sent { body },
        }
    }

    pub(super) const fn ours(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Ours { bytes: Some(bytes) },
        }
    }

    pub(super) const fn empty() -> Self {
        Self {
            kind: Kind::Ours { bytes: None },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Sent { body } => body.poll_frame(cx),
            KindProjection::Ours { bytes } => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Sent { body } => body.is_end_stream(),
            Kind::Ours { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Sent { body } => body.size_hint(),
            Kind::Ours { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
