/* Acme Pay for Interlock: payments by stored card, two-step capture, refunds, and a look-up by our
 * number.
 *
 * The protocol is an invented one, with what many providers have in common: JSON, amounts in minor
 * units, an idempotency key in a header, our number as `reference` in every object. Replace it by
 * your provider's, one operation after another; `interlock plugin test` says what is missing.
 *
 * A step is a pure function: the envelope, the continuation and the provider's bytes come in, a
 * request or facts go out. Nothing here reads a clock or a file, and no global ever changes, so
 * any number of threads may be in here at once. */
#include "provider.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h" /* made of manifest.json by the Makefile */

/* All that is kept between a request and its answer. It is written to disk: no credential in it.
 * Raise `state_version` in the manifest when its form changes. */
static const char SENT[] = "{\"sent\":true}";

static int32_t put(const ilk_out *out, uint32_t part, const char *text) {
  return out->put(out->ctx, part, (const uint8_t *)text, strlen(text));
}

int32_t fail(const ilk_out *out, int32_t code, const char *text) {
  put(out, ILK_PART_ERROR, text);
  return code;
}

static int32_t refuse(const step *s, const char *text) { return fail(s->out, ILK_E_INPUT, text); }

/* ---- What the host asks. A member that this plugin does not use is not looked at, so a later host
 * may add more of them. ---- */

/* Exactly two values in an array. */
static bool pair(json array, json *first, json *second) {
  json third;
  return json_next(&array, first) && json_next(&array, second) && !json_next(&array, &third);
}

static bool read_request(step *s, json request) {
  bool ok = true;
  json amount = json_need(request, "amount", JSON_OBJECT, &ok);
  ok = json_digits(json_get(amount, "amount"), &s->amount.amount) && ok;
  ok = read_currency(json_get(amount, "currency"), s->amount.currency) && ok;
  s->op_id = json_need(request, "op_id", JSON_STRING, &ok);
  json capture = json_need(request, "capture", JSON_STRING, &ok);
  s->automatic = json_is(capture, "automatic");
  ok = ok && (s->automatic || json_is(capture, "manual"));
  s->credential = json_may(request, "credential", JSON_OBJECT, &ok);
  s->original = json_may(request, "original", JSON_OBJECT, &ok);
  if (s->original.kind == JSON_OBJECT) {
    s->original_id = json_need(s->original, "op_id", JSON_STRING, &ok);
    s->provider_ref = json_may(s->original, "provider_ref", JSON_STRING, &ok);
  }
  json target = json_may(request, "target", JSON_ARRAY, &ok), number;
  if (target.kind == JSON_ABSENT) return ok;
  return pair(target, &s->target, &number) && s->target.kind == JSON_STRING && ok;
}

static bool read_headers(step *s, json headers) {
  json header, name, value;
  while (json_next(&headers, &header)) {
    if (!pair(header, &name, &value)) return false;
    if (name.kind != JSON_STRING || value.kind != JSON_STRING) return false;
    /* The first one counts, as in the Rust kit. */
    if (json_is(name, "acme-timestamp") && s->stamp.kind == JSON_ABSENT) s->stamp = value;
    if (json_is(name, "acme-signature") && s->signature.kind == JSON_ABSENT) s->signature = value;
  }
  return true;
}

static bool read_event(step *s, json event) {
  bool ok = true;
  json kind = json_need(event, "kind", JSON_STRING, &ok);
  if (json_is(kind, "start")) {
    s->event = START;
    return ok;
  }
  if (json_is(kind, "transport")) {
    s->event = TRANSPORT;
    json outcome = json_need(event, "outcome", JSON_STRING, &ok);
    s->reason = json_need(event, "reason", JSON_STRING, &ok);
    return ok && (json_is(outcome, "not_sent") || json_is(outcome, "maybe_sent"));
  }
  s->event = json_is(kind, "response") ? RESPONSE : NOTIFICATION;
  if (s->event == RESPONSE) ok = json_int(json_get(event, "status"), &s->status) && ok;
  else ok = json_is(kind, "notification") && ok;
  return read_headers(s, json_need(event, "headers", JSON_ARRAY, &ok)) && ok;
}

static bool read_envelope(step *s, json envelope) {
  bool ok = true;
  s->op = json_need(envelope, "op", JSON_STRING, &ok);
  ok = json_int(json_get(envelope, "now_ms"), &s->now_ms) && ok;
  ok = read_request(s, json_need(envelope, "request", JSON_OBJECT, &ok)) && ok;
  return read_event(s, json_need(envelope, "event", JSON_OBJECT, &ok)) && ok;
}

