//! Text whose bytes were read in the wrong encoding, put right.
//!
//! UTF-8 that was taken for one of ten encodings of one byte a character (`cafÃ©`, `æ—¥æœ¬`, `вЂ™`)
//! is turned back into its bytes and read again, up to as many times as it was misread. A text is
//! touched only if its characters make little sense beside each other, and less than those of what
//! it becomes. Japanese has its own ways to be misread (`east`). The kinds of damage are those that Robyn Speer's ftfy describes.

mod codec;
mod east;
mod weird;

use codec::{CODECS, Codec, LOST};
use weird::weirdness;

/// How often a text is misread at most.
const ROUNDS: usize = 6;
/// From here on neighbours make too little sense.
const WEIRD: u32 = 2;

/// The text as it was meant, if it was misread.
pub fn repaired(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    if let Some(fixed) = east::reread(text) {
        return fixed.ok();
    }
    let Some(mut now) = round(text) else {
        return if weirdness(text) >= WEIRD { east::decoded(text) } else { None };
    };
    for _ in 1..ROUNDS {
        match round(&now) {
            Some(next) => now = next,
            None => break,
        }
    }
    (now != text).then_some(now)
}

/// Whether a text was misread in a way that nothing can put right.
pub fn is_lost(text: &str) -> bool {
    text.contains('\u{FFFD}') || east::reread(text).is_some_and(|fixed| fixed.is_err())
}

/// One misreading undone.
fn round(text: &str) -> Option<String> {
    let before = weirdness(text);
    if before < WEIRD {
        return None;
    }
    for codec in CODECS.iter() {
        if let Some(fixed) = codec.bytes(text).and_then(|bytes| reread(&bytes, codec))
            && sounder(text, before, &fixed)
        {
            return Some(fixed);
        }
    }
    pieces(text).or_else(|| controls(text))
}

/// Whether a rereading makes more sense.
fn sounder(text: &str, before: u32, fixed: &str) -> bool {
    let rare = |c: char| matches!(c, '\u{80}'..='\u{9F}' | '\u{250}'..='\u{2AF}' | '\u{17F}' | '\u{500}'..='\u{52F}');
    fixed != text
        && weirdness(fixed) < before
        && fixed.chars().filter(|c| rare(*c)).count() <= text.chars().filter(|c| rare(*c)).count()
}

/// Bytes as UTF-8, with what programs do to them on the way undone: lost bytes, no-break spaces
/// that became spaces, surrogates of UTF-16 as if they were characters (CESU-8).
fn reread(bytes: &[u8], codec: &Codec) -> Option<String> {
    let whole = groups(bytes);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let mut changed = false;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii() && byte != LOST {
            out.push(byte);
            at += 1;
            continue;
        }
        changed = true;
        if let Some((c, length)) = surrogates(&bytes[at..]) {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            at += length;
            continue;
        }
        let rest = &bytes[at..];
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            LOST => 1,
            _ => return None,
        };
        if let Some(c) =
            rest.get(..length).and_then(|it| std::str::from_utf8(it).ok()).filter(|_| byte != LOST)
        {
            out.extend_from_slice(c.as_bytes());
            at += length;
        } else if let Some((piece, used)) = spaced(rest, length, whole).filter(|_| codec.spaces) {
            out.extend_from_slice(&piece);
            at += used;
        } else {
            at += lost(rest, length, codec)?;
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    if !changed {
        return None;
    }
    String::from_utf8(out).ok()
}

/// How many whole sequences of several bytes there are.
fn groups(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().map(|chunk| chunk.valid().chars().filter(|c| !c.is_ascii()).count()).sum()
}

/// A sequence with a space where 0xA0 was.
fn spaced(rest: &[u8], length: usize, whole: usize) -> Option<(Vec<u8>, usize)> {
    if rest.starts_with(b"\xC3 ") {
        // `à` before a word keeps its space, unless it is Portuguese `às`, `àquele`.
        let after = &rest[2..];
        let one_word = [&b"s "[..], b"quele", b"quela", b"quilo", b" "]
            .iter()
            .any(|word| after.starts_with(word));
        return Some((if one_word { vec![0xC3, 0xA0] } else { b"\xC3\xA0 ".to_vec() }, 2));
    }
    let mut bytes = rest.get(..length)?.to_vec();
    let spaces = bytes.iter().skip(1).filter(|byte| **byte == b' ').count();
    // One such sequence by itself is a word that ends in a letter.
    if spaces == 0 || spaces == length - 1 && length > 2 || whole == 0 {
        return None;
    }
    bytes.iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = 0xA0);
    std::str::from_utf8(&bytes).ok()?;
    Some((bytes, length))
}

/// How many bytes belong to a sequence of which some were lost.
fn lost(rest: &[u8], length: usize, codec: &Codec) -> Option<usize> {
    if !codec.lossy {
        return None;
    }
    if rest.first() == Some(&LOST) {
        return Some(1);
    }
    let follows = rest.get(1..length)?;
    let stands_in = |byte: &u8| *byte == LOST || (*byte == b'?' && (length > 2 || rest[0] <= 0xC3));
    let fits = follows.iter().all(|byte| (0x80..0xC0).contains(byte) || stands_in(byte));
    (fits && follows.iter().any(stands_in)).then_some(length)
}

