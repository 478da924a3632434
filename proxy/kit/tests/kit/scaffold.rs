//! What `interlock plugin new` writes compiles without a warning, outside this workspace, and
//! passes every check, whatever was chosen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use interlock_kit::scaffold::{Auth, Lang, OPERATIONS, Wanted, create};
use interlock_kit::{Folder, Options, Report, examine};
use interlock_plugin_api::Operation;
use tempfile::TempDir;

use crate::program;

fn wanted(name: &str, operations: &[Operation], auth: Auth) -> Wanted {
    Wanted { name: name.into(), operations: operations.to_vec(), auth, lang: Lang::Rust }
}

#[test]
fn every_choice_compiles_and_passes() {
    use Operation::{Capture, Inquire, InquireOperation, ParseNotification, Probe, Refund, Void};
    let into = TempDir::new().unwrap();
    for wanted in [
        wanted("whole", &OPERATIONS, Auth::Bearer),
        wanted("only-pays", &[], Auth::Header),
        wanted("asks", &[Inquire, Refund], Auth::Basic),
        wanted("two-steps", &[Capture, Void, InquireOperation, Probe], Auth::Mac),
        wanted("told", &[ParseNotification], Auth::Rsa),
    ] {
        let files = create(into.path(), &wanted).unwrap();
        assert!(files.contains(&PathBuf::from("src/provider.rs")));
        let folder = into.path().join(&wanted.name);
        let library = build(&folder, &wanted.name);
        let report = judged(&Folder { library, fixtures: folder.join("fixtures") });
        assert!(report.conforms(), "{}", report.text());
        assert_eq!(report.plugin, wanted.name);
    }
}

#[test]
fn one_in_c_compiles_and_passes() {
    let into = TempDir::new().unwrap();
    let wanted = Wanted { lang: Lang::C, ..wanted("in-c", &OPERATIONS, Auth::Bearer) };
    create(into.path(), &wanted).unwrap();
    let folder = Folder::find(&into.path().join("in-c"), None).unwrap();
    let name = folder.library.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(name, "libin_c.so");
    let report = judged(&folder);
    assert!(report.conforms(), "{}", report.text());
    assert_eq!(report.plugin, "in-c");
    let other = Wanted { auth: Auth::Mac, ..wanted };
    let error = create(&into.path().join("x"), &other).unwrap_err();
    assert!(error.to_string().contains("comes whole"), "{error}");
}

#[test]
fn a_folder_that_exists_is_not_touched_and_a_bad_name_is_refused() {
    let into = TempDir::new().unwrap();
    create(into.path(), &wanted("mine", &OPERATIONS, Auth::Bearer)).unwrap();
    let again = create(into.path(), &wanted("mine", &OPERATIONS, Auth::Bearer)).unwrap_err();
    assert!(again.to_string().starts_with("it exists already: "), "{again}");
    for name in ["", "Mine", "1st", "a_b", "a-", "../a", "a/b"] {
        let error = create(into.path(), &wanted(name, &[], Auth::Bearer)).unwrap_err();
        assert!(error.to_string().contains("a plugin's name begins with a letter"), "{error}");
    }
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
}

fn judged(folder: &Folder) -> Report {
    let program = program();
    examine(folder, &program, &Options::default(), &|_| {}).unwrap()
}

/// Builds a folder as its author would, with the versions that are here.
fn build(folder: &Path, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scaffold");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .env("RUSTFLAGS", "-D warnings")
        .output()
        .unwrap();
    assert!(built.status.success(), "{name}\n{}", String::from_utf8_lossy(&built.stderr));
    target.join(format!("debug/lib{}.so", name.replace('-', "_")))
}
