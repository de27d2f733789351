//! How this process's allocator keeps memory.

use super::sys;

/// Buffers of this size and above are the kernel's own mappings: given back when they are freed.
const MAPPED_FROM: i32 = 1 << 20;

/// Makes glibc give large buffers back at once, for the whole process.
///
/// By itself it raises the size from which it maps, up to 32 MiB, each time a mapped buffer is
/// freed; what is smaller stays in its heaps. After a few large results the daemon would keep
/// hundreds of MiB. Without effect where the allocator is another.
pub fn return_large_buffers() {
    sys::set_mmap_threshold(MAPPED_FROM);
}
