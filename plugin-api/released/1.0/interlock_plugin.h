/* interlock_plugin.h: the C ABI of a provider plugin, major 1.
 *
 * UTF-8 everywhere, little surface, bytes in, bytes out.  A library exports one descriptor:
 *
 *     ILK_EXPORT const ilk_plugin interlock_plugin_v1 = { ILK_MAGIC, ILK_ABI_MAJOR, ... };
 *
 * Ownership: what a call is given is borrowed for that call; what it gives is copied by `put`
 * before `put` returns; no memory is ever freed by the other side.  Descriptor, manifest and
 * extension tables live as long as the process; a library is never unloaded.
 * Threads:   `call`, `get_extension` and every host function may run on any thread, concurrently.
 *            A plugin starts no thread, does no input or output, installs no signal handler, never
 *            forks, and does not keep `parts` or `out` after a call.
 * Unwinding: no exception or panic may leave any function; answer ILK_E_PANIC.  Set
 *            ILK_FLAG_PANIC_UNWIND to say that this is so (a plugin in C just sets it).
 * Stack:     a calling thread has at least 1 MiB.
 * Time:      a call that takes longer than the host's hard deadline (1 s) puts the plugin into
 *            quarantine, as do ILK_E_PANIC and an effect that can't be read.
 * Growth:    minor versions only append fields, functions and extensions.  Either side reads a
 *            field only if `struct_size` covers it.
 */
#ifndef INTERLOCK_PLUGIN_H
#define INTERLOCK_PLUGIN_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ILK_MAGIC     0x4B434F4C52544E49ull /* "INTRLOCK", little endian */
#define ILK_ABI_MAJOR 1
#define ILK_ABI_MINOR 0
#define ILK_ENTRY     interlock_plugin_v1 /* the symbol's name carries the major version */

/* Borrowed for the duration of the call.  `ptr` may be null or dangling when `len` is 0. */
typedef struct ilk_bytes {
  const uint8_t *ptr;
  size_t len;
} ilk_bytes;

/* Parts that belong to the host; a plugin only appends, in as many pieces as it likes.  Caps: meta
 * 256 KiB, state 64 KiB, body 1 MiB, error 1 KiB.  Past a cap `put` answers ILK_E_LIMIT, and the
 * step gives no effect.  What was put before a call answers with an error is dropped, except for
 * the error text. */
typedef struct ilk_out {
  void *ctx;
  int32_t (*put)(void *ctx, uint32_t part, const uint8_t *p, size_t n);
} ilk_out;

/* Any code but ILK_OK means that no effect was produced.  Put a fixed text, without any data of
 * the request, into ILK_PART_ERROR. */
enum {
  ILK_OK = 0,
  ILK_E_PANIC = -1,
  ILK_E_INPUT = -2,
  ILK_E_UNSUPPORTED = -3,
  ILK_E_CONFIG = -4,
  ILK_E_LIMIT = -5,
  ILK_E_INTERNAL = -6
};

enum { ILK_FLAG_PANIC_UNWIND = 1u };

/* `call`: answer ILK_E_UNSUPPORTED to a function that you do not know (1 is reserved). */
enum { ILK_FN_STEP = 2 };

/* In: the envelope (JSON), the continuation (empty at the start), the raw body of the provider's
 * answer or notification.  Out: the effect (JSON), the new continuation, the raw body to send, the
 * fixed error text. */
enum { ILK_PART_META = 0, ILK_PART_STATE = 1, ILK_PART_BODY = 2, ILK_PART_ERROR = 3 };

/* The levels of `log`. */
enum {
  ILK_LOG_ERROR = 1,
  ILK_LOG_WARN = 2,
  ILK_LOG_INFO = 3,
  ILK_LOG_DEBUG = 4,
  ILK_LOG_TRACE = 5
};

/* What the host offers.  Lives from `create` to the return of `destroy`.  Pass its `ctx` to every
 * function, also to those of its extensions. */
typedef struct ilk_host {
  uint32_t struct_size;
  uint16_t abi_major, abi_minor;
  void *ctx;
  /* One line: cut to 200 bytes, at most 10 a second, its text only in a debug log. */
  void (*log)(void *ctx, int32_t level, ilk_bytes msg);
  /* HMAC-SHA256 under the secret of that name, to part 0 of `out`.
   * ILK_E_CONFIG: no such secret.  ILK_E_UNSUPPORTED: it is of another kind. */
  int32_t (*mac)(void *ctx, ilk_bytes key_name, ilk_bytes data, const ilk_out *out);
  /* A table below by its id; null when the host has none of that id. */
  const void *(*get_extension)(void *ctx, const char *id);
} ilk_host;

/* Signatures under a private key of the account. */
#define ILK_EXT_SIGN "ilk.host.sign/1"
typedef struct ilk_sign {
  uint32_t struct_size;
  /* The signature, to part 0 of `out`.  Algorithms: "rsa-sha256-pkcs1".  Errors as `mac`. */
  int32_t (*sign)(void *ctx, ilk_bytes key_name, ilk_bytes algorithm, ilk_bytes data,
                  const ilk_out *out);
} ilk_sign;

/* Verification under a key of the account. */
#define ILK_EXT_VERIFY "ilk.host.verify/1"
typedef struct ilk_verify {
  uint32_t struct_size;
  /* 1: the signature is good.  0: it is not.  Below 0: errors as `mac`.
   * Algorithms: "rsa-sha256-pkcs1", "hmac-sha256" (compared in constant time). */
  int32_t (*verify)(void *ctx, ilk_bytes key_name, ilk_bytes algorithm, ilk_bytes data,
                    ilk_bytes signature);
} ilk_verify;

/* What a library exports.  The first 24 bytes are frozen for ever and hold no relocation, so that
 * they can be read from the file. */
typedef struct ilk_plugin {
  uint64_t magic;
  uint16_t abi_major, abi_minor;
  uint32_t struct_size;
  uint32_t flags;
  uint32_t reserved; /* 0 */
  ilk_bytes manifest; /* static JSON */
  /* No function below may be null. */
  /* An instance for one account; `*inst` is the plugin's own and may be null.  The host's functions
   * may be called already.  A refusal puts its text into ILK_PART_ERROR of `err`. */
  int32_t (*create)(const ilk_host *host, ilk_bytes config_json, const ilk_out *err, void **inst);
  /* Once for an instance, a null one too, with no call in flight; never after a quarantine. */
  void (*destroy)(void *inst);
  /* One step: `n` is 3, the parts are those of ILK_PART_META, _STATE and _BODY. */
  int32_t (*call)(void *inst, uint32_t function, const ilk_bytes *parts, size_t n,
                  const ilk_out *out);
  /* A table of the plugin by its id; null when there is none of that id. */
  const void *(*get_extension)(const char *id);
  /* minor versions append here */
} ilk_plugin;

#ifdef _WIN32
#define ILK_EXPORT __declspec(dllexport)
#else
#define ILK_EXPORT __attribute__((visibility("default")))
#endif

/* What a library defines; declared here so that it has C linkage in C++ too. */
extern ILK_EXPORT const ilk_plugin interlock_plugin_v1;

#ifdef __cplusplus
}
#endif
#endif
