//! Encodings of one byte a character, as programs take them for UTF-8's bytes.

use std::collections::HashMap;
use std::sync::LazyLock;

use encoding_rs::Encoding;

/// A table of 256 characters, and the way back.
pub(super) struct Codec {
    back: HashMap<char, u8>,
    /// Whether a byte that it lacks becomes U+FFFD, so that one may stand for any byte.
    pub(super) lossy: bool,
    /// Whether its users keep no-break spaces as spaces.
    pub(super) spaces: bool,
}

impl Codec {
    /// The bytes of a text; `None` if a character is not in the table. U+FFFD becomes [`LOST`].
    pub(super) fn bytes(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.byte(c)).collect()
    }

    /// The byte of a character.
    pub(super) fn byte(&self, c: char) -> Option<u8> {
        match c {
            '\u{1A}' => None,
            '\u{FFFD}' => self.lossy.then_some(LOST),
            c if c.is_ascii() => u8::try_from(c).ok(),
            c => self.back.get(&c).copied(),
        }
    }
}

/// The byte that stands for one that was lost (a control code that no text has).
pub(super) const LOST: u8 = 0x1A;

/// Code page 437 from 0x80 on; the Encoding Standard, which the web needs, lacks it.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}";

/// The encodings in question, the likeliest first.
pub(super) static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| {
    let standard = |encoding: &'static Encoding, spaces| {
        // The Encoding Standard gives every byte a character: what Windows lacks is a control code.
        let character = |byte: u8| {
            let bytes = [byte];
            let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes)?;
            text.chars().next()
        };
        let lossy = encoding.name().starts_with("windows");
        Codec { back: table((0x80..=0xFF).map(|byte| (byte, character(byte)))), lossy, spaces }
    };
    let latin_1 = (0x80..=0xFF_u8).map(|byte| (byte, Some(char::from(byte))));
    let dos = (0x80..=0xFF_u8).zip(CODE_PAGE_437.chars().map(Some));
    vec![
        Codec { back: table(latin_1), lossy: false, spaces: true },
        standard(encoding_rs::WINDOWS_1252, true),
        standard(encoding_rs::WINDOWS_1251, true),
        standard(encoding_rs::WINDOWS_1250, true),
        standard(encoding_rs::WINDOWS_1253, true),
        standard(encoding_rs::WINDOWS_1254, true),
        standard(encoding_rs::WINDOWS_1257, true),
        standard(encoding_rs::ISO_8859_2, true),
        standard(encoding_rs::MACINTOSH, false),
        Codec { back: table(dos), lossy: false, spaces: true },
    ]
});

fn table(pairs: impl Iterator<Item = (u8, Option<char>)>) -> HashMap<char, u8> {
    let mut back = HashMap::new();
    let mut missing = Vec::new();
    for (byte, c) in pairs {
        match c {
            Some(c) => drop(back.entry(c).or_insert(byte)),
            None => missing.push(byte),
        }
    }
    // Sloppy tools take a byte that the table lacks for the control code of the same number.
    for byte in missing {
        back.entry(char::from(byte)).or_insert(byte);
    }
    back
}

/// Windows-1252's character for a C1 control code that was meant as a byte.
pub(super) fn windows_1252(c: char) -> Option<char> {
    let byte = u8::try_from(c).ok().filter(|byte| (0x80..0xA0).contains(byte))?;
    let bytes = [byte];
    let text =
        encoding_rs::WINDOWS_1252.decode_without_bom_handling_and_without_replacement(&bytes)?;
    let text = text.chars().next()?;
    (!text.is_control()).then_some(text)
}
