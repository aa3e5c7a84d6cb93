//! Headers of real files, of hand-made ones, and of damaged ones.

use std::fs::File;

use object::read::ReadCache;
use proptest::prelude::*;

use super::*;

const NEEDED: u64 = 1;
const STRTAB: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
const FLAGS_1: u64 = 0x6fff_fffb;

/// A value in a dynamic table.
#[derive(Clone, Copy)]
enum Value {
    Text(&'static str),
    Number(u64),
    /// The address of the strings.
    Strings,
}
use Value::{Number, Strings, Text};

/// A file of one class and byte order.
struct Made {
    wide: bool,
    little: bool,
    bytes: Vec<u8>,
}

impl Made {
    fn half(&mut self, value: u16) {
        self.bytes.extend(if self.little { value.to_le_bytes() } else { value.to_be_bytes() });
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(if self.little { value.to_le_bytes() } else { value.to_be_bytes() });
    }

    /// A number as long as an address.
    fn long(&mut self, value: u64) {
        match (self.wide, self.little) {
            (false, _) => self.word(value as u32),
            (true, true) => self.bytes.extend(value.to_le_bytes()),
            (true, false) => self.bytes.extend(value.to_be_bytes()),
        }
    }

    fn header(&mut self, machine: u16, segments: u16) {
        let (size, segment) = if self.wide { (64, 56) } else { (52, 32) };
        self.bytes.extend([0x7f, b'E', b'L', b'F', 1 + u8::from(self.wide), 2 - u8::from(self.little), 1]);
        self.bytes.resize(16, 0);
        self.half(3);
        self.half(machine);
        self.word(1);
        self.long(0);
        self.long(size);
        self.long(0);
        self.word(0);
        for value in [size as u16, segment, segments, 0, 0, 0] {
            self.half(value);
        }
    }

    fn segment(&mut self, kind: u32, offset: u64, address: u64, size: u64) {
        self.word(kind);
        if self.wide {
            self.word(0);
        }
        for value in [offset, address, address, size, size] {
            self.long(value);
        }
        if !self.wide {
            self.word(0);
        }
        self.long(0);
    }
}

/// A program that is loaded at 0x10000, with this loader and this dynamic table.
fn made(wide: bool, little: bool, loader: &str, table: &[(u64, Value)]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut entries: Vec<(u64, u64)> = Vec::new();
    let (header, entry) = if wide { (64 + 3 * 56, 16) } else { (52 + 3 * 32, 8) };
    let size = (table.len() as u64 + 1) * entry;
    for &(tag, value) in table {
        let number = match value {
            Number(number) => number,
            Strings => 0x10000 + header + size,
            Text(text) => {
                strings.extend([text.as_bytes(), b"\0"].concat());
                (strings.len() - text.len() - 1) as u64
            }
        };
        entries.push((tag, number));
    }
    entries.push((0, 0));
    let name = header + size + strings.len() as u64;
    let mut made = Made { wide, little, bytes: Vec::new() };
    made.header(62, 3);
    made.segment(1, 0, 0x10000, name);
    made.segment(2, header, 0x10000 + header, size);
    made.segment(3, name, 0x10000 + name, loader.len() as u64 + 1);
    assert_eq!(made.bytes.len() as u64, header);
    for (tag, number) in entries {
        made.long(tag);
        made.long(number);
    }
    made.bytes.extend(strings);
    made.bytes.extend([loader.as_bytes(), b"\0"].concat());
    made.bytes
}

const TABLE: &[(u64, Value)] = &[
    (NEEDED, Text("libb.so.2")),
    (NEEDED, Text("liba.so.1")),
    (RPATH, Text("$ORIGIN/../lib:/opt/x")),
    (STRTAB, Strings),
];

#[test]
fn every_class_and_byte_order_reads_the_same() {
    for (wide, little) in [(true, true), (true, false), (false, true), (false, false)] {
        let needs = read(&made(wide, little, "/lib/ld.so", TABLE)[..]).expect("headers");
        let expected = Needs {
            machine: Machine { wide, little, number: 62 },
            interpreter: Some(Bytes::from("/lib/ld.so")),
            libraries: vec![Bytes::from("libb.so.2"), Bytes::from("liba.so.1")],
            rpath: Some(Bytes::from("$ORIGIN/../lib:/opt/x")),
            runpath: None,
            own_paths_only: false,
        };
        assert_eq!(needs, expected, "wide: {wide}, little: {little}");
    }
}

#[test]
fn a_runpath_makes_an_rpath_void() {
    let table = [TABLE, &[(RUNPATH, Text("/new")), (FLAGS_1, Number(0x800))]].concat();
    let needs = read(&made(true, true, "/l", &table)[..]).expect("headers");
    assert_eq!((needs.rpath, needs.runpath), (None, Some(Bytes::from("/new"))));
    assert!(needs.own_paths_only);
}

#[test]
fn what_stands_behind_the_end_of_the_table_does_not_count() {
    let table = [(STRTAB, Strings), (0, Number(0)), (NEEDED, Text("libx.so"))];
    let needs = read(&made(true, true, "/l", &table)[..]).expect("headers");
    assert!(needs.libraries.is_empty(), "{needs:?}");
}

#[test]
fn what_makes_no_sense_is_told() {
    let check = |bytes: &[u8], expected: ElfError| assert_eq!(read(bytes), Err(expected));
    check(b"", ElfError::NotElf);
    check(b"#!/bin/sh\nexec gcc \"$@\"\n", ElfError::NotElf);
    check(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", ElfError::Broken("header"));
    let without_strings = [(NEEDED, Number(1))];
    check(&made(true, true, "/l", &without_strings), ElfError::Broken("table of strings"));
    let beyond = [(NEEDED, Number(u64::MAX)), (STRTAB, Strings)];
    check(&made(true, true, "/l", &beyond), ElfError::Broken("table of strings"));
    let elsewhere = [(NEEDED, Number(0)), (STRTAB, Number(u64::MAX - 1))];
    check(&made(true, true, "/l", &elsewhere), ElfError::Broken("table of strings"));
    let many = vec![(NEEDED, Number(0)); NEEDED_MAX + 1];
    check(
        &made(true, true, "/l", &[&many[..], &[(STRTAB, Strings)]].concat()),
        ElfError::Broken("number of libraries"),
    );
    let mut endless = made(true, true, "/l", TABLE);
    endless.pop();
    check(&endless, ElfError::Broken("name of the loader"));
}

#[test]
fn programs_of_this_machine_are_read() {
    let own = std::env::current_exe().expect("this program");
    let needs = read(&ReadCache::new(File::open(own).expect("this program"))).expect("headers");
    assert!(needs.interpreter.is_some());
    assert!(needs.libraries.iter().any(|name| name.starts_with(b"libc.")), "{needs:?}");
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (any::<bool>(), any::<bool>(), damage, any::<prop::sample::Index>()).prop_map(
        |(wide, little, damage, end)| {
            let mut bytes = made(wide, little, "/lib/ld.so", TABLE);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len() * 2));
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn damaged_files_are_read_or_refused(bytes in damaged()) {
        // The same from memory and from a file, whatever it is.
        let cached = ReadCache::new(std::io::Cursor::new(bytes.clone()));
        prop_assert_eq!(read(&cached), read(&bytes[..]));
    }

    #[test]
    fn noise_is_read_or_refused(class in 1u8..3, order in 1u8..3, noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [&[0x7f, b'E', b'L', b'F', class, order, 1][..], &noise].concat();
        let _ = read(&bytes[..]);
    }
}
