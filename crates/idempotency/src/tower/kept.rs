//! What is kept of a request with its key, so that it can be made again without its client.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Request,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE},
    request::Parts,
};

use crate::{NotKept, PolicyError, ScopedKey, http::KeptRequest, idempotency::Payload};

/// The bytes are the request.
const OPEN: u8 = 1;
/// The bytes are what a [`Seal`] made of it.
const SEALED: u8 = 2;

/// What a request has, unless told otherwise, when it is made again.
const HEADERS: [HeaderName; 5] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
];

type Keeps = dyn Fn(&Parts) -> Option<Bytes> + Send + Sync;
type GivesBack = dyn Fn(&[u8], &mut Parts) -> bool + Send + Sync;
type OnlyIf = dyn Fn(&Parts) -> bool + Send + Sync;

/// Encrypts what is kept of requests: bodies at rest. Without one they are stored as they came.
///
/// Both are given the key under which it is kept, to be bound to it (associated data): what was
/// sealed under one key must not open under another. They are called on the way of each request,
/// so what they need is at hand; a data key is fetched elsewhere.
pub trait Seal: Send + Sync {
    /// Seals it. `None` when that cannot be done: the request is done, and not kept.
    fn seal(&self, key: &ScopedKey, open: Vec<u8>) -> Option<Vec<u8>>;

    /// Opens what [`seal`](Self::seal) made. `None` when that cannot be done here (the data key is
    /// not known yet, say): the drive counts, and another will try.
    fn open(&self, key: &ScopedKey, sealed: &[u8]) -> Option<Vec<u8>>;
}

/// What is kept of a request, in the statement that claims its key, until the key is completed or
/// released: method, path and query, some headers, the body; and what you take of who asked.
///
/// | | default |
/// | --- | --- |
/// | headers | `Accept`, `Accept-Language`, `Content-Encoding`, `Content-Language`, `Content-Type` |
/// | the caller | nothing of him |
/// | size, all together | the handle's longest request: 64 KiB |
/// | at rest | as it came |
///
/// `Authorization` and `Cookie` are not kept unless you name them. Who asked is better taken from
/// what authentication found ([`caller`](Self::caller)).
#[derive(Clone)]
#[must_use = "nothing is kept until a layer has it"]
pub struct KeptRequests {
    driver: Cow<'static, str>,
    headers: Arc<[HeaderName]>,
    caller: Option<(Arc<Keeps>, Arc<GivesBack>)>,
    only_if: Option<Arc<OnlyIf>>,
    seal: Option<Arc<dyn Seal>>,
    version: u32,
}

/// Why a kept request cannot be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotMade {
    /// By another version of this program, perhaps, or a moment later.
    ByThisOne,
    /// By none: it is damaged, or its caller may not any more.
    ForGood,
}

impl KeptRequests {
    /// For the completers of this name, that of the service: several may share a table, and none is
    /// given the requests of another.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], unless it has 1 to 64 visible ASCII characters.
    pub fn new(driver: impl Into<Cow<'static, str>>) -> Result<Self, PolicyError> {
        let driver = driver.into();
        let fits = (1..=64).contains(&driver.len());
        if !fits || !driver.bytes().all(|byte| byte.is_ascii_graphic()) {
            let range = "a name of 1 to 64 visible ASCII characters";
            return Err(PolicyError::new("driver", range));
        }
        Ok(Self {
            driver,
            headers: Arc::new(HEADERS),
            caller: None,
            only_if: None,
            seal: None,
            version: 0,
        })
    }

