//! Every key of Axolotl's dialect and ours by name, with its verdict. One table, in files by kind.

mod implemented;
mod inert;
mod one_device;
mod reference;
mod refused;
mod renamed;

pub use reference::reference;

use std::fmt;

/// A key of the recipe's first level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it says.
    Implemented {
        /// The section that it goes to.
        section: Section,
        /// What it does.
        meaning: &'static str,
        /// What holds if it is absent.
        default: &'static str,
        /// A value other than the default, in YAML's flow style.
        example: &'static str,
        /// Whether Axolotl lacks it.
        ours: bool,
    },
    /// Accepted; changes nothing here, and the note says why.
    Inert {
        /// Why.
        why: &'static str,
    },
    /// Its value is looked at: accepted, without effect, if it asks for nothing else.
    Checked {
        /// What may be asked for.
        why: &'static str,
    },
    /// Accepted; about several devices or machines.
    OneDevice {
        /// What holds on one device.
        why: &'static str,
    },
    /// Accepted with these values, which are what is done anyway; refused with others.
    Only {
        /// The values.
        values: &'static [&'static str],
        /// Why no other.
        why: &'static str,
    },
    /// Refused unless it is off (absent, null, false, 0 or empty).
    Refused {
        /// Why.
        why: &'static str,
        /// What to do instead.
        help: &'static str,
    },
    /// An older or other spelling, accepted.
    Renamed {
        /// The spelling that counts.
        to: &'static str,
    },
    /// A key that Axolotl's own examples set and that Axolotl never reads: a warning.
    Dead {
        /// What was meant, or what to do.
        help: &'static str,
    },
}

/// The section of the recipe that a key goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What is tuned and where.
    Model,
    /// What is trained beside it.
    Adapter,
    /// Which rows.
    Data,
    /// What is cleaned out of them.
    Clean,
    /// The loop.
    Train,
    /// What is measured.
    Eval,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Adapter => "adapter",
            Self::Data => "data",
            Self::Clean => "clean",
            Self::Train => "train",
            Self::Eval => "eval",
        })
    }
}

/// All keys, kind by kind.
pub fn all() -> impl Iterator<Item = &'static Key> {
    [implemented::KEYS, inert::KEYS, one_device::KEYS, refused::KEYS, renamed::KEYS]
        .into_iter()
        .flatten()
}

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

const fn inert(name: &'static str, why: &'static str) -> Key {
    Key { name, verdict: Verdict::Inert { why } }
}

const fn checked(name: &'static str, why: &'static str) -> Key {
    Key { name, verdict: Verdict::Checked { why } }
}

const fn one_device(name: &'static str, why: &'static str) -> Key {
    Key { name, verdict: Verdict::OneDevice { why } }
}

const fn only(name: &'static str, values: &'static [&'static str], why: &'static str) -> Key {
    Key { name, verdict: Verdict::Only { values, why } }
}

const fn refused(name: &'static str, why: &'static str, help: &'static str) -> Key {
    Key { name, verdict: Verdict::Refused { why, help } }
}

const fn renamed(name: &'static str, to: &'static str) -> Key {
    Key { name, verdict: Verdict::Renamed { to } }
}

const fn dead(name: &'static str, help: &'static str) -> Key {
    Key { name, verdict: Verdict::Dead { help } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_verdicts() {
        let mut names: Vec<&str> = all().map(|key| key.name).collect();
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn a_renamed_key_leads_to_an_implemented_one() {
        for key in all() {
            if let Verdict::Renamed { to } = key.verdict {
                let target = find(to).map(|key| key.verdict);
                assert!(
                    matches!(target, Some(Verdict::Implemented { .. } | Verdict::Checked { .. })),
                    "{}",
                    key.name
                );
            }
        }
    }
}
