//! `--drain`, `--exclude` and `--use`: which hosts the broker gives jobs to.

use std::process::ExitCode;

use super::{NOT_RUNNING, ask, complain, print};
use crate::broker::status::{HostReport, Report};
use crate::broker::watch::said;
use crate::common::exit;
use crate::common::protocol::local::{Control, ControlReply};

/// A word about hosts, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// The word.
    pub word: &'static str,
    held: bool,
    at_once: bool,
}

/// These words.
pub const WORDS: [Hold; 3] = [
    Hold { word: "drain", held: true, at_once: false },
    Hold { word: "exclude", held: true, at_once: true },
    Hold { word: "use", held: false, at_once: false },
];

/// Has a broker that runs try the hosts that it leaves alone: what kept them away has just been mended.
/// Where no broker runs, or it is of another version, there is nothing to be mended.
pub fn forgive_all() {
    let Ok(Some(ControlReply::Status { json })) = ask(&Control::Status) else { return };
    let Ok(report) = serde_json::from_str::<Report>(&json) else { return };
    let left_alone = |host: &&HostReport| ["backed-off", "down"].contains(&host.state.as_str());
    for host in report.hosts.iter().filter(left_alone).filter(|host| host.hold == "free") {
        // One that is not known any more needs nothing.
        let _ = ask(&Control::Hold { host: host.host.clone(), held: false, at_once: false });
    }
}

/// Does as a word says with some hosts. Ends well when it is done with all of them.
pub fn hold(hold: Hold, hosts: &[&String]) -> Result<ExitCode, String> {
    let mut ended = ExitCode::SUCCESS;
    for host in hosts {
        let order = Control::Hold { host: (*host).clone(), held: hold.held, at_once: hold.at_once };
        let answer = ask(&order);
        match &answer {
            Ok(Some(ControlReply::Text { .. })) => print(&format!("{}\n", said(&order, &answer))),
            Ok(None) => {
                complain(
                    "distcc: no broker is running; the first compile starts one\n\
                     hint: in a hosts list, HOST,down keeps jobs from a host",
                );
                return Ok(ExitCode::from(NOT_RUNNING));
            }
            _ => {
                complain(&format!(
                    "distcc: {}\nhint: distcc --status names the hosts",
                    said(&order, &answer)
                ));
                ended = ExitCode::from(exit::FAILED as u8);
            }
        }
    }
    Ok(ended)
}
