//! Programs of a few machine instructions, built here: hostile native code needs no compiler, and
//! runs wherever a sandbox executes anything. x86_64 only, as the images.

use std::collections::{BTreeMap, BTreeSet};

/// Where the one segment is loaded.
const BASE: u32 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: u32 = 64 + 56;
/// Numbers a kernel may know; the newest has fewer.
const NUMBERS: u32 = 520;
/// Bit of a call through the x32 entry.
pub(crate) const X32: u64 = 0x4000_0000;

/// Names of the calls, from the kernel's `asm/unistd_64.h`.
const NAMES: &str = include_str!("elf/syscalls.txt");

/// Never swept: they would end, stop or double the sweep itself (`rt_sigreturn`, `pause`, `vfork`,
/// `exit`, `exit_group`), whatever a filter says. `uretprobe` and `uprobe` pass every filter, by the
/// kernel's own exception, and end with SIGILL whoever has no probe.
const UNSWEPT: [u64; 7] = [15, 34, 58, 60, 231, 335, 336];
/// Nor these outside of a sandbox, where the machine would feel or keep it: `fork`, `kill`,
/// `msgget`, `vhangup`, `sync`.
const UNSWEPT_OUTSIDE: [u64; 5] = [57, 62, 68, 153, 162];

/// What to call: every number, by the native entry and by x32's.
pub(crate) fn every_call(inside: bool) -> Vec<u64> {
    let native = (0..u64::from(NUMBERS))
        .filter(|number| !UNSWEPT.contains(number))
        .filter(|number| inside || !UNSWEPT_OUTSIDE.contains(number));
    native
        .clone()
        .chain(native.map(|number| number | X32))
        .collect()
}

/// A program that makes each call with every argument -1, and writes the results, eight bytes each,
/// to its stdout.
pub(crate) fn sweep(calls: &[u64]) -> Vec<u8> {
    let table = |at: u32| {
        let mut code = vec![0xbb]; // mov ebx, table
        code.extend(at.to_le_bytes());
        code.extend([0x41, 0xbc]); // mov r12d, count
        code.extend(u32::try_from(calls.len()).expect("few calls").to_le_bytes());
        let again = code.len();
        code.extend([0x48, 0x8b, 0x03]); // mov rax, [rbx]
        code.extend([0x48, 0xc7, 0xc7, 0xff, 0xff, 0xff, 0xff]); // mov rdi, -1
        code.extend([0x48, 0xc7, 0xc6, 0xff, 0xff, 0xff, 0xff]); // mov rsi, -1
        code.extend([0x48, 0xc7, 0xc2, 0xff, 0xff, 0xff, 0xff]); // mov rdx, -1
        code.extend([0x49, 0xc7, 0xc2, 0xff, 0xff, 0xff, 0xff]); // mov r10, -1
        code.extend([0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff]); // mov r8, -1
        code.extend([0x49, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff]); // mov r9, -1
        code.extend([0x0f, 0x05]); // syscall
        code.extend([0x48, 0x89, 0x03]); // mov [rbx], rax
        code.extend([0x48, 0x83, 0xc3, 0x08]); // add rbx, 8
        code.extend([0x41, 0xff, 0xcc]); // dec r12d
        let back = again.cast_signed() - (code.len() + 2).cast_signed();
        code.extend([
            0x75,
            i8::try_from(back).expect("a short loop").to_le_bytes()[0],
        ]); // jnz
        code.extend([0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0xbe]); // write(1, table,
        code.extend(at.to_le_bytes());
        code.push(0xba); // size)
        code.extend(
            u32::try_from(calls.len() * 8)
                .expect("few calls")
                .to_le_bytes(),
        );
        code.extend([0x0f, 0x05]);
        code.extend(EXIT);
        code
    };
    let length = u32::try_from(table(0).len()).expect("a short program");
    let mut program = table(BASE + HEADERS + length);
    program.extend(calls.iter().flat_map(|number| number.to_le_bytes()));
    elf(&program)
}

/// A program that asks for its pid through the 32-bit entry, and exits with 0.
pub(crate) fn foreign_entry() -> Vec<u8> {
    let mut program = vec![0xb8, 20, 0, 0, 0, 0xcd, 0x80]; // mov eax, 20; int 0x80
    program.extend(EXIT);
    elf(&program)
}

/// exit_group(0)
const EXIT: [u8; 9] = [0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];

fn elf(program: &[u8]) -> Vec<u8> {
    let entry = u64::from(BASE + HEADERS);
    let size = u64::from(HEADERS) + program.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86_64, version
    file.extend(entry.to_le_bytes());
    file.extend(64u64.to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes()); // no sections
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]); // loaded, readable, writable, executable
    for value in [0, u64::from(BASE), u64::from(BASE), size, size, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    file.extend_from_slice(program);
    file
}

/// The errno of each call that failed, 0 of one that did not, from what [`sweep`] printed.
///
/// # Panics
/// When it is not one result for each call.
pub(crate) fn results(calls: &[u64], printed: &[u8]) -> BTreeMap<u64, i32> {
    assert_eq!(printed.len(), calls.len() * 8, "one result for each call");
    let errno = |bytes: &[u8]| {
        let value = i64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        if (-4095..0).contains(&value) {
            i32::try_from(-value).expect("a small number")
        } else {
            0
        }
    };
    calls
        .iter()
        .copied()
        .zip(printed.chunks(8).map(errno))
        .collect()
}

/// The numbers of the calls a seccomp profile allows, whatever their arguments.
///
/// # Panics
/// When the profile names a call this kernel's headers do not.
pub(crate) fn allowed(profile: &str) -> BTreeSet<u64> {
    let numbers: BTreeMap<&str, u64> = NAMES
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(number, name)| (name, number.parse().expect("a number")))
        .collect();
    let profile: serde_json::Value = serde_json::from_str(profile).expect("a profile");
    let rules = profile["allow"]["filter"].as_array().expect("a list");
    rules
        .iter()
        .map(|rule| rule["syscall"].as_str().expect("a name"))
        .map(|name| {
            *numbers
                .get(name)
                .unwrap_or_else(|| panic!("no number of {name}"))
        })
        .collect()
}

/// Calls that are on no list and yet were not refused with EPERM: none, if the filter holds.
pub(crate) fn leaks(results: &BTreeMap<u64, i32>, allowed: &BTreeSet<u64>) -> Vec<(u64, i32)> {
    results
        .iter()
        .filter(|(number, errno)| !allowed.contains(number) && **errno != libc::EPERM)
        .map(|(number, errno)| (*number, *errno))
        .collect()
}
