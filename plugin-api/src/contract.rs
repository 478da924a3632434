//! The ambiguity contract: what may be believed of a provider when an answer is lost.
//!
//! Everything that could lead to a second charge is decided from these declarations, never from
//! the step that sends. **An undeclared capability is the weakest one**, so every default here is
//! the cautious value. An operator whose contract with the provider promises more strengthens one
//! account with [`Strengthen`], each with a written reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The longest life of a request on the wire that is assumed when nothing shorter is declared:
/// TCP alone may deliver a retransmission after 15 minutes.
pub const LATE_WINDOW_MS: u64 = 20 * 60 * 1000;

/// Everything a plugin declares about its provider for the case that an answer is lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// The effect of each kind of send; what no rule names is a move.
    pub sends: Vec<SendRule>,
    /// By purpose of a move: what its idempotency key is worth.
    #[serde(default)]
    pub moves: BTreeMap<String, MoveRule>,
    /// How a payment can be looked up.
    #[serde(default)]
    pub inquiry: Inquiry,
    /// How a capture, void or refund can be looked up.
    #[serde(default)]
    pub operation_inquiry: Inquiry,
    /// By flow (`*` for every other): how what we showed or sent can be ended.
    #[serde(default)]
    pub close: BTreeMap<String, Close>,
    /// When an offer that nobody paid ends at the provider by itself.
    #[serde(default)]
    pub offer_expiry: Option<OfferExpiry>,
    /// The flows for which `offer_expiry` is declared; empty is all of them.
    #[serde(default)]
    pub offer_expiry_flows: Vec<String>,
    /// Flows in which what was shown goes on only by our `continue`, when the shopper is back: he
    /// can't pay it without us.
    #[serde(default)]
    pub returning: Vec<String>,
    /// Those of `returning` whose `continue` needs nothing that the shopper brought, because the
    /// provider knows by itself that he approved: [`crate::What::Approved`] says so.
    #[serde(default)]
    pub approving: Vec<String>,
    /// Flows whose offers the plugin makes without a request: the shopper carries them to the
    /// provider himself, whenever and as often as he likes.
    #[serde(default)]
    pub by_shopper: Vec<String>,
    /// W: the longest life of a request on the wire, ms.
    #[serde(default = "late_window")]
    pub late_window_ms: u64,
    /// Provider codes after which money certainly did not move, though bytes were sent.
    /// A trailing `*` matches any rest.
    #[serde(default)]
    pub proof_codes: Vec<String>,
}

