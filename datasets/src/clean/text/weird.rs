//! How little sense neighbouring characters make.

/// What a character is, as far as its neighbours care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Lower,
    Upper,
    Digit,
    /// ASCII punctuation, and what stands by itself in any script.
    Plain,
    /// A small letter beyond ASCII; its script.
    AccentedLower(Script),
    /// A capital letter beyond ASCII; its script.
    AccentedUpper(Script),
    /// Quotation marks, dashes, dots: beside letters in good text.
    Mark,
    /// Symbols that good text has beside numbers or alone.
    Symbol,
    /// Symbols that good text hardly has at all.
    Hard,
    /// Lines for drawing boxes.
    Box,
    /// Control codes from 0x80 on.
    Control,
    /// A replacement character.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
}

fn kind(c: char) -> Kind {
    match c {
        'a'..='z' => Kind::Lower,
        'A'..='Z' => Kind::Upper,
        '0'..='9' => Kind::Digit,
        ' ' | '\t' | '\n' | '\r' | '\u{A0}' | '\u{3000}' => Kind::Space,
        '\u{80}'..='\u{9F}' => Kind::Control,
        '¤' | '¦' | '¨' | '¬' | '¯' | '¶' | 'ƒ' | 'ˆ' | '˜' | 'ˇ' | '˘' | '˙' | '˛' | '˝' | '†'
        | '‡' | '‰' | '‹' | '⌐' | '◊' | '₧' | '¸' | '\u{AD}' => Kind::Hard,
        '¡' | '¢' | '£' | '¥' | '€' | '§' | '©' | 'ª' | 'º' | '«' | '±' | '²' | '³' | '¹' | '¼'
        | '½' | '¾' | '¿' | '×' | '÷' | '√' | '∞' | '∂' | '∑' | '∏' | '∫' | '≈' | '≠' | '≤'
        | '≥' | '∆' | '⁄' | '‚' | '„' | '•' | '·' | 'µ' | '∩' | '≡' | 'Ω' | '°' | '⌠' | '⌡'
        | '■' | 'ⁿ' | '∙' | '№' => Kind::Symbol,
        '»' | '‘' | '’' | '“' | '”' | '…' | '–' | '—' | '™' | '®' | '›' | '´' => {
            Kind::Mark
        }
        '\u{2500}'..='\u{259F}' => Kind::Box,
        '\u{FFFD}' => Kind::Lost,
        '\u{C0}'..='\u{24F}' | '\u{1E00}'..='\u{1EFF}' => cased(c, Script::Latin),
        '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}' => cased(c, Script::Greek),
        '\u{400}'..='\u{52F}' => cased(c, Script::Cyrillic),
        '\u{5D0}'..='\u{5EA}' => Kind::AccentedLower(Script::Hebrew),
        '\u{620}'..='\u{64A}' => Kind::AccentedLower(Script::Arabic),
        _ => Kind::Plain,
    }
}

fn cased(c: char, script: Script) -> Kind {
    if c.is_uppercase() { Kind::AccentedUpper(script) } else { Kind::AccentedLower(script) }
}

fn script(kind: Kind) -> Option<Script> {
    match kind {
        Kind::Lower | Kind::Upper => Some(Script::Latin),
        Kind::AccentedLower(script) | Kind::AccentedUpper(script) => Some(script),
        _ => None,
    }
}

/// The sum over neighbours that good text does not put together; good text has 0 or 1.
pub(super) fn weirdness(text: &str) -> u32 {
    let mut sum = 0;
    let (mut earlier, mut before) = (None, ('\n', Kind::Space));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // Two plain ASCII characters say nothing, and most texts have nothing else.
        let now = if c.is_ascii() && before.0.is_ascii() {
            (c, Kind::Plain)
        } else {
            if before.0.is_ascii() {
                before.1 = kind(before.0);
            }
            let now = (c, kind(c));
            sum += pair(earlier, before, now, chars.peek().copied());
            now
        };
        (earlier, before) = (Some(before.0), now);
    }
    sum
}

fn pair(
    earlier: Option<char>,
    (a, before): (char, Kind),
    (b, now): (char, Kind),
    next: Option<char>,
) -> u32 {
    use Kind::{
        AccentedLower, AccentedUpper, Box, Control, Hard, Lost, Lower, Mark, Symbol, Upper,
    };
    let accented = |kind| matches!(kind, AccentedLower(_) | AccentedUpper(_));
    if now == Control {
        return 2;
    }
    let goes_on = next.is_some_and(char::is_alphanumeric);
    // The letters with which most of UTF-8's sequences begin, taken for Latin.
    if matches!(a, 'Ã' | 'Â') && !b.is_ascii() {
        let could_end = match b {
            '\u{A0}' => {
                earlier.is_some_and(char::is_uppercase) && !next.is_some_and(char::is_lowercase)
            }
            '’' => true,
            '”' | '»' | '…' => !goes_on,
            _ => false,
        };
        return if could_end { 0 } else { 2 };
    }
    if matches!((a, b), ('â', '™' | '€')) || (matches!((a, b), ('в', 'Ђ')) && !goes_on) {
        return 2;
    }
    if matches!(
        (a, b),
        ('â' | 'ã' | 'ä' | 'å' | 'æ' | 'ç' | 'è' | 'é', 'œ' | 'Œ' | 'ž' | 'Ž' | 'š' | 'Š' | 'Ÿ')
            | ('ð', 'Ÿ')
    ) {
        return 2;
    }
    match (before, now) {
        (before, Hard) if accented(before) => 2,
        (Lower | Upper, Hard) => 2 - u32::from(matches!(b, '¬' | '¨' | '†' | '‡' | '¯')),
        (before, Symbol) if accented(before) => u32::from(!matches!(b, '°' | '·' | '©' | '•')) * 2,
        (Lower | Upper, Symbol) => match b {
            '√' | '‚' | '€' | '£' | '¥' | '∆' | '≈' | '∂' | '∏' | '¼' | '½' | '¾' | '¢' | '≤'
            | '≥' | '„' => 2,
            '¿' | '¡' => 1,
            _ => 0,
        },
        (Hard | Symbol, now) if accented(now) => match a {
            '¡' | '¿' | '«' | '„' | '‚' | '•' | '·' | '§' | '°' => 0,
            // π, Δx and the like are beside signs of mathematics.
            _ if script(now) == Some(Script::Greek) && before == Symbol => 0,
            _ => 2,
        },
        (Symbol, Lower) if matches!(a, '°' | '«' | 'ª' | 'º' | '¼' | '½' | '¾') => {
            u32::from(a == '°') + 1
        }
        (Hard, Lower | Upper)
        | (Hard | Symbol, Hard | Symbol | Mark)
        | (Mark, Hard)
        | (Lost | Mark, Lost) => 1,
        (Mark, Symbol) => {
            u32::from(matches!(b, '¢' | '¥' | '¼' | '½' | '¾' | '¹' | '²' | '³' | 'ª' | 'º'))
        }
        (Mark, AccentedLower(Script::Latin)) => u32::from(matches!(a, '™' | '®')) * 2,
        (Lower, AccentedUpper(Script::Latin)) => 2,
        (AccentedLower(one), AccentedUpper(other)) if one == other => {
            1 + u32::from(one == Script::Latin)
        }
        (before, Box) if script(before).is_some() => 2,
        (Box, now) if script(now).is_some() => 2,
        (before, Lost) if accented(before) => 2,
        (Control, now) if accented(now) => 2,
        (before, now) => match (script(before), script(now)) {
            (Some(one), Some(other)) if one != other => 2,
            _ => 0,
        },
    }
}
