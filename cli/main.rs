//! The `ft` command: parse, dispatch, say what went wrong, exit.
//!
//! Exit codes: 0 done; 1 it began and could not finish; 2 what it was given is wrong; 130 or 143
//! after SIGINT or SIGTERM, with everything saved.
#![forbid(unsafe_code)]

mod audit;
mod bench;
mod chat;
mod check;
mod data;
mod device;
mod eval;
mod evaluate;
mod export;
mod fetch;
mod inspect;
mod merge;
mod model;
mod outgoing;
mod recipe;
mod report;
mod rows;
mod score;
mod serve;
mod source;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Fine-tune language models with LoRA, QLoRA and DoRA: one binary, one YAML recipe
#[derive(Parser)]
#[command(name = "ft", version, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train what a recipe says, and measure it
    Train(train::Args),
    /// Say what a recipe would do and cost, and refuse what must not start
    Check(check::Args),
    /// Look at training data
    #[command(subcommand)]
    Data(data::Verb),
    /// Add an adapter to its base, as a folder in Hugging Face's form
    Merge(merge::Args),
    /// Write a model for other programs: GGUF, MLX, or the adapter alone
    Export(Box<export::Args>),
    /// Say what a file or folder is, and whether it is whole
    Inspect(inspect::Args),
    /// Log-likelihood of each token of each row
    Score(score::Args),
    /// Scores of a model on tasks: questions with right answers
    Eval(Box<eval::Args>),
    /// Talk with a model, or have one answer
    Chat(chat::Args),
    /// Answer over HTTP, in the dialects of OpenAI, Anthropic and Ollama
    Serve(Box<serve::Args>),
    /// Check the log of a server
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Speed and memory of a model on this machine
    #[command(subcommand)]
    Bench(bench::Verb),
}

/// How a verb ended, if nothing went wrong.
enum Done {
    /// With all that was asked for.
    All,
    /// By a signal, with everything saved.
    Interrupted(i32),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let done = match &command.verb {
        Verb::Train(args) => train::run(args),
        Verb::Check(args) => check::run(args).map(|()| Done::All),
        Verb::Data(verb) => data::run(verb).map(|()| Done::All),
        Verb::Merge(args) => merge::run(args).map(|()| Done::All),
        Verb::Export(args) => export::run(args).map(|()| Done::All),
        Verb::Inspect(args) => inspect::run(args).map(|()| Done::All),
        Verb::Score(args) => score::run(args).map(|()| Done::All),
        Verb::Eval(args) => eval::run(args).map(|()| Done::All),
        Verb::Chat(args) => chat::run(args).map(|()| Done::All),
        Verb::Serve(args) => serve::run(args),
        Verb::Audit(verb) => audit::run(verb).map(|()| Done::All),
        Verb::Bench(verb) => bench::run(verb).map(|()| Done::All),
    };
    match done {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Interrupted(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        Err(error) => report::end(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        super::Command::command().debug_assert();
    }
}
