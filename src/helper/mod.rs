//! Helpers: those who read a control connection to learn which connections will follow.

pub mod ftp;
