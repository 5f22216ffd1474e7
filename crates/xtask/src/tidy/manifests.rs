//! Every package is of the one version, under the one set of lints.

use toml::{Table, Value};

use super::{Finding, tree::Tree};

/// The keys of a package that the workspace sets.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<_> = tree
        .packages()
        .flat_map(|(folder, manifest)| {
            let path = format!("{folder}/Cargo.toml");
            member(&manifest)
                .into_iter()
                .map(move |what| Finding::about(&path, what))
        })
        .collect();
    let root = tree
        .get("Cargo.toml")
        .and_then(|file| file.text.parse().ok());
    let family = root.map_or_else(Vec::new, |root: Table| family(&root));
    findings.extend(
        family
            .into_iter()
            .map(|what| Finding::about("Cargo.toml", what)),
    );
    findings
}

/// What is wrong with the manifest of a package.
fn member(manifest: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    let package = &manifest["package"];
    for key in INHERITED {
        if !is_inherited(package.get(key)) {
            wrong.push(format!(
                "`{key}` is not the workspace's: write `{key}.workspace = true`"
            ));
        }
    }
    if !is_inherited(manifest.get("lints")) {
        wrong.push("the workspace's lints do not hold: write `[lints] workspace = true`".into());
    }
    let description = package.get("description").and_then(Value::as_str);
    if description.is_none_or(|text| text.trim().is_empty()) {
        wrong.push("there is no description".into());
    }
    wrong
}

fn is_inherited(value: Option<&Value>) -> bool {
    value.and_then(|it| it.get("workspace")?.as_bool()) == Some(true)
}

/// Which crates of the family the root names with another version than its own.
fn family(root: &Table) -> Vec<String> {
    let workspace = root.get("workspace");
    let version = workspace.and_then(|it| it.get("package")?.get("version")?.as_str());
    let dependencies = workspace.and_then(|it| it.get("dependencies")?.as_table());
    dependencies
        .into_iter()
        .flatten()
        .filter(|(_, it)| it.get("path").is_some())
        .filter_map(|(name, it)| Some((name, it.get("version")?.as_str()?)))
        .filter(|(_, named)| Some(*named) != version)
        .map(|(name, named)| format!("{name} is named with version {named}, not the workspace's"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [package]
        name = "one"
        description = "One."
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        [lints]
        workspace = true
    "#;

    fn found(manifest: &str) -> Vec<String> {
        let tree = Tree::planted(&[("crates/one/Cargo.toml", manifest)]);
        check(&tree).into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn a_package_that_sets_for_itself_what_the_workspace_sets_is_found() {
        assert!(found(GOOD).is_empty());
        for key in INHERITED {
            let theirs = GOOD.replace(
                &format!(" {key}.workspace = true"),
                &format!(" {key} = '0.2.0'"),
            );
            assert_eq!(found(&theirs).len(), 1, "{key}");
        }
    }

    #[test]
    fn a_package_without_the_lints_or_a_description_is_found() {
        assert_eq!(found(&GOOD.replace("[lints]", "[lint]")).len(), 1);
        assert_eq!(found(&GOOD.replace("One.", " ")).len(), 1);
    }

    #[test]
    fn a_crate_of_the_family_with_another_version_is_found() {
        let root = r#"
            [workspace.package]
            version = "0.2.0"
            [workspace.dependencies]
            serde = "1"
            one = { version = "0.2.0", path = "crates/one" }
            two = { version = "0.1.0", path = "crates/two" }
            kit = { path = "crates/kit" }
        "#;
        let tree = Tree::planted(&[("Cargo.toml", root)]);
        let found: Vec<_> = check(&tree).into_iter().map(|it| it.what).collect();
        assert_eq!(
            found,
            ["two is named with version 0.1.0, not the workspace's"]
        );
    }
}
