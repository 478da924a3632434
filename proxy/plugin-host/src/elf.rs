//! Reads everything that can be known of a plugin from its file, before any of it runs.
//!
//! `dlopen` trusts what it is given: a truncated library ends the process with SIGBUS. So the file
//! is read once, hashed, and its layout checked here; everything after uses these very bytes. The
//! checks are a second line: only the hash of `plugins.lock` tells good bytes from flipped ones.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use interlock_plugin_api::{Manifest, abi};
use object::NativeEndian;
use object::elf;
use object::read::elf::{
    Dyn as _, FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _, Sym as _,
    SymbolTable,
};

use super::load_error::{LoadError, LoadReason};

/// A plugin has at most this many bytes.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A manifest has at most this many bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;
/// A file is hashed in pieces of this many bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// A plugin maps at most this much memory, zeroed data included.
const MAPPED_BYTES_MAX: u64 = 256 * 1024 * 1024;

type Header = elf::FileHeader64<NativeEndian>;
type Segment = elf::ProgramHeader64<NativeEndian>;
type Symbols<'a> = SymbolTable<'a, Header, &'a [u8]>;
type SectionTable<'a> = object::read::elf::SectionTable<'a, Header, &'a [u8]>;

/// What a plugin's file says of itself.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The file's name, without its folder.
    pub file: String,
    /// The file's size.
    pub bytes: u64,
    /// sha256 of the whole file.
    pub sha256: [u8; 32],
    /// The ABI that the plugin was built for: major, minor.
    pub abi: (u16, u16),
    /// The manifest; `None` when it can't be read without loading the library.
    pub manifest: Option<Manifest>,
    /// What an operator should know, though it is no reason to refuse.
    pub warnings: Vec<String>,
}

/// Reads and checks a plugin's file without running any of it.
///
/// # Errors
/// [`LoadError`] names the file, the field and what is wrong with it.
pub fn inspect(path: &Path) -> Result<Inspection, LoadError> {
    PluginFile::read(path)?.inspect()
}

/// The bytes of a plugin, read once.
pub(super) struct PluginFile {
    pub name: String,
    pub bytes: Vec<u8>,
    pub sha256: [u8; 32],
}

impl PluginFile {
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes = read_whole(path).map_err(|reason| reason.of(&name))?;
        let sha256 = sha256(&bytes);
        Ok(Self { name, bytes, sha256 })
    }

    /// Only the name and the hash, without holding the file in memory: enough to know one that is
    /// loaded already.
    pub(super) fn hashed(path: &Path) -> Result<(String, [u8; 32]), LoadError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let hash = || {
            let (mut file, _) = opened(path)?;
            let mut context = ring::digest::Context::new(&ring::digest::SHA256);
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                match file.read(&mut piece).map_err(|e| LoadReason::Unreadable(e.kind()))? {
                    0 => break,
                    n => context.update(&piece[..n]),
                }
            }
            Ok(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
        };
        hash().map(|sha256| (name.clone(), sha256)).map_err(|reason: LoadReason| reason.of(&name))
    }

    pub(super) fn inspect(&self) -> Result<Inspection, LoadError> {
        self.examine().map_err(|reason| reason.of(&self.name))
    }

    fn examine(&self) -> Result<Inspection, LoadReason> {
        let image = Image::parse(&self.bytes)?;
        let symbols = image.dynamic_symbols()?;
        let entry = image.entry(&symbols)?;
        let descriptor = image
            .at(entry, size_of::<abi::Plugin>())
            .ok_or_else(|| descriptor("interlock_plugin_v1", "it is not in the file"))?;
        let abi = check_descriptor(descriptor)?;
        let manifest = match image.manifest(entry, descriptor, &symbols)? {
            Some(text) => Some(Manifest::parse(text).map_err(LoadReason::Manifest)?),
            None => None,
        };
        let mut warnings = image.warnings(&symbols)?;
        if manifest.is_none() {
            warnings.push("manifest unreadable without loading".into());
        }
        Ok(Inspection {
            file: self.name.clone(),
            bytes: self.bytes.len() as u64,
            sha256: self.sha256,
            abi,
            manifest,
            warnings,
        })
    }
}

/// A file that ends, at most so many bytes from now, and its size.
fn opened(path: &Path) -> Result<(io::Take<File>, u64), LoadReason> {
    let unreadable = |e: io::Error| LoadReason::Unreadable(e.kind());
    // Without O_NONBLOCK, opening a pipe would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(LoadReason::NotAFile);
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(LoadReason::TooLarge { max: FILE_BYTES_MAX });
    }
    Ok((file.take(FILE_BYTES_MAX + 1), meta.len()))
}

