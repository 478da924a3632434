//! Gives checked bytes to the dynamic linker, and never takes them back.
//!
//! The linker gets the very bytes that were hashed: in a sealed memory file that nothing can
//! change or shorten (a shortened library ends the process), or, where the system forbids code
//! from such a file, in a private folder that is gone again after the load. A library is never
//! unloaded: a thread that ever touched a thread-local of it would crash at its exit.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use interlock_plugin_api::abi;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::elf::{MANIFEST_BYTES_MAX, PluginFile, check_descriptor};
use super::load_error::LoadReason;

/// So many libraries are mapped in the life of a process: each costs memory and a descriptor for
/// good.
const LIBRARIES_MAX: usize = 256;

/// The libraries of this process, by file and hash. A library is never unloaded, so a version that
/// comes back after it was replaced is taken as it is instead of being mapped once more.
#[derive(Default)]
pub(super) struct Linked(Mutex<Table>);

#[derive(Default)]
struct Table {
    known: HashMap<(String, [u8; 32]), &'static abi::Plugin>,
    /// All that were ever mapped, those that are not used again among them.
    mapped: usize,
}

impl Linked {
    /// The library of these bytes, if it is there and has never failed.
    pub(super) fn get(&self, file: &str, sha256: [u8; 32]) -> Option<&'static abi::Plugin> {
        lock(&self.0).known.get(&(file.to_owned(), sha256)).copied()
    }

    /// One more is mapped.
    pub(super) fn add(&self, file: &str, sha256: [u8; 32], plugin: &'static abi::Plugin) {
        lock(&self.0).known.insert((file.to_owned(), sha256), plugin);
    }

    /// It has failed, so what it holds in memory is not trusted again.
    pub(super) fn forget(&self, file: &str, sha256: [u8; 32]) {
        lock(&self.0).known.remove(&(file.to_owned(), sha256));
    }

    /// Counts one more, unless there are too many.
    pub(super) fn count(&self) -> Result<(), LoadReason> {
        let mut table = lock(&self.0);
        if table.mapped >= LIBRARIES_MAX {
            return Err(LoadReason::TooManyLibraries { max: LIBRARIES_MAX });
        }
        table.mapped += 1;
        Ok(())
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Maps a checked file and runs its start-up code; the descriptor lives as long as the process.
pub(super) fn link(file: &PluginFile) -> Result<&'static abi::Plugin, LoadReason> {
    let library = match sealed(&file.bytes) {
        Ok(memory) => {
            let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
            match open(Path::new(&path), &file.name) {
                Ok(library) => {
                    // The linker knows a library by its path: were the number given to another
                    // plugin's file, `dlopen` would answer with this one again. So it stays open.
                    mem::forget(memory);
                    library
                }
                Err(LoadReason::Linker(text)) if forbidden(&text) => from_private_folder(file)?,
                Err(reason) => return Err(reason),
            }
        }
        Err(_) => from_private_folder(file)?,
    };
    // SAFETY: the symbol is only used as an address here; `descriptor` checks what is there.
    let symbol = unsafe { library.get::<*const abi::Plugin>(abi::ENTRY) };
    let address = symbol.map(|s| s.as_raw_ptr().cast::<abi::Plugin>().cast_const());
    // Never unloaded, whatever comes next.
    mem::forget(library);
    descriptor(address.map_err(|_| LoadReason::NoEntry)?)
}

/// The manifest's bytes, from memory.
pub(super) fn manifest(plugin: &'static abi::Plugin) -> Result<&'static [u8], LoadReason> {
    let len = plugin.manifest.len;
    if plugin.manifest.ptr.is_null() || len == 0 || len > MANIFEST_BYTES_MAX {
        let problem = format!("it has {len} bytes, {MANIFEST_BYTES_MAX} is the most");
        return Err(LoadReason::Descriptor { field: "manifest", problem });
    }
    // SAFETY: the ABI gives the manifest static life, and the library is never unloaded.
    Ok(unsafe { plugin.manifest.get() })
}

const WORDS: usize = size_of::<abi::Plugin>() / size_of::<usize>();

fn descriptor(address: *const abi::Plugin) -> Result<&'static abi::Plugin, LoadReason> {
    let fail = |field, problem: &str| LoadReason::Descriptor { field, problem: problem.into() };
    if address.is_null() || !address.is_aligned() {
        return Err(fail("interlock_plugin_v1", "its address is not aligned"));
    }
    // SAFETY: the file check found the whole descriptor inside a mapped segment, and integers may
    // hold any bytes; it is read as integers because null is no value of a function.
    let words = unsafe { &*address.cast::<[usize; WORDS]>() };
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    check_descriptor(&bytes)?;
    let functions = [
        ("create", mem::offset_of!(abi::Plugin, create)),
        ("destroy", mem::offset_of!(abi::Plugin, destroy)),
        ("call", mem::offset_of!(abi::Plugin, call)),
        ("get_extension", mem::offset_of!(abi::Plugin, get_extension)),
    ];
    for (field, offset) in functions {
        if words[offset / size_of::<usize>()] == 0 {
            return Err(fail(field, "it is null"));
        }
    }
    // SAFETY: layout, version and functions were checked; the library is never unloaded.
    Ok(unsafe { &*address })
}

