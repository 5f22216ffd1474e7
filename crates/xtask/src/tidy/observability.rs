//! One page lists every metric and event of the crates, and nothing else; the dashboards show nothing
//! that is not on it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, tree::Tree};

const PAGE: &str = "docs/OBSERVABILITY.md";
/// No crate of theirs is watched.
const NOT_SHIPPED: &[&str] = &["testkit", "xtask"];
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
/// What Prometheus makes of a histogram.
const OF_HISTOGRAMS: &[&str] = &["_bucket", "_sum", "_count"];

/// Where something is said first.
type Places = BTreeMap<String, (String, usize)>;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let (mut metrics, mut events) = (Places::new(), Places::new());
    for file in tree.rust() {
        let mut parts = file.path.split('/');
        let (Some("crates"), Some(name), Some("src")) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if NOT_SHIPPED.contains(&name) {
            continue;
        }
        let code = shipped(&file.text);
        for (line, metric) in metrics_in(&code) {
            metrics.entry(metric).or_insert((file.path.clone(), line));
        }
        for (line, event) in events_in(&code) {
            events.entry(event).or_insert((file.path.clone(), line));
        }
    }
    if metrics.is_empty() && events.is_empty() {
        return Vec::new();
    }
    let Some(page) = tree.get(PAGE) else {
        return vec![Finding::about(PAGE, "it is missing")];
    };

    let mut findings = Vec::new();
    let missing = |what: &str, (path, line): &(String, usize)| {
        Finding::at(path, *line, format!("`{what}` is not in {PAGE}"))
    };
    for (metric, place) in &metrics {
        if !is_described(tree, metric, &place.0) {
            let what = format!("`describe()` does not say what `{metric}` is");
            findings.push(Finding::at(&place.0, place.1, what));
        }
    }
    let listed: BTreeSet<String> = names(&page.text).map(|(_, name)| name).collect();
    for (metric, place) in &metrics {
        if !listed.contains(metric) {
            findings.push(missing(metric, place));
        }
    }
    for (event, place) in &events {
        if !page.text.contains(&format!("| {event} |")) {
            findings.push(missing(event, place));
        }
    }
    for (line, name) in names(&page.text) {
        if !metrics.contains_key(&name) {
            let what = format!("no crate has the metric `{name}`");
            findings.push(Finding::at(PAGE, line, what));
        }
    }
    let dashboards = tree
        .files()
        .iter()
        .filter(|file| file.path.contains("/grafana/") && file.path.ends_with(".json"));
    for dashboard in dashboards {
        for (line, name) in names(&dashboard.text) {
            let plain = OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end));
            if !metrics.contains_key(&name) && !plain.is_some_and(|it| metrics.contains_key(it)) {
                let what = format!("no crate has the metric `{name}`");
                findings.push(Finding::at(&dashboard.path, line, what));
            }
        }
    }
    findings
}

/// Whether its crate tells recorders what it is.
fn is_described(tree: &Tree, metric: &str, path: &str) -> bool {
    let krate = path.split('/').take(2).collect::<Vec<_>>().join("/");
    let described = tree.get(&format!("{krate}/src/metrics.rs"));
    let described = described.and_then(|file| file.text.split_once("fn describe()"));
    described.is_some_and(|(_, after)| after.contains(&format!("\"{metric}\"")))
}

/// The text without comments and closing tests, with as many lines.
fn shipped(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines();
    let without = lines.map(|line| {
        if line.trim_start().starts_with("//") {
            ""
        } else {
            line
        }
    });
    without.collect::<Vec<_>>().join("\n")
}

/// The names of metrics that stand in quotes.
fn metrics_in(code: &str) -> impl Iterator<Item = (usize, String)> {
    let lines = code.lines().enumerate();
    lines.flat_map(|(line, text)| {
        let quoted = text.split('"').skip(1).step_by(2);
        let names = quoted.filter(|it| it.starts_with("buttress_") && is_name(it));
        names
            .map(move |name| (line + 1, name.to_owned()))
            .collect::<Vec<_>>()
    })
}

/// What the macros of `tracing` say. Words that are put together elsewhere are left to the eye.
fn events_in(code: &str) -> Vec<(usize, String)> {
    let mut events = Vec::new();
    for level in LEVELS {
        let call = format!("tracing::{level}!(");
        for (at, _) in code.match_indices(&call) {
            let line = code[..at].lines().count().max(1);
            if let Some(last) = last_string(&code[at + call.len()..])
                && !last.contains('{')
            {
                events.push((line, last));
            }
        }
    }
    events
}

