//! Compares text repair with the published cases of ftfy: `cargo run -p ft-datasets --example
//! ftfy_cases -- test_cases.json`, the file being `tests/test_cases.json` of its source package.
//!
//! Equal means that misread text became what ftfy's authors say it should (`fixed-encoding`, or
//! `fixed` where that is absent). What ftfy does after that, such as straightening quotation marks
//! and narrowing full-width commas, is no damage and is left alone here; with `--plain` it is done
//! in this program, so that `fixed` can be compared too.
#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;

use ft_datasets::clean::text::repaired;
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let mut path = None;
    let mut plain = false;
    for argument in std::env::args().skip(1) {
        if argument == "--plain" { plain = true } else { path = Some(argument) }
    }
    let text = std::fs::read_to_string(path.ok_or("name the file of cases")?)?;
    let cases: Vec<Value> = serde_json::from_str(&text)?;
    let (mut passing, mut equal, mut all_equal) = (0, 0, 0);
    for case in &cases {
        let field = |name: &str| case.get(name).and_then(Value::as_str);
        let (Some(original), Some(fixed)) = (field("original"), field("fixed")) else { continue };
        let wanted =
            if plain { fixed } else { field("fixed-encoding").unwrap_or(fixed) }.to_owned();
        let mut got = repaired(original).unwrap_or_else(|| original.to_owned());
        if plain {
            got = straightened(&got);
        }
        let same = got == wanted;
        all_equal += usize::from(same);
        // Cases marked so are ones that ftfy itself does not fulfil.
        if field("expect") == Some("pass") {
            passing += 1;
            equal += usize::from(same);
            if !same {
                println!(
                    "{}\n  from   {original:?}\n  got    {got:?}\n  wanted {wanted:?}",
                    field("label").unwrap_or_default()
                );
            }
        }
    }
    println!(
        "{equal} of {passing} cases equal ({:.1} %); of all {} cases, with those that ftfy fails, {all_equal}",
        100.0 * f64::from(u32::try_from(equal)?) / f64::from(u32::try_from(passing)?),
        cases.len()
    );
    Ok(())
}

/// ftfy's other steps, as far as its cases need them.
fn straightened(text: &str) -> String {
    let mut plain = String::new();
    for c in text.replace("&frac14;", "¼").chars() {
        match c {
            '“' | '”' | '„' | '‟' => plain.push('"'),
            '‘' | '’' | '‚' | '‛' => plain.push('\''),
            'ŉ' => plain.push_str("'n"),
            'ﬁ' => plain.push_str("fi"),
            'ﬂ' => plain.push_str("fl"),
            'ǌ' => plain.push_str("nj"),
            'ǉ' => plain.push_str("lj"),
            '\u{FF01}'..='\u{FF5E}' => {
                plain.extend(char::from_u32(u32::from(c) - 0xFF01 + 0x21));
            }
            '\u{1A}' => {}
            c => plain.push(c),
        }
    }
    repaired(&plain).unwrap_or(plain)
}
