//! One payment walked by hand: every input is given by the test, every version is checked.

use interlock_engine::{
    Asked, Attempt, AttemptState, Decision, Effect, ExchangeKind, Hand, Input, Operation,
    OrderHolder, OrderStep, Outcome, Payment, Policy, Prepared, Refusal, Request, Sent, Settled,
    Skip, Stamp, Statement, Subject, Submission, Verdict, World, decide, status,
};
use interlock_plugin_api::{Action, CaptureMode, Class, Contract, Fact, What};

use crate::table::{
    AMOUNT, Board, Numbers, account, barcode, barcode_method, code, draft, money, policy,
    qr_method, submission, token_method,
};

/// One payment and the world around it.
pub struct Desk {
    pub policy: Policy,
    pub payment: Option<Payment>,
    pub now: Stamp,
    pub health: Board,
    pub credential: bool,
    /// What the shopper brought back is in memory.
    pub details: bool,
    /// And this is what it is.
    pub brought: &'static str,
    /// The plugin makes this offer without a request.
    pub page: Option<Fact>,
    pub sending: bool,
    pub order: Option<OrderHolder>,
    /// What the providers say, in a journal that was restored.
    pub stated: Option<Statement>,
    /// The step that the last commit took with the order.
    pub order_step: OrderStep,
    pub due: Option<i64>,
    /// Accounts whose place can't be reserved.
    pub refused: Vec<(String, Skip)>,
    /// No plugin builds anything.
    pub broken_plugin: bool,
    /// Its plugin builds nothing about a payment whose number at the provider it isn't told.
    pub by_number: bool,
    /// Every timeline line so far: what and why.
    pub lines: Vec<(String, Option<String>)>,
}

