//! The disk under SQLite, overheard: a layer over its own Unix files that tells a `Stage` of every
//! call, and does what the stage says.
//!
//! It is registered as the process's default, so the journal under test opens its files through it
//! without knowing. A file in a directory without a stage is only passed on. The one room of the
//! tests with `unsafe`: SQLite's file systems are tables of C functions.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use crate::stage::{self, Act, Inode, Site, Stage, Syncing};

/// What SQLite holds as an open file. The Unix layer's own file follows it in the same memory.
#[repr(C)]
struct Handle {
    base: sqlite3_file,
    /// Null when nobody listens.
    watched: *mut Watched,
}

struct Watched {
    stage: Arc<Stage>,
    inode: Inode,
    /// How many failed syncs of the file this handle was told of.
    told: u64,
    /// The Unix layer syncs the directory with the first sync of a new log.
    names_pending: bool,
}

/// Addresses of two tables that live as long as the process.
struct Tables {
    unix: *mut sqlite3_vfs,
}

// SAFETY: both tables are written before they are shared and never again; SQLite itself calls
// them from every thread.
unsafe impl Send for Tables {}
// SAFETY: as above.
unsafe impl Sync for Tables {}

static TABLES: OnceLock<Tables> = OnceLock::new();

/// Puts the layer under every database that this process opens from now on.
pub fn install() {
    TABLES.get_or_init(|| {
        // SAFETY: a null name asks for the default; SQLite initialises itself.
        let unix = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        assert!(!unix.is_null(), "SQLite has a default file system");
        // SAFETY: it was found, so it is a whole table that is never freed. Its other functions
        // look only at `mxPathname` and `pAppData` of the table they are given: both are copied.
        let mut ours = unsafe { ptr::read(unix) };
        ours.zName = c"overheard".as_ptr();
        ours.pNext = ptr::null_mut();
        ours.szOsFile += size_of::<Handle>() as c_int;
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        ours.xAccess = Some(access);
        // SAFETY: the table is leaked, so it lives as long as SQLite may use it.
        let rc = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 1) };
        assert_eq!(rc, ffi::SQLITE_OK, "the layer is registered");
        Tables { unix }
    });
}

fn unix() -> *mut sqlite3_vfs {
    TABLES.get().expect("nobody calls the layer before it is registered").unix
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // The second version: shared memory, and no memory map that would bypass `read`.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Calls a function of the Unix layer's table; every table that SQLite ships is whole.
macro_rules! below {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let real = real($file);
        let methods = (*real).pMethods;
        let method = (*methods).$method.expect("the Unix layer has every method");
        method(real $(, $argument)*)
    }};
}

/// Where the Unix layer's file lies.
///
/// # Safety
/// `file` is one that SQLite allocated for this layer: `szOsFile` bytes.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: the memory is `size_of::<Handle>()` longer than the Unix layer asked for, and a
    // `Handle` is as aligned as any file.
    unsafe { file.cast::<u8>().add(size_of::<Handle>()).cast() }
}

/// Who listens to this file.
///
/// # Safety
/// `file` was opened by `open` and not closed; SQLite uses a file from one thread at a time.
unsafe fn watched<'a>(file: *mut sqlite3_file) -> Option<&'a mut Watched> {
    // SAFETY: `open` wrote null or a box that only `close` takes back.
    unsafe { (*file.cast::<Handle>()).watched.as_mut() }
}

/// What the stage says about a call that only reads or locks.
///
/// # Safety
/// As `watched`.
unsafe fn asked(file: *mut sqlite3_file, site: Site) -> Act {
    // SAFETY: the caller's own promise.
    unsafe { watched(file) }.map_or(Act::Go, |w| w.stage.asked(site))
}

/// # Safety
/// `name` is null or a C string.
unsafe fn path_of<'a>(name: *const c_char) -> Option<&'a Path> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller's own promise.
    Some(Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())))
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes for `file`, a name that is null or a C string, and an
    // `out_flags` that the Unix layer may write to. The real file is opened by its own layer.
    unsafe {
        (*file).pMethods = ptr::null();
        let handle = file.cast::<Handle>();
        (*handle).watched = ptr::null_mut();
        let path = path_of(name);
        let heard = path.and_then(|path| Some((stage::of(path)?, path)));
        if let Some((stage, _)) = &heard
            && let Act::Fail(code) = stage.asked(Site::Open)
        {
            return code;
        }
        let opener = (*unix()).xOpen.expect("the Unix layer opens files");
        let rc = opener(unix(), name, real(file), flags, out_flags);
        if (*real(file)).pMethods.is_null() {
            return rc;
        }
        if let Some((stage, path)) = heard {
            let (inode, told) = stage.opened(path);
            let is_log = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
            let names_pending = is_log && flags & ffi::SQLITE_OPEN_CREATE != 0;
            let watched = Watched { stage, inode, told, names_pending };
            (*handle).watched = Box::into_raw(Box::new(watched));
        }
        (*file).pMethods = &raw const METHODS;
        rc
    }
}

