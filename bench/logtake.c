/* logtake.c - takes what programs send to syslog, and drops it: so that a server under measurement logs as it always does, and no
 * log daemon's work is added to it.
 *
 *   logtake SOCKET        binds the datagram socket; until SIGTERM
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_ 8192
#define ROOM (4 << 20) /* of the socket: bursts wait here and block nobody */

int main(int argc, char **argv)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	static char line[LINE_MAX_];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = ROOM;

	if (argc != 2 || strlen(argv[1]) >= sizeof a.sun_path) {
		fprintf(stderr, "usage: logtake SOCKET (shorter than %zu)\n", sizeof a.sun_path);
		return 2;
	}
	memcpy(a.sun_path, argv[1], strlen(argv[1]));
	unlink(argv[1]);
	if (fd == -1 || bind(fd, (struct sockaddr *)&a, sizeof a) == -1) {
		perror("logtake");
		return 1;
	}
	chmod(argv[1], 0666);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	while (recv(fd, line, sizeof line, 0) >= 0 || errno == EINTR)
		;
	return 1;
}
