//! What may stand in one attribute: each key once, and what is wrong said where it stands.

use proc_macro2::Span;
use syn::{Error, Expr, Lit, LitInt, LitStr, Result, Token, meta::ParseNestedMeta};

/// A value, and where its key stands.
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) at: Span,
}

/// A key that may be said once.
pub(crate) type Once<T> = Option<Said<T>>;

/// Takes note of what a key says.
pub(crate) fn say<T>(once: &mut Once<T>, meta: &ParseNestedMeta<'_>, value: T) -> Result<()> {
    if once.is_some() {
        return Err(meta.error("this is said twice: keep one of them"));
    }
    let at = span(meta);
    *once = Some(Said { value, at });
    Ok(())
}

pub(crate) fn span(meta: &ParseNestedMeta<'_>) -> Span {
    let first = meta.path.segments.first();
    first.map_or_else(Span::call_site, |segment| segment.ident.span())
}

/// `key = "text"`.
pub(crate) fn text(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    match literal(meta, "a text in quotes")? {
        Lit::Str(text) if !text.value().trim().is_empty() => Ok(text),
        other => Err(Error::new(
            other.span(),
            "give a text in quotes here, which is not empty",
        )),
    }
}

/// `key = 404`.
pub(crate) fn number(meta: &ParseNestedMeta<'_>) -> Result<LitInt> {
    match literal(meta, "a whole number")? {
        Lit::Int(number) => Ok(number),
        other => Err(Error::new(
            other.span(),
            "give a whole number here, without quotes",
        )),
    }
}

/// `key`, or `key = true`.
pub(crate) fn flag(meta: &ParseNestedMeta<'_>) -> Result<bool> {
    if !meta.input.peek(Token![=]) {
        return Ok(true);
    }
    match literal(meta, "`true` or `false`")? {
        Lit::Bool(flag) => Ok(flag.value),
        other => Err(Error::new(
            other.span(),
            "give `true` or `false` here, or nothing",
        )),
    }
}

/// `key` and no more.
pub(crate) fn bare(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        return Err(meta.error("this takes no value: write it alone"));
    }
    Ok(())
}

/// `key = anything`.
pub(crate) fn expression(meta: &ParseNestedMeta<'_>) -> Result<Expr> {
    meta.value()?.parse()
}

fn literal(meta: &ParseNestedMeta<'_>, wanted: &str) -> Result<Lit> {
    if !meta.input.peek(Token![=]) {
        return Err(meta.error(format!("this needs a value: `= ` and {wanted}")));
    }
    let value = meta.value()?;
    let ahead = value.fork();
    value.parse().map_err(|_| {
        Error::new(
            ahead.span(),
            format!("give {wanted} here, as a literal: it is read before constants are known"),
        )
    })
}
