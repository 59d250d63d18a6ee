//! Which instructions say something that none before them said.

use rayon::prelude::*;

use crate::duplicates::words;

/// Rows below which one thread is faster.
const FEW: usize = 512;

/// Instructions that are known, by their words.
#[derive(Debug, Default)]
pub struct Novelty {
    known: Vec<Vec<u64>>,
}

impl Novelty {
    /// Adds an instruction.
    pub fn learn(&mut self, instruction: &str) {
        self.known.push(words(instruction));
    }

    /// The known instruction that is most alike, if its ROUGE-L reaches `most`.
    pub fn alike(&self, instruction: &str, most: f64) -> Option<(usize, f64)> {
        let words = words(instruction);
        let look = |(at, known): (usize, &Vec<u64>)| {
            // ROUGE-L is at most this, by the lengths alone.
            let bound = harmonic(words.len().min(known.len()), words.len(), known.len());
            if bound < most {
                return None;
            }
            let score = rouge_l_of(&words, known);
            (score >= most).then_some((at, score))
        };
        if self.known.len() < FEW {
            return self.known.iter().enumerate().find_map(look);
        }
        self.known.par_iter().enumerate().find_map_first(look)
    }
}

/// ROUGE-L of two texts: the harmonic mean of the share of each that their longest common
/// subsequence of words is. Characters are words in scripts without spaces.
///
/// **Source**: Lin 2004, "ROUGE: a package for automatic evaluation of summaries", §3.
pub fn rouge_l(left: &str, right: &str) -> f64 {
    rouge_l_of(&words(left), &words(right))
}

fn rouge_l_of(left: &[u64], right: &[u64]) -> f64 {
    let mut row = vec![0_usize; right.len() + 1];
    for one in left {
        let mut diagonal = 0;
        for (at, other) in right.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if one == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    harmonic(row[right.len()], left.len(), right.len())
}

fn harmonic(shared: usize, left: usize, right: usize) -> f64 {
    if left + right == 0 { 1.0 } else { 2.0 * shared as f64 / (left + right) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rouge_l_is_that_of_its_paper() {
        // Lin 2004, §3.1: "police killed the gunman" against two candidates.
        let reference = "police killed the gunman";
        assert!((rouge_l("police kill the gunman", reference) - 0.75).abs() < 1e-12);
        assert!((rouge_l("the gunman kill police", reference) - 0.5).abs() < 1e-12);
        assert!((rouge_l("", "a")).abs() < 1e-12);
    }

    #[test]
    fn an_instruction_is_known_if_one_is_alike() {
        let mut novelty = Novelty::default();
        for at in 0..2000 {
            novelty
                .learn(&format!("Write a poem about number {at} and its friends the {}", at * 7));
        }
        let found = novelty.alike("Write a poem about number 12 and all its friends the 84", 0.95);
        assert_eq!(found.map(|it| it.0), Some(12));
        assert_eq!(novelty.alike("Translate this sentence to French", 0.7), None);
    }
}
