//! The include scanner against real compilers and real files.

mod bounds;
mod fresh;
mod graphs;
mod options;
mod sets;
