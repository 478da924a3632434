//! Google Pay payment method tokens (ECv1, ECv2, ECv2SigningOnly).
