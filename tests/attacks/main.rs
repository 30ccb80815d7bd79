//! One test for each attack on firewalls that follow FTP, named `aNN_...` after its row in the list
//! of known attacks; a row with several forms has several. What is asserted each time: no packet
//! passes beside those that the two ends agreed on, what the receivers get byte by byte, the
//! event that says why, and (after every single frame) the law of accounting.

mod announced;
mod evasion;
mod floods;
mod lookalikes;
mod outsiders;
mod segments;
mod tracker;

#[path = "../common/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)] // shared with other tests
mod common;

use common::{Lab, Speaker, Talk};

/// A command of the client's that must not reach the server: it arrives as `X`, as long as it
/// was, and the server's own refusal comes back. Some refusal says `why`.
#[track_caller]
fn assert_refused(lab: &mut Lab, talk: &mut Talk, line: &str, why: &str) {
    let before = (lab.opened().len(), lab.refusals().len());
    let got = talk.say(lab, Speaker::Client, line);
    assert_eq!(got, blotted(line), "{line:?}");
    let refusals = lab.refusals();
    assert_eq!(refusals.len(), before.1 + 1, "{line:?}: {refusals:?}");
    let told = refusals[before.1];
    assert!(told.contains(why), "{line:?}: {told}");
    talk.dialogue(lab, &[(Speaker::Server, "500 what?\r\n")]);
    assert_eq!(lab.opened().len(), before.0, "{line:?} opened a port");
}

/// A line as it leaves when it is refused in one piece.
fn blotted(line: &str) -> String {
    let keep = |c: char| if matches!(c, '\r' | '\n') { c } else { 'X' };
    line.chars().map(keep).collect()
}
