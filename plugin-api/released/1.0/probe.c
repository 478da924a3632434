/* Everything that ABI 1.0 says about layout and numbers, line by line.  Compiled against the header
 * of 1.0 and against the header of today, it must say the same. */
#include "interlock_plugin.h"
#include <stdio.h>

#define VALUE(x) printf(#x " is %lld\n", (long long)(x))
#define TEXT(x) printf(#x " is %s\n", x)
#define SIZE(t) printf(#t " has %zu bytes\n", sizeof(t))
#define FIELD(t, f) printf(#t "." #f " is at %zu, %zu bytes\n", offsetof(t, f), sizeof(((t *)0)->f))
/* Does not compile when the field is of another type. */
#define TYPE(t, f, ...) printf(#t "." #f " is " #__VA_ARGS__ "\n" + 0 * _Generic(((t *)0)->f, __VA_ARGS__: 1))
#define NAME_(x) #x
#define NAME(x) NAME_(x)

int main(void) {
  VALUE(ILK_MAGIC);
  VALUE(ILK_ABI_MAJOR);
  TEXT(NAME(ILK_ENTRY));

  SIZE(ilk_bytes);
  FIELD(ilk_bytes, ptr);
  FIELD(ilk_bytes, len);
  SIZE(ilk_out);
  FIELD(ilk_out, ctx);
  FIELD(ilk_out, put);
  TYPE(ilk_out, put, int32_t (*)(void *, uint32_t, const uint8_t *, size_t));

  VALUE(ILK_OK);
  VALUE(ILK_E_PANIC);
  VALUE(ILK_E_INPUT);
  VALUE(ILK_E_UNSUPPORTED);
  VALUE(ILK_E_CONFIG);
  VALUE(ILK_E_LIMIT);
  VALUE(ILK_E_INTERNAL);
  VALUE(ILK_FLAG_PANIC_UNWIND);
  VALUE(ILK_FN_STEP);
  VALUE(ILK_PART_META);
  VALUE(ILK_PART_STATE);
  VALUE(ILK_PART_BODY);
  VALUE(ILK_PART_ERROR);
  VALUE(ILK_LOG_ERROR);
  VALUE(ILK_LOG_WARN);
  VALUE(ILK_LOG_INFO);
  VALUE(ILK_LOG_DEBUG);
  VALUE(ILK_LOG_TRACE);

  FIELD(ilk_host, struct_size);
  FIELD(ilk_host, abi_major);
  FIELD(ilk_host, abi_minor);
  FIELD(ilk_host, ctx);
  FIELD(ilk_host, log);
  FIELD(ilk_host, mac);
  FIELD(ilk_host, get_extension);
  TYPE(ilk_host, log, void (*)(void *, int32_t, ilk_bytes));
  TYPE(ilk_host, mac, int32_t (*)(void *, ilk_bytes, ilk_bytes, const ilk_out *));
  TYPE(ilk_host, get_extension, const void *(*)(void *, const char *));

  TEXT(ILK_EXT_SIGN);
  FIELD(ilk_sign, struct_size);
  FIELD(ilk_sign, sign);
  TYPE(ilk_sign, sign, int32_t (*)(void *, ilk_bytes, ilk_bytes, ilk_bytes, const ilk_out *));
  TEXT(ILK_EXT_VERIFY);
  FIELD(ilk_verify, struct_size);
  FIELD(ilk_verify, verify);
  TYPE(ilk_verify, verify, int32_t (*)(void *, ilk_bytes, ilk_bytes, ilk_bytes, ilk_bytes));

  FIELD(ilk_plugin, magic);
  FIELD(ilk_plugin, abi_major);
  FIELD(ilk_plugin, abi_minor);
  FIELD(ilk_plugin, struct_size);
  FIELD(ilk_plugin, flags);
  FIELD(ilk_plugin, reserved);
  FIELD(ilk_plugin, manifest);
  FIELD(ilk_plugin, create);
  FIELD(ilk_plugin, destroy);
  FIELD(ilk_plugin, call);
  FIELD(ilk_plugin, get_extension);
  TYPE(ilk_plugin, create, int32_t (*)(const ilk_host *, ilk_bytes, const ilk_out *, void **));
  TYPE(ilk_plugin, destroy, void (*)(void *));
  TYPE(ilk_plugin, call, int32_t (*)(void *, uint32_t, const ilk_bytes *, size_t, const ilk_out *));
  TYPE(ilk_plugin, get_extension, const void *(*)(const char *));
  return 0;
}
