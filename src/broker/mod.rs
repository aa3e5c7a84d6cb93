//! The broker: one per user, knows everything worth remembering, and decides where jobs run.

pub mod scan;
pub mod scheduler;
