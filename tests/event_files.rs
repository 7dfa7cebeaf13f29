//! Reads TensorBoard's event files strictly, with nothing of the program that wrote them: framing, checksums, protobuf.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What one run of TensorBoard's, a folder of event files, shows.
#[derive(Default)]
pub struct EventFiles {
    /// For each tag, its points: step and value, in the order in which they were written, less what a restart took back.
    pub scalars: BTreeMap<String, Vec<(u64, f32)>>,
    /// For each tag, step and picture.
    pub images: BTreeMap<String, Vec<(u64, Image)>>,
    /// When each event was written, in the order of the files.
    pub wall_times: Vec<f64>,
    /// The steps at which a process took the run up again.
    pub restarts: Vec<u64>,
    /// The files, in the order of their names.
    pub names: Vec<String>,
}

pub struct Image {
    pub height: u64,
    pub width: u64,
    pub colorspace: u64,
    pub png: Vec<u8>,
}

/// Reads all files of a folder, in the order of their names, which is TensorBoard's.
pub fn read(folder: &Path) -> EventFiles {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found = EventFiles::default();
    let last = paths.last().cloned();
    for path in paths {
        // A process that was killed may leave its last record torn, as every reader expects.
        let may_be_torn = Some(&path) != last.as_ref();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        found.names.push(name);
        for (index, record) in records(&fs::read(&path).unwrap(), may_be_torn).into_iter().enumerate() {
            found.event(index, &record);
        }
    }
    found
}

/// The messages of a file; every byte is accounted for.
fn records(mut file: &[u8], may_be_torn: bool) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !file.is_empty() {
        let whole = file.len() >= 12 && {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap());
            (file.len() as u64 - 12).checked_sub(length).is_some_and(|left| left >= 4)
        };
        if !whole && may_be_torn {
            break;
        }
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(number(8), masked(checksum(&file[..8])), "the length's checksum");
        let message = &file[12..12 + length];
        assert_eq!(number(12 + length), masked(checksum(message)), "the message's checksum");
        records.push(message.to_vec());
        file = &file[16 + length..];
    }
    records
}

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (!(crc & 1)).wrapping_add(1))
        })
    })
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(bytes) => panic!("{bytes:?} is no number"),
        }
    }

    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Number(number) => panic!("{number} is no text or message"),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

/// The fields of a message with their numbers.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a number of more than 64 bits")
    }
    fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = message.split_at(length);
        *message = rest;
        taken
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(take(&mut message, 8).try_into().unwrap())),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(take(&mut message, length))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()).into()),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

impl EventFiles {
    /// Takes in the event with this place in its file.
    fn event(&mut self, index: usize, record: &[u8]) {
        let (mut wall_time, mut step, mut is_version) = (None, 0, false);
        for (number, field) in fields(record) {
            match number {
                1 => wall_time = Some(f64::from_bits(field.number())),
                2 => step = field.number(),
                3 => {
                    assert_eq!(field.text(), "brain.Event:2");
                    is_version = true;
                }
                5 => self.summary(step, field.bytes()),
                7 => {
                    assert!(
                        matches!(fields(field.bytes())[..], [(1, Field::Number(1))]),
                        "a session that starts"
                    );
                    self.restarts.push(step);
                    self.scalars.values_mut().for_each(|points| points.retain(|(at, _)| *at < step));
                    self.images.values_mut().for_each(|images| images.retain(|(at, _)| *at < step));
                }
                other => panic!("field {other} of an event"),
            }
        }
        assert_eq!(is_version, index == 0, "the version comes first, and once");
        self.wall_times.push(wall_time.unwrap());
    }

    fn summary(&mut self, step: u64, message: &[u8]) {
        for (number, value) in fields(message) {
            assert_eq!(number, 1);
            match &fields(value.bytes())[..] {
                [(1, tag), (2, value)] => {
                    let value = f32::from_bits(value.number() as u32);
                    self.scalars.entry(tag.text()).or_default().push((step, value));
                }
                [(1, tag), (4, image)] => match &fields(image.bytes())[..] {
                    [(1, height), (2, width), (3, colorspace), (4, png)] => {
                        let image = Image {
                            height: height.number(),
                            width: width.number(),
                            colorspace: colorspace.number(),
                            png: png.bytes().to_vec(),
                        };
                        self.images.entry(tag.text()).or_default().push((step, image));
                    }
                    other => panic!("{} fields of an image", other.len()),
                },
                other => panic!("{} fields of a value", other.len()),
            }
        }
    }
}

#[test]
fn the_checksum_is_castagnoli_s() {
    assert_eq!(checksum(b"123456789"), 0xe306_9283);
}
