//! Apple Pay.
