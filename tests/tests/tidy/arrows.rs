//! Who may import whom: the table of ARCHITECTURE.md against `cargo metadata`.
//!
//! Cargo keeps the architecture: a crate that cannot be imported cannot be leaned on. So the
//! table is short, and anything that it does not name is refused.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package, PackageId};

use crate::{Complaints, nothing_of, tree};

/// What has an event loop, a socket, a disk or a loader of code.
const OUTSIDE: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "hyper",
    "reqwest",
    "ureq",
    "pingora",
    "pingora-core",
    "axum",
    "socket2",
    "rustls",
    "libloading",
    "rusqlite",
    "tokio-postgres",
    "notify",
    "rayon",
    "crossbeam-channel",
];

/// One row: who, which of ours it may import, and what of the world never, even through others.
struct Row {
    name: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const API: &str = "interlock-plugin-api";
const BREAKER: &str = "interlock-circuit-breaker";
const ENGINE: &str = "interlock-engine";
const JOURNAL: &str = "interlock-journal";
const HOST: &str = "interlock-plugin-host";
const KIT: &str = "interlock-kit";
const SERVER: &str = "interlock";
const SANDBOX: &str = "interlock-sandbox";
const CHECKOUT: &str = "interlock-plugin-checkout";
const WALLET_TOKENS: &str = "interlock-wallet-tokens";
const SIMULATION: &str = "interlock-simulation";

const TABLE: &[Row] = &[
    Row { name: API, ours: &[], never: OUTSIDE },
    // What authors begin with, and the same with a defect for the kit's own tests.
    Row { name: "interlock-example-acme", ours: &[API], never: OUTSIDE },
    Row { name: "interlock-broken", ours: &[API], never: OUTSIDE },
    Row { name: BREAKER, ours: &[], never: OUTSIDE },
    Row { name: ENGINE, ours: &[API, BREAKER], never: OUTSIDE },
    Row { name: JOURNAL, ours: &[API], never: &["pingora", "pingora-core", "libloading"] },
    Row { name: HOST, ours: &[API], never: &["pingora", "pingora-core", "reqwest", "rusqlite"] },
    Row {
        name: KIT,
        ours: &[API, HOST],
        never: &["pingora", "pingora-core", "reqwest", "rusqlite"],
    },
    Row {
        name: SERVER,
        ours: &[ENGINE, JOURNAL, API, BREAKER, HOST, KIT],
        never: &["reqwest", "axum"],
    },
    // The oracle of the tests shares no code with what it judges.
    Row { name: SANDBOX, ours: &[WALLET_TOKENS], never: &["pingora", "pingora-core"] },
    // What a wallet gives out is made by nobody who opens it.
    Row { name: WALLET_TOKENS, ours: &[], never: OUTSIDE },
    Row { name: "interlock-tests", ours: &[API, ENGINE, JOURNAL, BREAKER, SANDBOX], never: &[] },
    // It measures processes from outside, and single rooms by their crates.
    Row { name: "interlock-bench", ours: &[API, ENGINE, BREAKER, CHECKOUT], never: &["reqwest"] },
    // A judge of the engine: it sees the journal's trait and never its disk.
    Row { name: SIMULATION, ours: &[API, ENGINE, JOURNAL], never: &["pingora", "reqwest"] },
    // It installs cmake, so nothing that it needs may need cmake.
    Row { name: "xtask", ours: &[], never: &["pingora", "pingora-core", "cmake", "rusqlite"] },
];

/// Every crate under `plugins/`.
const PLUGIN: Row = Row { name: "plugins/*", ours: &[API], never: OUTSIDE };

fn row_of(package: &Package) -> Option<&'static Row> {
    let is_plugin = package.manifest_path.as_str().contains("/plugins/");
    let named = || TABLE.iter().find(|row| row.name == package.name.as_str());
    if is_plugin { Some(&PLUGIN) } else { named() }
}

fn metadata() -> Metadata {
    let mut ask = MetadataCommand::new();
    ask.manifest_path(tree::root().join("Cargo.toml"));
    ask.exec().expect("cargo metadata answers")
}

