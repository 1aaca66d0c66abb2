/* confined.c - loop, connections and TLS go on working when no file can be opened, nothing executed, no socket made.
 *
 * A child warms up, confines itself with death as the answer, and serves a handshake and a text on a loop made afterwards, as a
 * thread of `receive` would.
 */
#include "world.h"

#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static bool confine(void)
{
	static const int never[] = { SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(creat), SCMP_SYS(execve), SCMP_SYS(execveat),
				     SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(fork), SCMP_SYS(vfork) };
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	bool ok = f != NULL;
	size_t i;

	for (i = 0; ok && i < sizeof never / sizeof *never; i++)
		ok = seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, never[i], 0) == 0;
	ok = ok && seccomp_load(f) == 0;
	seccomp_release(f);
	return ok;
}

static int child(bool stray)
{
	struct end s, c;
	struct error e;
	int fd, own = pair(SOCK_STREAM, &fd);

	if (tls_warm_up(&e) == -1 || !confine())
		return 2;
	if (stray)
		open("/dev/null", O_RDONLY);
	loop = loop_new(&env_real);
	if (!loop)
		return 3;
	init(&s, own);
	init(&c, fd);
	conn_start_tls(&s.conn, tls_server, true, NULL);
	conn_start_tls(&c.conn, tls_client, false, &to_mx);
	turns(8);
	s.echo = true;
	say(&c, VIEW("hello"));
	turns(4);
	return buf_len(&c.got[2]) == 5 && c.tls_up == 1 ? 0 : 4;
}

static int run(bool stray)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(stray));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void it_serves_confined(void **state)
{
	int status = run(true);

	(void)state;
	assert_true(WIFSIGNALED(status)); /* the confinement is one */
	status = run(false);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_serves_confined),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
