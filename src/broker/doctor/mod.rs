//! `distcc --doctor`: looks at everything that a build through distcc needs, step by step.
//!
//! What a broker does for a build it does here, too: test compiles go through the user's own distcc
//! and broker, so that what is found is what builds meet. Checks that need no process are functions of
//! values ([`check`]); [`here`] looks at this machine, [`hosts`] at each volunteer.

pub mod check;
mod compilers;
mod here;
mod hosts;
mod trial;

use self::check::Check;
use super::host_lists;
use super::status::Report;
use crate::common::hosts::parse;
use crate::common::invocation::Invocation;

/// How a doctor asks a broker that runs what it knows.
pub type AskReport<'a> = &'a dyn Fn() -> Option<Report>;

/// Makes all checks and tells of each as it is made. Returns whether all is well.
pub fn examine(around: &Invocation, report: AskReport<'_>, tell: &mut dyn FnMut(&Check)) -> bool {
    let mut well = true;
    let mut tell = |check: Check| {
        well &= check.good;
        tell(&check);
    };
    here::place(around, report).into_iter().for_each(&mut tell);
    here::limits(report).into_iter().for_each(&mut tell);
    compilers::order_in_path(around).into_iter().for_each(&mut tell);
    let list = match host_lists::read(around) {
        None => {
            tell(
                Check::bad("hosts list", "no hosts are listed, so everything is compiled here")
                    .mend("export DISTCC_HOSTS='build7 build8/16', or write the names into ~/.distcc/hosts"),
            );
            return false;
        }
        Some((name, text)) => match parse(&text) {
            Err(error) => {
                tell(
                    Check::bad("hosts list", &format!("{name}: {error}"))
                        .mend(&format!("correct the word in {name}; distcc --show-hosts reads it again")),
                );
                return false;
            }
            Ok(list) => {
                here::list(&name, &list).into_iter().for_each(&mut tell);
                list
            }
        },
    };
    let compilers = compilers::on_path(around);
    if compilers.is_empty() {
        tell(Check::bad("compilers", "no gcc or clang is on PATH").mend("apt install gcc g++"));
    }
    for host in list.hosts.iter().filter(|host| host.is_usable()) {
        hosts::examine(host, &compilers, report, &mut tell);
    }
    well
}
