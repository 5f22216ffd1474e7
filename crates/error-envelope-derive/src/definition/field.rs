//! A field, and the extension that it may be.

use syn::{Error, Fields, Ident, Result, Type, ext::IdentExt as _};

use crate::attributes::{Part, docs};

pub(crate) struct Field<'a> {
    /// As one writes it in a message: `0` for the first of a tuple.
    pub(crate) name: String,
    pub(crate) ident: Option<&'a Ident>,
    pub(crate) ty: &'a Type,
    pub(crate) part: Part,
    /// The name of its extension, if it is one.
    pub(crate) extension: Option<String>,
    pub(crate) description: String,
}

/// Members that a problem has of its own.
const RESERVED: [&str; 10] = [
    "type",
    "title",
    "status",
    "detail",
    "instance",
    "code",
    "errors",
    "retryable",
    "debug",
    "truncated",
];

impl<'a> Field<'a> {
    pub(super) fn read_all(fields: &'a Fields) -> Result<Vec<Self>> {
        let mut read = Vec::<Self>::new();
        for (at, field) in fields.iter().enumerate() {
            let ident = field.ident.as_ref();
            let name = ident.map_or_else(|| at.to_string(), |it| it.unraw().to_string());
            let part = Part::read(&field.attrs)?;
            let extension = extension(&part, &name, field.ident.is_none())?;
            if let (Some(extension), Some(said)) = (&extension, &part.extension)
                && read
                    .iter()
                    .any(|it| it.extension.as_ref() == Some(extension))
            {
                let told = format!("there is an extension `{extension}` already");
                return Err(Error::new(said.at, told));
            }
            if let (Some(said), None, None) = (&part.example, &extension, &part.public) {
                let told =
                    "an `example` is that of an `extension` or of what is `public`: say that too";
                return Err(Error::new(said.at, told));
            }
            read.push(Self {
                name,
                ident,
                ty: &field.ty,
                part,
                extension,
                description: docs(&field.attrs),
            });
        }
        Ok(read)
    }
}

/// The name of a field's extension.
fn extension(part: &Part, name: &str, is_tuple: bool) -> Result<Option<String>> {
    let Some(said) = &part.extension else {
        return Ok(None);
    };
    let (name, span) = match &said.value {
        Some(given) => (given.value(), given.span()),
        None if is_tuple => {
            let told = "a field without a name needs one for its extension: `extension = \"name\"`";
            return Err(Error::new(said.at, told));
        }
        None => (name.to_owned(), said.at),
    };
    if RESERVED.contains(&name.as_str()) {
        let told = format!(
            "`{name}` is a member of every problem: give the extension another name, \
             `extension = \"…\"`"
        );
        return Err(Error::new(span, told));
    }
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && (3..=64).contains(&name.len());
    if !is_name {
        let told = format!(
            "`{name}` is no name for an extension: 3 to 64 of letters, digits and _, first one of \
             a-z (RFC 9457, section 3.2; AIP-193); say `extension = \"…\"`"
        );
        return Err(Error::new(span, told));
    }
    Ok(Some(name))
}
