//! Integration tests, one binary: real shims, brokers and volunteers on loopback, real compilers.
//!
//! - [`farm`]: the fixture, and the check that nothing of it is left behind;
//! - [`exact`]: what a user gets equals what a local compile gives, byte for byte;
//! - [`hermetic`]: the same where a volunteer has nothing but what the client sends;
//! - [`cached`]: results that were kept, against what other caches took for the same;
//! - [`faults`]: whatever dies, fills up, stops or lies, the build ends well;
//! - [`shim`]: the shim alone, against a broker made by the test;
//! - [`detaching`]: a broker holds nothing of the build that started it;
//! - [`scan`]: the include scanner against what compilers say that they read;
//! - [`builds`]: build systems and ccache, as the README tells;
//! - [`closure`]: a compiler in a root that holds its closure and nothing else;
//! - [`classic`]: the programs of distcc 3.4 against ours;
//! - [`products`]: what compilers make, against what the classifier allows;
//! - [`promises`]: what the manuals of distcc 3.4 promise, by number;
//! - [`remote`]: a volunteer alone, against a broker made by the test;
//! - [`sight`]: what people are shown: status, explanations, traces, checks;
//! - [`fuzz`]: every parser of a peer's bytes, with a corpus and its mutations;
//! - [`hostile`]: clients and volunteers that mean harm;
//! - [`slow`]: a volunteer at the end of a thin, long line;
//! - [`tidy`]: rules about the sources that no lint knows;
//! - [`licences`]: rules about the dependencies.

mod builds;
mod cached;
mod classic;
mod closure;
mod compilers;
mod detaching;
mod exact;
mod farm;
mod faults;
mod fuzz;
mod hermetic;
mod hostile;
mod licences;
mod products;
mod promises;
mod remote;
mod scan;
mod scene;
mod settings;
mod shim;
mod sight;
mod slow;
mod subtle;
mod tidy;
mod travels;
mod trust;