impl Contract {
    /// The rule that a request falls under, by method, path and required query parameters.
    ///
    /// ```
    /// use interlock_plugin_api::{Contract, Effect};
    /// let contract: Contract = serde_json::from_str(r#"{ "sends": [
    ///     { "purpose": "ask", "method": "GET", "path": "/payments/{id}", "effect": "read" }
    /// ] }"#)?;
    /// let rule = contract.rule("GET", "/payments/pay_1", &[]);
    /// assert_eq!(rule.map(|rule| rule.effect), Some(Effect::Read));
    /// // What no rule names may move money.
    /// assert!(contract.rule("POST", "/payments", &[]).is_none());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn rule(&self, method: &str, path: &str, query: &[(String, String)]) -> Option<&SendRule> {
        self.sends.iter().find(|rule| rule.matches(method, path, query))
    }

    /// What the key of a move is worth; the weakest where nothing is declared.
    pub fn move_rule(&self, purpose: &str) -> MoveRule {
        self.moves.get(purpose).cloned().unwrap_or_default()
    }

    /// How a payment of this flow can be closed, if it can.
    pub fn close_of(&self, flow: &str) -> Option<&Close> {
        self.close.get(flow).or_else(|| self.close.get("*"))
    }

    /// When an offer of this flow ends at the provider by itself, if it does.
    pub fn expiry_of(&self, flow: &str) -> Option<OfferExpiry> {
        let flows = &self.offer_expiry_flows;
        self.offer_expiry.filter(|_| flows.is_empty() || flows.iter().any(|f| f == flow))
    }

    /// Whether what is shown in this flow goes on only by our `continue`.
    pub fn is_returning(&self, flow: &str) -> bool {
        self.returning.iter().any(|f| f == flow)
    }

    /// Whether the `continue` of this flow needs nothing that the shopper brought.
    pub fn is_approving(&self, flow: &str) -> bool {
        self.is_returning(flow) && self.approving.iter().any(|f| f == flow)
    }

    /// Whether the shopper carries the offers of this flow to the provider himself.
    pub fn is_by_shopper(&self, flow: &str) -> bool {
        self.by_shopper.iter().any(|f| f == flow)
    }

    /// Whether what is shown in this flow has an end that can be confirmed, where `asks` says
    /// whether anything about the provider's own end can be heard. What goes on only by our
    /// `continue` ends by our own word. A close of what the shopper can carry there again is none,
    /// unless it leaves a tombstone.
    pub fn ends(&self, flow: &str, asks: bool) -> bool {
        let closes = |close: &Close| close.tombstone || !self.is_by_shopper(flow);
        self.is_returning(flow)
            || self.close_of(flow).is_some_and(closes)
            || (self.expiry_of(flow).is_some() && asks)
    }

    /// Whether this provider code proves that nothing moved.
    ///
    /// ```
    /// use interlock_plugin_api::Contract;
    /// let text = r#"{ "sends": [], "proof_codes": ["205*"] }"#;
    /// let contract: Contract = serde_json::from_str(text)?;
    /// assert!(contract.proves("20505"));
    /// assert!(!contract.proves("20014"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn proves(&self, provider_code: &str) -> bool {
        names(&self.proof_codes, provider_code)
    }

    /// Whether there is at least one way out of an unknown outcome of a payment of this flow.
    pub fn can_resolve(&self, flow: &str) -> bool {
        let strong = self.moves.values().any(|rule| rule.class == IdempotencyClass::Strong);
        strong || self.inquiry.possible() || self.close_of(flow).is_some()
    }

    /// Adds an operator's stronger declarations.
    ///
    /// # Errors
    /// A declaration without a reason, or one that would weaken or contradict the plugin's.
    pub fn strengthen(&mut self, by: &Strengthen) -> Result<(), ContractError> {
        fn reason<T>(key: &'static str, s: &Option<Stronger<T>>) -> Result<(), ContractError> {
            match s {
                Some(s) if s.reason.trim().is_empty() => Err(ContractError::NoReason(key)),
                _ => Ok(()),
            }
        }
        reason("not_found", &by.not_found)?;
        reason("tombstone", &by.tombstone)?;
        reason("offer_expiry", &by.offer_expiry)?;
        reason("close_after", &by.close_after)?;
        reason("never_asynchronous", &by.never_asynchronous)?;
        reason("proof_codes", &by.proof_codes)?;
        let weaker =
            |key, weaker: bool| if weaker { Err(ContractError::Weaker(key)) } else { Ok(()) };
        let said = |s: &Option<Stronger<bool>>| s.as_ref().is_some_and(|s| !s.value);
        let unsaid = by.not_found.as_ref().is_some_and(|s| s.value == NotFound::Undeclared);
        weaker("not_found", unsaid)?;
        weaker("tombstone", said(&by.tombstone))?;
        weaker("never_asynchronous", said(&by.never_asynchronous))?;
        if let Some(s) = &by.not_found {
            self.inquiry.not_found = s.value;
            self.operation_inquiry.not_found = s.value;
        }
        if let Some(s) = &by.tombstone {
            if self.close.is_empty() {
                return Err(ContractError::NoClose);
            }
            self.close.values_mut().for_each(|close| close.tombstone = s.value);
        }
        if let Some(s) = &by.close_after {
            if self.close.is_empty() {
                return Err(ContractError::NoClose);
            }
            self.close.values_mut().for_each(|c| c.min_age_ms = c.min_age_ms.min(s.value));
        }
        if let Some(s) = &by.offer_expiry {
            self.offer_expiry = Some(s.value);
            self.offer_expiry_flows.clear();
        }
        if let Some(s) = &by.never_asynchronous {
            self.moves.values_mut().for_each(|rule| rule.never_asynchronous = s.value);
        }
        if let Some(s) = &by.proof_codes {
            self.proof_codes.extend(s.value.iter().cloned());
        }
        Ok(())
    }
}

fn late_window() -> u64 {
    LATE_WINDOW_MS
}

/// Whether a list of codes, some of which end in `*`, names this one.
fn names(list: &[String], provider_code: &str) -> bool {
    list.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => provider_code.starts_with(prefix),
        None => provider_code == known,
    })
}

/// What a request may do to money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: an inquiry, a token fetch.
    Read,
    /// It makes something that a shopper can pay only once we show it.
    Offer,
    /// It may move money by itself.
    Move,
}

