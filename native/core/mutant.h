/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeded faults, each at the point FP_MUTANT(n, right, wrong) that conformance/mutants/native.toml describes. A build with
 * FLOWPARITY_MUTANT=n has exactly the fault n; one with FLOWPARITY_MUTANT=runtime takes n from the environment variable of that name when
 * it is loaded (and as the symbol fp_mutant_id afterwards); an ordinary build has none and pays nothing.
 */
#ifndef FP_MUTANT_H
#define FP_MUTANT_H

#ifdef FP_MUTANT_RUNTIME
extern unsigned fp_mutant_id;
#define FP_MUTANT(n, good, bad) (fp_mutant_id == (n) ? (bad) : (good))
#else
#ifndef FP_MUTANT_ID
#define FP_MUTANT_ID 0
#endif
#define FP_MUTANT(n, good, bad) (FP_MUTANT_ID == (n) ? (bad) : (good))
#endif

#endif
