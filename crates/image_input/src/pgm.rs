//! PGM, binary (`P5`) and in words (`P2`), of up to 16 bits.

use crate::DrawingError;
use crate::picture::{Picture, area};

/// Reads `bytes`, which begin with `P5` or `P2`. Whatever follows the last pixel is another image, and is left alone.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, DrawingError> {
    let mut text = Text { bytes, at: 2 };
    let (width, height) = (text.number("its width")?, text.number("its height")?);
    let area = area(width, height)?;
    let most = text.number("its greatest value")?;
    if most == 0 || most > u64::from(u16::MAX) {
        return Err(damaged(format!("its greatest value is {most}, and may be from 1 to 65535")));
    }
    let pixels = if bytes[1] == b'2' {
        (0..area).map(|_| scaled(text.number("a pixel")?, most)).collect::<Result<_, _>>()?
    } else {
        binary(text.rest()?, area, most)?
    };
    Picture::grey(width as usize, height as usize, pixels)
}

fn binary(bytes: &[u8], area: usize, most: u64) -> Result<Vec<u8>, DrawingError> {
    let width = if most < 256 { 1 } else { 2 };
    let Some(bytes) = bytes.get(..width * area) else {
        return Err(damaged(format!("it is cut short: {} of {} bytes of pixels", bytes.len(), width * area)));
    };
    let value = |pixel: &[u8]| pixel.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    bytes.chunks_exact(width).map(|pixel| scaled(value(pixel), most)).collect()
}

/// A value of 0 to `most` as one of 0 to 255.
fn scaled(value: u64, most: u64) -> Result<u8, DrawingError> {
    if value > most {
        return Err(damaged(format!("a pixel is {value}, more than the greatest value, {most}")));
    }
    Ok(((value * 255 + most / 2) / most) as u8)
}

fn damaged(reason: String) -> DrawingError {
    DrawingError::Damaged { format: "PGM", reason }
}

/// Words between white space and comments.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    fn number(&mut self, what: &str) -> Result<u64, DrawingError> {
        self.skip_blanks();
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        match str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok()) {
            Some(number) => Ok(number),
            None if rest.is_empty() => Err(damaged(format!("it is cut short: {what} is missing"))),
            None => Err(damaged(format!("{what} is no number"))),
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            if *byte == b'#' {
                while self.bytes.get(self.at).is_some_and(|byte| *byte != b'\n') {
                    self.at += 1;
                }
            } else if byte.is_ascii_whitespace() {
                self.at += 1;
            } else {
                break;
            }
        }
    }

    /// All behind the one blank that ends the header.
    fn rest(&self) -> Result<&'a [u8], DrawingError> {
        match self.bytes[self.at..].split_first() {
            Some((blank, rest)) if blank.is_ascii_whitespace() => Ok(rest),
            Some(_) => Err(damaged("its greatest value is no number".to_owned())),
            None => Err(damaged("it is cut short: there are no pixels".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        let grey = Picture::decode(bytes).unwrap();
        assert_eq!((grey.width(), grey.height()), (3, 2));
        grey.planes()[0].clone()
    }

    #[test]
    fn both_kinds_are_read_with_comments_and_any_greatest_value() {
        let grey = [0, 51, 102, 153, 204, 255];
        assert_eq!(pixels(b"P2\n# made by hand\n3 2 #rows\n255\n0 51 102\n153 204 255\n"), grey);
        assert_eq!(pixels(b"P2 3 2 5 0 1 2 3 4 5"), grey);
        assert_eq!(pixels(b"P5\n3 2\n255\n\x00\x33\x66\x99\xcc\xff"), grey);
        assert_eq!(pixels(b"P5 3 2 5\n\x00\x01\x02\x03\x04\x05 and more"), grey);
        let wide: Vec<u8> = grey.iter().flat_map(|value| (u16::from(*value) * 257).to_be_bytes()).collect();
        assert_eq!(pixels(&[&b"P5 3 2 65535\n"[..], &wide].concat()), grey);
        // A first pixel that looks like a blank.
        assert_eq!(pixels(b"P5 3 2 255\n\n     ")[..2], [10, 32]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&[u8], &str); 9] = [
            (b"P5\n3", "cut short: its height is missing"),
            (b"P5\nthree 2\n255\n", "its width is no number"),
            (b"P5\n3 2\n0\n", "its greatest value is 0"),
            (b"P5\n3 2\n65536\n", "its greatest value is 65536"),
            (b"P5\n3 2\n255", "cut short: there are no pixels"),
            (b"P5\n3 2\n255\n12345", "cut short: 5 of 6 bytes"),
            (b"P5\n3 2\n4\n\x00\x01\x02\x03\x04\x05", "a pixel is 5"),
            (b"P2\n3 2\n255\n0 51 102 153 204", "cut short: a pixel is missing"),
            (b"P2\n3 2\n255\n0 51 102 153 204 256", "a pixel is 256, more than the greatest value, 255"),
        ];
        for (bytes, part) in cases {
            let message = Picture::decode(bytes).unwrap_err().to_string();
            assert!(
                message.starts_with("it is a damaged PGM image: ") && message.contains(part),
                "{message}"
            );
        }
        assert_eq!(Picture::decode(b"P5 0 2 255\n"), Err(DrawingError::NoPixels { width: 0, height: 2 }));
        let huge = Picture::decode(b"P2 99999999999 99999999999 255 0");
        assert!(matches!(huge, Err(DrawingError::TooLarge { .. })), "{huge:?}");
        assert!(Picture::decode(b"P2 99999999999999999999999 1 255 0").is_err());
    }
}