/* ---- Requests: everything is checked before the first byte is written. ---- */

/* `path` holds nothing to escape. A request with a key may move money: the key is our number, by
 * which Acme recognizes a copy. `{secret:api_key}` is replaced by the host, on the wire. */
static int32_t send_request(const step *s, const char *method, const char *path, json reference,
                            json key) {
  json_writer meta = {.out = s->out, .part = ILK_PART_META};
  json_raw(&meta, "{\"kind\":\"send\"");
  json_member(&meta, "method", json_word(method));
  json_member(&meta, "endpoint", json_word("api"));
  json_member(&meta, "path", json_word(path));
  json_raw(&meta, ",\"query\":[");
  if (reference.kind != JSON_ABSENT) {
    json_raw(&meta, "[\"reference\",");
    json_string(&meta, reference);
    json_raw(&meta, "]");
  }
  json_raw(&meta, "],\"headers\":[[\"authorization\",\"Bearer {secret:api_key}\"]");
  if (key.kind != JSON_ABSENT) {
    json_raw(&meta, ",[\"content-type\",\"application/json\"],[\"idempotency-key\",");
    json_string(&meta, key);
    json_raw(&meta, "]");
  }
  json_raw(&meta, "]}");
  const int32_t rc = json_end(&meta);
  return rc == ILK_OK ? put(s->out, ILK_PART_STATE, SENT) : rc;
}

static int32_t get(const step *s, const char *path, json reference) {
  return send_request(s, "GET", path, reference, json_none);
}

static int32_t post(const step *s, const char *path, json_writer *body) {
  const int32_t rc = json_end(body);
  return rc == ILK_OK ? send_request(s, "POST", path, json_none, s->op_id) : rc;
}

/* A JSON number of the digits that were given, never by way of a float. */
static void write_amount(json_writer *w, const money *amount) {
  char digits[24];
  snprintf(digits, sizeof digits, "%" PRId64, amount->amount);
  json_name(w, "amount");
  json_raw(w, digits);
  json_member(w, "currency", json_word(amount->currency));
}

static int32_t ask_payment(const step *s) {
  json token = json_get(s->credential, "token");
  const bool by_token = json_is(json_get(s->credential, "form"), "account_token");
  if (!by_token || token.kind != JSON_STRING) return refuse(s, "a payment needs an account_token");
  if (s->amount.amount <= 0) return refuse(s, "the amount is not positive");
  json_writer body = {.out = s->out, .part = ILK_PART_BODY};
  json_raw(&body, "{");
  json_member(&body, "merchant", s->account->merchant);
  write_amount(&body, &s->amount);
  json_raw(&body, s->automatic ? ",\"capture\":true" : ",\"capture\":false");
  json_member(&body, "card", token);
  json_member(&body, "reference", s->op_id);
  json_raw(&body, "}");
  return post(s, "/v1/payments", &body);
}

/* A change of a payment, under Acme's number of it. The host encodes nothing in a path. */
static int32_t ask_change(const step *s, const char *kind, bool priced) {
  static const char form[] = "0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  char id[128], path[192];
  size_t n;
  if (s->original.kind == JSON_ABSENT) return refuse(s, "the operation names no payment");
  if (s->provider_ref.kind == JSON_ABSENT) {
    return refuse(s, "the provider's number of the payment is not known");
  }
  if (!json_copy(s->provider_ref, id, sizeof id, &n) || n == 0 || strspn(id, form) != n) {
    return refuse(s, "the provider's number of the payment has an impossible form");
  }
  if (priced && s->amount.amount <= 0) return refuse(s, "the amount is not positive");
  snprintf(path, sizeof path, "/v1/payments/%s/%s", id, kind);
  json_writer body = {.out = s->out, .part = ILK_PART_BODY};
  json_raw(&body, "{");
  if (priced) write_amount(&body, &s->amount);
  json_member(&body, "reference", s->op_id);
  json_raw(&body, "}");
  return post(s, path, &body);
}

static int32_t ask_capture(const step *s) { return ask_change(s, "captures", true); }
static int32_t ask_void(const step *s) { return ask_change(s, "cancels", false); }
static int32_t ask_refund(const step *s) { return ask_change(s, "refunds", true); }
static int32_t ask_health(const step *s) { return get(s, "/v1/health", json_none); }

