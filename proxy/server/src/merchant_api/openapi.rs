//! `GET /openapi.json`: the merchants' API in OpenAPI 3.1.
//!
//! Bodies that are read into types come from those types (schemars). Answers are written by
//! `json!` and methods are read by hand, so theirs stand here; tests hold them against the reader
//! and against real answers. A builder of our own keeps the list of operations in one short
//! function, where utoipa would want a handler type for each.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::request::{self, STATUSES};

/// The document, as it is served and committed.
pub static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// For members that are read by hand.
pub fn method_schema(_: &mut SchemaGenerator) -> Schema {
    Schema::new_ref("#/components/schemas/Method".into())
}

/// The same for a new payment, which may name several.
pub fn new_method_schema(_: &mut SchemaGenerator) -> Schema {
    let one = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let either = json!({ "anyOf": [one("Method"), one("AnyMethod")] });
    Schema::try_from(either).unwrap_or_default()
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Interlock",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "One payments API in front of several providers",
            "description": "An HTTP error means that nothing was journalled and nothing sent. \
                A decline is no error: 201 with `failed`. Amounts are ISO 4217 minor units.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "api_key": [] }],
        "paths": paths(),
        "components": {
            "securitySchemes": { "api_key": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
            "responses": problems(),
        },
    })
}

/// Every operation. A new one is a line here, and a schema below if it answers something new.
fn paths() -> Value {
    let id = || vec![in_path("id", "The payment's id")];
    let list = vec![
        in_query("merchant_ref", json!({ "type": "string" }), "Only those of this order"),
        in_query("status", json!({ "enum": STATUSES }), "Only those with this status"),
        in_query("account", json!({ "type": "string" }), "Only those at this account"),
        in_query("created_after", json!({ "type": "string", "format": "date-time" }), "Only newer"),
        in_query("limit", json!({ "type": "integer", "minimum": 1, "maximum": 100 }), "Rows"),
        in_query("cursor", json!({ "type": "string" }), "`next_cursor` of the page before"),
    ];
    let mut basket = vec![
        in_query("amount", json!({ "type": "integer", "minimum": 1 }), "Minor units"),
        in_query("currency", json!({ "type": "string" }), "ISO 4217"),
    ];
    basket.iter_mut().for_each(|parameter| parameter["required"] = true.into());
    basket.push(in_query("country", json!({ "type": "string" }), "Of the shopper, two letters"));
    let events = vec![
        in_query("after", json!({ "type": "string" }), "`next_cursor`, or an event's id"),
        in_query("limit", json!({ "type": "integer", "minimum": 1, "maximum": 100 }), "Rows"),
    ];
    let refresh = in_query("refresh", json!({ "type": "boolean" }), "Ask the provider first");
    let of_payment = json!({
        "name": "payment", "in": "query", "required": true, "description": "The payment's id",
        "schema": { "type": "string" },
    });
    let wish = |verb: &str, what: &str, body: Value| {
        post(verb, what, id(), body, &[(200, "Payment"), (202, "Payment")])
    };
    let payment = body::<request::PaymentBody>();
    let made = [(201, "Payment"), (202, "Payment")];
    let mut create = post("create_payment", "Make a payment", Vec::new(), payment, &made);
    create["requestBody"]["content"]["application/json"]["examples"] = examples();
    json!({
        "/v1/payments": {
            "get": get("list_payments", "List payments, newest first", list, "PaymentList"),
            "post": create,
        },
        "/v1/payments/{id}": {
            "get": get("show_payment", "Show a payment",
                [id(), vec![refresh]].concat(), "Payment"),
        },
        "/v1/payments/{id}/timeline": {
            "get": get("show_timeline", "What happened to a payment, in order", id(), "Timeline"),
        },
        "/v1/payments/{id}/capture": {
            "post": wish("capture_payment", "Take money that is held",
                body::<request::CaptureBody>()),
        },
        "/v1/payments/{id}/cancel": {
            "post": wish("cancel_payment", "Cancel a payment", body::<request::EmptyBody>()),
        },
        "/v1/payments/{id}/switch": {
            "post": wish("switch_method", "Pay by another method", body::<request::SwitchBody>()),
        },
        "/v1/payments/{id}/confirm": {
            "post": wish("confirm_payment", "The shopper came back",
                body::<request::ConfirmBody>()),
        },
        "/v1/refunds": {
            "get": get("list_refunds", "The refunds of a payment", vec![of_payment], "RefundList"),
            "post": post("create_refund", "Give money back", Vec::new(),
                body::<request::RefundBody>(), &[(201, "Refund"), (202, "Refund")]),
        },
        "/v1/wallets/{type}/sessions": {
            "post": {
                "operationId": "start_session",
                "summary": "Open a wallet's session for a page; give it to the wallet as it is",
                "parameters": [in_path("type", "The wallet: `apple_pay`")],
                "requestBody": { "required": true, "content": { "application/json": {
                    "schema": body::<request::SessionBody>(),
                } } },
                "responses": responses(&[(200, "WalletSession")],
                    &[400, 401, 403, 404, 413, 415, 422, 429, 503]),
            },
        },
        "/v1/payment-methods": {
            "get": get("list_methods", "What a shopper can pay with now, best first", basket,
                "MethodList"),
        },
        "/v1/events": {
            "get": get("list_events", "What the merchant was told, or should have been, oldest \
                first", events, "EventList"),
        },
        "/v1/events/{id}": {
            "get": get("show_event", "Show an event", vec![in_path("id", "The event's id")],
                "Told"),
        },
        "/v1/events/{id}/redeliver": {
            "post": {
                "operationId": "redeliver_event", "summary": "Tell an event again",
                "parameters": [in_path("id", "The event's id")],
                "responses": responses(&[(202, "Told")], &[400, 401, 403, 404, 422, 429, 503]),
            },
        },
        "/v1/refunds/{id}": {
            "get": get("show_refund", "Show a refund",
                vec![in_path("id", "The refund's id")], "Refund"),
        },
    })
}

