/* Does what the first byte of the body tells it to, well or badly. */
#include "plugin.h"

static int32_t flood(const ilk_out *out, uint32_t part, size_t bytes) {
  static const uint8_t page[4096];
  int32_t rc = ILK_OK;
  for (size_t done = 0; done < bytes; done += sizeof page) {
    int32_t now = out->put(out->ctx, part, page, sizeof page);
    if (now != ILK_OK) rc = now;
  }
  return rc;
}

/* The host's answer to a service goes out as the body. */
typedef struct forward {
  const ilk_out *out;
} forward;

static int32_t forward_put(void *ctx, uint32_t part, const uint8_t *p, size_t n) {
  const ilk_out *out = ((forward *)ctx)->out;
  return part == 0 ? out->put(out->ctx, ILK_PART_BODY, p, n) : ILK_E_INPUT;
}

/* "s:KEY:DATA" */
static int32_t service(const ilk_host *host, ilk_bytes body, const ilk_out *out) {
  char kind = (char)body.ptr[0];
  const uint8_t *key = body.ptr + 2;
  const uint8_t *colon = memchr(key, ':', body.len - 2);
  if (colon == NULL) return ILK_E_INPUT;
  ilk_bytes name = {key, (size_t)(colon - key)};
  ilk_bytes data = {colon + 1, body.len - 3 - name.len};
  ilk_bytes rsa = test_text("rsa-sha256-pkcs1");
  forward to = {out};
  ilk_out through = {&to, forward_put};
  int32_t rc = ILK_E_INTERNAL;
  if (kind == 'm') rc = host->mac(host->ctx, name, data, &through);
  if (kind == 's') {
    const ilk_sign *table = host->get_extension(host->ctx, ILK_EXT_SIGN);
    if (table == NULL || table->struct_size < sizeof *table) return ILK_E_INTERNAL;
    rc = table->sign(host->ctx, name, rsa, data, &through);
  }
  if (kind == 'v' || kind == 'w') {
    /* "v:KEY:" and 256 bytes of signature, then the data; "w" with 32 bytes of MAC. */
    size_t len = kind == 'v' ? 256 : 32;
    if (data.len < len) return ILK_E_INPUT;
    ilk_bytes signature = {data.ptr, len}, rest = {data.ptr + len, data.len - len};
    const ilk_verify *table = host->get_extension(host->ctx, ILK_EXT_VERIFY);
    if (table == NULL || table->struct_size < sizeof *table) return ILK_E_INTERNAL;
    ilk_bytes algorithm = kind == 'v' ? rsa : test_text("hmac-sha256");
    rc = table->verify(host->ctx, name, algorithm, rest, signature);
    if (rc >= 0) {
      test_put(out, ILK_PART_BODY, rc == 1 ? "good" : "bad");
      rc = ILK_OK;
    }
  }
  if (kind == 'c') {
    /* "c:PEM:", the length of the signature, the signature, the data. */
    if (data.len < 1 || data.len < 1 + (size_t)data.ptr[0]) return ILK_E_INPUT;
    size_t len = data.ptr[0];
    ilk_bytes signature = {data.ptr + 1, len}, rest = {data.ptr + 1 + len, data.len - 1 - len};
    const ilk_verify *table = host->get_extension(host->ctx, ILK_EXT_VERIFY);
    if (table == NULL || table->struct_size < sizeof *table) return ILK_E_INTERNAL;
    rc = table->verify(host->ctx, name, test_text("ecdsa-sha256"), rest, signature);
    if (rc >= 0) {
      test_put(out, ILK_PART_BODY, rc == 1 ? "good" : "bad");
      rc = ILK_OK;
    }
  }
  if (kind == 'p' || kind == 'e' || kind == 't') {
    const ilk_establish *table = host->get_extension(host->ctx, ILK_EXT_ESTABLISH);
    if (table == NULL || table->struct_size < sizeof *table) return ILK_E_INTERNAL;
    ilk_bytes how = test_text(kind == 'e' ? "ecdh-p256" : "rsa-oaep-sha256");
    if (kind == 'p') {
      rc = table->public_key(host->ctx, name, &through);
    } else {
      rc = table->establish(host->ctx, name, how, data, &through);
      if (rc == 0) test_put(out, ILK_PART_BODY, "nothing");
      if (rc >= 0) rc = ILK_OK;
    }
  }
  if (rc != ILK_OK) {
    test_put(out, ILK_PART_ERROR, "the service failed");
    return rc;
  }
  return test_put(out, ILK_PART_META, TEST_DONE);
}

/* Each frame is a page, so the guard behind the stack is not jumped over. */
static int deep(int n) {
  volatile char page[4096];
  page[0] = (char)n;
  return n < 0 ? page[0] : deep(n + 1) + page[0];
}

static int32_t test_call(void *inst, uint32_t function, const ilk_bytes *parts, size_t n,
                         const ilk_out *out) {
  const ilk_host *host = ((test_instance *)inst)->host;
  if (function != ILK_FN_STEP || n != 3 || parts[ILK_PART_BODY].len == 0) return ILK_E_INPUT;
  ilk_bytes body = parts[ILK_PART_BODY];
  switch (body.ptr[0]) {
  case 'P': return ILK_E_PANIC;
  case 'H': test_hang(); return ILK_OK;
  case 'L': usleep(400 * 1000); return test_put(out, ILK_PART_META, TEST_DONE);
  case 'S': usleep(30 * 1000); return test_put(out, ILK_PART_META, TEST_DONE);
  case 'J': return test_put(out, ILK_PART_META, "{\"kind\":\"secretly\"}");
  case 'N': return test_put(out, ILK_PART_META, "not json");
  case 'E': return ILK_OK;
  case 'F': test_put(out, ILK_PART_ERROR, "fixed\ntext"); return ILK_E_INPUT;
  case 'C': return -77;
  case 'X': _exit(3);
  case 'A': abort();
  case 'Z': return *(volatile int *)8;
  case 'O': return deep(0);
  case 'B': for (;;) __asm__ volatile("");
  case 'Q': return fopen("/etc/hostname", "r") ? ILK_OK : ILK_E_INTERNAL;
  case 'T': return system("true");
  case 'R': {
    /* More memory than a process of its own gets. */
    for (int i = 0; i < 64; i++) {
      char *block = malloc((size_t)256 << 20);
      if (block == NULL) return ILK_E_LIMIT;
      block[0] = 1;
    }
    return ILK_E_INTERNAL;
  }
  case '1': return flood(out, ILK_PART_STATE, 65 * 1024);
  case '2':
    flood(out, ILK_PART_BODY, 1025 * 1024);
    return test_put(out, ILK_PART_META, TEST_DONE);
  case 'G': {
    ilk_bytes line = test_text("line\r\none");
    for (int i = 0; i < 1000; i++) host->log(host->ctx, ILK_LOG_WARN, line);
    if (host->get_extension(host->ctx, "ilk.host.unknown/1") != NULL) return ILK_E_INTERNAL;
    return test_put(out, ILK_PART_META, TEST_DONE);
  }
  default: return service(host, body, out);
  }
}
