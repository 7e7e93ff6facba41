//! The process that takes over, as the running server sees it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::server::handover::channel::{Channel, Message};

/// A process that is ready to take over. Dropping it tells the process that
/// nothing comes of it.
#[derive(Debug)]
pub struct Successor {
    channel: Channel,
    process: i32,
}

impl Successor {
    pub(super) fn new(channel: Channel, process: i32) -> Self {
        Self { channel, process }
    }

    /// Returns its process ID.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// Refuses to hand over.
    pub(in crate::server) fn refuse(&self, reason: &str) {
        // If it is gone, nobody needs to know.
        let _ = self
            .channel
            .send(&Message::Refused(reason.to_owned()), None);
    }

    /// Hands the memory over, and waits until the process serves
    /// or fails. There is no limit of time: only one of the two may use the memory.
    ///
    /// # Errors
    /// The process has ended, or failed to start. It does not use the memory any
    /// more.
    pub(in crate::server) fn give(&self, memory: &File) -> io::Result<()> {
        self.channel.send(&Message::Memory, Some(memory.as_fd()))?;
        match self.channel.receive()?.0 {
            Message::Serving => Ok(()),
            Message::Refused(reason) => Err(io::Error::other(reason)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
