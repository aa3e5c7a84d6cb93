//! The host list.