fn read_whole(path: &Path) -> Result<Vec<u8>, LoadReason> {
    let (mut file, len) = opened(path)?;
    let mut bytes = Vec::with_capacity(len as usize);
    file.read_to_end(&mut bytes).map_err(|e| LoadReason::Unreadable(e.kind()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(LoadReason::TooLarge { max: FILE_BYTES_MAX });
    }
    Ok(bytes)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Checks the fields of a descriptor that hold no pointer; gives the ABI.
pub(super) fn check_descriptor(bytes: &[u8]) -> Result<(u16, u16), LoadReason> {
    let magic = u64::from_ne_bytes(part(bytes, 0));
    let major = u16::from_ne_bytes(part(bytes, 8));
    let minor = u16::from_ne_bytes(part(bytes, 10));
    let size = u32::from_ne_bytes(part(bytes, 12));
    let flags = u32::from_ne_bytes(part(bytes, 16));
    let least = size_of::<abi::Plugin>();
    if magic != abi::MAGIC {
        return Err(descriptor(
            "magic",
            &format!("host needs {:#x}, found {magic:#x}", abi::MAGIC),
        ));
    }
    if major != abi::ABI_MAJOR {
        return Err(LoadReason::Abi { built_for: major.into() });
    }
    if (size as usize) < least {
        return Err(descriptor("struct_size", &format!("host needs {least}, found {size}")));
    }
    if flags & abi::FLAG_PANIC_UNWIND == 0 {
        let problem = "PANIC_UNWIND is not set, so a panic would end the process";
        return Err(descriptor("flags", problem));
    }
    Ok((major, minor))
}

fn descriptor(field: &'static str, problem: &str) -> LoadReason {
    LoadReason::Descriptor { field, problem: problem.into() }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a descriptor is longer than its fields")
}

/// A library whose headers, segments and sections all lie inside the file.
struct Image<'a> {
    bytes: &'a [u8],
    endian: NativeEndian,
    segments: &'a [Segment],
    sections: SectionTable<'a>,
}

impl<'a> Image<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, LoadReason> {
        let bad = |field| move |e: object::Error| LoadReason::elf(field, e.to_string());
        let header = Header::parse(bytes).map_err(bad("e_ident"))?;
        let endian = header.endian().map_err(bad("e_ident"))?;
        if header.e_type(endian) != elf::ET_DYN {
            return Err(LoadReason::elf("e_type", "it is not a shared library"));
        }
        let (ours, theirs) = (machine()?, header.e_machine(endian));
        if theirs != ours {
            let problem = format!("host runs on {}, the file is for {}", ours.0, theirs.0);
            return Err(LoadReason::elf("e_machine", problem));
        }
        let segments = header.program_headers(endian, bytes).map_err(bad("e_phoff"))?;
        let sections = header.sections(endian, bytes).map_err(bad("e_shoff"))?;
        if sections.is_empty() {
            return Err(LoadReason::elf("e_shoff", "it has no section table"));
        }
        let image = Self { bytes, endian, segments, sections };
        image.check_segments()?;
        image.check_sections()?;
        image.check_dynamic()?;
        Ok(image)
    }

    fn check_segments(&self) -> Result<(), LoadReason> {
        let (mut mapped_to, mut total, mut stack, mut dynamic) = (0_u64, 0_u64, false, 0);
        for segment in self.segments {
            let [offset, address, in_file, in_memory, align] = self.extent(segment);
            let end = offset.checked_add(in_file);
            if end.is_none_or(|end| end > self.bytes.len() as u64) {
                return Err(LoadReason::elf("p_filesz", "a segment ends after the file"));
            }
            let flags = segment.p_flags(self.endian);
            match segment.p_type(self.endian) {
                elf::PT_LOAD => {
                    if flags.contains(elf::PF_W) && flags.contains(elf::PF_X) {
                        return Err(LoadReason::elf("p_flags", "a segment is writable code"));
                    }
                    if in_file > in_memory || address.checked_add(in_memory).is_none() {
                        let problem = "a segment is larger than its memory";
                        return Err(LoadReason::elf("p_memsz", problem));
                    }
                    if address < mapped_to {
                        return Err(LoadReason::elf("p_vaddr", "segments overlap"));
                    }
                    let aligned = align.is_power_of_two() && address % align == offset % align;
                    if !aligned || align > MAPPED_BYTES_MAX {
                        return Err(LoadReason::elf("p_align", "a segment is not aligned"));
                    }
                    mapped_to = address + in_memory;
                    total = mapped_to.max(total);
                }
                elf::PT_GNU_STACK => {
                    if flags.contains(elf::PF_X) {
                        return Err(LoadReason::elf(
                            "PT_GNU_STACK",
                            "it wants an executable stack",
                        ));
                    }
                    stack = true;
                }
                elf::PT_DYNAMIC => dynamic += 1,
                _ => {}
            }
        }
        if total == 0 || total > MAPPED_BYTES_MAX {
            return Err(LoadReason::elf("p_memsz", format!("it maps {total} bytes")));
        }
        if !stack {
            // The linker takes a missing header for an executable stack.
            return Err(LoadReason::elf("PT_GNU_STACK", "it is missing"));
        }
        if dynamic != 1 {
            return Err(LoadReason::elf("PT_DYNAMIC", format!("one is needed, it has {dynamic}")));
        }
        Ok(())
    }

    fn extent(&self, segment: &Segment) -> [u64; 5] {
        let e = self.endian;
        [
            segment.p_offset(e),
            segment.p_vaddr(e),
            segment.p_filesz(e),
            segment.p_memsz(e),
            segment.p_align(e).max(1),
        ]
    }

    fn check_sections(&self) -> Result<(), LoadReason> {
        for section in self.sections.iter() {
            let Some((offset, size)) = section.file_range(self.endian) else { continue };
            if offset.checked_add(size).is_none_or(|end| end > self.bytes.len() as u64) {
                return Err(LoadReason::elf("sh_size", "a section ends after the file"));
            }
        }
        Ok(())
    }

    fn check_dynamic(&self) -> Result<(), LoadReason> {
        for entry in self.dynamic()? {
            let (tag, value) = (entry.d_tag(self.endian), entry.d_val(self.endian));
            let text =
                tag == elf::DT_TEXTREL || (tag == elf::DT_FLAGS && value & elf::DF_TEXTREL.0 != 0);
            if text {
                return Err(LoadReason::elf("DT_TEXTREL", "its code would have to be writable"));
            }
        }
        Ok(())
    }

    fn dynamic(&self) -> Result<&'a [elf::Dyn64<NativeEndian>], LoadReason> {
        let missing = || LoadReason::elf("PT_DYNAMIC", "it is not in the file");
        let found = self.segments.iter().find(|s| s.p_type(self.endian) == elf::PT_DYNAMIC);
        let dynamic = found.ok_or_else(missing)?.dynamic(self.endian, self.bytes);
        dynamic.ok().flatten().ok_or_else(missing)
    }

    fn dynamic_symbols(&self) -> Result<Symbols<'a>, LoadReason> {
        self.sections
            .symbols(self.endian, self.bytes, elf::SHT_DYNSYM)
            .map_err(|e| LoadReason::elf("SHT_DYNSYM", e.to_string()))
    }

    /// The address of the descriptor.
    fn entry(&self, symbols: &Symbols<'a>) -> Result<u64, LoadReason> {
        let mut other = None;
        for symbol in symbols.iter().filter(|s| !s.is_undefined(self.endian)) {
            let name = symbol.name(self.endian, symbols.strings()).unwrap_or_default();
            let Some(version) = name.strip_prefix(ENTRY_STEM) else { continue };
            if name == abi::ENTRY.as_bytes() {
                return Ok(symbol.st_value(self.endian));
            }
            let version = std::str::from_utf8(version).ok().and_then(|v| v.parse::<u32>().ok());
            other = other.max(version);
        }
        Err(other.map_or(LoadReason::NoEntry, |built_for| LoadReason::Abi { built_for }))
    }

    /// The bytes that the file puts at an address.
    fn at(&self, address: u64, len: usize) -> Option<&'a [u8]> {
        let loads = self.segments.iter().filter(|s| s.p_type(self.endian) == elf::PT_LOAD);
        loads.into_iter().find_map(|segment| {
            let [offset, start, in_file, ..] = self.extent(segment);
            let skip = address.checked_sub(start)?;
            let end = skip.checked_add(len as u64)?;
            if end > in_file {
                return None;
            }
            self.bytes.get((offset + skip) as usize..(offset + end) as usize)
        })
    }

    fn manifest(
        &self,
        entry: u64,
        found: &[u8],
        symbols: &Symbols<'a>,
    ) -> Result<Option<&'a [u8]>, LoadReason> {
        let field = entry + std::mem::offset_of!(abi::Plugin, manifest) as u64;
        let len = u64::from_ne_bytes(part(found, 32)) as usize;
        if len == 0 || len > MANIFEST_BYTES_MAX {
            let problem = format!("it has {len} bytes, {MANIFEST_BYTES_MAX} is the most");
            return Err(descriptor("manifest", &problem));
        }
        // A packed (RELR) relocation keeps its value in the place itself.
        let in_place = u64::from_ne_bytes(part(found, 24));
        let address = self.relocated(field, symbols).or((in_place != 0).then_some(in_place));
        Ok(address.and_then(|address| self.at(address, len)))
    }

    /// The address that a relocation will write into `place`, counted from the library's base.
    fn relocated(&self, place: u64, symbols: &Symbols<'a>) -> Option<u64> {
        let e = self.endian;
        let tables = self.sections.iter().filter_map(|s| s.rela(e, self.bytes).ok().flatten());
        let found = tables.flat_map(|(relas, _)| relas).find(|rela| rela.r_offset(e) == place)?;
        let addend = found.r_addend(e);
        match found.r_type(e, false) {
            elf::R_X86_64_RELATIVE | elf::R_AARCH64_RELATIVE => u64::try_from(addend).ok(),
            elf::R_X86_64_64 | elf::R_AARCH64_ABS64 => {
                let index = object::SymbolIndex(found.r_sym(e, false) as usize);
                let symbol = symbols.symbol(index).ok().filter(|s| !s.is_undefined(e))?;
                symbol.st_value(e).checked_add_signed(addend)
            }
            _ => None,
        }
    }

    fn warnings(&self, symbols: &Symbols<'a>) -> Result<Vec<String>, LoadReason> {
        let e = self.endian;
        let mut warnings = Vec::new();
        for entry in self.dynamic()? {
            match entry.d_tag(e) {
                elf::DT_NEEDED => {
                    let at = u32::try_from(entry.d_val(e)).unwrap_or(u32::MAX);
                    let name = symbols.strings().get(at).unwrap_or(b"?");
                    let name = String::from_utf8_lossy(name);
                    if !EXPECTED_LIBRARIES.iter().any(|known| name.starts_with(known)) {
                        warnings.push(format!("needs a library that is not pinned: {name}"));
                    }
                }
                elf::DT_FLAGS if entry.d_val(e) & elf::DF_STATIC_TLS.0 != 0 => {
                    warnings.push("uses static thread-local storage, which can run out".into());
                }
                _ => {}
            }
        }
        if symbols.iter().any(|s| s.st_bind() == elf::STB_GNU_UNIQUE) {
            warnings.push("exports unique symbols, which are shared between generations".into());
        }
        Ok(warnings)
    }
}

