//! System headers, which gcc knows by other names.

use super::*;

#[test]
fn system_headers_are_known_by_their_shorter_real_path() {
    let files = [("/w/m.cc", "#include <../s/d/../x>\n"), ("/s/x", "")];
    // Found in /i, which is no system directory: the name stays.
    walks(&gcc(), &files, &["/i/../s/d/../x"]);
    let files = [("/w/m.cc", "#include <d/../x>\n"), ("/s/x", "#include \"y\""), ("/s/y", "")];
    let scan = gcc().scan(&files).unwrap();
    assert!(names(&scan)[1] == "/s/x" || names(&scan)[1] == "/i/d/../x");
}

/// All of capnproto's headers do that: none of what includes them could travel as files.
#[test]
fn a_macro_that_makes_system_headers_is_of_no_account_where_each_file_has_one_name() {
    for system in [
        "#define S _Pragma(\"GCC system_header\")\nS",
        "_Pragma(\"GCC system_header\")",
        "P(GCC system_header)",
    ] {
        let scan = |includes: &str| {
            let header = format!("{system}\n{includes}\n");
            let files = [
                ("/w/m.cc", "#include <p>\n"),
                ("/i/p", &header),
                ("/i/a", "#include \"b\"\n"),
                ("/i/b", ""),
            ];
            match gcc().scan(&files) {
                Ok(scan) => names(&scan)[1..].join(" "),
                Err(declined) => declined.to_string(),
            }
        };
        assert_eq!(scan("#include \"a\""), "/i/p /i/a /i/b", "{system}");
        assert_eq!(scan("#include <d/../b>"), "/i/p /i/d/../b", "{system}");
        let twice = scan("#include \"d/../a\"");
        assert!(twice.contains("a file that has two names"), "{system}: {twice}");
    }
}

/// What is remembered of a header holds only where no macro may have made it another kind of header meanwhile.
#[test]
fn a_header_that_was_read_before_is_looked_at_again_where_macros_make_system_headers() {
    let mut memory = Memory::default();
    memory.keep_all_effects();
    let mut map = Map::new(&[
        ("/w/m.cc", "#include <a>\n"),
        ("/w/n.cc", "#define S _Pragma(\"GCC system_header\")\n#include <a>\n"),
        ("/i/a", "#include \"d/../b\"\n"),
        ("/i/b", ""),
    ]);
    for _ in 0..4 {
        assert!(gcc().scan_in(b"m.cc", &mut map, &mut memory).is_ok());
        assert!(gcc().scan_in(b"n.cc", &mut map, &mut memory).is_err());
    }
}
