//! The sandbox seen from its sockets: every test speaks the providers' wire forms to a running one.

mod alipay;
mod checkout;
mod faults;
mod notices;
mod program;
mod stage;
