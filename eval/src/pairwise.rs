//! Two models judged by a third: questions of two turns, both orders, ties (Zheng et al. 2023,
//! "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena").
//!
//! Knows questions, answers and verdicts. Who answers is an [`Answerer`]; who judges is an endpoint.

use std::path::Path;

use ft_datasets::endpoint::{Client, EndpointError, Path as Route, Request};
use ft_datasets::source::{self, Limits, Problem};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::answer::{AnswerError, Answerer, Manner, Reply};
use crate::compare::{sign_test, wilson};
use crate::prompt::{Ask, Item};
use crate::rows::RowsError;
use crate::task::Generation;

/// A question of one or more turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its number or name.
    pub id: String,
    /// Its kind.
    pub category: String,
    /// What is asked, turn by turn; at least one.
    pub turns: Vec<String>,
    /// Right answers, where there are any.
    pub reference: Vec<String>,
}

/// Reads questions: rows with `question_id`, `category`, `turns` and perhaps `reference`.
///
/// # Errors
///
/// [`RowsError`], at the first row that is none.
pub fn questions(path: &Path) -> Result<Vec<Question>, RowsError> {
    let mut found = Vec::new();
    for row in source::file(path, None, Limits::default())? {
        let row = match row {
            Ok(row) => row,
            Err(Problem::Bad(row)) => return Err(row.into()),
            Err(Problem::Fatal(error)) => return Err(error.into()),
        };
        let texts = |key: &str| -> Vec<String> {
            let list = row.fields.get(key).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let turns = texts("turns");
        if turns.is_empty() {
            let what = "the row has no list of texts `turns`".to_owned();
            return Err(RowsError::Shape { at: row.at.to_string(), what });
        }
        let text = |key: &str| row.fields.get(key).map(crate::python::text_of).unwrap_or_default();
        found.push(Question {
            id: text("question_id"),
            category: text("category"),
            turns,
            reference: texts("reference"),
        });
    }
    if found.is_empty() {
        let at = path.display().to_string();
        return Err(RowsError::Shape { at, what: "no questions".to_owned() });
    }
    Ok(found)
}

/// Makes a prompt of the turns so far: questions and answers by turns, the last a question.
pub type Conversation<'a> = dyn Fn(&[(&'static str, &str)]) -> Result<String, String> + 'a;

