//! One state of the model: the durable row, the providers' books, what is on the wire, and what
//! each node holds in its memory.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use interlock_engine::{Asked, ExchangeKind, Input, Payment, Subject};
use interlock_plugin_api::Fact;

use super::digest::{self, digest};
use super::node::{Node, Run};
use crate::operator::Denied;
use crate::provider::portal;
use crate::provider::{Later, Provider};

/// What goes wrong costs one of the state's faults, and one of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A message is lost, a connection refused or reset.
    Loss,
    /// A message is still on the wire when the clock moves on.
    Late,
    /// An input is put through twice.
    Twice,
    /// A node dies.
    Crash,
    /// A provider does something else than the plain thing.
    Whim,
    /// A node writes its decision only after others have had their turn.
    Race,
    /// A wall clock jumps.
    Jump,
    /// A plugin can't build a request, or an account has no place.
    Unbuilt,
    /// A new version of a plugin misreads what it does not know.
    Misread,
}

/// How many kinds of faults there are.
pub const FAULTS: usize = 9;

/// The faults that are left: in all, and of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// In all.
    pub all: u8,
    /// Of each kind.
    pub of: [u8; FAULTS],
    /// Moves of the clock.
    pub ticks: u8,
    /// How often a shopper may scan a code.
    pub scans: u8,
    /// How often a shopper may pay one.
    pub pays: u8,
    /// How often the second node is the one that looks, hears or is asked.
    pub visits: u8,
    /// How often money is given back in a provider's portal.
    pub portals: u8,
    /// How often an operator speaks before he is asked.
    pub verdicts: u8,
}

impl Left {
    /// Pays for faults, if there are as many left.
    pub fn spend(&mut self, fault: Fault, n: u8) -> Option<()> {
        let own = &mut self.of[fault as usize];
        (self.all, *own) = (self.all.checked_sub(n)?, own.checked_sub(n)?);
        Some(())
    }

    /// Whether there is one left.
    pub fn has(&self, fault: Fault) -> bool {
        self.all.min(self.of[fault as usize]) > 0
    }

    /// How many of this kind may still happen.
    pub fn count(&self, fault: Fault) -> u8 {
        self.all.min(self.of[fault as usize])
    }
}

/// The durable version of the payment.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its timeline is not kept.
    pub payment: Payment,
    /// When somebody must look, Unix ms.
    pub due: Option<i64>,
    digest: u64,
}

impl Row {
    /// A version and its due time.
    pub fn new(mut payment: Payment, due: Option<i64>) -> Self {
        payment.seq = 0;
        let digest = digest(|h| {
            digest::payment(&payment, h);
            due.hash(h);
        });
        Self { payment, due, digest }
    }
}

/// One account's books.
#[derive(Clone, Debug)]
pub struct Books {
    /// They are the only truth.
    pub provider: Provider,
    digest: u64,
}

impl Books {
    /// The books as they are now.
    pub fn new(provider: Provider) -> Self {
        let digest = digest(|h| {
            (&provider.orders, &provider.jobs, provider.bounced, provider.mood).hash(h);
            provider.outside.hash(h);
        });
        Self { provider, digest }
    }
}

/// One send of one exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sending {
    /// The exchange.
    pub exchange: String,
    /// Which send of it.
    pub number: u32,
    /// The account's index.
    pub account: u8,
    /// What for.
    pub kind: ExchangeKind,
    /// Our number.
    pub op_id: String,
    /// Our number of the payment.
    pub target: String,
    /// The provider's number of the charge, if it was known.
    pub reference: Option<String>,
    /// Minor units.
    pub amount: i64,
    /// It makes a code.
    pub offer: bool,
    /// The shopper must prove himself first.
    pub challenge: bool,
    /// The last answer did not permit it.
    pub unpermitted: bool,
    /// It is the first of two requests, and moves nothing yet.
    pub opens: bool,
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Body {
    /// To a provider.
    Request(Run, Arc<Sending>),
    /// To the socket of a request.
    Answer(Run, Arc<Sending>, u16, Vec<Fact>),
    /// An inquiry on its way to an account's provider.
    Inquiry(Run, Subject, Asked, u8),
    /// The answer to an inquiry; empty when nothing was heard.
    Looked(Run, Subject, Asked, Vec<Fact>),
    /// A notification from an account's provider.
    Notice(u8, Fact),
    /// An input that is put through a second time.
    Repeat(Run, Input),
}

impl Body {
    /// The run of a node that it belongs to.
    pub fn run(&self) -> Option<Run> {
        match self {
            Self::Request(run, _)
            | Self::Answer(run, ..)
            | Self::Inquiry(run, ..)
            | Self::Looked(run, ..)
            | Self::Repeat(run, _) => Some(*run),
            Self::Notice(..) => None,
        }
    }

