//! The scheduler under test: directed cases, and whole builds under virtual time.

mod acts;
mod cast;
mod directed;
mod full;
mod holds;
mod makespan;
mod rig;
mod seeds;
mod stragglers;
mod world;
