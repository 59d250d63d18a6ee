//! An Ollama Modelfile: where the model is, its template in Go's words, and where it stops.
//!
//! The chat template is Jinja, and Ollama's is Go. It is rendered with marks in the place of messages, and what stands
//! around them becomes the Go template; a conversation rendered by both must then be the same text.

use std::fmt::Write as _;

use ft_datasets::chat::{Conversation, Message};
use ft_datasets::template::{RenderOptions, Template};
use ft_datasets::tokenizer::Tokenizer;

const MARKS: [&str; 5] = ["MARKSYSTEM", "MARKFIRST", "MARKANSWER", "MARKSECOND", "MARKREPLY"];

/// What stands before and behind a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Around {
    before: String,
    behind: String,
}

/// A template taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Before all, where there is no system message.
    start: String,
    system: Option<Around>,
    user: Around,
    assistant: Around,
    /// What begins an answer.
    opening: String,
}

/// The text of a Modelfile for a file beside it.
pub(crate) fn modelfile(file: &str, template: Option<&Template>, tokenizer: &Tokenizer) -> String {
    let mut text = format!("FROM ./{file}\n");
    match template.map(|template| go_template(template, tokenizer)) {
        Some(Some(go)) => {
            let _ = writeln!(text, "TEMPLATE \"\"\"{go}\"\"\"");
        }
        Some(None) => {
            text += "# The chat template does more than Go's can be made to say; Ollama reads the one in the file.\n";
        }
        None => text += "# The model has no chat template.\n",
    }
    for id in tokenizer.eos_ids() {
        if let Some(stop) = tokenizer.token(*id).filter(|stop| !stop.contains('"')) {
            let _ = writeln!(text, "PARAMETER stop \"{stop}\"");
        }
    }
    text
}

fn render(template: &Template, roles: &[(&str, &str)], opening: bool) -> Option<String> {
    let messages = roles.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let options = RenderOptions { add_generation_prompt: opening, ..RenderOptions::default() };
    let rendered = template.render(&Conversation::new(messages), &options, &[]);
    rendered.ok().map(|rendered| rendered.text)
}

/// The Go template that renders as this one does, if there is one of the usual form.
fn go_template(template: &Template, tokenizer: &Tokenizer) -> Option<String> {
    let parts = parts(template)?;
    let bos = tokenizer.bos().and_then(|bos| tokenizer.token(bos)).unwrap_or_default();
    // Two conversations of other lengths and words.
    let system = parts.system.as_ref().map(|_| ("system", "Be  brief."));
    let turns = [("user", "One?"), ("assistant", "Two."), ("user", "Three\nfour?")];
    let whole: Vec<(&str, &str)> = system.into_iter().chain(turns).collect();
    for roles in [&whole[..], &whole[..whole.len() - 2], &turns[..], &turns[..1]] {
        if render(template, roles, true)? != as_go(&parts, roles) {
            return None;
        }
    }
    let escaped = |text: &str| {
        if text.contains("{{") || text.contains("\"\"\"") { None } else { Some(text.to_owned()) }
    };
    // Ollama puts the beginning of text there itself.
    let begun = |text: &str| text.strip_prefix(bos.as_str()).unwrap_or(text).to_owned();
    let mut go = match (&parts.system, escaped(&begun(&parts.start))?) {
        (Some(_), start) if !start.is_empty() => {
            format!("{{{{- if not .System }}}}{start}{{{{- end }}}}")
        }
        (_, start) => start,
    };
    go += "{{- range .Messages }}";
    let mut branch = "if";
    let roles = [
        ("system", parts.system.as_ref()),
        ("user", Some(&parts.user)),
        ("assistant", Some(&parts.assistant)),
    ];
    for (role, around) in roles {
        let Some(around) = around else { continue };
        let before = if role == "system" { begun(&around.before) } else { around.before.clone() };
        let (before, behind) = (escaped(&before)?, escaped(&around.behind)?);
        let _ =
            write!(go, "{{{{ {branch} eq .Role \"{role}\" }}}}{before}{{{{ .Content }}}}{behind}");
        branch = "else if";
    }
    go += "{{ end }}{{- end }}";
    go += &escaped(&parts.opening)?;
    Some(go)
}

