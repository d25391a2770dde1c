/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what the maps hold; the same maps always give the same text. */
#ifndef REPORT_H
#define REPORT_H

#include "flows.h"

#include "flows.skel.h"

/* Writes totals, protocols, sizes and the `top` largest flows to stdout. Returns 0, or -errno after a message. */
int report(const struct flows* skeleton, unsigned int top);

#endif
