//! A link from one page of the house to another leads somewhere: to a file or a folder that is there, and to a heading
//! that the page has. Pages that go to a registry have none, for nothing lies beside them there.

use std::collections::BTreeSet;

use super::{
    Finding,
    tree::{File, Tree},
};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.files().iter().filter(|file| is_page(&file.path));
    pages.flat_map(|page| look(tree, page)).collect()
}

fn is_page(path: &str) -> bool {
    path.ends_with(".md")
}

fn look(tree: &Tree, page: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in links(&page.text) {
        let what = if target.starts_with('#') || !is_shipped(&page.path) {
            dead(tree, page, target)
        } else if target.contains(['/', '.']) {
            Some("leads out of a page that a registry shows alone")
        } else {
            // An item: rustdoc looks it up.
            None
        };
        if let Some(what) = what {
            findings.push(Finding::at(&page.path, line, format!("`{target}` {what}")));
        }
    }
    findings
}

/// What rustdoc and a registry show: a page of a crate that is published.
fn is_shipped(path: &str) -> bool {
    let exempt = ["crates/testkit/", "crates/xtask/"];
    path.starts_with("crates/") && !exempt.iter().any(|crates| path.starts_with(crates))
}

/// What is wrong with where it leads.
fn dead(tree: &Tree, page: &File, target: &str) -> Option<&'static str> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        Some(page.path.clone())
    } else {
        beside(&page.path, path)
    };
    let Some(path) = path else {
        return Some("leads out of the checkout");
    };
    let file = tree.get(&path);
    let folder = format!("{}/", path.trim_end_matches('/'));
    if file.is_none()
        && !tree
            .files()
            .iter()
            .any(|file| file.path.starts_with(&folder))
    {
        return Some("leads to nothing");
    }
    let file = file.filter(|file| is_page(&file.path) && !heading.is_empty())?;
    (!headings(&file.text).contains(heading)).then_some("names no heading of that page")
}

/// The path from the root of what lies there, seen from the page.
fn beside(page: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The lines of a page that are prose, each with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Where a page's links lead that name no host, each with its line.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let mut code = false;
        let mut rest = line;
        while let Some(at) = rest.find(['`', ']']) {
            let (mark, after) = rest[at..].split_at(1);
            rest = after;
            if mark == "`" {
                code = !code;
            } else if !code && let Some(target) = rest.strip_prefix('(') {
                let end = target.find([')', ' ']).unwrap_or(target.len());
                links.push((number, &target[..end]));
            } else if !code && at > 0 && line.starts_with('[') && links_by_name(line) {
                links.extend(
                    rest.strip_prefix(": ")
                        .map(|target| (number, target.trim())),
                );
            }
        }
    }
    links.retain(|(_, target)| !target.contains(':'));
    links
}

/// Whether a line says what a name in brackets stands for. A name with `::` is an item's, which rustdoc looks up.
fn links_by_name(line: &str) -> bool {
    let target = line.split_once("]: ").map(|(_, target)| target);
    target.is_some_and(|target| target.contains('/') || target.contains(".md"))
}

/// What the headings of a page are called in links to them.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#').strip_prefix(' ')?;
        line.starts_with('#').then(|| slug(title))
    });
    headings.collect()
}

fn slug(title: &str) -> String {
    let kept = title.trim().chars().filter_map(|it| match it {
        ' ' => Some('-'),
        it if it.is_alphanumeric() || matches!(it, '-' | '_') => Some(it),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_are_found_and_code_and_other_hosts_are_left_alone() {
        let page = "# One\n\
            [there](two.md#the-second-of-two) [folder](../crates) [self](#one)\n\
            [gone](three.md) and ![a picture](two.md \"said\") [out](../../x.md)\n\
            `[no](link.md)` [far](https://example.com/x.md)\n\
            ```text\n[no](link.md)\n```\n\
            [heading](two.md#third) [name]\n\
            \n\
            [name]: four.md\n";
        let tree = Tree::planted(&[
            ("docs/one.md", page),
            (
                "docs/two.md",
                "## The `second`, of two\n```sh\n# third\n```\n",
            ),
            (
                "crates/core/README.md",
                "[up](../../docs/one.md) [item](Clock) [here](#none)",
            ),
            ("crates/xtask/README.md", "[up](../../docs/one.md#one)"),
        ]);
        let found: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/one.md:3: `three.md` leads to nothing",
                "docs/one.md:3: `../../x.md` leads out of the checkout",
                "docs/one.md:8: `two.md#third` names no heading of that page",
                "docs/one.md:10: `four.md` leads to nothing",
                "crates/core/README.md:1: `../../docs/one.md` leads out of a page that a registry shows alone",
                "crates/core/README.md:1: `#none` names no heading of that page",
            ]
        );
    }
}