/// What the Go template makes of messages.
fn as_go(parts: &Parts, roles: &[(&str, &str)]) -> String {
    let has_system = parts.system.is_some() && roles.iter().any(|(role, _)| *role == "system");
    let mut text = if has_system { String::new() } else { parts.start.clone() };
    for (role, content) in roles {
        let around = match *role {
            "system" => parts.system.as_ref(),
            "user" => Some(&parts.user),
            _ => Some(&parts.assistant),
        };
        if let Some(around) = around {
            let _ = write!(text, "{}{content}{}", around.before, around.behind);
        }
    }
    text + &parts.opening
}

fn parts(template: &Template) -> Option<Parts> {
    let [system, first, answer, second, reply] = MARKS;
    let turns = [("user", first), ("assistant", answer), ("user", second), ("assistant", reply)];
    let with: Vec<(&str, &str)> = std::iter::once(("system", system)).chain(turns).collect();
    // A template without a place for the system message refuses it, or leaves it out.
    let whole = render(template, &with, false).filter(|text| text.contains(system));
    let has_system = whole.is_some();
    let text = whole.or_else(|| render(template, &turns, false))?;
    let between = |from: &str, to: &str| {
        let start = text.find(from)? + from.len();
        Some(text[start..start + text[start..].find(to)?].to_owned())
    };
    // Between the second user's words and what was before is the end of an answer and the beginning of a question.
    let after_first = between(first, answer)?;
    let after_answer = between(answer, second)?;
    let after_second = between(second, reply)?;
    if after_first != after_second {
        return None;
    }
    let prompt = render(template, &turns[..3], true)?;
    let tail = prompt.split_once(second)?.1.to_owned();
    // What begins an answer is what a prompt ends with beyond the end of the question.
    let closed = render(template, &turns[..3], false)?;
    let user_behind = closed.split_once(second)?.1.to_owned();
    let opening = tail.strip_prefix(user_behind.as_str())?.to_owned();
    let answered = render(template, &turns[..2], false)?;
    let assistant_behind = answered.split_once(answer)?.1.to_owned();
    let user_before = after_answer.strip_prefix(assistant_behind.as_str())?.to_owned();
    let assistant_before = after_first.strip_prefix(user_behind.as_str())?.to_owned();
    let head = &text[..text.find(if has_system { system } else { first })?];
    let start = answered[..answered.find(first)?].strip_suffix(user_before.as_str())?.to_owned();
    let system = if has_system {
        let behind = between(system, first)?.strip_suffix(user_before.as_str())?.to_owned();
        Some(Around { before: head.to_owned(), behind })
    } else {
        None
    };
    Some(Parts {
        start,
        system,
        user: Around { before: user_before, behind: user_behind },
        assistant: Around { before: assistant_before, behind: assistant_behind },
        opening,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\
                          {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn chatml_is_taken_apart_and_put_together_again() {
        let template = Template::new(CHATML, "", "").unwrap();
        let parts = parts(&template).unwrap();
        assert_eq!(parts.user.before, "<|im_start|>user\n");
        assert_eq!(parts.user.behind, "<|im_end|>\n");
        assert_eq!(parts.system.as_ref().unwrap().before, "<|im_start|>system\n");
        assert_eq!(parts.opening, "<|im_start|>assistant\n");
        let roles = [("system", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")];
        assert_eq!(render(&template, &roles, true).unwrap(), as_go(&parts, &roles));
    }

    #[test]
    fn a_template_that_counts_turns_is_not_pretended_to_be_simple() {
        let odd = "{% for m in messages %}[{{ loop.index }}]{{ m.content }}{% endfor %}";
        assert_eq!(parts(&Template::new(odd, "", "").unwrap()), None);
    }
}
