//! Control words that show something: the parts of them that ask, read and print.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{NOT_RUNNING, ask, complain, print, style, surroundings};
use crate::broker::config::origin;
use crate::broker::doctor::examine;
use crate::broker::explain::explain as explain_command;
use crate::broker::status::Report;
use crate::broker::status::render::Style;
use crate::broker::trace::{self, Timeline};
use crate::broker::watch::Look;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::protocol::local::{Control, ControlReply};

/// What a broker that runs says of itself.
pub fn report() -> Result<Option<Report>, String> {
    match ask(&Control::Status)? {
        Some(ControlReply::Status { json }) => {
            serde_json::from_str(&json).map(Some).map_err(|error| error.to_string())
        }
        _ => Ok(None),
    }
}

/// What this terminal can show.
pub fn look() -> Look {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    // Where no locale is set, e.g. in a container, the terminal is most likely one of today.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let is_utf8 = |locale: String| locale.contains("utf-8") || locale.contains("utf8");
    let unicode = locale.is_none_or(|locale| is_utf8(locale.to_string_lossy().to_lowercase()));
    Look { colours: style().colours, unicode }
}

/// Where the broker serves its page.
pub fn dashboard() -> Result<ExitCode, String> {
    match ask(&Control::Dashboard)? {
        Some(ControlReply::Text { text }) => {
            print(&format!("{text}\n"));
            Ok(ExitCode::SUCCESS)
        }
        Some(_) => Err("the broker cannot open a port on loopback; its log says why".to_owned()),
        None => {
            complain("distcc: no broker is running; the first compile starts one");
            Ok(ExitCode::from(NOT_RUNNING))
        }
    }
}

/// What would become of a command.
pub fn explain(argv: Vec<Bytes>) -> Result<ExitCode, String> {
    let invocation = Invocation { argv, ..surroundings()? };
    // A broker of another version says nothing about the command.
    let report = report().unwrap_or_default();
    let text = runtime()?.block_on(explain_command(&invocation, origin(), report.as_ref()));
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// Writes a timeline: of a build that runs now, or of the latest one.
pub fn trace(words: &[OsString]) -> Result<ExitCode, String> {
    let (file, command) = words.split_first().ok_or("which file?")?;
    let command = match command {
        [dashes, command @ ..] if dashes == "--" => command,
        command => command,
    };
    match command.split_first() {
        Some((program, arguments)) => trace_build(file, program, arguments),
        None => trace_latest(file),
    }
}

/// Runs a build; its jobs are traced by the broker (`DISTCC_TRACE`). Ends as the build ends.
fn trace_build(file: &OsString, program: &OsString, arguments: &[OsString]) -> Result<ExitCode, String> {
    let path = std::path::absolute(file).map_err(|error| error.to_string())?;
    // Whoever cannot write there is told before the build runs.
    std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let order = Bytes::from(&*path);
    // Without a broker there is nothing to begin anew.
    if let Err(why) = ask(&Control::TraceBegin { file: order.clone() }) {
        complain(&why);
    }
    let mut build = std::process::Command::new(program);
    build.args(arguments).env("DISTCC_TRACE", &path);
    let ended = in_the_foreground(build).map_err(|error| {
        let program = Path::new(program);
        format!("{}: {error}", program.display())
    })?;
    let said = match ask(&Control::TraceEnd { file: order }) {
        Ok(Some(ControlReply::Text { text })) => text,
        Err(why) => why,
        Ok(_) => "no job of it came to the broker, so there is nothing in the trace\n".to_owned(),
    };
    complain(&format!("{}:\n{}", path.display(), said.trim_end()));
    let code = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Runs a command to its end. Signals from the terminal are for it: it decides what they mean.
fn in_the_foreground(command: std::process::Command) -> std::io::Result<std::process::ExitStatus> {
    runtime().map_err(std::io::Error::other)?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut child = tokio::process::Command::from(command).spawn()?;
        loop {
            tokio::select! {
                ended = child.wait() => return ended,
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
        }
    })
}

fn trace_latest(file: &OsString) -> Result<ExitCode, String> {
    let Some(ControlReply::Text { text }) = ask(&Control::Timeline)? else {
        return Err("no broker is running, so nothing is remembered of a build".to_owned());
    };
    let timeline: Timeline = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if timeline.records.is_empty() {
        return Err("the broker has done nothing yet".to_owned());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", Path::new(file).display());
    let (text, summary) = trace::whole(&timeline).map_err(failed)?;
    if file == "-" {
        std::io::stdout().write_all(&text).map_err(failed)?;
        complain(summary.trim_end());
    } else {
        std::fs::write(file, &text).map_err(failed)?;
        print(&summary);
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks all that a build needs.
pub fn doctor(style: Style) -> Result<ExitCode, String> {
    let ask = || report().ok().flatten();
    let well = examine(&surroundings()?, &ask, &mut |check| print(&check.render(style)));
    Ok(ExitCode::from(u8::from(!well)))
}

/// For what a broker does asynchronously, done here.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}
