// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <skep/skep.hpp>

#include <filesystem>
#include <optional>
#include <string>

namespace skep::testing {

/// A fresh instance on a tmpfs, removed afterwards.
class InstanceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    auto opened = Instance::open(directory_);
    ASSERT_TRUE(opened) << opened.error().message;
    instance_.emplace(std::move(*opened));
  }
  void TearDown() override {
    instance_.reset();
    std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] const Instance& instance() const { return *instance_; }

  std::string directory_ = "/dev/shm/skep-test-XXXXXX";
  std::optional<Instance> instance_;
};

}  // namespace skep::testing
