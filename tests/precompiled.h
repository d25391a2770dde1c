// SPDX-License-Identifier: Apache-2.0
// What nearly every test includes, compiled once for all of them. A test includes what it uses all the same.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>
#include "precompiled.h"
