//! The control words about keys.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Trust;
use super::pairing;
use crate::broker::config;
use crate::common::trust::certificate::{Certificate, Day};
use crate::common::trust::files;
use crate::common::trust::key::Identity;

/// How long a certificate counts when nobody says.
const CERTIFICATE_DAYS: u32 = 365;

/// `distcc --key`.
///
/// # Errors
///
/// Returns why there is no key.
pub fn key() -> Result<String, String> {
    let trust = Trust::of_environment();
    trust.identity().map(|identity| format!("{}\n", identity.public())).map_err(|error| error.to_string())
}

/// `distcc --pair CODE`.
///
/// # Errors
///
/// Returns what went wrong, and what to do.
pub fn pair(code: &str) -> Result<String, String> {
    let invitation = code.parse().map_err(|error| format!("{error}"))?;
    let paired = pairing::pair(&Trust::of_environment(), &invitation, &config::client())
        .map_err(|error| error.to_string())?;
    Ok(format!(
        "paired with {} (fingerprint {}), which calls this client {}\nlist it in DISTCC_HOSTS or in ~/.distcc/hosts to use it\n",
        paired.address,
        paired.key.fingerprint(),
        paired.name
    ))
}

/// `distcc --farm-key`.
///
/// # Errors
///
/// Returns why there is no key.
pub fn farm_key() -> Result<String, String> {
    farm().map(|farm| format!("{}\n", farm.public()))
}

fn farm() -> Result<Identity, String> {
    let trust = Trust::of_environment();
    let folder = trust.folder().map_err(|error| error.to_string())?;
    let made = files::private_folder(folder).and_then(|()| files::secret(&folder.join("farm.key")));
    made.map_err(|error| error.to_string())
}

/// `distcc --sign-key KEY NAME [LAST-DAY]`.
///
/// # Errors
///
/// Returns what is wrong with the words.
pub fn sign_key(words: &[String]) -> Result<String, String> {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (key, name, until) = match words {
        [key, name] => (key, name, Day(Day::of_unix(today).0 + CERTIFICATE_DAYS)),
        [key, name, until] => {
            let last: Day = until.parse().map_err(|()| format!("{until} is no day (YYYY-MM-DD)"))?;
            if last < Day::of_unix(today) {
                return Err(format!("{until} is over; the last day is today or later"));
            }
            (key, name, last)
        }
        _ => return Err("--sign-key takes a key, a name, and if need be a last day".to_owned()),
    };
    let key = key.parse().map_err(|error| format!("{key}: {error}"))?;
    let certificate = Certificate::sign(&farm()?, key, name, until);
    match certificate.name.is_empty() {
        true => Err("the client needs a name".to_owned()),
        false => Ok(format!("{certificate}\n")),
    }
}
