//! Reads a chunked body, strictly, before any other parser sees it.
//!
//! Pingora takes an empty size for the last chunk, and a line that ends with a bare line feed; two
//! servers that disagree about either serve two different requests. So chunks end here: a size is
//! hexadecimal digits and nothing else, every line ends with CR LF, extensions and trailers are
//! refused, and what goes on has one `Content-Length`.

use bytes::{Buf, BytesMut};

use super::Problem;

/// More digits than any body that is accepted.
const SIZE_DIGITS: usize = 8;

/// A body on its way.
pub(super) struct Chunks {
    body: BytesMut,
    limit: usize,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Before a size.
    Size,
    /// Inside a chunk, with so many bytes to come.
    Data(usize),
    /// Before the line end that ends a chunk.
    After,
    /// Before the line end that ends the body.
    Last,
    Whole,
}

impl Chunks {
    /// A body of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Chunks {
        Chunks { body: BytesMut::new(), limit, state: State::Size }
    }

    /// Takes from `read` what belongs to the body; true once it is whole. What is left in `read`
    /// then was sent behind it.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<bool, Problem> {
        loop {
            let next = match self.state {
                State::Whole => return Ok(true),
                State::Size => match size(read)? {
                    Some((0, length)) => Some((State::Last, length)),
                    Some((size, _)) if self.body.len() + size > self.limit => {
                        return Err(Problem::body_too_large());
                    }
                    Some((size, length)) => Some((State::Data(size), length)),
                    None => None,
                },
                State::Data(0) => Some((State::After, 0)),
                State::Data(left) => {
                    let part = read.split_to(left.min(read.len()));
                    self.body.extend_from_slice(&part);
                    (!part.is_empty()).then_some((State::Data(left - part.len()), 0))
                }
                State::After => line_end(read)?.then_some((State::Size, 2)),
                State::Last => line_end(read)?.then_some((State::Whole, 2)),
            };
            let Some((state, length)) = next else { return Ok(false) };
            read.advance(length);
            self.state = state;
        }
    }

    /// The same head with one length in the place of what it said, the body, and what was sent
    /// behind it.
    pub(super) fn rewritten(self, head: &[u8], behind: &[u8]) -> BytesMut {
        let mut whole = BytesMut::with_capacity(head.len() + self.body.len() + behind.len() + 32);
        let lines = head[..head.len() - 4].split(|byte| *byte == b'\n');
        let said = |line: &[u8], name: &[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        for line in lines {
            // Whoever waited to be told has been told.
            if !said(line, b"transfer-encoding:") && !said(line, b"expect:") {
                whole.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                whole.extend_from_slice(b"\r\n");
            }
        }
        whole.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        whole.extend_from_slice(&self.body);
        whole.extend_from_slice(behind);
        whole
    }
}

/// A size and the length of its line; `None` when more must be read.
fn size(read: &[u8]) -> Result<Option<(usize, usize)>, Problem> {
    let digits = read.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > SIZE_DIGITS || (digits == 0 && !read.is_empty()) {
        return Err(malformed());
    }
    if read.len() == digits || !line_end(&read[digits..])? {
        return Ok(None);
    }
    let text = std::str::from_utf8(&read[..digits]).map_err(|_| malformed())?;
    let size = usize::from_str_radix(text, 16).map_err(|_| malformed())?;
    Ok(Some((size, digits + 2)))
}

/// Whether it begins with CR LF; false when more must be read.
fn line_end(read: &[u8]) -> Result<bool, Problem> {
    match read {
        [b'\r', b'\n', ..] => Ok(true),
        [] | [b'\r'] => Ok(false),
        _ => Err(malformed()),
    }
}

fn malformed() -> Problem {
    Problem::malformed("the body is not well chunked")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
                          Expect: 100-continue\r\nX: y\r\n\r\n";

    /// The body, or the status of its refusal, however it is cut.
    fn read(bytes: &[u8], cut: usize) -> Result<Option<(Vec<u8>, Vec<u8>)>, u16> {
        let mut chunks = Chunks::new(100);
        let mut read = BytesMut::new();
        let mut whole = false;
        for part in bytes.chunks(cut.max(1)) {
            read.extend_from_slice(part);
            whole = chunks.take(&mut read).map_err(|problem| problem.status)?;
        }
        Ok(whole.then(|| (chunks.body.to_vec(), read.to_vec())))
    }

    #[test]
    fn a_body_is_put_together_however_it_is_cut() {
        let bytes = b"5\r\nhello\r\n00a\r\n0123456789\r\n0\r\n\r\nGET /";
        for cut in 1..bytes.len() {
            let (body, behind) = read(bytes, cut).unwrap().unwrap();
            assert_eq!((&body[..], &behind[..]), (&b"hello0123456789"[..], &b"GET /"[..]), "{cut}");
        }
        assert_eq!(read(b"5\r\nhello\r\n0\r\n\r", 4), Ok(None));
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused_however_it_is_cut() {
        for text in [
            "\r\n0\r\n\r\n",
            "5;a=b\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            "5\r\nhello\r\n0\n\n",
            "000000005\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ] {
            for cut in 1..=text.len() {
                assert_eq!(read(text.as_bytes(), cut), Err(400), "{text:?} by {cut}");
            }
        }
        assert_eq!(read(b"65\r\n", 9), Err(413));
        assert_eq!(read(format!("40\r\n{}\r\n40\r\n", "x".repeat(64)).as_bytes(), 7), Err(413));
    }

    #[test]
    fn the_head_goes_on_with_one_length() {
        let mut chunks = Chunks::new(100);
        let mut read = BytesMut::from(&b"2\r\n{}\r\n0\r\n\r\nNEXT"[..]);
        assert!(chunks.take(&mut read).unwrap());
        let whole = chunks.rewritten(HEAD, &read);
        let expected = "POST / HTTP/1.1\r\nHost: x\r\nX: y\r\nContent-Length: 2\r\n\r\n{}NEXT";
        assert_eq!(std::str::from_utf8(&whole).unwrap(), expected);
    }

    #[test]
    fn damaged_bodies_are_whole_waited_for_or_refused() {
        let mut whole = 0;
        crate::mutator::each(&["tests/corpora/chunks"], 2_000, |bytes| {
            let at_once = read(bytes, bytes.len());
            assert_eq!(at_once, read(bytes, 1), "the cut decides nothing");
            whole += usize::from(at_once.is_ok_and(|body| body.is_some()));
        });
        assert!(whole > 3);
    }
}