impl Desk {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            payment: None,
            now: Stamp { wall_ms: 1_800_000_000_000, boot: 1, mono_ms: 5_000 },
            health: Board::default(),
            credential: true,
            details: false,
            brought: "",
            page: None,
            sending: false,
            order: None,
            stated: None,
            order_step: OrderStep::Keep,
            due: None,
            refused: Vec::new(),
            broken_plugin: false,
            by_number: false,
            lines: Vec::new(),
        }
    }

    /// A desk on which this payment has been asked for.
    pub fn with(policy: Policy, submission: Submission) -> Self {
        let mut desk = Self::new(policy);
        desk.put(Input::Submitted(submission)).unwrap();
        desk
    }

    /// Asks the engine, with what it needs, and changes nothing.
    pub fn ask_engine(&self, input: &Input) -> Outcome {
        let world = World {
            now: self.now,
            policy: &self.policy,
            health: &self.health,
            mint: &Numbers,
            draw: 0.5,
            sending: self.sending,
            credential: self.credential,
            details: self.details,
            order: self.order.clone(),
            stated: self.stated.as_ref(),
        };
        let mut hand = Hand { refused: self.refused.clone(), ..Hand::default() };
        for _ in 0..16 {
            match decide(self.payment.as_ref(), input, &world, &hand) {
                Outcome::Need(call) if self.broken_plugin && call.reserve => {
                    hand.refused.push((call.account, Skip::NotPrepared));
                }
                Outcome::Need(call)
                    if self.broken_plugin
                        || (self.by_number && !call.reserve && call.provider_ref.is_none()) =>
                {
                    hand.unbuildable.push(call.op_id);
                }
                Outcome::Need(call) => {
                    let mut draft = draft(&call);
                    if call.kind == ExchangeKind::Continue {
                        draft.digest.push_str(self.brought);
                    }
                    draft.said = self.page.clone().filter(|_| call.kind == ExchangeKind::Authorize);
                    hand.prepared.push(Prepared { call: *call, draft });
                }
                outcome => return outcome,
            }
        }
        panic!("a decision never had what it needed");
    }

    /// One turn: the effects of the version that became durable.
    pub fn put(&mut self, input: Input) -> Result<Vec<Effect>, Refusal> {
        match self.ask_engine(&input) {
            Outcome::Commit(decision) => Ok(self.commit(*decision)),
            Outcome::Nothing => Ok(Vec::new()),
            Outcome::Refuse(refusal) => Err(refusal),
            Outcome::Need(_) => unreachable!("needs are met"),
        }
    }

    pub fn commit(&mut self, decision: Decision) -> Vec<Effect> {
        let json = serde_json::to_string(&decision.next).unwrap();
        let read: Payment = serde_json::from_str(&json).unwrap();
        assert_eq!(read, decision.next, "what is stored is what was decided");
        self.due = decision.due.map(|(at, _)| at);
        self.order_step = decision.order;
        self.lines.extend(decision.entries.into_iter().map(|e| (e.what, e.reason)));
        self.payment = Some(decision.next);
        decision.effects
    }

    pub fn p(&self) -> &Payment {
        self.payment.as_ref().unwrap()
    }

    pub fn attempt(&self, i: usize) -> &Attempt {
        &self.p().attempts[i]
    }

    pub fn state(&self, i: usize) -> &AttemptState {
        &self.attempt(i).state
    }

    pub fn word(&self, i: usize) -> &'static str {
        self.state(i).as_str()
    }

    pub fn op(&self, n: usize) -> &Operation {
        &self.p().operations[n]
    }

    pub fn told(&self) -> Option<Settled> {
        self.p().settled
    }

    pub fn status(&self) -> (&'static str, Option<&'static str>) {
        let (status, reason) = status::status(self.p());
        (status.as_str(), reason.map(|r| r.as_str()))
    }

    pub fn said(&self, reason: &str) -> bool {
        self.lines.iter().any(|(_, r)| r.as_deref() == Some(reason))
    }

    /// Time goes by for everybody.
    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
    }

    /// Only the wall clock moves.
    pub fn jump(&mut self, ms: i64) {
        self.now.wall_ms += ms;
    }

    /// Another process goes on with the payment and finds it open.
    pub fn restart(&mut self) -> Vec<Effect> {
        self.other_process();
        (self.credential, self.details) = (false, false);
        self.put(Input::Recovered).unwrap()
    }

    /// Another process decides from here on.
    pub fn other_process(&mut self) {
        self.now.boot += 1;
        self.now.mono_ms = 100;
    }

    /// The last exchange of a kind, of any attempt or operation.
    pub fn last(&self, kind: ExchangeKind) -> String {
        let p = self.p();
        let operations = p.operations.iter().map(|o| &o.track);
        let tracks = p.attempts.iter().map(|a| &a.track).chain(operations);
        let mut all = tracks.flat_map(|t| &t.exchanges).filter(|x| x.kind == kind);
        all.next_back().unwrap().id.clone()
    }

    pub fn hear_on(&mut self, exchange: &str, status: u16, facts: Vec<Fact>) -> Vec<Effect> {
        let exchange = exchange.to_owned();
        self.put(Input::Heard { exchange, status, state_version: 1, facts }).unwrap()
    }

    /// The answer to the last authorize.
    pub fn hear(&mut self, fact: Fact) -> Vec<Effect> {
        let id = self.last(ExchangeKind::Authorize);
        self.hear_on(&id, 200, vec![fact])
    }

    /// The answer to the last exchange of this kind.
    pub fn hear_of(&mut self, kind: ExchangeKind, fact: Fact) -> Vec<Effect> {
        let id = self.last(kind);
        self.hear_on(&id, 200, vec![fact])
    }

    pub fn lose_on(&mut self, exchange: &str, sent: Sent) -> Vec<Effect> {
        let input =
            Input::Lost { exchange: exchange.to_owned(), sent, reason: "timeout".to_owned() };
        self.put(input).unwrap()
    }

    /// No answer to the last authorize, at the end of its time.
    pub fn time_out(&mut self) -> Vec<Effect> {
        self.pass(crate::table::TIMEOUT);
        let id = self.last(ExchangeKind::Authorize);
        self.lose_on(&id, Sent::Maybe)
    }

    /// No answer to the last exchange of this kind.
    pub fn lose(&mut self, kind: ExchangeKind) -> Vec<Effect> {
        let id = self.last(kind);
        self.lose_on(&id, Sent::Maybe)
    }

    /// What an inquiry asked now remembers of now.
    pub fn asking(&self) -> Asked {
        Asked { ver: self.p().ver, at: self.now }
    }

    pub fn answer(&mut self, subject: Subject, asked: Asked, facts: Vec<Fact>) -> Vec<Effect> {
        self.put(Input::Looked { subject, asked, state_version: 1, facts }).unwrap()
    }

    /// Asks about an attempt now and hears at once.
    pub fn look(&mut self, i: usize, fact: Fact) -> Vec<Effect> {
        let asked = self.asking();
        self.answer(Subject::Attempt(i), asked, vec![fact])
    }

    /// Asks about an operation now and hears at once.
    pub fn look_op(&mut self, n: usize, fact: Fact) -> Vec<Effect> {
        let asked = self.asking();
        self.answer(Subject::Operation(n), asked, vec![fact])
    }

    pub fn notice(&mut self, account: &str, fact: Fact) -> Vec<Effect> {
        let account = account.to_owned();
        self.put(Input::Noticed { account, state_version: 1, facts: vec![fact] }).unwrap()
    }

    /// Lets the time of the next look come.
    pub fn come_due(&mut self) -> Vec<Effect> {
        let at = self.due.expect("something is due");
        let wait = u64::try_from(at - self.now.wall_ms).unwrap_or(0);
        self.pass(wait);
        self.put(Input::Due).unwrap()
    }

    /// Looks as often as they come due within this time; inquiries stay unanswered.
    pub fn run_for(&mut self, ms: u64) -> Vec<Effect> {
        let end = self.now.wall_ms + i64::try_from(ms).unwrap();
        let mut effects = Vec::new();
        while self.due.is_some_and(|at| at <= end) {
            effects.extend(self.come_due());
        }
        self.pass(u64::try_from(end - self.now.wall_ms).unwrap_or(0));
        effects
    }

    pub fn cancel(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.put(Input::Merchant(Request::Cancel { key: "cancel".into() }))
    }

    /// The shopper came back with these details.
    pub fn confirm(&mut self, key: &str, brought: &'static str) -> Result<Vec<Effect>, Refusal> {
        let (before, had) = (self.brought, self.details);
        (self.brought, self.details) = (brought, true);
        let key = key.to_owned();
        let done = self.put(Input::Merchant(Request::Confirm { key, details: true }));
        if done.is_err() {
            (self.brought, self.details) = (before, had);
        }
        done
    }

    pub fn capture(&mut self, key: &str, amount: Option<i64>) -> Result<Vec<Effect>, Refusal> {
        self.put(Input::Merchant(Request::Capture { key: key.into(), amount }))
    }

    pub fn refund(&mut self, key: &str, amount: Option<i64>) -> Result<Vec<Effect>, Refusal> {
        self.put(Input::Merchant(Request::Refund { key: key.into(), amount, reason: None }))
    }

    pub fn verdict(&mut self, subject: Subject, moved: bool) -> Result<Vec<Effect>, Refusal> {
        self.put(Input::Operator(Verdict {
            subject,
            moved,
            provider_ref: None,
            evidence: "statement line 7".into(),
            operator: "ada".into(),
        }))
    }
}