static int32_t ask_found(const step *s) {
  if (s->original.kind == JSON_ABSENT) return refuse(s, "the operation names no payment");
  return get(s, "/v1/payments", s->original_id);
}

static int32_t ask_operation(const step *s) {
  if (s->target.kind == JSON_ABSENT) return refuse(s, "nothing is asked about");
  return get(s, "/v1/operations", s->op_id);
}

/* The end of an operation. */
static int32_t end_with(const step *s, const fact *f) {
  json_writer meta = {.out = s->out, .part = ILK_PART_META};
  json_raw(&meta, "{\"kind\":\"done\",\"facts\":[");
  write_fact(&meta, f);
  json_raw(&meta, "],\"verified\":false}");
  return json_end(&meta);
}

/* One request and its answer: what every operation here is, but the notification. */
static const struct operation {
  const char *word;
  int32_t (*ask)(const step *s);
  fact (*hear)(const step *s);
} OPERATIONS[] = {
    {"authorize", ask_payment, hear_payment},
    {"capture", ask_capture, hear_change},
    {"void", ask_void, hear_change},
    {"refund", ask_refund, hear_change},
    {"inquire", ask_found, hear_found},
    {"inquire_operation", ask_operation, hear_operation},
    {"probe", ask_health, hear_health},
};

static int32_t exchange(const step *s, const struct operation *op) {
  fact f;
  if (s->event == START) return op->ask(s);
  /* The host knows whether a byte left, and decides; here nothing is known. */
  if (s->event == TRANSPORT) f = unknown(s->reason);
  else if (s->event == RESPONSE && s->sent) f = op->hear(s);
  else return refuse(s, "this event was not asked for");
  return end_with(s, &f);
}

/* ---- The ABI ---- */

static int32_t call(void *inst, uint32_t function, const ilk_bytes *parts, size_t n,
                    const ilk_out *out) {
  static const char absent[] = "the plugin does not offer this operation";
  step s = {.account = inst, .out = out};
  if (function != ILK_FN_STEP) return fail(out, ILK_E_UNSUPPORTED, absent);
  if (n <= ILK_PART_BODY || !read_envelope(&s, json_read(parts[ILK_PART_META]))) {
    return refuse(&s, "the envelope is not of this schema");
  }
  const ilk_bytes state = parts[ILK_PART_STATE];
  s.sent = state.len == sizeof SENT - 1 && memcmp(state.ptr, SENT, state.len) == 0;
  if (state.len > 0 && !s.sent) {
    return refuse(&s, "the continuation is not one of this plugin's");
  }
  s.body = parts[ILK_PART_BODY];
  if (json_is(s.op, "parse_notification")) return read_notification(&s);
  for (size_t i = 0; i < sizeof OPERATIONS / sizeof *OPERATIONS; i++) {
    if (json_is(s.op, OPERATIONS[i].word)) return exchange(&s, &OPERATIONS[i]);
  }
  return fail(out, ILK_E_UNSUPPORTED, absent);
}

static int32_t create(const ilk_host *host, ilk_bytes config, const ilk_out *err, void **inst) {
  json settings = json_read(config);
  if (settings.kind == JSON_BAD) return fail(err, ILK_E_CONFIG, "the configuration is not JSON");
  json merchant = json_get(settings, "merchant");
  if (merchant.kind != JSON_STRING) return fail(err, ILK_E_CONFIG, "`merchant` must be a text");
  const size_t n = (size_t)(merchant.end - merchant.at);
  if (n == 0) return fail(err, ILK_E_CONFIG, "`merchant` is empty");
  account *made = malloc(sizeof *made + n);
  if (made == NULL) return fail(err, ILK_E_INTERNAL, "out of memory");
  memcpy(made->text, merchant.at, n);
  made->host = host;
  made->merchant = (json){JSON_STRING, made->text, made->text + n};
  *inst = made;
  return ILK_OK;
}

static void destroy(void *inst) { free(inst); }

static const void *get_extension(const char *id) {
  (void)id;
  return NULL;
}

ILK_EXPORT const ilk_plugin interlock_plugin_v1 = {
    .magic = ILK_MAGIC,
    .abi_major = ILK_ABI_MAJOR,
    .abi_minor = ILK_ABI_MINOR,
    .struct_size = sizeof(ilk_plugin),
    .flags = ILK_FLAG_PANIC_UNWIND,
    .manifest = {manifest, sizeof manifest},
    .create = create,
    .destroy = destroy,
    .call = call,
    .get_extension = get_extension,
};
