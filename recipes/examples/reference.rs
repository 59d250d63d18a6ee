//! Prints `recipes/README.md`.
//!
//! `cargo run -p ft-recipes --example reference > recipes/README.md`

#![expect(clippy::print_stdout, reason = "an example prints")]

fn main() {
    print!("{}", ft_recipes::keys::reference());
}
