//! Reply lines without arguments.

/// Reply line of a command on an item. Meta commands return the errors only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A storage command stored its value.
    Stored,
    /// The condition of a storage command does not hold.
    NotStored,
    /// The CAS value of `cas` differs.
    Exists,
    /// The key has no item.
    NotFound,
    /// `delete` removed the item.
    Deleted,
    /// `touch` set the expiry time.
    Touched,
    /// The line does not follow the form of its command.
    BadFormat,
    /// The data block does not end with CRLF at its declared length.
    BadChunk,
    /// The value of `incr`, `decr` or `ma` is no number.
    NonNumeric,
    /// The opaque of a meta command exceeds its length limit.
    OpaqueTooLong,
    /// The value exceeds the item size limit.
    TooLarge,
    /// There is no item memory for a value.
    NoMemoryToStore,
    /// There is no item memory for the result of another command.
    NoMemory,
    /// Client buffers have reached their limit.
    NoMemoryToReply,
}

impl Reply {
    /// Returns the line without its CRLF.
    #[inline]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Stored => "STORED",
            Self::NotStored => "NOT_STORED",
            Self::Exists => "EXISTS",
            Self::NotFound => "NOT_FOUND",
            Self::Deleted => "DELETED",
            Self::Touched => "TOUCHED",
            Self::BadFormat => "CLIENT_ERROR bad command line format",
            Self::BadChunk => "CLIENT_ERROR bad data chunk",
            Self::NonNumeric => "CLIENT_ERROR cannot increment or decrement non-numeric value",
            Self::OpaqueTooLong => "CLIENT_ERROR opaque token too long",
            Self::TooLarge => "SERVER_ERROR object too large for cache",
            Self::NoMemoryToStore => "SERVER_ERROR out of memory storing object",
            Self::NoMemory => "SERVER_ERROR out of memory",
            Self::NoMemoryToReply => "SERVER_ERROR out of memory writing get response",
        }
    }
}
