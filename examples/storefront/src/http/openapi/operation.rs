//! One operation, put together.

use buttress_error_envelope::openapi;
use utoipa::openapi::{
    ArrayBuilder, ContentBuilder, HttpMethod, ObjectBuilder, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema, Type,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
};

use super::super::errors::CATALOGUE;

const JSON: &str = "application/json";

/// A method of a path, what it takes and how it may end.
#[derive(Clone)]
pub(super) struct Route {
    method: HttpMethod,
    path: &'static str,
    summary: &'static str,
    parameters: Vec<Parameter>,
    body: Option<&'static str>,
    answers: Vec<(&'static str, Response)>,
    errors: Vec<&'static str>,
}

impl Route {
    pub(super) const fn new(method: HttpMethod, path: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn takes(mut self, name: &str, within: ParameterIn, of: Type, required: bool) -> Self {
        let required = if required {
            Required::True
        } else {
            Required::False
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(within)
            .required(required)
            .schema(Some(ObjectBuilder::new().schema_type(of)));
        self.parameters.push(parameter.build());
        self
    }

    /// The id in the path.
    pub(super) fn id(self) -> Self {
        self.takes("id", ParameterIn::Path, Type::String, true)
    }

    pub(super) fn header(self, name: &str, required: bool) -> Self {
        self.takes(name, ParameterIn::Header, Type::String, required)
    }

    pub(super) fn text(self, name: &str, required: bool) -> Self {
        self.takes(name, ParameterIn::Query, Type::String, required)
    }

    pub(super) fn number(self, name: &str, required: bool) -> Self {
        self.takes(name, ParameterIn::Query, Type::Integer, required)
    }

    /// `limit` and `cursor`.
    pub(super) fn page(self) -> Self {
        self.number("limit", false).text("cursor", false)
    }

    pub(super) fn body(mut self, schema: &'static str) -> Self {
        self.body = Some(schema);
        self
    }

    /// 200 with data of this schema.
    pub(super) fn data(self, schema: &'static str) -> Self {
        self.answer("200", "Done", schema)
    }

    pub(super) fn answer(
        self,
        status: &'static str,
        told: &'static str,
        schema: &'static str,
    ) -> Self {
        self.envelope(status, told, Ref::from_schema_name(schema).into(), None)
    }

    /// 200 with a list, and perhaps something to say about it.
    pub(super) fn list(self, schema: &'static str, meta: Option<&'static str>) -> Self {
        let list = ArrayBuilder::new().items(Ref::from_schema_name(schema));
        let list = Schema::from(list).into();
        self.envelope("200", "Done", list, meta)
    }

    fn envelope(
        mut self,
        status: &'static str,
        told: &'static str,
        data: RefOr<Schema>,
        meta: Option<&'static str>,
    ) -> Self {
        let success = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .enum_values(Some([true]));
        let mut envelope = ObjectBuilder::new()
            .property("success", success)
            .required("success")
            .property("data", data)
            .required("data");
        if let Some(meta) = meta {
            envelope = envelope
                .property("meta", Ref::from_schema_name(meta))
                .required("meta");
        }
        let content = ContentBuilder::new().schema(Some(envelope)).build();
        let answer = ResponseBuilder::new()
            .description(told)
            .content(JSON, content);
        self.answers.push((status, answer.build()));
        self
    }

    /// An answer that is no envelope.
    pub(super) fn bare(
        mut self,
        status: &'static str,
        told: &'static str,
        media_type: Option<&'static str>,
    ) -> Self {
        let answer = ResponseBuilder::new().description(told);
        let answer = match media_type {
            Some(media_type) => answer.content(media_type, ContentBuilder::new().build()),
            None => answer,
        };
        self.answers.push((status, answer.build()));
        self
    }

    /// The codes of its errors.
    pub(super) fn errors(mut self, groups: &[&[&'static str]]) -> Self {
        self.errors = groups.concat();
        self
    }

    #[cfg(test)]
    pub(super) fn codes(&self) -> Vec<&'static str> {
        self.errors.clone()
    }

    pub(super) fn into_parts(self) -> (HttpMethod, &'static str, Operation) {
        // A code that is listed twice is one, and one that is not known would fail the tests.
        let mut errors: Vec<_> = self
            .errors
            .iter()
            .filter_map(|it| CATALOGUE.get(it))
            .collect();
        errors.sort_by_key(|entry| entry.code());
        errors.dedup_by_key(|entry| entry.code());
        let mut responses = openapi::responses_of(errors);
        for (status, answer) in self.answers {
            responses.responses.insert(status.to_owned(), answer.into());
        }
        let mut operation = OperationBuilder::new()
            .summary(Some(self.summary))
            .responses(responses);
        for parameter in self.parameters {
            operation = operation.parameter(parameter);
        }
        if let Some(schema) = self.body {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema)));
            let body = RequestBodyBuilder::new()
                .content(JSON, content.build())
                .required(Some(Required::True));
            operation = operation.request_body(Some(body.build()));
        }
        (self.method, self.path, operation.build())
    }
}
