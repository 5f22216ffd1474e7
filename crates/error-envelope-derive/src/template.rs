//! A message with `{name}` in it.

use syn::{Error, LitStr, Result};

/// The message, ready for `format!`, and the fields that it shows.
pub(crate) struct Template {
    /// With `{a0}` for the first of `names`, and so on.
    pub(crate) format: LitStr,
    /// As the catalogue shows it: names without anything after a colon.
    pub(crate) told: String,
    /// The names in it, `0` for the first of a tuple; each once.
    pub(crate) names: Vec<String>,
}

impl Template {
    /// The names may be those of the fields that `is_public` knows.
    pub(crate) fn read(message: &LitStr, is_public: impl Fn(&str) -> Option<bool>) -> Result<Self> {
        let wrong = |told: String| Err(Error::new(message.span(), told));
        let text = message.value();
        let (mut format, mut told, mut names) = (String::new(), String::new(), Vec::new());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            format.push_str(before);
            told.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                format.push_str(&from[..2]);
                told.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some((inside, after)) = from.strip_prefix('{').and_then(|it| it.split_once('}'))
            else {
                return wrong("a brace stands alone: write `{{` or `}}` for one".into());
            };
            rest = after;
            let (name, how) = inside.split_once(':').unwrap_or((inside, ""));
            let name = name.trim();
            if name.is_empty() {
                return wrong("`{}` names no field: write `{name}`, or `{0}` of a tuple".into());
            }
            if how.contains('?') {
                return wrong(format!(
                    "`{{{inside}}}` shows how the field is built: only its `Display` may leave"
                ));
            }
            if how.contains('$') {
                return wrong(format!("the width in `{{{inside}}}` must be a number"));
            }
            match is_public(name) {
                Some(true) => {}
                Some(false) => {
                    return wrong(format!(
                        "the field `{name}` is private: mark it `#[problem(public)]` or \
                         `#[problem(extension)]` if a caller may see it"
                    ));
                }
                None => return wrong(format!("there is no field `{name}`")),
            }
            let known = names.iter().position(|known| known == name);
            let number = known.unwrap_or(names.len());
            if known.is_none() {
                names.push(name.to_owned());
            }
            let colon = if how.is_empty() { "" } else { ":" };
            format.push_str(&format!("{{a{number}{colon}{how}}}"));
            told.push_str(&format!("{{{name}}}"));
        }
        format.push_str(rest);
        told.push_str(rest);
        Ok(Self {
            format: LitStr::new(&format, message.span()),
            told,
            names,
        })
    }
}