/// Payments as merchants make them: by a QR code, and by a network token.
fn examples() -> Value {
    json!({
        "qr": { "summary": "The shopper scans a QR code", "value": {
            "amount": 4_900, "currency": "CNY", "method": { "type": "alipay", "flow": "qr" },
            "merchant_ref": "ord-7781", "description": "Order 7781",
        } },
        "card": { "summary": "A network token", "value": {
            "amount": 4_900, "currency": "EUR", "customer": { "id": "c_12", "country": "DE" },
            "return_url": "https://shop.example/thanks", "metadata": { "cart": "88" },
            "method": { "type": "card", "network_token": {
                "number": "4111111111111111", "expiry_month": 12, "expiry_year": 2031,
                "cryptogram": "AgAAAAAABk4DWZ4C28yUQAAAAAA=", "eci": "05",
            } },
        } },
    })
}

fn get(name: &str, what: &str, parameters: Vec<Value>, answer: &str) -> Value {
    json!({
        "operationId": name, "summary": what, "parameters": parameters,
        "responses": responses(&[(200, answer)], &[400, 401, 403, 404, 422, 429, 503]),
    })
}

/// Every POST has a key, and may wait for news.
fn post(
    name: &str,
    what: &str,
    mut parameters: Vec<Value>,
    body: Value,
    answers: &[(u16, &str)],
) -> Value {
    parameters.push(json!({
        "name": "Idempotency-Key", "in": "header", "required": true,
        "description": "Repeats are answered as the first request was",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": KEY },
    }));
    parameters.push(json!({
        "name": "Prefer", "in": "header", "description": "How long to wait for news: wait=SECONDS",
        "schema": { "type": "string", "pattern": "^wait=[0-9]{1,2}$" },
    }));
    json!({
        "operationId": name, "summary": what, "parameters": parameters,
        "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
        "responses":
            responses(answers, &[400, 401, 403, 404, 409, 413, 415, 422, 429, 503]),
    })
}

/// What may stand in a key: printable ASCII without quotes and backslashes.
const KEY: &str = r"^[!#-\[\]-~]([ !#-\[\]-~]*[!#-\[\]-~])?$";

fn responses(answers: &[(u16, &str)], refusals: &[u16]) -> Value {
    let mut all = serde_json::Map::new();
    for (status, schema) in answers {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        let description = match status {
            202 => "Still in progress",
            201 => "Final, or the shopper must act",
            _ => "Done",
        };
        all.insert(
            status.to_string(),
            json!({
                "description": description,
                "content": { "application/json": { "schema": schema } },
            }),
        );
    }
    for status in refusals {
        let name = format!("#/components/responses/{status}");
        all.insert(status.to_string(), json!({ "$ref": name }));
    }
    Value::Object(all)
}

