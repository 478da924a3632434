//! `POST /admin/v1/explain`: where a payment would go now, and why not elsewhere.

use super::{Admin, Answered, overview};
use crate::explain::{Question, Surroundings, answer};
use crate::front_door::{Request, Response};
use crate::merchant_api::{Problem, read_body};

impl Admin {
    /// Looks, and takes nothing: no place, no token of a limit, no line of a journal.
    pub(super) fn explain(&self, request: &Request) -> Answered {
        let question: Question = read_body(&request.body)?;
        let (setup, now) = (self.driver.setup(), self.driver.clock.now());
        let beside =
            |account: &str, method: &str| overview::now_of(&setup, now, account, Some(method));
        let around = Surroundings {
            policy: &setup.policy,
            health: &setup.gates,
            now,
            places: &setup.places,
            beside: &beside,
        };
        let told = answer(&question, &around)
            .map_err(|fault| Problem::unprocessable(fault.param, fault.detail))?;
        Ok(Response::json(200, told.to_string()))
    }
}
