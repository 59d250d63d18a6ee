//! Which bytes texts have, so that a rule need not read texts that cannot have what it looks for.

use super::record::Turn;

/// The bytes that some texts have, each byte of 256 a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Glance([u64; 4]);

impl Glance {
    /// The bytes of all turns.
    pub(crate) fn of(turns: &[Turn]) -> Self {
        // A store a byte; setting bits would wait for the bit before.
        let mut seen = [false; 256];
        for byte in turns.iter().flat_map(|turn| turn.text.bytes()) {
            seen[usize::from(byte)] = true;
        }
        let mut bits = [0; 4];
        for (word, seen) in bits.iter_mut().zip(seen.as_chunks::<64>().0) {
            *word = seen.iter().rev().fold(0, |bits, seen| bits << 1 | u64::from(*seen));
        }
        Self(bits)
    }

    /// The bytes for which `wanted` holds.
    pub(crate) const fn those(wanted: &[u8]) -> Self {
        let mut bits = [0; 4];
        let mut at = 0;
        while at < wanted.len() {
            bits[wanted[at] as usize >> 6] |= 1 << (wanted[at] & 63);
            at += 1;
        }
        Self(bits)
    }

    /// Whether there is one of some bytes.
    pub(crate) fn has_any(self, of: Self) -> bool {
        self.0.iter().zip(of.0).any(|(one, other)| one & other != 0)
    }

    /// Whether there is a byte.
    pub(crate) fn has(self, byte: u8) -> bool {
        self.has_any(Self::those(&[byte]))
    }

    /// Whether there is nothing beyond ASCII.
    pub(crate) fn is_ascii(self) -> bool {
        self.0[2] | self.0[3] == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::record::{Role, Slot};

    #[test]
    fn a_glance_has_the_bytes_of_the_texts_and_no_others() {
        let turn = |text: &str| Turn::new(Role::User, text.to_owned(), Slot::Field("text"));
        let glance = Glance::of(&[turn("a@b"), turn("é 7")]);
        for byte in 0..=255 {
            assert_eq!(glance.has(byte), "a@bé 7".as_bytes().contains(&byte), "{byte}");
        }
        assert!(!glance.is_ascii() && Glance::of(&[turn("plain")]).is_ascii());
        assert!(glance.has_any(Glance::those(b"z@")) && !glance.has_any(Glance::those(b"z#")));
    }
}