/// One kind of request and its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRule {
    /// The name by which steps, journal and metrics call it.
    pub purpose: String,
    /// The HTTP method.
    pub method: String,
    /// The path; `{...}` stands for one segment.
    pub path: String,
    /// Query parameters that must be present with exactly these values.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// What it may do.
    pub effect: Effect,
    /// Of a `GET` that reads what is the same for everybody: the host may answer it from what it
    /// fetched before, for as long as the answer's own headers allow (RFC 9111). The plugin sees no
    /// difference. One that can't be fetched is told as [`crate::Event::Transport`].
    #[serde(default)]
    pub cached: bool,
}

impl SendRule {
    fn matches(&self, method: &str, path: &str, query: &[(String, String)]) -> bool {
        let mut theirs = path.split('/');
        let same_path = self.path.split('/').all(|ours| match theirs.next() {
            Some(segment) => {
                if ours.starts_with('{') {
                    !segment.is_empty()
                } else {
                    ours == segment
                }
            }
            None => false,
        }) && theirs.next().is_none();
        // A parameter that occurs twice could be read differently by the provider, so it matches
        // no rule, and what matches no rule is a move.
        let required = |(key, value): (&String, &String)| {
            let mut found = query.iter().filter(|(k, _)| k == key);
            matches!((found.next(), found.next()), (Some((_, v)), None) if v == value)
        };
        self.method == method && same_path && self.query.iter().all(required)
    }
}

/// What the idempotency key of one kind of move is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveRule {
    /// What the provider remembers under the key.
    pub class: IdempotencyClass,
    /// Whether the provider serialises copies of one key.
    pub concurrency: Concurrency,
    /// For how long the provider keeps a key, ms; 0 is undeclared, so never re-sent.
    pub key_life_ms: u64,
    /// The provider never accepts this asynchronously (needed to re-send a `success_only`).
    pub never_asynchronous: bool,
    /// Re-sent only when there was no answer at all.
    pub resend_after_silence_only: bool,
    /// Answers after which the same request may be sent again although it was answered, by their
    /// provider codes: what `resend_after_silence_only` excepts. A trailing `*` matches any rest.
    pub resend_codes: Vec<String>,
    /// Re-sent not sooner than this after the last send, ms.
    pub resend_after_ms: u64,
    /// A definite refusal is kept under the key, so another try needs a new number.
    pub refusal_kept: bool,
    /// A definite refusal is the payment's end at the provider: whatever was shown to the shopper
    /// for it can't be paid afterwards.
    pub refusal_final: bool,
}

impl MoveRule {
    /// Whether an answer with this provider code permits that the same request is sent again.
    pub fn may_follow(&self, provider_code: &str) -> bool {
        !self.resend_after_silence_only || names(&self.resend_codes, provider_code)
    }
}

/// What a provider remembers under an idempotency key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdempotencyClass {
    /// One execution; the same key gives its true result for the key's life.
    Strong,
    /// Only a success is remembered; anything else executes again.
    SuccessOnly,
    /// Nothing is remembered.
    #[default]
    None,
}

/// Whether copies of one key can run side by side at the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// The provider serialises them.
    Excluded,
    /// Nothing is said, so they might both execute.
    #[default]
    Undeclared,
}

/// How something can be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inquiry {
    /// By the number that we gave it.
    pub by_our_reference: bool,
    /// By the provider's number.
    pub by_provider_reference: bool,
    /// Whether "not found" may be believed once nothing can be on the wire any more.
    pub not_found: NotFound,
}

impl Inquiry {
    /// Whether there is any way to ask.
    pub fn possible(&self) -> bool {
        self.by_our_reference || self.by_provider_reference
    }
}

/// What "not found" is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFound {
    /// Believed when asked after the fence and the late window.
    AfterFence,
    /// Nothing is said, so it proves nothing.
    #[default]
    Undeclared,
}

/// How a payment that is not paid can be ended at the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Close {
    /// The close gives the money back when it finds the payment paid.
    pub may_refund: bool,
    /// A create that arrives after the close is refused.
    pub tombstone: bool,
    /// The close may be repeated under its own number.
    pub repeatable: bool,
    /// The close needs the provider's number of the payment.
    pub needs_provider_reference: bool,
    /// How old the payment must be, ms.
    pub min_age_ms: u64,
}

/// When an unpaid offer ends at the provider by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferExpiry {
    /// After it was made, ms; enforced by the provider.
    pub after_ms: u64,
    /// How much longer we wait before we believe it, ms.
    pub margin_ms: u64,
}

