//! The include scanner against real compilers and real files.

mod bounds;
mod fresh;
mod graphs;
mod mounts;
mod options;
mod sets;
