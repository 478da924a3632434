//! Where the repository lies, which tools are there, and how a step is told and run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Folders of this clone.
pub struct Ground {
    /// The root of the repository.
    pub root: PathBuf,
    /// Where Cargo builds.
    pub target: PathBuf,
}

impl Ground {
    /// Finds the clone that this program was built from.
    ///
    /// # Errors
    /// When it was moved away.
    pub fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
        let root = root.filter(|root| root.join("Cargo.toml").exists());
        let root = root.ok_or("the repository was moved: run it as `cargo xtask`")?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(elsewhere) => root.join(elsewhere),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A program that `cargo build` made.
    pub fn built(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }

    /// `cargo` in the root, by the toolchain that runs this program.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.root);
        cargo
    }
}

/// Tells each step with the time since the start.
pub struct Progress {
    began: Instant,
    /// Stdout belongs to the result.
    aside: bool,
}

impl Progress {
    /// The clock starts; `aside` tells on stderr.
    pub fn new(aside: bool) -> Self {
        Self { began: Instant::now(), aside }
    }

    /// One line.
    pub fn say(&self, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        if self.aside {
            eprintln!("[{seconds:7.1} s] {what}");
        } else {
            println!("[{seconds:7.1} s] {what}");
        }
    }

    /// Runs `command` with its output shown, and says how long it took.
    ///
    /// # Errors
    /// When it could not be started, or failed.
    pub fn run(&self, what: &str, command: &mut Command) -> Result<(), String> {
        if self.try_run(what, command)? { Ok(()) } else { Err(format!("step failed: {what}")) }
    }

    /// As [`Progress::run`]; answers whether it succeeded.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn try_run(&self, what: &str, command: &mut Command) -> Result<bool, String> {
        self.say(what);
        let began = Instant::now();
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command.stdin(Stdio::null()).status();
        let status = status.map_err(|why| format!("could not start {program}: {why}"))?;
        let end = if status.success() { "done" } else { "FAILED" };
        self.say(&format!("{what}: {end} in {:.1} s", began.elapsed().as_secs_f64()));
        Ok(status.success())
    }
}

/// The first line that `program --version` prints, or `None` when there is no such program.
pub fn version_of(program: impl AsRef<std::ffi::OsStr>) -> Option<String> {
    let ran = Command::new(program).arg("--version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(ran.stdout).ok()?;
    ran.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Makes sure that a C compiler, cmake and make are there: pingora's compression needs them.
/// Root installs what is missing from Debian's archive.
///
/// # Errors
/// What to install, for somebody who is not root or has no network.
pub fn need_c_tools(progress: &Progress) -> Result<(), String> {
    let needed = [("cc", "gcc libc6-dev"), ("cmake", "cmake"), ("make", "make")];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(program, _)| version_of(program).is_none())
        .flat_map(|(_, packages)| packages.split(' '))
        .collect();
    if missing.is_empty() { Ok(()) } else { apt_install(progress, &missing) }
}

/// Installs Debian packages as root.
///
/// # Errors
/// What to run instead, when not root, or without apt, or without network.
pub fn apt_install(progress: &Progress, packages: &[&str]) -> Result<(), String> {
    let list = packages.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends {list}");
    if version_of("apt-get").is_none() {
        return Err(format!("these Debian packages, or your system's own, are missing: {list}"));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(format!("these packages are missing; as root run: {by_hand}"));
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    let no_network = |why: String| {
        format!("{why} (is there a network, and an archive in /etc/apt?); by hand: {by_hand}")
    };
    progress
        .run("apt-get update", &mut apt(&["-q", "-o", "Acquire::Retries=3", "update"]))
        .map_err(no_network)?;
    let mut install = apt(&["-q", "-y", "--no-install-recommends", "install"]);
    install.args(packages);
    progress.run(&format!("apt-get install {list}"), &mut install).map_err(no_network)
}
