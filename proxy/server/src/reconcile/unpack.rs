//! A statement's file as pieces of whole lines, unpacked and checked on the way.
//!
//! Nothing is held but one piece. The digest that a provider tells is of the unpacked content.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use interlock_plugin_api::Packing;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use zip::ZipArchive;

/// A piece has at most so many bytes: what a plugin says of it must fit its own bound.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
/// More is no statement of a day, unpacked bytes.
const CONTENT_BYTES_MAX: u64 = 8 << 30;
/// An archive has so many members at most.
const MEMBERS_MAX: usize = 64;

/// A piece: whole lines, and whether it is the last.
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Nothing follows.
    pub last: bool,
}

/// How a file is packed, by its first bytes.
///
/// # Errors
/// It can't be read.
pub fn packing_of(path: &Path) -> Result<Packing, String> {
    let mut head = [0_u8; 4];
    let mut file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let read = file.read(&mut head).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(match &head[..read] {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        b"PK\x03\x04" | b"PK\x05\x06" => Packing::Zip,
        _ => Packing::None,
    })
}

/// Whether a file is whole, and what its digest says.
///
/// # Errors
/// As [`pieces`]; or it is not what the digest says.
pub fn check(path: &Path, packing: Packing, sha1: Option<&str>) -> Result<(), String> {
    let found = cut(path, packing, &mut |_| Ok(()))?;
    match sha1 {
        Some(told) if !told.eq_ignore_ascii_case(&found) => {
            Err("the file is not whole: its digest is another one".into())
        }
        _ => Ok(()),
    }
}

/// Gives the content of a file to `take`, piece by piece, until it is over or `take` has had
/// enough.
///
/// # Errors
/// The file can't be read, is not packed as it should be, or holds a line that is longer than a
/// piece; or what `take` said.
pub fn pieces(
    path: &Path,
    packing: Packing,
    take: &mut dyn FnMut(Piece) -> Result<(), String>,
) -> Result<(), String> {
    cut(path, packing, take).map(|_| ())
}

/// The SHA-1 of the content.
fn cut(
    path: &Path,
    packing: Packing,
    take: &mut dyn FnMut(Piece) -> Result<(), String>,
) -> Result<String, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut cutter = Cutter::new(take);
    match packing {
        Packing::None => cutter.feed(BufReader::new(file))?,
        Packing::Gzip => cutter.feed(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))?,
        Packing::Zip => {
            let archive = ZipArchive::new(BufReader::new(file));
            let mut archive = archive.map_err(|e| format!("the archive can't be read: {e}"))?;
            if archive.len() > MEMBERS_MAX {
                return Err(format!("the archive has more than {MEMBERS_MAX} members"));
            }
            // Names of other encodings are names, too.
            let mut names: Vec<(Vec<u8>, usize)> = Vec::new();
            for at in 0..archive.len() {
                let member = archive.by_index(at).map_err(|e| e.to_string())?;
                if member.is_file() {
                    names.push((member.name_raw().to_vec(), at));
                }
            }
            names.sort();
            for (_, at) in names {
                let member = archive.by_index(at).map_err(|e| e.to_string())?;
                cutter.feed(BufReader::new(member))?;
                cutter.end_line();
            }
        }
    }
    cutter.end()
}

struct Cutter<'a> {
    take: &'a mut dyn FnMut(Piece) -> Result<(), String>,
    /// Lines that are not given yet.
    held: Vec<u8>,
    /// Where in `held` the last whole line ends.
    whole: usize,
    read: u64,
    digest: Context,
}

impl<'a> Cutter<'a> {
    fn new(take: &'a mut dyn FnMut(Piece) -> Result<(), String>) -> Self {
        let digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        Self { take, held: Vec::new(), whole: 0, read: 0, digest }
    }