fn problems() -> Value {
    let problem = |what: &str| {
        json!({
            "description": what,
            "content": { "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" },
            } },
        })
    };
    json!({
        "400": problem("The request can't be read"),
        "401": problem("The API key is missing or not known"),
        "403": problem("The API key's scopes do not cover it"),
        "404": problem("There is no such thing"),
        "409": problem("The state of the payment or of its order does not admit it"),
        "413": problem("The body is too large"),
        "415": problem("The body is not JSON"),
        "422": problem("A value can't be accepted, or the key stands for another request"),
        "429": problem("The merchant's limit is used up"),
        "503": problem("No account is available, or the journal can't take it; nothing was sent"),
    })
}

fn in_path(name: &str, what: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": what,
        "schema": { "type": "string" },
    })
}

fn in_query(name: &str, schema: Value, what: &str) -> Value {
    json!({ "name": name, "in": "query", "description": what, "schema": schema })
}

/// The schema of a type that a body is read into.
fn body<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Value::Object(members) = &mut schema {
        members.remove("title");
        members.entry("type").or_insert("object".into());
    }
    schema
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let or_null = || json!({ "type": ["string", "null"] });
    let number = || json!({ "type": "integer", "minimum": 0 });
    let time = || json!({ "type": "string", "format": "date-time" });
    let list = |of: &str, with: Value| {
        let mut members = json!({
            "object": { "const": "list" }, "has_more": { "type": "boolean" },
            "data": { "type": "array", "items": { "$ref": format!("#/components/schemas/{of}") } },
        });
        if let (Value::Object(members), Value::Object(with)) = (&mut members, with) {
            members.extend(with);
        }
        object(members)
    };
    let advice = || object(json!({ "en": text(), "zh": text() }));
    let failure = object(json!({
        "code": text(), "class": or_null(), "provider_code": or_null(), "advice": text(),
        "advice_text": advice(),
    }));
    let told = object(json!({
        "id": text(), "type": text(), "timestamp": time(), "data": { "type": "object" },
        "delivery": object(json!({ "state": text() })),
    }));
    let next_action = json!({
        "type": ["object", "null"], "required": ["type", "expires"],
        "properties": { "type": text(), "expires": or_null() },
    });
    json!({
        "Method": methods(),
        "AnyMethod": any(),
        "Payment": object(json!({
            "id": text(), "object": { "const": "payment" }, "status": { "enum": STATUSES },
            "status_reason": or_null(), "amount": number(), "currency": text(),
            "capture": { "enum": ["automatic", "manual"] },
            "amount_captured": number(), "amount_refunded": number(),
            "payer_amount": { "type": ["integer", "null"], "minimum": 0 },
            "method": object(json!({ "type": text(), "flow": text() })),
            "account": or_null(), "provider": or_null(), "provider_ref": or_null(),
            "route": text(),
            "attempts": { "type": "array", "items": { "$ref": "#/components/schemas/Attempt" } },
            "next_action": next_action, "failure": nullable(failure),
            "failover": { "enum": ["proven", "not_sent", "none"] },
            "failover_reason": or_null(),
            "merchant_ref": or_null(), "description": or_null(),
            "customer": {
                "type": "object",
                "properties": { "id": or_null(), "country": or_null(), "ip": or_null() },
            },
            "created": time(),
            "metadata": { "type": "object", "additionalProperties": { "type": "string" } },
        })),
        "Attempt": object(json!({
            "id": text(), "account": text(), "state": text(), "reason": or_null(),
            "op_id": text(), "provider_ref": or_null(), "started": time(),
            "manual": { "type": "boolean" },
        })),
        "Refund": object(json!({
            "id": text(), "object": { "const": "refund" }, "payment": text(),
            "status": { "enum": ["processing", "succeeded", "failed", "reversed"] },
            "status_reason": or_null(), "amount": number(), "currency": text(),
            "reason": or_null(), "op_id": text(), "provider_ref": or_null(),
            "failure": nullable(object(json!({
                "code": text(), "provider_code": or_null(), "advice": text(),
                "advice_text": advice(),
            }))),
            "created": time(),
        })),
        "Event": object(json!({
            "seq": number(), "at": time(), "actor": text(), "what": text(), "reason": or_null(),
        })),
        "Told": told,
        "EventList": list("Told", json!({
            "next_cursor": or_null(), "unreadable": { "type": "array", "items": text() },
        })),
        "Offered": object(json!({
            "type": text(), "flows": { "type": "array", "items": text() },
            "healthy": { "type": "boolean" }, "reason": or_null(),
        })),
        "MethodList": list("Offered", json!({})),
        "WalletSession": {
            "type": "object",
            "description": "The wallet's own; used once, for one sheet",
        },
        "PaymentList": list("Payment", json!({
            "next_cursor": or_null(), "unreadable": { "type": "array", "items": text() },
        })),
        "RefundList": list("Refund", json!({ "next_cursor": or_null() })),
        "Timeline": object(json!({
            "object": { "const": "list" }, "payment": text(),
            "data": { "type": "array", "items": { "$ref": "#/components/schemas/Event" } },
        })),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "code", "retry", "request_id"],
            "properties": {
                "type": text(), "title": text(),
                // The HTTP status; of `invalid_state`, the payment's.
                "status": { "type": ["integer", "string"] },
                "detail": text(), "instance": text(), "code": text(), "request_id": text(),
                "retry": { "type": "string", "pattern": "^(never|same_key|after:[0-9]+)$" },
                "param": text(), "payment": text(),
                "accounts": { "type": "object", "additionalProperties": text() },
            },
        },
    })
}

