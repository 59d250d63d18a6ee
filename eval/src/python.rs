//! Values as Python writes and reads them, because hashes of tasks are hashes of Python's words.

use serde_json::{Map, Number, Value};

/// A value as `str()` gives it: text as it is, all else as `repr()`.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// A value as `repr()` gives it.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_text(number),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), repr(value));
            let pairs: Vec<String> = fields.iter().map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn number_text(number: &Number) -> String {
    if number.is_f64() {
        float_text(number.as_f64().unwrap_or(f64::NAN))
    } else {
        number.to_string()
    }
}

/// A float as `repr()` gives it: the shortest digits that read back, with an exponent below 1e-4 and
/// from 1e16 on.
pub(crate) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// A text in quotes.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let escaped = match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
                out.push_str(&escaped);
            }
        }
    }
    out.push(quote);
    out
}

/// Whether `repr()` shows a character as it is: controls, marks of format, spaces but the plain one and
/// what is for private use are escaped.
fn is_printable(c: char) -> bool {
    !matches!(u32::from(c),
        0..=0x1f | 0x7f..=0xa0 | 0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x1680 | 0x180e
        | 0x2000..=0x200f | 0x2028..=0x202f | 0x205f..=0x206f | 0x3000 | 0xe000..=0xf8ff | 0xfeff
        | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe0000..=0xe0fff | 0xf0000..=0x0010_ffff)
}

/// JSON as `json.dumps(value, indent=2, ensure_ascii=False)` gives it.
pub(crate) fn dumped(value: &Value) -> String {
    let mut out = String::new();
    dump(value, 0, &mut out);
    out
}

fn dump(value: &Value, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Number(number) if number.is_f64() => out.push_str(&number_text(number)),
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                line(out, depth + 1);
                dump(item, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (at, (key, item)) in fields.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                line(out, depth + 1);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                dump(item, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Whether Python calls a character white space.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.capitalize()`: the first character large, all others small.
pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        None => String::new(),
        Some(first) => {
            first.to_uppercase().chain(letters.as_str().to_lowercase().chars()).collect()
        }
    }
}

/// A literal of Python (`ast.literal_eval`): numbers, texts, lists, tuples, dictionaries, `True`,
/// `False`, `None`. Tuples become lists.
pub(crate) fn literal(text: &str) -> Option<Value> {
    let letters: Vec<char> = text.trim().chars().collect();
    let mut reader = Reader { letters: &letters, at: 0, depth: 0 };
    let value = reader.value()?;
    reader.space();
    (reader.at == letters.len()).then_some(value)
}

struct Reader<'a> {
    letters: &'a [char],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Option<Value> {
        const DEEPEST: usize = 64;
        self.space();
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = match self.peek()? {
            '[' => self.list('[', ']').map(Value::Array),
            '(' => self.list('(', ')').map(Value::Array),
            '{' => self.dictionary(),
            '\'' | '"' => {
                let mut text = self.text()?;
                // Texts beside each other are one.
                loop {
                    self.space();
                    match self.peek() {
                        Some('\'' | '"') => text += &self.text()?,
                        _ => break Some(Value::String(text)),
                    }
                }
            }
            _ => self.word(),
        };
        self.depth -= 1;
        value
    }

    fn list(&mut self, open: char, close: char) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        self.eat(open).then_some(())?;
        while !self.eat(close) {
            items.push(self.value()?);
            if !self.eat(',') {
                self.eat(close).then_some(())?;
                break;
            }
        }
        Some(items)
    }

    fn dictionary(&mut self) -> Option<Value> {
        let mut fields = Map::new();
        self.eat('{').then_some(())?;
        while !self.eat('}') {
            let Value::String(key) = self.value()? else { return None };
            self.eat(':').then_some(())?;
            fields.insert(key, self.value()?);
            if !self.eat(',') {
                self.eat('}').then_some(())?;
                break;
            }
        }
        Some(Value::Object(fields))
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.peek()?;
        self.at += 1;
        let mut out = String::new();
        loop {
            let c = self.peek()?;
            self.at += 1;
            match c {
                c if c == quote => return Some(out),
                '\n' => return None,
                '\\' => self.escape(&mut out)?,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let c = self.peek()?;
        self.at += 1;
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let hex: String = self.letters.get(self.at..self.at + digits)?.iter().collect();
            self.at += digits;
            out.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
            return Some(());
        }
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '\n' => {}
            '\\' | '\'' | '"' => out.push(c),
            other => out.extend(['\\', other]),
        }
        Some(())
    }

    fn word(&mut self) -> Option<Value> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || "+-._".contains(c)) {
            self.at += 1;
        }
        let word: String = self.letters[start..self.at].iter().collect();
        match word.as_str() {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            word => match word.parse::<i64>() {
                Ok(whole) => Some(whole.into()),
                Err(_) if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    word.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
                }
                Err(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_python_writes_them() {
        assert_eq!(repr(&json!(["it's", "a \"b\"", "c'd\"e"])), r#"["it's", 'a "b"', 'c\'d"e']"#);
        assert_eq!(
            repr(&json!({"a": null, "b": [true, 1, 2.0]})),
            "{'a': None, 'b': [True, 1, 2.0]}"
        );
        assert_eq!(
            repr(&json!("a\n\t\\\u{a0}\u{3000}日本\u{1f600}")),
            "'a\\n\\t\\\\\\xa0\\u3000日本\u{1f600}'"
        );
        for (value, text) in [
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (123.456, "123.456"),
            (1e-7, "1e-07"),
            (1e22, "1e+22"),
        ] {
            assert_eq!(float_text(value), text);
        }
    }

    #[test]
    fn literals_of_python_are_read() {
        assert_eq!(
            literal("['a', \"b's\", 'c\\'d', 'x\\ny']"),
            Some(json!(["a", "b's", "c'd", "x\ny"]))
        );
        assert_eq!(literal("('a', 1, 2.5, None, True,)"), Some(json!(["a", 1, 2.5, null, true])));
        assert_eq!(literal("{'a': [1, -2]}"), Some(json!({"a": [1, -2]})));
        assert_eq!(literal("'one' 'two'"), Some(json!("onetwo")));
        for wrong in ["[a]", "['a'", "__import__('os')", "", "[1 2]", "'a"] {
            assert_eq!(literal(wrong), None, "{wrong}");
        }
        assert_eq!(literal(&"[".repeat(100_000)), None);
    }

    #[test]
    fn a_value_that_is_written_is_read_again() {
        let value = json!(["a'b\"c\\", {"k": [1, 2.5, null]}, "日本\n"]);
        assert_eq!(literal(&repr(&value)), Some(value));
    }
}
