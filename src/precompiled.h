// SPDX-License-Identifier: Apache-2.0
// What many sources of the layers include, compiled once in builds with sanitizers.
#pragma once

#include <skep/abi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>
