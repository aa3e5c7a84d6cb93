//! The alarm.

use std::fs;

use crate::farm::Farm;

#[test]
fn when_most_jobs_stay_for_one_reason_one_shim_says_so_once() {
    let farm = Farm::new(1);
    let mut said = Vec::new();
    for number in 0..25 {
        let source = format!("a{number}.c");
        fs::write(farm.work().join(&source), "int x;\n").expect("our own file");
        // An option that runs a program, and so keeps a compile here.
        let outcome = farm.shim(["gcc", "-wrapper", "env", "-c", &source]).expect_success("gcc -wrapper env");
        said.push(String::from_utf8_lossy(&outcome.stderr).into_owned());
    }
    let alarms: Vec<&String> = said.iter().filter(|text| text.contains("of this build ran here")).collect();
    assert_eq!(alarms.len(), 1, "{said:#?}");
    assert!(alarms[0].contains("20 of 20") && alarms[0].contains("distcc --explain"), "{alarms:?}");
    farm.finish();
}
