//! The two implementations.

mod kind;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Type, WhereClause, parse_quote};

use self::kind::{Kind, mentions};
use crate::definition::{Case, Coded, Definition, Field, How, Wait};

pub(crate) fn all(definition: &Definition<'_>) -> TokenStream {
    let path = match &definition.path {
        Some(path) => quote!(#path),
        None => quote!(::buttress_error_envelope),
    };
    let ident = definition.ident;
    let (impl_generics, type_generics, given) = definition.generics.split_for_impl();
    let arms = definition.cases.iter().map(|case| arm(case, &path));
    let body = if definition.cases.is_empty() {
        quote!(match *self {})
    } else {
        quote!(match self { #(#arms)* })
    };
    let to_problem = bounds(definition, given, |case, field| {
        problem_bound(case, field, &path)
    });
    let own = definition
        .cases
        .iter()
        .filter_map(|case| entry(definition, case, &path));
    let inner = definition
        .cases
        .iter()
        .filter_map(|case| inner(case, &path));
    let codes = bounds(definition, given, |case, _| match &case.how {
        How::Transparent(_, None) => vec![quote!(#path::ProblemCodes)],
        _ => Vec::new(),
    });
    quote! {
        #[automatically_derived]
        impl #impl_generics #path::ToProblem for #ident #type_generics #to_problem {
            #[allow(unused_variables, clippy::pattern_type_mismatch, clippy::used_underscore_binding)]
            fn to_problem(&self) -> #path::Problem {
                #body
            }
        }

        #[automatically_derived]
        impl #impl_generics #path::ProblemCodes for #ident #type_generics #codes {
            const OWN: &'static [#path::CodeEntry] = &[#(#own),*];
            const INNER: &'static [#path::Codes] = &[#(#inner),*];
        }
    }
}

/// The bounds on those field types that depend on the type's parameters.
fn bounds(
    definition: &Definition<'_>,
    given: Option<&WhereClause>,
    of: impl Fn(&Case<'_>, &Field<'_>) -> Vec<TokenStream>,
) -> Option<WhereClause> {
    let parameters: Vec<_> = definition
        .generics
        .type_params()
        .map(|it| &it.ident)
        .collect();
    let mut clause = given.cloned();
    for case in &definition.cases {
        for field in case.fields.iter().filter(|it| mentions(it.ty, &parameters)) {
            let bounds = of(case, field);
            if !bounds.is_empty() {
                let ty: &Type = field.ty;
                clause
                    .get_or_insert_with(|| parse_quote!(where))
                    .predicates
                    .push(parse_quote!(#ty: #(#bounds)+*));
            }
        }
    }
    clause
}

fn problem_bound(case: &Case<'_>, field: &Field<'_>, path: &TokenStream) -> Vec<TokenStream> {
    let coded = match &case.how {
        How::Shown(coded) => coded,
        How::Transparent(..) => return vec![quote!(#path::ToProblem)],
        How::Internal => return Vec::new(),
    };
    let mut bounds = Vec::new();
    if field.extension.is_some() {
        bounds.push(quote!(#path::derive::Serialize));
    }
    if coded.message.names.contains(&field.name) {
        bounds.push(quote!(::core::fmt::Display));
    }
    if field.part.retry_after.is_some() {
        bounds.push(quote!(#path::derive::Wait));
    }
    bounds
}

/// The name under which a field is bound.
fn bound(field: &Field<'_>) -> Ident {
    match field.ident {
        Some(ident) => ident.clone(),
        None => format_ident!("_{}", field.name, span = Span::call_site()),
    }
}

fn arm(case: &Case<'_>, path: &TokenStream) -> TokenStream {
    let variant = case.variant.map(|it| quote!(::#it));
    let members = case.fields.iter().map(|field| {
        let bound = bound(field);
        match field.ident {
            Some(_) => quote!(#bound),
            None => {
                let index = syn::Index::from(field.name.parse::<usize>().unwrap_or_default());
                quote!(#index: #bound)
            }
        }
    });
    let body = match &case.how {
        How::Internal => quote!(#path::derive::internal()),
        How::Transparent(at, _) => {
            let field = bound(&case.fields[*at]);
            let span = case.span;
            quote_spanned!(span=> #path::ToProblem::to_problem(#field))
        }
        How::Shown(coded) => shown(coded, &case.fields, path),
    };
    quote!(Self #variant { #(#members),* } => { #body })
}

fn shown(coded: &Coded, fields: &[Field<'_>], path: &TokenStream) -> TokenStream {
    let Coded { code, status, .. } = coded;
    let problem = Ident::new("problem", Span::mixed_site());
    let message = message(coded, fields);
    let mut steps = Vec::new();
    if let Some(title) = &coded.title {
        steps.push(quote!(let #problem = #problem.with_title(#title);));
    }
    if let Some(uri) = &coded.type_uri {
        steps.push(quote!(let #problem = #problem.with_type(#uri);));
    }
    if let Some(domain) = &coded.domain {
        steps.push(quote!(let #problem = #problem.with_domain(#domain);));
    }
    if let Some(grpc) = &coded.grpc {
        steps.push(quote!(let #problem = #problem.with_rpc_code(#path::RpcCode::#grpc);));
    }
    if let Some(retryable) = coded.retryable {
        steps.push(quote!(let #problem = #problem.with_retryable(#retryable);));
    }
    match &coded.retry_after {
        None => {}
        Some(Wait::Seconds(seconds)) => {
            let seconds = u64::from(*seconds);
            steps.push(quote! {
                let #problem =
                    #problem.with_retry_after(::core::time::Duration::from_secs(#seconds));
            });
        }
        Some(Wait::By(expression)) => steps.push(quote! {
            let #problem = #path::derive::retry_after(#problem, &(#expression));
        }),
        Some(Wait::Field(at)) => {
            let field = bound(&fields[*at]);
            steps.push(quote!(let #problem = #path::derive::retry_after(#problem, #field);));
        }
    }
    for field in fields {
        let bound = bound(field);
        if let Some(name) = &field.extension {
            steps.push(quote! {
                let #problem = #path::derive::extension(#problem, #name, #bound);
            });
        }
        if field.part.fields.is_some() {
            steps.push(quote! {
                let #problem = #problem.with_fields(
                    ::core::iter::Iterator::cloned(::core::iter::IntoIterator::into_iter(#bound)),
                );
            });
        }
        if field.part.headers.is_some() {
            steps.push(quote!(let #problem = #path::derive::headers(#problem, #bound);));
        }
    }
    quote! {
        let #problem = #path::Problem::new(#status, #code, #message);
        #(#steps)*
        #problem
    }
}

fn message(coded: &Coded, fields: &[Field<'_>]) -> TokenStream {
    let template = &coded.message;
    if template.names.is_empty() {
        let told = &template.told;
        return quote!(#told);
    }
    let format = &template.format;
    let arguments = template.names.iter().enumerate().filter_map(|(at, name)| {
        let field = fields.iter().find(|field| field.name == *name)?;
        let (argument, bound) = (format_ident!("a{at}"), bound(field));
        Some(quote!(#argument = #bound))
    });
    quote!(::std::format!(#format, #(#arguments),*))
}

/// The entry of the catalogue.
fn entry(definition: &Definition<'_>, case: &Case<'_>, path: &TokenStream) -> Option<TokenStream> {
    // Where the variant stands, so that a code that is defined twice is told with both places.
    let span = case.span;
    let path = &at(path, span);
    let coded = match &case.how {
        How::Shown(coded) => coded,
        How::Internal => return Some(quote_spanned!(span=> #path::CodeEntry::of_status(500))),
        How::Transparent(..) => return None,
    };
    let Coded { code, status, .. } = coded.as_ref();
    let name = match case.variant {
        Some(variant) => format!("::{}::{variant}", definition.ident),
        None => format!("::{}", definition.ident),
    };
    let message = &coded.message.told;
    let mut steps = vec![quote!(.with_message(#message))];
    if let Some(message) = example_message(message, &case.fields) {
        steps.push(quote!(.with_example_message(#message)));
    }
    let description = &case.description;
    if !description.is_empty() {
        steps.push(quote!(.with_description(#description)));
    }
    steps.extend(coded.title.iter().map(|it| quote!(.with_title(#it))));
    steps.extend(coded.type_uri.iter().map(|it| quote!(.with_type(#it))));
    steps.extend(coded.domain.iter().map(|it| quote!(.with_domain(#it))));
    steps.extend(
        coded
            .retryable
            .iter()
            .map(|it| quote!(.with_retryable(#it))),
    );
    steps.extend(
        coded
            .grpc
            .iter()
            .map(|it| quote!(.with_rpc_code(#path::RpcCode::#it))),
    );
    if coded.is_shared {
        steps.push(quote!(.shared()));
    }
    if let Some(wait) = &coded.retry_after {
        let seconds = match wait {
            Wait::Seconds(seconds) => *seconds,
            Wait::By(_) | Wait::Field(_) => 1,
        };
        steps.push(quote!(.with_retry_after(#seconds)));
    }
    if case.fields.iter().any(|field| field.part.fields.is_some()) {
        steps.push(quote!(.with_fields()));
    }
    let extensions: Vec<_> = case
        .fields
        .iter()
        .filter_map(|it| extension(it, path))
        .collect();
    if !extensions.is_empty() {
        steps.push(quote!(.with_extensions(&[#(#extensions),*])));
    }
    Some(quote_spanned! {span=>
        #path::CodeEntry::new(#code, #status)
            .named(::core::concat!(::core::module_path!(), #name))
            #(#steps)*
    })
}

/// The message with the examples of those fields that only it shows.
fn example_message(message: &str, fields: &[Field<'_>]) -> Option<String> {
    let mut told = message.to_owned();
    for field in fields.iter().filter(|field| field.extension.is_none()) {
        if let Some(said) = &field.part.example {
            told = told.replace(&format!("{{{}}}", field.name), &example(&said.value));
        }
    }
    (told != message).then_some(told)
}

fn example(value: &syn::Lit) -> String {
    match value {
        syn::Lit::Str(text) => text.value(),
        other => quote!(#other).to_string(),
    }
}

/// The same tokens, standing elsewhere.
fn at(tokens: &TokenStream, span: Span) -> TokenStream {
    let tokens = tokens.clone().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

fn extension(field: &Field<'_>, path: &TokenStream) -> Option<TokenStream> {
    let name = field.extension.as_ref()?;
    let kind = Kind::of(field.ty);
    let value = Ident::new(kind.value, Span::call_site());
    let mut steps = Vec::new();
    if kind.is_optional {
        steps.push(quote!(.optional()));
    }
    let description = &field.description;
    if !description.is_empty() {
        steps.push(quote!(.with_description(#description)));
    }
    if let Some(said) = &field.part.example {
        let example = example(&said.value);
        steps.push(quote!(.with_example(#example)));
    }
    Some(quote!(#path::ExtensionEntry::new(#name, #path::ValueKind::#value) #(#steps)*))
}

/// The codes that it passes on.
fn inner(case: &Case<'_>, path: &TokenStream) -> Option<TokenStream> {
    let How::Transparent(at, codes) = &case.how else {
        return None;
    };
    if let Some(codes) = codes {
        return Some(quote!(#codes));
    }
    let ty = case.fields[*at].ty;
    Some(quote!(<#ty as #path::ProblemCodes>::CODES))
}
