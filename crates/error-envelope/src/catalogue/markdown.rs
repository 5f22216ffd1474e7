//! The catalogue as Markdown, for people.

use std::fmt::Write as _;

use super::{Catalogue, CodeEntry, json};
use crate::Format;

impl Catalogue {
    /// A table of all codes, then of each its description and an example.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let entries = self.entries();
        let mut page = String::from(
            "| code | status | gRPC | retry | message |\n| --- | --- | --- | --- | --- |\n",
        );
        for entry in &entries {
            let (status, grpc, retry) = (entry.status(), entry.rpc_code().name(), retry(entry));
            let message = entry.message().replace('|', "\\|");
            let code = entry.code();
            // Writing to a `String` does not fail.
            let _ = writeln!(
                page,
                "| `{code}` | {status} | `{grpc}` | {retry} | {message} |"
            );
        }
        for entry in &entries {
            let _ = write!(page, "\n## {}\n", entry.code());
            if !entry.description().is_empty() {
                let _ = write!(page, "\n{}\n", entry.description());
            }
            for extension in entry.extensions() {
                let (name, kind) = (extension.name(), extension.kind().name());
                let optional = if extension.is_optional() {
                    ", or absent"
                } else {
                    ""
                };
                let told = extension.description();
                let colon = if told.is_empty() { "" } else { ": " };
                let _ = write!(page, "\n- `{name}` ({kind}{optional}){colon}{told}");
            }
            if !entry.extensions().is_empty() {
                page.push('\n');
            }
            let example = json::of(entry, Format::Json);
            let _ = write!(page, "\n```json\n{example:#}\n```\n");
        }
        page
    }
}

/// Whether it is worth coming back, in a word.
pub(super) fn retry(entry: &CodeEntry) -> &'static str {
    match (entry.is_retryable(), entry.has_retry_after()) {
        (_, true) => "after `Retry-After`",
        (true, false) => "yes",
        (false, false) => "no",
    }
}
