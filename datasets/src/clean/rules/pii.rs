//! Personal data: e-mail addresses, telephone numbers, cards, My Number, IBAN, IP addresses.

use regex::Regex;

use crate::clean::glance::Glance;
use crate::clean::record::Record;
use crate::clean::rule::{Finding, Rule, Verdict};

/// Masks personal data, or drops rows that have some.
///
/// Numbers count only with their check digit (cards: Luhn; My Number: ordinance no. 85 of 2014,
/// article 5; IBAN: ISO 7064 mod 97-10). Addresses under names that are set aside for examples (RFC
/// 2606) stay if they are nobody's (`info@example.com`) or stand in code.
pub(crate) struct Pii {
    drop: bool,
    kinds: Vec<Kind>,
}

/// A kind of personal data.
struct Kind {
    name: &'static str,
    mask: &'static str,
    pattern: Regex,
    counts: fn(&str, &str) -> bool,
    /// Fewest digits in a text that can have it; 0: it needs an `@`.
    digits: usize,
}

const EMAIL: &str = r"(?i)(?-u:\b)[a-z0-9][a-z0-9._%+\-]{0,63}@(?:[a-z0-9](?:[a-z0-9\-]{0,62}[a-z0-9])?\.)+[a-z]{2,24}(?-u:\b)";
const CARD: &str = r"(?-u:\b)\d(?:[ \-]?\d){12,18}(?-u:\b)";
const MY_NUMBER: &str = r"(?-u:\b)\d{4}[ \-]?\d{4}[ \-]?\d{4}(?-u:\b)";
const IBAN: &str = r"(?-u:\b)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?-u:\b)";
const IP: &str = r"(?-u:\b)(?:\d{1,3}\.){3}\d{1,3}(?-u:\b)";
const PHONE: &str = r"(?x)
    (?:\+|(?-u:\b)00)\d{1,3}[\ \-.]?(?:\(0?\d{1,4}\)|\d{1,4})(?:[\ \-.]?\d{2,4}){2,4}(?-u:\b)
  | (?-u:\b)0\d{1,4}[\-−‐（(\ ]\d{1,4}[\-−‐）)\ ]\d{3,4}(?-u:\b)
  | (?-u:\b)0[5789]0\d{8}(?-u:\b)
  | [(（]0\d{1,4}[)）][\ ]?\d{1,4}[\-−‐\ ]\d{3,4}(?-u:\b)
  | (?-u:\b)0[1-9](?:[\ .]\d{2}){4}(?-u:\b)
  | (?-u:\b)0\d{9}(?-u:\b)
  | (?-u:\b)1[\-.\ ]\(?\d{3}\)?[\-.\ ]\d{3}[\-.\ ]\d{4}(?-u:\b)
  | (?-u:\b)\d{3}[\-.]\d{4}(?-u:\b)
  | (?-u:\b)\d{3}\ \d{3}\ \d{4}(?-u:\b)
  | ０[０-９]{1,4}[－ー−\-][０-９]{1,4}[－ー−\-][０-９]{4}
  | (?:\(\d{3}\)\ ?|(?-u:\b)\d{3}[\-.])\d{3}[\-.]\d{4}(?-u:\b)";

impl Pii {
    /// Looks for the named kinds, or for all but IP addresses, which are data in too many answers.
    pub(crate) fn new(drop: bool, wanted: &[String]) -> Result<Self, regex::Error> {
        let kind = |name, mask, pattern, digits, counts: fn(&str, &str) -> bool| {
            Ok(Kind { name, mask, pattern: Regex::new(pattern)?, counts, digits })
        };
        let mut kinds = vec![
            kind("email", "[EMAIL]", EMAIL, 0, |text, found| !set_aside(text, found))?,
            kind("iban", "[IBAN]", IBAN, 12, |_, found| is_iban(found))?,
            kind("card", "[CARD]", CARD, 13, |_, found| is_card(found))?,
            kind("my_number", "[MY_NUMBER]", MY_NUMBER, 12, is_my_number)?,
            kind("phone", "[PHONE]", PHONE, 9, is_phone)?,
            kind("ip", "[IP]", IP, 4, |_, found| is_public(found))?,
        ];
        let listed = |kind: &Kind| wanted.iter().any(|name| name == kind.name);
        kinds.retain(|kind| if wanted.is_empty() { kind.name != "ip" } else { listed(kind) });
        Ok(Self { drop, kinds })
    }

