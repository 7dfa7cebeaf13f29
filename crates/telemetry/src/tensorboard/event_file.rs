//! One event file: records in the TFRecord framing, on their way to a writer.
//!
//! A record is its length (8 bytes), the length's checksum (4), the message, and the message's checksum (4), all
//! little-endian; a checksum is CRC-32C, rotated and shifted so that a checksum over data with checksums in it stays a
//! good one. Records leave the process whole, as many as are pending in one write. A failing disk switches the file
//! off.

use std::{fs::File, io, io::Write, path::Path};

use prost::Message;

use super::event::Event;
use crate::SinkError;

/// Records are written out when this much is pending.
const MAX_PENDING_BYTES: usize = 32 << 10;

/// What TensorFlow adds to a rotated checksum.
const MASK_DELTA: u32 = 0xa282_ead8;

pub(super) struct EventFile<W: Write> {
    name: String,
    writer: W,
    /// Whole records, and the memory that all later ones use again.
    pending: Vec<u8>,
    /// Set by the first failure, for ever.
    off: bool,
    /// The failure, until it is reported.
    failure: Option<io::Error>,
}

impl EventFile<File> {
    /// Creates the file at `path`.
    ///
    /// # Errors
    ///
    /// It exists already, or cannot be created.
    pub(super) fn create(path: &Path) -> Result<Self, SinkError> {
        let name = path.display().to_string();
        match File::create_new(path) {
            Ok(file) => Ok(Self::new(name, file)),
            Err(source) => Err(SinkError { sink: name, source }),
        }
    }
}

impl<W: Write> EventFile<W> {
    /// A file called `name` in errors.
    pub(super) fn new(name: String, writer: W) -> Self {
        Self { name, writer, pending: Vec::new(), off: false, failure: None }
    }

    pub(super) fn push(&mut self, event: &Event) {
        if self.off {
            return;
        }
        let length = event.encoded_len();
        let length_bytes = (length as u64).to_le_bytes();
        self.pending.reserve(length + 16);
        self.pending.extend_from_slice(&length_bytes);
        self.pending.extend_from_slice(&masked_checksum(&length_bytes).to_le_bytes());
        let start = self.pending.len();
        event.encode_raw(&mut self.pending);
        let checksum = masked_checksum(&self.pending[start..]);
        self.pending.extend_from_slice(&checksum.to_le_bytes());
        if self.pending.len() >= MAX_PENDING_BYTES {
            self.write_out();
        }
    }

    pub(super) fn write_out(&mut self) {
        if self.off || self.pending.is_empty() {
            return;
        }
        let written = self.writer.write_all(&self.pending).and_then(|()| self.writer.flush());
        self.pending.clear();
        if let Err(error) = written {
            self.switch_off();
            self.failure = Some(error);
        }
    }

    /// Takes no more records.
    pub(super) fn switch_off(&mut self) {
        self.off = true;
        self.pending = Vec::new();
    }

    /// Whether it takes no more records.
    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    pub(super) fn flush(&mut self) -> Result<(), SinkError> {
        self.write_out();
        match self.failure.take() {
            Some(source) => Err(SinkError { sink: self.name.clone(), source }),
            None => Ok(()),
        }
    }
}

impl<W: Write> Drop for EventFile<W> {
    fn drop(&mut self) {
        self.write_out();
    }
}

fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK_DELTA)
}
