//! Owns what is known about the four files of MNIST: names, shapes, digests; never opens one.

/// One of the four files of an IDX data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    TrainImages,
    TrainLabels,
    TestImages,
    TestLabels,
}

/// SHA-256 of the unpacked content of the four files, in the order of [`Role::ALL`].
pub(crate) type Digests = [[u8; 32]; 4];

/// The digests of MNIST. Tests pass those of their own small files instead.
pub(crate) const DIGESTS: Digests = [
    from_hex(b"ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    from_hex(b"65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    from_hex(b"0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    from_hex(b"ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
];

impl Role {
    /// Every file, training before test, images before labels.
    pub(crate) const ALL: [Self; 4] =
        [Self::TrainImages, Self::TrainLabels, Self::TestImages, Self::TestLabels];

    /// The name that the mirrors use, without `.gz`.
    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::TrainImages => "train-images-idx3-ubyte",
            Self::TrainLabels => "train-labels-idx1-ubyte",
            Self::TestImages => "t10k-images-idx3-ubyte",
            Self::TestLabels => "t10k-labels-idx1-ubyte",
        }
    }

    /// The other name in use, with a dot before `idx`.
    pub(crate) const fn dotted_name(self) -> &'static str {
        match self {
            Self::TrainImages => "train-images.idx3-ubyte",
            Self::TrainLabels => "train-labels.idx1-ubyte",
            Self::TestImages => "t10k-images.idx3-ubyte",
            Self::TestLabels => "t10k-labels.idx1-ubyte",
        }
    }

    /// Every spelling accepted in a folder; unpacked files first, as they are faster to read.
    pub(crate) fn spellings(self) -> [String; 4] {
        let [plain, dotted] = [self.file_name(), self.dotted_name()];
        [plain.to_owned(), dotted.to_owned(), format!("{plain}.gz"), format!("{dotted}.gz")]
    }

    /// The SHA-256 that `known` has for this file.
    pub(crate) const fn digest(self, known: &Digests) -> &[u8; 32] {
        &known[self as usize]
    }

    /// The most bytes a mirror may send: a packed file is never larger than MNIST's unpacked one, but for
    /// a little framing.
    pub(crate) const fn download_limit(self) -> u64 {
        let unpacked = match self {
            Self::TrainImages => 47_040_016,
            Self::TrainLabels => 60_008,
            Self::TestImages => 7_840_016,
            Self::TestLabels => 10_008,
        };
        unpacked + 64 * 1024
    }
}

/// Reads 64 hexadecimal digits, at compile time.
const fn from_hex(text: &[u8; 64]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => panic!("a digest is written in lower-case hexadecimal"),
    }
}
