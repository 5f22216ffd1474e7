//! What a type's attributes say together, checked.

mod field;

use std::collections::HashMap;

use proc_macro2::Span;
use syn::{Data, DeriveInput, Error, Expr, Fields, Generics, Ident, LitStr, Path, Result};

pub(crate) use self::field::Field;
use crate::{
    attributes::{Shown, docs},
    keys::Said,
    template::Template,
};

/// A type that is to be a `ToProblem`.
pub(crate) struct Definition<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    /// Where `buttress_error_envelope` is.
    pub(crate) path: Option<Path>,
    pub(crate) cases: Vec<Case<'a>>,
}

/// A variant, or a struct as a whole.
pub(crate) struct Case<'a> {
    /// `None` for a struct.
    pub(crate) variant: Option<&'a Ident>,
    pub(crate) span: Span,
    pub(crate) fields: Vec<Field<'a>>,
    pub(crate) how: How,
    pub(crate) description: String,
}

/// How a case leaves.
pub(crate) enum How {
    Shown(Box<Coded>),
    /// By the field at this place, whose codes are these or its own.
    Transparent(usize, Option<Expr>),
    Internal,
}

/// A case with a code of its own.
pub(crate) struct Coded {
    pub(crate) code: LitStr,
    pub(crate) status: u16,
    pub(crate) message: Template,
    pub(crate) title: Option<LitStr>,
    pub(crate) type_uri: Option<LitStr>,
    pub(crate) domain: Option<LitStr>,
    /// The variant of `RpcCode`.
    pub(crate) grpc: Option<Ident>,
    pub(crate) retryable: Option<bool>,
    pub(crate) retry_after: Option<Wait>,
    pub(crate) is_shared: bool,
}

/// When to come back.
pub(crate) enum Wait {
    Seconds(u32),
    By(Box<Expr>),
    Field(usize),
}

/// The codes that an error may have, and the variants that stand for them.
const GRPC: [(&str, &str); 16] = [
    ("CANCELLED", "Cancelled"),
    ("UNKNOWN", "Unknown"),
    ("INVALID_ARGUMENT", "InvalidArgument"),
    ("DEADLINE_EXCEEDED", "DeadlineExceeded"),
    ("NOT_FOUND", "NotFound"),
    ("ALREADY_EXISTS", "AlreadyExists"),
    ("PERMISSION_DENIED", "PermissionDenied"),
    ("RESOURCE_EXHAUSTED", "ResourceExhausted"),
    ("FAILED_PRECONDITION", "FailedPrecondition"),
    ("ABORTED", "Aborted"),
    ("OUT_OF_RANGE", "OutOfRange"),
    ("UNIMPLEMENTED", "Unimplemented"),
    ("INTERNAL", "Internal"),
    ("UNAVAILABLE", "Unavailable"),
    ("DATA_LOSS", "DataLoss"),
    ("UNAUTHENTICATED", "Unauthenticated"),
];

impl<'a> Definition<'a> {
    /// All that is wrong is told at once.
    pub(crate) fn read(input: &'a DeriveInput) -> Result<Self> {
        let shown = Shown::read(&input.attrs)?;
        let path = shown.path.as_ref().map(|said| said.value.clone());
        let mut wrong = None;
        let mut cases = Vec::new();
        let mut keep = |case: Result<Case<'a>>| match case {
            Ok(case) => cases.push(case),
            Err(error) => match &mut wrong {
                None => wrong = Some(error),
                Some(wrong) => wrong.combine(error),
            },
        };
        match &input.data {
            Data::Union(it) => {
                return Err(Error::new(
                    it.union_token.span,
                    "a union says nothing of itself: make it a struct or an enum",
                ));
            }
            Data::Struct(it) => {
                let case = Case::read(None, input.ident.span(), &shown, &it.fields, None);
                keep(case.map(|case| case.described(docs(&input.attrs))));
            }
            Data::Enum(it) => {
                if let Some((key, span)) = shown.others(&["crate", "domain"]) {
                    return Err(Error::new(
                        span,
                        format!("`{key}` is said of each variant: put it before the variants"),
                    ));
                }
                let domain = shown.domain.as_ref().map(|said| &said.value);
                for variant in &it.variants {
                    let case = Shown::read(&variant.attrs).and_then(|shown| {
                        if let Some(said) = &shown.path {
                            let told = "`crate` is said of the whole enum: put it before the enum";
                            return Err(Error::new(said.at, told));
                        }
                        let (ident, fields) = (&variant.ident, &variant.fields);
                        Case::read(Some(ident), ident.span(), &shown, fields, domain)
                    });
                    keep(case.map(|case| case.described(docs(&variant.attrs))));
                }
            }
        }
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        each_code_once(&cases)?;
        Ok(Self {
            ident: &input.ident,
            generics: &input.generics,
            path,
            cases,
        })
    }
}

