//! The catalogue as a page for a browser.

use std::fmt::{self, Write as _};

use super::{Catalogue, json, markdown};
use crate::Format;

impl Catalogue {
    /// A whole page, without scripts: a table of all codes, then of each its description and an
    /// example of each form. Nothing of it is taken for markup.
    ///
    /// Serve it as `text/html; charset=utf-8`.
    #[must_use]
    pub fn to_html(&self, title: &str) -> String {
        let entries = self.entries();
        let title = Text(title);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
             padding:0 1rem}}table{{border-collapse:collapse}}td,th{{text-align:left;\
             padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ccc}}pre{{background:#f4f4f4;\
             padding:1rem;overflow:auto}}</style>\n<h1>{title}</h1>\n\
             <table>\n<tr><th>code<th>status<th>gRPC<th>retry<th>message\n"
        );
        for entry in &entries {
            // Writing to a `String` does not fail.
            let _ = writeln!(
                page,
                "<tr><td><a href=\"#{0}\"><code>{0}</code></a><td>{1}<td>{2}<td>{3}<td>{4}",
                Text(entry.code()),
                entry.status(),
                entry.rpc_code().name(),
                markdown::retry(entry).replace('`', ""),
                Text(entry.message()),
            );
        }
        page.push_str("</table>\n");
        for entry in &entries {
            let code = Text(entry.code());
            let _ = writeln!(page, "<h2 id=\"{code}\">{code}</h2>");
            for paragraph in entry.description().split("\n\n") {
                if !paragraph.is_empty() {
                    let _ = writeln!(page, "<p>{}</p>", Text(paragraph));
                }
            }
            if !entry.extensions().is_empty() {
                page.push_str("<ul>\n");
            }
            for extension in entry.extensions() {
                let (name, kind) = (Text(extension.name()), extension.kind().name());
                let told = Text(extension.description());
                let _ = writeln!(page, "<li><code>{name}</code> ({kind}) {told}");
            }
            if !entry.extensions().is_empty() {
                page.push_str("</ul>\n");
            }
            for format in [Format::Json, Format::ProblemJson] {
                let example = format!("{:#}", json::of(entry, format));
                let media_type = format.media_type();
                let _ = writeln!(
                    page,
                    "<p><code>{media_type}</code></p>\n<pre>{}</pre>",
                    Text(&example)
                );
            }
        }
        page.push_str("</html>\n");
        page
    }
}

/// A text in which nothing is markup.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
