//! Which language a text is in: by its script, then by its commonest words, then by its trigrams.

use std::sync::LazyLock;

use whatlang::{Lang, Script};

/// A language, as far as rows need to be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    /// Kana are there.
    Japanese,
    /// Characters that Chinese and Japanese share, too few to tell.
    Han,
    /// One of the languages in Cyrillic letters.
    Cyrillic,
    /// What whatlang calls it.
    Other(Lang),
}

impl Language {
    /// Whether two languages are surely not the same.
    pub(crate) fn differs(self, other: Self) -> bool {
        let chinese = |it| it == Self::Other(Lang::Cmn);
        let han = |it| matches!(it, Self::Han | Self::Japanese) || chinese(it);
        let cyrillic = |it| {
            use Lang::{Bel, Bul, Mkd, Rus, Srp, Ukr};
            matches!(it, Self::Cyrillic | Self::Other(Bel | Bul | Mkd | Rus | Srp | Ukr))
        };
        match (self, other) {
            (Self::Han, other) | (other, Self::Han) => !han(other),
            (Self::Cyrillic, other) | (other, Self::Cyrillic) => !cyrillic(other),
            (one, other) => one != other,
        }
    }

    /// Whether it is written in characters of East Asia.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Japanese | Self::Han | Self::Other(Lang::Cmn | Lang::Kor))
    }

    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Japanese => "Japanese",
            Self::Han => "Chinese characters",
            Self::Cyrillic => "Cyrillic letters",
            Self::Other(Lang::Cmn) => "Chinese",
            Self::Other(lang) => lang.eng_name(),
        }
    }

    /// By a code of ISO 639-1 or 639-3.
    pub(crate) fn from_code(code: &str) -> Option<Self> {
        let code = code.to_ascii_lowercase();
        let three =
            SHORT.iter().find(|(two, _)| *two == code).map_or(code.as_str(), |(_, three)| three);
        match three {
            "jpn" => Some(Self::Japanese),
            three => Lang::from_code(three).map(Self::Other),
        }
    }
}

/// The code of the language that a text is in, of two letters where there is one; none if the text
/// does not say clearly.
pub fn language_of(text: &str) -> Option<&'static str> {
    match of(text)? {
        Language::Japanese => Some("ja"),
        Language::Han => Some("zh"),
        Language::Cyrillic => None,
        Language::Other(lang) => {
            let three = lang.code();
            let more = [
                ("bn", "ben"),
                ("gu", "guj"),
                ("kn", "kan"),
                ("ml", "mal"),
                ("mr", "mar"),
                ("ne", "nep"),
                ("pa", "pan"),
                ("ta", "tam"),
                ("te", "tel"),
                ("ur", "urd"),
                ("fa", "pes"),
                ("sw", "swa"),
            ];
            let all = SHORT.iter().copied().chain(more);
            Some(all.into_iter().find(|(_, own)| *own == three).map_or(three, |(two, _)| two))
        }
    }
}

/// Two-letter codes.
const SHORT: [(&str, &str); 30] = [
    ("en", "eng"),
    ("ja", "jpn"),
    ("zh", "cmn"),
    ("ko", "kor"),
    ("fr", "fra"),
    ("de", "deu"),
    ("es", "spa"),
    ("it", "ita"),
    ("pt", "por"),
    ("ru", "rus"),
    ("uk", "ukr"),
    ("pl", "pol"),
    ("nl", "nld"),
    ("sv", "swe"),
    ("da", "dan"),
    ("no", "nob"),
    ("nb", "nob"),
    ("fi", "fin"),
    ("cs", "ces"),
    ("tr", "tur"),
    ("ar", "arb"),
    ("he", "heb"),
    ("hi", "hin"),
    ("th", "tha"),
    ("vi", "vie"),
    ("id", "ind"),
    ("el", "ell"),
    ("hu", "hun"),
    ("ro", "ron"),
    ("fa", "pes"),
];