unsafe extern "C" fn delete(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    sync_names: c_int,
) -> c_int {
    // SAFETY: SQLite gives a C string.
    let path = unsafe { path_of(name) };
    let heard = path.and_then(|path| Some((stage::of(path)?, path)));
    if let Some((stage, _)) = &heard
        && let Act::Fail(code) = stage.asked(Site::Delete)
    {
        return code;
    }
    // SAFETY: the same call, one layer below.
    let rc = unsafe {
        (*unix()).xDelete.expect("the Unix layer deletes files")(unix(), name, sync_names)
    };
    if let (Some((stage, path)), ffi::SQLITE_OK) = (heard, rc) {
        stage.deleted(path);
        if sync_names != 0 {
            stage.names_synced();
        }
    }
    rc
}

unsafe extern "C" fn access(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives a C string.
    let path = unsafe { path_of(name) };
    if let Some(stage) = path.and_then(stage::of)
        && let Act::Fail(code) = stage.asked(Site::Access)
    {
        return code;
    }
    // SAFETY: the same call, one layer below.
    unsafe { (*unix()).xAccess.expect("the Unix layer looks for files")(unix(), name, flags, out) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open file once; the box was made by `open`.
    unsafe {
        let handle = file.cast::<Handle>();
        if !(*handle).watched.is_null() {
            drop(Box::from_raw((*handle).watched));
            (*handle).watched = ptr::null_mut();
        }
        below!(file, xClose)
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, n: c_int, at: i64) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe {
        match asked(file, Site::Read) {
            Act::Fail(code) => code,
            _ => below!(file, xRead, to, n, at),
        }
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    n: c_int,
    at: i64,
) -> c_int {
    // SAFETY: an open file; SQLite gives `n` readable bytes; the same call one layer below, with
    // no more bytes than were given.
    unsafe {
        let Some(w) = watched(file) else { return below!(file, xWrite, from, n, at) };
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), n as usize);
        match w.stage.writing(w.inode, at as u64, bytes) {
            Act::Go => below!(file, xWrite, from, n, at),
            Act::Fail(code) => code,
            Act::Short(kept, code) => {
                if kept > 0 {
                    below!(file, xWrite, from, kept as c_int, at);
                }
                code
            }
        }
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe {
        if let Some(w) = watched(file)
            && let Act::Fail(code) = w.stage.truncating(w.inode, size as u64)
        {
            return code;
        }
        below!(file, xTruncate, size)
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: an open file, and calls one layer below; what a failed sync takes back is written
    // from whole vectors.
    unsafe {
        let Some(w) = watched(file) else { return below!(file, xSync, flags) };
        match w.stage.syncing(w.inode, &mut w.told) {
            Syncing::Go { from } => {
                let rc = below!(file, xSync, flags);
                w.stage.synced(w.inode, from, rc == ffi::SQLITE_OK);
                if rc == ffi::SQLITE_OK && w.names_pending {
                    w.names_pending = false;
                    w.stage.names_synced();
                }
                rc
            }
            Syncing::Swallow => {
                w.names_pending = false;
                ffi::SQLITE_OK
            }
            Syncing::Fail { code, taken_back } => {
                for (at, bytes) in taken_back {
                    let n = bytes.len() as c_int;
                    below!(file, xWrite, bytes.as_ptr().cast(), n, at as i64);
                }
                code
            }
        }
    }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe {
        match asked(file, Site::Size) {
            Act::Fail(code) => code,
            _ => below!(file, xFileSize, out),
        }
    }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe {
        match asked(file, Site::Lock) {
            Act::Fail(code) => code,
            _ => below!(file, xLock, level),
        }
    }
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xUnlock, level) }
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xCheckReservedLock, out) }
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, of: *mut c_void) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xFileControl, op, of) }
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xSectorSize) }
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xDeviceCharacteristics) }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe {
        match asked(file, Site::ShmMap) {
            Act::Fail(code) => code,
            _ => below!(file, xShmMap, page, size, extend, out),
        }
    }
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    offset: c_int,
    n: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: an open file, and the same call one layer below. Only taking a lock may fail.
    unsafe {
        let takes = flags & ffi::SQLITE_SHM_LOCK != 0;
        match if takes { asked(file, Site::ShmLock) } else { Act::Go } {
            Act::Fail(code) => code,
            _ => below!(file, xShmLock, offset, n, flags),
        }
    }
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xShmBarrier) }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: an open file, and the same call one layer below.
    unsafe { below!(file, xShmUnmap, delete) }
}
