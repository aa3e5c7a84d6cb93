//! The include scanner against real compilers and real files.

mod fresh;
mod graphs;
mod options;
mod sets;
