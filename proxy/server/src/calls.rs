//! One call at a provider: the plugin builds it, the host signs and sends it, the plugin reads the
//! answer.
//!
//! Nothing here decides what an answer means for the money. A call that can move money is only
//! carried out after the driver made it durable; what a plugin wants to send is judged by the
//! pinned manifest, not by the step that wants it.

mod cache;
mod keyrings;
mod statements;
mod tokens;
mod wallets;

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use interlock_engine::{AccountPolicy, Call, ExchangeKind, Subject};
use interlock_engine::{Again, Draft, Payment, Prepared, Sent, Stamp, Submission};
use interlock_plugin_api::{
    Ack, CaptureMode, Credential, Currency, Customer, Details, Done, Effect, Envelope, Event, Fact,
    Money, Next, Operation, Original, Request, STEPS_MAX, Send, TransportLoss, What,
};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

use crate::failpoint::{self, Side};
use crate::node::NodeClock;
use crate::setup::OpenAccount;
use crate::upstream::{self, Outgoing, Upstream};
use cache::{Answers, Key};
pub use keyrings::Fetches;
use keyrings::Search;
pub use statements::Part;
pub use tokens::Tokens;
pub use wallets::Session;

use interlock_plugin_host::{Classified, QuarantineReason, StepOut, classify_send};

/// The purpose of an offer that is made without a request.
const SHOWN: &str = "shown";
/// The largest answer of a provider that is read, bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Speaks to providers through plugins; cheap to clone.
#[derive(Clone)]
pub struct Caller {
    upstream: Upstream,
    clock: Arc<NodeClock>,
    answers: Arc<Answers>,
}

/// A request that is ready to be sent, once its record is durable.
pub struct Ready {
    /// The plugin that built it reads its answer, whatever is configured meanwhile.
    account: Arc<OpenAccount>,
    envelope: Envelope,
    send: Send,
    body: Vec<u8>,
    state: Vec<u8>,
}

/// What became of a request that was sent.
pub enum Carried {
    /// The provider answered, and this is what the plugin read.
    Heard {
        /// The HTTP status.
        status: u16,
        /// What it said; empty when the plugin could not read it.
        facts: Vec<Fact>,
        /// How long it took, ms.
        elapsed_ms: u64,
        /// For how long the provider asked for patience, ms.
        retry_after_ms: Option<u64>,
    },
    /// The plugin goes on with another request that may have an effect.
    GoesOn(Draft, Box<Ready>),
    /// No answer will come.
    Lost {
        /// The socket's proof.
        sent: Sent,
        /// The named reason.
        reason: &'static str,
        /// How long it took, ms.
        elapsed_ms: u64,
    },
}

/// What a notification turned out to be.
pub struct Notification {
    /// Its signature is good.
    pub verified: bool,
    /// The provider's id of it.
    pub event_id: Option<String>,
    /// What it says.
    pub facts: Vec<Fact>,
    /// What the provider wants to hear.
    pub ack: Option<Ack>,
}

/// A shopper's secrets, for one request.
#[derive(Default)]
pub struct InHand {
    /// What he pays with.
    pub credential: Option<Credential>,
    /// What he brought back.
    pub details: Option<Details>,
}

/// What every request is built from.
pub struct Order<'a> {
    /// When the money is taken.
    pub capture: CaptureMode,
    /// For the statement.
    pub description: Option<&'a str>,
    /// Where the shopper returns to.
    pub return_url: Option<&'a str>,
    /// Who pays.
    pub customer: &'a Customer,
}

impl Ready {
    /// The account that it goes to, as it was when it was built.
    pub fn account(&self) -> &Arc<OpenAccount> {
        &self.account
    }
}

impl<'a> From<&'a Payment> for Order<'a> {
    fn from(p: &'a Payment) -> Self {
        Self {
            capture: p.capture,
            description: p.description.as_deref(),
            return_url: p.return_url.as_deref(),
            customer: &p.customer,
        }
    }
}

impl<'a> From<&'a Submission> for Order<'a> {
    fn from(s: &'a Submission) -> Self {
        Self {
            capture: s.capture,
            description: s.description.as_deref(),
            return_url: s.return_url.as_deref(),
            customer: &s.customer,
        }
    }
}

