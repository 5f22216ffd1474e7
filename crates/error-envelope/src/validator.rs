//! validator's errors as field errors.

use std::borrow::Cow;

use ::validator::{ValidationError, ValidationErrors, ValidationErrorsKind};

use crate::{FieldError, FieldErrors, FieldPath};

/// What a rule says by default is no sentence, so each has one of ours. Where a rule was given a
/// `message`, that is told.
///
/// Of the values that a rule keeps of the request (`value`, `other`) nothing is shown, of its
/// bounds (`min`, `max`, `equal`) each is.
///
/// `map_err(FieldErrors::from)?` makes of a failed `validate()` the 422. The names in it are those
/// of the Rust fields: validator does not know how serde renames them.
impl From<ValidationErrors> for FieldErrors {
    fn from(errors: ValidationErrors) -> Self {
        let mut fields = Self::default();
        collect(&mut fields, &FieldPath::root(), &errors);
        fields
    }
}

/// Paths are as deep as the user's own types, which are as deep as the JSON that was read.
fn collect(fields: &mut FieldErrors, path: &FieldPath, errors: &ValidationErrors) {
    // A hash map has no order, and what a caller sees should have one.
    let mut members: Vec<_> = errors.errors().iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    for (name, kind) in members {
        // Rules over the whole value go by this name.
        let path = match name.as_ref() {
            "__all__" => path.clone(),
            name => path.clone().key(name),
        };
        match kind {
            ValidationErrorsKind::Field(errors) => {
                fields.extend(errors.iter().map(|error| field(path.clone(), error)));
            }
            ValidationErrorsKind::Struct(errors) => collect(fields, &path, errors),
            ValidationErrorsKind::List(items) => {
                for (index, errors) in items {
                    collect(fields, &path.clone().index(*index), errors);
                }
            }
        }
    }
}

fn field(path: FieldPath, error: &ValidationError) -> FieldError {
    let message = error.message.clone().unwrap_or_else(|| sentence(error));
    FieldError::at(path, message).with_code(error.code.clone())
}

fn sentence(error: &ValidationError) -> Cow<'static, str> {
    let bound = |name: &str| error.params.get(name).filter(|bound| bound.is_number());
    let range = |unit: &str| match (bound("min"), bound("max"), bound("equal")) {
        (.., Some(equal)) => Some(format!("must have {equal} {unit}")),
        (Some(min), Some(max), _) => Some(format!("must have {min} to {max} {unit}")),
        (Some(min), None, _) => Some(format!("must have at least {min} {unit}")),
        (None, Some(max), _) => Some(format!("must have at most {max} {unit}")),
        (None, None, None) => None,
    };
    match error.code.as_ref() {
        "required" | "required_nested" => "is required".into(),
        "email" => "must be an email address".into(),
        "url" => "must be a URL".into(),
        "length" => {
            let is_text = error
                .params
                .get("value")
                .is_some_and(serde_json::Value::is_string);
            let unit = if is_text { "characters" } else { "items" };
            range(unit).map_or("has the wrong length".into(), Cow::from)
        }
        "range" => {
            let bounds = [
                ("min", "at least"),
                ("max", "at most"),
                ("exclusive_min", "more than"),
                ("exclusive_max", "less than"),
            ];
            let bounds = bounds
                .iter()
                .filter_map(|(name, word)| bound(name).map(|bound| format!("{word} {bound}")));
            let bounds: Vec<_> = bounds.collect();
            match bounds[..] {
                [] => "is out of range".into(),
                _ => format!("must be {}", bounds.join(" and ")).into(),
            }
        }
        "must_match" => "does not match".into(),
        _ => "is not valid".into(),
    }
}
