//! `distccd`, the volunteer's daemon.

fn main() -> std::process::ExitCode {
    distcc::remote::run()
}
