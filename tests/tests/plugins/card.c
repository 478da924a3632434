/* A small card plugin that speaks Checkout.com's payments to the sandbox, and can be built to go
 * wrong at one place: CREATE_DOES, START_DOES and ANSWER_DOES say what happens when an account is
 * opened, before a payment is sent, and when its answer is read. VERSION is its own. */
#define _GNU_SOURCE
#include "interlock_plugin.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WELL, PANICS, LOOPS, CRASHES, EXITS, FAILS };

#ifndef ID
#define ID "card"
#endif
#ifndef VERSION
#define VERSION "1.0.0"
#endif
#ifndef MAJOR
#define MAJOR ILK_ABI_MAJOR
#endif
#ifndef CREATE_DOES
#define CREATE_DOES WELL
#endif
#ifndef START_DOES
#define START_DOES WELL
#endif
#ifndef ANSWER_DOES
#define ANSWER_DOES WELL
#endif

static const char manifest[] =
    "{\"schema\":1,\"id\":\"" ID "\",\"version\":\"" VERSION "\",\"name\":\"Card\","
    "\"kind\":\"processor\",\"methods\":[{\"type\":\"card\",\"flow\":\"token\","
    "\"credential\":\"account_token\",\"capture\":[\"automatic\"],\"acts\":\"never\"}],"
    "\"currencies\":{\"EUR\":2},"
    "\"operations\":[\"authorize\",\"inquire\"],\"hosts\":{\"api\":\"https://api.example.com\"},"
    "\"secrets\":{\"secret_key\":\"header\"},\"contract\":{\"sends\":["
    "{\"purpose\":\"pay\",\"method\":\"POST\",\"path\":\"/payments\",\"effect\":\"move\"},"
    "{\"purpose\":\"list\",\"method\":\"GET\",\"path\":\"/payments\",\"effect\":\"read\"}],"
    "\"moves\":{\"pay\":{\"class\":\"none\"}},"
    "\"inquiry\":{\"by_our_reference\":true,\"by_provider_reference\":false,"
    "\"not_found\":\"undeclared\"}}}";

/* The loop waits, because the tests need the processor. */
static int32_t goes(int how) {
  while (how == LOOPS) sleep(1);
  if (how == CRASHES) *(volatile int *)8 = 1;
  if (how == EXITS) _exit(3);
  if (how == FAILS) return ILK_E_INPUT;
  return how == PANICS ? ILK_E_PANIC : ILK_OK;
}

static int has(ilk_bytes in, const char *text) {
  return memmem(in.ptr, in.len, text, strlen(text)) != NULL;
}

/* What stands between `before` and the next quote. */
static int take(ilk_bytes in, const char *before, char *to, size_t size) {
  const char *end = (const char *)in.ptr + in.len;
  const char *at = memmem(in.ptr, in.len, before, strlen(before));
  if (at == NULL) return 0;
  at += strlen(before);
  const char *quote = memchr(at, '"', (size_t)(end - at));
  if (quote == NULL || (size_t)(quote - at) >= size) return 0;
  memcpy(to, at, (size_t)(quote - at));
  to[quote - at] = 0;
  return 1;
}

static int32_t put(const ilk_out *out, uint32_t part, const char *text) {
  return out->put(out->ctx, part, (const uint8_t *)text, strlen(text));
}

static int32_t paid(ilk_bytes body, const char *amount, const ilk_out *out) {
  char id[64], done[256];
  if (!take(body, "\"id\":\"pay_", id, sizeof id)) {
    return put(out, ILK_PART_META, "{\"kind\":\"done\",\"facts\":[{\"what\":\"unknown\"}]}");
  }
  snprintf(done, sizeof done,
           "{\"kind\":\"done\",\"facts\":[{\"what\":\"captured\",\"provider_ref\":\"pay_%s\","
           "\"amount\":{\"amount\":\"%s\",\"currency\":\"EUR\"}}]}",
           id, amount);
  return put(out, ILK_PART_META, done);
}

static int32_t step(ilk_bytes meta, ilk_bytes body, const ilk_out *out) {
  char op_id[33], amount[20], token[64], send[512], sent[512];
  int starts = has(meta, "\"event\":{\"kind\":\"start\"}");
  if (!take(meta, "\"op_id\":\"", op_id, sizeof op_id)) return ILK_E_INPUT;
  if (!take(meta, "\"amount\":{\"amount\":\"", amount, sizeof amount)) return ILK_E_INPUT;
  if (has(meta, "\"op\":\"inquire\"")) {
    if (!starts) return paid(body, amount, out);
    snprintf(send, sizeof send,
             "{\"kind\":\"send\",\"method\":\"GET\",\"endpoint\":\"api\",\"path\":\"/payments\","
             "\"query\":[[\"reference\",\"%s\"]],"
             "\"headers\":[[\"Authorization\",\"Bearer {secret:secret_key}\"]]}",
             op_id);
    return put(out, ILK_PART_META, send);
  }
  if (!has(meta, "\"op\":\"authorize\"")) return ILK_E_UNSUPPORTED;
  int32_t rc = goes(starts ? START_DOES : ANSWER_DOES);
  if (rc != ILK_OK) return rc;
  if (!starts) return paid(body, amount, out);
  if (!take(meta, "\"token\":\"", token, sizeof token)) return ILK_E_INPUT;
  snprintf(send, sizeof send,
           "{\"kind\":\"send\",\"method\":\"POST\",\"endpoint\":\"api\",\"path\":\"/payments\","
           "\"headers\":[[\"Authorization\",\"Bearer {secret:secret_key}\"],"
           "[\"Content-Type\",\"application/json\"],[\"Cko-Idempotency-Key\",\"%s\"]]}",
           op_id);
  snprintf(sent, sizeof sent,
           "{\"source\":{\"type\":\"id\",\"id\":\"%s\"},\"amount\":%s,\"currency\":\"EUR\","
           "\"capture\":true,\"reference\":\"%s\",\"payment_type\":\"Regular\"}",
           token, amount, op_id);
  rc = put(out, ILK_PART_META, send);
  return rc == ILK_OK ? put(out, ILK_PART_BODY, sent) : rc;
}

static int32_t create(const ilk_host *host, ilk_bytes config, const ilk_out *err, void **inst) {
  (void)host, (void)config, (void)err;
  *inst = NULL;
  return goes(CREATE_DOES);
}

static void destroy(void *inst) { (void)inst; }

static int32_t call(void *inst, uint32_t function, const ilk_bytes *parts, size_t n,
                    const ilk_out *out) {
  (void)inst;
  if (function != ILK_FN_STEP || n != 3) return ILK_E_UNSUPPORTED;
  return step(parts[ILK_PART_META], parts[ILK_PART_BODY], out);
}

static const void *extension(const char *id) {
  (void)id;
  return NULL;
}

ILK_EXPORT extern const ilk_plugin interlock_plugin_v1;
ILK_EXPORT const ilk_plugin interlock_plugin_v1 = {
    ILK_MAGIC,
    MAJOR,
    ILK_ABI_MINOR,
    sizeof(ilk_plugin),
    ILK_FLAG_PANIC_UNWIND,
    0,
    {(const uint8_t *)manifest, sizeof manifest - 1},
    create,
    destroy,
    call,
    extension,
};
