/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds and loads backends. A plug-in is loaded with dlopen the first time it is asked for; its ops are copied into a struct of the core's
 * own size in which an absent optional op has its default (release and stop stay NULL).
 */
#ifndef FP_LOADER_H
#define FP_LOADER_H

#include "flowparity/backend.h"

enum fp_state { FP_BUILTIN, FP_BUILT, FP_NOT_BUILT };

struct fp_loaded {
    struct fp_backend_ops backend; /* name == NULL: it only transmits */
    struct fp_injector_ops injector;
};

extern const struct fp_host fp_host;
/* Of a run whose frames carry the replay trailer. */
extern const struct fp_host fp_replay_host;

/* The probe and the opens of a plug-in. It assigns its caps as a struct of its own size: there is room for a longer one, of which the core
 * takes what it knows, and what a shorter one lacks is 0. A source that opened another number of queues than was asked for is an error. */
int fp_source_probe(const struct fp_loaded *, struct fp_caps *, char *err);
int fp_source_open(const struct fp_loaded *, const struct fp_host *, const struct fp_open_args *, struct fp_source **, struct fp_caps *,
                   char *err);
int fp_injector_open(const struct fp_loaded *, const struct fp_host *, const struct fp_open_args *, struct fp_injector **,
                     struct fp_injector_caps *, char *err);

/* The plug-in `name`, or NULL with one line in `err` and errno set: ENOENT unknown, ENOPKG not built here, ELIBACC cannot be loaded. */
const struct fp_loaded *fp_load(const char *name, char *err);

#endif
