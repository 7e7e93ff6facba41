//! The fixed part of a packet.

/// Length of the packet header in bytes.
pub const HEADER_BYTES: usize = 24;

/// First byte of a request.
pub const REQUEST_MAGIC: u8 = 0x80;

/// Opcodes that are allowed before authentication.
pub(super) mod opcode {
    pub(in crate::protocol::binary) const VERSION: u8 = 0x0b;
    pub(in crate::protocol::binary) const SASL_LIST: u8 = 0x20;
    pub(in crate::protocol::binary) const SASL_AUTH: u8 = 0x21;
    pub(in crate::protocol::binary) const SASL_STEP: u8 = 0x22;
}