#[test]
fn our_crates_import_only_whom_the_table_allows() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let ours: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut complaints = Vec::new();
    for package in &members {
        // A wallet's plugin is tested with tokens that somebody else made, and ships without them.
        let tested_with =
            |d: &&Dependency| d.kind == DependencyKind::Development && d.name == WALLET_TOKENS;
        let imports = package.dependencies.iter().filter(|d| !tested_with(d));
        let imports: Vec<&str> = imports.map(|d| d.name.as_str()).collect();
        match row_of(package) {
            None => complaints.push(format!(
                "{}: no row in the table; add one to ARCHITECTURE.md and to tidy/arrows.rs",
                package.name
            )),
            Some(row) => complaints.extend(wrong_arrows(&package.name, row, &imports, &ours)),
        }
    }
    nothing_of(complaints);
}

fn wrong_arrows(name: &str, row: &Row, imports: &[&str], ours: &BTreeSet<&str>) -> Complaints {
    let wrong =
        |import: &&&str| ours.contains(**import) && **import != name && !row.ours.contains(*import);
    let say = |import: &&str| {
        format!("{name} imports {import}; of ours it may import only {:?}", row.ours)
    };
    imports.iter().filter(wrong).map(say).collect()
}

#[test]
fn the_pure_crates_reach_no_loop_no_socket_and_no_disk() {
    let metadata = metadata();
    let mut complaints = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(row) = row_of(package) else { continue };
        for (banned, way) in reached(&metadata, &package.id) {
            if row.never.contains(&banned.as_str()) {
                complaints.push(format!(
                    "{} reaches {banned} ({way}); remove the dependency, or its feature",
                    package.name
                ));
            }
        }
    }
    nothing_of(complaints);
}

/// Everything that `from` links when it ships, with the way to it. Tests and build scripts may
/// use what they like.
fn reached(metadata: &Metadata, from: &PackageId) -> BTreeMap<String, String> {
    let graph = metadata.resolve.as_ref().expect("dependencies are resolved");
    let nodes: BTreeMap<&PackageId, _> = graph.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![(from, String::new())];
    while let Some((id, way)) = open.pop() {
        for dependency in &nodes[id].deps {
            let mut kinds = dependency.dep_kinds.iter();
            let ships = kinds.any(|kind| {
                kind.kind == DependencyKind::Normal
                    && kind.target.as_ref().is_none_or(|target| {
                        let target = target.to_string();
                        !["windows", "wasm", "macos"].iter().any(|other| target.contains(other))
                    })
            });
            if ships && seen.insert(&dependency.pkg) {
                let name = metadata[&dependency.pkg].name.to_string();
                let way = if way.is_empty() { name.clone() } else { format!("{way} > {name}") };
                found.insert(name, way.clone());
                open.push((&dependency.pkg, way));
            }
        }
    }
    found
}

#[test]
fn every_crate_is_apache_licensed_and_keeps_the_lints() {
    let mut complaints = Vec::new();
    for package in metadata().workspace_packages() {
        let path = package.manifest_path.as_str();
        if package.license.as_deref() != Some("Apache-2.0") {
            complaints.push(format!("{path}: say `license.workspace = true`"));
        }
        let manifest = std::fs::read_to_string(path).expect("a manifest can be read");
        let mut lines = manifest.lines().skip_while(|line| line.trim() != "[lints]").skip(1);
        if lines.next().map(str::trim) != Some("workspace = true") {
            complaints.push(format!("{path}: say `[lints]` and `workspace = true`"));
        }
    }
    nothing_of(complaints);
}

#[test]
fn a_wrong_arrow_is_seen() {
    let ours = BTreeSet::from([API, ENGINE, SERVER, "interlock-plugin-a", "interlock-plugin-b"]);
    let imports = [API, "serde", "interlock-plugin-b", ENGINE];
    let wrong = wrong_arrows("interlock-plugin-a", &PLUGIN, &imports, &ours);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    let server = TABLE.iter().find(|row| row.name == SERVER).unwrap();
    assert!(wrong_arrows(SERVER, server, &[API, ENGINE, "tokio"], &ours).is_empty());
    assert_eq!(wrong_arrows(ENGINE, &TABLE[2], &[SERVER], &ours).len(), 1);
}

#[test]
fn the_graph_is_really_walked() {
    let metadata = metadata();
    let server = metadata.workspace_packages().into_iter().find(|p| p.name.as_str() == SERVER);
    let reached = reached(&metadata, &server.unwrap().id);
    assert!(reached.contains_key("tokio") && reached.len() > 50);
}
