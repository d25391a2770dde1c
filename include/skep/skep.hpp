// SPDX-License-Identifier: Apache-2.0
#pragma once

/// All of skep's C++ face.
#include <skep/array.hpp>
#include <skep/bloom_filter.hpp>
#include <skep/error.hpp>
#include <skep/hash_map.hpp>
#include <skep/instance.hpp>
#include <skep/lpm_trie.hpp>
#include <skep/owner.hpp>
#include <skep/percpu_array.hpp>
#include <skep/percpu_hash_map.hpp>
#include <skep/queue.hpp>
#include <skep/ring_buffer.hpp>
#include <skep/storage.hpp>