    fn digest(&self) -> u64 {
        digest(|h| {
            std::mem::discriminant(self).hash(h);
            let facts = |facts: &[Fact], h: &mut _| facts.iter().for_each(|f| digest::fact(f, h));
            match self {
                Self::Request(run, sending) => (run, sending).hash(h),
                Self::Answer(run, sending, status, said) => {
                    (run, sending, status).hash(h);
                    facts(said, h);
                }
                Self::Inquiry(run, subject, asked, account) => {
                    (run, subject, asked.ver, asked.at, account).hash(h);
                }
                Self::Looked(run, subject, asked, said) => {
                    (run, subject, asked.ver, asked.at).hash(h);
                    facts(said, h);
                }
                Self::Notice(account, fact) => {
                    account.hash(h);
                    digest::fact(fact, h);
                }
                Self::Repeat(run, input) => (run, format!("{input:?}")).hash(h),
            }
        })
    }
}

/// Something on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it is.
    pub body: Arc<Body>,
    /// The clock may move on while it travels: that was paid for.
    pub late: bool,
    /// A request is gone then, at the latest; `u64::MAX` while its socket is open.
    pub gone_ms: u64,
    digest: u64,
}

/// One state.
#[derive(Clone, Debug)]
pub struct State {
    /// The payment, once it is durable.
    pub row: Option<Arc<Row>>,
    /// By account.
    pub books: Vec<Arc<Books>>,
    /// In an order that does not depend on how it came about.
    pub wire: Vec<Message>,
    /// One or two.
    pub nodes: Vec<Node>,
    /// True time, ms.
    pub now: u64,
    /// What providers will do by themselves.
    pub laters: Vec<(u8, Later)>,
    /// The merchant's wishes that are left, one bit each.
    pub wishes: u16,
    /// The faults that are left.
    pub left: Left,
    /// Of what an operator said that no money moved.
    pub denied: Vec<Denied>,
    /// What went wrong.
    pub broken: Option<Arc<str>>,
}

impl State {
    /// The payment.
    pub fn payment(&self) -> Option<&Payment> {
        self.row.as_ref().map(|row| &row.payment)
    }

    /// The durable version.
    pub fn ver(&self) -> u64 {
        self.payment().map_or(0, |p| p.ver)
    }

    /// Whether this run of a node is alive.
    pub fn alive(&self, run: Run) -> bool {
        let node = &self.nodes[usize::from(run.node)];
        node.up && node.boot == run.boot
    }

    /// The socket that waits for the answer to this send.
    pub fn socket(&self, run: Run, sending: &Sending) -> Option<usize> {
        if !self.alive(run) {
            return None;
        }
        let sockets = &self.nodes[usize::from(run.node)].sockets;
        sockets.iter().position(|s| {
            s.sending.exchange == sending.exchange && s.sending.number == sending.number
        })
    }

    /// Puts something on the wire, at its place.
    pub fn post(&mut self, body: Body, late: bool, gone_ms: u64) {
        let message = Message { digest: body.digest(), body: Arc::new(body), late, gone_ms };
        self.put_back(message);
    }

    /// Puts a message at its place.
    pub fn put_back(&mut self, message: Message) {
        let key = (message.digest, message.late, message.gone_ms);
        let at = self.wire.partition_point(|m| (m.digest, m.late, m.gone_ms) < key);
        self.wire.insert(at, message);
    }

    /// Money moved after an operator had said that none did.
    pub fn was_denied(&self) -> bool {
        self.denied.iter().any(|d| d.is_wrong(&self.books[d.account].provider))
    }

    /// First wrong wins.
    pub fn breaks(&mut self, what: impl Into<Arc<str>>) {
        self.broken.get_or_insert(what.into());
    }

    /// Nothing is under way, and nothing will come by itself.
    pub fn quiet(&self) -> bool {
        self.nothing_comes()
            && self.laters.is_empty()
            && self.row.as_ref().is_some_and(|row| row.due.is_none())
            && self.nodes.iter().all(|n| n.held.is_none() && n.sockets.is_empty())
    }

    /// Nothing is on the wire that will ever arrive.
    pub fn nothing_comes(&self) -> bool {
        !self.wire.iter().any(|m| self.may_come(m))
    }

    /// Whether a message may arrive now.
    pub fn may_come(&self, m: &Message) -> bool {
        match &*m.body {
            Body::Notice(_, fact) => self.payment().is_some_and(|p| portal::may_hear(p, fact)),
            _ => true,
        }
    }

    /// As far as it decides what comes when nothing goes wrong any more.
    pub fn calm_digest(&self) -> u64 {
        digest(|h| self.hash_world(h))
    }

    fn hash_world(&self, h: &mut impl Hasher) {
        self.row.as_ref().map(|row| row.digest).hash(h);
        self.books.iter().for_each(|books| books.digest.hash(h));
        self.wire.len().hash(h);
        for m in &self.wire {
            (m.digest, m.late, m.gone_ms).hash(h);
        }
        self.nodes.iter().for_each(|node| node.hash(self.now, h));
        (self.now, self.broken.is_some()).hash(h);
        self.denied.hash(h);
        self.laters.hash(h);
    }

    /// One number for this state.
    pub fn digest(&self) -> u64 {
        digest(|h| self.hash(h))
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.hash_world(h);
        (self.wishes, self.left).hash(h);
    }
}

/// Two states are the same when their numbers are: the search itself knows no more of them.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}
