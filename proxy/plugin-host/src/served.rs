//! The other end of [`super::apart`]: a process that holds one plugin, and a socket.
//!
//! It has nothing to lose: no key, no file, no environment. Once the plugin is open, the process
//! goes into a cage from which it reaches its socket and memory alone.

use std::ffi::{CStr, c_char, c_void};
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use interlock_plugin_api::abi::{
    self, AeadExtension, Bytes, EstablishExtension, HostTable, Out, SignExtension, VerifyExtension,
};

use super::cage;
use super::call::{self, Handle, Sink};
use super::elf::{self, FILE_BYTES_MAX, PluginFile};
use super::frame::{self, Frame, Kind};
use super::load;
use super::memory;
use super::services::fenced;

const SOCKET: i32 = 0;
const LIBRARY: i32 = 1;
/// A call that lasts longer ends the process, if nobody else has done so.
const ALARM_S: u32 = 5;
/// Address space, bytes: a plugin that takes more gets none.
const MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

static SIGN: SignExtension = SignExtension { struct_size: size_of::<SignExtension>() as u32, sign };
static VERIFY: VerifyExtension =
    VerifyExtension { struct_size: size_of::<VerifyExtension>() as u32, verify };
static AEAD: AeadExtension =
    AeadExtension { struct_size: size_of::<AeadExtension>() as u32, unseal };
static ESTABLISH: EstablishExtension = EstablishExtension {
    struct_size: size_of::<EstablishExtension>() as u32,
    public_key,
    establish,
};

