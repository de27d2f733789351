//! What code may use: limits that are asked for, held against what the daemon allows.

use std::fmt::Display;

use crate::limits::Bytes;

use super::BadRequest;

/// Limits on one runner sandbox, thus on all that one execution, or one context, runs at once. In
/// a request, zero asks for what is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutionLimits {
    /// Memory of all its processes together.
    pub memory: Bytes,
    /// Processes and threads.
    pub processes: u32,
    /// Hundredths of a core.
    pub cpu_percent: u32,
    /// Open files of one process.
    pub open_files: u64,
    /// Size of a file it writes.
    pub file_size: Bytes,
}

/// Limits on all sandboxes of a session together. In a request, zero asks for what is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Memory, the scratch included.
    pub memory: Bytes,
    /// Processes and threads.
    pub processes: u32,
    /// Hundredths of a core.
    pub cpu_percent: u32,
    /// Bytes in its scratch.
    pub scratch: Bytes,
    /// Files and directories in its scratch.
    pub scratch_inodes: u64,
}

/// With less, neither the node nor the python runner starts (64 MiB are too little for both). Under
/// RLIMIT_DATA instead of a cgroup they need more.
const MIN_MEMORY: Bytes = Bytes::mib(96);
/// With less, no runner starts: node has eleven threads.
const MIN_PROCESSES: u32 = 32;
/// With less, starting a browser or a runner takes longer than its timeout.
const MIN_CPU_PERCENT: u32 = 10;
/// With less, no runner starts: python keeps its own descriptors above what code is likely to use.
const MIN_OPEN_FILES: u64 = 256;
/// One page.
const MIN_FILE_SIZE: Bytes = Bytes::kib(256);

/// With less, Chromium and one runner do not start: 128 MiB are too little.
const MIN_SESSION_MEMORY: Bytes = Bytes::mib(256);
/// With less, Chromium hangs: 64 are too few.
const MIN_SESSION_PROCESSES: u32 = 128;
/// What Pagebox itself puts there fits.
const MIN_SCRATCH: Bytes = Bytes::mib(1);
const MIN_SCRATCH_INODES: u64 = 64;

impl ExecutionLimits {
    /// What is asked for, with `most` where nothing is. `prefix` is the path of the message.
    ///
    /// # Errors
    /// The first field that is more than `most`, or less than a runner needs.
    pub fn within(self, most: Self, prefix: &str) -> Result<Self, BadRequest> {
        let field = |name| format!("{prefix}{name}");
        Ok(Self {
            memory: within(field("memory_bytes"), self.memory, MIN_MEMORY, most.memory)?,
            processes: within(
                field("processes"),
                self.processes,
                MIN_PROCESSES,
                most.processes,
            )?,
            cpu_percent: within(
                field("cpu_percent"),
                self.cpu_percent,
                MIN_CPU_PERCENT,
                most.cpu_percent,
            )?,
            open_files: within(
                field("open_files"),
                self.open_files,
                MIN_OPEN_FILES,
                most.open_files,
            )?,
            file_size: within(
                field("file_size_bytes"),
                self.file_size,
                MIN_FILE_SIZE,
                most.file_size,
            )?,
        })
    }
}

impl SessionLimits {
    /// What is asked for, with `most` where nothing is. `prefix` is the path of the message.
    ///
    /// # Errors
    /// The first field that is more than `most`, or less than a session needs.
    pub fn within(self, most: Self, prefix: &str) -> Result<Self, BadRequest> {
        let field = |name| format!("{prefix}{name}");
        Ok(Self {
            memory: within(
                field("memory_bytes"),
                self.memory,
                MIN_SESSION_MEMORY,
                most.memory,
            )?,
            processes: within(
                field("processes"),
                self.processes,
                MIN_SESSION_PROCESSES,
                most.processes,
            )?,
            cpu_percent: within(
                field("cpu_percent"),
                self.cpu_percent,
                MIN_CPU_PERCENT,
                most.cpu_percent,
            )?,
            scratch: within(
                field("scratch_bytes"),
                self.scratch,
                MIN_SCRATCH,
                most.scratch,
            )?,
            scratch_inodes: within(
                field("scratch_inodes"),
                self.scratch_inodes,
                MIN_SCRATCH_INODES,
                most.scratch_inodes,
            )?,
        })
    }
}

