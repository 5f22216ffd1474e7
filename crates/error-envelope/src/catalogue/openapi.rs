//! A catalogue in `OpenAPI`: the schemas of the forms, and the responses of a route's errors, with an
//! example body of each code.
//!
//! In an operation's list of responses a later one of the same status takes the place of an earlier
//! one, so all errors of a route are told at once: [`ErrorResponses`] of a tuple.
//!
//! ```
//! use buttress_error_envelope::{FieldErrors, openapi::{self, ErrorResponses}};
//! use utoipa::openapi::{ComponentsBuilder, path::OperationBuilder};
//!
//! let operation = OperationBuilder::new()
//!     .responses(openapi::responses(&ErrorResponses::<(FieldErrors,)>::codes()));
//! let components = openapi::components(ComponentsBuilder::new());
//! # let _ = (operation, components);
//! ```

use std::{collections::BTreeMap, marker::PhantomData};

use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        AllOfBuilder, ComponentsBuilder, ContentBuilder, HeaderBuilder, ObjectBuilder,
        OneOfBuilder, Ref, RefOr, Response, ResponseBuilder, Responses, Schema, Type,
        example::ExampleBuilder,
        schema::{AdditionalProperties, ArrayBuilder, SchemaType},
    },
};

use super::{CodeEntry, Codes, ProblemCodes, ValueKind, json};
use crate::Format;

/// The schema of `{"success": false, "error": {…}}`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ErrorEnvelope;

/// The schema of RFC 9457's problem+json, with our members.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProblemDetails;

/// The responses of all errors that `E` may be: put it into an operation's list of responses.
///
/// `E` is whatever has [`ProblemCodes`]: an error that derives `ToProblem`, or a tuple of some.
#[derive(Clone, Copy, Debug)]
pub struct ErrorResponses<E: ?Sized>(PhantomData<fn() -> E>);

impl<E: ProblemCodes + ?Sized> ErrorResponses<E> {
    /// The codes of `E`.
    #[must_use]
    pub const fn codes() -> Codes {
        E::CODES
    }
}

impl<E: ProblemCodes + ?Sized> IntoResponses for ErrorResponses<E> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&E::CODES).responses
    }
}

/// One response for each status, with the codes that have it, an example of each, and the header
/// `Retry-After` where one of them has it.
///
/// The schemas that it refers to are those of [`components`].
#[must_use]
pub fn responses(codes: &Codes) -> Responses {
    responses_of(codes.entries())
}

/// The same of some entries: those of a route, found in the [`Catalogue`](super::Catalogue).
pub fn responses_of(entries: impl IntoIterator<Item = &'static CodeEntry>) -> Responses {
    let mut by_status = BTreeMap::<u16, Vec<&CodeEntry>>::new();
    for entry in entries {
        by_status.entry(entry.status()).or_default().push(entry);
    }
    let mut responses = Responses::new();
    for (status, entries) in by_status {
        let response = response(&entries);
        responses
            .responses
            .insert(status.to_string(), response.into());
    }
    responses
}

/// With the schemas `ErrorEnvelope` and `ProblemDetails`.
#[must_use]
pub fn components(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema(ErrorEnvelope::name(), ErrorEnvelope::schema())
        .schema(ProblemDetails::name(), ProblemDetails::schema())
}

fn response(entries: &[&CodeEntry]) -> Response {
    let line = |entry: &&CodeEntry| format!("`{}`: {}", entry.code(), entry.message());
    let told: Vec<_> = entries.iter().map(line).collect();
    let mut response = ResponseBuilder::new().description(told.join("\n\n"));
    if entries.iter().any(|entry| entry.has_retry_after()) {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1));
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Whole seconds to wait before trying again."));
        response = response.header("Retry-After", header.build());
    }
    for (format, schema) in [
        (
            Format::Json,
            any_of(entries, ErrorEnvelope::name(), in_envelope),
        ),
        (
            Format::ProblemJson,
            any_of(entries, ProblemDetails::name(), in_problem),
        ),
    ] {
        let example = |entry: &&CodeEntry| {
            let example = ExampleBuilder::new()
                .summary(entry.message())
                .description(entry.description())
                .value(Some(json::of(entry, format)));
            (entry.code(), example)
        };
        let content = ContentBuilder::new()
            .schema(Some(schema))
            .examples_from_iter(entries.iter().map(example));
        response = response.content(format.media_type(), content.build());
    }
    response.build()
}

