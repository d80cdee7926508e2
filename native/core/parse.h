/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FP_PARSE_H
#define FP_PARSE_H

#include "flowparity/core.h"

uint32_t fp_flow_hash(const struct fp_packet *);

#endif
