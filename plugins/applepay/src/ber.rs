//! Rewrites BER (X.690) as DER: lengths that are left open, or written longer than they need be.
//!
//! Apple's signatures leave the lengths of their outer elements open, and the library that reads
//! CMS knows DER alone. Nothing is judged here but the form. Strings in pieces are refused: nobody
//! writes them in a detached signature, and joining them would only be more to get wrong.

/// How deep elements may lie in each other; a certificate in a signature has about twelve.
const DEPTH_LIMIT: usize = 24;
/// How many elements there may be; a signature with two certificates has about two hundred. Sets
/// are sorted by comparing, which takes the square of it.
const ELEMENTS_LIMIT: usize = 1_500;
const BYTES_LIMIT: usize = 64 * 1024;

const CONSTRUCTED: u8 = 0x20;
const OPEN: u8 = 0x80;

/// The one element that `input` is, in DER; nothing when it is something else.
pub(crate) fn to_der(input: &[u8]) -> Option<Vec<u8>> {
    if input.len() > BYTES_LIMIT {
        return None;
    }
    let mut reader = Reader { rest: input, elements: 0 };
    let der = reader.element(0)?;
    reader.rest.is_empty().then_some(der)
}

struct Reader<'a> {
    rest: &'a [u8],
    elements: usize,
}

impl<'a> Reader<'a> {
    fn element(&mut self, depth: usize) -> Option<Vec<u8>> {
        self.elements += 1;
        if depth > DEPTH_LIMIT || self.elements > ELEMENTS_LIMIT {
            return None;
        }
        let tag = self.byte()?;
        // Tags of several bytes, and the end of nothing.
        if tag & 0x1f == 0x1f || tag == 0 {
            return None;
        }
        let length = self.length()?;
        let content = match (tag & CONSTRUCTED != 0, length) {
            (false, None) => return None,
            (false, Some(length)) => self.take(length)?.to_vec(),
            (true, None) => self.until_end(depth)?,
            (true, Some(length)) => {
                let mut inner = Reader { rest: self.take(length)?, elements: self.elements };
                let mut content = Vec::with_capacity(length);
                while !inner.rest.is_empty() {
                    content.extend(inner.element(depth + 1)?);
                }
                self.elements = inner.elements;
                content
            }
        };
        if is_string(tag) && tag & CONSTRUCTED != 0 {
            return None;
        }
        Some(written(tag, content))
    }

    /// Elements until two zeros stand in the place of one.
    fn until_end(&mut self, depth: usize) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            if let [0, 0, rest @ ..] = self.rest {
                self.rest = rest;
                return Some(content);
            }
            content.extend(self.element(depth + 1)?);
        }
    }

    /// `Some(None)` is an open one.
    fn length(&mut self) -> Option<Option<usize>> {
        match self.byte()? {
            OPEN => Some(None),
            short @ 0..OPEN => Some(Some(usize::from(short))),
            long => {
                let bytes = self.take(usize::from(long & 0x7f))?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                let (_, digits) = bytes.split_at(zeros);
                let fits = digits.len() <= 3;
                let value = || digits.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                fits.then(|| Some(value()))
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

/// Universal types that DER never builds of pieces: all but sequences and sets.
fn is_string(tag: u8) -> bool {
    tag & 0xc0 == 0 && !matches!(tag & 0x1f, 0x10 | 0x11)
}

fn written(tag: u8, content: Vec<u8>) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let digits = &length[zeros..];
    let mut der = Vec::with_capacity(content.len() + 2 + digits.len());
    der.push(tag);
    if content.len() < usize::from(OPEN) {
        der.push(content.len() as u8);
    } else {
        der.push(OPEN | digits.len() as u8);
        der.extend(digits);
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_stays_as_it_is() {
        let long = [&[0x04, 0x81, 0xc8][..], &[7; 200]].concat();
        let whole = [&[0x30, 0x81, 0xcd][..], &[0x05, 0], &long].concat();
        for der in [&[0x05, 0][..], &[0x30, 3, 2, 1, 9], &long, &whole] {
            assert_eq!(to_der(der).as_deref(), Some(der));
        }
    }

    #[test]
    fn open_and_long_lengths_are_closed_and_shortened() {
        let open = [0x30, 0x80, 0xa0, 0x80, 0x02, 0x01, 0x05, 0, 0, 0, 0];
        assert_eq!(to_der(&open), Some(vec![0x30, 5, 0xa0, 3, 0x02, 0x01, 0x05]));
        assert_eq!(to_der(&[0x30, 0x83, 0, 0, 2, 5, 0]), Some(vec![0x30, 2, 5, 0]));
    }

    #[test]
    fn what_is_cut_or_goes_on_is_refused() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x80, 0x05, 0, 0],
            &[0x30, 0x05, 0x05, 0],
            &[0x05, 0, 0x05, 0],
            // A primitive element of an open length, the end of nothing, a long tag.
            &[0x04, 0x80, 0, 0],
            &[0, 0],
            &[0x1f, 0x81, 0, 0],
            // A length of nine bytes, and one of more than there is.
            &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            // A string in pieces.
            &[0x24, 0x80, 0x04, 1, 7, 0, 0],
        ] {
            assert_eq!(to_der(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn depth_number_and_size_have_limits() {
        let nested = |n: usize| [[0x30, 0x80].repeat(n), [0, 0].repeat(n)].concat();
        assert!(to_der(&nested(DEPTH_LIMIT + 1)).is_some());
        assert!(to_der(&nested(DEPTH_LIMIT + 2)).is_none());
        let many = |n: usize| [vec![0x30, 0x80], [5, 0].repeat(n), vec![0, 0]].concat();
        assert!(to_der(&many(ELEMENTS_LIMIT - 1)).is_some());
        assert!(to_der(&many(ELEMENTS_LIMIT)).is_none());
        let large =
            |n: usize| [vec![0x04, 0x83, (n >> 16) as u8, (n >> 8) as u8, n as u8], vec![7; n]];
        assert!(to_der(&large(BYTES_LIMIT - 5).concat()).is_some());
        assert!(to_der(&large(BYTES_LIMIT - 4).concat()).is_none());
    }
}
