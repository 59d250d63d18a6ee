//! The `ft` command.
fn main() {}
