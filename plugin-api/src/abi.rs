//! The C ABI, major 1: the Rust form of `include/interlock_plugin.h`, and the fence around a
//! [`Provider`].
//!
//! No Rust value crosses the boundary: slices in are borrowed for the call, bytes out are copied
//! by the host's `put` before it returns, and no memory is freed by the other side. No panic leaves
//! a function; it becomes [`E_PANIC`], and its message is never printed, because it could hold
//! request data. This file is one ordered thought: layouts, host side, plugin side, macro.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::{Cx, Envelope, Fault, FaultKind, Host, HostError, Operation, Provider, Sealed, Step};

/// `INTRLOCK`, little endian.
pub const MAGIC: u64 = 0x4B43_4F4C_5254_4E49;
/// The ABI's major version; it is also in the symbol's name.
pub const ABI_MAJOR: u16 = 1;
/// The ABI's minor version: fields and extensions are only ever appended.
pub const ABI_MINOR: u16 = 1;
/// The one symbol that a plugin exports.
pub const ENTRY: &str = "interlock_plugin_v1";
/// The descriptor's leading bytes that never change meaning.
pub const FROZEN_BYTES: usize = 24;
/// Set when a panic unwinds (and can be fenced) instead of aborting.
pub const FLAG_PANIC_UNWIND: u32 = 1;

/// Success; any other code means that no effect was produced.
pub const OK: i32 = 0;
/// The plugin panicked.
pub const E_PANIC: i32 = -1;
/// The input can't be used.
pub const E_INPUT: i32 = -2;
/// Not implemented.
pub const E_UNSUPPORTED: i32 = -3;
/// The configuration can't be used.
pub const E_CONFIG: i32 = -4;
/// More than fits.
pub const E_LIMIT: i32 = -5;
/// The plugin's own failure.
pub const E_INTERNAL: i32 = -6;

/// `call`: one step of an operation.
pub const FN_STEP: u32 = 2;
/// JSON.
pub const PART_META: u32 = 0;
/// The continuation.
pub const PART_STATE: u32 = 1;
/// A raw HTTP body.
pub const PART_BODY: u32 = 2;
/// Fixed error text.
pub const PART_ERROR: u32 = 3;

/// The id of [`SignExtension`].
pub const SIGN_EXTENSION: &CStr = c"ilk.host.sign/1";
/// The id of [`VerifyExtension`].
pub const VERIFY_EXTENSION: &CStr = c"ilk.host.verify/1";
/// The id of [`AeadExtension`].
pub const AEAD_EXTENSION: &CStr = c"ilk.host.aead/1";
/// The id of [`EstablishExtension`].
pub const ESTABLISH_EXTENSION: &CStr = c"ilk.host.establish/1";

/// A borrowed slice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    /// May be null when `len` is 0.
    pub ptr: *const u8,
    /// Bytes.
    pub len: usize,
}

impl Bytes {
    /// Borrows a slice for a call.
    pub const fn new(slice: &[u8]) -> Self {
        Self { ptr: slice.as_ptr(), len: slice.len() }
    }

