//! Options that lower limits. The daemon knows what it allows, and says so.

use crate::grpc::v1;
use crate::limits::Bytes;

/// Of one execution.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits (of a sandbox of its own: without -s, or with --fresh)")]
pub(super) struct ExecutionLimitArgs {
    /// Memory of all its processes, such as "256 MiB"; where no cgroup limits memory, python needs
    /// 160 MiB and node 192 MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Processes and threads
    #[arg(long, value_name = "NUMBER")]
    processes: Option<u32>,
    /// Hundredths of a core
    #[arg(long, value_name = "PERCENT")]
    cpu_percent: Option<u32>,
    /// Open files of each process
    #[arg(long, value_name = "NUMBER")]
    open_files: Option<u64>,
    /// Size of each file it writes
    #[arg(long, value_name = "SIZE")]
    file_size: Option<Bytes>,
}

impl ExecutionLimitArgs {
    pub(super) fn wire(&self) -> v1::ExecutionLimits {
        v1::ExecutionLimits {
            memory_bytes: bytes(self.memory),
            processes: self.processes.unwrap_or_default(),
            cpu_percent: self.cpu_percent.unwrap_or_default(),
            open_files: self.open_files.unwrap_or_default(),
            file_size_bytes: bytes(self.file_size),
        }
    }
}

/// Of a session, and of each of its contexts.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct SessionLimitArgs {
    /// Memory of all of it, browser and files included, such as "1 GiB"
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Processes and threads of all of it
    #[arg(long, value_name = "NUMBER")]
    processes: Option<u32>,
    /// Hundredths of a core for all of it
    #[arg(long, value_name = "PERCENT")]
    cpu_percent: Option<u32>,
    /// Bytes in its files
    #[arg(long, value_name = "SIZE")]
    scratch: Option<Bytes>,
    /// Number of its files and directories
    #[arg(long, value_name = "NUMBER")]
    scratch_inodes: Option<u64>,
    /// Memory of one context; where no cgroup limits memory, python needs 160 MiB and node 192 MiB
    #[arg(long, value_name = "SIZE")]
    execution_memory: Option<Bytes>,
    /// Processes and threads of one context
    #[arg(long, value_name = "NUMBER")]
    execution_processes: Option<u32>,
    /// Hundredths of a core for one context
    #[arg(long, value_name = "PERCENT")]
    execution_cpu_percent: Option<u32>,
    /// Open files of each process of a context
    #[arg(long, value_name = "NUMBER")]
    open_files: Option<u64>,
    /// Size of each file a context writes
    #[arg(long, value_name = "SIZE")]
    file_size: Option<Bytes>,
}

impl SessionLimitArgs {
    pub(super) fn wire(&self) -> (v1::SessionLimits, v1::ExecutionLimits) {
        let session = v1::SessionLimits {
            memory_bytes: bytes(self.memory),
            processes: self.processes.unwrap_or_default(),
            cpu_percent: self.cpu_percent.unwrap_or_default(),
            scratch_bytes: bytes(self.scratch),
            scratch_inodes: self.scratch_inodes.unwrap_or_default(),
        };
        let contexts = ExecutionLimitArgs {
            memory: self.execution_memory,
            processes: self.execution_processes,
            cpu_percent: self.execution_cpu_percent,
            open_files: self.open_files,
            file_size: self.file_size,
        };
        (session, contexts.wire())
    }
}

fn bytes(asked: Option<Bytes>) -> u64 {
    asked.unwrap_or_default().0
}

/// The limits in force, for a table.
pub(super) fn session_line(limits: &v1::SessionLimits) -> String {
    format!(
        "memory {}, {} processes, cpu {} %, scratch {} in {} files",
        Bytes(limits.memory_bytes),
        limits.processes,
        limits.cpu_percent,
        Bytes(limits.scratch_bytes),
        limits.scratch_inodes
    )
}

/// The same of each context.
pub(super) fn execution_line(limits: &v1::ExecutionLimits) -> String {
    format!(
        "memory {}, {} processes, cpu {} %, {} open files, files of {}",
        Bytes(limits.memory_bytes),
        limits.processes,
        limits.cpu_percent,
        limits.open_files,
        Bytes(limits.file_size_bytes)
    )
}
