//! The shopper came back from what was shown to him: the `continue` of an attempt.
//!
//! What he brings is a secret and lives in memory alone. So it is sent at once, behind a durable
//! record, under a number that is derived from the merchant's key; and a process that has lost it
//! can finish nothing by itself, but may take the same details again under the same number. While
//! one return is in doubt no other is sent: both could be carried out.

use interlock_plugin_api::{Fact, Operation as PluginOperation, What};

use crate::answers::Source;
use crate::attempts::PLUGIN_VERSION;
use crate::definite::{self, Resend};
use crate::exchange::{Exchange, ExchangeKind};
use crate::input::Call;
use crate::intake::failed;
use crate::mutant::{self, Mutant};
use crate::payment::{Attempt, AttemptState, FailReason};
use crate::policy::AccountPolicy;
use crate::refusal::Refusal;
use crate::turn::{Flow, Stop, Turn};

impl Turn<'_> {
    /// The merchant says that the shopper is back. Where the provider goes on by itself it is asked
    /// for news; where it waits for us, it is told what the shopper brought.
    pub(crate) fn confirm(&mut self, key: &str, details: bool) -> Flow {
        let continues = |(i, a): (usize, &Attempt)| {
            let account = self.account(i)?;
            let goes_on = waits_for_return(account, a) && !a.loser && !a.is_over();
            let open = a.state == AttemptState::Action || is_continued(a);
            (goes_on && open).then_some((i, account))
        };
        let Some((i, account)) = self.p.attempts.iter().enumerate().rev().find_map(continues)
        else {
            return self.refresh();
        };
        let op_id = self.world.mint.mint(&["continue", &self.p.attempts[i].op_id, key]);
        let a = &self.p.attempts[i];
        let known = a.track.of(ExchangeKind::Continue).filter(|x| x.op_id == op_id).last();
        let again = known.cloned();
        if is_continued(a) && !mutant::on(Mutant::ContinueBesideDoubt) {
            return self.comes_again(i, account, again.is_some(), details);
        }
        if again.as_ref().is_some_and(|x| x.sends > 0) {
            return Ok(());
        }
        if let Some(why) = self.nothing_more(i, account) {
            return refused(why);
        }
        if !details && !approves(account, &self.p.attempts[i]) {
            return Err(no_details("is missing: the provider waits for what the shopper brought"));
        }
        let what = "the shopper came back; the provider is told";
        self.goes_back(i, account, &op_id, again.as_ref(), what)
    }

    /// The provider says that the shopper has done his part and that it waits for us: it is told
    /// to go on, without waiting for the shopper to find his way back. An inquiry says so again
    /// and again, also after a return that was refused, so it moves only what nothing was told for.
    pub(crate) fn approved(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let a = &self.p.attempts[i];
        if matches!(a.state, AttemptState::Fenced | AttemptState::Closing { .. }) {
            // Whatever the lost answer had shown: it waits for what is never sent.
            return self.not_gone_on(i, account, fact, source);
        }
        let told = a.track.of(ExchangeKind::Continue).count();
        let news = matches!(source, Source::Notice) || told == 0;
        let goes_on = approves(account, a) && a.state == AttemptState::Action && !a.loser;
        if !news || !goes_on || self.nothing_more(i, account).is_some() {
            return self.still_there(i);
        }
        let op_id = self.approval_number(i, told);
        if self.unbuildable(&op_id) {
            return self.still_there(i);
        }
        self.goes_back(i, account, &op_id, None, "the shopper approved; the provider goes on")
    }

    /// Our number of the `continue` that follows an approval, after so many others.
    fn approval_number(&self, i: usize, told: usize) -> String {
        let a = &self.p.attempts[i];
        self.world.mint.mint(&["continue", &a.op_id, "approved", &told.to_string()])
    }

    /// Why nothing more may be told to the provider for what was shown, if so.
    fn nothing_more(&self, i: usize, account: &AccountPolicy) -> Option<&'static str> {
        let a = &self.p.attempts[i];
        let shut = a.track.fence.is_some() && !mutant::on(Mutant::ContinueBesideDoubt);
        if shut || a.track.was_closed() || self.p.cancel_requested {
            return Some("nothing more is sent for what was shown to the shopper");
        }
        // A copy of what was sent before may have taken the money by itself, or may do so late.
        let copied = a.track.takers().any(|x| x.sends > 1);
        if copied && !definite::strong(&a.track, account) {
            return Some("a copy of an earlier return may still be carried out");
        }
        // What the plugin in force can't read may have been the success.
        let reads = a.track.takers().all(|x| definite::reads(account.state_version, x, account));
        let unread = !reads || a.alert.as_deref() == Some(PLUGIN_VERSION);
        (unread && !mutant::on(Mutant::ContinueBesideDoubt))
            .then_some("the plugin's version can't read what came of it")
    }

    /// What was shown can't be paid without us, and nothing that could pay it is under way: so it
    /// ends by our own word, which is durable before anything else is tried.
    pub(crate) fn withdraws(&mut self, i: usize, account: &AccountPolicy) -> bool {
        let a = &self.p.attempts[i];
        let alone = waits_for_return(account, a) && a.unconfirmed.is_none();
        let copied = a.track.takers().any(|x| x.sends > 1);
        if !alone || (copied && !definite::strong(&a.track, account)) {
            return false;
        }
        let ver = self.p.ver;
        let a = &mut self.p.attempts[i];
        a.track.fence.get_or_insert(ver);
        a.state = failed(FailReason::Closed);
        let name = a.account.clone();
        self.say(&name, "it can't be paid without us, and nothing more is sent", Some("closed"));
        true
    }

    /// What was sent is in doubt, and the provider says that it waits for a return. Asked when
    /// nothing can be on the wire any more, that says what became of it: nothing.
    pub(crate) fn not_gone_on(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let waits = matches!(fact.what, What::Action | What::Approved);
        let Source::Inquiry(asked) = source else { return self.still_there(i) };
        let late = definite::asked_behind_fence(&self.p.attempts[i].track, asked, account);
        if waits && late && self.withdraws(i, account) {
            return Ok(());
        }
        self.still_there(i)
    }

    /// Another return while one is under way or in doubt: the same one, or none.
    fn comes_again(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        same_key: bool,
        details: bool,
    ) -> Flow {
        let a = &self.p.attempts[i];
        let Some(x) = a.track.takers().last().cloned() else { return Ok(()) };
        let told = a.track.of(ExchangeKind::Continue).count();
        if told > 0 && x.op_id == self.approval_number(i, told - 1) {
            // The provider was told to go on when it knew of his approval: nothing is missing.
            return Ok(());
        }
        let waits = a.state == AttemptState::Ambiguous;
        let details = details || approves(account, a);
        if !details || !waits || self.resend_of(i) == Resend::Never {
            let why = "an earlier return of the shopper is not decided yet";
            return if same_key { Ok(()) } else { refused(why) };
        }
        let draft = self.draft(self.returning(i, account, &x.op_id, Some(&x)));
        if self.unbuildable(&x.op_id) {
            return refused("an earlier return of the shopper is not decided yet");
        }
        if draft?.digest != x.digest {
            return refused("an earlier return with other details is not decided yet");
        }
        self.say("merchant", "the shopper came back with the same details", None);
        match self.resend_of(i) {
            Resend::Now => self.resend(i),
            _ => self.look_later(i),
        }
    }

    /// Tells the provider what the shopper brought, once that is durable.
    fn goes_back(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        op_id: &str,
        unsent: Option<&Exchange>,
        what: &'static str,
    ) -> Flow {
        if self.unbuildable(op_id) {
            if let Some(skip) = self.refused(&account.name) {
                let skips = vec![(account.name.clone(), skip)];
                let route = Some(self.p.route.clone());
                return Err(Stop::Refuse(Refusal::NoAccountAvailable { route, skips }));
            }
            return Err(no_details("can't be used by the provider's plugin"));
        }
        let draft = self.draft(self.returning(i, account, op_id, unsent))?;
        if let Some(x) = unsent {
            // Nothing of it had left: the same request, for the first time.
            let mut track = std::mem::take(&mut self.p.attempts[i].track);
            let same = self.send_again(&mut track, &x.id, draft, account.timeout_ms);
            self.p.attempts[i].track = track;
            if !same {
                return refused("the same key brought other details before");
            }
        } else {
            let number = self.p.attempts[i].track.exchanges.len();
            let x = self.new_exchange(account, ExchangeKind::Continue, op_id, number, draft);
            self.p.attempts[i].track.exchanges.push(x);
            self.refer(&account.name, op_id);
        }
        let due = self.world.now.plus(account.timeout_ms + 1_000).wall_ms;
        let a = &mut self.p.attempts[i];
        (a.track.tries, a.track.since_ms, a.track.next_ms) = (0, None, Some(due));
        a.state = AttemptState::Started;
        let name = a.account.clone();
        self.say(&name, what, None);
        Ok(())
    }

    fn returning(
        &self,
        i: usize,
        account: &AccountPolicy,
        op_id: &str,
        again: Option<&Exchange>,
    ) -> Call {
        let a = &self.p.attempts[i];
        Call {
            account: account.name.clone(),
            kind: ExchangeKind::Continue,
            op_id: op_id.to_owned(),
            amount: self.p.money,
            attempt: i,
            method: a.method.clone(),
            flow: a.flow.clone(),
            provider_ref: a.provider_ref.clone(),
            reason: None,
            reserve: false,
            again: again.map(Self::again),
        }
    }

    /// T15 once something was shown: a refusal ends nothing. A return that it disproves was the
    /// only thing under way, so the shopper may act again.
    pub(crate) fn refused_as_shown(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let a = &self.p.attempts[i];
        let under_way = is_continued(a) && a.state != AttemptState::Fenced;
        let Source::Answer(ExchangeKind::Continue, id) = source else {
            return self.still_there(i);
        };
        let last = a.track.takers().last().filter(|x| under_way && x.id == *id);
        let Some(x) = last else { return self.still_there(i) };
        if !definite::one_declined(fact, x, account) {
            return self.doubt(i);
        }
        self.p.attempts[i].state = AttemptState::Action;
        if self.p.cancel_requested || self.p.attempts[i].loser {
            return self.close(i, crate::payment::CloseReason::Cancel);
        }
        self.look_later(i)
    }

    /// What was lost with an earlier process can only come from the shopper.
    pub(crate) fn miss_details(&mut self, i: usize) {
        let name = self.p.attempts[i].account.clone();
        let what = "what the shopper brought is lost; he may come back with it";
        self.say(&name, what, Some("details_gone"));
    }
}

/// Whether the provider goes on with an attempt only when it is told what the shopper brought.
pub(crate) fn waits_for_return(account: &AccountPolicy, a: &Attempt) -> bool {
    account.offers(PluginOperation::Continue) && account.contract.is_returning(&a.flow)
}

/// Whether the provider goes on with an attempt when it is told to, without anything that the
/// shopper brought.
pub(crate) fn approves(account: &AccountPolicy, a: &Attempt) -> bool {
    waits_for_return(account, a) && account.contract.is_approving(&a.flow)
}

/// A return of the shopper is under way or in doubt.
pub(crate) fn is_continued(a: &Attempt) -> bool {
    let last = a.track.takers().last().is_some_and(|x| x.kind == ExchangeKind::Continue);
    last && (a.state == AttemptState::Started || a.state.in_doubt())
}

fn refused(why: &'static str) -> Flow {
    Err(Stop::Refuse(Refusal::InvalidState { why }))
}

fn no_details(why: &'static str) -> Stop {
    Stop::Refuse(Refusal::Unprocessable { param: "details", why })
}