    /// The text with masks, and what was found first.
    fn masked(&self, text: &str) -> Option<(String, &'static str, String)> {
        let at = text.contains('@');
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let wide = text.contains('０');
        if !at && digits < 4 && !wide {
            return None;
        }
        let mut masked: Option<(String, &'static str, String)> = None;
        for kind in &self.kinds {
            let possible = match kind.digits {
                0 => at,
                least => digits >= least || (wide && kind.name == "phone"),
            };
            if !possible {
                continue;
            }
            let now = masked.as_ref().map_or(text, |(text, ..)| text.as_str());
            let found: Vec<(usize, usize)> = kind
                .pattern
                .find_iter(now)
                .filter(|found| (kind.counts)(now, found.as_str()))
                .map(|found| (found.start(), found.end()))
                .collect();
            let Some(&(start, end)) = found.first() else { continue };
            let evidence = half_hidden(&now[start..end]);
            let mut clean = String::with_capacity(now.len());
            let mut last = 0;
            for (start, end) in found {
                clean.push_str(&now[last..start]);
                clean.push_str(kind.mask);
                last = end;
            }
            clean.push_str(&now[last..]);
            let (name, evidence) = match masked {
                Some((_, name, evidence)) => (name, evidence),
                None => (kind.name, evidence),
            };
            masked = Some((clean, name, evidence));
        }
        masked
    }
}

impl Rule for Pii {
    fn name(&self) -> &'static str {
        "pii"
    }

    fn judge(&self, record: &mut Record) -> Verdict {
        if !record.glance().has_any(const { Glance::those(b"@0123456789\xEF") }) {
            return Verdict::Keep;
        }
        let mut found = None;
        for turn in &mut record.turns {
            let Some((clean, name, evidence)) = self.masked(&turn.text) else { continue };
            let finding = Finding::new(format!("personal data: {name}"), &evidence);
            if self.drop {
                return Verdict::Drop(finding);
            }
            turn.text = clean;
            found.get_or_insert(finding);
        }
        found.map_or(Verdict::Keep, Verdict::Repair)
    }
}

/// Evidence that does not spread what it found: the first and last two characters.
fn half_hidden(text: &str) -> String {
    let count = text.chars().count();
    let hide = |(at, c): (usize, char)| if at < 2 || at + 2 >= count { c } else { '*' };
    text.chars().enumerate().map(hide).collect()
}

/// Addresses under names that nobody can own, where they are no person's or stand in code.
fn set_aside(text: &str, address: &str) -> bool {
    let (local, domain) = address.rsplit_once('@').unwrap_or_default();
    let (local, domain) = (local.to_lowercase(), domain.to_lowercase());
    let ends = [
        "example.com",
        "example.org",
        "example.net",
        ".example",
        ".test",
        ".invalid",
        ".localhost",
    ];
    let nobodys = domain.starts_with("example.")
        || domain.contains(".example.")
        || ends.iter().any(|end| domain.ends_with(end));
    let start = address.as_ptr() as usize - text.as_ptr() as usize;
    let quoted = text[..start].ends_with(['"', '\'', '`', '<', ':', '/']);
    let role = local.trim_end_matches(|c: char| c.is_ascii_digit());
    nobodys && (quoted || text.contains("```") || ROLES.contains(&role))
}

/// What addresses are called that are no person's.
const ROLES: [&str; 36] = [
    "info",
    "support",
    "help",
    "contact",
    "user",
    "username",
    "name",
    "you",
    "your",
    "yourname",
    "your.name",
    "your_name",
    "your.email",
    "your_email",
    "youremail",
    "email",
    "mail",
    "me",
    "someone",
    "somebody",
    "test",
    "admin",
    "hello",
    "sales",
    "noreply",
    "no-reply",
    "example",
    "sample",
    "foo",
    "abc",
    "office",
    "service",
    "team",
    "press",
    "billing",
    "postmaster",
];

fn digits_of(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// Luhn's check digit, and the first digit of a card scheme with the length that it uses.
fn is_card(text: &str) -> bool {
    let digits = digits_of(text);
    let scheme = matches!(
        (digits.first(), digits.get(1), digits.len()),
        (Some(3), Some(4 | 7), 15)
            | (Some(3), Some(0 | 5 | 6 | 8 | 9), 14..=16)
            | (Some(4), _, 13 | 16 | 19)
            | (Some(2 | 5), _, 16)
            | (Some(6), _, 16..=19)
    );
    let luhn = |sum: u32, (at, digit): (usize, &u32)| {
        let doubled = if at % 2 == 1 { digit * 2 } else { *digit };
        sum + if doubled > 9 { doubled - 9 } else { doubled }
    };
    let same = digits.windows(2).all(|pair| pair[0] == pair[1]);
    scheme && !same && digits.iter().rev().enumerate().fold(0, luhn).is_multiple_of(10)
}

/// Twelve digits with the check digit of Japan's individual number, in groups of four or beside its
/// name (one in eleven numbers has the right digit by chance).
fn is_my_number(text: &str, found: &str) -> bool {
    let digits = digits_of(found);
    let Some((check, rest)) = digits.split_last() else { return false };
    // Q(n) is n + 1 for n up to 6 and n - 5 beyond, n counted from the right.
    let weighed: u32 =
        rest.iter().rev().zip([2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6]).map(|(d, q)| d * q).sum();
    let wanted = match weighed % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    };
    let named = [
        "マイナンバー",
        "個人番号",
        "My Number",
        "my number",
        "MyNumber",
        "my_number",
        "Individual Number",
        "individual number",
    ];
    let grouped = found.len() == 14;
    *check == wanted
        && digits.iter().any(|digit| *digit != 0)
        && (grouped || named.iter().any(|name| text.contains(name)))
}

