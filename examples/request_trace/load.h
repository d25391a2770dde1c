// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>

#include <cstdint>

/// Opens `clients` connections to the server at once, each in a thread of its own, and sends `requests` on each.
/// Returns how many were answered rightly, when all connections are closed.
uint64_t send_load(const sockaddr_in& server, unsigned clients, unsigned requests);
