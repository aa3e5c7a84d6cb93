use super::*;
use crate::common::trust::invitation::Secret;

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

struct Ground {
    _top: tempfile::TempDir,
    folder: PathBuf,
    trust: Trust,
}

fn ground() -> Ground {
    let top = tempfile::tempdir().expect("a folder");
    let folder = top.path().join("state");
    let trust = Trust::open(&folder).expect("keys");
    Ground { _top: top, folder, trust }
}

impl Ground {
    fn authorize(&self, text: &str) {
        let path = self.folder.join("authorized_keys");
        files::edit(&path, FILE_MAX_BYTES, |_| text.to_owned()).expect("a list");
    }

    fn invite(&self) -> [u8; 16] {
        pairing::invite(&self.folder, Some("here")).expect("an invitation").secret.0
    }
}

#[test]
fn a_line_that_is_added_or_removed_counts_at_once() {
    let ground = ground();
    assert!(ground.trust.admit(&key(1), &[]).is_none());
    ground.authorize(&format!("{} ann\n", key(1)));
    let admitted = ground.trust.admit(&key(1), &[]).expect("authorised");
    assert_eq!(admitted.name, "ann");
    assert!(ground.trust.stands(&key(1), &admitted));
    ground.authorize("");
    assert!(!ground.trust.stands(&key(1), &admitted));
}

#[test]
fn a_farms_word_lets_a_client_in_until_it_is_revoked() {
    let ground = ground();
    let (farm, client) = (Identity::generate().expect("a key"), Identity::generate().expect("a key"));
    let tomorrow = Day(today().0 + 1);
    let certificate = Certificate::sign(&farm, client.public(), "ann", tomorrow).to_string();
    assert!(ground.trust.admit(&client.public(), std::slice::from_ref(&certificate)).is_none());
    let ours = format!("farm {}\n", farm.public());
    ground.authorize(&ours);
    assert!(ground.trust.admit(&client.public(), &["x".to_owned()]).is_none());
    assert!(ground.trust.admit(&key(7), std::slice::from_ref(&certificate)).is_none(), "it is another's");
    let admitted = ground.trust.admit(&client.public(), &[certificate]).expect("vouched for");
    assert!(admitted.name == "ann" && ground.trust.stands(&client.public(), &admitted));
    ground.authorize(&format!("{ours}revoked {}\n", client.public()));
    assert!(!ground.trust.stands(&client.public(), &admitted));
}

#[test]
fn an_invitation_counts_once() {
    let ground = ground();
    let secret = ground.invite();
    assert!(ground.trust.register.may_knock(&key(1)));
    assert_eq!(ground.trust.invited(secret, &key(1), "ann\n"), Some("ann".to_owned()));
    assert_eq!(ground.trust.invited(secret, &key(2), "bob"), None);
    assert!(ground.trust.admit(&key(1), &[]).is_some() && ground.trust.admit(&key(2), &[]).is_none());
    assert!(!ground.trust.register.may_knock(&key(2)));
}

#[test]
fn an_invitation_is_taken_by_one_of_many() {
    let ground = ground();
    let secret = ground.invite();
    let taken = std::thread::scope(|scope| {
        let trust = &ground.trust;
        let threads: Vec<_> =
            (1..=16).map(|number| scope.spawn(move || trust.invited(secret, &key(number), "x"))).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).count()
    });
    assert_eq!(taken, 1);
}

#[test]
fn an_invitation_that_is_old_or_guessed_lets_nobody_in() {
    let ground = ground();
    let secret = ground.invite();
    let path = pairing::folder(&ground.folder).join(Secret(secret).file_name());
    for until in [unix_now() - 1, unix_now() + 3600] {
        files::edit(&path, 64, |_| until.to_string()).expect("our own file");
        assert!(!ground.trust.register.may_knock(&key(1)));
        assert_eq!(ground.trust.invited(secret, &key(1), "ann"), None);
        assert!(!path.exists(), "whoever shows it has used it up");
    }
    ground.invite();
    assert_eq!(ground.trust.invited([0; 16], &key(1), "ann"), None);
}

#[test]
fn a_revoked_key_is_not_let_in_by_an_invitation() {
    let ground = ground();
    ground.authorize(&format!("revoked {}", key(1)));
    let secret = ground.invite();
    assert_eq!(ground.trust.invited(secret, &key(1), "ann"), None);
    assert!(ground.trust.admit(&key(1), &[]).is_none());
}

#[test]
fn pairing_again_leaves_one_line() {
    let ground = ground();
    for name in ["ann", "ann again"] {
        let secret = ground.invite();
        assert_eq!(ground.trust.invited(secret, &key(1), name), Some("ann".to_owned()));
    }
    let text = files::list(&ground.folder.join("authorized_keys"), FILE_MAX_BYTES).expect("a list");
    assert_eq!(text, format!("{} ann\n", key(1)));
}

#[test]
fn a_code_says_where_the_daemon_is() {
    let ground = ground();
    let place = |address: Option<&str>| pairing::invite(&ground.folder, address).map(|it| (it.host, it.port));
    assert!(place(None).is_err(), "no daemon has served");
    pairing::note_serving(&ground.folder, &["127.0.0.1:4000".parse().expect("an address")]);
    assert_eq!(place(None).expect("a code"), ("127.0.0.1".to_owned(), 4000));
    for (given, host, port) in [
        ("build7", "build7", 4000),
        ("build7:9", "build7", 9),
        ("fd00::7", "fd00::7", 4000),
        ("[fd00::7]", "fd00::7", 4000),
        ("[fd00::7]:9", "fd00::7", 9),
    ] {
        assert_eq!(place(Some(given)).expect("a code"), (host.to_owned(), port));
    }
    assert!(place(Some("a b")).is_err() && place(Some("a:0")).is_err());
    pairing::note_serving(&ground.folder, &["[::]:3632".parse().expect("an address")]);
    let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(place(None).expect("a code"), (own_name, 3632));
}

#[test]
fn the_key_is_the_folders() {
    let ground = ground();
    assert_eq!(Trust::open(&ground.folder).expect("keys").key(), ground.trust.key());
    let shown = std::fs::read_to_string(ground.folder.join("volunteer.pub")).expect("a public key");
    assert_eq!(shown.trim(), ground.trust.key().to_string());
}