/// A character beyond the basic plane as two surrogates of three bytes each.
fn surrogates(rest: &[u8]) -> Option<(char, usize)> {
    let &[
        0xED,
        high @ 0xA0..=0xAF,
        high_2 @ 0x80..=0xBF,
        0xED,
        low @ 0xB0..=0xBF,
        low_2 @ 0x80..=0xBF,
        ..,
    ] = rest
    else {
        return None;
    };
    let unit = |one: u8, two: u8| 0xD000 | (u32::from(one & 0x3F) << 6) | u32::from(two & 0x3F);
    let (high, low) = (unit(high, high_2) - 0xD800, unit(low, low_2) - 0xDC00);
    char::from_u32(0x10000 + (high << 10) + low).map(|c| (c, 6))
}

/// Misread pieces of a text that is right elsewhere.
fn pieces(text: &str) -> Option<String> {
    let starts: Vec<(usize, char)> = text.char_indices().collect();
    let mut fixed = String::with_capacity(text.len());
    let (mut at, mut changed) = (0, false);
    while let Some(&(start, c)) = starts.get(at) {
        let found = (!c.is_ascii())
            .then(|| piece(&starts[at..], at.checked_sub(1).map(|at| starts[at].1)))
            .flatten();
        if let Some((piece, used)) = found {
            fixed.push_str(&piece);
            at += used;
            changed = true;
        } else {
            fixed.push_str(&text[start..start + c.len_utf8()]);
            at += 1;
        }
    }
    // Between repaired pieces, this is `à` of which the second byte became a space.
    changed.then(|| fixed.replace(" Ã ", " à "))
}

/// The misread piece at the beginning, and how many characters it takes.
fn piece(rest: &[(usize, char)], before: Option<char>) -> Option<(String, usize)> {
    for codec in CODECS.iter().take(3) {
        let (mut bytes, mut used, mut sequences) = (Vec::new(), 0, 0);
        while let Some(length) = sequence(&rest[used..], codec, &mut bytes) {
            used += length;
            sequences += 1;
        }
        if sequences == 0 {
            continue;
        }
        let first = codec.byte(rest[0].1)?;
        let shown: String =
            before.into_iter().chain(rest.iter().take(used + 1).map(|(_, c)| *c)).collect();
        // Sequences of two bytes are chance, but for those that make Latin letters.
        let strong = matches!(first, 0xC3 | 0xC2 | 0xE0..=0xF4) || sequences > 1;
        let score = weirdness(&shown);
        if !strong || score < WEIRD {
            continue;
        }
        let Some(piece) = reread(&bytes, codec) else { continue };
        let after: String = before
            .into_iter()
            .chain(piece.chars())
            .chain(rest.get(used).map(|(_, c)| *c))
            .collect();
        if sounder(&shown, score, &after) {
            return Some((piece, used));
        }
    }
    None
}

/// Appends the bytes of one sequence, and says how many characters it takes.
fn sequence(rest: &[(usize, char)], codec: &Codec, bytes: &mut Vec<u8>) -> Option<usize> {
    let first = codec.byte(rest.first()?.1)?;
    let length = match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    let follows: Option<Vec<u8>> =
        rest.get(1..length)?.iter().map(|(_, c)| codec.byte(*c)).collect();
    let follows = follows?;
    let lost = codec.lossy && follows.contains(&LOST);
    let blank = first == 0xC3 && follows == [b' '];
    if !blank && !follows.iter().all(|byte| (0x80..0xC0).contains(byte) || (lost && *byte == LOST))
    {
        return None;
    }
    bytes.push(first);
    bytes.extend(follows);
    Some(length)
}

/// Control codes that were bytes of windows-1252.
fn controls(text: &str) -> Option<String> {
    let fixed: String = text.chars().map(|c| codec::windows_1252(c).unwrap_or(c)).collect();
    (fixed != text).then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::repaired;

    #[test]
    fn misread_text_is_read_again_and_good_text_stays() {
        for (text, meant) in [
            ("cafÃ© crÃ¨me", "café crème"),
            ("æ—¥æœ¬èªžã\u{81}®ãƒ†ã‚\u{ad}ã‚¹ãƒˆ", "日本語のテキスト"),
            ("itâ€™s â€œfineâ€\u{9d}", "it’s “fine”"),
            ("вЂ™s", "’s"),
            ("ПриРІет", "ПриРІет"),
            ("voilÃ  le travail", "voilà le travail"),
            ("n\u{c3}\u{192}\u{c2}\u{a9}", "né"),
            ("\u{93}quoted\u{94}", "“quoted”"),
        ] {
            assert_eq!(repaired(text).as_deref().unwrap_or(text), meant);
        }
        for text in [
            "Der Bär läuft über die Straße – „schön“ …",
            "C’est l’été à Paris ; où êtes-vous ?",
            "日本語のテキスト、「引用」です。",
            "Привет, «мир»!",
            "MANHÃ… É™",
            "x² + y² ≤ 5 · √π ± 2°",
            "Brontë…”",
            "5×£35",
            "10 Å—",
            "ÀÉÎ ÕÜ",
            "¿Qué tal? ¡Bien!",
            "ação, São Paulo, CONCLUSÃO",
        ] {
            assert_eq!(repaired(text), None, "{text}");
        }
    }
}
