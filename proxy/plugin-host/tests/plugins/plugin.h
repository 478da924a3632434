/* What the test plugins share: a manifest, an instance, and a descriptor to fill in. */
#ifndef TEST_PLUGIN_H
#define TEST_PLUGIN_H
#include "interlock_plugin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TEST_ID
#define TEST_ID "test"
#endif
#ifndef TEST_VERSION
#define TEST_VERSION "1.0.0"
#endif
#ifndef TEST_MANIFEST
#define TEST_MANIFEST                                                                      \
  "{\"schema\":1,\"id\":\"" TEST_ID "\",\"version\":\"" TEST_VERSION "\",\"name\":\"Test\"," \
  "\"kind\":\"processor\",\"methods\":[],\"currencies\":{\"CNY\":2},"                      \
  "\"operations\":[\"authorize\"],\"hosts\":{\"api\":\"https://api.example.com\"},"        \
  "\"secrets\":{\"mac\":\"mac\",\"private\":\"rsa_private\",\"public\":\"rsa_public\"},"   \
  "\"contract\":{\"sends\":[]}}"
#endif
#ifndef TEST_MAGIC
#define TEST_MAGIC ILK_MAGIC
#endif
#ifndef TEST_MAJOR
#define TEST_MAJOR ILK_ABI_MAJOR
#endif
#ifndef TEST_SIZE
#define TEST_SIZE sizeof(ilk_plugin)
#endif
#ifndef TEST_FLAGS
#define TEST_FLAGS ILK_FLAG_PANIC_UNWIND
#endif
#ifndef TEST_ENTRY
#define TEST_ENTRY interlock_plugin_v1
#endif

#define TEST_DONE "{\"kind\":\"done\",\"facts\":[]}"

typedef struct test_instance {
  const ilk_host *host;
  char ended[256]; /* a file to make when it is destroyed */
} test_instance;

static inline int32_t test_put(const ilk_out *out, uint32_t part, const char *text) {
  return out->put(out->ctx, part, (const uint8_t *)text, strlen(text));
}

static inline ilk_bytes test_text(const char *text) {
  ilk_bytes bytes = {(const uint8_t *)text, strlen(text)};
  return bytes;
}

/* Waits for ever, without using the processor that the tests need. */
static inline void test_hang(void) {
  for (;;) sleep(1);
}

static inline int test_is(ilk_bytes bytes, const char *text) {
  return bytes.len == strlen(text) && memcmp(bytes.ptr, text, bytes.len) == 0;
}

/* The configuration is a JSON string: what to do badly, or a file to make in the end. */
static inline int32_t test_create(const ilk_host *host, ilk_bytes config, const ilk_out *err,
                                  void **inst) {
  if (test_is(config, "\"panic\"")) return ILK_E_PANIC;
  if (test_is(config, "\"hang\"")) test_hang();
  if (test_is(config, "\"refuse\"")) {
    test_put(err, ILK_PART_ERROR, "the configuration\r\nis wrong");
    return ILK_E_CONFIG;
  }
  test_instance *made = calloc(1, sizeof *made);
  if (made == NULL) return ILK_E_INTERNAL;
  made->host = host;
  if (config.len > 2 && config.len < sizeof made->ended && config.ptr[0] == '"') {
    memcpy(made->ended, config.ptr + 1, config.len - 2);
  }
  *inst = made;
  return ILK_OK;
}

static inline void test_destroy(void *inst) {
  const char *ended = ((test_instance *)inst)->ended;
  FILE *file = *ended == 0 ? NULL : fopen(ended, "w");
  if (file != NULL) fclose(file);
  free(inst);
}

static inline const void *test_extension(const char *id) {
  (void)id;
  return NULL;
}

static int32_t test_call(void *inst, uint32_t function, const ilk_bytes *parts, size_t n,
                         const ilk_out *out);

static const char test_manifest[] = TEST_MANIFEST;

ILK_EXPORT extern const ilk_plugin TEST_ENTRY;
ILK_EXPORT const ilk_plugin TEST_ENTRY = {
    TEST_MAGIC,
    TEST_MAJOR,
    ILK_ABI_MINOR,
    TEST_SIZE,
    TEST_FLAGS,
    0,
    {(const uint8_t *)test_manifest, sizeof test_manifest - 1},
    test_create,
    test_destroy,
    test_call,
    test_extension,
};
#endif