/// The form as a whole, and what each code says of it.
fn any_of(
    entries: &[&CodeEntry],
    form: impl Into<String>,
    of: fn(&CodeEntry) -> ObjectBuilder,
) -> Schema {
    let whole = AllOfBuilder::new().item(Ref::from_schema_name(form));
    match entries {
        [entry] => Schema::AllOf(whole.item(of(entry)).build()),
        entries => {
            let each = entries.iter().map(|entry| of(entry));
            let one = each.fold(OneOfBuilder::new(), OneOfBuilder::item);
            Schema::AllOf(whole.item(Schema::OneOf(one.build())).build())
        }
    }
}

fn in_envelope(entry: &CodeEntry) -> ObjectBuilder {
    let mut error = ObjectBuilder::new()
        .property("code", this_code(entry))
        .required("code");
    if !entry.extensions().is_empty() && !entry.has_fields() {
        let details = extensions(entry, ObjectBuilder::new());
        error = error.property("details", details);
        if entry.extensions().iter().any(|it| !it.is_optional()) {
            error = error.required("details");
        }
    }
    ObjectBuilder::new()
        .property("error", error)
        .required("error")
}

fn in_problem(entry: &CodeEntry) -> ObjectBuilder {
    let object = ObjectBuilder::new()
        .property("code", this_code(entry))
        .required("code");
    extensions(entry, object)
}

fn this_code(entry: &CodeEntry) -> ObjectBuilder {
    text().enum_values(Some([entry.code()]))
}

fn extensions(entry: &CodeEntry, object: ObjectBuilder) -> ObjectBuilder {
    entry.extensions().iter().fold(object, |object, extension| {
        let told = Some(extension.description()).filter(|told| !told.is_empty());
        let of_type = |it: SchemaType| {
            let schema = ObjectBuilder::new().schema_type(it).description(told);
            RefOr::from(Schema::from(schema))
        };
        let schema = match extension.kind() {
            ValueKind::String => of_type(Type::String.into()),
            ValueKind::Integer => of_type(Type::Integer.into()),
            ValueKind::Number => of_type(Type::Number.into()),
            ValueKind::Boolean => of_type(Type::Boolean.into()),
            ValueKind::Array => {
                let any = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
                Schema::from(ArrayBuilder::new().items(any).description(told)).into()
            }
            ValueKind::Any => of_type(SchemaType::AnyValue),
        };
        let object = object.property(extension.name(), schema);
        match extension.is_optional() {
            true => object,
            false => object.required(extension.name()),
        }
    })
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

impl ToSchema for ErrorEnvelope {}

impl PartialSchema for ErrorEnvelope {
    fn schema() -> RefOr<Schema> {
        let success = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .enum_values(Some([false]));
        let details = ObjectBuilder::new()
            .description(Some(
                "Of wrong fields, what is wrong with each by its path; else what the code says.",
            ))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)));
        let error = ObjectBuilder::new()
            .property("code", text().description(Some("Stable; match on it.")))
            .required("code")
            .property(
                "message",
                text().description(Some("One sentence for people.")),
            )
            .required("message")
            .property("details", details);
        Schema::from(
            ObjectBuilder::new()
                .property("success", success)
                .required("success")
                .property("error", flags(error))
                .required("error"),
        )
        .into()
    }
}

impl ToSchema for ProblemDetails {}

impl PartialSchema for ProblemDetails {
    fn schema() -> RefOr<Schema> {
        let status = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(400))
            .maximum(Some(599));
        let field = ObjectBuilder::new()
            .property("detail", text())
            .required("detail")
            .property(
                "pointer",
                text().description(Some("A JSON Pointer, as a fragment.")),
            )
            .property("parameter", text())
            .property("header", text())
            .property("code", text());
        let problem = ObjectBuilder::new()
            .description(Some("RFC 9457"))
            .property("type", text())
            .required("type")
            .property("title", text())
            .property("status", status)
            .required("status")
            .property("detail", text())
            .required("detail")
            .property("instance", text())
            .property("code", text().description(Some("Stable; match on it.")))
            .required("code")
            .property("errors", ArrayBuilder::new().items(field));
        Schema::from(flags(problem)).into()
    }
}

/// What both forms may have.
fn flags(object: ObjectBuilder) -> ObjectBuilder {
    let flag = || ObjectBuilder::new().schema_type(Type::Boolean);
    object
        .property(
            "retryable",
            flag().description(Some("Whether the same request may succeed later.")),
        )
        .property(
            "truncated",
            flag().description(Some("Whether something did not fit.")),
        )
}
