//! `lotus settings`

use super::{Failure, print};
use crate::runtime::Settings;

const HELP_COLUMN: usize = 4;
const HELP_WIDTH: usize = 90;

/// Lists everything that `lotus run --set name=value` can set.
///
/// Shows each setting's name, its default value with its unit, and what it does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  lotus run --inside eth1 --outside eth2 --set ring.slots=8192")]
pub(super) struct Args {}

pub(super) fn settings(_: &Args) -> Result<(), Failure> {
    let mut text = String::new();
    for info in Settings::default().list() {
        let unit = if info.unit.is_empty() {
            String::new()
        } else {
            format!(" {}", info.unit)
        };
        text.push_str(&format!("{} = {}{unit}\n", info.name, info.value));
        let mut column = 0;
        for word in info.help.split_whitespace() {
            let starts_line = column == 0 || column + 1 + word.len() > HELP_WIDTH;
            if starts_line {
                text.push_str(if column == 0 { "" } else { "\n" });
                text.push_str(&" ".repeat(HELP_COLUMN));
                column = word.len();
            } else {
                text.push(' ');
                column += 1 + word.len();
            }
            text.push_str(word);
        }
        text.push('\n');
    }
    print(&text)
}