/// Answers of a model to all questions, turn by turn.
///
/// # Errors
///
/// [`AnswerError`]; [`PairwiseError::Chat`] if the chat template refuses.
pub fn answers(
    questions: &[Question],
    chat: &Conversation<'_>,
    most: usize,
    answerer: &mut dyn Answerer,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<String>>, PairwiseError> {
    let generation = Generation {
        until: Vec::new(),
        max_gen_toks: most,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        written: Map::new(),
    };
    let manner = Manner { generation, repeats: 1, seed: 0 };
    let mut found: Vec<Vec<String>> = questions.iter().map(|_| Vec::new()).collect();
    let turns = questions.iter().map(|question| question.turns.len()).max().unwrap_or(0);
    let mut count = 0;
    for turn in 0..turns {
        let open: Vec<usize> =
            (0..questions.len()).filter(|at| questions[*at].turns.len() > turn).collect();
        let mut items = Vec::new();
        for at in &open {
            let mut said: Vec<(&'static str, &str)> = Vec::new();
            for (before, question) in questions[*at].turns.iter().take(turn + 1).enumerate() {
                said.push(("user", question));
                if let Some(answer) = found[*at].get(before) {
                    said.push(("assistant", answer));
                }
            }
            let context = chat(&said).map_err(|reason| PairwiseError::Chat {
                question: questions[*at].id.clone(),
                reason,
            })?;
            items.push(Item {
                doc_id: *at,
                doc: Map::new(),
                context,
                ask: Ask::Text,
                target: Value::Null,
                choices: Vec::new(),
            });
        }
        let items: Vec<&Item> = items.iter().collect();
        let mut texts: Vec<String> = items.iter().map(|_| String::new()).collect();
        answerer.answer(&items, &manner, &mut |at, reply| {
            if let Reply::Texts(mut all) = reply {
                texts[at] = all.pop().unwrap_or_default();
            }
            count += 1;
            done(count);
            true
        })?;
        for (at, text) in open.into_iter().zip(texts) {
            found[at].push(text.trim().to_owned());
        }
    }
    Ok(found)
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum PairwiseError {
    /// A model does not answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The chat template refuses.
    #[error("question `{question}`: the chat template: {reason}")]
    Chat {
        /// The question.
        question: String,
        /// In its words.
        reason: String,
    },
    /// The judge does not answer.
    #[error("the judge: {0}")]
    Judge(#[from] EndpointError),
}

/// What the judge said of a pair, in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The first model's answers.
    First,
    /// The second's.
    Second,
    /// Neither's.
    Tie,
    /// Nothing that is a verdict.
    Unclear,
}

/// A question with both models' answers and both verdicts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// The question.
    pub question_id: String,
    /// Its kind.
    pub category: String,
    /// The first model's answers, and the second's.
    pub answers: [Vec<String>; 2],
    /// With the first model's answers first, and with them second.
    pub verdicts: [Verdict; 2],
    /// What holds in both orders.
    pub outcome: Verdict,
    /// The judge's words.
    pub said: [String; 2],
}

/// All verdicts together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairwiseReport {
    /// Questions.
    pub questions: usize,
    /// Won by the second model.
    pub wins: usize,
    /// Won by the first.
    pub losses: usize,
    /// Neither, or another in each order.
    pub ties: usize,
    /// Verdicts that depended on the order.
    pub inconsistent: usize,
    /// Verdicts that were none.
    pub unclear: usize,
    /// Share of the second model: wins, and half of the ties.
    pub win_rate: f64,
    /// Wilson's interval of it.
    pub interval: (f64, f64),
    /// Exact sign test of wins against losses.
    pub p: f64,
}

const INSTRUCTION: &str = "You compare two assistants' answers to a user's questions, impartially. Judge \
    helpfulness, relevance, accuracy, depth and level of detail, and how well the instructions are followed. The order \
    in which the answers stand, their length and the assistants' names do not count. Explain your comparison in a few \
    sentences, then end with a line that holds nothing but your verdict: [[A]] if assistant A is better, [[B]] if \
    assistant B is better, [[C]] if neither is.";

/// The judge's prompt.
fn words(question: &Question, answers: [&[String]; 2]) -> String {
    let mut parts = Vec::new();
    let mut part = |name: String, content: &str| {
        parts.push(format!("<{name}>\n{content}\n</{name}>\n"));
    };
    for (at, turn) in question.turns.iter().enumerate() {
        part(format!("question {}", at + 1), turn);
        if let Some(reference) = question.reference.get(at).filter(|it| !it.is_empty()) {
            part(format!("right answer {}", at + 1), reference);
        }
    }
    for (name, answers) in ["A", "B"].into_iter().zip(answers) {
        for (at, answer) in answers.iter().enumerate() {
            part(format!("assistant {name}, answer {}", at + 1), answer);
        }
    }
    parts.join("\n")
}

/// The last verdict in the judge's words.
fn verdict(said: &str) -> Option<char> {
    said.rmatch_indices("[[").find_map(|(at, _)| {
        let rest = &said[at + 2..];
        let letter = rest.chars().next().filter(|c| matches!(c, 'A' | 'B' | 'C'))?;
        rest[1..].starts_with("]]").then_some(letter)
    })
}

/// Lets the judge compare two models' answers to all questions, in both orders.
///
/// # Errors
///
/// The first request's that has no answer.
pub fn compare_pairs(
    questions: &[Question],
    answers: [&[Vec<String>]; 2],
    model: &str,
    judge: &Client,
    concurrency: usize,
) -> Result<Vec<Judged>, PairwiseError> {
    // Two pairs may be alike, word for word, and each is asked.
    let ask = |repetition: usize, text: String| {
        let body = json!({
            "model": model, "temperature": 0, "max_tokens": 1024,
            "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}],
        });
        let body = body.as_object().cloned().unwrap_or_default();
        Request { path: Route::Chat, body, repetition: repetition as u64 }
    };
    let mut requests = Vec::new();
    for (at, question) in questions.iter().enumerate() {
        let (one, other) = (&answers[0][at][..], &answers[1][at][..]);
        requests.push(ask(2 * at, words(question, [one, other])));
        requests.push(ask(2 * at + 1, words(question, [other, one])));
    }
    let mut said = judge.ask_all(&requests, concurrency).into_iter();
    let mut found = Vec::new();
    for (at, question) in questions.iter().enumerate() {
        let mut next =
            || said.next().unwrap_or(Err(EndpointError::LostEarlier)).map(|answer| answer.text);
        let said = [next()?, next()?];
        let read = |said: &str, a: Verdict, b: Verdict| match verdict(said) {
            Some('A') => a,
            Some('B') => b,
            Some(_) => Verdict::Tie,
            None => Verdict::Unclear,
        };
        let verdicts = [
            read(&said[0], Verdict::First, Verdict::Second),
            read(&said[1], Verdict::Second, Verdict::First),
        ];
        let outcome = if verdicts[0] == verdicts[1] { verdicts[0] } else { Verdict::Tie };
        found.push(Judged {
            question_id: question.id.clone(),
            category: question.category.clone(),
            answers: [answers[0][at].clone(), answers[1][at].clone()],
            verdicts,
            outcome,
            said,
        });
    }
    Ok(found)
}

/// Counts verdicts.
pub fn counted(judged: &[Judged]) -> PairwiseReport {
    let count = |outcome: Verdict| judged.iter().filter(|it| it.outcome == outcome).count();
    let (wins, losses) = (count(Verdict::Second), count(Verdict::First));
    let unclear = judged.iter().filter(|it| it.verdicts.contains(&Verdict::Unclear)).count();
    let ties = judged.len() - wins - losses;
    let opposite = |it: &&Judged| {
        let [one, other] = it.verdicts;
        one != other && ![one, other].contains(&Verdict::Unclear)
    };
    let win_rate = (wins as f64 + ties as f64 / 2.0) / judged.len().max(1) as f64;
    PairwiseReport {
        questions: judged.len(),
        wins,
        losses,
        ties,
        inconsistent: judged.iter().filter(opposite).count(),
        unclear,
        win_rate,
        interval: wilson(win_rate, judged.len()),
        p: sign_test(wins, losses),
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{First, Second, Tie, Unclear};
    use super::*;

    #[test]
    fn the_last_verdict_counts_and_words_about_verdicts_do_not() {
        assert_eq!(verdict("[[A]] or [[B]]? I say [[B]]"), Some('B'));
        assert_eq!(verdict("[[A]] is what I would say of [[D]]."), Some('A'));
        assert_eq!(verdict("[A]"), None);
        assert_eq!(verdict("[[Aé"), None);
    }

    #[test]
    fn an_answer_wins_only_in_both_orders() {
        let judged = |verdicts: [Verdict; 2]| Judged {
            question_id: String::new(),
            category: String::new(),
            answers: [Vec::new(), Vec::new()],
            outcome: if verdicts[0] == verdicts[1] { verdicts[0] } else { Tie },
            verdicts,
            said: [String::new(), String::new()],
        };
        let all = [
            [Second, Second],
            [First, Second],
            [First, First],
            [Tie, Tie],
            [Second, Second],
            [Unclear, Second],
        ];
        let report = counted(&all.map(judged));
        assert_eq!((report.wins, report.losses, report.ties), (2, 1, 3));
        assert_eq!((report.inconsistent, report.unclear), (1, 1));
        assert!((report.win_rate - 3.5 / 6.0).abs() < 1e-12);
    }
}
