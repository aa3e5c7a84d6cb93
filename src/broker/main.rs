//! The program `distcc-broker`.

fn main() -> std::process::ExitCode {
    distcc::broker::run()
}