    /// These headers, instead of the default ones. What a handler reads of the others (`Host`, say)
    /// it does not find when the request is made again.
    pub fn headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers = names.into_iter().collect();
        self
    }

    /// Who asked: `keep` takes of a request's head what names him (his number, not his password),
    /// and `None` keeps the request not at all; `give_back` puts it where the handler looks for it,
    /// into the extensions of the request that is made again, and says whether he still may. Says
    /// it no, the key is parked.
    pub fn caller(
        mut self,
        keep: impl Fn(&Parts) -> Option<Bytes> + Send + Sync + 'static,
        give_back: impl Fn(&[u8], &mut Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.caller = Some((Arc::new(keep), Arc::new(give_back)));
        self
    }

    /// Only requests of which `wanted` says so: by path, say. Others are done, and not kept.
    pub fn only_if(mut self, wanted: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.only_if = Some(Arc::new(wanted));
        self
    }

    /// Encrypts it. What was kept without a seal is not made again by this program any more, for
    /// whoever may write into the table could have put it there: it counts, and is parked in the end.
    pub fn sealed(mut self, seal: impl Seal + 'static) -> Self {
        self.seal = Some(Arc::new(seal));
        self
    }

    /// A number of yours that is kept with each request, and told by
    /// [`Redriven::version`](super::Redriven::version): of the form its body has, say. Zero unless
    /// told otherwise.
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub(super) const fn driver(&self) -> &Cow<'static, str> {
        &self.driver
    }

    /// What is kept of this request, of at most `longest` bytes.
    pub(super) fn keep(
        &self,
        key: &ScopedKey,
        head: &Parts,
        body: &Bytes,
        longest: usize,
    ) -> Result<Payload, NotKept> {
        if self.only_if.as_ref().is_some_and(|wanted| !wanted(head)) {
            return Err(NotKept::Unwanted);
        }
        if body.len() > longest {
            return Err(NotKept::TooLarge);
        }
        let caller = match &self.caller {
            Some((keep, _)) => Some(keep(head).ok_or(NotKept::Unwanted)?),
            None => None,
        };
        let request = KeptRequest {
            version: self.version,
            method: head.method.clone(),
            target: head.uri.clone(),
            headers: self.headers_of(&head.headers),
            caller,
            body: body.clone(),
        };
        let open = request.encode().ok_or(NotKept::TooLarge)?;
        let (form, bytes) = match &self.seal {
            Some(seal) => (SEALED, seal.seal(key, open).ok_or(NotKept::Unsealed)?),
            None => (OPEN, open),
        };
        if bytes.len() >= longest {
            return Err(NotKept::TooLarge);
        }
        Ok(Payload {
            request: [&[form], &bytes[..]].concat().into(),
            driver: self.driver.clone(),
        })
    }

    fn headers_of(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in &*self.headers {
            for value in headers.get_all(name) {
                kept.append(name, value.clone());
            }
        }
        kept
    }

    /// The request as it is made again, and the number that was kept with it.
    pub(super) fn make(
        &self,
        key: &ScopedKey,
        kept: &[u8],
    ) -> Result<(Request<Bytes>, u32), NotMade> {
        let opened;
        let bytes = match (kept.split_first(), &self.seal) {
            (Some((&OPEN, bytes)), None) => bytes,
            (Some((&SEALED, sealed)), Some(seal)) => {
                opened = seal.open(key, sealed).ok_or(NotMade::ByThisOne)?;
                &opened
            }
            // Among them what is open where there is a seal: whoever writes into the table made it,
            // or a program that had no seal yet.
            (Some(_), _) => return Err(NotMade::ByThisOne),
            (None, _) => return Err(NotMade::ForGood),
        };
        let kept = KeptRequest::decode(bytes).ok_or(NotMade::ForGood)?;
        let mut request = Request::new(kept.body);
        *request.method_mut() = kept.method;
        *request.uri_mut() = kept.target;
        *request.headers_mut() = kept.headers;
        let (mut head, body) = request.into_parts();
        let may = match (&self.caller, kept.caller) {
            (Some((_, give_back)), Some(caller)) => give_back(&caller, &mut head),
            (None, None) => true,
            // Kept by a program that asks for less, or for more, than this one.
            _ => return Err(NotMade::ByThisOne),
        };
        match may {
            true => Ok((Request::from_parts(head, body), kept.version)),
            false => Err(NotMade::ForGood),
        }
    }
}

impl fmt::Debug for KeptRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRequests")
            .field("driver", &self.driver)
            .field("headers", &self.headers)
            .field("caller", &self.caller.is_some())
            .field("sealed", &self.seal.is_some())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