/// Common words of languages in Latin letters, at most eight bytes each.
const WORDS: [(Lang, &str); 17] = [
    (
        Lang::Eng,
        "the and of is to in that with are this for you it was be as can by your have from what how \
         an or not will at which their has i a",
    ),
    (
        Lang::Fra,
        "le les des est et une dans pour qui sur pas avec vous nous du ce cette sont il elle aux la \
         je un que en",
    ),
    (
        Lang::Deu,
        "der die und das ist nicht ein eine mit auf für von sie den dem zu ich wie auch es werden \
         sind sich im oder",
    ),
    (
        Lang::Spa,
        "el los las una por con para es como del su más pero está son qué se al y la un que en",
    ),
    (
        Lang::Ita,
        "il gli della che di per sono non una è con del nel alla più anche come questo la un dei",
    ),
    (Lang::Por, "os uma não para com são do da em você mais ao é dos pelo isso o um que como na"),
    (Lang::Nld, "het een van en niet zijn dat voor met ook ik je wordt naar bij aan de"),
    (Lang::Pol, "nie się jest że jak ale przez są być oraz dla jego który od jako tym"),
    (Lang::Tur, "bir ve bu için ile olarak çok daha gibi olan değil kadar sonra vardır"),
    (Lang::Vie, "là và của có cho không một các được trong với người này những để"),
    (Lang::Ces, "že jsem ale jako který jsou také být pro není nebo při jeho které"),
    (Lang::Swe, "och att det är som på för med inte av om ett jag till"),
    (Lang::Dan, "og det er som på med ikke af et jeg til"),
    (Lang::Nob, "og det er som på med ikke av et jeg til"),
    (Lang::Fin, "ja ei että oli hän mutta ovat joka kun niin myös kuin"),
    (Lang::Hun, "az és hogy nem egy ez volt meg csak már vagy azt amely"),
    (Lang::Ron, "și în nu cu este un din care mai că pentru sunt"),
];

/// Words with the languages that have them, a bit each, by hash.
static COMMON: LazyLock<Vec<(u64, u32)>> = LazyLock::new(|| {
    let mut table = vec![(0, 0); SLOTS];
    for (at, (_, words)) in WORDS.iter().enumerate() {
        for word in words.split(' ') {
            let key = word.bytes().fold(0, |key, byte| key << 8 | u64::from(byte));
            let slot = slot(&table, key);
            table[slot] = (key, table[slot].1 | 1 << at);
        }
    }
    table
});
/// Places of that table, more than twice as many as words.
const SLOTS: usize = 1024;
/// Bytes of the longest word in it.
const LONGEST: usize = 8;

/// Where a word stands in the table, or would.
fn slot(table: &[(u64, u32)], key: u64) -> usize {
    let mut at = usize::try_from(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54).unwrap_or_default();
    while table[at].0 != key && table[at].0 != 0 {
        at = (at + 1) % SLOTS;
    }
    at
}

/// How many words a text has, and how many of them each language of [`WORDS`] has too.
#[derive(Default)]
struct Counts {
    words: usize,
    common: [usize; WORDS.len()],
}

impl Counts {
    fn of(text: &str) -> Self {
        let mut counts = Self::default();
        let (mut key, mut length) = (0_u64, 0_usize);
        let mut buffer = [0; 4];
        for c in text.chars().chain(std::iter::once(' ')) {
            if c.is_ascii_alphabetic() {
                key = key << 8 | u64::from(u32::from(c.to_ascii_lowercase()));
                length += 1;
            } else if !c.is_ascii() && c.is_alphabetic() {
                for lower in c.to_lowercase() {
                    for byte in lower.encode_utf8(&mut buffer).bytes() {
                        key = key << 8 | u64::from(byte);
                        length += 1;
                    }
                }
            } else if length > 0 {
                counts.end(key, length);
                (key, length) = (0, 0);
            }
        }
        counts
    }

    /// Takes up a word.
    fn end(&mut self, key: u64, length: usize) {
        self.words += 1;
        if length > LONGEST {
            return;
        }
        let mut languages = COMMON[slot(&COMMON, key)].1;
        while languages != 0 {
            self.common[languages.trailing_zeros() as usize] += 1;
            languages &= languages - 1;
        }
    }

    /// The language with most words, how many, and how many the next has.
    fn best(&self) -> (Lang, usize, usize) {
        let (mut best, mut most, mut second) = (0, 0, 0);
        for (at, &count) in self.common.iter().enumerate() {
            if count > most {
                (best, most, second) = (at, count, most);
            } else {
                second = second.max(count);
            }
        }
        (WORDS[best].0, most, second)
    }
}

/// Languages in Latin letters that trigrams tell from lists of names and terms; others are guessed
/// too often.
const LATIN: [Lang; 17] = [
    Lang::Eng,
    Lang::Fra,
    Lang::Deu,
    Lang::Spa,
    Lang::Ita,
    Lang::Por,
    Lang::Nld,
    Lang::Pol,
    Lang::Tur,
    Lang::Vie,
    Lang::Ces,
    Lang::Swe,
    Lang::Dan,
    Lang::Nob,
    Lang::Fin,
    Lang::Hun,
    Lang::Ron,
];

/// Characters that are looked at.
const LOOKED_AT: usize = 600;
/// Fewest letters to judge by.
const LEAST_LETTERS: usize = 20;