impl Caller {
    /// A caller with its own pool of connections.
    pub fn new(upstream: Upstream, clock: Arc<NodeClock>) -> Self {
        Self { upstream, clock, answers: Arc::default() }
    }

    /// The pool, for metrics.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Builds the first request of a call, without sending anything; there is none where the plugin
    /// makes an offer that the shopper carries to the provider himself.
    ///
    /// # Errors
    /// The named reason why there is none.
    pub async fn prepare(
        &self,
        account: &Arc<OpenAccount>,
        policy: &AccountPolicy,
        call: &Call,
        order: &Order<'_>,
        payment: Option<&Payment>,
        in_hand: InHand,
    ) -> Result<(Prepared, Option<Ready>), String> {
        let original = payment
            .and_then(|p| p.attempts.get(call.attempt))
            .filter(|_| call.kind != ExchangeKind::Authorize)
            .map(|attempt| {
                let money = payment.map_or(call.amount, |p| p.money);
                self.original(policy, &attempt.op_id, call.provider_ref.clone(), money)
            })
            .transpose()?;
        let mut request = self.request(account, policy, &call.op_id, call.amount, order)?;
        request.method.clone_from(&call.method);
        request.flow.clone_from(&call.flow);
        request.credential = in_hand.credential;
        request.details = in_hand.details;
        request.original = original;
        request.reason.clone_from(&call.reason);
        let envelope = self.envelope(operation(call.kind), request, call.again.as_ref());
        let (draft, ready) = self.first_request(account, envelope).await?;
        Ok((Prepared { call: call.clone(), draft }, ready))
    }