/// An operator's stronger declarations for one account, each with its reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strengthen {
    /// "Not found" is believed after the fence and the late window.
    pub not_found: Option<Stronger<NotFound>>,
    /// A create that arrives after a close is refused.
    pub tombstone: Option<Stronger<bool>>,
    /// An unpaid offer ends by itself.
    pub offer_expiry: Option<Stronger<OfferExpiry>>,
    /// How old a payment must be before a close of it is taken, ms, where that is less than
    /// declared.
    pub close_after: Option<Stronger<u64>>,
    /// No move is ever accepted asynchronously.
    pub never_asynchronous: Option<Stronger<bool>>,
    /// More codes that prove that nothing moved.
    pub proof_codes: Option<Stronger<Vec<String>>>,
}

/// A declaration and why it is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stronger<T> {
    /// The declared value.
    pub value: T,
    /// Who promised it, where.
    pub reason: String,
}

/// Why a strengthened declaration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// The declaration of this name has no reason.
    NoReason(&'static str),
    /// The declaration of this name says less than nothing.
    Weaker(&'static str),
    /// Something was declared of the close of a provider that has none.
    NoClose,
}

impl std::fmt::Display for ContractError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoReason(key) => write!(f, "a stronger declaration needs a `reason`: {key}"),
            Self::Weaker(key) => write!(f, "a declaration can only be strengthened: {key}"),
            Self::NoClose => {
                write!(f, "the plugin declares no close, so nothing is promised of one")
            }
        }
    }
}

impl std::error::Error for ContractError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_no_rule_names_matches_nothing() {
        let contract = gateway();
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        let read = pairs(&[("method", "trade.query"), ("x", "1")]);
        assert_eq!(contract.rule("POST", "/gateway", &read).map(|r| r.effect), Some(Effect::Read));
        let pay = pairs(&[("method", "trade.pay")]);
        assert_eq!(contract.rule("POST", "/gateway", &pay), None);
        let twice = pairs(&[("method", "trade.query"), ("method", "trade.pay")]);
        assert_eq!(contract.rule("POST", "/gateway", &twice), None);
        assert!(contract.rule("GET", "/payments/pay_1", &[]).is_some());
        assert_eq!(contract.rule("GET", "/payments/pay_1/voids", &[]), None);
        assert_eq!(contract.rule("GET", "/payments/", &[]), None);
    }

    #[test]
    fn what_is_not_declared_is_the_weakest() {
        let contract = gateway();
        let rule = contract.move_rule("pay");
        assert_eq!(rule.class, IdempotencyClass::None);
        assert_eq!(rule.concurrency, Concurrency::Undeclared);
        assert_eq!(rule.key_life_ms, 0);
        assert_eq!(contract.inquiry.not_found, NotFound::Undeclared);
        assert_eq!(contract.late_window_ms, LATE_WINDOW_MS);
        assert!(!contract.proves("429"));
    }

    #[test]
    fn a_proof_code_may_end_in_a_star() {
        let contract = Contract { proof_codes: vec!["429".into(), "20*".into()], ..gateway() };
        assert!(contract.proves("429") && contract.proves("20005"));
        assert!(!contract.proves("4290") && !contract.proves("120"));
    }

    #[test]
    fn an_answer_permits_a_resend_only_where_its_code_is_listed() {
        let silence = MoveRule { resend_after_silence_only: true, ..MoveRule::default() };
        assert!(!silence.may_follow("busy:1") && MoveRule::default().may_follow("busy:1"));
        let listed = MoveRule { resend_codes: vec!["busy:*".into()], ..silence };
        assert!(listed.may_follow("busy:1") && !listed.may_follow("500"));
    }

    #[test]
    fn a_stronger_declaration_needs_its_reason() {
        let mut contract = gateway();
        let silent = Stronger { value: NotFound::AfterFence, reason: " ".into() };
        let by = Strengthen { not_found: Some(silent), ..Strengthen::default() };
        assert_eq!(contract.strengthen(&by), Err(ContractError::NoReason("not_found")));
        let said = Stronger { value: NotFound::AfterFence, reason: "agreement 7".into() };
        let by = Strengthen { not_found: Some(said), ..Strengthen::default() };
        assert_eq!(contract.strengthen(&by), Ok(()));
        assert_eq!(contract.inquiry.not_found, NotFound::AfterFence);
        let less = Stronger { value: false, reason: "agreement 8".into() };
        let by = Strengthen { tombstone: Some(less), ..Strengthen::default() };
        assert_eq!(contract.strengthen(&by), Err(ContractError::Weaker("tombstone")));
    }

    fn gateway() -> Contract {
        serde_json::from_str(
            r#"{"sends":[
                {"purpose":"query","method":"POST","path":"/gateway",
                 "query":{"method":"trade.query"},"effect":"read"},
                {"purpose":"get","method":"GET","path":"/payments/{id}","effect":"read"}]}"#,
        )
        .expect("a valid contract")
    }
}
