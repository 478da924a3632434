//! The shell around the engine: sockets, disk, clock, plugins and the command line.
//!
//! One payment passes through these rooms in this order: [`front_door`] reads a whole request,
//! [`merchant_api`] turns it into an input, [`driver`] takes it through the engine and the journal,
//! [`calls`] lets a plugin in the plugin host build and read what [`upstream`] sends, and the
//! answer goes back the same way. [`notifications`] and [`resolver`] come to the driver by
//! themselves; [`health`] watches over the accounts and [`overload`] over the process itself;
//! [`webhooks`] tells merchants what became of it, and [`reconcile`] holds the providers'
//! statements against the journal; [`admin`] shows what is true, with what [`recent`] remembers,
//! and [`explain`] what routing would do; [`access`] says who may come in.
//! [`failpoint`] is empty in every build that ships.

pub mod access;
pub mod admin;
pub mod calls;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod driver;
pub mod explain;
pub mod failpoint;
pub mod front_door;
pub mod health;
pub mod live;
pub mod merchant_api;
pub mod metrics;
pub mod native;
pub mod node;
pub mod notifications;
pub mod overload;
pub mod recent;
pub mod reconcile;
pub mod reload;
pub mod resolver;
mod restoration;
pub mod run;
pub mod setup;
pub mod upstream;
pub mod wallets;
pub mod webhooks;

#[cfg(test)]
#[path = "../../../tests/src/mutator.rs"]
mod mutator;
