//! The sandbox seen from its sockets: every test speaks the providers' wire forms to a running one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod adyen;
mod alipay;
mod apple_pay;
mod checkout;
mod faults;
mod google_pay;
mod notices;
mod paypal;
mod program;
mod stage;
mod stripe;
mod wechatpay;
