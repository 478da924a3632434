//! The raw calls over the C ABI, and the bounded place where a plugin puts its output.
//!
//! Inputs are borrowed for the call, outputs are copied as they are put, and no memory is freed by
//! the other side. Whether a call may be made at all is decided in `generation` and `instance`.

use std::ffi::c_void;
use std::ptr;

use interlock_plugin_api::abi::{self, Bytes, HostTable, Out};

/// The most that a plugin may put into each part, bytes; also what it is given.
pub(super) const META_BYTES_MAX: usize = 256 * 1024;
pub(super) const STATE_BYTES_MAX: usize = 64 * 1024;
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;
pub(super) const ERROR_BYTES_MAX: usize = 1024;

/// What a plugin put, by part.
#[derive(Default)]
pub(super) struct Sink {
    pub meta: Vec<u8>,
    pub state: Vec<u8>,
    pub body: Vec<u8>,
    pub error: Vec<u8>,
    /// The first part that went over its cap.
    pub over: Option<&'static str>,
}

impl Sink {
    /// The error text, made safe for a log.
    pub(super) fn error_text(&self) -> String {
        printable(&self.error, ERROR_BYTES_MAX)
    }

    fn put(&mut self, part: u32, bytes: &[u8]) -> i32 {
        let (into, cap, name) = match part {
            abi::PART_META => (&mut self.meta, META_BYTES_MAX, "meta"),
            abi::PART_STATE => (&mut self.state, STATE_BYTES_MAX, "state"),
            abi::PART_BODY => (&mut self.body, BODY_BYTES_MAX, "body"),
            abi::PART_ERROR => (&mut self.error, ERROR_BYTES_MAX, "error"),
            _ => return abi::E_INPUT,
        };
        if bytes.len() > cap - into.len() {
            self.over.get_or_insert(name);
            return abi::E_LIMIT;
        }
        into.extend_from_slice(bytes);
        abi::OK
    }
}

/// A plugin's instance: its own pointer, which the host only hands back.
#[derive(Clone, Copy)]
pub(super) struct Handle(*mut c_void);

// SAFETY: the ABI lets an instance be called from any thread, concurrently; the host never looks
// at what it points to.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// Calls `create`. The table must live until the instance is destroyed.
pub(super) fn create(
    plugin: &'static abi::Plugin,
    table: *const HostTable,
    config: &[u8],
) -> (i32, Handle, Sink) {
    let mut sink = Sink::default();
    let mut instance = ptr::null_mut();
    let out = Out { ctx: (&raw mut sink).cast(), put };
    // SAFETY: every pointer lives for the call; the plugin's function was checked not to be null,
    // and by its flags no panic leaves it.
    let rc =
        unsafe { (plugin.create)(table, Bytes::new(config), &raw const out, &raw mut instance) };
    (rc, Handle(instance), sink)
}

/// Calls `call` for one step.
pub(super) fn step(
    plugin: &'static abi::Plugin,
    instance: Handle,
    parts: [&[u8]; 3],
) -> (i32, Sink) {
    let mut sink = Sink::default();
    let parts = parts.map(Bytes::new);
    let out = Out { ctx: (&raw mut sink).cast(), put };
    // SAFETY: parts and out live for the call, the instance is one of this plugin's that is not
    // destroyed (its owner is borrowed by the caller), and no panic leaves the function.
    let rc = unsafe {
        (plugin.call)(instance.0, abi::FN_STEP, parts.as_ptr(), parts.len(), &raw const out)
    };
    (rc, sink)
}

/// Calls `destroy`.
///
/// # Safety
/// Once for an instance, with no call of it in flight.
pub(super) unsafe fn destroy(plugin: &'static abi::Plugin, instance: Handle) {
    // SAFETY: the caller vouches for it.
    unsafe { (plugin.destroy)(instance.0) };
}

/// Bytes from a plugin as one line: no control characters, and not longer than a cap.
pub(super) fn printable(bytes: &[u8], max: usize) -> String {
    let cut = &bytes[..bytes.len().min(max)];
    let text = String::from_utf8_lossy(cut);
    let clean = text.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER);
    clean.collect()
}

extern "C" fn put(ctx: *mut c_void, part: u32, p: *const u8, n: usize) -> i32 {
    if ctx.is_null() || (p.is_null() && n != 0) {
        return abi::E_INPUT;
    }
    if n > BODY_BYTES_MAX {
        // SAFETY: `ctx` is the sink of the call that the plugin is in.
        unsafe { &mut *ctx.cast::<Sink>() }.over.get_or_insert("part");
        return abi::E_LIMIT;
    }
    // SAFETY: `ctx` as above; the plugin's bytes live for this call, and `n` is bounded.
    let (sink, bytes) = unsafe { (&mut *ctx.cast::<Sink>(), Bytes { ptr: p, len: n }.get()) };
    sink.put(part, bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_what_fits_and_nothing_more() {
        let mut sink = Sink::default();
        assert_eq!(sink.put(abi::PART_STATE, &vec![0; STATE_BYTES_MAX]), abi::OK);
        assert_eq!(sink.over, None);
        assert_eq!(sink.put(abi::PART_STATE, b"x"), abi::E_LIMIT);
        assert_eq!(sink.over, Some("state"));
        assert_eq!(sink.state.len(), STATE_BYTES_MAX);
        assert_eq!(sink.put(9, b"x"), abi::E_INPUT);
    }

    #[test]
    fn a_put_of_nothing_may_have_no_pointer_and_a_huge_one_is_refused() {
        let mut sink = Sink::default();
        let ctx: *mut c_void = (&raw mut sink).cast();
        assert_eq!(put(ctx, abi::PART_META, ptr::null(), 0), abi::OK);
        assert_eq!(put(ctx, abi::PART_META, ptr::null(), 1), abi::E_INPUT);
        assert_eq!(put(ctx, abi::PART_META, b"x".as_ptr(), usize::MAX), abi::E_LIMIT);
        assert!(sink.over.is_some());
    }

    #[test]
    fn a_plugins_text_is_one_short_line() {
        assert_eq!(printable("a\r\nb\u{1b}[1mé".as_bytes(), 100), "ab[1mé");
        assert_eq!(printable("éé".as_bytes(), 3), "é");
    }
}
