//! Bytes of a text file to text: UTF-8 with or without a byte-order mark, UTF-16 with one, else Windows-1252.

use anyhow::{Context, Result, bail, ensure};

/// Windows-1252 differs from Latin-1 in these 32 places only; `\0` marks the five that it leaves undefined.
const WINDOWS_1252_FROM_80: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“', '”', '•', '–', '—', '˜', '™',
    'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// The text in `bytes`.
///
/// METHOD: what is not UTF-8 and has no mark is taken as Windows-1252, which is what Western European spreadsheets write; every
/// other single-byte encoding agrees with it on ASCII, so that only accented letters can be wrong.
///
/// # Errors
/// Damaged UTF-16, NUL bytes (UTF-16 without its mark, or no text at all), bytes that Windows-1252 does not know.
pub(super) fn decode(bytes: &[u8]) -> Result<String> {
    let text = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8(rest.to_vec()).context("it begins as UTF-8, but is not; save it as UTF-8")?,
        [0xFF, 0xFE, rest @ ..] => utf_16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf_16(rest, u16::from_be_bytes)?,
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => windows_1252(bytes)?,
        },
    };
    ensure!(!text.contains('\0'), "it holds NUL bytes and is no text; save it as CSV in UTF-8");
    Ok(text)
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String> {
    ensure!(bytes.len().is_multiple_of(2), "it begins as UTF-16, but ends within a character; save it as UTF-8");
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16(&units).context("it begins as UTF-16, but is not; save it as UTF-8")
}

fn windows_1252(bytes: &[u8]) -> Result<String> {
    let mut text = String::with_capacity(bytes.len());
    for (place, &byte) in bytes.iter().enumerate() {
        match byte {
            0x80..=0x9F => match WINDOWS_1252_FROM_80[usize::from(byte - 0x80)] {
                '\0' => bail!("byte {place} ({byte:#04x}) is neither UTF-8 nor Windows-1252; save it as UTF-8"),
                known => text.push(known),
            },
            latin => text.push(char::from(latin)),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_in_every_encoding() {
        let text = "slide;größe\n7;„€“\n";
        let marked = |mark: &[u8], bytes: Vec<u8>| [mark, &bytes].concat();
        let little = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let windows = b"slide;gr\xF6\xDFe\n7;\x84\x80\x93\n";
        for bytes in [
            text.as_bytes().to_vec(),
            marked(b"\xEF\xBB\xBF", text.into()),
            marked(b"\xFF\xFE", little),
            marked(b"\xFE\xFF", big),
            windows.to_vec(),
        ] {
            assert_eq!(decode(&bytes).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for (bytes, reason) in [
            (&b"a\x81b"[..], "neither UTF-8 nor Windows-1252"),
            (b"a\0b\0", "NUL"),
            (b"\xFF\xFEa", "ends within a character"),
            (b"\xFF\xFE\x00\xD8", "is not"),
            (b"\xEF\xBB\xBFgr\xF6", "is not"),
        ] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("save it as"), "{error}");
        }
    }
}
