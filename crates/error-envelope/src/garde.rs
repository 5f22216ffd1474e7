//! A garde report as field errors.

use ::garde::{Error, Path, Report};

use crate::{FieldError, FieldErrors, FieldPath};

/// Each entry of the report, with its path: `map_err(FieldErrors::from)?` makes of a failed
/// `validate()` the 422. The names in it are those of the Rust fields, so where serde renames
/// them, garde must too (`#[garde(rename = "…")]`).
impl From<Report> for FieldErrors {
    fn from(report: Report) -> Self {
        let entry = |(path, error): &(Path, Error)| {
            FieldError::at(field_path(path), error.message().to_owned())
        };
        report.iter().map(entry).collect()
    }
}

/// The report's own words for a path cannot be read back (a key may hold a dot), but its
/// serialized form can: a list of kind and name, from the root.
fn field_path(path: &Path) -> FieldPath {
    let steps =
        serde_json::to_value(path).and_then(serde_json::from_value::<Vec<(String, String)>>);
    let steps = steps.unwrap_or_default().into_iter();
    steps.fold(FieldPath::root(), |path, (kind, name)| {
        match (kind.as_str(), name.parse()) {
            // What wraps a single value has no name of its own.
            ("none", _) => path,
            ("index", Ok(index)) => path.index(index),
            _ => path.key(name),
        }
    })
}
