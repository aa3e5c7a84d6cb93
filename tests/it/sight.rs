//! What people are shown: each way of looking, against a real broker and real volunteers.

mod alarm;
mod chrome;
mod dashboard;
mod doctor;
mod explain;
mod holds;
mod logs;
mod metrics;
mod old;
mod owner;
mod status;
mod terminal;
mod trace;
mod watch;
