/* machine.h - a protocol machine in words, so that one printer serves the server's table and the client's.
 *
 * An adapter (machine_server.c, machine_client.c) fills a struct machine from its compiled table; machine.c prints it
 * as Markdown or as a graph.  Everything lives until the program ends.
 */
#ifndef GEN_MACHINE_H
#define GEN_MACHINE_H
#include <stddef.h>
#include <stdint.h>

struct machine_phase {
	const char *name, *note, *clock;
};

struct machine_row {
	uint64_t phases; /* bits over the index in machine.phases */
	const char *event, *guards, *reply, *does, *next, *ends, *rfc, *note;
};

struct machine_word { /* a line of a glossary: facts, events, actions, lifetimes, replies, capabilities */
	const char *name, *kind, *note;
};

struct machine_list {
	const char *title, *kind_title, *note_title;
	const struct machine_word *words;
	size_t count;
};

struct machine {
	const char *name, *lead;
	struct machine_phase phases[32];
	size_t phase_count;
	struct machine_row *rows;
	size_t row_count;
	struct machine_list lists[8];
	size_t list_count;
};

/* Printed text that lives on; ends the program when memory is out. */
const char *machine_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *machine_take(size_t count, size_t size);
/* "TLS & !QUIET": the facts named in want and lack; names[i] is the name of bit i. */
const char *machine_guards(uint64_t want, uint64_t lack, const char *(*name)(unsigned bit));

const struct machine *machine_server(void);
const struct machine *machine_client(void);

#endif
