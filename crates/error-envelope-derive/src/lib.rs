#![doc = include_str!("../README.md")]

mod attributes;
mod definition;
mod expand;
mod keys;
mod template;

use proc_macro::TokenStream;

/// Implements `ToProblem` and `ProblemCodes`; the attributes are listed above.
#[proc_macro_derive(ToProblem, attributes(problem))]
pub fn derive_to_problem(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    definition::Definition::read(&input)
        .map_or_else(syn::Error::into_compile_error, |it| expand::all(&it))
        .into()
}
