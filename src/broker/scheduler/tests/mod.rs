//! The scheduler under test: directed cases, and whole builds under virtual time.

mod directed;
mod makespan;
mod seeds;
mod stragglers;
mod world;
