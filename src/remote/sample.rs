//! Looks at the machine: memory, disk, load. A thin reader around pure parsers.

use std::path::Path;

use super::admit::Sample;

/// Memory, disk space beneath `directory`, and runnable tasks, as they are now.
///
/// Blocking, though only as long as reading `/proc` takes.
pub fn take(directory: &Path) -> Sample {
    let read = |path| std::fs::read_to_string(path).ok();
    Sample {
        memory: read("/proc/meminfo").and_then(|text| memory_available(&text)),
        disk: fs2::available_space(directory).ok(),
        runnable: read("/proc/loadavg").and_then(|text| runnable(&text)),
    }
}

/// Processors that this daemon may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The memory of this machine, in bytes.
pub fn memory_total() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// The load averages of the last 1, 5 and 15 minutes.
pub fn load_averages() -> [f64; 3] {
    std::fs::read_to_string("/proc/loadavg").map_or([0.0; 3], |text| averages(&text))
}

fn averages(loadavg: &str) -> [f64; 3] {
    let mut words = loadavg.split_whitespace().map(|word| word.parse().unwrap_or(0.0));
    std::array::from_fn(|_| words.next().unwrap_or(0.0))
}

fn memory_available(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemAvailable:")
}

fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The first number of `3/512`, the fourth word: tasks that run or could.
fn runnable(loadavg: &str) -> Option<u32> {
    loadavg.split_whitespace().nth(3)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16 kB\nMemAvailable:    8 kB\n";
        assert_eq!(memory_available(text), Some(8192));
        assert_eq!(memory_available("MemTotal: 1 kB\n"), None);
        assert_eq!(memory_available("MemAvailable: many kB\n"), None);
    }

    #[test]
    fn runnable_tasks_are_the_fourth_word() {
        assert_eq!(runnable("0.53 0.19 0.13 3/89 9500\n"), Some(3));
        assert_eq!(runnable("0.53 0.19\n"), None);
        assert_eq!(averages("0.53 0.19 0.13 3/89 9500\n"), [0.53, 0.19, 0.13]);
    }
}
