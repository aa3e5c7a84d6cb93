//! Prints what a compiler needs in an empty root: `cargo run --example closure gcc`.

use std::sync::Arc;
use std::time::Instant;

use distcc::broker::closure::{Digests, Surroundings, closure_of};
use distcc::broker::lookout::Lookout;
use distcc::broker::toolchain::Compilers;
use distcc::common::bytes::Bytes;
use distcc::common::inputs::EntryKind;

fn variable(name: &str) -> Bytes {
    std::env::var_os(name).map(Bytes::from).unwrap_or_default()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let digests = Arc::new(Digests::default());
    let around = Surroundings { path: variable("PATH"), library_path: variable("LD_LIBRARY_PATH") };
    for name in std::env::args_os().skip(1) {
        let compiler = Compilers::default()
            .resolve(&Bytes::from(name), &around.path, std::path::Path::new("/"))
            .await
            .map_err(|reason| reason.to_string())?;
        let begin = Instant::now();
        let closure = closure_of(&compiler.program, compiler.toolchain.clang, &around, &digests).await?;
        let first = begin.elapsed();
        let lookout = Lookout::default();
        let begin = Instant::now();
        let unchanged = closure.is_unchanged(&lookout);
        let again = begin.elapsed();
        let mut bytes = 0;
        for entry in &closure.entries {
            let path = &entry.path;
            match &entry.kind {
                EntryKind::File(file) | EntryKind::Dated { file, .. } => {
                    bytes += file.size;
                    println!("{} {:>10} {path}", file.digest.short(), file.size);
                }
                EntryKind::Link { target } => println!("{:>16} {:>10} {path} -> {target}", "", "link"),
                EntryKind::Folder => println!("{:>16} {:>10} {path}", "", "folder"),
            }
        }
        closure.watched().for_each(|path| println!("{:>16} {:>10} {}", "", "watched", path.display()));
        println!(
            "{}: {} entries, {bytes} bytes, {first:.1?}; unchanged: {unchanged}, {} paths in {again:.1?}",
            closure.digest.short(),
            closure.entries.len(),
            closure.watched().count(),
        );
    }
    Ok(())
}