pub fn paid() -> Fact {
    Fact::new(What::Captured).with_amount(money(AMOUNT)).with_provider_ref("ref-1")
}

pub fn held() -> Fact {
    Fact::new(What::Authorized).with_amount(money(AMOUNT)).with_provider_ref("ref-1")
}

/// A refusal with a code that proves that nothing moved.
pub fn refused(class: Class) -> Fact {
    Fact::declined(class, "proof.no")
}

pub fn shown() -> Fact {
    let payload = serde_json::Map::new();
    let action = Action { kind: "qr_code".into(), payload, expires_ms: None };
    Fact { action: Some(action), ..Fact::new(What::Action) }
}

/// The exchanges that these effects send.
pub fn sends(effects: &[Effect]) -> Vec<&str> {
    let of = |e: &'_ Effect| matches!(e, Effect::Send { .. });
    effects
        .iter()
        .filter(|e| of(e))
        .map(|e| match e {
            Effect::Send { exchange } => exchange.as_str(),
            Effect::Inquire { .. } => unreachable!(),
        })
        .collect()
}

pub fn asks(effects: &[Effect], subject: Subject) -> bool {
    effects.contains(&Effect::Inquire { subject })
}

/// A barcode payment under way at `a`, with `b` next.
pub fn at_the_till() -> Desk {
    let accounts = vec![account("a", barcode()), account("b", barcode())];
    Desk::with(policy(accounts), submission(barcode_method()))
}

/// A code that was shown, at `a`, with `b` next.
pub fn on_the_screen() -> Desk {
    let accounts = vec![account("a", code()), account("b", code())];
    let mut desk = Desk::with(policy(accounts), submission(qr_method()));
    desk.hear(shown());
    desk
}

/// A stored card under way at `a`, with `b` next.
pub fn by_card(contract: Contract) -> Desk {
    let accounts = vec![account("a", contract.clone()), account("b", contract)];
    Desk::with(policy(accounts), submission(token_method(&["a", "b"])))
}

/// A payment that is only to be authorized, under way at `a`.
pub fn authorizing(contract: Contract) -> Desk {
    let accounts = vec![account("a", contract.clone()), account("b", contract)];
    let mut asked = submission(token_method(&["a", "b"]));
    asked.capture = CaptureMode::Manual;
    Desk::with(policy(accounts), asked)
}

/// A payment that was only authorized.
pub fn authorized(contract: Contract) -> Desk {
    let mut desk = authorizing(contract);
    desk.hear(held());
    desk
}
