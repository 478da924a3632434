//! What an operator set by hand: with a reason, a name, and perhaps an end.

use serde::{Deserialize, Serialize};

/// One thing set by hand at an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why, in the operator's words; or the engine's word, `account_restricted`.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// The name of the token that was shown for it, where operators need one.
    #[serde(default)]
    pub token: Option<String>,
    /// When, Unix ms.
    pub since_ms: i64,
    /// Until when, Unix ms; `None` is until somebody ends it.
    pub until_ms: Option<i64>,
}

impl Hold {
    /// Whether it still holds.
    pub fn holds(&self, now_ms: i64) -> bool {
        self.until_ms.is_none_or(|until| now_ms < until)
    }
}
