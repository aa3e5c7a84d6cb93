//! The include scanner against real compilers and real files.

mod graphs;
mod sets;
