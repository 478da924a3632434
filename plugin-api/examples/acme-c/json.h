/* A small JSON reader and writer for plugins.
 *
 * Reading: `json_read` checks the whole document once: grammar, UTF-8, depth. A document that is
 * wrong in one place is refused as a whole. Values are then spans of it: nothing is copied or
 * allocated, and a value lives as long as the bytes that it was read from.
 *
 * Writing: `json_writer` appends to one part of a step's output. The host bounds a part; the
 * writer remembers the first error and writes no more, so it is enough to ask at the end. */
#ifndef JSON_H
#define JSON_H
#include "interlock_plugin.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Arrays and objects within each other; as deep as the host's own reader goes. */
enum { JSON_DEPTH_MAX = 127 };

typedef enum json_kind {
  JSON_ABSENT, /* an object has no such member; also a value that was never set */
  JSON_BAD,    /* no JSON, no object, or the member is there twice */
  JSON_NULL,
  JSON_BOOL,
  JSON_NUMBER,
  JSON_STRING, /* from here on a value has delimiters */
  JSON_ARRAY,
  JSON_OBJECT
} json_kind;

/* A value: its bytes; of a string, an array and an object those between the delimiters. */
typedef struct json {
  json_kind kind;
  const uint8_t *at, *end;
} json;

static const json json_none = {JSON_ABSENT, NULL, NULL};

/* Reads a document; JSON_BAD if it is none. */
json json_read(ilk_bytes document);

/* A plain word as a string value. It must hold no quote, backslash or control character. */
json json_word(const char *word);

/* A member of an object. One that is there twice is bad: two readers could believe two values. */
json json_get(json object, const char *name);

/* A member of this kind; anything else makes `ok` false. So many members can be read, and `ok` be
 * asked once in the end. The second may be absent or null, and is then absent. */
json json_need(json object, const char *name, json_kind kind, bool *ok);
json json_may(json object, const char *name, json_kind kind, bool *ok);

/* Takes the next item off an array; false at its end, and of what is no array. */
bool json_next(json *array, json *item);

/* Whether two strings are the same text, however each of them is escaped. */
bool json_same(json a, json b);
bool json_is(json string, const char *word);

/* Copies a string's text and a zero byte; false if it is no string or does not fit. */
bool json_copy(json string, char *text, size_t size, size_t *length);

/* An integer, exactly or not at all: of a number, and of a string of at most 31 digits. */
bool json_int(json number, int64_t *value);
bool json_digits(json string, int64_t *value);

typedef struct json_writer {
  const ilk_out *out;
  uint32_t part;
  int32_t rc;   /* the first error of `put` */
  uint8_t last; /* the byte before the next one: tells whether a comma is due */
  size_t used;
  uint8_t buffer[256];
} json_writer;

/* Bytes as they are. */
void json_raw(json_writer *w, const char *text);

/* A string with its quotes, escaped anew. */
void json_string(json_writer *w, json string);

/* `"name":` with a comma before it where one is due. */
void json_name(json_writer *w, const char *name);

/* A member that is a string; nothing if `string` is absent. */
void json_member(json_writer *w, const char *name, json string);

/* Gives what is left to the host. The first error, or ILK_OK. */
int32_t json_end(json_writer *w);

#endif
