/* SPDX-License-Identifier: Apache-2.0
 *
 * Wire formats as tables: a template is a list of fields, a field names where its value comes from.
 */
#ifndef FP_FIELDS_H
#define FP_FIELDS_H

#include "record.h"

struct fp_stream;

enum fp_value {
    V_ZERO,
    /* of a record */
    V_SOURCE4,
    V_DESTINATION4,
    V_SOURCE6,
    V_DESTINATION6,
    V_SOURCE_PORT,
    V_DESTINATION_PORT, /* ICMP: type and code */
    V_PROTOCOL,
    V_TOS,
    V_INTERFACE,
    V_PACKETS,
    V_OCTETS,
    V_FIRST_UPTIME, /* milliseconds since boot, modulo 2^32 */
    V_LAST_UPTIME,
    V_FIRST_MS, /* milliseconds since the UNIX epoch */
    V_LAST_MS,
    V_FIRST_NTP, /* RFC 7011 section 6.1.10 */
    V_LAST_NTP,
    V_FLAGS,
    V_REASON,
    V_TTL,
    V_VLAN,
    V_INNER_VLAN,
    V_LABEL,
    V_VERSION,
    /* of the stream, for options records */
    V_DOMAIN,
    V_ONE,
    V_INTERVAL,
    V_SPACE,
    V_V9_ALGORITHM, /* 1 deterministic, 2 random */
    V_SELECTOR,     /* RFC 5477: 1 systematic count-based, 4 uniform probabilistic */
    V_PROBABILITY,  /* binary64 */
    V_INTERFACE_OPTION,
    V_NAME,
    V_OCTETS_EXPORTED,
    V_MESSAGES_EXPORTED,
    V_FLOWS_EXPORTED,
    V_PACKETS_IGNORED,
    V_FLOWS_NOT_SENT,
    V_PACKETS_NOT_SENT,
};

#define FP_VARIABLE    65535u
#define FP_NAME_LENGTH 32u

struct fp_field {
    uint16_t id;     /* Information Element, v9 field type or scope type */
    uint16_t length; /* octets; FP_VARIABLE for V_NAME */
    uint16_t value;  /* enum fp_value */
};

struct fp_template {
    const struct fp_field *fields;
    /* Writes a Flow Record and returns the octet behind it (writer.h); NULL in an options template. */
    uint8_t *(*put)(uint8_t *, const struct fp_stream *, const struct fp_record *);
    uint16_t id; /* >= 256 */
    uint16_t count;
    uint16_t scopes; /* > 0: an options template */
};

#define FP_FIELDS(array) .fields = (array), .count = sizeof(array) / sizeof *(array)

/* Octets that a record of these fields takes for this stream. */
size_t fp_fields_size(const struct fp_stream *, const struct fp_field *, unsigned count);
/* Writes one options record. Returns the octet behind it. */
uint8_t *fp_fields_put(uint8_t *, const struct fp_stream *, const struct fp_field *, unsigned count);

#endif
