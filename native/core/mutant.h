/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeded faults. A build with FLOWPARITY_MUTANT=n has exactly the fault n of conformance/mutants/native.toml; an ordinary build has none
 * and pays nothing.
 */
#ifndef FP_MUTANT_H
#define FP_MUTANT_H

#ifndef FP_MUTANT_ID
#define FP_MUTANT_ID 0
#endif

#define FP_MUTANT(n, good, bad) (FP_MUTANT_ID == (n) ? (bad) : (good))

#endif
