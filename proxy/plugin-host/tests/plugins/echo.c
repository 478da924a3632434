/* A good plugin: ends every operation, keeps the state and the body that it was given. */
#include "plugin.h"

static int32_t test_call(void *inst, uint32_t function, const ilk_bytes *parts, size_t n,
                         const ilk_out *out) {
  (void)inst;
  if (function != ILK_FN_STEP) return ILK_E_UNSUPPORTED;
  if (n != 3 || parts[ILK_PART_META].len == 0) return ILK_E_INPUT;
  int32_t rc = test_put(out, ILK_PART_META, TEST_DONE);
  for (uint32_t part = ILK_PART_STATE; rc == ILK_OK && part <= ILK_PART_BODY; part++) {
    rc = out->put(out->ctx, part, parts[part].ptr, parts[part].len);
  }
  return rc;
}