/// The last string before the bracket that closes.
fn last_string(arguments: &str) -> Option<String> {
    let (mut depth, mut last, mut begun) = (1_u32, None, None);
    let mut characters = arguments.char_indices();
    while let Some((at, character)) = characters.next() {
        match (begun, character) {
            (Some(from), '"') => {
                last = Some(arguments[from..at].to_owned());
                begun = None;
            }
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(_), _) => {}
            (None, '"') => begun = Some(at + 1),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            (None, _) => {}
        }
    }
    last
}

/// All that begins like one of our metrics, with its line.
fn names(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().flat_map(|(line, text)| {
        let words = text.split(|it: char| !(it.is_ascii_lowercase() || it == '_'));
        let names = words.filter(|it| it.starts_with("buttress_") && is_name(it));
        names
            .map(move |name| (line + 1, name.to_owned()))
            .collect::<Vec<_>>()
    })
}

fn is_name(word: &str) -> bool {
    !word.ends_with('_') && word.chars().all(|it| it.is_ascii_lowercase() || it == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "//! Not \"buttress_one_nowhere\".\n\
        fn one() { counter!(\"buttress_one_total\"); set(\"buttress_one_seconds\", 1); }\n\
        fn two() { tracing::warn!(name = f(\"a (b\"), key, \"it \\\"broke\"); }\n\
        fn three() {\n    tracing::info!(\n        name,\n        \"it works\"\n    );\n}\n\
        fn four() { tracing::debug!(\"{words}\"); let prefix = \"buttress_\"; }\n\
        fn describe() { is(\"buttress_one_total\"); is(\"buttress_one_seconds\"); }\n\
        #[cfg(test)]\nmod tests { fn f() { counter!(\"buttress_test_total\"); } }\n";

    fn found(page: &str, dashboard: &str) -> Vec<String> {
        let tree = Tree::planted(&[
            ("crates/one/src/metrics.rs", CODE),
            (
                "crates/testkit/src/lib.rs",
                "const X: &str = \"buttress_kit\";",
            ),
            (PAGE, page),
            ("examples/shop/grafana/shop.json", dashboard),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_with_everything_and_nothing_else_is_in_order() {
        let page = "| `buttress_one_total` |\n| `buttress_one_seconds` |\n\
            | warn | it \\\"broke |\n| info | it works |\n";
        let dashboard = "rate(buttress_one_total[1m]) + buttress_one_seconds_bucket{}";
        assert_eq!(found(page, dashboard), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_and_what_is_invented_is_found_on_page_and_dashboard() {
        let found = found("`buttress_one_total`, `buttress_gone`", "buttress_two_sum");
        for (planted, at) in [
            (
                "`buttress_one_seconds` is not in",
                "crates/one/src/metrics.rs:2",
            ),
            ("`it \\\"broke` is not in", "crates/one/src/metrics.rs:3"),
            ("`it works` is not in", "crates/one/src/metrics.rs:5"),
            (
                "no crate has the metric `buttress_gone`",
                "docs/OBSERVABILITY.md:1",
            ),
            (
                "no crate has the metric `buttress_two_sum`",
                "examples/shop/grafana/shop.json:1",
            ),
        ] {
            let hit = |it: &&String| it.contains(planted) && it.starts_with(at);
            assert!(found.iter().any(|it| hit(&it)), "{planted}: {found:#?}");
        }
        assert_eq!(found.len(), 5, "{found:#?}");
    }

    #[test]
    fn what_no_recorder_is_told_of_is_found() {
        let code = CODE.replace("is(\"buttress_one_seconds\");", "");
        let page = "`buttress_one_total` `buttress_one_seconds`\n| warn | it \\\"broke |\n| info | it works |";
        let tree = Tree::planted(&[("crates/one/src/metrics.rs", &code), (PAGE, page)]);
        let found: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("does not say what `buttress_one_seconds` is"));
    }

    #[test]
    fn a_page_that_is_gone_is_found() {
        let tree = Tree::planted(&[("crates/one/src/metrics.rs", CODE)]);
        assert_eq!(check(&tree).len(), 1);
    }
}