const ENTRY_STEM: &[u8] = b"interlock_plugin_v";
const EXPECTED_LIBRARIES: [&str; 7] =
    ["libc.so", "libm.so", "libgcc_s.so", "ld-linux", "libpthread.so", "libdl.so", "librt.so"];

fn machine() -> Result<elf::Machine, LoadReason> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(elf::EM_X86_64),
        "aarch64" => Ok(elf::EM_AARCH64),
        other => Err(LoadReason::elf("e_machine", format!("host can't load plugins on {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_refused_by_name_and_never_run() {
        let mut accepted = 0;
        let cases = crate::mutator::each(&["tests/corpora/elf"], 4_000, |bytes| {
            let file = PluginFile {
                name: "libtiny.so".to_owned(),
                bytes: bytes.to_vec(),
                sha256: sha256(bytes),
            };
            match file.inspect() {
                Ok(_) => accepted += 1,
                Err(why) => assert!(why.to_string().ends_with(": libtiny.so"), "{why}"),
            }
        });
        // The seed is a file for this machine only.
        let readable = cfg!(target_arch = "x86_64");
        assert_eq!(accepted > 0, readable, "{accepted} of {cases}");
    }

    #[test]
    fn damaged_manifests_are_refused_with_their_field() {
        let seeds = crate::mutator::manifests();
        let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
        let mut accepted = 0;
        crate::mutator::each(&seeds, 600, |bytes| match Manifest::parse(bytes) {
            Ok(_) => accepted += 1,
            Err(why) => assert!(!why.field.is_empty() && !why.problem.is_empty(), "{why:?}"),
        });
        assert!(accepted >= seeds.len());
    }
}