    fn feed(&mut self, mut from: impl BufRead) -> Result<(), String> {
        loop {
            let part = from.fill_buf().map_err(|e| format!("the file can't be unpacked: {e}"))?;
            if part.is_empty() {
                return Ok(());
            }
            // Never more than half a piece at once, so that a held rest always finds room.
            let part = &part[..part.len().min(PIECE_BYTES_MAX / 2)];
            let length = part.len();
            self.digest.update(part);
            self.read += length as u64;
            if self.read > CONTENT_BYTES_MAX {
                return Err("the file is larger than any statement of a day".into());
            }
            if self.held.len() + length > PIECE_BYTES_MAX {
                self.give()?;
            }
            if self.held.len() + length > PIECE_BYTES_MAX {
                return Err(format!("a line is longer than {} bytes", PIECE_BYTES_MAX / 2));
            }
            if let Some(end) = part.iter().rposition(|byte| *byte == b'\n') {
                self.whole = self.held.len() + end + 1;
            }
            self.held.extend_from_slice(part);
            from.consume(length);
        }
    }

    /// A member of an archive may end without the end of its line.
    fn end_line(&mut self) {
        if self.whole < self.held.len() {
            self.held.push(b'\n');
        }
        self.whole = self.held.len();
    }

    /// Gives the whole lines, and keeps the rest.
    fn give(&mut self) -> Result<(), String> {
        if self.whole == 0 {
            return Ok(());
        }
        let rest = self.held.split_off(self.whole);
        let bytes = std::mem::replace(&mut self.held, rest);
        self.whole = 0;
        (self.take)(Piece { bytes, last: false })
    }

    fn end(self) -> Result<String, String> {
        (self.take)(Piece { bytes: self.held, last: true })?;
        Ok(hex::encode(self.digest.finish()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn content(lines: usize) -> Vec<u8> {
        (0..lines).flat_map(|n| format!("`line {n},`{}\r\n", n * n).into_bytes()).collect()
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// The pieces of a file, put together again, and how many there were.
    fn read(bytes: &[u8], sha1: Option<&str>) -> Result<(Vec<u8>, usize), String> {
        let file = file(bytes);
        let (mut all, mut count, mut ended) = (Vec::new(), 0, false);
        let packing = packing_of(file.path())?;
        check(file.path(), packing, sha1)?;
        pieces(file.path(), packing, &mut |piece| {
            assert!(piece.bytes.len() <= PIECE_BYTES_MAX && !ended);
            assert!(piece.last || piece.bytes.ends_with(b"\n"), "whole lines");
            all.extend(piece.bytes);
            (count, ended) = (count + 1, piece.last);
            Ok(())
        })?;
        assert!(ended);
        Ok((all, count))
    }

    fn sha1(bytes: &[u8]) -> String {
        hex::encode(ring::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes))
    }

    #[test]
    fn a_file_comes_back_in_pieces_however_it_is_packed() {
        let plain = content(40_000);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&plain).unwrap();
        let digest = sha1(&plain);
        for packed in [plain.clone(), gzip.finish().unwrap()] {
            let (all, count) = read(&packed, Some(&digest)).unwrap();
            assert!(all == plain && count > 5, "{count} pieces");
        }
        assert_eq!(read(b"", None).unwrap(), (Vec::new(), 1), "nothing is a last piece");
        assert_eq!(read(b"no end", None).unwrap(), (b"no end".to_vec(), 1));
    }

    #[test]
    fn members_of_an_archive_follow_each_other_by_name() {
        let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in [("b.csv", "three\n"), ("a.csv", "one\ntwo"), ("folder/", "")] {
            if name.ends_with('/') {
                archive.add_directory(name, SimpleFileOptions::default()).unwrap();
                continue;
            }
            archive.start_file(name, SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        let packed = archive.finish().unwrap().into_inner();
        assert_eq!(read(&packed, None).unwrap().0, b"one\ntwo\nthree\n");
    }

    #[test]
    fn what_is_not_whole_is_found() {
        let plain = content(10);
        assert!(read(&plain, Some(&sha1(b"other"))).unwrap_err().contains("not whole"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&content(10_000)).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(read(&packed[..packed.len() / 2], None).unwrap_err().contains("unpacked"));
        assert!(read(b"PK\x03\x04 no archive", None).unwrap_err().contains("archive"));
        let endless = vec![b'x'; 3 * PIECE_BYTES_MAX];
        assert!(read(&endless, None).unwrap_err().contains("a line is longer"));
    }
}
