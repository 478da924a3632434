//! Apple Pay payment tokens (`PKPaymentToken.paymentData`).
