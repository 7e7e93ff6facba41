//! Memory that a worker holds for its clients: parked state of stalled
//! connections and incomplete input.

use crate::limits::TIGHT_READ_BYTES;

/// Account of the memory that a worker holds for its clients.
#[derive(Default)]
pub(in crate::server) struct ClientMemory {
    /// Number of connections whose state is parked in `command::Stalled`.
    pub(super) parked: usize,
    /// Bytes of incomplete input of all connections.
    pub(super) input_bytes: usize,
    /// Set when state was parked or input grew since the limits were last
    /// enforced.
    pub(super) grown: bool,
    /// Set while client buffers use at least half of their limit: reads and
    /// outputs are kept small.
    pub(super) tight: bool,
    /// Millisecond of the server's clock in which `tight` was last computed.
    pub(super) tight_checked: u64,
    /// Second of the server's clock in which the limits were last enforced.
    pub(super) enforced: u32,
}

impl ClientMemory {
    /// Returns whether the worker holds parked state or incomplete input.
    pub(in crate::server) fn is_held(&self) -> bool {
        self.parked > 0 || self.input_bytes > 0
    }

    /// Returns the part of a read buffer to use, of which `kept` bytes are
    /// filled already. While memory is tight it is shorter.
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