/// A code that two variants have must be shared by both, and mean the same.
fn each_code_once(cases: &[Case<'_>]) -> Result<()> {
    let mut seen = HashMap::new();
    for case in cases {
        let How::Shown(coded) = &case.how else {
            continue;
        };
        let text = |it: &Option<LitStr>| it.as_ref().map(LitStr::value);
        let meaning = |it: &Coded| {
            (
                it.status,
                text(&it.title),
                text(&it.type_uri),
                it.grpc.clone(),
            )
        };
        let Some(other) = seen.insert(coded.code.value(), (case.variant, &**coded)) else {
            continue;
        };
        let (variant, other) = other;
        let (code, name) = (coded.code.value(), variant.map(ToString::to_string));
        let name = name.unwrap_or_default();
        if !(coded.is_shared && other.is_shared) {
            return Err(Error::new(
                coded.code.span(),
                format!(
                    "`{code}` is the code of `{name}` too: give this another one, or mark both as \
                     `shared` if they mean the same to a caller"
                ),
            ));
        }
        if meaning(coded) != meaning(other) {
            return Err(Error::new(
                coded.code.span(),
                format!(
                    "`{code}` is shared with `{name}`, but differs from it in status, title, type \
                     or gRPC code"
                ),
            ));
        }
    }
    Ok(())
}

impl<'a> Case<'a> {
    fn read(
        variant: Option<&'a Ident>,
        span: Span,
        shown: &Shown,
        fields: &'a Fields,
        domain: Option<&LitStr>,
    ) -> Result<Self> {
        let fields = Field::read_all(fields)?;
        let how = if let Some(said) = &shown.transparent {
            only(shown, "transparent", &["transparent", "codes", "crate"])?;
            none_shown(&fields, "transparent")?;
            let [_] = &fields[..] else {
                return Err(Error::new(
                    said.at,
                    "`transparent` needs exactly one field, which says how it leaves",
                ));
            };
            How::Transparent(0, shown.codes.as_ref().map(|said| said.value.clone()))
        } else if let Some(said) = &shown.codes {
            let told = "`codes` are those of the field of a `transparent` variant: say that too";
            return Err(Error::new(said.at, told));
        } else if shown.internal.is_some() {
            only(shown, "internal", &["internal", "crate"])?;
            none_shown(&fields, "internal")?;
            How::Internal
        } else {
            How::Shown(Box::new(coded(shown, span, &fields, domain)?))
        };
        Ok(Self {
            variant,
            span,
            fields,
            how,
            description: String::new(),
        })
    }

    fn described(self, description: String) -> Self {
        Self {
            description,
            ..self
        }
    }
}

/// Nothing is said beside `except`.
fn only(shown: &Shown, what: &str, except: &[&str]) -> Result<()> {
    match shown.others(except) {
        None => Ok(()),
        Some((key, span)) => Err(Error::new(
            span,
            format!("`{key}` has no effect beside `{what}`: leave one of them out"),
        )),
    }
}

/// No field is shown.
fn none_shown(fields: &[Field<'_>], what: &str) -> Result<()> {
    match fields.iter().find_map(|field| field.part.at) {
        None => Ok(()),
        Some(span) => Err(Error::new(
            span,
            format!("no field is shown of what is `{what}`: leave this out"),
        )),
    }
}

fn coded(
    shown: &Shown,
    span: Span,
    fields: &[Field<'_>],
    domain: Option<&LitStr>,
) -> Result<Coded> {
    let missing = |told: &str| Error::new(shown.at.unwrap_or(span), told);
    let Some(code) = &shown.code else {
        return Err(missing(
            "how does this leave? Say `#[problem(code = \"…\", status = …, message = \"…\")]`, or \
             `#[problem(transparent)]`, or `#[problem(internal)]` for the opaque 500",
        ));
    };
    check_code(&code.value)?;
    let Some(status) = &shown.status else {
        return Err(missing(
            "the status is missing: say `status = 404`, or which it is",
        ));
    };
    let status_span = status.value.span();
    let status = status.value.base10_parse().ok();
    let Some(status) = status.filter(|status| (400..600).contains(status)) else {
        return Err(Error::new(
            status_span,
            "the status of an error is 400 to 599",
        ));
    };
    let Some(message) = &shown.message else {
        return Err(missing(
            "the message is missing: say `message = \"One sentence for the caller.\"`; the \
             error's `Display` is for the log",
        ));
    };
    let is_public = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        Some(field.part.public.is_some() || field.extension.is_some())
    };
    let value = |once: &Option<Said<LitStr>>| once.as_ref().map(|said| said.value.clone());
    Ok(Coded {
        code: code.value.clone(),
        status,
        message: Template::read(&message.value, is_public)?,
        title: value(&shown.title),
        type_uri: value(&shown.type_uri),
        domain: value(&shown.domain).or_else(|| domain.cloned()),
        grpc: shown
            .grpc
            .as_ref()
            .map(|said| grpc(&said.value))
            .transpose()?,
        retryable: shown.retryable.as_ref().map(|said| said.value),
        retry_after: wait(shown, fields)?,
        is_shared: shown.shared.is_some(),
    })
}

fn check_code(code: &LitStr) -> Result<()> {
    let text = code.value();
    let inner = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_reason = text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.ends_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit())
        && text.chars().all(inner)
        && (3..=63).contains(&text.len());
    if is_reason {
        return Ok(());
    }
    Err(Error::new(
        code.span(),
        "a code is 3 to 63 of A-Z, 0-9 and _, begins with a letter and does not end with _: \
         `ORDER_NOT_FOUND` (AIP-193)",
    ))
}

fn grpc(name: &LitStr) -> Result<Ident> {
    let text = name.value();
    match GRPC.iter().find(|(known, _)| *known == text) {
        Some((_, variant)) => Ok(Ident::new(variant, name.span())),
        None => Err(Error::new(
            name.span(),
            format!(
                "this is no gRPC code of an error; known are {}",
                GRPC.map(|(known, _)| known).join(", ")
            ),
        )),
    }
}

fn wait(shown: &Shown, fields: &[Field<'_>]) -> Result<Option<Wait>> {
    let mut marked = fields.iter().enumerate().filter_map(|(at, field)| {
        let said = field.part.retry_after.as_ref()?;
        Some((at, said.at))
    });
    let by_field = marked.next();
    let second = marked.next().map(|(_, span)| span);
    let by_field_too = by_field
        .map(|(_, span)| span)
        .filter(|_| shown.retry_after.is_some());
    if let Some(span) = second.or(by_field_too) {
        let told = "the time to come back is said twice: keep one of them";
        return Err(Error::new(span, told));
    }
    let Some(said) = &shown.retry_after else {
        return Ok(by_field.map(|(at, _)| Wait::Field(at)));
    };
    let Expr::Lit(syn::ExprLit {
        lit: syn::Lit::Int(number),
        ..
    }) = &said.value
    else {
        return Ok(Some(Wait::By(Box::new(said.value.clone()))));
    };
    match number.base10_parse() {
        Ok(seconds @ 1..=86_400) => Ok(Some(Wait::Seconds(seconds))),
        _ => Err(Error::new(
            number.span(),
            "the time to come back is 1 to 86400 seconds",
        )),
    }
}