fn within<T>(field: String, asked: T, least: T, most: T) -> Result<T, BadRequest>
where
    T: Default + Display + PartialOrd + Copy,
{
    if asked == T::default() {
        return Ok(most);
    }
    if asked > most {
        let message = format!("is {asked}, more than the {most} allowed here");
        return Err(BadRequest::new(field, message));
    }
    if asked < least {
        let message = format!("is {asked}, too little to start anything: at least {least}");
        return Err(BadRequest::new(field, message));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: ExecutionLimits = ExecutionLimits {
        memory: Bytes::gib(1),
        processes: 256,
        cpu_percent: 200,
        open_files: 1024,
        file_size: Bytes::mib(512),
    };
    const SESSION: SessionLimits = SessionLimits {
        memory: Bytes::gib(3),
        processes: 2048,
        cpu_percent: 200,
        scratch: Bytes::mib(512),
        scratch_inodes: 65_536,
    };

    #[test]
    fn nothing_asked_is_all_that_is_allowed() {
        assert_eq!(ExecutionLimits::default().within(MOST, ""), Ok(MOST));
        assert_eq!(MOST.within(MOST, ""), Ok(MOST));
        assert_eq!(SessionLimits::default().within(SESSION, ""), Ok(SESSION));
        assert_eq!(SESSION.within(SESSION, ""), Ok(SESSION));
    }

    #[test]
    fn too_much_and_too_little_are_refused_by_name_with_the_bound() {
        type Change = fn(&mut ExecutionLimits);
        let cases: [(Change, &str); 10] = [
            (
                |l| l.memory = Bytes(MOST.memory.0 + 1),
                "a.memory_bytes: is 1073741825, more than the 1 GiB allowed here",
            ),
            (
                |l| l.memory = Bytes::mib(1),
                "a.memory_bytes: is 1 MiB, too little to start anything: at least 96 MiB",
            ),
            (
                |l| l.processes = 257,
                "a.processes: is 257, more than the 256 allowed here",
            ),
            (
                |l| l.processes = 1,
                "a.processes: is 1, too little to start anything: at least 32",
            ),
            (
                |l| l.cpu_percent = 201,
                "a.cpu_percent: is 201, more than the 200 allowed here",
            ),
            (
                |l| l.cpu_percent = 1,
                "a.cpu_percent: is 1, too little to start anything: at least 10",
            ),
            (
                |l| l.open_files = 1025,
                "a.open_files: is 1025, more than the 1024 allowed here",
            ),
            (
                |l| l.open_files = 63,
                "a.open_files: is 63, too little to start anything: at least 256",
            ),
            (
                |l| l.file_size = Bytes::gib(1),
                "a.file_size_bytes: is 1 GiB, more than the 512 MiB allowed here",
            ),
            (
                |l| l.file_size = Bytes(1),
                "a.file_size_bytes: is 1, too little to start anything: at least 256 KiB",
            ),
        ];
        for (change, message) in cases {
            let mut asked = ExecutionLimits::default();
            change(&mut asked);
            assert_eq!(asked.within(MOST, "a.").unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn every_field_of_a_session_is_named() {
        type Change = fn(&mut SessionLimits, bool);
        let cases: [(Change, &str); 5] = [
            (
                |l, more| l.memory = if more { Bytes(u64::MAX) } else { Bytes(1) },
                "memory_bytes",
            ),
            (
                |l, more| l.processes = if more { u32::MAX } else { 1 },
                "processes",
            ),
            (
                |l, more| l.cpu_percent = if more { u32::MAX } else { 1 },
                "cpu_percent",
            ),
            (
                |l, more| l.scratch = if more { Bytes(u64::MAX) } else { Bytes(1) },
                "scratch_bytes",
            ),
            (
                |l, more| l.scratch_inodes = if more { u64::MAX } else { 1 },
                "scratch_inodes",
            ),
        ];
        for (change, field) in cases {
            for more in [true, false] {
                let mut asked = SessionLimits::default();
                change(&mut asked, more);
                let error = asked.within(SESSION, "x.").unwrap_err();
                assert_eq!(error.field, format!("x.{field}"), "{more}");
            }
        }
    }
}
