/* SPDX-License-Identifier: Apache-2.0
 *
 * Which fault a build for mutants has; nothing in any other build.
 */
#include "mutant.h"

#ifdef FP_MUTANT_RUNTIME
#include <stdlib.h>

__attribute__((visibility("default"))) unsigned fp_mutant_id;

__attribute__((constructor)) static void choose(void)
{
    const char *id = getenv("FLOWPARITY_MUTANT");

    fp_mutant_id = id ? (unsigned)strtoul(id, NULL, 10) : 0;
}
#else
typedef int fp_no_mutant; /* ISO C wants a declaration */
#endif
