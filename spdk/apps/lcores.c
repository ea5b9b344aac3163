/*
 * Options for DPDK that SPDK's applications do not accept on their command line in every supported
 * version. Linked with -Wl,--wrap=rte_eal_init, this function receives SPDK's call and edits its
 * arguments. If the environment variables are not set, it changes nothing.
 *
 *   DST_LCORES   DPDK's --lcores value, in place of the core mask: "(0,1,2)@(0,1)" puts three lcores
 *                on two CPUs, so that bdevio, which needs three, runs on a machine with two CPUs. The
 *                lcores must be those of the application's own -m.
 *   DST_NO_HUGE  "1": use ordinary pages with an SPDK that has no --no-huge, such as 20.07.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int __real_rte_eal_init(int argc, char **argv);
int __wrap_rte_eal_init(int argc, char **argv);

static bool
starts_with(const char *arg, const char *prefix)
{
	return strncmp(arg, prefix, strlen(prefix)) == 0;
}

/* SPDK passes "-c 0x3", "-l 0,1" or "--lcores=..." as one argument, depending on its version. */
static bool
chooses_cores(const char *arg)
{
	return starts_with(arg, "-c ") || starts_with(arg, "-l ") || starts_with(arg, "--lcores=");
}

/* DPDK refuses these together with --no-huge. */
static bool
needs_hugepages(const char *arg)
{
	return starts_with(arg, "--match-allocations") || starts_with(arg, "--single-file-segments") ||
	       starts_with(arg, "--huge-unlink") || starts_with(arg, "--huge-dir") ||
	       strcmp(arg, "--iova-mode=pa") == 0 || strcmp(arg, "--no-huge") == 0;
}

int
__wrap_rte_eal_init(int argc, char **argv)
{
	static char lcores_arg[256];
	static char no_huge_arg[] = "--no-huge";
	const char *lcores = getenv("DST_LCORES");
	const char *no_huge = getenv("DST_NO_HUGE");
	bool set_lcores = lcores != NULL && lcores[0] != '\0';
	bool set_no_huge = no_huge != NULL && strcmp(no_huge, "1") == 0;
	char **edited;
	int count = 0;
	int i;

	if (!set_lcores && !set_no_huge) {
		return __real_rte_eal_init(argc, argv);
	}

	if (set_lcores &&
	    snprintf(lcores_arg, sizeof(lcores_arg), "--lcores=%s", lcores) >= (int)sizeof(lcores_arg)) {
		fprintf(stderr, "DST_LCORES is longer than %zu characters; use a shorter value\n",
			sizeof(lcores_arg) - sizeof("--lcores="));
		return -1;
	}

	/* Room for two more arguments and the terminating NULL. Never freed: DPDK keeps pointers into it. */
	edited = calloc((size_t)argc + 3, sizeof(*edited));
	if (edited == NULL) {
		return -1;
	}
	for (i = 0; i < argc; i++) {
		if ((set_lcores && chooses_cores(argv[i])) || (set_no_huge && needs_hugepages(argv[i]))) {
			continue;
		}
		edited[count++] = argv[i];
	}
	if (set_lcores) {
		edited[count++] = lcores_arg;
	}
	if (set_no_huge) {
		edited[count++] = no_huge_arg;
	}

	return __real_rte_eal_init(count, edited);
}
