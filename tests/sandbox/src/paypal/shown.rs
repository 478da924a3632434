//! Orders, authorizations, captures and refunds as PayPal shows them.
//!
//! There is one whole form of each; an answer without `Prefer: return=representation` is a cutting
//! of it, and a webhook carries it, so that these can never disagree.

use serde_json::{Value, json};

use super::order::{Approval, Authorization, Capture, Fate, Order, Refund};
use super::orders::Event;
use super::wire::{fresh, link, money, second};
use super::wish::Intent;
use crate::faults::Operation;

const REFUSED_CODE: &str = "5120";

/// What PayPal keeps of a capture, in minor units.
pub fn fee(amount: i64) -> i64 {
    (amount * 349 / 10_000 + 49).min(amount)
}

/// The cutting of `whole` that is answered when the whole is not asked for.
pub fn minimal(whole: &Value) -> Value {
    json!({ "id": whole["id"], "status": whole["status"], "links": whole["links"] })
}

impl Order {
    /// The provider's word for where the order stands.
    pub fn status(&self) -> &'static str {
        match self.approval {
            _ if !self.is_open() => "COMPLETED",
            Approval::Given | Approval::Hollow => "APPROVED",
            Approval::Awaited if self.wish.payer_acts => "PAYER_ACTION_REQUIRED",
            Approval::Awaited => "CREATED",
        }
    }

    /// The page on which the payer acts.
    pub fn page(&self, base: &str) -> String {
        format!("{base}/checkoutnow?token={}", self.id)
    }

    /// The order.
    pub fn show(&self, base: &str) -> Value {
        let wish = &self.wish;
        let mut unit = json!({
            "reference_id": wish.reference_id,
            "amount": money(wish.amount, &wish.currency),
            "payee": { "email_address": "merchant@shop.example", "merchant_id": "SANDBOX0MERCH" },
        });
        put(&mut unit, "custom_id", wish.custom_id.as_deref());
        put(&mut unit, "invoice_id", wish.invoice_id.as_deref());
        put(&mut unit, "description", wish.description.as_deref());
        let mut payments = json!({});
        if let Some(hold) = &self.authorization {
            payments["authorizations"] = json!([self.show_authorization(hold, base)]);
        }
        if !self.captures.is_empty() {
            let show = |capture| self.show_capture(capture, base);
            payments["captures"] = self.captures.iter().map(show).collect();
        }
        if !self.refunds.is_empty() {
            let show = |refund| self.show_refund(refund, base);
            payments["refunds"] = self.refunds.iter().map(show).collect();
        }
        if !self.is_open() {
            unit["payments"] = payments;
        }
        let mut shown = json!({
            "id": self.id,
            "intent": intent_word(wish.intent),
            "status": self.status(),
            "purchase_units": [unit],
            "create_time": second(self.made_ms),
            "update_time": second(self.changed_ms),
            "links": self.links(base),
        });
        if wish.payer_acts || self.approval != Approval::Awaited {
            shown["payment_source"] = json!({ "paypal": {} });
        }
        if self.approval != Approval::Awaited {
            shown["payer"] = json!({
                "email_address": "payer@mail.example",
                "payer_id": "SANDBOX0PAYER",
                "name": { "given_name": "Sam", "surname": "Payer" },
                "address": { "country_code": "DE" },
            });
        }
        shown
    }

    /// The hold.
    pub fn show_authorization(&self, hold: &Authorization, base: &str) -> Value {
        let own = format!("{base}/v2/payments/authorizations/{}", hold.id);
        let taken = || self.captures.iter().any(|c| c.fate != Fate::Declined);
        let status = match hold {
            hold if hold.void => "VOIDED",
            _ if !taken() => "CREATED",
            hold if hold.closed || self.left_to_capture() == 0 => "CAPTURED",
            _ => "PARTIALLY_CAPTURED",
        };
        let mut links = vec![link(&own, "self", "GET")];
        if !hold.void && !hold.closed {
            for rel in ["capture", "void", "reauthorize"] {
                links.push(link(&format!("{own}/{rel}"), rel, "POST"));
            }
        }
        links.push(link(&self.own(base), "up", "GET"));
        let mut shown = json!({
            "id": hold.id,
            "status": status,
            "amount": money(self.wish.amount, &self.wish.currency),
            "seller_protection": { "status": "ELIGIBLE" },
            "expiration_time": second(hold.ends_ms),
            "create_time": second(hold.made_ms),
            "update_time": second(self.changed_ms),
            "supplementary_data": { "related_ids": { "order_id": self.id } },
            "links": links,
        });
        put(&mut shown, "custom_id", self.wish.custom_id.as_deref());
        put(&mut shown, "invoice_id", self.wish.invoice_id.as_deref());
        shown
    }

    /// A capture.
    pub fn show_capture(&self, capture: &Capture, base: &str) -> Value {
        let currency = &self.wish.currency;
        let own = format!("{base}/v2/payments/captures/{}", capture.id);
        let up = match &capture.authorization {
            Some(hold) => format!("{base}/v2/payments/authorizations/{hold}"),
            None => self.own(base),
        };
        let mut shown = json!({
            "id": capture.id,
            "status": capture.status(),
            "amount": money(capture.amount, currency),
            "final_capture": capture.last,
            "seller_protection": { "status": "ELIGIBLE" },
            "create_time": second(capture.made_ms),
            "update_time": second(capture.changed_ms),
            "supplementary_data": { "related_ids": { "order_id": self.id } },
            "links": [
                link(&own, "self", "GET"),
                link(&format!("{own}/refund"), "refund", "POST"),
                link(&up, "up", "GET"),
            ],
        });
        put(&mut shown, "custom_id", self.wish.custom_id.as_deref());
        put(&mut shown, "invoice_id", capture.invoice_id.as_deref());
        if let Some(hold) = &capture.authorization {
            shown["supplementary_data"]["related_ids"]["authorization_id"] = hold.as_str().into();
        }
        match capture.fate {
            Fate::Completed => {
                let fee = fee(capture.amount);
                shown["seller_receivable_breakdown"] = json!({
                    "gross_amount": money(capture.amount, currency),
                    "paypal_fee": money(fee, currency),
                    "net_amount": money(capture.amount - fee, currency),
                });
            }
            Fate::Pending(reason) => shown["status_details"] = json!({ "reason": reason }),
            Fate::Declined => {
                shown["processor_response"] = json!({ "response_code": REFUSED_CODE });
            }
        }
        shown
    }

    /// A refund, or what PayPal took back.
    pub fn show_refund(&self, refund: &Refund, base: &str) -> Value {
        let currency = &self.wish.currency;
        let own = format!("{base}/v2/payments/refunds/{}", refund.id);
        let up = format!("{base}/v2/payments/captures/{}", refund.capture);
        let custom_id = refund.custom_id.as_deref().or(self.wish.custom_id.as_deref());
        let mut shown = json!({
            "id": refund.id,
            "status": "COMPLETED",
            "amount": money(refund.amount, currency),
            "seller_payable_breakdown": {
                "gross_amount": money(refund.amount, currency),
                "paypal_fee": money(0, currency),
                "net_amount": money(refund.amount, currency),
                "total_refunded_amount": money(self.refunded_until(refund), currency),
            },
            "create_time": second(refund.made_ms),
            "update_time": second(refund.made_ms),
            "links": [link(&own, "self", "GET"), link(&up, "up", "GET")],
        });
        put(&mut shown, "custom_id", custom_id);
        put(&mut shown, "invoice_id", refund.invoice_id.as_deref());
        shown
    }

    /// A dispute over a capture, which has its own form.
    pub fn show_dispute(&self, id: &str, capture: &Capture, now: i64) -> Value {
        let mut transaction = json!({
            "seller_transaction_id": capture.id,
            "create_time": second(capture.made_ms),
            "transaction_status": capture.status(),
            "gross_amount": money(capture.amount, &self.wish.currency),
        });
        put(&mut transaction, "invoice_number", capture.invoice_id.as_deref());
        put(&mut transaction, "custom", self.wish.custom_id.as_deref());
        json!({
            "dispute_id": id,
            "create_time": second(now),
            "update_time": second(now),
            "disputed_transactions": [transaction],
            "reason": "MERCHANDISE_OR_SERVICE_NOT_RECEIVED",
            "status": "OPEN",
            "dispute_amount": money(capture.amount - capture.refunded, &self.wish.currency),
            "dispute_life_cycle_stage": "INQUIRY",
        })
    }

    pub(super) fn authorization_event(
        &self,
        kind: &'static str,
        cause: Operation,
        base: &str,
    ) -> Option<Event> {
        let hold = self.authorization.as_ref()?;
        let resource = self.show_authorization(hold, base);
        Some(Event { cause, kind, resource_type: "authorization", resource })
    }

    pub(super) fn refund_event(
        &self,
        id: &str,
        (kind, cause): (&'static str, Operation),
        base: &str,
    ) -> Option<Event> {
        let refund = self.refund(id)?;
        let mut resource = self.show_refund(refund, base);
        resource["supplementary_data"] =
            json!({ "related_ids": { "order_id": self.id, "capture_id": refund.capture } });
        Some(Event { cause, kind, resource_type: "refund", resource })
    }

    fn refunded_until(&self, refund: &Refund) -> i64 {
        let mut sum = 0;
        for other in self.refunds.iter().filter(|other| other.capture == refund.capture) {
            sum += other.amount;
            if other.id == refund.id {
                break;
            }
        }
        sum
    }

    fn own(&self, base: &str) -> String {
        format!("{base}/v2/checkout/orders/{}", self.id)
    }

    fn links(&self, base: &str) -> Value {
        let own = self.own(base);
        let mut links = vec![link(&own, "self", "GET")];
        if self.is_open() {
            let rel = if self.wish.payer_acts { "payer-action" } else { "approve" };
            if self.approval == Approval::Awaited {
                links.push(link(&self.page(base), rel, "GET"));
            }
            let step = match self.wish.intent {
                Intent::Capture => "capture",
                Intent::Authorize => "authorize",
            };
            links.push(link(&format!("{own}/{step}"), step, "POST"));
        }
        links.into()
    }
}

