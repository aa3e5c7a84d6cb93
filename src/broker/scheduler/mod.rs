//! Decides where each job runs.
//!
//! The scheduler answers one question: given what just happened, what must the broker do next?
//! It opens no socket, reads no clock and spawns nothing, so a failing run is a seed and a list of
//! events, not a race.

pub mod api;
