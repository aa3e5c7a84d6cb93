//! Keys of a farm: its client and each of its volunteers know each other from the start.

use std::path::Path;

use distcc::common::trust::files;

/// Makes a client, whose `DISTCC_DIR` is `home`, and a volunteer, whose keys are in `state`, know each other.
pub fn introduce(home: &Path, state: &Path) {
    let client = home.join("keys");
    files::private_folder(&client).expect("a folder of our own");
    files::private_folder(state).expect("a folder of our own");
    let ours = files::secret(&client.join("client.key")).expect("a key").public();
    let theirs = files::secret(&state.join("volunteer.key")).expect("a key").public();
    let add = |path: &Path, line: String| {
        files::edit(path, 1 << 20, |text| format!("{text}{line}\n")).expect("a list of our own");
    };
    add(&state.join("authorized_keys"), format!("{ours} farm"));
    // Its port is not known yet: a volunteer is known by its key.
    let name = state.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    add(&client.join("known_volunteers"), format!("{name} {theirs}"));
}