/// An object that always has all of these, and may grow.
fn object(properties: Value) -> Value {
    let names: Vec<&String> =
        properties.as_object().into_iter().flatten().map(|(k, _)| k).collect();
    json!({ "type": "object", "required": names, "properties": properties })
}

fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Several methods, of which a new payment takes the healthiest.
fn any() -> Value {
    json!({
        "type": "object", "required": ["type", "accept"], "additionalProperties": false,
        "description": "The healthiest of these is chosen",
        "properties": {
            "type": { "const": "any" },
            "accept": {
                "type": "array", "minItems": 1, "maxItems": 16, "uniqueItems": true,
                "items": { "$ref": "#/components/schemas/Method" },
            },
        },
    })
}

/// How a shopper may pay, as [`request::method`] reads it.
fn methods() -> Value {
    let strict = |properties: Value| {
        let mut object = object(properties);
        object["additionalProperties"] = false.into();
        object
    };
    let flows = |kind: &str, flows: &[&str]| {
        strict(json!({ "type": { "const": kind }, "flow": { "enum": flows } }))
    };
    let code = |kind: &str| {
        strict(json!({
            "type": { "const": kind }, "flow": { "const": "barcode" },
            "auth_code": { "type": "string", "pattern": "^[0-9]{10,32}$" },
        }))
    };
    let short = |most: usize| json!({ "type": "string", "minLength": 1, "maxLength": most });
    let mut token = strict(json!({
        "number": { "type": "string", "pattern": "^[0-9]{12,19}$" },
        "expiry_month": { "type": "integer", "minimum": 1, "maximum": 12 },
        "expiry_year": { "type": "integer", "minimum": 2000, "maximum": 2100 },
        "cryptogram": printable(short(256)), "eci": printable(short(2)),
        "source": { "enum": ["apple_pay", "google_pay", "network"] },
    }));
    token["required"] = json!(["number", "expiry_month", "expiry_year"]);
    let tokens = json!({
        "type": "object", "minProperties": 1, "maxProperties": 32,
        "description": "By account", "additionalProperties": short(4_096),
    });
    let wallet = |kind: &str| {
        json!({
            "type": "object", "required": ["type", "token"], "additionalProperties": false,
            "properties": {
                "type": { "const": kind },
                "token": { "type": ["object", "string"],
                    "description": "The wallet's payment token as received" },
                "form": { "enum": ["encrypted", "processor"], "default": "encrypted",
                    "description": "Opened here, or bound to the processor of `account`" },
                "account": { "type": "string", "minLength": 1, "maxLength": 64 },
            },
        })
    };
    let crypto = json!({
        "type": "object", "required": ["type"], "additionalProperties": false,
        "properties": {
            "type": { "const": "crypto" }, "chain": { "type": "string" },
            "asset": { "type": "string" }, "wallet": { "type": "string" },
        },
    });
    json!({ "anyOf": [
        flows("alipay", &["qr", "redirect", "wap", "app"]), code("alipay"),
        flows("wechat_pay", &["qr", "app", "h5"]), code("wechat_pay"),
        strict(json!({
            "type": { "const": "wechat_pay" }, "flow": { "const": "jsapi" },
            "openid": printable(short(128)),
        })),
        flows("paypal", &["redirect"]), flows("huawei_pay", &["app"]),
        strict(json!({ "type": { "const": "card" }, "network_token": token })),
        strict(json!({ "type": { "const": "card" }, "tokens": tokens })),
        wallet("apple_pay"), wallet("google_pay"), crypto,
    ] })
}

