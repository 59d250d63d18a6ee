//! The one place where an error becomes text, and where anything is printed.
//!
//! Data goes to stdout and everything else to stderr. Colour only where there is a terminal and
//! no `NO_COLOR`; nothing needs colour to be understood.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use ft_recipes::RecipeError;

/// An error after the work had begun: what was given is right, and still it could not be finished.
#[derive(Debug)]
pub(crate) struct Unfinished(anyhow::Error);

impl Unfinished {
    /// Marks an error so.
    pub(crate) fn mark(error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Self(error.into()))
    }
}

impl Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Unfinished {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Writes a line of data.
pub(crate) fn out(line: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// Tells the user something. Who closed stderr does not want to know.
pub(crate) fn say(line: impl Display) {
    let line = harmless(&line.to_string());
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Prints an error and gives its exit code.
pub(crate) fn end(error: &anyhow::Error) -> ExitCode {
    // Whoever was reading has seen enough.
    if error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == ErrorKind::BrokenPipe)
    }) {
        return ExitCode::SUCCESS;
    }
    let text = harmless(&text(error));
    let mut stderr = anstream::stderr().lock();
    for line in text.lines() {
        let _ = match line.strip_prefix("error: ") {
            Some(rest) => writeln!(stderr, "\x1b[1;31merror\x1b[0m: {rest}"),
            None => writeln!(stderr, "{line}"),
        };
    }
    ExitCode::from(if error.is::<Unfinished>() { 1 } else { 2 })
}

/// An error in words: what happened, why, and what can be done.
fn text(error: &anyhow::Error) -> String {
    if let Some(recipe) = error.downcast_ref::<RecipeError>()
        && !recipe.problems().is_empty()
    {
        let problems: Vec<String> =
            recipe.problems().iter().map(|problem| format!("error: {problem}")).collect();
        return problems.join("\n\n");
    }
    let (mut said, mut helps) = (String::new(), Vec::new());
    for cause in error.chain() {
        let (mut message, mut helping) = (Vec::new(), false);
        let words = cause.to_string();
        for line in words.lines() {
            // What is indented further belongs to an entry of a list and stays there.
            let help = line.strip_prefix("  = help: ").or(line.strip_prefix("help: "));
            // A help may go on over indented lines.
            helping = help.is_some() || (helping && line.starts_with("    "));
            match help {
                Some(help) => helps.push(format!("  = help: {help}")),
                None if helping => helps.push(line.to_owned()),
                None => message.push(line),
            }
        }
        let message = message.join("\n");
        // Many errors say their cause themselves.
        if said.contains(&message) {
            continue;
        }
        said += if said.is_empty() { "error: " } else { "\n  because " };
        said += &message;
    }
    helps.dedup();
    for help in helps {
        said = said + "\n" + &help;
    }
    said
}

/// Text that cannot steer a terminal: names and values in it may come from anyone's files.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::{Unfinished, harmless, text};

    #[test]
    fn a_cause_is_said_once_and_help_comes_last() {
        let cause = anyhow!("disk is full\n  = help: make room");
        let error = Err::<(), _>(cause).context("cannot write `a`").unwrap_err();
        assert_eq!(
            text(&error),
            "error: cannot write `a`\n  because disk is full\n  = help: make room"
        );
        let cause = anyhow!("disk is full");
        let error = Err::<(), _>(cause).context("cannot write `a`: disk is full").unwrap_err();
        assert_eq!(text(&error), "error: cannot write `a`: disk is full");
    }

    #[test]
    fn an_error_after_the_beginning_reads_as_any_other() {
        let error = Unfinished::mark(anyhow!("why").context("what"));
        assert_eq!(text(&error), "error: what\n  because why");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }
}
