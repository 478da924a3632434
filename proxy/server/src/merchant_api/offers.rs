//! What a payment page shows: the methods that can be paid with now, best first.

use interlock_engine::offers::{self, Basket, Offered};
use interlock_plugin_api::Customer;
use serde_json::{Value, json};

use super::{Answered, MerchantApi, Problem, query, request};
use crate::front_door::{Request, Response};

impl MerchantApi {
    /// `GET /v1/payment-methods?amount=&currency=&country=`.
    pub(super) fn methods(&self, merchant: &str, asked: &Request) -> Answered {
        let (mut amount, mut currency, mut country) = (None, None, None);
        for (name, value) in query(asked) {
            match name.as_str() {
                "amount" => {
                    let told = "expected a whole number of minor units";
                    let number = value.parse::<i64>();
                    amount = Some(number.map_err(|_| Problem::invalid("amount", told))?);
                }
                "currency" => currency = Some(value),
                "country" => country = Some(value),
                _ => return Err(Problem::invalid("query", "unknown parameter")),
            }
        }
        let amount = amount.ok_or(Problem::invalid("amount", "is missing"))?;
        let currency = currency.ok_or(Problem::invalid("currency", "is missing"))?;
        let money = request::money(amount, &currency)?;
        let customer =
            Customer { country: request::country("country", country)?, ..Customer::default() };
        let basket = Basket { merchant, money, customer: &customer };
        let found = self.driver.look(|world| offers::methods(&basket, world));
        let data: Vec<Value> = found.iter().map(shown).collect();
        let body = json!({ "object": "list", "data": data, "has_more": false });
        Ok(Response::json(200, body.to_string()))
    }
}

fn shown(offered: &Offered) -> Value {
    json!({
        "type": offered.kind,
        "flows": offered.flows,
        "healthy": offered.reason.is_none(),
        "reason": offered.reason.map(|skip| skip.as_str()),
    })
}