/// Serves one plugin until the socket closes: the whole of the process. Its standard input is the
/// socket, its standard output the library.
///
/// # Errors
/// The socket's, or that the cage could not be entered; then the plugin has run no step.
pub fn serve() -> io::Result<()> {
    // SAFETY: the parent put a socket there, and nothing else in this process uses the number.
    let mut socket = unsafe { UnixStream::from_raw_fd(SOCKET) };
    // SAFETY: as above, a file.
    let library = unsafe { File::from_raw_fd(LIBRARY) };
    let opening = frame::read(&mut socket)?;
    if opening.kind != Kind::Open {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (plugin, handle) = match opened(&library, &opening)? {
        Ok(opened) => opened,
        Err((code, sink)) => return tell(&mut socket, code, &sink),
    };
    end_by(libc::SIGSEGV);
    end_by(libc::SIGBUS);
    // A limit that is not set protects less, and the parent's own deadline still holds.
    memory::limit(libc::RLIMIT_AS, MEMORY_BYTES_MAX);
    memory::dump_nothing();
    memory::swap_nothing();
    cage::enter_process(SOCKET)?;
    tell(&mut socket, abi::OK, &Sink::default())?;
    loop {
        let asked = match frame::read(&mut socket) {
            Ok(frame) if frame.kind == Kind::Step => frame,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(e) => return Err(e),
        };
        alarm(ALARM_S);
        let parts = [asked.part(0), asked.part(1), asked.part(2)];
        let (code, sink) = call::step(plugin, handle, parts);
        alarm(0);
        tell(&mut socket, code, &sink)?;
    }
}

type Opened = Result<(&'static abi::Plugin, Handle), (i32, Sink)>;

fn opened(library: &File, opening: &Frame) -> io::Result<Opened> {
    let size = library.metadata()?.len();
    if size > FILE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    library.read_exact_at(&mut bytes, 0)?;
    let name = String::from_utf8_lossy(opening.part(1)).into_owned();
    let file = PluginFile { name, sha256: elf::sha256(&bytes), bytes };
    let plugin = match load::link(&file) {
        Ok(plugin) => plugin,
        Err(reason) => {
            let error = reason.to_string().into_bytes();
            return Ok(Err((abi::E_INTERNAL, Sink { error, ..Sink::default() })));
        }
    };
    drop(file);
    // Both live as long as the process. It is the same socket under the same number: the cage
    // knows no other.
    // SAFETY: the number stays open, because what is leaked is never closed.
    let socket = unsafe { UnixStream::from_raw_fd(SOCKET) };
    let services = Box::leak(Box::new(Services { socket }));
    let table = Box::leak(Box::new(HostTable {
        struct_size: size_of::<HostTable>() as u32,
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        ctx: (&raw mut *services).cast(),
        log,
        mac,
        get_extension,
    }));
    let (code, handle, sink) = call::create(plugin, table, opening.part(0));
    Ok(if code == abi::OK { Ok((plugin, handle)) } else { Err((code, sink)) })
}

fn tell(socket: &mut UnixStream, code: i32, sink: &Sink) -> io::Result<()> {
    let over = sink.over.unwrap_or_default().as_bytes();
    let parts = [&sink.meta[..], &sink.state, &sink.body, &sink.error, over];
    frame::write(socket, Kind::Result, code, &parts)
}

/// Lets a signal end the process by itself: a handler would only print, which is not allowed here.
fn end_by(signal: i32) {
    // SAFETY: the default action is one of the two that are always valid.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn alarm(seconds: u32) {
    // SAFETY: takes an integer; the default action of its signal ends the process, as it should.
    unsafe { libc::alarm(seconds) };
}

/// The proxy at the other end, which has the keys.
struct Services {
    socket: UnixStream,
}

impl Services {
    /// Asks the proxy; one question at a time, because one step runs at a time.
    fn ask(&mut self, service: i32, parts: &[&[u8]]) -> Result<(i32, Vec<u8>), i32> {
        frame::write(&mut self.socket, Kind::Service, service, parts)
            .map_err(|_| abi::E_INTERNAL)?;
        let mut reply = frame::read(&mut self.socket).map_err(|_| abi::E_INTERNAL)?;
        if reply.kind != Kind::Reply {
            return Err(abi::E_INTERNAL);
        }
        let bytes = reply.parts.first_mut().map(std::mem::take).unwrap_or_default();
        Ok((reply.code, bytes))
    }
}

fn asked(ctx: *mut c_void, service: i32, parts: &[Bytes]) -> Result<(i32, Vec<u8>), i32> {
    // SAFETY: the plugin hands back the table's `ctx`; null is refused; one step runs at a time.
    let services = unsafe { ctx.cast::<Services>().as_mut() }.ok_or(abi::E_INPUT)?;
    if parts.iter().any(|part| part.len > call::BODY_BYTES_MAX * 2) {
        return Err(abi::E_LIMIT);
    }
    // SAFETY: the plugin lends the slices for this call; a null pointer gives an empty one.
    let parts: Vec<&[u8]> = parts.iter().map(|part| unsafe { part.get() }).collect();
    services.ask(service, &parts)
}

/// Of a service that answers 1 with bytes, or 0 with none.
fn give_if(out: *const Out, answer: (i32, Vec<u8>)) -> i32 {
    let (code, bytes) = answer;
    match code {
        1 => match give(out, (abi::OK, bytes)) {
            abi::OK => 1,
            rc => rc,
        },
        code => code,
    }
}

fn give(out: *const Out, answer: (i32, Vec<u8>)) -> i32 {
    let (code, bytes) = answer;
    if code != abi::OK {
        return code;
    }
    // SAFETY: the plugin lends its `out` for this call; null is refused.
    match unsafe { out.as_ref() } {
        Some(out) => (out.put)(out.ctx, abi::PART_META, bytes.as_ptr(), bytes.len()),
        None => abi::E_INPUT,
    }
}

extern "C" fn log(ctx: *mut c_void, level: i32, message: Bytes) {
    let level = level.to_le_bytes();
    fenced(|| asked(ctx, frame::LOG, &[Bytes::new(&level), message]).map(|(code, _)| code));
}

extern "C" fn mac(ctx: *mut c_void, key: Bytes, data: Bytes, out: *const Out) -> i32 {
    fenced(|| Ok(give(out, asked(ctx, frame::MAC, &[key, data])?)))
}

extern "C" fn sign(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    data: Bytes,
    out: *const Out,
) -> i32 {
    fenced(|| Ok(give(out, asked(ctx, frame::SIGN, &[key, algorithm, data])?)))
}

extern "C" fn verify(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    data: Bytes,
    signature: Bytes,
) -> i32 {
    let parts = [key, algorithm, data, signature];
    fenced(|| asked(ctx, frame::VERIFY, &parts).map(|(code, _)| code))
}

extern "C" fn unseal(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    nonce: Bytes,
    associated: Bytes,
    ciphertext: Bytes,
    out: *const Out,
) -> i32 {
    let parts = [key, algorithm, nonce, associated, ciphertext];
    fenced(|| Ok(give_if(out, asked(ctx, frame::UNSEAL, &parts)?)))
}

extern "C" fn public_key(ctx: *mut c_void, key: Bytes, out: *const Out) -> i32 {
    fenced(|| Ok(give(out, asked(ctx, frame::PUBLIC_KEY, &[key])?)))
}

extern "C" fn establish(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    peer: Bytes,
    out: *const Out,
) -> i32 {
    fenced(|| Ok(give_if(out, asked(ctx, frame::ESTABLISH, &[key, algorithm, peer])?)))
}

extern "C" fn get_extension(_: *mut c_void, id: *const c_char) -> *const c_void {
    if id.is_null() {
        return std::ptr::null();
    }
    // SAFETY: the ABI gives ids as strings that end in a zero byte.
    match unsafe { CStr::from_ptr(id) } {
        id if id == abi::SIGN_EXTENSION => (&raw const SIGN).cast(),
        id if id == abi::VERIFY_EXTENSION => (&raw const VERIFY).cast(),
        id if id == abi::AEAD_EXTENSION => (&raw const AEAD).cast(),
        id if id == abi::ESTABLISH_EXTENSION => (&raw const ESTABLISH).cast(),
        _ => std::ptr::null(),
    }
}
