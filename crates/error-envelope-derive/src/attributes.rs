//! What `#[problem(…)]` says on a type, a variant and a field.

use proc_macro2::Span;
use syn::{Attribute, Expr, ExprLit, Lit, LitInt, LitStr, Meta, Path, Result};

use crate::keys::{self, Once};

/// What it says on a variant or a struct.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) code: Once<LitStr>,
    pub(crate) status: Once<LitInt>,
    pub(crate) title: Once<LitStr>,
    pub(crate) message: Once<LitStr>,
    pub(crate) type_uri: Once<LitStr>,
    pub(crate) domain: Once<LitStr>,
    pub(crate) grpc: Once<LitStr>,
    pub(crate) retryable: Once<bool>,
    pub(crate) retry_after: Once<Expr>,
    pub(crate) shared: Once<()>,
    pub(crate) transparent: Once<()>,
    pub(crate) codes: Once<Expr>,
    pub(crate) internal: Once<()>,
    /// On a type only.
    pub(crate) path: Once<Path>,
    /// Where the attribute stands, if there is one.
    pub(crate) at: Option<Span>,
}

const SHOWN: &str = "`code`, `status`, `message`, `title`, `type`, `domain`, `grpc`, `retryable`, \
                     `retry_after`, `shared`, `transparent`, `codes` and `internal`";

impl Shown {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut shown = Self::default();
        for attribute in ours(attributes) {
            shown.at = shown.at.or_else(|| Some(start(attribute)));
            attribute.parse_nested_meta(|meta| {
                let key = meta.path.get_ident().map(ToString::to_string);
                match key.as_deref().unwrap_or_default() {
                    "code" => keys::say(&mut shown.code, &meta, keys::text(&meta)?),
                    "status" => keys::say(&mut shown.status, &meta, keys::number(&meta)?),
                    "title" => keys::say(&mut shown.title, &meta, keys::text(&meta)?),
                    "message" => keys::say(&mut shown.message, &meta, keys::text(&meta)?),
                    "type" => keys::say(&mut shown.type_uri, &meta, keys::text(&meta)?),
                    "domain" => keys::say(&mut shown.domain, &meta, keys::text(&meta)?),
                    "grpc" => keys::say(&mut shown.grpc, &meta, keys::text(&meta)?),
                    "retryable" => keys::say(&mut shown.retryable, &meta, keys::flag(&meta)?),
                    "retry_after" => {
                        keys::say(&mut shown.retry_after, &meta, keys::expression(&meta)?)
                    }
                    "shared" => keys::say(&mut shown.shared, &meta, keys::bare(&meta)?),
                    "transparent" => keys::say(&mut shown.transparent, &meta, keys::bare(&meta)?),
                    "codes" => keys::say(&mut shown.codes, &meta, keys::expression(&meta)?),
                    "internal" => keys::say(&mut shown.internal, &meta, keys::bare(&meta)?),
                    "crate" => keys::say(&mut shown.path, &meta, meta.value()?.parse()?),
                    key => {
                        let is_of_fields = ["extension", "public", "fields", "headers", "example"];
                        let told = if is_of_fields.contains(&key) {
                            format!("`{key}` is said of a field: put it before the field")
                        } else {
                            format!("this is not known here; known are {SHOWN}")
                        };
                        Err(meta.error(told))
                    }
                }
            })?;
        }
        Ok(shown)
    }

    /// The keys that were said beside those that `except` names.
    pub(crate) fn others(&self, except: &[&str]) -> Option<(&'static str, Span)> {
        let at = |key, once: Option<Span>| once.map(|span| (key, span));
        [
            at("code", self.code.as_ref().map(|it| it.at)),
            at("status", self.status.as_ref().map(|it| it.at)),
            at("title", self.title.as_ref().map(|it| it.at)),
            at("message", self.message.as_ref().map(|it| it.at)),
            at("type", self.type_uri.as_ref().map(|it| it.at)),
            at("domain", self.domain.as_ref().map(|it| it.at)),
            at("grpc", self.grpc.as_ref().map(|it| it.at)),
            at("retryable", self.retryable.as_ref().map(|it| it.at)),
            at("retry_after", self.retry_after.as_ref().map(|it| it.at)),
            at("shared", self.shared.as_ref().map(|it| it.at)),
            at("transparent", self.transparent.as_ref().map(|it| it.at)),
            at("codes", self.codes.as_ref().map(|it| it.at)),
            at("internal", self.internal.as_ref().map(|it| it.at)),
            at("crate", self.path.as_ref().map(|it| it.at)),
        ]
        .into_iter()
        .flatten()
        .find(|(key, _)| !except.contains(key))
    }
}

/// What it says on a field.
#[derive(Default)]
pub(crate) struct Part {
    /// `None` within stands for the field's own name.
    pub(crate) extension: Once<Option<LitStr>>,
    pub(crate) example: Once<Lit>,
    pub(crate) public: Once<()>,
    pub(crate) fields: Once<()>,
    pub(crate) retry_after: Once<()>,
    pub(crate) headers: Once<()>,
    pub(crate) at: Option<Span>,
}

impl Part {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut part = Self::default();
        for attribute in ours(attributes) {
            part.at = part.at.or_else(|| Some(start(attribute)));
            attribute.parse_nested_meta(|meta| {
                let key = meta.path.get_ident().map(ToString::to_string);
                match key.as_deref().unwrap_or_default() {
                    "extension" => {
                        let has_name = meta.input.peek(syn::Token![=]);
                        let name = has_name.then(|| keys::text(&meta)).transpose()?;
                        keys::say(&mut part.extension, &meta, name)
                    }
                    "example" => keys::say(&mut part.example, &meta, meta.value()?.parse()?),
                    "public" => keys::say(&mut part.public, &meta, keys::bare(&meta)?),
                    "fields" => keys::say(&mut part.fields, &meta, keys::bare(&meta)?),
                    "retry_after" => keys::say(&mut part.retry_after, &meta, keys::bare(&meta)?),
                    "headers" => keys::say(&mut part.headers, &meta, keys::bare(&meta)?),
                    _ => Err(meta.error(
                        "this is not known of a field; known are `extension`, `example`, `public`, \
                         `fields`, `retry_after` and `headers`",
                    )),
                }
            })?;
        }
        Ok(part)
    }
}

fn ours(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|it| it.path().is_ident("problem"))
}

fn start(attribute: &Attribute) -> Span {
    let first = attribute.path().segments.first();
    first.map_or_else(Span::call_site, |segment| segment.ident.span())
}

/// The doc comment, without the space that begins each line.
pub(crate) fn docs(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => {
                let text = text.value();
                Some(
                    text.strip_prefix(' ')
                        .unwrap_or(&text)
                        .trim_end()
                        .to_owned(),
                )
            }
            _ => None,
        },
        _ => None,
    };
    let lines: Vec<_> = attributes.iter().filter_map(line).collect();
    lines.join("\n").trim().to_owned()
}
