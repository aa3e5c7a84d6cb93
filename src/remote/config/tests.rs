//! What command lines mean.

use super::*;

fn read(line: &str) -> Result<Config, Answer> {
    Config::read(line.split_whitespace().map(OsString::from))
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let config = read("distccd").unwrap();
    assert_eq!((config.port, config.nice, config.slots(4)), (3632, 5, 6));
    assert!(!config.daemon && config.allow.is_empty() && config.listen.is_empty());
}

#[test]
fn options_of_distcc_are_understood() {
    let config = read(
        "distccd -a 10.0.0.0/8 --allow=fd00::/8 --listen 127.0.0.1 --listen ::1 -p 4000 -j 3 -N 10 \
         --log-level notice -P x.pid --no-detach --daemon",
    )
    .unwrap();
    assert_eq!((config.allow.len(), config.listen.len(), config.port), (2, 2, 4000));
    assert_eq!((config.slots(64), config.nice, config.log_level), (3, 10, Level::Info));
    assert!(config.daemon && config.pid_file.is_some_and(|path| path.is_absolute()));
}

#[test]
fn bad_values_exit_101_and_say_which() {
    for (line, word) in [
        ("distccd --port 65536", "65536"),
        ("distccd --port x", "--port"),
        ("distccd --jobs 0", "--jobs"),
        ("distccd --allow 10.0.0.1/80", "at most 32"),
        ("distccd --allow 300.0.0.1", "not an IPv4 or IPv6 address"),
        ("distccd --zeroconf", "--zeroconf is not offered"),
        ("distccd --auth", "GSSAPI"),
        ("distccd --nice x", "--nice"),
        ("distccd --bogus", "--bogus"),
    ] {
        let answer = read(line).expect_err(line);
        assert_eq!(answer.status, exit::BAD_ARGUMENTS, "{line}");
        assert!(answer.text.contains(word), "{line}: {}", answer.text);
    }
}

#[test]
fn what_it_is_follows_from_options_and_stdin() {
    for (line, socket, role) in [
        ("distccd", false, Role::Daemon),
        ("distccd", true, Role::OneConnection),
        ("distccd --daemon", true, Role::Daemon),
        ("distccd --no-detach", true, Role::Foreground),
        ("distccd --daemon --no-detach", false, Role::Foreground),
        ("distccd --no-fork", false, Role::Foreground),
        ("distccd --inetd --enable-tcp-insecure", false, Role::OneConnection),
        ("distccd --daemon --inetd", false, Role::OneConnection),
        ("distccd --stdio", false, Role::OneConnection),
    ] {
        assert_eq!(read(line).unwrap().role(socket), role, "{line} {socket}");
    }
}

#[test]
fn what_scripts_for_distccd_say_is_accepted() {
    let config = read("distccd --verbose --no-fifo -W --make-me-a-botnet --allow-private --allow build7 x --lifetime=9 --oom-score-adj -5").unwrap();
    assert_eq!((config.log_level, config.lifetime, config.oom_score_adj), (Level::Debug, 9, Some(-5)));
    assert!(config.enable_tcp_insecure && config.allow.len() > 8 && config.ignored.len() == 1);
    assert_eq!(read("distccd --no-fork -j 9").unwrap().slots(4), 1);
}

#[test]
fn what_stock_lets_pass_passes_and_is_told() {
    let odd = |line: &str| read(line).unwrap().odd.join("; ");
    assert_eq!(odd("distccd --nice 99"), "--nice 99 is taken for 19");
    assert_eq!(odd("distccd --nice -5 -j 500"), "--nice -5 is taken for 0");
    assert_eq!(odd("distccd x y"), "words without meaning are ignored: x y");
    assert!(odd("distccd --log-level loud").contains("taken for info"));
    let config = read("distccd --job-lifetime 0 --lifetime=0 --log-stderr --log-file x").unwrap();
    assert_eq!((config.job_lifetime, config.lifetime, config.odd.len()), (JOB_LIFETIME_MAX_S, 0, 0));
    let listen = read("distccd --listen localhost --listen *").unwrap().listen;
    assert_eq!(listen, ["localhost", "*"]);
}

#[test]
fn an_option_given_twice_means_the_later_one() {
    assert_eq!(read("distccd -p 1 --port 2").unwrap().port, 2);
}

#[test]
fn help_names_every_option() {
    let answer = read("distccd --help").expect_err("help");
    assert_eq!(answer.status, 0);
    for option in
        ["--allow", "--listen", "--port", "--jobs", "--nice", "--job-lifetime", "--pid-file", "--user"]
    {
        assert!(answer.text.contains(option), "{option}");
    }
    assert!(!answer.text.contains("--detached"));
}

#[test]
fn a_client_has_as_many_slots_as_its_jobs_and_its_memory_allow() {
    const GIB: u64 = 1 << 30;
    let slots = |words: &str| read(&format!("distccd {words}")).unwrap().client_slots(16, 8 * GIB, GIB);
    assert_eq!(slots(""), 6, "three quarters of the memory");
    assert_eq!(slots("--client-jobs 2"), 2);
    assert_eq!(slots("--client-memory 3072"), 3);
    assert_eq!(slots("--client-memory 65536"), 16);
    assert_eq!(slots("--client-memory 4096 --job-memory 2048"), 2);
    assert_eq!(slots("--client-memory 16"), 1);
}
