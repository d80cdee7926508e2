/* SPDX-License-Identifier: Apache-2.0 */
#include "parse.h"

uint32_t fp_flow_hash(const struct fp_packet *packet)
{
    return packet->rss ? packet->rss : 1;
}
