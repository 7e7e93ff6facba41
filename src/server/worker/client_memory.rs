//! What a worker knows of the memory that its clients make it hold.

use crate::limits::TIGHT_READ_BYTES;

/// What a worker knows of the memory that its clients make it hold.
#[derive(Default)]
pub(in crate::server) struct ClientMemory {
    /// Connections with something parked.
    pub(super) parked: usize,
    /// Bytes of incomplete input.
    pub(super) input_bytes: usize,
    /// Something was parked, or input has grown, since limits were enforced.
    pub(super) grown: bool,
    /// Buffers are to be kept small.
    pub(super) tight: bool,
    /// Millisecond in which that was last decided.
    pub(super) tight_checked: u64,
    /// Second in which limits were last enforced.
    pub(super) enforced: u32,
}

impl ClientMemory {
    /// Whether clients make the worker hold anything.
    pub(in crate::server) fn is_held(&self) -> bool {
        self.parked > 0 || self.input_bytes > 0
    }

    /// The part of a read buffer to be used, of which `kept` bytes are taken.
    pub(in crate::server) fn readable_part<'b>(
        &self,
        buffer: &'b mut [u8],
        kept: usize,
    ) -> &'b mut [u8] {
        match self.tight {
            false => buffer,
            true => {
                let len = TIGHT_READ_BYTES.max(kept + TIGHT_READ_BYTES / 2);
                let len = len.min(buffer.len());
                &mut buffer[..len]
            }
        }
    }
}
