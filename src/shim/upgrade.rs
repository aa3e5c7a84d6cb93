//! Which of two builds is the newer one.

use std::os::unix::fs::MetadataExt;

use crate::common::bytes::Bytes;

use super::broker::OtherBuild;
use super::control::broker_program;

/// Whether the broker's program that this shim would start is newer than the one that runs.
pub fn ours_is_newer(other: &OtherBuild, environment: &[Bytes]) -> bool {
    let program = broker_program(environment);
    let metadata = program.and_then(|program| std::fs::metadata(program.as_path()).ok());
    metadata.is_some_and(|metadata| nanoseconds(metadata.mtime(), metadata.mtime_nsec()) > other.modified)
}

/// Nanoseconds since the epoch; 0 for times before it.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    let whole = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    u64::try_from(whole.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_are_the_oldest() {
        assert_eq!(nanoseconds(1, 5), 1_000_000_005);
        assert_eq!(nanoseconds(-1, 5), 0);
    }
}