    /// Sends a request whose record is durable, and reads the answer.
    pub async fn carry(&self, ready: Ready, last_send_by: Stamp) -> Carried {
        let last_send_by = self.clock.instant(last_send_by);
        let Ready { account, mut envelope, send, body, state } = ready;
        let answer = self.exchange(&account, &send, body, last_send_by, false).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err((sent, reason, elapsed_ms)) => return Carried::Lost { sent, reason, elapsed_ms },
        };
        let (status, elapsed_ms) = (answer.status, millis(answer.elapsed));
        let retry_after_ms = retry_after(&answer.headers);
        let heard = |facts| Carried::Heard { status, facts, elapsed_ms, retry_after_ms };
        envelope.event = Event::Response { status, headers: answer.headers };
        let read = self.steps(&account, envelope, state, answer.body).await;
        failpoint::answer(Side::After);
        match read {
            Ok(Ended::Done(done, _)) => heard(done.facts),
            Ok(Ended::Effect(draft, ready)) => Carried::GoesOn(draft, ready),
            Err(reason) => {
                tracing::warn!(account = account.name, reason, "answer could not be read");
                heard(Vec::new())
            }
        }
    }

    /// Asks the provider about an attempt or an operation; empty when nothing was heard.
    pub async fn inquire(
        &self,
        account: &Arc<OpenAccount>,
        policy: &AccountPolicy,
        payment: &Payment,
        subject: Subject,
    ) -> (Vec<Fact>, u16, u64) {
        let begun = Instant::now();
        let asked = self.inquiry(account, policy, payment, subject).await;
        let elapsed = millis(begun.elapsed());
        match asked {
            Ok((facts, status)) => {
                failpoint::answer(Side::After);
                (facts, status, elapsed)
            }
            Err(reason) => {
                tracing::debug!(account = account.name, reason, "inquiry was not answered");
                (Vec::new(), 0, elapsed)
            }
        }
    }

    /// Asks whether the provider is well: facts, status (0 when nothing was heard), ms.
    pub async fn probe(&self, account: &Arc<OpenAccount>) -> (Vec<Fact>, u16, u64) {
        let begun = Instant::now();
        let envelope = self.envelope(Operation::Probe, about_nothing(account), None);
        let asked = self.reads(account, envelope, Vec::new(), Bytes::new()).await;
        let elapsed = millis(begun.elapsed());
        match asked {
            Ok((Ended::Done(done, _), status)) => (done.facts, status, elapsed),
            Ok((Ended::Effect(..), _)) => (Vec::new(), 0, elapsed),
            Err(reason) => {
                tracing::debug!(account = account.name, reason, "probe was not answered");
                (Vec::new(), 0, elapsed)
            }
        }
    }

    /// Verifies and reads what a provider sent to us.
    ///
    /// # Errors
    /// The plugin could not read it.
    pub async fn read_notification(
        &self,
        account: &Arc<OpenAccount>,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<Notification, String> {
        let request = about_nothing(account);
        let mut envelope = self.envelope(Operation::ParseNotification, request, None);
        envelope.event = Event::Notification { headers };
        match self.steps(account, envelope, Vec::new(), body).await? {
            Ended::Done(done, _) => Ok(Notification {
                verified: done.verified,
                event_id: done.event_id,
                facts: done.facts,
                ack: done.ack,
            }),
            Ended::Effect(..) => Err("a notification may not send".into()),
        }
    }

    async fn inquiry(
        &self,
        account: &Arc<OpenAccount>,
        policy: &AccountPolicy,
        payment: &Payment,
        subject: Subject,
    ) -> Result<(Vec<Fact>, u16), String> {
        let (attempt, op_id, amount, target) = match subject {
            Subject::Attempt(index) => {
                let a = payment.attempts.get(index).ok_or("no such attempt")?;
                (a, a.op_id.clone(), payment.money, None)
            }
            Subject::Operation(index) => {
                let o = payment.operations.get(index).ok_or("no such operation")?;
                let a = payment.attempts.get(o.attempt).ok_or("no such attempt")?;
                let target = (operation(o.kind), o.operation_ref.clone());
                let amount = Money::new(o.amount, payment.currency());
                (a, o.op_id.clone(), amount, Some(target))
            }
        };
        let mut request = self.request(account, policy, &op_id, amount, &payment.into())?;
        request.method.clone_from(&attempt.method);
        request.flow.clone_from(&attempt.flow);
        request.original = Some(self.original(
            policy,
            &attempt.op_id,
            attempt.provider_ref.clone(),
            payment.money,
        )?);
        let op = if target.is_some() { Operation::InquireOperation } else { Operation::Inquire };
        request.target = target;
        let envelope = self.envelope(op, request, None);
        let (done, status) = self.reads(account, envelope, Vec::new(), Bytes::new()).await?;
        match done {
            Ended::Done(done, _) => Ok((done.facts, status)),
            Ended::Effect(..) => Err("an inquiry may only read".into()),
        }
    }

    fn request(
        &self,
        account: &OpenAccount,
        policy: &AccountPolicy,
        op_id: &str,
        amount: Money,
        order: &Order<'_>,
    ) -> Result<Request, String> {
        let rule = policy.currencies.get(&amount.currency).ok_or("currency is not taken")?;
        Ok(Request {
            op_id: op_id.to_owned(),
            amount: provider_money(policy, amount)?,
            exponent: rule.provider_exponent,
            capture: order.capture,
            method: String::new(),
            flow: String::new(),
            credential: None,
            description: order.description.map(str::to_owned),
            return_url: order.return_url.map(str::to_owned),
            notify_url: account.notify_url.clone(),
            customer: order.customer.clone(),
            original: None,
            target: None,
            reason: None,
            details: None,
            wanted: None,
            period: None,
            session: None,
        })
    }

    fn original(
        &self,
        policy: &AccountPolicy,
        op_id: &str,
        provider_ref: Option<String>,
        amount: Money,
    ) -> Result<Original, String> {
        let amount = provider_money(policy, amount)?;
        Ok(Original { op_id: op_id.to_owned(), provider_ref, amount })
    }

    fn envelope(&self, op: Operation, request: Request, again: Option<&Again>) -> Envelope {
        let now_ms = self.clock.now().wall_ms;
        let (made_ms, entropy) = match again {
            Some(again) => (again.made_ms, again.entropy.clone()),
            None => (now_ms, entropy()),
        };
        Envelope { op, now_ms, made_ms, entropy, request, event: Event::Start }
    }

    /// Runs the pure beginning of an operation up to its first request that has an effect.
    async fn first_request(
        &self,
        account: &Arc<OpenAccount>,
        envelope: Envelope,
    ) -> Result<(Draft, Option<Ready>), String> {
        let carried = envelope.op == Operation::Authorize
            && account.manifest().contract.is_by_shopper(&envelope.request.flow);
        let made = envelope.clone();
        let (ended, looked) = self.reads(account, envelope, Vec::new(), Bytes::new()).await?;
        match ended {
            // What it had to look at first was not shown.
            Ended::Done(done, _) if looked > 0 && done.facts.iter().all(is_unknown) => {
                Err(upstream::reason::UNREADABLE.to_owned())
            }
            Ended::Effect(draft, ready) => Ok((draft, Some(*ready))),
            Ended::Done(mut done, _) if carried && done.facts.len() == 1 => {
                let fact = done.facts.pop().filter(|f| f.what == What::Action);
                let mut fact =
                    fact.filter(|f| f.action.is_some()).ok_or("the plugin made no offer")?;
                place(&mut fact, account)?;
                let shown = Classified { purpose: SHOWN.to_owned(), effect: Effect::Offer };
                let draft = draft(&made, shown, &Send::default(), b"", b"")?;
                Ok((Draft { said: Some(fact), ..draft }, None))
            }
            Ended::Done(..) => Err("the plugin ended before it sent anything".into()),
        }
    }

    async fn steps(
        &self,
        account: &Arc<OpenAccount>,
        envelope: Envelope,
        state: Vec<u8>,
        body: Bytes,
    ) -> Result<Ended, String> {
        self.reads(account, envelope, state, body).await.map(|(ended, _)| ended)
    }

    /// Runs steps, carrying out reads on the way, until the operation ends or wants an effect.
    async fn reads(
        &self,
        account: &Arc<OpenAccount>,
        mut envelope: Envelope,
        mut state: Vec<u8>,
        mut body: Bytes,
    ) -> Result<(Ended, u16), String> {
        let mut last_status = 0;
        let mut public: Option<Key> = None;
        for _ in 0..STEPS_MAX {
            let out = self.step(account, &envelope, &state, &body).await.inspect_err(|_| {
                public.iter().for_each(|key| self.answers.forget(key));
            })?;
            let StepOut { next, state: kept, body: out_body, .. } = out;
            let send = match next {
                Next::Done(done) => return Ok((Ended::Done(done, kept), last_status)),
                Next::Send(send) => send,
            };
            let classified = self.judge(account, &envelope, &send, &out_body)?;
            if classified.effect != Effect::Read {
                let draft = draft(&envelope, classified, &send, &kept, &out_body)?;
                let account = Arc::clone(account);
                let ready = Ready { account, envelope, send, body: out_body, state: kept };
                return Ok((Ended::Effect(draft, Box::new(ready)), last_status));
            }
            let by = Instant::now() + account.timeout;
            public = is_public(account, &send, &out_body).then(|| Key::of(account, &send));
            let answer = match &public {
                Some(key) => Box::pin(self.kept(account, &send, key.clone(), by)).await,
                None => self.exchange(account, &send, out_body, by, true).await,
            };
            match answer {
                Ok(upstream::Incoming { status, headers, body: came, .. }) => {
                    last_status = status;
                    envelope.event = Event::Response { status, headers };
                    (state, body) = (kept, came);
                }
                // Who asks for what everybody may read may know another way to it.
                Err((sent, reason, _)) if public.is_some() => {
                    let outcome = match sent {
                        Sent::No => TransportLoss::NotSent,
                        Sent::Maybe => TransportLoss::MaybeSent,
                    };
                    envelope.event = Event::Transport { outcome, reason: reason.to_owned() };
                    (state, body) = (kept, Bytes::new());
                }
                Err((_, reason, _)) => return Err(reason.to_owned()),
            }
        }
        Err(format!("the plugin took more than {STEPS_MAX} steps"))
    }

    /// What a request for something public is answered, perhaps from what is kept.
    async fn kept(
        &self,
        account: &OpenAccount,
        send: &Send,
        key: Key,
        by: Instant,
    ) -> Result<upstream::Incoming, Gone> {
        let now = || {
            let wall_ms = u64::try_from(self.clock.now().wall_ms).unwrap_or_default();
            UNIX_EPOCH + Duration::from_millis(wall_ms)
        };
        let fetch = self.exchange(account, send, Vec::new(), by, true);
        self.answers.answer(key, &send.headers, now, fetch).await
    }

    /// One step; once more if it named a public key of the provider that had to be fetched first.
    async fn step(
        &self,
        account: &Arc<OpenAccount>,
        envelope: &Envelope,
        state: &[u8],
        body: &[u8],
    ) -> Result<StepOut, String> {
        let run = || account.instance.step(envelope, state, body);
        let mut out = run().await.map_err(|e| e.to_string())?;
        let missing = out.missing.take().filter(|_| envelope.op != Operation::FetchKeys);
        let Some(missing) = missing else { return Ok(out) };
        match self.fetch_missing(account, missing).await {
            Search::Found => out = run().await.map_err(|e| e.to_string())?,
            // It may be told again; what an answer says without its key is nothing anyway.
            Search::Unheard if envelope.op == Operation::ParseNotification => {
                return Err("the provider could not be asked for the key that signed it".into());
            }
            Search::Unheard | Search::Nowhere => {}
        }
        Ok(out)
    }

    /// The pinned manifest's word on a request; a plugin that breaks it is not called again.
    fn judge(
        &self,
        account: &OpenAccount,
        envelope: &Envelope,
        send: &Send,
        body: &[u8],
    ) -> Result<Classified, String> {
        let generation = account.instance.generation();
        classify_send(generation.manifest(), envelope.op, send, body).map_err(|refused| {
            if refused.quarantines() {
                generation.put_in_quarantine(QuarantineReason::RefusedSend);
            }
            refused.to_string()
        })
    }

    /// Sends one request and gives what came back, whatever it says. A request whose access token
    /// is refused is sent once more with another one: nothing was done without it, so at most one
    /// copy can be carried out.
    pub(crate) async fn exchange(
        &self,
        account: &OpenAccount,
        send: &Send,
        body: Vec<u8>,
        last_send_by: Instant,
        read: bool,
    ) -> Result<upstream::Incoming, Gone> {
        let never = |reason| (Sent::No, reason, 0);
        let mut headers = Vec::with_capacity(send.headers.len());
        for (name, value) in &send.headers {
            let value = account.instance.secrets().substitute(value);
            let value = value.map_err(|_| never(upstream::reason::INVALID_REQUEST))?;
            headers.push((name.clone(), value.to_string()));
        }
        let Some(name) = tokens::wanted(send) else {
            return self.wire(account, send, headers, body, last_send_by, read).await;
        };
        let with = |token: &tokens::Token| -> Vec<(String, String)> {
            let put = |(n, value): &(String, String)| (n.clone(), token.put_into(value, name));
            headers.iter().map(put).collect()
        };
        let no_token = |_| never(upstream::reason::NO_TOKEN);
        let token = self.token(account, name, None).await.map_err(no_token)?;
        let answer =
            self.wire(account, send, with(&token), body.clone(), last_send_by, read).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let Ok(token) = self.token(account, name, Some(&token)).await else { return Ok(answer) };
        match self.wire(account, send, with(&token), body, last_send_by, read).await {
            // It did not leave again, so the refusal is what there is.
            Err((Sent::No, ..)) => Ok(answer),
            outcome => outcome,
        }
    }

    /// The exchange itself, with the headers as they are.
    async fn wire(
        &self,
        account: &OpenAccount,
        send: &Send,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        last_send_by: Instant,
        read: bool,
    ) -> Result<upstream::Incoming, Gone> {
        let endpoint = account.endpoints.get(&send.endpoint);
        let endpoint = endpoint.ok_or((Sent::No, upstream::reason::INVALID_REQUEST, 0))?;
        let outgoing = Outgoing {
            method: send.method.clone(),
            path_and_query: path_and_query(send),
            headers,
            body: Bytes::from(body),
            connect_timeout: account.connect_timeout,
            deadline: Instant::now() + account.timeout,
            last_send_by,
            body_limit: ANSWER_BYTES_MAX,
            cut_body: false,
            retry_read: read,
            spill: None,
        };
        // Apart, because most futures that may send hold this one's room and never use it.
        let sending = Box::pin(self.upstream.send(endpoint, outgoing));
        let answer = sending.await.map_err(|lost| {
            let sent = match lost.sent {
                upstream::Sent::NotSent => Sent::No,
                upstream::Sent::MaybeSent => Sent::Maybe,
            };
            (sent, lost.reason, millis(lost.elapsed))
        })?;
        failpoint::answer(Side::Before);
        Ok(answer)
    }
}

