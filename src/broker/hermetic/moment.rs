//! What time it is here, as a compile elsewhere is told it.
//!
//! `__DATE__` and `__TIME__` are local time, and a volunteer has another clock and another zone. Compilers that
//! go by `SOURCE_DATE_EPOCH` write that down in UTC; so they are given the moment whose UTC reads like the
//! local time here. `date` says what that is, with the job's own `TZ`: it asks the same C library as the
//! compiler would.

use std::collections::HashMap;
use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;

/// How long an offset is taken to stand, and a whole part of whatever clocks are put on or back at: none changes
/// within a minute.
const MINUTE_S: u64 = 60;

/// How long `date` may take, and how much it may say.
const PATIENCE_S: i64 = 2;
const ANSWER_MAX_BYTES: usize = 256;

/// Zones remembered; beyond it the memory starts afresh.
const ZONES_MAX: usize = 64;

/// A name of a zone, or a rule of POSIX for one, is shorter.
const ZONE_MAX_BYTES: usize = 128;

/// By how many seconds local time is ahead of UTC in each zone, and the minute for which that was asked.
#[derive(Debug, Default)]
pub struct Zones(Mutex<HashMap<Zone, (u64, Option<i64>)>>);

/// What `TZ` is, if it is.
type Zone = Option<Bytes>;

impl Zones {
    /// The entry of an environment that says what time it is where this was run; `None` where the environment
    /// says so already, or nobody can tell. Blocking, for a moment, once a minute.
    pub fn now(&self, invocation: &Invocation) -> Option<Bytes> {
        if invocation.variable("SOURCE_DATE_EPOCH").is_some() {
            return None;
        }
        let zone = invocation.variable("TZ");
        if zone.is_some_and(|zone| !is_plain(zone)) {
            return None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let local = now.checked_add_signed(self.offset(zone.map(Bytes::from), now / MINUTE_S)?)?;
        Some(Bytes::from(format!("SOURCE_DATE_EPOCH={local}").as_str()))
    }

    fn offset(&self, zone: Zone, minute: u64) -> Option<i64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, offset)) = known.get(&zone)
            && *of == minute
        {
            return *offset;
        }
        if known.len() >= ZONES_MAX {
            known.clear();
        }
        let offset = ask(zone.as_ref());
        known.insert(zone, (minute, offset));
        offset
    }
}

/// Whether a value of `TZ` can only be a zone's name or rule, not a file anywhere.
fn is_plain(zone: &[u8]) -> bool {
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-/,.:<>".contains(byte);
    zone.len() <= ZONE_MAX_BYTES
        && zone.iter().all(is_known)
        && !matches!(zone.first(), Some(b'/' | b':'))
        && !zone.windows(2).any(|pair| pair == b"..")
}

fn ask(zone: Option<&Bytes>) -> Option<i64> {
    let mut date = Command::new("date");
    date.arg("+%s %Y %m %d %H %M %S").env_remove("TZ").env("LC_ALL", "C");
    date.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(zone) = zone {
        date.env("TZ", zone.as_os_str());
    }
    let mut child = date.spawn().ok()?;
    let said = child.stdout.take().and_then(answer);
    // One that has answered is ending.
    let _ = child.kill();
    let _ = child.wait();
    read(&said?)
}

/// What a child says at once, within its time.
fn answer(mut stdout: ChildStdout) -> Option<String> {
    let patience = Timespec { tv_sec: PATIENCE_S, tv_nsec: 0 };
    let mut said = [0; ANSWER_MAX_BYTES];
    match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&patience)) {
        Ok(1..) => {
            let length = stdout.read(&mut said).ok()?;
            Some(String::from_utf8_lossy(&said[..length]).into_owned())
        }
        _ => None,
    }
}

/// By how much a local time is ahead: `UTC-SECONDS YEAR MONTH DAY HOUR MINUTE SECOND`.
fn read(said: &str) -> Option<i64> {
    let numbers: Option<Vec<i64>> = said.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
    let [seconds, year, month, day, hour, minute, second] = numbers?[..] else { return None };
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let local = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let offset = local.checked_sub(seconds)?;
    // No zone is a day and two hours away.
    (is_date && offset.abs() <= 26 * 3600).then_some(offset)
}

/// Days from the first of 1970, in the calendar that all compilers count by. Years begin in March here, so that
/// the day that is not always there is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_what_local_time_is_ahead() {
        for (said, expected) in [
            ("0 1970 01 01 00 00 00\n", Some(0)),
            ("1795849200 2026 11 28 08 30 00", Some(8 * 3600 + 1800 - 7 * 3600)),
            ("1709164800 2024 02 28 15 00 00", Some(-9 * 3600)),
            ("1709251200 2024 03 01 02 00 00", Some(7200)),
            ("1709251200 2024 03 02 02 00 00", Some(26 * 3600)),
            ("951782400 2000 02 29 00 00 07", Some(7)),
            ("0 1970 01 03 00 00 00", None),
            ("0 1970 13 01 00 00 00", None),
            ("%s 1970 01 01 00 00 00", None),
            ("0 1970 01 01", None),
            ("", None),
        ] {
            assert_eq!(read(said), expected, "{said}");
        }
    }

    #[test]
    fn the_zone_is_the_jobs_own_and_one_that_names_a_file_is_not_asked() {
        let told = |entries: &[&str]| {
            let env = entries.iter().map(|entry| Bytes::from(*entry)).collect();
            let said = Zones::default().now(&Invocation { env, ..Invocation::default() })?.to_text();
            said.strip_prefix("SOURCE_DATE_EPOCH=")?.parse::<i64>().ok()
        };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
        for (zone, offset) in
            [("TZ=UTC", 0), ("TZ=", 0), ("TZ=XYZ-05:30", 19_800), ("TZ=<-03>3:00:01", -10_801)]
        {
            let began = now() + offset;
            let local = told(&[zone]).expect("a time");
            assert!((began..=now() + offset).contains(&local), "{zone}: {local}, not {began}");
        }
        for zone in ["TZ=/etc/passwd", "TZ=:/dev/tty", "TZ=../x", "TZ=a b"] {
            assert_eq!(told(&[zone]), None, "{zone}");
        }
        assert_eq!(told(&["SOURCE_DATE_EPOCH="]), None);
    }
}