impl Capture {
    /// The provider's word for what became of it.
    pub fn status(&self) -> &'static str {
        match self.fate {
            Fate::Pending(_) => "PENDING",
            Fate::Declined => "DECLINED",
            Fate::Completed if self.refunded == 0 => "COMPLETED",
            Fate::Completed if self.refunded == self.amount => "REFUNDED",
            Fate::Completed => "PARTIALLY_REFUNDED",
        }
    }
}

impl Event {
    /// The body of the webhook, with a new id.
    pub fn body(&self, base: &str, now: i64) -> Value {
        let id = format!("WH-{}-{}", fresh(), fresh());
        let own = format!("{base}/v1/notifications/webhooks-events/{id}");
        json!({
            "id": id,
            "event_version": "1.0",
            "create_time": second(now),
            "resource_type": self.resource_type,
            "resource_version": "2.0",
            "event_type": self.kind,
            "summary": self.kind.to_lowercase().replace('.', " "),
            "resource": self.resource,
            "links": [
                link(&own, "self", "GET"),
                link(&format!("{own}/resend"), "resend", "POST"),
            ],
        })
    }
}

fn intent_word(intent: Intent) -> &'static str {
    match intent {
        Intent::Capture => "CAPTURE",
        Intent::Authorize => "AUTHORIZE",
    }
}

fn put(node: &mut Value, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        node[name] = text.into();
    }
}
