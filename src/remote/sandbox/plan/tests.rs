//! Plans, looked at.

use std::os::fd::AsFd;

use super::*;

const LIMITS: Limits = Limits {
    nice: 0,
    file_bytes: 1,
    memory_bytes: None,
    data_bytes: None,
    cpu_seconds: None,
    open_files: None,
};

fn words(shape: &Shape<'_>) -> Vec<String> {
    plan(shape).unwrap().iter().map(|step| describe(Some(step))).collect()
}

fn shape(layers: &Layers) -> Shape<'_> {
    Shape {
        stage: Path::new("/s"),
        root: Path::new("/f"),
        over: Over::Layers(layers),
        cwd: b"/home/a,b:c",
        ids: (5, 6),
        proc: true,
        numbers: false,
        limits: &LIMITS,
        ceiling: |_| None,
        scratch_bytes: 1 << 20,
        watch: None,
    }
}

fn layers(writable: &str, locked: &[&str]) -> Layers {
    let locked = locked.iter().map(|folder| (0, folder.as_bytes().to_vec())).collect();
    Layers { writable: vec![writable.as_bytes().to_vec()], locked }
}

#[test]
fn no_name_of_a_client_is_among_an_overlays_options() {
    let layers = layers("/home/a,b:c", &[]);
    let steps = plan(&shape(&layers)).unwrap();
    let options: Vec<String> = steps
        .iter()
        .filter_map(|step| match &step.act {
            Act::Mount { data: Some(data), .. } => Some(data.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(options.len(), 2, "{options:?}");
    assert_eq!(options[1], "lowerdir=l0,upperdir=u0,workdir=w0,userxattr");
}

#[test]
fn the_root_is_locked_before_anything_lies_over_it_and_left_for_good() {
    let words = words(&shape(&layers("/home/a,b:c", &["/home/a,b:c/inc"])));
    let at = |wanted: &str| {
        words.iter().position(|word| word == wanted).unwrap_or_else(|| panic!("{wanted}: {words:?}"))
    };
    assert!(at("mount a folder again at root") < at("mount overlay at root/home/a,b:c"));
    assert!(at("mount overlay at root/home/a,b:c") < at("mount a folder at root/home/a,b:c/inc"));
    assert!(at("mount proc at root/proc") < at("change the root"));
    assert!(at("change the root") < at("enter /home/a,b:c"));
    assert_eq!(words.last().map(String::as_str), Some("set a limit"));
}

#[test]
fn a_job_that_works_at_the_root_has_a_layer_over_all() {
    let all = layers("/", &["/usr"]);
    let words = words(&Shape { cwd: b"/", proc: false, ..shape(&all) });
    for step in ["mount overlay at root", "mount a folder at root/usr"] {
        assert!(words.contains(&step.to_owned()), "{step}: {words:?}");
    }
    assert!(!words.iter().any(|word| word.contains("proc at")));
}

#[test]
fn a_job_that_sees_this_machine_has_its_parts_locked_and_a_folder_of_its_own() {
    let inputs = [Input { name: "in.i".to_owned(), is_folder: false }];
    let shared = ["/usr", "/tmp/x/bin"].map(PathBuf::from);
    let machine = Machine { shared: &shared, work: Path::new("/tmp/d/jobs/7"), inputs: &inputs };
    let layers = Layers::default();
    let words = words(&Shape { over: Over::Machine(&machine), ..shape(&layers) });
    let at = |wanted: &str| {
        words.iter().position(|word| word == wanted).unwrap_or_else(|| panic!("{wanted}: {words:?}"))
    };
    for path in ["/usr", "/tmp/x/bin", "/tmp/d/jobs/7/in.i"] {
        assert!(at(&format!("mount a folder at root{path}")) < at(&format!("lock root{path}")));
    }
    assert!(at("make the folder p/tmp/d/jobs") < at("mount a folder at root/tmp/d/jobs"));
    assert!(at("make the file u0/7/in.i") < at("mount a folder at root/tmp/d/jobs"));
}

#[test]
fn folders_are_watched_as_the_job_sees_them_and_it_may_do_without() {
    let layers = layers("/home/a,b:c", &[]);
    let (instance, folders) = (std::fs::File::open("/").expect("the root"), [c"/usr/include".to_owned()]);
    let watch = Some(Watch { instance: instance.as_fd(), folders: &folders });
    let steps = plan(&Shape { watch, ..shape(&layers) }).expect("a plan");
    let at = |wanted: &str| {
        steps.iter().position(|step| describe(Some(step)) == wanted).unwrap_or_else(|| panic!("{wanted}"))
    };
    assert!(at("change the root") < at("watch /usr/include"));
    assert!(steps[at("watch /usr/include")].optional);
}

#[test]
fn hard_limits_of_the_daemon_below_a_jobs_are_what_the_job_gets() {
    let all = Limits {
        memory_bytes: Some(1 << 40),
        data_bytes: Some(1 << 40),
        cpu_seconds: Some(300),
        open_files: Some(4096),
        file_bytes: 1 << 29,
        nice: 0,
    };
    let layers = layers("/home/a,b:c", &[]);
    let boxed = plan(&Shape { limits: &all, ceiling: |_| Some(5), ..shape(&layers) }).expect("a plan");
    let unboxed = plan_without_box(Path::new("/w"), b"/w", &all, |_| Some(5)).expect("a plan");
    for steps in [boxed, unboxed] {
        let limits = steps.iter().filter_map(|step| match step.act {
            Act::Limit(resource, most) => Some((resource, most)),
            _ => None,
        });
        let limits: Vec<_> = limits.collect();
        assert!(limits.iter().all(|&(_, most)| most <= 5), "{limits:?}");
        assert_eq!(limits.iter().filter(|&&(_, most)| most == 5).count(), 7, "{limits:?}");
    }
}

#[test]
fn a_path_with_a_nul_has_no_plan() {
    let none = Layers::default();
    assert!(plan(&Shape { cwd: b"/a\0b", ..shape(&none) }).is_none());
}