/// The language of a text, if it is long and plain enough to tell.
pub(crate) fn of(text: &str) -> Option<Language> {
    let head = text.char_indices().nth(LOOKED_AT).map_or(text, |(at, _)| &text[..at]);
    if head.is_ascii() {
        return latin(head);
    }
    let (mut kana, mut han, mut hangul, mut ascii, mut other) = (0, 0, 0, 0, 0);
    for c in head.chars() {
        match c {
            'a'..='z' | 'A'..='Z' => ascii += 1,
            '\u{3041}'..='\u{30FA}' | '\u{30FC}'..='\u{30FF}' | '\u{FF66}'..='\u{FF9D}' => {
                kana += 1;
            }
            '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' => han += 1,
            '\u{1100}'..='\u{11FF}' | '\u{AC00}'..='\u{D7A3}' => hangul += 1,
            c if c.is_alphabetic() => other += 1,
            _ => {}
        }
    }
    let wide = kana + han + hangul;
    // A character of these scripts says as much as two or three letters. Where both are, a text
    // speaks of one language in another, and which it is in is not clear.
    if wide > 0 && (wide * 2 > ascii + other || wide >= 6) {
        if wide < 8 || wide < ascii + other {
            return None;
        }
        if hangul * 2 > wide {
            return Some(Language::Other(Lang::Kor));
        }
        // One kana in ten: Chinese texts hold some as names or decoration.
        if kana * 10 >= wide {
            return Some(Language::Japanese);
        }
        return Some(if han >= 30 && kana == 0 {
            Language::Other(Lang::Cmn)
        } else {
            Language::Han
        });
    }
    if other > ascii {
        if other < LEAST_LETTERS {
            return None;
        }
        let info = whatlang::detect(head)?;
        let sure = info.confidence() > 0.8;
        return match info.script() {
            Script::Cyrillic if !sure => Some(Language::Cyrillic),
            Script::Latin if !sure => None,
            // Other scripts are of one language, or of a few that are rarely mixed up.
            _ => Some(Language::Other(info.lang())),
        };
    }
    latin(head)
}

/// The language of a text in Latin letters.
fn latin(text: &str) -> Option<Language> {
    if text.bytes().filter(u8::is_ascii_alphabetic).count() < LEAST_LETTERS || looks_like_code(text)
    {
        return None;
    }
    let counts = Counts::of(text);
    let (best, most, second) = counts.best();
    if most >= 3 && most * 6 >= counts.words && most >= 2 * second {
        return Some(Language::Other(best));
    }
    // A text without any of these words and without accents is a list, a name or no language.
    if counts.words < 8 || (most < 2 && text.is_ascii()) {
        return None;
    }
    let info = whatlang::detect(text)?;
    let sure = info.is_reliable() && info.confidence() > 0.95 && LATIN.contains(&info.lang());
    sure.then(|| Language::Other(info.lang()))
}

/// Whether there are more marks than prose has.
fn looks_like_code(text: &str) -> bool {
    let marks = text.bytes().filter(|byte| b"{}()[]<>=;_\\/|#$*+`:\"".contains(byte)).count();
    marks * 12 > text.len() || text.contains("```")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart_and_doubt_is_admitted() {
        let name = |text: &str| of(text).map(Language::name);
        assert_eq!(name("What is the capital of France and how big is it?"), Some("English"));
        assert_eq!(name("日本の首都はどこですか。"), Some("Japanese"));
        assert_eq!(name("Pythonでリストを並べ替える方法を教えてください"), Some("Japanese"));
        assert_eq!(name("한국의 수도는 어디입니까?"), Some("Korean"));
        assert_eq!(
            name("Quelle est la capitale de la France et combien de personnes y vivent ?"),
            Some("French")
        );
        assert_eq!(name("Wie hoch ist der Berg und wie kommt man auf den Gipfel?"), Some("German"));
        let russian = of("Какая столица России и сколько людей там живёт сегодня?").unwrap();
        assert!(
            russian.differs(Language::Other(Lang::Eng)) && !russian.differs(Language::Cyrillic)
        );
        assert_eq!(name("Paris"), None);
        assert_eq!(
            name("1. 椎名林檎 (Shiina Ringo)\n2. ONE OK ROCK\n3. Namie Amuro\n4. Perfume"),
            None
        );
        assert_eq!(name("what does this mean\n\n超次元の究極バトル"), None);
        assert_eq!(name("x = [i for i in range(10)]; print(x)"), None);
        assert!(!Language::Han.differs(Language::Japanese));
        assert!(Language::Japanese.differs(Language::Other(Lang::Eng)));
    }
}
