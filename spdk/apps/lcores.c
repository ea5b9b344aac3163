/*
 * What SPDK's applications cannot be told on their command line in every version that DST supports, told to
 * DPDK directly: linked with -Wl,--wrap=rte_eal_init, this function gets SPDK's call and edits the
 * arguments. Without the environment variables it changes nothing.
 *
 *   DST_LCORES   DPDK's --lcores value, in place of the core mask: "(0,1,2)@(0,1)" puts three lcores on two
 *                CPUs, so that bdevio, which wants three, runs on a two-core machine. The lcores named must
 *                be those of the application's own -m.
 *   DST_NO_HUGE  "1": run on ordinary pages. SPDK 20.07 has no --no-huge for this; newer ones do.
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

/* SPDK says "-c 0x3", "-l 0,1" or "--lcores=..." as one argument, according to its version. */
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
		fprintf(stderr, "DST_LCORES is longer than %zu characters; write it shorter\n",
			sizeof(lcores_arg) - sizeof("--lcores="));
		return -1;
	}

	/* Two more than there were, and the terminating NULL. Never freed: DPDK keeps pointers into it. */
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
