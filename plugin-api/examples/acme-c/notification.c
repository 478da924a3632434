/* What Acme posts to us. Nothing of it is read before its signature was verified. */
#include "provider.h"
#include <stdlib.h>
#include <string.h>

/* A signature over `{acme-timestamp}.{body}` is good for this long, ms. */
enum { LIFE_MS = 5 * 60 * 1000 };

static bool is_fresh(const step *s) {
  int64_t made;
  if (!json_digits(s->stamp, &made) || made < 0 || made > INT64_MAX / 1000) return false;
  made *= 1000;
  /* Unsigned, because the difference of two times from outside may not fit. */
  const uint64_t now = (uint64_t)s->now_ms, then = (uint64_t)made;
  return (s->now_ms > made ? now - then : then - now) <= LIFE_MS;
}

static int hex_digit(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

/* 32 bytes from 64 digits; anything else is no signature, and no bytes. */
static size_t read_signature(json header, uint8_t bytes[32]) {
  char text[65];
  size_t n;
  if (!json_copy(header, text, sizeof text, &n) || n != 64) return 0;
  if (strspn(text, "0123456789abcdefABCDEF") != n) return 0;
  for (size_t i = 0; i < 32; i++) {
    bytes[i] = (uint8_t)(hex_digit(text[2 * i]) * 16 + hex_digit(text[2 * i + 1]));
  }
  return 32;
}

static ilk_bytes bytes_of(const char *text) {
  return (ilk_bytes){(const uint8_t *)text, strlen(text)};
}

/* 1: Acme signed it. 0: it did not. Below 0: an error, whose text is put. */
static int32_t verify(const step *s) {
  static const char no_such[] = "the host does not offer this algorithm";
  const ilk_host *host = s->account->host;
  const ilk_verify *keys = host->get_extension(host->ctx, ILK_EXT_VERIFY);
  if (keys == NULL) return fail(s->out, ILK_E_INTERNAL, no_such);
  char stamp[32];
  size_t n;
  if (!json_copy(s->stamp, stamp, sizeof stamp, &n)) return 0;
  stamp[n++] = '.'; /* in the place of the zero byte */
  /* What is signed must be in one piece, and a body is too large for a stack that is not ours. */
  uint8_t *data = malloc(n + s->body.len);
  if (data == NULL) return fail(s->out, ILK_E_INTERNAL, "out of memory");
  memcpy(data, stamp, n);
  if (s->body.len > 0) memcpy(data + n, s->body.ptr, s->body.len);
  uint8_t signature[32];
  const ilk_bytes given = {signature, read_signature(s->signature, signature)};
  const int32_t rc = keys->verify(host->ctx, bytes_of("webhook_key"), bytes_of("hmac-sha256"),
                                  (ilk_bytes){data, n + s->body.len}, given);
  free(data);
  if (rc == 0 || rc == 1) return rc;
  if (rc == ILK_E_UNSUPPORTED) return fail(s->out, ILK_E_INTERNAL, no_such);
  if (rc == ILK_E_CONFIG) {
    return fail(s->out, ILK_E_CONFIG, "the account lacks a secret that the plugin uses");
  }
  return fail(s->out, ILK_E_INTERNAL, "the host could not use the key");
}

/* The end of a notification: what it said, if anything, and the status that Acme is answered. */
static int32_t answer(const step *s, const char *status, bool verified, json id, const fact *f) {
  json_writer meta = {.out = s->out, .part = ILK_PART_META};
  json_raw(&meta, "{\"kind\":\"done\",\"facts\":[");
  if (f != NULL) write_fact(&meta, f);
  json_raw(&meta, verified ? "],\"verified\":true" : "],\"verified\":false");
  json_member(&meta, "event_id", id);
  json_raw(&meta, ",\"ack\":{\"status\":");
  json_raw(&meta, status);
  json_raw(&meta, ",\"content_type\":\"text/plain\",\"body\":\"ok\"}}");
  return json_end(&meta);
}

int32_t read_notification(const step *s) {
  if (s->stamp.kind == JSON_ABSENT || s->signature.kind == JSON_ABSENT || !is_fresh(s)) {
    return answer(s, "401", false, json_none, NULL);
  }
  const int32_t good = verify(s);
  if (good < 0) return good;
  if (good == 0) return answer(s, "401", false, json_none, NULL);
  bool ok = true;
  json notice = json_read(s->body);
  json id = json_need(notice, "id", JSON_STRING, &ok);
  json type = json_need(notice, "type", JSON_STRING, &ok);
  json payment = json_may(notice, "payment", JSON_OBJECT, &ok);
  json operation = json_may(notice, "operation", JSON_OBJECT, &ok);
  record paid = {0}, changed = {0};
  if (payment.kind == JSON_OBJECT) ok = read_record(payment, true, &paid) && ok;
  if (operation.kind == JSON_OBJECT) ok = read_record(operation, false, &changed) && ok;
  /* Signed and not what is documented: Acme keeps it and sends it again. */
  if (!ok) return answer(s, "400", true, json_none, NULL);
  fact f = {0};
  if (json_is(type, "payment") && payment.kind == JSON_OBJECT) {
    f = of_payment(&paid);
    f.op_id = paid.reference;
  } else if (operation.kind == JSON_OBJECT) {
    if (json_is(type, "capture")) f = of_change(&changed, json_word("capture"));
    if (json_is(type, "cancel")) f = of_change(&changed, json_word("void"));
    if (json_is(type, "refund")) f = of_change(&changed, json_word("refund"));
    f.op_id = changed.reference;
  }
  /* What has nothing to do with money says nothing, and is taken all the same. */
  return answer(s, "200", true, id, f.what.kind == JSON_ABSENT ? NULL : &f);
}