/// Whether the manifest says that an answer to this may be kept.
fn is_public(account: &OpenAccount, send: &Send, body: &[u8]) -> bool {
    let rule = account.manifest().contract.rule(&send.method, &send.path, &send.query);
    body.is_empty() && rule.is_some_and(|rule| rule.cached)
}

/// An exchange without an answer: whether it left, why, and how long it took, ms.
pub(crate) type Gone = (Sent, &'static str, u64);

/// A plugin names an endpoint, never an address: `{endpoint:NAME}` at the beginning of a link that
/// it made by itself is where the account's endpoint is.
fn place(fact: &mut Fact, account: &OpenAccount) -> Result<(), String> {
    let url = fact.action.as_mut().and_then(|action| action.payload.get_mut("url"));
    let Some(url) = url else { return Ok(()) };
    let text = url.as_str().and_then(|url| url.strip_prefix("{endpoint:")?.split_once('}'));
    let (name, rest) = text.ok_or("a link of the plugin's own names no endpoint")?;
    let at = account.addresses.get(name).ok_or("a link names an unknown endpoint")?;
    *url = format!("{}{rest}", at.trim_end_matches('/')).into();
    Ok(())
}

fn is_unknown(fact: &Fact) -> bool {
    fact.what == What::Unknown
}

/// How a run of steps ended.
enum Ended {
    /// With what the plugin keeps, for the next part.
    Done(Done, Vec<u8>),
    Effect(Draft, Box<Ready>),
}

fn draft(
    envelope: &Envelope,
    Classified { purpose, effect }: Classified,
    send: &Send,
    state: &[u8],
    body: &[u8],
) -> Result<Draft, String> {
    let continuation = String::from_utf8(state.to_vec())
        .map_err(|_| "the plugin's continuation is not UTF-8".to_owned())?;
    Ok(Draft {
        purpose,
        effect,
        continuation,
        digest: digest_of(send, body),
        made_ms: envelope.made_ms,
        entropy: envelope.entropy.clone(),
        said: None,
    })
}

/// What a copy of a request must have in common with it: where it goes, and every byte of its body.
/// Queries and headers carry the present: the time, a signature.
fn digest_of(send: &Send, body: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [&send.method, &send.endpoint, &send.path] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    context.update(body);
    hex::encode(context.finish())
}

/// What a step is given that is about no payment.
fn about_nothing(account: &OpenAccount) -> Request {
    let currency = account.manifest().currencies.keys().next().copied();
    about(account, Money::new(0, currency.unwrap_or(Currency::NONE)), 0)
}

/// What a step is given that is about an amount alone.
fn about(account: &OpenAccount, amount: Money, exponent: u8) -> Request {
    Request {
        op_id: String::new(),
        amount,
        exponent,
        capture: CaptureMode::Automatic,
        method: String::new(),
        flow: String::new(),
        credential: None,
        description: None,
        return_url: None,
        notify_url: account.notify_url.clone(),
        customer: Customer::default(),
        original: None,
        target: None,
        reason: None,
        details: None,
        wanted: None,
        period: None,
        session: None,
    }
}

fn operation(kind: ExchangeKind) -> Operation {
    match kind {
        ExchangeKind::Authorize => Operation::Authorize,
        ExchangeKind::Continue => Operation::Continue,
        ExchangeKind::Capture => Operation::Capture,
        ExchangeKind::Void => Operation::Void,
        ExchangeKind::Refund => Operation::Refund,
        ExchangeKind::Close => Operation::Close,
    }
}

fn provider_money(policy: &AccountPolicy, amount: Money) -> Result<Money, String> {
    policy
        .provider_amount(amount.currency, amount.amount)
        .map(|units| Money::new(units, amount.currency))
        .ok_or_else(|| "the provider has no exact form of this amount".into())
}

fn path_and_query(send: &Send) -> String {
    if send.query.is_empty() {
        return send.path.clone();
    }
    let pairs = form_urlencoded::Serializer::new(String::new()).extend_pairs(&send.query).finish();
    format!("{}?{pairs}", send.path)
}

/// RFC 9110 `Retry-After` in seconds; the form with a date is as good as none.
fn retry_after(headers: &[(String, String)]) -> Option<u64> {
    let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("retry-after");
    let seconds: u64 = headers.iter().find(named)?.1.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

fn entropy() -> String {
    let mut bytes = [0; 16];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => hex::encode(bytes),
        Err(_) => "0".repeat(32),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
