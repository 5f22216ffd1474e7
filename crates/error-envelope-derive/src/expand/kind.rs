//! What a field's type is in JSON, as far as its name tells.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{GenericArgument, PathArguments, Type};

pub(super) struct Kind {
    /// A variant of `ValueKind`.
    pub(super) value: &'static str,
    pub(super) is_optional: bool,
}

impl Kind {
    pub(super) fn of(ty: &Type) -> Self {
        let plain = |value| Self {
            value,
            is_optional: false,
        };
        match ty {
            Type::Reference(it) => Self::of(&it.elem),
            Type::Paren(it) => Self::of(&it.elem),
            Type::Group(it) => Self::of(&it.elem),
            Type::Array(_) | Type::Slice(_) => plain("Array"),
            Type::Path(it) => {
                let Some(last) = it.path.segments.last() else {
                    return plain("Any");
                };
                let inner = || match &last.arguments {
                    PathArguments::AngleBracketed(arguments) => {
                        arguments.args.iter().find_map(|it| match it {
                            GenericArgument::Type(ty) => Some(Self::of(ty)),
                            _ => None,
                        })
                    }
                    _ => None,
                };
                match last.ident.to_string().as_str() {
                    "Option" => Self {
                        value: inner().map_or("Any", |it| it.value),
                        is_optional: true,
                    },
                    "Box" | "Arc" | "Rc" | "Cow" => inner().unwrap_or(plain("Any")),
                    "String" | "str" | "char" => plain("String"),
                    "bool" => plain("Boolean"),
                    "f32" | "f64" => plain("Number"),
                    "Vec" | "VecDeque" | "HashSet" | "BTreeSet" => plain("Array"),
                    name if is_integer(name) => plain("Integer"),
                    _ => plain("Any"),
                }
            }
            _ => plain("Any"),
        }
    }
}

fn is_integer(name: &str) -> bool {
    let name = name.strip_prefix("NonZero").unwrap_or(name).to_lowercase();
    matches!(
        name.as_str(),
        "u8" | "u16"
            | "u32"
            | "u64"
            | "u128"
            | "usize"
            | "i8"
            | "i16"
            | "i32"
            | "i64"
            | "i128"
            | "isize"
    )
}

/// Whether a type is made of one of these parameters.
pub(super) fn mentions(ty: &Type, parameters: &[&Ident]) -> bool {
    fn any(tokens: TokenStream, parameters: &[&Ident]) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => parameters.contains(&&ident),
            TokenTree::Group(group) => any(group.stream(), parameters),
            _ => false,
        })
    }
    any(ty.to_token_stream(), parameters)
}
