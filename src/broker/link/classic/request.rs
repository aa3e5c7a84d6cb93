//! What a job looks like on its way to a volunteer of the classic protocol.

use std::io;

use super::{ClassicOrder, INLINE_MAX_BYTES};
use crate::broker::link::Order;
use crate::broker::scheduler::api::Failure;
use crate::broker::sets::{Entry, FileSet};
use crate::common::action::{Argument, InputSet};
use crate::common::bytes::Bytes;
use crate::common::protocol::classic::{Token, Version, push_header, push_packet, push_text};

/// The bytes of a whole request.
///
/// # Errors
///
/// Returns that the input was damaged.
pub async fn encode(order: &Order, classic: &ClassicOrder) -> Result<Vec<u8>, Failure> {
    if let Some(set) = &classic.set {
        return Ok(file_set(set, classic));
    }
    let (packed, size) = (order.input.bytes.clone(), order.input.blob.size);
    let head = head(order, classic);
    let version = classic.version;
    let work = move || -> io::Result<Vec<u8>> {
        let mut request = head;
        let text = unpack(&packed, size)?;
        push_text(&mut request, version, Token::Doti, &text);
        Ok(request)
    };
    let built = match size as usize > INLINE_MAX_BYTES {
        true => tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten(),
        false => work(),
    };
    built.map_err(|error| Failure::Refused { why: format!("the text cannot be sent: {error}") })
}

fn unpack(packed: &[u8], size: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::with_capacity(size as usize);
    if size > 0 {
        zstd::stream::read::Decoder::with_buffer(packed)?.take(size).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// Version and command. `-o` is always there, as stock has it; `-x` never, as the ending of the
/// name tells the language.
fn head(order: &Order, classic: &ClassicOrder) -> Vec<u8> {
    let InputSet::Preprocessed { suffix, .. } = &order.action.inputs;
    let named = |ending: &str| Bytes([&classic.stem[..], ending.as_bytes()].concat());
    let mut words = vec![classic.compiler.clone()];
    for argument in &order.action.arguments {
        match argument {
            Argument::Plain(word) => words.push(word.clone()),
            Argument::Input => {
                let language = words.len().checked_sub(2).filter(|&at| *words[at] == *b"-x");
                words.truncate(language.unwrap_or(words.len()));
                words.push(named(suffix));
            }
            Argument::Output(number) => {
                let output = order.action.outputs.get(usize::from(*number));
                words.push(named(output.map_or(".o", |output| &output.suffix)));
            }
        }
    }
    words.extend(classic.more.iter().cloned());
    let mut request = Vec::new();
    push_header(&mut request, Token::Dist, classic.version as u32);
    push_words(&mut request, &words);
    request
}

fn push_words(request: &mut Vec<u8>, words: &[Bytes]) {
    push_count(request, Token::Argc, words.len());
    words.iter().for_each(|word| push_packet(request, Token::Argv, word));
}

fn push_count(request: &mut Vec<u8>, token: Token, count: usize) {
    push_header(request, token, u32::try_from(count).unwrap_or(u32::MAX));
}

/// A request of version 3. Files are packed already.
fn file_set(set: &FileSet, classic: &ClassicOrder) -> Vec<u8> {
    let command = [&classic.compiler].into_iter().chain(&set.words).chain(&classic.more);
    let command: Vec<Bytes> = command.cloned().collect();
    let mut request = Vec::new();
    push_header(&mut request, Token::Dist, Version::V3 as u32);
    push_packet(&mut request, Token::Cdir, &set.cwd);
    push_words(&mut request, &command);
    push_count(&mut request, Token::Nfil, set.entries.len());
    for (name, entry) in &set.entries {
        push_packet(&mut request, Token::Name, name);
        match entry {
            Entry::File(stream) => push_packet(&mut request, Token::File, stream),
            Entry::Link(target) => push_packet(&mut request, Token::Link, target),
        }
    }
    request
}
