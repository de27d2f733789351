//! What an ELF file says about the files it needs. Read from its program headers, as the loader
//! does; nothing is executed.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use object::read::{ReadCache, ReadRef as _, StringTable};

#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;

/// An ELF file of this machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// The loader a program asks for; absent in libraries.
    pub(super) interpreter: Option<PathBuf>,
    /// Libraries by name, in order.
    pub(super) needed: Vec<String>,
    /// Directories to look in, before the loader's own, for what this file needs.
    pub(super) runpath: Vec<PathBuf>,
    /// The same, and for what those need in turn; without effect beside a runpath.
    pub(super) rpath: Vec<PathBuf>,
}

impl Elf {
    /// `None` for a file that is not ELF, or of another machine.
    ///
    /// # Errors
    /// An ELF file that cannot be read or makes no sense.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let failed = |why: String| format!("cannot read {}: {why}", path.display());
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let data = ReadCache::new(file);
        let magic = data.read_bytes_at(0, 5);
        if magic != Ok(b"\x7fELF\x02") {
            return Ok(None);
        }
        Self::parse(&data, path).map_err(failed)
    }

    fn parse(data: &ReadCache<File>, path: &Path) -> Result<Option<Self>, String> {
        let broken = |error: object::read::Error| error.to_string();
        let header = FileHeader64::<Endianness>::parse(data).map_err(broken)?;
        let endian = header.endian().map_err(broken)?;
        if header.e_machine(endian) != MACHINE {
            return Ok(None);
        }
        let segments = header.program_headers(endian, data).map_err(broken)?;
        let mut found = Self::default();
        let mut dynamic = None;
        for segment in segments {
            if let Some(name) = segment.interpreter(endian, data).map_err(broken)? {
                found.interpreter = Some(PathBuf::from(text(name)));
            }
            dynamic = dynamic.or(segment.dynamic(endian, data).map_err(broken)?);
        }
        let entries = || {
            dynamic
                .unwrap_or_default()
                .iter()
                .take_while(|entry| entry.d_tag(endian) != elf::DT_NULL)
        };
        let value = |tag| {
            let entry = entries().find(|entry| entry.d_tag(endian) == tag);
            entry.map_or(0, |entry| entry.d_val(endian))
        };
        // The table's address is one of memory; the segment that is loaded there has it.
        let address = value(elf::DT_STRTAB);
        let start = segments
            .iter()
            .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
            .find_map(|segment| {
                let within = address.checked_sub(segment.p_vaddr(endian))?;
                (within < segment.p_filesz(endian)).then(|| segment.p_offset(endian) + within)
            })
            .unwrap_or_default();
        let end = start.saturating_add(value(elf::DT_STRSZ));
        let strings = StringTable::new(data, start, end);
        let origin = path.parent().unwrap_or(Path::new("/"));
        for entry in entries() {
            let tag = entry.d_tag(endian);
            if ![elf::DT_NEEDED, elf::DT_RPATH, elf::DT_RUNPATH].contains(&tag) {
                continue;
            }
            let offset = u32::try_from(entry.d_val(endian)).unwrap_or(u32::MAX);
            let Ok(string) = strings.get(offset).map(text) else {
                return Err("a name outside of its string table".to_owned());
            };
            match tag {
                elf::DT_NEEDED => found.needed.push(string),
                elf::DT_RUNPATH => found.runpath = directories(&string, origin),
                _ => found.rpath = directories(&string, origin),
            }
        }
        if !found.runpath.is_empty() {
            found.rpath.clear();
        }
        Ok(Some(found))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A list with colons; `$ORIGIN` is the directory of the file that has it. Relative directories
/// depend on who runs it, and count for nothing.
fn directories(list: &str, origin: &Path) -> Vec<PathBuf> {
    let origin = origin.to_string_lossy();
    list.split(':')
        .map(|directory| {
            let directory = directory.replace("${ORIGIN}", &origin);
            PathBuf::from(directory.replace("$ORIGIN", &origin))
        })
        .filter(|directory| directory.is_absolute())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_libc_and_a_loader() {
        let this = std::env::current_exe().unwrap();
        let elf = Elf::read(&this).unwrap().unwrap();
        assert!(elf.needed.iter().any(|name| name == "libc.so.6"), "{elf:?}");
        let loader = elf.interpreter.unwrap();
        let loader = Elf::read(&loader).unwrap().unwrap();
        assert_eq!(loader, Elf::default(), "the loader needs nothing itself");
    }

    #[test]
    fn what_is_not_elf_is_nothing_and_what_is_broken_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        for text in ["", "#!/bin/sh\n", "\x7fEL"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Elf::read(&file), Ok(None), "{text:?}");
        }
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [5, 63, 64, 100] {
            std::fs::write(&file, &this[..length]).unwrap();
            Elf::read(&file).unwrap_err();
        }
    }

    #[test]
    fn an_origin_is_the_directory_of_the_file() {
        let list = "$ORIGIN/../lib:${ORIGIN}:relative::/opt/lib";
        let expected = ["/usr/x/../lib", "/usr/x", "/opt/lib"].map(PathBuf::from);
        assert_eq!(directories(list, Path::new("/usr/x")), expected);
    }
}
