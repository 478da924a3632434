//! The shell around the engine: sockets, disk, clock, plugins and the command line.

pub mod config;
pub mod front_door;
pub mod plugin_host;
pub mod upstream;