/// A text without control characters.
fn printable(mut schema: Value) -> Value {
    schema["pattern"] = r"^[^\u0000-\u001f\u007f-\u009f]+$".into();
    schema
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_committed_document_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &*DOCUMENT).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        let how = "run `UPDATE=1 cargo test -p interlock --lib openapi`";
        assert!(committed == *DOCUMENT, "{} is old: {how}", file.display());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
        let document = document();
        let mut names = Vec::new();
        for operations in document["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values() {
                names.push(operation["operationId"].as_str().unwrap());
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let text = document.to_string();
        for (_, rest) in text.match_indices("\"#/").map(|(at, _)| text.split_at(at + 2)) {
            let pointer = rest.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    /// The reader of methods takes an example of every form, and none with a member more or less.
    #[test]
    fn methods_are_what_the_reader_takes() {
        let forms = methods();
        for form in forms["anyOf"].as_array().unwrap() {
            let members = form["properties"].as_object().unwrap();
            let example: serde_json::Map<String, Value> =
                members.iter().map(|(name, schema)| (name.clone(), example(schema))).collect();
            let read = |m: &serde_json::Map<String, Value>| request::method(m).is_ok();
            assert!(read(&example), "{example:?}");
            let mut more = example.clone();
            more.insert("more".into(), true.into());
            assert!(!read(&more), "{more:?}");
            for needed in form["required"].as_array().unwrap() {
                let mut less = example.clone();
                less.remove(needed.as_str().unwrap());
                assert!(!read(&less), "{less:?}");
            }
        }
        let flows = ["qr", "barcode", "redirect", "wap", "app", "jsapi", "h5"];
        for kind in ["alipay", "wechat_pay", "paypal", "huawei_pay"] {
            for flow in flows {
                let method = json!({
                    "type": kind, "flow": flow, "auth_code": "1234567890", "openid": "x",
                });
                let mut method = method.as_object().unwrap().clone();
                method.retain(|k, _| match k.as_str() {
                    "auth_code" => flow == "barcode",
                    "openid" => flow == "jsapi",
                    _ => true,
                });
                let ours = forms["anyOf"].as_array().unwrap().iter().any(|form| {
                    let p = &form["properties"];
                    let flows = p["flow"]["enum"].as_array().cloned().unwrap_or_default();
                    p["type"]["const"] == kind
                        && (p["flow"]["const"] == flow || flows.contains(&json!(flow)))
                });
                assert_eq!(request::method(&method).is_ok(), ours, "{kind} {flow}");
            }
        }
    }

    fn example(schema: &Value) -> Value {
        if !schema["const"].is_null() {
            return schema["const"].clone();
        }
        if let Some(words) = schema["enum"].as_array() {
            return words[0].clone();
        }
        match (schema["type"].as_str(), schema["pattern"].as_str()) {
            (Some("string"), Some(digits)) if digits.contains("[0-9]") => "411111111111".into(),
            (Some("string"), _) => "x".into(),
            (Some("integer"), _) => schema["minimum"].clone(),
            (Some("object"), _) => match schema["properties"].as_object() {
                Some(p) => p.iter().map(|(k, s)| (k.clone(), example(s))).collect(),
                None => json!({ "one": "token" }),
            },
            _ => json!({ "data": "x" }),
        }
    }
}