/// Words beside a number that make it one to call, in lower case.
const CALLED: [&str; 13] = [
    "tel",
    "phone",
    "call",
    "fax",
    "mobile",
    "cell",
    "dial",
    "number is",
    "電話",
    "携帯",
    "連絡先",
    "ファックス",
    "お問い合わせ",
];

fn is_phone(text: &str, found: &str) -> bool {
    let count = found.chars().filter(|c| c.is_numeric()).count();
    let international = found.starts_with('+') || found.starts_with("00");
    // A sum or a date with dashes on both sides is no number to call.
    let start = found.as_ptr() as usize - text.as_ptr() as usize;
    let beside =
        |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '='));
    let zeros = found.starts_with("00");
    let within = zeros && text[..start].trim_end().ends_with(|c: char| c.is_ascii_digit());
    let (before, after) = (text[..start].chars().next_back(), &text[start + found.len()..]);
    let mut rest = after.chars();
    let next = rest.next();
    let goes_on =
        matches!(next, Some('-' | '.' | '/')) && rest.next().is_some_and(|c| c.is_ascii_digit());
    if within || beside(before) || goes_on || next.is_some_and(|c| c.is_ascii_digit()) {
        return false;
    }
    // Few digits, or digits without marks, can be anything: a word must say what they are.
    let bare = found.bytes().all(|byte| byte.is_ascii_digit());
    let american = !found.starts_with(['0', '０', '+', '(', '（']);
    let spaced = american && found.contains(' ') && !found.contains('-');
    let range = if international { 9..=15 } else { 10..=11 };
    // Seven digits that telephone companies keep free for fiction.
    if count == 7 && ["555-0", "555.0"].iter().any(|start| found.starts_with(start)) {
        return false;
    }
    if count == 7 || (bare && count == 10) || spaced {
        let near = text[..start].char_indices().rev().nth(24).map_or(0, |(at, _)| at);
        let near = text[near..start].to_lowercase();
        return CALLED.iter().any(|word| near.contains(word));
    }
    range.contains(&count)
}

fn is_iban(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (head, rest) = compact.split_at(4.min(compact.len()));
    let value = |rest: u32, c: char| {
        let value = c.to_digit(36).unwrap_or_default();
        let scale = if value > 9 { 100 } else { 10 };
        (rest * scale + value) % 97
    };
    (15..=34).contains(&compact.len()) && rest.chars().chain(head.chars()).fold(0, value) == 1
}

/// An address that is someone's: not private, not reserved, not for documents.
fn is_public(text: &str) -> bool {
    let Ok(ip) = text.parse::<std::net::Ipv4Addr>() else { return false };
    let [first, ..] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_unspecified()
        || ip.is_multicast()
        || first == 0
        || first >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_someones_is_masked_and_what_is_nobodys_stays() {
        let rule = Pii::new(false, &[]).unwrap();
        let clean = |text: &str| rule.masked(text).map(|(text, ..)| text);
        let masked = |text: &str| clean(text).unwrap_or_else(|| text.to_owned());
        assert_eq!(masked("Write to taro.yamada@mail.co.jp now"), "Write to [EMAIL] now");
        assert_eq!(masked("Pay with 4539 1488 0343 6467 today"), "Pay with [CARD] today");
        assert_eq!(masked("電話は090-1234-5678です"), "電話は[PHONE]です");
        assert_eq!(masked("03-3456-7890 / 09012345678"), "[PHONE] / [PHONE]");
        assert_eq!(masked("Call (212) 736-5000 or +44 20 7946 0958."), "Call [PHONE] or [PHONE].");
        assert_eq!(masked("マイナンバーは123456789018です"), "マイナンバーは[MY_NUMBER]です");
        assert_eq!(masked("IBAN DE89 3704 0044 0532 0130 00"), "IBAN [IBAN]");
        assert_eq!(masked("hanako.sato@example.com"), "[EMAIL]");
        assert_eq!(masked("call 736-5000 or 1-800-736-5000"), "call [PHONE] or [PHONE]");
        assert_eq!(masked("TEL: 0312345678, (03) 1234-5678"), "TEL: [PHONE], [PHONE]");
        assert_eq!(masked("フリーダイヤル0120-123-456まで"), "フリーダイヤル[PHONE]まで");
        assert_eq!(masked("電話（03）1234-5678"), "電話[PHONE]");
        for text in [
            "ask info@example.com",
            "office42@example.com",
            "assert valid(\"bob@example.com\")",
            "pages 736-5000",
            "call 555-0142",
            "It has 800 555 1234 parts",
            "4539 1488 0343 6468",
            "2023-10-05",
            "1234567890123",
            "番号は123456789018です",
            "3.14159265358979",
            "https://a.b/1234567890",
            "10.0.0.1",
            "1,000,000,000 + 2",
            "0.1234-5678-9012",
        ] {
            assert_eq!(clean(text), None, "{text}");
        }
        let ips = Pii::new(false, &["ip".to_owned()]).unwrap();
        assert!(ips.masked("from 8.8.8.8").is_some() && ips.masked("from 192.168.0.1").is_none());
        assert_eq!(half_hidden("taro@mail.jp"), "ta********jp");
    }
}
