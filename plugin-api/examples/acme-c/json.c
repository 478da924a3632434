/* See json.h. The reader never runs past `end`, and the only recursion has a bounded depth. */
#include "json.h"
#include <string.h>

/* ---- Checking: every function answers the place behind what it read, or null. ---- */

static const uint8_t *skip_space(const uint8_t *p, const uint8_t *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static int hex_digit(uint8_t c) {
  if (is_digit(c)) return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of a \u escape; -1 if they are none. */
static int32_t hex4(const uint8_t *p, const uint8_t *end) {
  int32_t code = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    code = code * 16 + digit;
  }
  return code;
}

static bool is_high(int32_t code) { return code >= 0xD800 && code <= 0xDBFF; }
static bool is_low(int32_t code) { return code >= 0xDC00 && code <= 0xDFFF; }

/* One escape, from its backslash on. Half of a surrogate pair is no character. */
static const uint8_t *check_escape(const uint8_t *p, const uint8_t *end) {
  if (end - p < 2) return NULL;
  if (p[1] != 'u') return p[1] != 0 && strchr("\"\\/bfnrt", p[1]) != NULL ? p + 2 : NULL;
  int32_t code = hex4(p + 2, end);
  if (code < 0 || is_low(code)) return NULL;
  if (!is_high(code)) return p + 6;
  if (end - p < 12 || p[6] != '\\' || p[7] != 'u' || !is_low(hex4(p + 8, end))) return NULL;
  return p + 12;
}

/* One character beyond ASCII: whole, in its shortest form, no surrogate, at most U+10FFFF. */
static const uint8_t *check_utf8(const uint8_t *p, const uint8_t *end) {
  int more = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
  if (*p < 0xC2 || *p > 0xF4 || end - p <= more) return NULL;
  if (*p == 0xE0 && p[1] < 0xA0) return NULL;
  if (*p == 0xED && p[1] > 0x9F) return NULL;
  if (*p == 0xF0 && p[1] < 0x90) return NULL;
  if (*p == 0xF4 && p[1] > 0x8F) return NULL;
  for (int i = 1; i <= more; i++) {
    if ((p[i] & 0xC0) != 0x80) return NULL;
  }
  return p + more + 1;
}

static const uint8_t *check_string(const uint8_t *p, const uint8_t *end) {
  while (p != NULL && p < end && *p != '"') {
    if (*p < 0x20) return NULL;
    if (*p == '\\') p = check_escape(p, end);
    else p = *p < 0x80 ? p + 1 : check_utf8(p, end);
  }
  return p != NULL && p < end ? p + 1 : NULL;
}

static const uint8_t *check_digits(const uint8_t *p, const uint8_t *end) {
  if (p == end || !is_digit(*p)) return NULL;
  while (p < end && is_digit(*p)) p++;
  return p;
}

static const uint8_t *check_number(const uint8_t *p, const uint8_t *end) {
  if (*p == '-') p++;
  if (p < end && *p == '0') p++;
  else p = check_digits(p, end);
  if (p != NULL && p < end && *p == '.') p = check_digits(p + 1, end);
  if (p != NULL && p < end && (*p == 'e' || *p == 'E')) {
    p++;
    if (p < end && (*p == '+' || *p == '-')) p++;
    p = check_digits(p, end);
  }
  return p;
}

static const uint8_t *check_value(const uint8_t *p, const uint8_t *end, int depth, json *value);

/* The inside of an array or object, up to and with its closing bracket. */
static const uint8_t *check_items(const uint8_t *p, const uint8_t *end, int depth, bool named) {
  const uint8_t close = named ? '}' : ']';
  json ignored;
  p = skip_space(p, end);
  if (p < end && *p == close) return p + 1;
  for (;;) {
    if (named) {
      p = skip_space(p, end);
      p = p < end && *p == '"' ? check_string(p + 1, end) : NULL;
      p = p == NULL ? NULL : skip_space(p, end);
      if (p == NULL || p == end || *p++ != ':') return NULL;
    }
    p = check_value(p, end, depth, &ignored);
    p = p == NULL ? NULL : skip_space(p, end);
    if (p == NULL || p == end) return NULL;
    if (*p == close) return p + 1;
    if (*p++ != ',') return NULL;
  }
}

static const uint8_t *check_literal(const uint8_t *p, const uint8_t *end, const char *word) {
  size_t n = strlen(word);
  return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

/* One value with the space before it. The only recursion here, and `depth` ends it. */
static const uint8_t *check_value(const uint8_t *p, const uint8_t *end, int depth, json *value) {
  p = skip_space(p, end);
  if (p == end || depth < 0) return NULL;
  const uint8_t *start = p;
  switch (*p) {
  case '"': value->kind = JSON_STRING; p = check_string(p + 1, end); break;
  case '[': value->kind = JSON_ARRAY; p = check_items(p + 1, end, depth - 1, false); break;
  case '{': value->kind = JSON_OBJECT; p = check_items(p + 1, end, depth - 1, true); break;
  case 't': value->kind = JSON_BOOL; p = check_literal(p, end, "true"); break;
  case 'f': value->kind = JSON_BOOL; p = check_literal(p, end, "false"); break;
  case 'n': value->kind = JSON_NULL; p = check_literal(p, end, "null"); break;
  default: value->kind = JSON_NUMBER; p = check_number(p, end); break;
  }
  if (p == NULL) return NULL;
  const int delimiter = value->kind >= JSON_STRING;
  value->at = start + delimiter;
  value->end = p - delimiter;
  return p;
}

/* ---- Reading: of checked bytes, so what was right once is right again. ---- */

static json nothing(json_kind kind) { return (json){kind, NULL, NULL}; }

json json_read(ilk_bytes document) {
  json value = nothing(JSON_BAD);
  if (document.ptr == NULL || document.len == 0) return value;
  const uint8_t *end = document.ptr + document.len;
  const uint8_t *p = check_value(document.ptr, end, JSON_DEPTH_MAX, &value);
  return p != NULL && skip_space(p, end) == end ? value : nothing(JSON_BAD);
}

json json_word(const char *word) {
  const uint8_t *at = (const uint8_t *)word;
  return (json){JSON_STRING, at, at + strlen(word)};
}

/* Takes the next value off a span, and what stands behind it: a comma, a colon, or nothing. */
static bool take(json *span, json *value) {
  const uint8_t *p = check_value(span->at, span->end, JSON_DEPTH_MAX, value);
  if (p == NULL) return false;
  p = skip_space(p, span->end);
  span->at = p < span->end ? p + 1 : p;
  return true;
}

bool json_next(json *array, json *item) {
  return array->kind == JSON_ARRAY && take(array, item);
}

json json_get(json object, const char *name) {
  json found = nothing(JSON_ABSENT), key, value;
  if (object.kind != JSON_OBJECT) return nothing(JSON_BAD);
  while (take(&object, &key) && take(&object, &value)) {
    if (!json_is(key, name)) continue;
    if (found.kind != JSON_ABSENT) return nothing(JSON_BAD);
    found = value;
  }
  return found;
}

json json_need(json object, const char *name, json_kind kind, bool *ok) {
  json value = json_get(object, name);
  if (value.kind != kind) *ok = false;
  return value;
}

json json_may(json object, const char *name, json_kind kind, bool *ok) {
  json value = json_get(object, name);
  if (value.kind == JSON_ABSENT || value.kind == JSON_NULL) return json_none;
  if (value.kind != kind) *ok = false;
  return value;
}

/* A character's number as one to four bytes. */
static size_t utf8(uint32_t code, uint8_t bytes[4]) {
  static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
  const size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = n - 1; i > 0; i--, code >>= 6) bytes[i] = (uint8_t)(0x80 | (code & 0x3F));
  bytes[0] = (uint8_t)(lead[n] | code);
  return n;
}

/* Takes one character off a string, as UTF-8; 0 at its end. */
static size_t decode(json *string, uint8_t bytes[4]) {
  static const char names[] = "bfnrt", meanings[] = "\b\f\n\r\t";
  if (string->at == string->end) return 0;
  uint8_t c = *string->at;
  if (c != '\\') {
    const size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    memcpy(bytes, string->at, n);
    string->at += n;
    return n;
  }
  c = string->at[1];
  string->at += 2;
  if (c != 'u') {
    const char *name = strchr(names, c);
    bytes[0] = name == NULL ? c : (uint8_t)meanings[name - names];
    return 1;
  }
  int32_t code = hex4(string->at, string->end);
  string->at += 4;
  if (is_high(code)) {
    code = 0x10000 + ((code - 0xD800) << 10) + (hex4(string->at + 2, string->end) - 0xDC00);
    string->at += 6;
  }
  return utf8((uint32_t)code, bytes);
}

bool json_same(json a, json b) {
  uint8_t x[4], y[4];
  if (a.kind != JSON_STRING || b.kind != JSON_STRING) return false;
  for (;;) {
    const size_t n = decode(&a, x);
    if (decode(&b, y) != n || memcmp(x, y, n) != 0) return false;
    if (n == 0) return true;
  }
}

bool json_is(json string, const char *word) { return json_same(string, json_word(word)); }

bool json_copy(json string, char *text, size_t size, size_t *length) {
  uint8_t bytes[4];
  *length = 0;
  if (string.kind != JSON_STRING) return false;
  for (size_t n; (n = decode(&string, bytes)) > 0; *length += n) {
    if (size - *length <= n) return false;
    memcpy(text + *length, bytes, n);
  }
  text[*length] = 0;
  return true;
}

/* Whole and within 64 bits, or not at all: an amount that was rounded is another amount. */
static bool integer(const uint8_t *p, const uint8_t *end, int64_t *value) {
  const bool negative = p < end && *p == '-';
  const uint64_t most = (uint64_t)INT64_MAX + negative;
  uint64_t sum = 0;
  if (negative) p++;
  if (p == end) return false;
  for (; p < end; p++) {
    if (!is_digit(*p)) return false;
    const uint64_t digit = *p - '0';
    if (sum > (most - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  *value = negative && sum > 0 ? -(int64_t)(sum - 1) - 1 : (int64_t)sum;
  return true;
}

bool json_int(json number, int64_t *value) {
  return number.kind == JSON_NUMBER && integer(number.at, number.end, value);
}

bool json_digits(json string, int64_t *value) {
  char text[32];
  size_t n;
  if (!json_copy(string, text, sizeof text, &n)) return false;
  return integer((const uint8_t *)text, (const uint8_t *)text + n, value);
}

/* ---- Writing ---- */

static void flush(json_writer *w) {
  if (w->rc == ILK_OK && w->used > 0) w->rc = w->out->put(w->out->ctx, w->part, w->buffer, w->used);
  w->used = 0;
}

static void byte(json_writer *w, uint8_t c) {
  if (w->used == sizeof w->buffer) flush(w);
  w->last = w->buffer[w->used++] = c;
}

void json_raw(json_writer *w, const char *text) {
  while (*text != 0) byte(w, (uint8_t)*text++);
}

static void escaped(json_writer *w, uint8_t c) {
  static const char hex[] = "0123456789abcdef", names[] = "\"\\bfnrt", codes[] = "\"\\\b\f\n\r\t";
  const char *code = c == 0 ? NULL : strchr(codes, c);
  if (code != NULL) {
    byte(w, '\\');
    byte(w, (uint8_t)names[code - codes]);
  } else if (c < 0x20) {
    json_raw(w, "\\u00");
    byte(w, (uint8_t)hex[c >> 4]);
    byte(w, (uint8_t)hex[c & 15]);
  } else {
    byte(w, c);
  }
}

void json_string(json_writer *w, json string) {
  uint8_t bytes[4];
  byte(w, '"');
  for (size_t n; (n = decode(&string, bytes)) > 0;) {
    for (size_t i = 0; i < n; i++) escaped(w, bytes[i]);
  }
  byte(w, '"');
}

void json_name(json_writer *w, const char *name) {
  if (w->last != '{') byte(w, ',');
  json_string(w, json_word(name));
  byte(w, ':');
}

void json_member(json_writer *w, const char *name, json string) {
  if (string.kind == JSON_ABSENT) return;
  json_name(w, name);
  json_string(w, string);
}

int32_t json_end(json_writer *w) {
  flush(w);
  return w->rc;
}
