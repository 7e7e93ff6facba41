//! Reasons why a start finds no items in a memory file.

use std::fmt;
use std::io;
use std::time::Duration;

/// Reason why a server starts empty.
#[derive(Debug)]
pub enum EmptyReason {
    /// There is no file yet, or an empty one.
    New,
    /// The file is not of rustcached. It is left alone.
    Foreign,
    /// A file of `-e` was given to `--save-path`, or the reverse. It is left
    /// alone.
    OtherKind,
    /// Another server uses the file. It is left alone.
    InUse,
    /// The file cannot be opened or read.
    Unreadable(io::Error),
    /// The last server did not stop cleanly.
    Unclean,
    /// The file is of another version of the format.
    Version(u32),
    /// The file is of a build with other size classes or another word size.
    Layout,
    /// A part of the file is damaged.
    Damaged(&'static str),
    /// The system's clock went back since the last stop, so the time away is
    /// unknown.
    ClockWentBack,
    /// The server's clock, which goes on over restarts, has reached its end.
    ClockEnds,
    /// The server was away for longer than `--restart-max-gap`.
    Gap(Duration),
}

impl EmptyReason {
    pub(super) fn unreadable(error: io::Error) -> Self {
        Self::Unreadable(error)
    }

    /// Returns whether the file may be overwritten.
    pub(super) fn permits_overwriting(&self) -> bool {
        !matches!(
            self,
            Self::Foreign | Self::OtherKind | Self::InUse | Self::Unreadable(_)
        )
    }
}

impl fmt::Display for EmptyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("it is new"),
            Self::Foreign => f.write_str("it is not a memory file of rustcached; it is left alone"),
            Self::OtherKind => {
                f.write_str("-e and --save-path cannot use each other's files; it is left alone")
            }
            Self::InUse => f.write_str("another server uses it; it is left alone"),
            Self::Unreadable(error) => error.fmt(f),
            Self::Unclean => f.write_str("the last server did not stop cleanly"),
            Self::Version(version) => write!(f, "it has version {version} of the format"),
            Self::Layout => f.write_str("it is of a build with another memory layout"),
            Self::Damaged(part) => write!(f, "it is damaged ({part})"),
            Self::ClockWentBack => f.write_str("the system's clock went back since the last stop"),
            Self::ClockEnds => f.write_str("its clock has run for eight years"),
            Self::Gap(away) => write!(
                f,
                "the server was away for {} s, longer than --restart-max-gap",
                away.as_secs()
            ),
        }
    }
}
