/* What an answer says about the money. Whatever is not documented is unknown, never a decline:
 * after a decline the proxy may charge the customer at another provider. */
#include "provider.h"
#include <inttypes.h>
#include <stdio.h>

/* Three ASCII letters, in upper case. */
bool read_currency(json text, char currency[4]) {
  size_t n;
  if (!json_copy(text, currency, 4, &n) || n != 3) return false;
  for (size_t i = 0; i < n; i++) {
    if (currency[i] >= 'a' && currency[i] <= 'z') currency[i] = (char)(currency[i] - 'a' + 'A');
    if (currency[i] < 'A' || currency[i] > 'Z') return false;
  }
  return true;
}

/* A payment always has an amount; a cancel has none. */
bool read_record(json object, bool payment, record *r) {
  bool ok = true;
  json (*const price)(json, const char *, json_kind, bool *) = payment ? json_need : json_may;
  json amount = price(object, "amount", JSON_NUMBER, &ok);
  json currency = price(object, "currency", JSON_STRING, &ok);
  *r = (record){0};
  r->id = json_need(object, "id", JSON_STRING, &ok);
  r->state = json_need(object, "state", JSON_STRING, &ok);
  r->reference = json_need(object, "reference", JSON_STRING, &ok);
  r->code = json_may(object, "code", JSON_STRING, &ok);
  if (amount.kind == JSON_NUMBER) ok = json_int(amount, &r->amount.amount) && ok;
  if (r->amount.amount < 0 || !read_currency(currency, r->amount.currency)) r->amount.amount = 0;
  return ok;
}

static fact say(const char *what) { return (fact){.what = json_word(what)}; }

/* The amount is Acme's own: the host compares it with what was asked. */
static fact say_of(const char *what, money amount) {
  return (fact){.what = json_word(what), .amount = amount};
}

fact unknown(json code) {
  return (fact){.what = json_word("unknown"), .class = json_word("unmapped"), .code = code};
}

static fact doubt(const char *code) { return unknown(json_word(code)); }

/* A status without a documented body says nothing about the money. */
static fact unanswered(int64_t status) {
  fact f = unknown(json_none);
  f.status = status;
  if (status == 401 || status == 403) f.class = json_word("account_restricted");
  if (status == 429) f.class = json_word("rate_limited");
  if (status >= 500) f.class = json_word("provider_down");
  return f;
}

/* A refusal, with what it means for routing and what the shopper can do. A code that is not
 * documented stays in doubt: it is not in `proof_codes`, so the host does not believe it. */
static fact declined(json code) {
  static const struct { const char *code, *class, *advice; } known[] = {
      {"insufficient_funds", "user", "check_balance"},
      {"card_expired", "user", "fix_data"},
      {"suspected_fraud", "declined.fraud", "other_method"},
      {"try_later", "declined.soft", "retry"},
  };
  if (code.kind == JSON_ABSENT) return doubt("no_code");
  fact f = {.what = json_word("declined"), .code = code};
  f.class = json_word("declined.hard");
  f.advice = json_word("other_method");
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (!json_is(code, known[i].code)) continue;
    f.class = json_word(known[i].class);
    f.advice = json_word(known[i].advice);
  }
  return f;
}

fact of_payment(const record *r) {
  fact f;
  if (r->amount.amount == 0) return doubt("no_amount");
  if (json_is(r->state, "paid")) f = say_of("captured", r->amount);
  else if (json_is(r->state, "authorized")) f = say_of("authorized", r->amount);
  else if (json_is(r->state, "pending")) f = say("pending");
  else if (json_is(r->state, "canceled")) f = say("voided");
  else if (json_is(r->state, "declined")) f = declined(r->code);
  else f = doubt("state");
  f.provider_ref = r->id;
  return f;
}

fact of_change(const record *r, json op) {
  const bool done = json_is(r->state, "done"), priced = r->amount.amount > 0;
  fact f;
  if (done && priced && json_is(op, "capture")) f = say_of("captured", r->amount);
  else if (done && priced && json_is(op, "refund")) f = say_of("refunded", r->amount);
  else if (done && json_is(op, "void")) f = say("voided");
  else if (json_is(r->state, "pending")) f = say("pending");
  else if (json_is(r->state, "refused")) f = declined(r->code);
  else f = doubt("state");
  f.operation_ref = r->id;
  return f;
}

/* The answer to something new: one record, ours. */
static fact hear_record(const step *s, bool payment) {
  record r;
  if (s->status != 201) return unanswered(s->status);
  if (!read_record(json_read(s->body), payment, &r)) return doubt("unreadable");
  if (!json_same(r.reference, s->op_id)) return doubt("other_reference");
  return payment ? of_payment(&r) : of_change(&r, s->op);
}

/* The answer to a look-up: at most one record, ours. The whole list must be readable. */
static fact hear_list(const step *s, const char *name, bool payments, json ours) {
  record first = {0}, r;
  bool ok = true;
  size_t n = 0;
  if (s->status != 200) return unanswered(s->status);
  json list = json_need(json_read(s->body), name, JSON_ARRAY, &ok), item;
  for (; ok && json_next(&list, &item); n++) {
    ok = read_record(item, payments, &r);
    if (n == 0) first = r;
  }
  if (!ok) return doubt("unreadable");
  if (n == 0) return say("not_found");
  if (n > 1 || !json_same(first.reference, ours)) return doubt("other_reference");
  return payments ? of_payment(&first) : of_change(&first, s->target);
}

fact hear_payment(const step *s) { return hear_record(s, true); }
fact hear_change(const step *s) { return hear_record(s, false); }
fact hear_found(const step *s) { return hear_list(s, "payments", true, s->original_id); }
fact hear_operation(const step *s) { return hear_list(s, "operations", false, s->op_id); }
fact hear_health(const step *s) {
  return s->status == 200 ? say("not_found") : unanswered(s->status);
}

void write_fact(json_writer *w, const fact *f) {
  char digits[24], code[32];
  json_raw(w, "{");
  json_member(w, "what", f->what);
  json_member(w, "scope", json_word("send"));
  json_member(w, "op_id", f->op_id);
  if (f->amount.amount > 0) {
    snprintf(digits, sizeof digits, "%" PRId64, f->amount.amount);
    json_name(w, "amount");
    json_raw(w, "{");
    json_member(w, "amount", json_word(digits));
    json_member(w, "currency", json_word(f->amount.currency));
    json_raw(w, "}");
  }
  json_member(w, "provider_ref", f->provider_ref);
  json_member(w, "operation_ref", f->operation_ref);
  json_member(w, "class", f->class);
  snprintf(code, sizeof code, "http_%" PRId64, f->status);
  json_member(w, "provider_code", f->status > 0 ? json_word(code) : f->code);
  json_member(w, "advice", f->advice);
  json_raw(w, "}");
}
