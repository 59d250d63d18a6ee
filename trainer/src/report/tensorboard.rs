//! TensorBoard's event files, written by hand.
//!
//! A file is a sequence of records: length (u64, little-endian), masked CRC-32C of the length, the
//! bytes, masked CRC-32C of the bytes. Each record is an `Event` in Protocol Buffers: `wall_time`
//! (field 1, double), `step` (2, varint), and one of `file_version` (3), `summary` (5) with
//! `value` (1) of `tag` (1) and `simple_value` (2, float), or `session_log` (7) whose `status` (1)
//! is 1 at a start: TensorBoard then hides what earlier files say of this and later steps, which
//! is what a resumed run needs.
//!
//! Source: `tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An open event file.
#[derive(Debug)]
pub struct Events {
    file: File,
}

impl Events {
    /// Begins a new file in `folder`, made if need be, for a run at `step`.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads files in the order of their names.
        let (seconds, rest) = (now.as_secs(), now.subsec_nanos());
        let process = std::process::id();
        let name = format!("events.out.tfevents.{seconds:010}.{rest:09}.ft.{process}");
        let mut events = Self { file: File::create_new(folder.join(name))? };
        let mut version = Message::default();
        version.bytes(3, b"brain.Event:2");
        events.event(0, version)?;
        let (mut start, mut session) = (Message::default(), Message::default());
        session.varint(1, 1);
        start.bytes(7, &session.0);
        events.event(step, start)?;
        Ok(events)
    }

    /// Adds numbers of one step.
    ///
    /// # Errors
    ///
    /// The file system refused.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            entry.float(2, *value);
            summary.bytes(1, &entry.0);
        }
        let mut event = Message::default();
        event.bytes(5, &summary.0);
        self.event(step, event)
    }

    fn event(&mut self, step: u64, what: Message) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut event = Message::default();
        event.double(1, now.as_secs_f64());
        event.varint(2, step);
        event.0.extend(what.0);
        self.file.write_all(&record(&event.0))
    }
}

/// A message of Protocol Buffers in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    /// Field number and wire type: 0 varint, 1 eight bytes, 2 a length and bytes, 5 four bytes.
    fn key(&mut self, field: u64, wire: u64) {
        self.raw(field << 3 | wire);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.raw(value.len() as u64);
        self.0.extend(value);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the format has f32")]
    fn float(&mut self, field: u64, value: f64) {
        self.key(field, 5);
        self.0.extend((value as f32).to_le_bytes());
    }
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(bytes);
    record.extend(masked(crc32c(bytes)).to_le_bytes());
    record
}

/// `rotate(crc, 15) + 0xa282ead8`, so that a checksum of data with checksums in it is still good.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC with the Castagnoli polynomial, bit by bit: events are few and short.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the customary check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn varints_are_seven_bits_a_byte() {
        let mut message = Message::default();
        message.varint(2, 300);
        assert_eq!(message.0, [0x10, 0xac, 0x02]);
    }

    #[test]
    fn a_file_is_a_sequence_of_checked_records_with_the_tags_and_values() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), 7).unwrap();
        events.scalars(8, &[("train/loss", 1.5)]).unwrap();
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(path).unwrap();
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let length =
                usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
            let rest = bytes.split_off(16 + length);
            assert_eq!(bytes, record(&bytes[12..12 + length]));
            records.push(bytes[12..12 + length].to_vec());
            bytes = rest;
        }
        assert_eq!(records.len(), 3);
        // After the nine bytes of the time: step, then the rest.
        assert_eq!(&records[0][9..], b"\x10\x00\x1a\x0dbrain.Event:2");
        assert_eq!(&records[1][9..], b"\x10\x07\x3a\x02\x08\x01");
        let mut expected = b"\x10\x08\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15".to_vec();
        expected.extend(1.5f32.to_le_bytes());
        assert_eq!(&records[2][9..], expected);
    }
}
