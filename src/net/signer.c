/* signer.c - see signer.h.
 *
 * The descriptor is watched all the time: an answer that is waited for on the spot is read before the loop looks, and the end of `keys` is
 * seen when it happens and not by the next client.
 */
#include "net/signer.h"

static void on_ready(void *arg, unsigned io)
{
	struct signer *s = arg;

	(void)io;
	if (!sign_client_take(&s->client))
		signer_set_fd(s, -1);
}

void signer_init(struct signer *s, struct loop *loop, uint32_t ask, uint32_t answer)
{
	s->loop = loop;
	s->watched = false;
	sign_client_init(&s->client, ask, answer);
}

void signer_set_fd(struct signer *s, int fd)
{
	if (s->watched)
		loop_watch_stop(&s->watch); /* before the descriptor is closed */
	s->watched = false;
	sign_client_set_fd(&s->client, fd);
	if (fd == -1)
		return;
	s->watched = loop_watch_start(&s->watch, s->loop, fd, LOOP_READ, on_ready, s) == 0;
	if (!s->watched)
		sign_client_set_fd(&s->client, -1);
}

bool signer_is_open(const struct signer *s)
{
	return sign_client_is_open(&s->client);
}

void signer_free(struct signer *s)
{
	if (!s->loop)
		return;
	signer_set_fd(s, -1);
	sign_client_free(&s->client);
}
