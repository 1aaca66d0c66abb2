/* queue_show.h - the items of queue/control.h as lines for people; private to cmd/. */
#ifndef CMD_QUEUE_SHOW_H
#define CMD_QUEUE_SHOW_H
#include <jansson.h>
#include <stdint.h>

struct queue_show {
	unsigned width; /* of the terminal; 0: no limit */
	int64_t now;
	uint64_t n;     /* items so far */
};

/* Functions for control_client_ask; arg is a struct queue_show. */
int queue_show_list(void *arg, json_t *item);
int queue_show_message(void *arg, json_t *item);
int queue_show_why(void *arg, json_t *item);
int queue_show_json(void *arg, json_t *item); /* one object a line */

/* Members of an object: never NULL, 0 when missing. */
const char *json_text(const json_t *, const char *key);
int64_t json_number(const json_t *, const char *key);

#endif
