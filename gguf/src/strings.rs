//! Many strings in one text.

use std::ops::Index;

/// Many strings end to end in one text, so that an array in memory is never larger than in its
/// file, whatever the lengths of its strings.
///
/// Collects from strings, is indexed like a slice, and iterates over `&str`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Strings {
    text: Box<str>,
    /// Where each string ends in `text`, ascending, on boundaries of characters.
    ends: Box<[usize]>,
}

impl Strings {
    /// `ends` must ascend, end at `text.len()`, and lie on boundaries of characters.
    pub(crate) fn from_parts(text: Box<str>, ends: Box<[usize]>) -> Self {
        debug_assert!(ends.is_sorted());
        debug_assert!(ends.iter().all(|end| text.is_char_boundary(*end)));
        debug_assert_eq!(ends.last().copied().unwrap_or(0), text.len());
        Self { text, ends }
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone {
        (0..self.len()).map(|index| &self[index])
    }

    /// A copy of the strings, each on its own.
    pub fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

impl Index<usize> for Strings {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        let count = self.len();
        self.get(index).unwrap_or_else(|| panic!("string {index} of {count}"))
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for string in strings {
            text.push_str(string.as_ref());
            ends.push(text.len());
        }
        Self { text: text.into(), ends: ends.into() }
    }
}

impl<'a> IntoIterator for &'a Strings {
    type Item = &'a str;
    type IntoIter = Box<dyn Iterator<Item = &'a str> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
