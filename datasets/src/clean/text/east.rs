//! Encodings of East Asia mixed up: UTF-8 read as `Shift_JIS` or GBK (`縺薙ｓ縺ｫ縺｡縺ｯ`), and `Shift_JIS` or
//! EUC-JP read as Latin (`‚±‚ñ‚É‚¿‚Í`).

use encoding_rs::{EUC_JP, Encoding, GBK, SHIFT_JIS};

use super::codec::CODECS;

/// What the lead bytes of kana and of Japanese punctuation become in `Shift_JIS`. Good text has
/// hardly any of them.
const SHIFT_JIS_MARKS: [char; 4] = ['縺', '繧', '繝', '縲'];
/// The same in GBK.
const GBK_MARKS: [char; 5] = ['銇', '銈', '銉', '锛', '鈥'];
/// One mark in so many characters beyond ASCII makes a text misread.
const ONE_IN: usize = 12;

/// The encoding of East Asia that UTF-8 was taken for.
fn mistaken(text: &str) -> Option<&'static Encoding> {
    let (mut wide, mut shift_jis, mut gbk) = (0, 0, 0);
    for c in text.chars().filter(|c| !c.is_ascii()) {
        wide += 1;
        shift_jis += usize::from(SHIFT_JIS_MARKS.contains(&c));
        gbk += usize::from(GBK_MARKS.contains(&c));
    }
    let (marks, encoding) = if shift_jis >= gbk { (shift_jis, SHIFT_JIS) } else { (gbk, GBK) };
    (marks >= 2 && marks * ONE_IN >= wide).then_some(encoding)
}

/// UTF-8 that was read as an encoding of East Asia: as it was meant, or that it is beyond repair.
pub(super) fn reread(text: &str) -> Option<Result<String, ()>> {
    let encoding = mistaken(text)?;
    let (bytes, _, unmappable) = encoding.encode(text);
    if unmappable {
        return Some(Err(()));
    }
    let fixed =
        String::from_utf8(bytes.into_owned()).ok().filter(|fixed| mistaken(fixed).is_none());
    Some(fixed.ok_or(()))
}

/// Japanese whose bytes were read as Latin letters and signs.
pub(super) fn decoded(text: &str) -> Option<String> {
    let beyond = text.chars().filter(|c| !c.is_ascii()).count();
    if beyond < 4 {
        return None;
    }
    // Latin-1 and windows-1252.
    CODECS.iter().take(2).find_map(|codec| {
        let bytes = codec.bytes(text)?;
        [SHIFT_JIS, EUC_JP].into_iter().find_map(|encoding| {
            let (fixed, faulty) = encoding.decode_without_bom_handling(&bytes);
            (!faulty && is_japanese(&fixed)).then(|| fixed.into_owned())
        })
    })
}

/// Whether a text is Japanese as people write it: kana of full width among few other signs.
fn is_japanese(text: &str) -> bool {
    let (mut kana, mut han, mut others) = (0, 0, 0);
    for c in text.chars().filter(|c| !c.is_ascii()) {
        match c {
            '\u{3001}' | '\u{3002}' | '\u{3041}'..='\u{30FE}' => kana += 1,
            '\u{4E00}'..='\u{9FFF}' => han += 1,
            '\u{3000}'..='\u{3020}' | '\u{FF01}'..='\u{FF5E}' => {}
            _ => others += 1,
        }
    }
    kana >= 3 && kana * 3 >= han && others * 10 <= kana + han
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEANT: &str = "東京は日本の首都です。人口は約1400万人で、とても大きい。";

    fn misread(bytes: &[u8], encoding: &'static Encoding) -> String {
        encoding.decode_without_bom_handling(bytes).0.into_owned()
    }

    #[test]
    fn japanese_read_in_the_wrong_encoding_is_read_again() {
        // Only characters of which nothing is lost.
        let whole = "こんにちは世界";
        let garbled = misread(whole.as_bytes(), SHIFT_JIS);
        assert_eq!(reread(&garbled), Some(Ok(whole.to_owned())), "{garbled}");
        let sjis = SHIFT_JIS.encode(MEANT).0;
        let latin: String = sjis.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(decoded(&latin).as_deref(), Some(MEANT));
        assert_eq!(decoded(&misread(&sjis, encoding_rs::WINDOWS_1252)).as_deref(), Some(MEANT));
        let euc: String = EUC_JP.encode(MEANT).0.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(decoded(&euc).as_deref(), Some(MEANT));
    }

    #[test]
    fn what_was_lost_on_the_way_is_told_and_good_text_is_left_alone() {
        assert_eq!(reread(&misread(MEANT.as_bytes(), SHIFT_JIS)), Some(Err(())));
        for text in [
            MEANT,
            "繧の字は縺れに似ていますが、これは正しい日本語の文章です。",
            "今天天气很好，我们去公园散步吧。",
            "café – déjà vu, Señor Müller",
        ] {
            assert_eq!((reread(text), decoded(text)), (None, None), "{text}");
        }
    }
}
