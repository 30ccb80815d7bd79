//! The `lotus` command.

fn main() {}
