//! What people are shown: each way of looking, against a real broker and real volunteers.

mod alarm;
mod explain;
mod status;
mod trace;
