//! Writes ASN.1 in DER (X.690), and in the open-ended BER that Apple's signatures have.
//!
//! It is written by hand and on purpose: what reads tokens uses a library, and a mistake of that
//! library would otherwise be made here as well.

/// One element.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..0x80 => out.push(n as u8),
        n @ 0x80..0x100 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

/// One element without a length: it ends where two zeros stand.
pub(crate) fn open_ended(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], content, &[0, 0]].concat()
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// A set; DER sorts what is in it.
pub(crate) fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    element(0x31, &parts.concat())
}

/// `[n]`, with whole elements in it.
pub(crate) fn context(n: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | n, content)
}

/// A positive integer from its bytes, most significant first.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros.min(bytes.len() - 1)..];
    let sign: &[u8] = if bytes[0] & 0x80 == 0 { &[] } else { &[0] };
    element(0x02, &[sign, bytes].concat())
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    element(0x04, bytes)
}

/// Whole bytes of bits, of which the last `unused` do not count.
pub(crate) fn bits(unused: u8, bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[unused], bytes].concat())
}

pub(crate) fn null() -> Vec<u8> {
    element(0x05, &[])
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    element(0x01, &[if value { 0xff } else { 0 }])
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    element(0x0c, value.as_bytes())
}

/// An object identifier from its dotted form.
pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().expect("a number")).collect();
    let mut content = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    element(0x06, &content)
}

/// A moment, in Unix ms, of the years that `UTCTime` has.
pub(crate) fn utc_time(ms: i64) -> Vec<u8> {
    let moment = jiff::Timestamp::from_millisecond(ms).expect("a moment of this age");
    element(0x17, moment.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_written_as_the_standard_says() {
        assert_eq!(integer(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0]), [2, 1, 0]);
        assert_eq!(oid("1.2.840.113549.1.7.2"), [6, 9, 42, 134, 72, 134, 247, 13, 1, 7, 2]);
        assert_eq!(octets(&[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(octets(&[7; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(utc_time(1_764_000_000_000), element(0x17, b"251124160000Z"));
        assert_eq!(open_ended(0x30, &null()), [0x30, 0x80, 5, 0, 0, 0]);
    }
}