    /// The slice again.
    ///
    /// # Safety
    /// `ptr` and `len` must come from a live slice that outlives `'a`.
    pub unsafe fn get<'a>(self) -> &'a [u8] {
        if self.len == 0 || self.ptr.is_null() {
            return &[];
        }
        // SAFETY: the caller vouches for pointer, length and life.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// Growable parts that belong to the host; the plugin only appends.
#[repr(C)]
pub struct Out {
    /// The host's own.
    pub ctx: *mut c_void,
    /// Copies; [`E_LIMIT`] past the cap.
    pub put: extern "C" fn(ctx: *mut c_void, part: u32, p: *const u8, n: usize) -> i32,
}

impl Out {
    fn write(&self, part: u32, bytes: &[u8]) -> i32 {
        (self.put)(self.ctx, part, bytes.as_ptr(), bytes.len())
    }
}

/// What the host offers. Append-only: read a field only if `struct_size` covers it.
#[repr(C)]
pub struct HostTable {
    /// Bytes of this struct as the host knows it.
    pub struct_size: u32,
    /// The host's ABI.
    pub abi_major: u16,
    /// The host's ABI.
    pub abi_minor: u16,
    /// The host's own.
    pub ctx: *mut c_void,
    /// A line for the log; redacted and rate-limited by the host.
    pub log: extern "C" fn(ctx: *mut c_void, level: i32, msg: Bytes),
    /// HMAC-SHA256 under a named key, to part 0.
    pub mac: extern "C" fn(ctx: *mut c_void, key: Bytes, data: Bytes, out: *const Out) -> i32,
    /// Extension tables by id; null when absent.
    pub get_extension: extern "C" fn(ctx: *mut c_void, id: *const c_char) -> *const c_void,
}

/// `ilk.host.sign/1`.
#[repr(C)]
pub struct SignExtension {
    /// Bytes of this struct.
    pub struct_size: u32,
    /// A signature under a named key, to part 0.
    pub sign: extern "C" fn(
        ctx: *mut c_void,
        key: Bytes,
        algorithm: Bytes,
        data: Bytes,
        out: *const Out,
    ) -> i32,
}

/// `ilk.host.verify/1`.
#[repr(C)]
pub struct VerifyExtension {
    /// Bytes of this struct.
    pub struct_size: u32,
    /// 1 when the signature is good, 0 when it is not, below 0 for an error.
    pub verify: extern "C" fn(
        ctx: *mut c_void,
        key: Bytes,
        algorithm: Bytes,
        data: Bytes,
        signature: Bytes,
    ) -> i32,
}

/// `ilk.host.aead/1`, since minor 1.
#[repr(C)]
pub struct AeadExtension {
    /// Bytes of this struct.
    pub struct_size: u32,
    /// 1 and the plaintext in part 0, 0 when it is not authentic, below 0 for an error.
    pub unseal: extern "C" fn(
        ctx: *mut c_void,
        key: Bytes,
        algorithm: Bytes,
        nonce: Bytes,
        associated: Bytes,
        ciphertext: Bytes,
        out: *const Out,
    ) -> i32,
}

/// `ilk.host.establish/1`, since minor 1.
#[repr(C)]
pub struct EstablishExtension {
    /// Bytes of this struct.
    pub struct_size: u32,
    /// The public half of a named private key, as SubjectPublicKeyInfo in DER, to part 0.
    pub public_key: extern "C" fn(ctx: *mut c_void, key: Bytes, out: *const Out) -> i32,
    /// 1 and the secret in part 0, 0 when no peer would have sent this, below 0 for an error.
    pub establish: extern "C" fn(
        ctx: *mut c_void,
        key: Bytes,
        algorithm: Bytes,
        peer: Bytes,
        out: *const Out,
    ) -> i32,
}

/// The descriptor that a plugin exports under [`ENTRY`]. The first [`FROZEN_BYTES`] hold no
/// relocation, so they can be read from the file.
#[repr(C)]
pub struct Plugin {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_MAJOR`].
    pub abi_major: u16,
    /// [`ABI_MINOR`].
    pub abi_minor: u16,
    /// Bytes of this struct as the plugin knows it.
    pub struct_size: u32,
    /// [`FLAG_PANIC_UNWIND`].
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// Static JSON.
    pub manifest: Bytes,
    /// Makes an instance for one account.
    pub create: unsafe extern "C" fn(
        host: *const HostTable,
        config: Bytes,
        err: *const Out,
        inst: *mut *mut c_void,
    ) -> i32,
    /// Frees an instance, once, with no call in flight.
    pub destroy: unsafe extern "C" fn(inst: *mut c_void),
    /// From any thread, concurrently.
    pub call: unsafe extern "C" fn(
        inst: *mut c_void,
        function: u32,
        parts: *const Bytes,
        n: usize,
        out: *const Out,
    ) -> i32,
    /// Extension tables of the plugin; null when absent.
    pub get_extension: unsafe extern "C" fn(id: *const c_char) -> *const c_void,
}

// SAFETY: a descriptor is immutable and its pointers are to statics.
unsafe impl Sync for Plugin {}

/// The descriptor of a Rust provider; used by [`crate::export_provider!`].
pub const fn descriptor<P: Provider>() -> Plugin {
    Plugin {
        magic: MAGIC,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        struct_size: std::mem::size_of::<Plugin>() as u32,
        flags: if cfg!(panic = "unwind") { FLAG_PANIC_UNWIND } else { 0 },
        reserved: 0,
        manifest: Bytes::new(P::MANIFEST.as_bytes()),
        create: create::<P>,
        destroy: destroy::<P>,
        call: call::<P>,
        get_extension: no_extension,
    }
}

/// Makes a library of a [`Provider`]: exports its descriptor under the ABI's symbol.
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        /// The plugin's descriptor.
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static interlock_plugin_v1: $crate::abi::Plugin =
            $crate::abi::descriptor::<$provider>();
    };
}

struct Instance<P> {
    provider: P,
    host: RemoteHost,
}

unsafe extern "C" fn create<P: Provider>(
    host: *const HostTable,
    config: Bytes,
    err: *const Out,
    inst: *mut *mut c_void,
) -> i32 {
    silence_panics();
    fenced(|| {
        // SAFETY: the host passes live pointers for the call, and a table that outlives us.
        let (host, config, err, inst) =
            unsafe { (RemoteHost { table: &*host }, config.get(), &*err, &mut *inst) };
        let config = match serde_json::from_slice(config) {
            Ok(config) => config,
            Err(_) => return fail(err, Fault::config("the configuration is not JSON")),
        };
        match P::open(&config) {
            Ok(provider) => {
                *inst = Box::into_raw(Box::new(Instance { provider, host })).cast();
                OK
            }
            Err(fault) => fail(err, fault),
        }
    })
}

unsafe extern "C" fn destroy<P: Provider>(inst: *mut c_void) {
    fenced(|| {
        // SAFETY: made by `create::<P>`, freed once, with no call in flight.
        drop(unsafe { Box::from_raw(inst.cast::<Instance<P>>()) });
        OK
    });
}

unsafe extern "C" fn call<P: Provider>(
    inst: *mut c_void,
    function: u32,
    parts: *const Bytes,
    n: usize,
    out: *const Out,
) -> i32 {
    fenced(|| {
        // SAFETY: `inst` is `create::<P>`'s; parts and out live for the call.
        let (instance, parts, out) =
            unsafe { (&*inst.cast::<Instance<P>>(), std::slice::from_raw_parts(parts, n), &*out) };
        if function != FN_STEP {
            return fail(out, Fault::UNSUPPORTED);
        }
        // SAFETY: every part is borrowed for the call.
        let part = |i: u32| parts.get(i as usize).map_or(&[][..], |p| unsafe { p.get() });
        match step(instance, part(PART_META), part(PART_STATE), part(PART_BODY)) {
            Ok((meta, state, body)) => [(PART_META, meta), (PART_STATE, state), (PART_BODY, body)]
                .iter()
                .map(|(part, bytes)| out.write(*part, bytes))
                .find(|rc| *rc != OK)
                .unwrap_or(OK),
            Err(fault) => fail(out, fault),
        }
    })
}

type Parts = (Vec<u8>, Vec<u8>, Vec<u8>);

fn step<P: Provider>(
    instance: &Instance<P>,
    meta: &[u8],
    state: &[u8],
    body: &[u8],
) -> Result<Parts, Fault> {
    let envelope: Envelope = serde_json::from_slice(meta)
        .map_err(|_| Fault::input("the envelope is not of this schema"))?;
    let state = match state {
        [] => P::State::default(),
        bytes => serde_json::from_slice(bytes)
            .map_err(|_| Fault::input("the continuation is not one of this plugin's"))?,
    };
    let cx = Cx {
        now_ms: envelope.now_ms,
        made_ms: envelope.made_ms,
        entropy: &envelope.entropy,
        body,
        notify_url: envelope.request.notify_url.as_deref(),
        host: &instance.host,
    };
    let done = dispatch(&instance.provider, &cx, &envelope, state)?;
    let bytes = |r: Result<Vec<u8>, _>| r.map_err(|_| Fault::internal("the step can't be written"));
    let next = bytes(serde_json::to_vec(&done.next))?;
    let state = done.state.map_or(Ok(Vec::new()), |s| bytes(serde_json::to_vec(&s)))?;
    Ok((next, state, done.body))
}

/// Calls the trait's method of an operation; the test kit uses it too.
pub(crate) fn dispatch<P: Provider>(
    p: &P,
    cx: &Cx<'_>,
    envelope: &Envelope,
    s: P::State,
) -> Result<Step<P::State>, Fault> {
    let (r, e) = (&envelope.request, &envelope.event);
    match envelope.op {
        Operation::Authorize => p.authorize(cx, r, s, e),
        Operation::Continue => p.resume(cx, r, s, e),
        Operation::Capture => p.capture(cx, r, s, e),
        Operation::Void => p.void(cx, r, s, e),
        Operation::Refund => p.refund(cx, r, s, e),
        Operation::Inquire => p.inquire(cx, r, s, e),
        Operation::InquireOperation => p.inquire_operation(cx, r, s, e),
        Operation::Close => p.close(cx, r, s, e),
        Operation::ParseNotification => p.parse_notification(cx, s, e),
        Operation::FetchKeys => p.fetch_keys(cx, r, s, e),
        Operation::Probe => p.probe(cx, s, e),
        Operation::DownloadStatement => p.download_statement(cx, r, s, e),
        Operation::ReadStatement => p.read_statement(cx, r, s, e),
        Operation::StartSession => p.start_session(cx, r, s, e),
        Operation::OpenToken => p.open_token(cx, r, s, e),
    }
}

unsafe extern "C" fn no_extension(_: *const c_char) -> *const c_void {
    std::ptr::null()
}

fn fail(out: &Out, fault: Fault) -> i32 {
    out.write(PART_ERROR, fault.text.as_bytes());
    match fault.kind {
        FaultKind::Input => E_INPUT,
        FaultKind::Unsupported => E_UNSUPPORTED,
        FaultKind::Config => E_CONFIG,
        FaultKind::Limit => E_LIMIT,
        FaultKind::Internal => E_INTERNAL,
    }
}

fn fenced(body: impl FnOnce() -> i32) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(rc) => rc,
        Err(payload) => {
            // Dropping a payload may itself panic, so it is leaked: the host quarantines a plugin
            // that panics, which bounds the leak.
            std::mem::forget(payload);
            E_PANIC
        }
    }
}

/// A library has its own copy of the standard library, so this hook is the plugin's alone.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// The host's services, seen from the plugin.
struct RemoteHost {
    table: *const HostTable,
}

// SAFETY: the table is immutable, outlives the plugin and may be used from any thread.
unsafe impl std::marker::Send for RemoteHost {}
// SAFETY: as above.
unsafe impl Sync for RemoteHost {}

impl RemoteHost {
    fn table(&self) -> &HostTable {
        // SAFETY: the host keeps the table alive as long as the plugin.
        unsafe { &*self.table }
    }

    fn extension<T>(&self, id: &CStr) -> Result<&T, HostError> {
        let table = (self.table().get_extension)(self.table().ctx, id.as_ptr());
        // SAFETY: an extension id names its layout, and its table is static at the host.
        unsafe { table.cast::<T>().as_ref() }.ok_or(HostError::Unsupported)
    }
}

impl Host for RemoteHost {
    fn mac(&self, key: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        let table = self.table();
        collect(|out| (table.mac)(table.ctx, Bytes::new(key.as_bytes()), Bytes::new(data), out))
    }

    fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        let ctx = self.table().ctx;
        let extension: &SignExtension = self.extension(SIGN_EXTENSION)?;
        let (key, algorithm) = (Bytes::new(key.as_bytes()), Bytes::new(algorithm.as_bytes()));
        collect(|out| (extension.sign)(ctx, key, algorithm, Bytes::new(data), out))
    }

    fn verify(
        &self,
        key: &str,
        algorithm: &str,
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, HostError> {
        let ctx = self.table().ctx;
        let extension: &VerifyExtension = self.extension(VERIFY_EXTENSION)?;
        let (key, algorithm) = (Bytes::new(key.as_bytes()), Bytes::new(algorithm.as_bytes()));
        let rc = (extension.verify)(ctx, key, algorithm, Bytes::new(data), Bytes::new(signature));
        match rc {
            0 => Ok(false),
            1 => Ok(true),
            rc => Err(host_error(rc)),
        }
    }

    fn unseal(&self, key: &str, sealed: &Sealed<'_>) -> Result<Option<Vec<u8>>, HostError> {
        let ctx = self.table().ctx;
        let extension: &AeadExtension = self.extension(AEAD_EXTENSION)?;
        let bytes = |text: &str| Bytes::new(text.as_bytes());
        let (nonce, associated) = (Bytes::new(sealed.nonce), Bytes::new(sealed.associated));
        let ciphertext = Bytes::new(sealed.ciphertext);
        let (key, algorithm) = (bytes(key), bytes(sealed.algorithm));
        collect_if(|out| {
            (extension.unseal)(ctx, key, algorithm, nonce, associated, ciphertext, out)
        })
    }

    fn public_key(&self, key: &str) -> Result<Vec<u8>, HostError> {
        let ctx = self.table().ctx;
        let extension: &EstablishExtension = self.extension(ESTABLISH_EXTENSION)?;
        collect(|out| (extension.public_key)(ctx, Bytes::new(key.as_bytes()), out))
    }

    fn establish(
        &self,
        key: &str,
        algorithm: &str,
        peer: &[u8],
    ) -> Result<Option<Vec<u8>>, HostError> {
        let ctx = self.table().ctx;
        let extension: &EstablishExtension = self.extension(ESTABLISH_EXTENSION)?;
        let (key, algorithm) = (Bytes::new(key.as_bytes()), Bytes::new(algorithm.as_bytes()));
        collect_if(|out| (extension.establish)(ctx, key, algorithm, Bytes::new(peer), out))
    }
}

/// Of a service that answers 1 with bytes, or 0 with none.
fn collect_if(call: impl FnOnce(*const Out) -> i32) -> Result<Option<Vec<u8>>, HostError> {
    let mut given = false;
    let bytes = collect(|out| match call(out) {
        1 => {
            given = true;
            OK
        }
        rc => rc,
    })?;
    Ok(given.then_some(bytes))
}

fn collect(call: impl FnOnce(*const Out) -> i32) -> Result<Vec<u8>, HostError> {
    extern "C" fn put(ctx: *mut c_void, _part: u32, p: *const u8, n: usize) -> i32 {
        // SAFETY: ctx is the Vec below, p and n are the host's live slice.
        let (into, bytes) =
            unsafe { (&mut *ctx.cast::<Vec<u8>>(), Bytes { ptr: p, len: n }.get()) };
        into.extend_from_slice(bytes);
        OK
    }
    let mut bytes = Vec::new();
    let out = Out { ctx: (&raw mut bytes).cast(), put };
    match call(&raw const out) {
        OK => Ok(bytes),
        rc => Err(host_error(rc)),
    }
}

fn host_error(rc: i32) -> HostError {
    match rc {
        E_CONFIG => HostError::NoSuchKey,
        E_UNSUPPORTED => HostError::Unsupported,
        _ => HostError::Failed,
    }
}