fn open(path: &Path, file: &str) -> Result<Library, LoadReason> {
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: runs the library's start-up code: its bytes are pinned, or the operator allowed
    // unpinned ones; its layout was checked, so the linker stays inside the file.
    unsafe { Library::open(Some(path), flags) }.map_err(|error| {
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text = error.to_string();
            cause = error.source();
        }
        LoadReason::Linker(text.replace(&path.display().to_string(), file))
    })
}

/// Whether the linker was not allowed to map code from the file.
fn forbidden(text: &str) -> bool {
    ["failed to map segment", "Permission denied", "Operation not permitted"]
        .iter()
        .any(|sign| text.contains(sign))
}

pub(super) fn sealed(bytes: &[u8]) -> io::Result<File> {
    let name = CString::new("interlock-plugin").expect("no zero byte in it");
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know MFD_EXEC; later ones may be set to refuse code without it.
    let mut memory =
        memory_file(&name, flags | libc::MFD_EXEC).or_else(|_| memory_file(&name, flags))?;
    memory.write_all(bytes)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a valid descriptor and a command that takes an integer.
    if unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(memory)
}

fn memory_file(name: &CString, flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name ends in a zero byte and lives for the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn from_private_folder(file: &PluginFile) -> Result<Library, LoadReason> {
    let mapping = |e: io::Error| LoadReason::Mapping(e.to_string());
    let folder = std::env::temp_dir().join(format!("interlock-{}", ulid::Ulid::generate()));
    DirBuilder::new().mode(0o700).create(&folder).map_err(mapping)?;
    let path = folder.join(format!("{}.so", hex::encode(file.sha256)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o500)
        .open(&path)
        .and_then(|mut out| out.write_all(&file.bytes))
        .map_err(mapping);
    let opened = written.and_then(|()| open(&path, &file.name));
    // The mapping needs no name, and without one nobody can change the bytes.
    if let Err(error) = fs::remove_dir_all(&folder) {
        tracing::warn!(%error, "plugin copy could not be removed");
    }
    opened
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    #[test]
    fn a_sealed_file_can_neither_be_changed_nor_shortened() {
        let mut memory = sealed(b"bytes").unwrap();
        assert!(memory.set_len(1).is_err());
        assert!(memory.set_len(100).is_err());
        memory.seek(SeekFrom::Start(0)).unwrap();
        assert!(memory.write_all(b"other").is_err());
    }

    #[test]
    fn a_library_works_from_the_private_folder_too_and_its_copy_is_gone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = std::env::temp_dir().join(format!("interlock-{}.so", ulid::Ulid::generate()));
        let built = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-I"])
            .arg(root.join("../../plugin-api/include"))
            .arg(root.join("tests/plugins/echo.c"))
            .arg("-o")
            .arg(&path)
            .status()
            .unwrap();
        assert!(built.success());
        let file = PluginFile::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let library = from_private_folder(&file).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let copy = format!("{}.so (deleted)", hex::encode(file.sha256));
        assert!(maps.contains(&copy));
        // SAFETY: only the address is used, and it is checked.
        let symbol = unsafe { library.get::<*const abi::Plugin>(abi::ENTRY) }.unwrap();
        let address = symbol.as_raw_ptr().cast::<abi::Plugin>().cast_const();
        mem::forget(library);
        let text = manifest(descriptor(address).unwrap()).unwrap();
        assert!(text.starts_with(b"{\"schema\":1"));
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_from_either_place_and_leaves_nothing() {
        let bytes = b"not a library".to_vec();
        let file = PluginFile { name: "x.so".into(), sha256: [7; 32], bytes };
        assert!(matches!(from_private_folder(&file), Err(LoadReason::Linker(_))));
        let Err(LoadReason::Linker(text)) = link(&file) else { unreachable!() };
        assert!(text.starts_with("x.so: "), "{text}");
        let left = hex::encode(file.sha256);
        let found = fs::read_dir(std::env::temp_dir())
            .unwrap()
            .flatten()
            .any(|entry| entry.path().join(format!("{left}.so")).exists());
        assert!(!found);
    }
}
