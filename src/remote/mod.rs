//! distccd: takes compiles of others and runs them on this machine.
//!
//! - [`config`]: the command line; [`daemonize`], [`privileges`]: becoming a daemon;
//! - [`serve`]: the daemon's life, from start to drain; [`setup`]: what it needs for that;
//!   [`log`], [`stats`]: what it says of itself;
//! - [`listen`], [`access`], [`transport`], [`stdio`]: who gets in; [`hurry`]: who must leave;
//!   [`reticence`]: how much is said of them;
//! - [`owner`]: what the owner of the machine sees, and the pause; [`visitors`]: who reads pages;
//! - [`session`]: one link and its jobs; [`stream`], [`outbox`]: its two ends;
//! - [`classic`]: clients of distcc's own protocol, with [`whitelist`];
//! - [`admit`]: who runs next; [`gate`], [`sample`]: the shell around it; [`clients`]: who has what;
//! - [`job`]: one job from request to result, by [`intake`], [`store`], [`toolchain`], [`acceptable`],
//!   [`compile`], [`process`] and [`pack`]; [`couriers`]: what several clients send once among them;
//! - [`hermetic`], [`view`]: jobs that come as files; [`sandbox`]: how every job is kept in;
//! - [`root`], [`guard`]: where jobs run, and that nothing of them is left behind; [`groups`]: what one may
//!   use as a whole; [`ceiling`]: of what there can be only so much.

pub mod acceptable;
pub mod access;
pub mod admit;
pub mod ceiling;
pub mod classic;
pub mod clients;
pub mod compile;
pub mod config;
pub mod couriers;
pub mod daemonize;
pub mod gate;
pub mod groups;
pub mod guard;
pub mod hermetic;
pub mod hurry;
pub mod intake;
pub mod items;
pub mod job;
pub mod layers;
pub mod line;
pub mod listen;
pub mod log;
pub mod outbox;
pub mod owner;
pub mod pack;
pub mod privileges;
pub mod process;
pub mod reticence;
pub mod root;
pub mod sample;
pub mod sandbox;
pub mod serve;
pub mod session;
pub mod setup;
pub mod stamp;
pub mod stats;
pub mod stdio;
pub mod store;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod toolchain;
pub mod transport;
pub mod trust;
pub mod view;
pub mod visitors;
pub mod whitelist;

pub use serve::run;

/// The path of this program, for starting it again in another role.
fn own_program() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into())
}
