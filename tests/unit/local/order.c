/* order.c - a mailbox has its message for good before anybody is told: the file is synced before it gets its name, the folder
 * after, and folders that were made are in theirs. */
#include "local/maildir.h"
#include "../unsynced.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <ftw.h>

static char root[64];
static unsigned renames;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static int make_root(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/test_local_XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void renamed_too_early(const char *from, const char *to)
{
	(void)to;
	renames++;
	if (unsynced_any(from))
		fail_msg("%s gets its name in new/ before it is synced", from);
}

static int deliver(const struct env *env, const char *box)
{
	const char body[] = "Subject: x\r\n\r\nhello\r\n";
	const struct maildir_source source = { .memory = view_of(body, sizeof body - 1), .fd = -1, .size = sizeof body - 1 };
	char path[128];
	struct error e = { 0 };

	snprintf(path, sizeof path, "%s/%s", root, box);
	struct maildir_job job = { .path = path, .header = VIEW("Return-Path: <>\n"), .source = &source, .host = "mx" };
	return local_maildir_deliver(env, &job, &e);
}

static void delivered_is_synced(void **state)
{
	struct env env = unsynced_env();

	(void)state;
	unsynced.before_rename = renamed_too_early;
	renames = 0;
	assert_int_equal(deliver(&env, "box"), 0);
	if (unsynced_any("/box"))
		fail_msg("it is delivered while %s is not synced", unsynced_any("/box"));
	assert_int_equal(deliver(&env, "box"), 0); /* a mailbox that is there already */
	if (unsynced_any("/box"))
		fail_msg("it is delivered while %s is not synced", unsynced_any("/box"));
	assert_int_equal(renames, 2);
}

static void made_folders_are_synced(void **state)
{
	struct env env = unsynced_env();

	(void)state;
	assert_int_equal(deliver(&env, "user/Maildir"), 0);
	if (unsynced_any(root))
		fail_msg("it is delivered while %s is not synced", unsynced_any(root));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(delivered_is_synced), cmocka_unit_test(made_folders_are_synced) };

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
