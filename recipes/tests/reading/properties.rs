//! Whatever the text, reading ends with a recipe or with problems, never with a panic.

use std::path::Path;

use ft_recipes::Recipe;
use proptest::prelude::*;

use super::LEAST;

/// Words that recipes are made of, and what is troublesome in YAML.
const PIECES: &[&str] = &[
    "base_model",
    "adapter",
    "lora_r",
    "datasets",
    "path",
    "type",
    "learning_rate",
    "split",
    "special_tokens",
    "plugins",
    "peft",
    "eval",
    "tasks",
    "bnb_config_kwargs",
    "lora",
    "qlora",
    "alpaca",
    "train[:20%]",
    "train[",
    "2e-4",
    "1_0",
    "010",
    "1:2",
    "no",
    "~",
    "null",
    ": ",
    ":\n  ",
    "\n",
    "\n- ",
    "  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "<<",
    "!!str ",
    "!x ",
    "'",
    "\"",
    "|\n",
    ">\n",
    "#",
    "\t",
    "\u{feff}",
    "é",
    "日",
    "%",
    "---\n",
    "...\n",
    "? ",
    "-",
    "0",
    ".nan",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Recipe::parse(&text, Path::new("r.yaml"), &[]).map_err(|error| error.to_string());
    }

    #[test]
    fn arbitrary_yaml_never_panics(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60),
    ) {
        let text = pieces.concat();
        let _ = Recipe::parse(&text, Path::new("r.yaml"), &[]).map_err(|error| error.to_string());
    }

    #[test]
    fn an_arbitrary_value_of_a_known_key_never_panics(
        key in prop::sample::select(ft_recipes::keys::all().collect::<Vec<_>>()),
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..8),
    ) {
        let set = [(key.name.to_owned(), pieces.concat())];
        let _ = Recipe::parse(LEAST, Path::new("r.yaml"), &set).map_err(|error| error.to_string());
    }

    #[test]
    fn a_damaged_recipe_never_panics(at in 0usize..LEAST.len(), with in any::<char>()) {
        let mut text = LEAST.to_owned();
        text.replace_range(at..=at, &with.to_string());
        let _ = Recipe::parse(&text, Path::new("r.yaml"), &[]).map_err(|error| error.to_string());
    }

    #[test]
    fn numbers_are_read_as_rust_reads_them(value in 1e-12f64..1e12) {
        let set = [("learning_rate".to_owned(), format!("{value:e}"))];
        let loaded = Recipe::parse(LEAST, Path::new("r.yaml"), &set).unwrap();
        let read = loaded.recipe.train.optimizer.learning_rate;
        prop_assert_eq!(read.to_bits(), value.to_bits());
    }
}
