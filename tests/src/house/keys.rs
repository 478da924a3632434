//! The key pairs of the accounts and of their providers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{House, built};

impl House {
    /// RSA keys take seconds to make, so one set serves every house of a test run. It is held in
    /// memory: nobody drops a static, and a folder in one would be left behind.
    pub(super) fn write_keys(&self) {
        static KEYS: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
        let made = KEYS.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a folder");
            let keys = |names: &[&str]| {
                let status = Command::new(built("interlock-sandbox"))
                    .arg("keys")
                    .arg(dir.path())
                    .args(names)
                    .stdout(Stdio::null())
                    .status()
                    .expect("the sandbox is built");
                assert!(status.success(), "keys are made");
            };
            keys(&["alipay-main", "alipay-backup"]);
            // The same pairs elsewhere: nobody there knows of the others.
            let at = |name: &str| dir.path().join(name);
            copy_files(&at("alipay-main"), &at("wechat-main"));
            copy_files(&at("alipay-backup"), &at("wechat-backup"));
            fs::create_dir(at("paypal-main")).expect("a folder");
            for (from, to) in [("app", "webhook_ca"), ("gateway", "webhook")] {
                for half in ["private", "public"] {
                    let from = at("alipay-main").join(format!("{from}_{half}.pem"));
                    fs::copy(from, at("paypal-main").join(format!("{to}_{half}.pem")))
                        .expect("a key is copied");
                }
            }
            keys(&["--webhooks", "paypal-main"]);
            accounts_keys(dir.path())
        });
        for (name, pem) in made {
            let path = self.dir.path().join("keys").join(name);
            fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
            fs::write(path, pem).expect("a key is written");
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map_while(Result::ok) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// The files in the folders of accounts, by their path below `root`.
fn accounts_keys(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let inside = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder").map_while(Result::ok);
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = inside(root).into_iter().flat_map(|account| inside(&account));
    files
        .map(|path| {
            let name = path.strip_prefix(root).expect("below it").to_owned();
            (name, fs::read(path).expect("a key"))
        })
        .collect()
}
