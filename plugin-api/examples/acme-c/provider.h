/* What the files of this plugin share: one step, and what it may say. */
#ifndef ACME_H
#define ACME_H
#include "json.h"

/* One account: what `[accounts.NAME.config]` holds. Secrets are not here, a plugin never sees
 * them. */
typedef struct account {
  const ilk_host *host;
  json merchant; /* in `text`: what the host lends is gone after the call */
  uint8_t text[];
} account;

typedef struct money {
  int64_t amount; /* minor units, as the envelope and Acme count them */
  char currency[4];
} money;

typedef enum event_kind { START, RESPONSE, TRANSPORT, NOTIFICATION } event_kind;

/* One step: what is asked, what happened, and where the effect goes. */
typedef struct step {
  const account *account;
  const ilk_out *out;
  ilk_bytes body; /* of the answer or the notification */
  bool sent;      /* the continuation: a request of this operation is under way */
  json op;
  int64_t now_ms;
  /* The request. */
  json op_id;
  money amount;
  bool automatic;
  json credential;
  json original, original_id, provider_ref;
  json target; /* of an inquiry about an operation: which kind */
  /* The event. */
  event_kind event;
  int64_t status;
  json reason;           /* why no answer came */
  json stamp, signature; /* the headers of a notification */
} step;

/* One thing that Acme said about the money. What is absent is not written. */
typedef struct fact {
  json what, op_id, provider_ref, operation_ref, class, code, advice;
  int64_t status; /* if not 0, the code is `http_STATUS` */
  money amount;   /* none if it is 0 */
} fact;

/* A payment, or a capture, cancel or refund, as Acme writes it. */
typedef struct record {
  json id, state, reference, code;
  money amount; /* 0 if there is none, or none that makes sense */
} record;

/* provider.c. Errors are logged, so they are fixed texts: never repeat what came in. */
int32_t fail(const ilk_out *out, int32_t code, const char *text);

/* answers.c */
bool read_currency(json text, char currency[4]);
bool read_record(json object, bool payment, record *r);
fact of_payment(const record *r);
fact of_change(const record *r, json op); /* op: "capture", "void" or "refund" */
fact hear_payment(const step *s);
fact hear_change(const step *s);
fact hear_found(const step *s);
fact hear_operation(const step *s);
fact hear_health(const step *s);
fact unknown(json code);
void write_fact(json_writer *w, const fact *f);

/* notification.c */
int32_t read_notification(const step *s);

#endif
