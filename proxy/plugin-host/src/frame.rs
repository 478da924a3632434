//! What passes between the proxy and a plugin's own process: frames over one socket.
//!
//! A frame is a kind, a code and a few byte strings, each with its length before it. The proxy asks
//! (`Open`, `Step`), the plugin's process answers (`Result`), and in between may ask the proxy for
//! what only the proxy can do (`Service`, answered by `Reply`). One question is under way at once.

use std::io::{self, BufReader, Read, Write};

/// More parts, or a longer one, are no frame.
const PARTS_MAX: usize = 5;
/// Most frames are read in one piece.
const PIECE_BYTES: usize = 8 * 1024;
const PART_BYTES_MAX: usize = 2 * 1024 * 1024 + 64 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Open the plugin with these settings.
    Open = 1,
    /// Run a step of these parts.
    Step = 2,
    /// What the plugin answered: its code, its output by part, and which part was too long.
    Result = 3,
    /// Use a key, or write a line: the code says which.
    Service = 4,
    /// What came of it.
    Reply = 5,
}

/// The services, as a `Service` frame's code.
pub(super) const MAC: i32 = 1;
pub(super) const SIGN: i32 = 2;
pub(super) const VERIFY: i32 = 3;
pub(super) const LOG: i32 = 4;
pub(super) const UNSEAL: i32 = 5;
pub(super) const PUBLIC_KEY: i32 = 6;
pub(super) const ESTABLISH: i32 = 7;

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub kind: Kind,
    pub code: i32,
    pub parts: Vec<Vec<u8>>,
}

impl Frame {
    /// A part; empty when the frame has fewer.
    pub(super) fn part(&self, n: usize) -> &[u8] {
        self.parts.get(n).map_or(&[], Vec::as_slice)
    }
}

/// Writes a frame in one piece.
pub(super) fn write(
    out: &mut impl Write,
    kind: Kind,
    code: i32,
    parts: &[&[u8]],
) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len() + 4).sum();
    let mut bytes = Vec::with_capacity(6 + total);
    bytes.push(kind as u8);
    bytes.extend_from_slice(&code.to_le_bytes());
    bytes.push(u8::try_from(parts.len()).map_err(io::Error::other)?);
    for part in parts {
        let len = u32::try_from(part.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    out.write_all(&bytes)
}

/// Reads a frame, in as few calls as its size allows. Nothing follows it: one question is under way
/// at once.
///
/// # Errors
/// The socket's own; `InvalidData` for what is no frame.
pub(super) fn read(from: &mut impl Read) -> io::Result<Frame> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut from = BufReader::with_capacity(PIECE_BYTES, from);
    let mut head = [0; 6];
    from.read_exact(&mut head)?;
    let kind = match head[0] {
        1 => Kind::Open,
        2 => Kind::Step,
        3 => Kind::Result,
        4 => Kind::Service,
        5 => Kind::Reply,
        _ => return Err(bad("no such kind of frame")),
    };
    let code = i32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let count = usize::from(head[5]);
    if count > PARTS_MAX {
        return Err(bad("too many parts in a frame"));
    }
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let mut len = [0; 4];
        from.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > PART_BYTES_MAX {
            return Err(bad("too long a part in a frame"));
        }
        let mut part = vec![0; len];
        from.read_exact(&mut part)?;
        parts.push(part);
    }
    Ok(Frame { kind, code, parts })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Result, -3, &[b"one", b"", b"three"]).unwrap();
        let frame = read(&mut bytes.as_slice()).unwrap();
        assert_eq!((frame.kind, frame.code), (Kind::Result, -3));
        assert_eq!(
            (frame.part(0), frame.part(1), frame.part(2)),
            (&b"one"[..], &b""[..], &b"three"[..])
        );
        assert_eq!(frame.part(9), b"");
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_takes_memory() {
        for bytes in
            [&[9, 0, 0, 0, 0, 0][..], &[3, 0, 0, 0, 0, 6], &[3, 0, 0, 0, 0, 1, 255, 255, 255, 255]]
        {
            let kind = read(&mut &bytes[..]).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let cut = read(&mut &[3, 0, 0][..]).unwrap_err().kind();
        assert_eq!(cut, io::ErrorKind::UnexpectedEof);
    }
}
