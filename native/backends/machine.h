/* SPDX-License-Identifier: Apache-2.0
 *
 * What machine this is, for the tier of results. Static functions only, so that each plug-in stays one object without unresolved symbols.
 */
#ifndef FLOWPARITY_MACHINE_H
#define FLOWPARITY_MACHINE_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "flowparity/backend.h"

/* Whether a hypervisor says that it is there: the processor flag that every x86 hypervisor sets, QEMU without KVM too, or the kernel's own
 * finding (Xen, s390, POWER). Containers are no virtual machines. */
static inline bool machine_is_virtual(void)
{
    char line[8192];
    bool found = access("/sys/hypervisor/type", F_OK) == 0;
    FILE *file = fopen("/proc/cpuinfo", "r");

    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = strncmp(line, "flags", 5) == 0 && strstr(line, " hypervisor") != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

/* The tier of a real framework here: in a virtual machine its NICs, rings and interrupts are emulated or passed through by another system,
 * and no result or rate of it is one of hardware. */
static inline uint8_t machine_tier(uint8_t real)
{
    return machine_is_virtual() ? FP_TIER_EMULATED : real;
}

#endif
